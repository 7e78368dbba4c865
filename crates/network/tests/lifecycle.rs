//! What happens to names, ports, rules and interfaces over time: conflicts, flushes, restarts, kills, several engines.

mod support;

use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use corten_network::{Error, HostPort, Networks, PortRequest, Protocol, Settings};
use support::*;

const FOREIGN: &str = "table inet theirs { chain input { type filter hook input priority 0; counter accept; }; set s { type ipv4_addr; elements = { 10.1.1.1 }; }; }";

fn nft(input: &str) {
    sh(&format!("nft -f - <<'EOT'\n{input}\nEOT"));
}

#[test]
fn a_port_is_taken_once() {
    on_host(|| {
        let networks = open("0000b001");
        networks.attach(&request("a", &[tcp(8080, 80)])).unwrap();
        let error = networks.attach(&request("b", &[tcp(8081, 80), tcp(8080, 80)])).unwrap_err();
        assert_eq!(error.to_string(), "Bind for 0.0.0.0:8080 failed: port is already allocated");
        assert!(error.is_conflict());
        let error = networks.attach(&request("b", &[tcp_on("127.0.0.1", 8080, 80)])).unwrap_err();
        assert_eq!(error.to_string(), "Bind for 127.0.0.1:8080 failed: port is already allocated");
        // What failed took nothing: neither the other port nor the container's name.
        networks.attach(&request("b", &[tcp(8081, 80), port(8080, 80, Protocol::Udp)])).unwrap();
        assert!(matches!(networks.attach(&request("b", &[])), Err(Error::AlreadyAttached(_))));
        networks.detach("a").unwrap();
        networks.detach("a").unwrap();
        networks.attach(&request("c", &[tcp(8080, 80)])).unwrap();
        networks.close(true).unwrap();
    });
}

