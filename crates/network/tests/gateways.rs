//! Ways in and out of a network: translated, routed, isolated, and what the default network can be given.

mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};

use corten_network::{Error, GatewayMode, NetworkRequest, Networks, SubnetRequest};
use support::two_families::*;
use support::*;

/// A neighbour that sends what is for the networks' subnets to the host.
fn neighbour_with_routes(subnets: &[&str]) -> OwnedFd {
    let outside = neighbour();
    sh("ip -6 addr add 2001:db8::2/64 dev eth0 nodad");
    inside(&outside, || {
        sh("ip -6 addr add 2001:db8::9/64 dev far nodad");
        for subnet in subnets {
            let host = if subnet.contains(':') { "2001:db8::2" } else { "192.0.2.2" };
            sh(&format!("ip route add {subnet} via {host}"));
        }
    });
    outside
}

fn of_modes(ipv4: GatewayMode, ipv6: GatewayMode) -> NetworkRequest {
    NetworkRequest {
        ipv4_mode: ipv4,
        ipv6_mode: ipv6,
        subnets: ["10.11.0.0/24", "fd00:11::/64"].map(|net| SubnetRequest::new(net.parse().unwrap())).into(),
        ..dual("aaaa1111")
    }
}

fn pings(from: &OwnedFd, ip: IpAddr) -> bool {
    inside(from, || {
        let ping = format!("busybox ping -c 1 -W {} {ip}", PATIENCE.as_secs());
        std::process::Command::new("sh").args(["-c", &ping]).output().unwrap().status.success()
    })
}

#[test]
fn a_routed_network_is_reached_by_its_own_addresses_at_published_ports() {
    on_host(|| {
        let outside = neighbour_with_routes(&["10.11.0.0/24", "fd00:11::/64"]);
        let networks = open("0000d001");
        networks.create(&of_modes(GatewayMode::Routed, GatewayMode::Routed)).unwrap();
        networks.create(&dual("bbbb2222")).unwrap();
        let web = sandbox(&networks, "web", vec![on("aaaa1111")], &[tcp(8080, 80)]);
        let other = sandbox(&networks, "other", vec![on("bbbb2222")], &[]);
        assert!(web.ports.iter().all(|port| port.is_direct()) && web.ports.len() == 2, "{:?}", web.ports);
        serve_both(&web.netns, 80, "web");
        serve_both(&web.netns, 81, "unpublished");
        serve(&outside, 9000, "outside");
        for ip in [four(&web, 0), six(&web, 0)] {
            assert_eq!(reach_from(&outside, ip, 80).as_deref(), Some("web"), "{ip}");
            assert!(shut_from(&outside, ip, 81), "{ip}");
            assert!(pings(&outside, ip), "{ip}");
            assert_eq!(reach_from(&other.netns, ip, 80).as_deref(), Some("web"), "{ip} from another network");
            assert!(shut_from(&other.netns, ip, 81), "{ip}");
        }
        assert!(shut_from(&outside, HOST, 8080), "the host's port is not taken");
        assert!(shut(Ipv4Addr::LOCALHOST, 8080));
        // What leaves keeps its address.
        let seen = ask_from(&web.netns, NEIGHBOUR, 9000).unwrap();
        assert_eq!(seen, format!("outside {}", four(&web, 0)));
        networks.detach("web").unwrap();
        assert!(shut_from(&outside, four(&web, 0), 80), "nothing is open any more");
        networks.close(true).unwrap();
    });
}

#[test]
fn families_have_ways_of_their_own() {
    on_host(|| {
        let outside = neighbour_with_routes(&["10.11.0.0/24", "fd00:11::/64"]);
        let networks = open("0000d002");
        networks.create(&of_modes(GatewayMode::Nat, GatewayMode::NatUnprotected)).unwrap();
        let web = sandbox(&networks, "web", vec![on("aaaa1111")], &[tcp(8080, 80)]);
        serve_both(&web.netns, 80, "web");
        serve_both(&web.netns, 81, "unpublished");
        assert!(shut_from(&outside, four(&web, 0), 81), "translated");
        assert_eq!(reach_from(&outside, six(&web, 0), 81).as_deref(), Some("unpublished"));
        assert_eq!(reach_from(&outside, HOST.into(), 8080).as_deref(), Some("web"));
        let host6 = "2001:db8::2".parse().unwrap();
        assert_eq!(reach_from(&outside, host6, 8080).as_deref(), Some("web"));
        networks.close(true).unwrap();
    });
}

