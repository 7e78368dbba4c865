//! Packets on every path: host, container, container beside it, another machine, each by every address.

mod support;

use corten_network::{Error, HostPort, PortRequest, Protocol};
use support::*;

#[test]
fn an_endpoint_is_ready_when_it_is_handed_out() {
    on_host(|| {
        let networks = open("0000a001");
        let endpoint = networks.attach(&request("a", &[])).unwrap();
        let (address, route, link) = inside(&endpoint.netns, || {
            (
                sh("ip -o -4 addr show eth0"),
                sh("ip route show default"),
                sh("ip -o link show eth0; ip -o link show lo"),
            )
        });
        assert!(address.contains(&format!("{}/{}", endpoint.ip, endpoint.prefix_len)), "{address}");
        assert!(route.contains(&format!("via {}", endpoint.gateway)), "{route}");
        assert!(link.contains(&endpoint.mac.to_string()) && link.contains("LOOPBACK,UP"), "{link}");
        assert_eq!(endpoint.mac.0[..2], [0x02, 0x42]);
        let sysctl = inside(&endpoint.netns, || {
            sh("cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range")
        });
        assert_eq!(sysctl.split_whitespace().collect::<Vec<_>>(), ["0", "0", "2147483647"]);
        assert_eq!(sh("cat /proc/sys/net/ipv4/ip_forward").trim(), "1");
        networks.close(true).unwrap();
    });
}

#[test]
fn host_and_containers_reach_each_other() {
    on_host(|| {
        let networks = open("0000a002");
        let a = networks.attach(&request("a", &[])).unwrap();
        let b = networks.attach(&request("b", &[])).unwrap();
        serve(&a.netns, 80, "a");
        serve(&here(), 7000, "host");
        assert_eq!(ask(a.ip, 80).unwrap(), format!("a {}", a.gateway));
        assert_eq!(ask_from(&b.netns, a.ip, 80).unwrap(), format!("a {}", b.ip));
        assert_eq!(ask_from(&b.netns, b.gateway, 7000).unwrap(), format!("host {}", b.ip));
        networks.close(true).unwrap();
    });
}

#[test]
fn containers_leave_by_the_host_address_and_are_closed_from_outside() {
    on_host(|| {
        let outside = neighbour();
        let networks = open("0000a003");
        let a = networks.attach(&request("a", &[tcp(8080, 80)])).unwrap();
        serve(&a.netns, 80, "a");
        serve(&a.netns, 81, "unpublished");
        serve(&outside, 9000, "outside");
        assert_eq!(ask_from(&a.netns, NEIGHBOUR, 9000).unwrap(), format!("outside {HOST}"));
        // A neighbour that routes the subnet by the host must not get past the firewall.
        inside(&outside, || {
            sh(&format!("ip route add {} via {HOST}", networks.nat().ipv4_subnet().unwrap()))
        });
        assert!(shut_from(&outside, a.ip, 81));
        assert!(shut_from(&outside, a.ip, 80));
        assert_eq!(ask_from(&outside, HOST, 8080).unwrap(), format!("a {NEIGHBOUR}"));
        networks.close(true).unwrap();
    });
}

#[test]
fn a_published_port_is_reached_by_every_address_of_the_host() {
    for bridge_translates in [1, 0] {
        published_port(bridge_translates);
    }
}

/// Switches br_netfilter's hooks into iptables and nf_tables on or off, where the kernel has it.
fn set_bridge_translation(on: u8) {
    sh(&format!("! cd /proc/sys/net/bridge || echo {on} > bridge-nf-call-iptables"));
}

