use super::*;

fn reach(host_ip: Ipv4Addr) -> Reach {
    Reach { ipv4: true, ipv6: false, host_ip: host_ip.into(), routed_ipv4: false, routed_ipv6: false }
}

fn any() -> PortRequest {
    PortRequest { container_port: 80, ..PortRequest::default() }
}

#[test]
fn a_failed_claim_gives_back_what_it_took() {
    let mut ports = Ports::with_range((41300, 41301));
    let local = reach(Ipv4Addr::LOCALHOST);
    let error = ports.claim("a", &[any(), any(), any()], local).unwrap_err();
    assert!(matches!(error, Error::PortsExhausted { .. }));
    assert_eq!(ports.claim("a", &[any(), any()], local).unwrap().len(), 2);
}

#[test]
fn random_ports_go_round() {
    let mut ports = Ports::with_range((41310, 41311));
    let take = |ports: &mut Ports| ports.claim("a", &[any()], reach(Ipv4Addr::LOCALHOST)).unwrap();
    let first = take(&mut ports);
    ports.release(&first);
    let second = take(&mut ports);
    assert_ne!(first[0].host_port, second[0].host_port);
}

#[test]
fn addresses_of_one_port_are_apart_and_everywhere_is_all_of_them() {
    let mut ports = Ports::with_range((41320, 41320));
    let on = |last: u8| PortRequest { host_ip: Some(Ipv4Addr::new(127, 0, 0, last).into()), ..any() };
    ports.claim("a", &[on(1), on(2)], reach(Ipv4Addr::UNSPECIFIED)).unwrap();
    assert!(ports.claim("b", &[any()], reach(Ipv4Addr::UNSPECIFIED)).is_err());
    let udp = PortRequest { protocol: Protocol::Udp, ..any() };
    ports.claim("b", &[udp], reach(Ipv4Addr::UNSPECIFIED)).unwrap();
}

#[test]
fn a_routed_family_takes_no_port_of_the_host() {
    let mut ports = Ports::with_range((41360, 41361));
    let mixed = Reach { ipv6: true, routed_ipv6: true, ..reach(Ipv4Addr::UNSPECIFIED) };
    let taken = ports.claim("a", &[any()], mixed).unwrap();
    let shown: Vec<(String, u16)> =
        taken.iter().map(|port| (port.host_ip.to_string(), port.host_port)).collect();
    assert_eq!(shown, [("0.0.0.0".to_owned(), 41360), ("::".to_owned(), 0)]);
    assert!(taken.iter().all(|port| mixed.leads(port)));
    // A way out by another network, where addresses are translated, is another way in.
    let translated = Reach { routed_ipv6: false, ..mixed };
    assert!(translated.leads(&taken[0]) && !translated.leads(&taken[1]));
    ports.restore("a", &taken[1..]);
    let routed = Reach { routed_ipv4: true, ..reach(Ipv4Addr::UNSPECIFIED) };
    let on_loopback =
        PortRequest { host_ip: "127.0.0.1".parse().ok(), host_port: HostPort::Fixed(41361), ..any() };
    let open = ports.claim("b", &[on_loopback.clone(), on_loopback], routed).unwrap();
    assert!(open.iter().all(|port| port.is_direct() && port.host_ip.is_unspecified()));
}

#[test]
fn a_container_with_both_families_is_published_for_both_on_one_port() {
    let mut ports = Ports::with_range((41350, 41351));
    let both = Reach { ipv6: true, ..reach(Ipv4Addr::UNSPECIFIED) };
    let taken = ports.claim("a", &[any()], both).unwrap();
    let shown: Vec<String> = taken.iter().map(|port| port.host_ip.to_string()).collect();
    assert_eq!(shown, ["0.0.0.0", "::"]);
    assert_eq!(taken[0].host_port, taken[1].host_port);
    let on_six =
        PortRequest { host_ip: "::".parse().ok(), host_port: HostPort::Fixed(taken[0].host_port), ..any() };
    assert!(matches!(
        ports.claim("b", std::slice::from_ref(&on_six), both),
        Err(Error::PortAllocated { .. })
    ));
    // With IPv6 taken, the next number is the first that is free for both.
    ports.release(&taken[..1]);
    assert_ne!(ports.claim("b", &[any()], both).unwrap()[0].host_port, taken[1].host_port);
    ports.release(&taken[1..]);
    assert_eq!(ports.claim("c", &[on_six], both).unwrap().len(), 1);
}

#[test]
fn what_cannot_be_is_said() {
    let mut ports = Ports::with_range((41330, 41340));
    let mut fails =
        |request: PortRequest| ports.claim("a", &[request], reach(Ipv4Addr::UNSPECIFIED)).unwrap_err();
    assert!(matches!(fails(PortRequest { container_port: 0, ..any() }), Error::InvalidContainerPort));
    assert!(matches!(
        fails(PortRequest { host_ip: "::1".parse().ok(), ..any() }),
        Error::Ipv6Loopback { .. }
    ));
    assert!(matches!(
        fails(PortRequest { host_ip: "fd00::1".parse().ok(), ..any() }),
        Error::NoAddressFor { .. }
    ));
    let elsewhere = PortRequest { host_ip: "203.0.113.7".parse().ok(), ..any() };
    let error = fails(elsewhere).to_string();
    assert!(error.contains("Cannot assign requested address") && error.contains("203.0.113.7"), "{error}");
}

#[test]
fn the_hosts_range_is_read() {
    assert_eq!(parse_range("32768\t60999\n"), Some((32768, 60999)));
    assert_eq!(parse_range(""), None);
    assert_eq!(parse_range("9 8"), None);
}