#[test]
fn a_way_out_that_changes_takes_its_ports_along() {
    on_host(|| {
        let outside = neighbour_with_routes(&["10.11.0.0/24", "fd00:11::/64"]);
        let networks = open("0000d003");
        networks.create(&of_modes(GatewayMode::Routed, GatewayMode::Routed)).unwrap();
        networks.create(&NetworkRequest::new("bbbb2222", "zzzz")).unwrap();
        let ports = [tcp(8080, 80)];
        let web = sandbox(&networks, "web", vec![on("bbbb2222")], &ports);
        serve_both(&web.netns, 80, "web");
        assert_eq!(reach_from(&outside, HOST.into(), 8080).as_deref(), Some("web"));
        let (endpoint, published) =
            networks.connect("web", web.netns.as_fd(), &on("aaaa1111"), &ports).unwrap();
        assert!(published.iter().all(|port| port.is_direct()), "{published:?}");
        let own: IpAddr = endpoint.ipv4.unwrap().ip.into();
        assert_eq!(reach_from(&outside, own, 80).as_deref(), Some("web"));
        assert!(shut_from(&outside, HOST, 8080));
        let back = networks.disconnect("web", "aaaa1111", Some(web.netns.as_fd()), &ports).unwrap();
        assert_eq!(back, web.ports);
        assert_eq!(reach_from(&outside, HOST.into(), 8080).as_deref(), Some("web"));
        networks.close(true).unwrap();
    });
}

#[test]
fn an_isolated_network_is_without_the_host() {
    on_host(|| {
        let networks = open("0000d004");
        let isolated = of_modes(GatewayMode::Isolated, GatewayMode::Isolated);
        assert!(matches!(networks.create(&isolated), Err(Error::IsolatedNotInternal)));
        let network = networks.create(&NetworkRequest { internal: true, ..isolated }).unwrap();
        let addresses = sh(&format!("ip -o addr show {}", network.bridge));
        assert_eq!(addresses, "", "not even a link-local one");
        let a = sandbox(&networks, "a", vec![on("aaaa1111")], &[]);
        let b = sandbox(&networks, "b", vec![on("aaaa1111")], &[]);
        serve_both(&a.netns, 80, "a");
        assert_eq!(reach_from(&b.netns, four(&a, 0), 80).as_deref(), Some("a"));
        assert_eq!(reach_from(&b.netns, six(&a, 0), 80).as_deref(), Some("a"));
        assert!(shut(four(&a, 0), 80));
        let of_one_family = NetworkRequest {
            internal: true,
            ipv4_mode: GatewayMode::Isolated,
            ..NetworkRequest::new("bbbb2222", "four")
        };
        let network = networks.create(&of_one_family).unwrap();
        // With a carrier, links get link-local addresses.
        sandbox(&networks, "c", vec![on("bbbb2222")], &[]);
        assert_eq!(sh(&format!("ip -o addr show {}", network.bridge)), "", "nor one of the other family");
        networks.close(true).unwrap();
    });
}

/// Routed, no port of the host is taken; the way out that would need one can't be had.
#[test]
fn a_port_that_somebody_has_keeps_the_way_out_as_it_was() {
    on_host(|| {
        let outside = neighbour_with_routes(&["10.11.0.0/24", "fd00:11::/64"]);
        let networks = open("0000d007");
        networks.create(&of_modes(GatewayMode::Routed, GatewayMode::Routed)).unwrap();
        for (id, name) in [("bbbb2222", "0000"), ("cccc3333", "zzzz")] {
            networks.create(&NetworkRequest { ipv6: true, ..NetworkRequest::new(id, name) }).unwrap();
        }
        let _somebody = std::net::TcpListener::bind("0.0.0.0:8080").unwrap();
        let ports = [tcp(8080, 80)];
        let web = sandbox(&networks, "web", vec![on("aaaa1111")], &ports);
        serve_both(&web.netns, 80, "web");
        let routes = || inside(&web.netns, || sh("ip route; ip -6 route show default; ip -o link"));
        let before = routes();
        assert!(before.contains("default via 10.11.0.1"), "{before}");
        let unchanged = |networks: &Engine| {
            assert_eq!(reach_from(&outside, four(&web, 0), 80).as_deref(), Some("web"));
            assert_eq!(reach_from(&outside, six(&web, 0), 80).as_deref(), Some("web"));
            networks.sandboxes().into_iter().find(|sandbox| sandbox.container == "web").unwrap()
        };
        let error = networks.connect("web", web.netns.as_fd(), &on("bbbb2222"), &ports).unwrap_err();
        assert!(matches!(error, Error::PortInUse { port: 8080, .. }), "{error}");
        assert_eq!(routes(), before);
        assert_eq!(unchanged(&networks).endpoints, web.endpoints);

        networks.connect("web", web.netns.as_fd(), &on("cccc3333"), &ports).unwrap();
        let before = routes();
        let error = networks.disconnect("web", "aaaa1111", Some(web.netns.as_fd()), &ports).unwrap_err();
        assert!(matches!(error, Error::PortInUse { port: 8080, .. }), "{error}");
        assert_eq!(routes(), before);
        assert_eq!(unchanged(&networks).endpoints.len(), 2);
        networks.disconnect("web", "aaaa1111", Some(web.netns.as_fd()), &[]).unwrap();
        networks.close(true).unwrap();
    });
}