/// `bridge_translates`: with br_netfilter's hooks into iptables and nf_tables, and without.
fn published_port(bridge_translates: u8) {
    on_host(|| {
        set_bridge_translation(bridge_translates);
        let outside = neighbour();
        let networks = open("0000a004");
        let a = networks.attach(&request("a", &[tcp(8080, 80)])).unwrap();
        let b = networks.attach(&request("b", &[])).unwrap();
        serve(&a.netns, 80, "a");
        assert_eq!(ask(LOOPBACK, 8080).unwrap(), format!("a {}", a.gateway));
        assert_eq!(ask("127.0.0.9".parse().unwrap(), 8080).unwrap(), format!("a {}", a.gateway));
        assert_eq!(ask(HOST, 8080).unwrap(), format!("a {HOST}"));
        assert_eq!(ask(a.gateway, 8080).unwrap(), format!("a {}", a.gateway));
        assert_eq!(ask_from(&outside, HOST, 8080).unwrap(), format!("a {NEIGHBOUR}"));
        // Hairpin: from a neighbour on the bridge, and from itself.
        for asking in [&b.netns, &a.netns] {
            assert_eq!(ask_from(asking, HOST, 8080).unwrap(), format!("a {}", a.gateway));
            assert_eq!(ask_from(asking, a.gateway, 8080).unwrap(), format!("a {}", a.gateway));
        }
        networks.detach("a").unwrap();
        assert!(shut(LOOPBACK, 8080));
        assert!(shut_from(&outside, HOST, 8080));
        networks.close(true).unwrap();
    });
}

#[test]
fn a_port_on_one_address_answers_there_only() {
    on_host(|| {
        let outside = neighbour();
        let networks = open("0000a005");
        let ports = [tcp_on("127.0.0.1", 8080, 80), tcp_on("192.0.2.2", 8081, 80)];
        let a = networks.attach(&request("a", &ports)).unwrap();
        serve(&a.netns, 80, "a");
        assert!(ask(LOOPBACK, 8080).is_some());
        assert!(shut(HOST, 8080));
        assert!(shut_from(&outside, HOST, 8080));
        assert!(ask(HOST, 8081).is_some());
        assert!(ask_from(&outside, HOST, 8081).is_some());
        assert!(shut(LOOPBACK, 8081));
        // A neighbour that sends to the loopback address over the wire.
        inside(&outside, || {
            sh(&format!(
                "ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.1/32 via {HOST} src {NEIGHBOUR}; echo 1 > /proc/sys/net/ipv4/conf/far/route_localnet"
            ))
        });
        assert!(shut_from(&outside, LOOPBACK, 8080));
        networks.close(true).unwrap();
    });
}

#[test]
fn containers_cannot_use_the_hosts_loopback() {
    on_host(|| {
        let networks = open("0000a006");
        let a = networks.attach(&request("a", &[])).unwrap();
        let host = here();
        let listener = inside(&host, || std::net::TcpListener::bind("127.0.0.1:7001").unwrap());
        inside(&a.netns, || {
            sh(&format!(
                "ip addr del 127.0.0.1/8 dev lo; echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet; ip route add 127.0.0.1/32 via {} src {}",
                a.gateway, a.ip
            ))
        });
        assert!(shut_from(&a.netns, LOOPBACK, 7001));
        drop(listener);
        networks.close(true).unwrap();
    });
}

#[test]
fn udp_is_published_and_old_flows_are_forgotten() {
    on_host(|| {
        let outside = neighbour();
        let networks = open("0000a007");
        let udp = port(5353, 53, Protocol::Udp);
        let client = udp_client(&outside);
        let local = udp_client(&here());
        // Tracked before the port is published: no answer yet.
        assert!(silent_udp(&client, HOST, 5353));
        let a = networks.attach(&request("a", std::slice::from_ref(&udp))).unwrap();
        serve_udp(&a.netns, 53, "first");
        assert_eq!(ask_udp(&client, HOST, 5353).unwrap(), "first");
        assert_eq!(ask_udp(&local, LOOPBACK, 5353).unwrap(), "first");
        networks.detach("a").unwrap();
        let b = networks.attach(&request("b", &[udp])).unwrap();
        serve_udp(&b.netns, 53, "second");
        assert_eq!(ask_udp(&client, HOST, 5353).unwrap(), "second");
        assert_eq!(ask_udp(&local, LOOPBACK, 5353).unwrap(), "second");
        networks.close(true).unwrap();
    });
}

