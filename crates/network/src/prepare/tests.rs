use super::*;

fn workshop() -> Workshop {
    let network = NatNetwork {
        bridge: "corten-1a2b3c4d".into(),
        address: "172.30.0.1/16".parse().unwrap(),
        subnet: "172.30.0.0/16".parse().unwrap(),
        gateway: Ipv4Addr::new(172, 30, 0, 1),
        mtu: 1500,
        link_mtu: 65_535,
    };
    let home = netns::current().unwrap();
    Workshop::new(Settings::new("1a2b3c4d".parse().unwrap()), network, home, NAMES - 1)
}

#[test]
fn names_fit_and_wrap_around() {
    let workshop = workshop();
    let ip = Ipv4Addr::new(172, 30, 0, 2);
    let last = workshop.interface(ip, None, false).host_interface;
    assert_eq!((last.as_str(), last.len()), ("v1a2b3c4d-zzzzz", 15));
    assert_eq!(workshop.interface(ip, None, false).host_interface, "v1a2b3c4d-0");
    assert_eq!(name_number("v1a2b3c4d-", "v1a2b3c4d-zzzzz"), Some(NAMES - 1));
    for foreign in ["eth0", "v1a2b3c4d-", "v1a2b3c4d-!", "v1a2b3c4d-000000"] {
        assert_eq!(name_number("v1a2b3c4d-", foreign), None, "{foreign}");
    }
}

#[test]
fn an_endpoint_is_made_in_this_order() {
    let workshop = workshop();
    let interface = workshop.interface(Ipv4Addr::new(172, 30, 0, 2), None, false);
    let text: Vec<String> = workshop.endpoint_plan(&interface).iter().map(|step| step.to_string()).collect();
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