#[test]
fn the_default_network_has_ipv6_when_it_is_wished() {
    on_host(|| {
        let outside = neighbour_with_routes(&[]);
        let wished = || {
            let mut settings = settings("0000d005");
            settings.ipv6 = true;
            settings.fixed_cidr_v6 = "fd00:12::/64".parse().ok();
            settings
        };
        let networks = Engine(Networks::open(wished()).unwrap());
        assert!(networks.wait_until_warm(PATIENCE));
        let a = sandbox(&networks, "a", vec![on("default")], &[tcp(8080, 80)]);
        let b = sandbox(&networks, "b", vec![on("default")], &[]);
        assert_eq!(six(&a, 0).to_string(), "fd00:12::2");
        serve_both(&a.netns, 80, "a");
        serve_both(&outside, 9000, "outside");
        assert_eq!(reach_from(&b.netns, six(&a, 0), 80).as_deref(), Some("a"));
        assert_eq!(reach_from(&b.netns, "2001:db8::9".parse().unwrap(), 9000).as_deref(), Some("outside"));
        assert_eq!(reach_from(&outside, "2001:db8::2".parse().unwrap(), 8080).as_deref(), Some("a"));
        // The next engine finds it as it is; one without the wish takes it away.
        networks.close(false).unwrap();
        drop(networks);
        let networks = Networks::open(wished()).unwrap();
        assert_eq!(networks.nat().ipv6_gateway(), "fd00:12::1".parse().ok());
        networks.close(false).unwrap();
        drop(networks);
        let networks = Networks::open(settings("0000d005")).unwrap();
        assert!(!networks.nat().has_ipv6());
        assert!(!sh("ip -o -6 addr").contains("fd00:12::"));
        networks.close(true).unwrap();
    });
}

#[test]
fn addresses_of_the_default_network_have_to_fit() {
    on_host(|| {
        let refused = |change: &dyn Fn(&mut corten_network::Settings)| {
            let mut settings = settings("0000d006");
            settings.ipv6 = true;
            change(&mut settings);
            Networks::open(settings).err().expect("it does not fit")
        };
        let error = refused(&|s| s.bip6 = "fd00:13::/64".parse().ok());
        assert!(matches!(error, Error::InvalidBip(_)), "{error}");
        let error = refused(&|s| {
            s.bip6 = "fd00:13::1/64".parse().ok();
            s.fixed_cidr_v6 = "fd00:14::/80".parse().ok();
        });
        assert!(matches!(error, Error::InvalidFixedCidr { .. }), "{error}");
        let error = refused(&|s| s.gateway_v6 = "fd00:15::1".parse().ok());
        assert!(matches!(error, Error::AddressNotInSubnet { .. }), "{error}");
        let mut settings = settings("0000d006");
        settings.ipv6 = true;
        settings.bip6 = "fd00:13::1/64".parse().ok();
        settings.fixed_cidr_v6 = "fd00:13:0:0:8000::/80".parse().ok();
        settings.gateway_v6 = "fd00:13::7".parse().ok();
        let networks = Engine(Networks::open(settings).unwrap());
        let a = sandbox(&networks, "a", vec![on("default")], &[]);
        assert!(six(&a, 0).to_string().starts_with("fd00:13:0:0:8000:"), "{}", six(&a, 0));
        let route = inside(&a.netns, || sh("ip -6 route show default"));
        assert!(route.contains("via fd00:13::7"), "{route}");
        networks.close(true).unwrap();
    });
}