#[test]
fn without_inter_container_traffic_only_published_ports_answer() {
    for bridge_translates in [1, 0] {
        containers_apart(bridge_translates);
    }
}

fn containers_apart(bridge_translates: u8) {
    on_host(|| {
        set_bridge_translation(bridge_translates);
        let networks = Engine(
            corten_network::Networks::open(corten_network::Settings { icc: false, ..settings("0000a008") })
                .unwrap(),
        );
        let a = networks.attach(&request("a", &[tcp(8080, 80)])).unwrap();
        let b = networks.attach(&request("b", &[])).unwrap();
        serve(&a.netns, 80, "a");
        assert!(shut_from(&b.netns, a.ip, 80));
        assert!(ask_from(&b.netns, b.gateway, 8080).is_some());
        assert!(ask(a.ip, 80).is_some());
        networks.close(true).unwrap();
    });
}

#[test]
fn addresses_and_macs_are_as_asked_for() {
    on_host(|| {
        let networks = open("0000a009");
        assert!(networks.wait_until_warm(PATIENCE));
        let subnet = networks.nat().ipv4_subnet().unwrap();
        let wanted = |last: u32| std::net::Ipv4Addr::from(u32::from(subnet.network()) + last);
        let fixed = |name: &str, ip, mac: Option<&str>| AttachRequest {
            container: name.into(),
            ip: Some(ip),
            mac: mac.map(|mac| mac.parse().unwrap()),
            ports: Vec::new(),
        };
        // One from afar, one that lies on the shelf, and one again right after it was given back.
        let a = networks.attach(&fixed("a", wanted(7000), Some("02:aa:bb:cc:dd:ee"))).unwrap();
        let b = networks.attach(&fixed("b", wanted(4), None)).unwrap();
        assert_eq!((a.ip, b.ip, a.mac.to_string()), (wanted(7000), wanted(4), "02:aa:bb:cc:dd:ee".into()));
        serve(&a.netns, 80, "a");
        assert_eq!(ask_from(&b.netns, a.ip, 80).unwrap(), format!("a {}", b.ip));
        assert!(shut_from(&b.netns, b.gateway, 1));
        assert!(inside(&a.netns, || sh("ip -o addr; ip -o link; ip route")).contains("02:aa:bb:cc:dd:ee"));
        assert!(matches!(networks.attach(&fixed("c", wanted(7000), None)), Err(Error::AddressInUse(_))));
        networks.detach("a").unwrap();
        let again = networks.attach(&fixed("c", wanted(7000), None)).unwrap();
        serve(&again.netns, 80, "c");
        assert_eq!(ask_from(&b.netns, again.ip, 80).unwrap(), format!("c {}", b.ip));
        let outside = fixed("d", "10.9.9.9".parse().unwrap(), None);
        assert!(matches!(networks.attach(&outside), Err(Error::AddressInNoSubnet(_))));
        networks.close(true).unwrap();
    });
}

#[test]
fn a_namespace_made_elsewhere_is_furnished_too() {
    on_host(|| {
        let networks = open("0000a00a");
        let theirs = new_namespace();
        let ports = [PortRequest { container_port: 80, host_port: HostPort::Any, ..PortRequest::default() }];
        let endpoint =
            networks.attach_into(std::os::fd::AsFd::as_fd(&theirs), &request("a", &ports)).unwrap();
        serve(&theirs, 80, "theirs");
        assert!(ask(LOOPBACK, endpoint.ports[0].host_port).is_some());
        networks.close(true).unwrap();
        assert!(!inside(&theirs, || sh("ip -o link")).contains("eth0"));
    });
}

#[test]
fn isolated_has_loopback_and_nothing_else() {
    on_host(|| {
        let networks = open("0000a00b");
        for _ in 0..4 {
            let netns = networks.isolated().unwrap();
            let links = inside(&netns, || sh("ip -o link"));
            assert!(links.contains("LOOPBACK,UP") && !links.contains("eth0"), "{links}");
        }
        networks.close(true).unwrap();
    });
}
