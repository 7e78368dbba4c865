use super::*;

fn settings() -> Settings {
    Settings::new("1a2b3c4d".parse().unwrap())
}

fn net<N: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> N {
    text.parse().unwrap()
}

fn routes(destinations: &[&str]) -> Survey {
    let route = |text: &&str| Route { destination: net(text), link_index: Some(2) };
    Survey { routes: destinations.iter().map(route).collect(), ..Survey::default() }
}

fn bridge(index: u32, kind: &str) -> Link {
    let name = "corten-1a2b3c4d".into();
    let alias = String::new();
    Link {
        index,
        name,
        alias,
        mac: None,
        mtu: 1500,
        kind: kind.into(),
        up: true,
        operational: true,
        master: None,
    }
}

#[test]
fn the_plan_of_a_fresh_host_reads_like_a_recipe() {
    let survey = Survey { uplink_mtu: Some(1450), ..routes(&["0.0.0.0/0", "192.0.2.0/24"]) };
    let network = decide(&settings(), &survey).unwrap();
    assert_eq!(network.mtu, 1450);
    let text: Vec<String> =
        plan(&settings(), &survey, &network).iter().map(|step| step.to_string()).collect();
    assert_eq!(
        text,
        [
            "host: create bridge corten-1a2b3c4d (MAC 02:42:ac:1e:00:01, MTU 65535)",
            "host: add address 172.30.0.1/16 to corten-1a2b3c4d",
            "host: set corten-1a2b3c4d up",
            "host: write \"1\" to /proc/sys/net/ipv4/conf/corten-1a2b3c4d/route_localnet",
            "host: write \"1\" to /proc/sys/net/ipv4/ip_forward",
        ]
    );
}

#[test]
fn a_standing_bridge_keeps_its_address_and_gets_none() {
    let mut survey = routes(&["172.29.0.0/16"]);
    survey.routes[0].link_index = Some(7);
    survey.bridge = Some(bridge(7, "bridge"));
    survey.bridge_addresses = vec![net("172.29.0.1/16")];
    let network = decide(&settings(), &survey).unwrap();
    assert_eq!(network.subnets[0].bridge_address(), Some(net("172.29.0.1/16")));
    assert_eq!(network.link_mtu, 1500);
    let steps = plan(&settings(), &survey, &network);
    assert!(steps.iter().all(|step| matches!(step.operation, Operation::WriteSysctl { .. })), "{steps:?}");
    let moved = Settings { bip: Some(net("10.5.0.1/16")), ..settings() };
    let network = decide(&moved, &survey).unwrap();
    let steps = plan(&moved, &survey, &network);
    assert_eq!(steps[0].to_string(), "host: delete address 172.29.0.1/16 of corten-1a2b3c4d");
    assert_eq!(steps[1].to_string(), "host: add address 10.5.0.1/16 to corten-1a2b3c4d");
}

#[test]
fn a_vpn_over_everything_does_not_use_up_all_subnets() {
    let survey = routes(&["0.0.0.0/1", "128.0.0.0/1", "172.16.0.0/12", "192.168.0.0/16"]);
    assert_eq!(decide(&settings(), &survey).unwrap().subnets[0].net, net("10.200.0.0/16"));
    let survey = routes(&["172.16.0.0/12", "192.168.0.0/16", "10.0.0.0/8"]);
    assert!(matches!(decide(&settings(), &survey), Err(Error::NoFreeSubnet)));
}

#[test]
fn nonsense_is_refused() {
    let decide = |settings: Settings| decide(&settings, &routes(&[]));
    let bip = Some(net("10.1.2.1/24"));
    let cidr = Settings { bip, fixed_cidr: Some(net("10.1.3.0/28")), ..settings() };
    assert!(matches!(decide(cidr), Err(Error::InvalidFixedCidr { .. })));
    let gateway = Settings { bip, gateway: Some("10.1.3.1".parse().unwrap()), ..settings() };
    assert!(matches!(decide(gateway), Err(Error::AddressNotInSubnet { .. })));
    for bad in ["10.1.2.255/24", "10.1.2.0/24", "10.1.2.1/31", "10.1.2.1/7"] {
        let bip = Settings { bip: Some(net(bad)), ..settings() };
        assert!(matches!(decide(bip), Err(Error::InvalidBip(_))), "{bad}");
    }
    let name = Settings { bridge: Some("a-name-that-is-too-long".into()), ..settings() };
    assert!(matches!(decide(name), Err(Error::InvalidBridgeName(_))));
    let survey = Survey { bridge: Some(bridge(3, "dummy")), ..Survey::default() };
    assert!(matches!(super::decide(&settings(), &survey), Err(Error::NotABridge(_))));
}

fn further(change: impl FnOnce(&mut NetworkRequest), others: &[&str]) -> Result<BridgeNetwork> {
    let mut request = NetworkRequest::new("0123456789abcdef", "web");
    change(&mut request);
    let others: Vec<IpNet> = others.iter().map(|text| net(text)).collect();
    let survey = routes(&["0.0.0.0/0", "172.30.0.0/16"]);
    decide_network(&settings(), &request, "b1a2b3c4d-0".into(), &survey, &others)
}

#[test]
fn a_further_network_avoids_what_is_there() {
    let network = further(|_| (), &["172.29.0.0/16"]).unwrap();
    assert_eq!(network.subnets.len(), 1);
    assert_eq!(network.subnets[0].net, net("172.28.0.0/16"));
    assert_eq!(network.ipv4_gateway(), Some("172.28.0.1".parse().unwrap()));
    let overlap = further(|r| r.subnets.push(SubnetRequest::new(net("172.29.5.0/24"))), &["172.29.0.0/16"]);
    assert!(matches!(overlap, Err(Error::PoolOverlaps)));
    let twice = further(
        |r| {
            r.subnets.push(SubnetRequest::new(net("10.5.0.0/16")));
            r.subnets.push(SubnetRequest::new(net("10.5.1.0/24")));
        },
        &[],
    );
    assert!(matches!(twice, Err(Error::PoolOverlaps)));
}

#[test]
fn an_internal_network_has_a_bridge_address_but_no_way_out() {
    let network = further(
        |r| {
            r.internal = true;
            r.ipv6 = true;
            r.subnets.push(SubnetRequest {
                range: Some(net("10.5.7.0/24")),
                reserved: vec!["10.5.7.0".parse().unwrap()],
                ..SubnetRequest::new(net("10.5.0.0/16"))
            });
        },
        &[],
    )
    .unwrap();
    assert_eq!(network.subnets[0].bridge_ip, Some("10.5.7.1".parse().unwrap()));
    assert_eq!((network.ipv4_gateway(), network.ipv6_gateway()), (None, None));
    assert!(network.has_ipv6());
    let text: Vec<String> =
        plan(&settings(), &Survey::default(), &network).iter().map(|step| step.to_string()).collect();
    assert!(!text.iter().any(|step| step.contains("ipv6/conf/all/forwarding")), "{text:?}");
}

#[test]
fn only_ipv6_needs_no_ipv4() {
    let network = further(|r| (r.ipv4, r.ipv6) = (false, true), &[]).unwrap();
    assert!(!network.has_ipv4() && network.has_ipv6());
    let gateway = network.ipv6_gateway().unwrap().to_string();
    assert!(gateway.starts_with("fd") && gateway.ends_with("::1"), "{gateway}");
}