#[test]
fn programs_of_the_host_and_published_ports_see_each_other() {
    on_host(|| {
        let networks = open("0000b002");
        let theirs = TcpListener::bind("127.0.0.1:8080").unwrap();
        let error = networks.attach(&request("a", &[tcp(8080, 80)])).unwrap_err().to_string();
        assert!(
            error.starts_with("failed to bind host port 0.0.0.0:8080/tcp: address already in use (by "),
            "{error}"
        );
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        drop(theirs);
        networks.attach(&request("a", &[tcp(8080, 80), port(8053, 53, Protocol::Udp)])).unwrap();
        // std's listeners set SO_REUSEADDR, as most servers do.
        assert_eq!(TcpListener::bind("0.0.0.0:8080").unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
        assert_eq!(TcpListener::bind("127.0.0.1:8080").unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
        assert_eq!(UdpSocket::bind("0.0.0.0:8053").unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
        networks.detach("a").unwrap();
        TcpListener::bind("0.0.0.0:8080").unwrap();
        networks.close(true).unwrap();
    });
}

#[test]
fn connections_in_time_wait_do_not_block_a_port() {
    on_host(|| {
        let networks = open("0000b003");
        let server = TcpListener::bind("127.0.0.1:8080").unwrap();
        let client = std::net::TcpStream::connect("127.0.0.1:8080").unwrap();
        let (accepted, _) = server.accept().unwrap();
        // Who closes first waits: the server's side, on the port.
        drop(accepted);
        drop(client);
        drop(server);
        assert!(sh("cat /proc/thread-self/net/tcp").contains(":1F90"));
        networks.attach(&request("a", &[tcp(8080, 80)])).unwrap();
        networks.close(true).unwrap();
    });
}

#[test]
fn random_ports_and_ranges_go_around_what_is_taken() {
    on_host(|| {
        sh("echo '40000 40003' > /proc/sys/net/ipv4/ip_local_port_range");
        let networks = open("0000b004");
        let _theirs = TcpListener::bind("0.0.0.0:40001").unwrap();
        let random = PortRequest { container_port: 80, ..PortRequest::default() };
        let a = networks.attach(&request("a", &[random.clone(), random.clone(), random.clone()])).unwrap();
        assert_eq!(a.ports.iter().map(|port| port.host_port).collect::<Vec<_>>(), [40000, 40002, 40003]);
        assert!(matches!(networks.attach(&request("b", &[random])), Err(Error::PortsExhausted { .. })));
        let range = |first, last| PortRequest {
            container_port: 80,
            host_port: HostPort::Range(first, last),
            ..PortRequest::default()
        };
        let b = networks.attach(&request("b", &[range(40003, 40005), range(40003, 40005)])).unwrap();
        assert_eq!(b.ports.iter().map(|port| port.host_port).collect::<Vec<_>>(), [40004, 40005]);
        assert!(networks.attach(&request("c", &[range(9, 8)])).unwrap_err().is_invalid());
        networks.close(true).unwrap();
    });
}

#[test]
fn closing_leaves_nothing_and_touches_nothing_foreign() {
    on_host(|| {
        nft(FOREIGN);
        let before = (sh("nft list ruleset"), sh("ip -o link"), sh("ip route"));
        let networks = open("0000b005");
        let endpoint = networks.attach(&request("a", &[tcp(8080, 80)])).unwrap();
        assert!(sh("nft list table inet corten-0000b005").contains("tcp . 8080"));
        assert_eq!(sh("nft list table inet theirs"), before.0);
        networks.close(true).unwrap();
        networks.close(true).unwrap();
        drop(endpoint);
        drop(networks);
        eventually("everything is gone", || {
            before == (sh("nft list ruleset"), sh("ip -o link"), sh("ip route"))
        });
    });
}

#[test]
fn a_flushed_table_comes_back() {
    on_host(|| {
        let networks = open("0000b006");
        let a = networks.attach(&request("a", &[tcp(8080, 80)])).unwrap();
        serve(&a.netns, 80, "a");
        let before = sh("nft list ruleset");
        for command in [
            "nft flush ruleset",
            "nft delete table inet corten-0000b006",
            "nft flush chain inet corten-0000b006 forward",
            "nft flush map inet corten-0000b006 ports",
        ] {
            sh(command);
            eventually(command, || sh("nft list ruleset") == before);
            assert!(ask(LOOPBACK, 8080).is_some(), "{command}");
        }
        networks.close(true).unwrap();
    });
}

#[test]
fn a_deleted_bridge_is_mended_by_reconciling() {
    on_host(|| {
        let networks = open("0000b007");
        let a = networks.attach(&request("a", &[tcp(8080, 80)])).unwrap();
        serve(&a.netns, 80, "a");
        sh("ip link del corten-0000b007");
        assert!(shut(LOOPBACK, 8080));
        networks.reconcile().unwrap();
        eventually("the port works", || ask(LOOPBACK, 8080).is_some());
        networks.close(true).unwrap();
    });
}

#[test]
fn a_restarted_engine_takes_over() {
    on_host(|| {
        let networks = open("0000b008");
        let a = networks.attach(&request("a", &[tcp(8080, 80)])).unwrap();
        let gone = networks.attach(&request("gone", &[tcp(8081, 80)])).unwrap();
        serve(&a.netns, 80, "a");
        let known = [a.sandbox.clone()];
        let nat = networks.nat().clone();
        networks.close(false).unwrap();
        drop(networks);
        assert!(ask(LOOPBACK, 8080).is_some(), "ports work while no engine runs");

        let networks = open("0000b008");
        assert_eq!(*networks.nat(), nat);
        assert!(ask(LOOPBACK, 8080).is_some(), "ports work before they are restored");
        assert!(networks.restore(&known).is_empty());
        assert!(ask(LOOPBACK, 8080).is_some());
        assert_eq!(networks.sandboxes(), known);
        assert!(!sh("nft list ruleset").contains("8081"));
        assert!(!sh("ip -o link").contains(&gone.host_interface));
        assert_eq!(TcpListener::bind("0.0.0.0:8080").unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
        assert!(matches!(networks.attach(&request("b", &[tcp(8080, 80)])), Err(Error::PortAllocated { .. })));
        let b = networks.attach(&request("b", &[tcp(8081, 80)])).unwrap();
        assert!(b.ip != a.ip && b.host_interface != a.host_interface);
        serve(&b.netns, 80, "b");
        assert!(ask(LOOPBACK, 8081).is_some());
        networks.detach("a").unwrap();
        assert!(shut(LOOPBACK, 8080));
        networks.close(true).unwrap();
    });
}

#[test]
fn instances_live_side_by_side() {
    on_host(|| {
        let outside = neighbour();
        let first = open("0000b009");
        let second = open("0000b00a");
        assert_ne!(first.nat().subnets, second.nat().subnets);
        let a = first.attach(&request("a", &[tcp(8080, 80)])).unwrap();
        let b = second.attach(&request("a", &[tcp(8081, 80)])).unwrap();
        serve(&a.netns, 80, "first");
        serve(&b.netns, 80, "second");
        let error = second.attach(&request("b", &[tcp(8080, 80)])).unwrap_err();
        assert!(matches!(error, Error::PortInUse { .. }), "{error}");
        assert!(shut_from(&b.netns, a.ip, 80), "bridges are apart");
        assert!(ask_from(&b.netns, HOST, 8080).unwrap().starts_with("first"));
        assert!(ask_from(&outside, HOST, 8081).unwrap().starts_with("second"));
        first.close(true).unwrap();
        assert!(ask_from(&outside, HOST, 8081).is_some());
        assert!(ask(LOOPBACK, 8081).is_some());
        second.close(true).unwrap();
    });
}

#[test]
fn dockers_default_drop_is_passed_and_its_chain_left_clean() {
    on_host(|| {
        let docker = "table ip filter { chain DOCKER-USER { counter return; }; chain FORWARD { type filter hook forward priority 0; policy drop; jump DOCKER-USER; }; }";
        let outside = neighbour();
        nft(docker);
        let before = sh("nft list table ip filter");
        let networks = open("0000b00b");
        let a = networks.attach(&request("a", &[tcp(8080, 80)])).unwrap();
        serve(&a.netns, 80, "a");
        serve(&a.netns, 81, "unpublished");
        assert!(ask_from(&outside, HOST, 8080).is_some());
        inside(&outside, || sh(&format!("ip route add {} via {HOST}", networks.nat().subnets[0].net)));
        assert!(shut_from(&outside, a.ip, 81));
        // iptables must still understand the chain.
        assert!(sh("iptables-nft -S DOCKER-USER").contains("corten 0000b00b"));
        // Docker comes up later, or anew.
        sh("nft delete table ip filter");
        nft(docker);
        eventually("our rules are there again", || {
            sh("nft list table ip filter").contains("corten 0000b00b")
        });
        networks.reconcile().unwrap();
        assert_eq!(sh("nft list table ip filter").matches("corten 0000b00b").count(), 2);
        networks.close(true).unwrap();
        let counters = |text: String| {
            text.lines().filter(|line| !line.contains("counter")).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(counters(sh("nft list table ip filter")), counters(before));
        assert!(!sh("nft list table ip filter").contains("corten"));
    });
}

#[test]
fn subnets_of_the_host_are_avoided_and_settings_obeyed() {
    on_host(|| {
        sh(
            "ip link add d0 type bridge; ip link set d0 mtu 1400 up; ip addr add 172.30.5.1/24 dev d0; ip route add default dev d0",
        );
        let networks = open("0000b00c");
        assert_eq!(networks.nat().subnets[0].net.to_string(), "172.29.0.0/16");
        assert_eq!(networks.nat().mtu, 1400);
        let plain = networks.attach(&request("plain", &[])).unwrap();
        assert!(inside(&plain.netns, || sh("ip -o link show eth0")).contains("mtu 65535"));
        let routes = inside(&plain.netns, || sh("ip route get 192.0.2.1; ip route get 172.29.0.1"));
        // Out of the host by the uplink's size, within it by the link's.
        assert_eq!(routes.matches("mtu 1400").count(), 1, "{routes}");
        let large = inside(&plain.netns, || sh("busybox ping -c 1 -s 60000 172.29.0.1"));
        assert!(large.contains(" 0% packet loss"), "{large}");
        networks.detach("plain").unwrap();
        networks.close(true).unwrap();
        let with = |bip: &str| Settings { bip: Some(bip.parse().unwrap()), ..settings("0000b00d") };
        assert!(matches!(Networks::open(with("172.30.0.1/16")), Err(Error::SubnetOverlaps { .. })));
        assert!(matches!(Networks::open(with("10.1.0.0/16")), Err(Error::InvalidBip(_))));
        let named = Settings {
            bridge: Some("br.test".into()),
            fixed_cidr: Some("10.1.2.128/30".parse().unwrap()),
            mtu: Some(1300),
            ..with("10.1.2.1/24")
        };
        let networks = Engine(Networks::open(named).unwrap());
        let a = networks.attach(&request("a", &[])).unwrap();
        assert!("10.1.2.128/30".parse::<ipnet::Ipv4Net>().unwrap().contains(&a.ip));
        assert_eq!((a.prefix_len, networks.nat().mtu, a.gateway.to_string()), (24, 1300, "10.1.2.1".into()));
        assert!(inside(&a.netns, || sh("ip -o link show eth0")).contains("mtu 1300"));
        assert!(shut(a.ip, 1));
        networks.close(true).unwrap();
    });
}

#[test]
fn a_small_subnet_is_used_up_and_recovers() {
    on_host(|| {
        let networks = Engine(
            Networks::open(Settings { bip: Some("10.1.2.1/29".parse().unwrap()), ..settings("0000b00e") })
                .unwrap(),
        );
        let names = ["a", "b", "c", "d", "e"];
        let all: Vec<_> = names.iter().map(|name| networks.attach(&request(name, &[])).unwrap()).collect();
        let distinct: std::collections::HashSet<_> = all.iter().map(|endpoint| endpoint.ip).collect();
        assert_eq!(distinct.len(), names.len());
        assert!(matches!(networks.attach(&request("f", &[])), Err(Error::AddressesExhausted(_))));
        networks.detach("c").unwrap();
        assert_eq!(networks.attach(&request("f", &[])).unwrap().ip, all[2].ip);
        networks.close(true).unwrap();
    });
}

#[test]
fn many_at_once_do_not_collide() {
    on_host(|| {
        let networks = open("0000b00f");
        let networks = &networks;
        let endpoints: Vec<_> = std::thread::scope(|scope| {
            let spawn = |worker: u16| {
                scope.spawn(move || {
                    let attach = |n: u16| {
                        networks
                            .attach(&request(&format!("{worker}-{n}"), &[tcp(20000 + worker * 100 + n, 80)]))
                            .unwrap()
                    };
                    (0..8).map(attach).collect::<Vec<_>>()
                })
            };
            let workers: Vec<_> = (0..4).map(spawn).collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        let distinct: std::collections::HashSet<_> =
            endpoints.iter().map(|e| (e.ip, e.host_interface.clone())).collect();
        assert_eq!(distinct.len(), 32);
        serve(&endpoints[31].netns, 80, "last");
        assert!(ask(LOOPBACK, endpoints[31].ports[0].host_port).is_some());
        networks.close(true).unwrap();
    });
}

/// The engine of the kill test: this very test in a child process, which attaches and then waits to be killed.
#[test]
#[ignore = "run by `a_killed_engine_leaves_nothing_but_bridge_and_table`"]
fn engine_that_waits_to_be_killed() {
    let networks = open("0000b010");
    let _endpoint = networks.attach(&request("a", &[tcp(8080, 80)])).unwrap();
    networks.wait_until_warm(PATIENCE);
    println!("ready");
    // In a loop: a scope that ended before may have left this thread's token set.
    loop {
        std::thread::park();
    }
}

#[test]
fn a_killed_engine_leaves_nothing_but_bridge_and_table() {
    on_host(|| {
        let mut engine = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "engine_that_waits_to_be_killed"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(engine.stdout.take().unwrap()));
        assert!(lines.any(|line| line.unwrap().contains("ready")));
        let links = sh("ip -o link");
        assert!(links.matches("v0000b010-").count() >= 5, "{links}");
        engine.kill().unwrap();
        engine.wait().unwrap();
        eventually("the interfaces are gone", || !sh("ip -o link").contains("v0000b010-"));
        TcpListener::bind("0.0.0.0:8080").unwrap();
        let networks = open("0000b010");
        assert!(networks.restore(&[]).is_empty());
        assert!(!sh("nft list ruleset").contains("8080"));
        networks.close(true).unwrap();
        assert_eq!(sh("nft list ruleset"), "");
    });
}

#[test]
fn handed_out_namespaces_outlive_the_engine_that_made_them() {
    on_host(|| {
        let networks = open("0000b011");
        let endpoint = networks.attach(&request("a", &[])).unwrap();
        let netns: OwnedFd = endpoint.netns;
        networks.close(false).unwrap();
        drop(networks);
        serve(&netns, 80, "a");
        assert!(ask(endpoint.ip, 80).is_some());
    });
}
