use super::*;

fn any() -> PortRequest {
    PortRequest { container_port: 80, ..PortRequest::default() }
}

#[test]
fn a_failed_claim_gives_back_what_it_took() {
    let mut ports = Ports::with_range((41300, 41301));
    let local = Ipv4Addr::LOCALHOST;
    let error = ports.claim("a", &[any(), any(), any()], local).unwrap_err();
    assert!(matches!(error, Error::PortsExhausted { .. }));
    assert_eq!(ports.claim("a", &[any(), any()], local).unwrap().len(), 2);
}

#[test]
fn random_ports_go_round() {
    let mut ports = Ports::with_range((41310, 41311));
    let take = |ports: &mut Ports| ports.claim("a", &[any()], Ipv4Addr::LOCALHOST).unwrap();
    let first = take(&mut ports);
    ports.release(&first);
    let second = take(&mut ports);
    assert_ne!(first[0].host_port, second[0].host_port);
}

#[test]
fn addresses_of_one_port_are_apart_and_everywhere_is_all_of_them() {
    let mut ports = Ports::with_range((41320, 41320));
    let on = |last: u8| PortRequest { host_ip: Some(Ipv4Addr::new(127, 0, 0, last).into()), ..any() };
    ports.claim("a", &[on(1), on(2)], Ipv4Addr::UNSPECIFIED).unwrap();
    assert!(ports.claim("b", &[any()], Ipv4Addr::UNSPECIFIED).is_err());
    let udp = PortRequest { protocol: Protocol::Udp, ..any() };
    ports.claim("b", &[udp], Ipv4Addr::UNSPECIFIED).unwrap();
}

#[test]
fn what_cannot_be_is_said() {
    let mut ports = Ports::with_range((41330, 41340));
    let mut fails = |request: PortRequest| ports.claim("a", &[request], Ipv4Addr::UNSPECIFIED).unwrap_err();
    assert!(matches!(fails(PortRequest { container_port: 0, ..any() }), Error::InvalidContainerPort));
    assert!(matches!(fails(PortRequest { host_ip: "::1".parse().ok(), ..any() }), Error::Ipv6HostAddress(_)));
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
