use super::*;
use crate::endpoint::Protocol;
use crate::network::Subnet;

fn network() -> BridgeNetwork {
    let subnet = |net: &str| Subnet {
        net: net.parse().unwrap(),
        range: None,
        bridge_ip: None,
        gateway: None,
        reserved: Vec::new(),
    };
    BridgeNetwork {
        id: "1".into(),
        name: "one".into(),
        bridge: "br".into(),
        own_bridge: true,
        subnets: vec![subnet("172.30.0.0/16"), subnet("fd00::/64")],
        mtu: 1500,
        link_mtu: 1500,
        internal: false,
        inter_container: true,
        masquerade: true,
        host_ip: Ipv4Addr::UNSPECIFIED.into(),
        interface_prefix: "eth".into(),
        ipv4_mode: GatewayMode::Nat,
        ipv6_mode: GatewayMode::Nat,
    }
}

fn port(host_ip: &str) -> PublishedPort {
    let host_ip = host_ip.parse().unwrap();
    PublishedPort { container_port: 80, protocol: Protocol::Tcp, host_ip, host_port: 8080 }
}

#[test]
fn an_element_names_its_map_key_and_container() {
    let container = "172.30.0.2".parse().unwrap();
    let everywhere = port_element(&port("0.0.0.0"), container).to_string();
    assert_eq!(everywhere, "ports 0x060000001f900000 : 0xac1e000200500000");
    let addressed = port_element(&port("127.0.0.1"), container).to_string();
    assert_eq!(addressed, "addressed-ports 0x7f000001060000001f900000 : 0xac1e000200500000");
    let six = port_element(&port("::"), "fd00::2".parse().unwrap()).to_string();
    assert_eq!(six, "ports6 0x060000001f900000 : 0xfd00000000000000000000000000000200500000");
}

#[test]
fn elements_go_to_their_own_set() {
    let mut elements = network_elements(&network());
    elements.push(port_element(&port("0.0.0.0"), "172.30.0.2".parse().unwrap()));
    let table = table("corten-1a2b3c4d", &elements);
    let filled: Vec<_> =
        table.sets.iter().filter(|set| !set.elements.is_empty()).map(|set| set.name).collect();
    assert_eq!(filled, ["bridges", "within", "subnets", "masqueraded", "ports", "subnets6", "masqueraded6"]);
    assert_eq!(table.sets.iter().map(|set| set.elements.len()).sum::<usize>(), elements.len());
}

#[test]
fn the_settings_show_in_the_sets() {
    let sets = |network: &BridgeNetwork| -> Vec<&str> {
        network_elements(network).iter().map(|element| element.set).collect()
    };
    let bare = BridgeNetwork { masquerade: false, ..network() };
    assert!(!sets(&bare).contains(&"masqueraded"));
    let apart = BridgeNetwork { inter_container: false, ..network() };
    assert!(sets(&apart).contains(&"apart"));
    let internal = BridgeNetwork { internal: true, ..network() };
    assert!(sets(&internal).contains(&"internal") && !sets(&internal).contains(&"masqueraded"));
}

#[test]
fn each_family_has_its_way_in() {
    let sets = |ipv4_mode, ipv6_mode| -> Vec<&str> {
        let network = BridgeNetwork { ipv4_mode, ipv6_mode, ..network() };
        network_elements(&network).iter().map(|element| element.set).collect()
    };
    let mixed = sets(GatewayMode::Routed, GatewayMode::NatUnprotected);
    assert_eq!(
        mixed,
        [
            "bridges",
            "within",
            "routed",
            "unprotected6",
            "subnets",
            "subnets",
            "subnets6",
            "subnets6",
            "masqueraded6",
            "masqueraded6"
        ]
    );
    let direct = PublishedPort { host_port: 0, ..port("0.0.0.0") };
    let element = port_element(&direct, "172.30.0.2".parse().unwrap()).to_string();
    assert_eq!(element, "open-ports 0xac1e00020600000000500000");
}

#[test]
fn a_range_ends_before_the_next_subnet() {
    let text = |net: &str| -> Vec<String> {
        range("subnets", net.parse().unwrap()).iter().map(ToString::to_string).collect()
    };
    assert_eq!(text("10.0.0.0/8"), ["subnets 0x0a000000", "subnets 0x0b000000 end"]);
    assert_eq!(text("255.0.0.0/8"), ["subnets 0xff000000"]);
}

#[test]
fn what_is_dropped_and_translated_is_a_fixed_list() {
    let text = table("corten-1a2b3c4d", &[]).to_string();
    assert_eq!(text.matches("[ masq ]").count(), 5);
    assert_eq!(text.matches("[ immediate drop ]").count(), 6);
    assert_eq!(text.matches("[ nat dnat ip ").count(), 2);
    assert_eq!(text.matches("[ nat dnat ip6 ").count(), 2);
}
