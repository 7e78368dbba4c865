use super::*;

use crate::network::{GatewayMode, Subnet};

fn network() -> BridgeNetwork {
    BridgeNetwork {
        id: "1".into(),
        name: "bridge".into(),
        bridge: "corten-1a2b3c4d".into(),
        own_bridge: true,
        subnets: vec![Subnet {
            net: "172.30.0.0/16".parse().unwrap(),
            range: None,
            bridge_ip: "172.30.0.1".parse().ok(),
            gateway: "172.30.0.1".parse().ok(),
            reserved: Vec::new(),
        }],
        mtu: 1500,
        link_mtu: 65_535,
        internal: false,
        inter_container: true,
        masquerade: true,
        host_ip: [0, 0, 0, 0].into(),
        interface_prefix: "eth".into(),
        ipv4_mode: GatewayMode::Nat,
        ipv6_mode: GatewayMode::Nat,
    }
}

fn workshop() -> Workshop {
    let home = netns::current().unwrap();
    Workshop::new(Settings::new("1a2b3c4d".parse().unwrap()), home, NAMES - 1)
}

fn endpoint(workshop: &Workshop, names: &[&str]) -> Endpoint {
    let request = EndpointRequest { ipv4: "172.30.0.2".parse().ok(), ..EndpointRequest::default() };
    workshop.endpoint(&network(), &request, names)
}

#[test]
fn names_fit_and_wrap_around() {
    let workshop = workshop();
    let last = endpoint(&workshop, &[]).host_interface;
    assert_eq!((last.as_str(), last.len()), ("v1a2b3c4d-zzzzz", 15));
    assert_eq!(endpoint(&workshop, &[]).host_interface, "v1a2b3c4d-0");
    assert_eq!(name_number("v1a2b3c4d-", "v1a2b3c4d-zzzzz"), Some(NAMES - 1));
    for foreign in ["eth0", "v1a2b3c4d-", "v1a2b3c4d-!", "v1a2b3c4d-000000"] {
        assert_eq!(name_number("v1a2b3c4d-", foreign), None, "{foreign}");
    }
}

#[test]
fn an_endpoint_is_made_in_this_order() {
    let workshop = workshop();
    let network = network();
    let endpoint = endpoint(&workshop, &[]);
    let routes = default_routes(std::slice::from_ref(&endpoint), |_| Some(&network));
    let part = Part { network: &network, endpoint, announce: false, sysctls: &[], link_local: &[] };
    let plan = workshop.sandbox_plan(&[part], routes, true);
    let text: Vec<String> = plan.iter().map(|step| step.to_string()).collect();
    assert_eq!(
        text[0],
        "host: create veth v1a2b3c4d-zzzzz with eth0 in the container (MAC 02:42:ac:1e:00:02, MTU 65535)"
    );
    assert!(text[1].starts_with("host: attach v1a2b3c4d-zzzzz to bridge corten-1a2b3c4d"));
    assert_eq!(text[2], "container: set lo up");
    assert_eq!(
        text[text.len() - 6..],
        [
            "container: add address 172.30.0.2/16 to eth0",
            "container: set eth0 up",
            "container: set the default route to 172.30.0.1 by eth0 (MTU 1500)",
            "container: wait for the carrier of eth0",
            "host: wait for the carrier of v1a2b3c4d-zzzzz",
            "host: wait for the carrier of corten-1a2b3c4d",
        ]
    );
}

#[test]
fn interfaces_are_numbered_and_gaps_are_filled() {
    let workshop = workshop();
    let name = |names: &[&str]| endpoint(&workshop, names).interface;
    assert_eq!(name(&[]), "eth0");
    assert_eq!(name(&["eth0"]), "eth1");
    assert_eq!(name(&["eth1", "wan"]), "eth0");
    assert_eq!(name(&["eth0", "eth1", "eth2"]), "eth3");
}
