//! Further networks beside the default one: both families, kept apart, internal, joined and left while a container runs.

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use corten_network::{
    EndpointRequest, Error, HostPort, NetworkRequest, PortRequest, RestoredSandbox, SandboxRequest,
    SubnetRequest,
};
use support::two_families::*;
use support::*;

#[test]
fn both_families_work_within_a_network_and_towards_the_host() {
    on_host(|| {
        let networks = open("0000c001");
        let network = networks.create(&dual("aaaa1111")).unwrap();
        let a = sandbox(&networks, "a", vec![on("aaaa1111")], &[]);
        let b = sandbox(&networks, "b", vec![on("aaaa1111")], &[]);
        serve_both(&a.netns, 80, "a");
        serve_both(&here(), 7000, "host");
        for ip in [four(&a, 0), six(&a, 0)] {
            assert_eq!(reach_from(&b.netns, ip, 80).as_deref(), Some("a"), "{ip} from beside");
            assert_eq!(reach(ip, 80).as_deref(), Some("a"), "{ip} from the host");
        }
        let gateways = [network.ipv4_gateway().unwrap().into(), network.ipv6_gateway().unwrap().into()];
        for gateway in gateways {
            assert_eq!(reach_from(&b.netns, gateway, 7000).as_deref(), Some("host"), "{gateway}");
        }
        networks.close(true).unwrap();
        assert!(!sh("ip -o link").contains("0000c001"), "nothing of the instance is left");
    });
}

/// How many TCP segments the calling thread's namespace had to send again.
fn sent_again() -> u64 {
    let counters = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let [names, values] = [0, 1].map(|line| {
        let of_tcp = counters.lines().filter(|text| text.starts_with("Tcp:")).nth(line).unwrap();
        of_tcp.split_whitespace().collect::<Vec<_>>()
    });
    let column = names.iter().position(|name| *name == "RetransSegs").unwrap();
    values[column].parse().unwrap()
}

/// The kernel lets packets in for a new IPv6 address some time after it accepted the address: before, an answer to
/// the first of a container's packets would be dropped, and the next attempt is a second away.
#[test]
fn an_ipv6_address_takes_packets_from_the_start() {
    on_host(|| {
        let networks = open("0000c010");
        let network = networks.create(&dual("aaaa1111")).unwrap();
        // A packet that was dropped is sent again. That is told by the counter, not by the time, which a busy machine takes, too.
        let refused = |ip: IpAddr| {
            let error = TcpStream::connect_timeout(&(ip, 9).into(), PATIENCE).unwrap_err();
            let at_once = error.kind() == std::io::ErrorKind::ConnectionRefused && sent_again() == 0;
            at_once.then_some(()).ok_or((ip, error))
        };
        refused(network.ipv6_gateway().unwrap().into()).unwrap();
        // It does so under the lock for which everybody waits who changes an interface.
        let busy = AtomicBool::new(true);
        let changes = || {
            while busy.load(Relaxed) {
                sh("ip link add x type veth peer y; ip link del x");
            }
        };
        let reached: Result<Vec<()>, _> = std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || inside(&new_namespace(), changes));
            }
            let reached = (0..40).map(|number| {
                let one = sandbox(&networks, &number.to_string(), vec![on("aaaa1111")], &[]);
                inside(&one.netns, || refused(six(&one, 0)))
            });
            let reached = reached.collect();
            busy.store(false, Relaxed);
            reached
        });
        reached.unwrap();
        networks.close(true).unwrap();
    });
}

#[test]
fn networks_are_apart_but_for_published_ports() {
    on_host(|| {
        let networks = open("0000c002");
        networks.create(&dual("aaaa1111")).unwrap();
        networks.create(&dual("bbbb2222")).unwrap();
        let web = sandbox(&networks, "web", vec![on("aaaa1111")], &[tcp(8080, 80)]);
        let stranger = sandbox(&networks, "stranger", vec![on("bbbb2222")], &[]);
        let default = sandbox(&networks, "default", vec![on("default")], &[]);
        serve_both(&web.netns, 80, "web");
        serve_both(&web.netns, 81, "unpublished");
        serve_both(&default.netns, 80, "default");
        for ip in [four(&web, 0), six(&web, 0)] {
            assert!(shut_from(&stranger.netns, ip, 80), "{ip}: not even a port that is published");
            assert!(shut_from(&stranger.netns, ip, 81), "{ip}");
        }
        assert!(shut_from(&default.netns, four(&web, 0), 80));
        assert!(shut_from(&web.netns, four(&default, 0), 80));
        let gateway = stranger.endpoints[0].ipv4.unwrap().gateway.unwrap().into();
        assert_eq!(
            reach_from(&stranger.netns, gateway, 8080).as_deref(),
            Some("web"),
            "by the host's address"
        );
        let gateway = stranger.endpoints[0].ipv6.unwrap().gateway.unwrap().into();
        assert_eq!(reach_from(&stranger.netns, gateway, 8080).as_deref(), Some("web"), "and by IPv6's");
        networks.close(true).unwrap();
    });
}

#[test]
fn a_port_is_published_for_both_families() {
    on_host(|| {
        let outside = neighbour();
        sh("ip -6 addr add 2001:db8::2/64 dev eth0 nodad");
        inside(&outside, || sh("ip -6 addr add 2001:db8::9/64 dev far nodad"));
        let networks = open("0000c003");
        networks.create(&dual("aaaa1111")).unwrap();
        let a = sandbox(&networks, "a", vec![on("aaaa1111")], &[tcp(8080, 80)]);
        assert_eq!(
            a.ports.iter().map(|port| port.host_ip.to_string()).collect::<Vec<_>>(),
            ["0.0.0.0", "::"]
        );
        serve_both(&a.netns, 80, "a");
        serve_both(&outside, 9000, "outside");
        assert_eq!(reach(Ipv4Addr::LOCALHOST.into(), 8080).as_deref(), Some("a"));
        let refused = TcpStream::connect_timeout(&(Ipv6Addr::LOCALHOST, 8080).into(), PATIENCE).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "IPv6's loopback, at once");
        assert_eq!(reach(HOST.into(), 8080).as_deref(), Some("a"));
        let host6: IpAddr = "2001:db8::2".parse().unwrap();
        assert_eq!(reach(host6, 8080).as_deref(), Some("a"), "the host by its own address");
        assert_eq!(reach_from(&outside, host6, 8080).as_deref(), Some("a"), "a neighbour");
        assert_eq!(reach_from(&a.netns, host6, 8080).as_deref(), Some("a"), "hairpin");
        let neighbour6: IpAddr = "2001:db8::9".parse().unwrap();
        assert_eq!(reach_from(&a.netns, neighbour6, 9000).as_deref(), Some("outside"), "masqueraded");
        // Somebody who routes the subnet by the host does not get past it.
        let net = networks.usage("aaaa1111")[1].subnet;
        inside(&outside, || sh(&format!("ip -6 route add {net} via 2001:db8::2")));
        serve_both(&a.netns, 81, "unpublished");
        assert!(shut_from(&outside, six(&a, 0), 81));
        // Without an address of that family there is nothing to lead to.
        let v4 = SandboxRequest {
            container: "v4".into(),
            endpoints: vec![on("default")],
            ports: vec![tcp_on("::", 8081, 80)],
        };
        assert!(matches!(networks.0.attach(&v4), Err(Error::NoAddressFor { .. })));
        networks.close(true).unwrap();
    });
}

#[test]
fn an_internal_network_has_no_way_out_or_in() {
    on_host(|| {
        let outside = neighbour();
        let networks = open("0000c004");
        let internal = NetworkRequest { internal: true, ..dual("aaaa1111") };
        networks.create(&internal).unwrap();
        let a = sandbox(&networks, "a", vec![on("aaaa1111")], &[tcp(8080, 80)]);
        let b = sandbox(&networks, "b", vec![on("aaaa1111")], &[]);
        assert!(a.ports.is_empty(), "nothing is published of it");
        serve_both(&a.netns, 80, "a");
        serve(&outside, 9000, "outside");
        assert_eq!(reach_from(&b.netns, four(&a, 0), 80).as_deref(), Some("a"));
        assert_eq!(reach_from(&b.netns, six(&a, 0), 80).as_deref(), Some("a"));
        assert_eq!(inside(&a.netns, || sh("ip route show default; ip -6 route show default")), "");
        // Not even with a route of its own making.
        let bridge = networks.usage("aaaa1111")[0].subnet.hosts().next().unwrap();
        inside(&a.netns, || sh(&format!("ip route add default via {bridge}")));
        assert!(shut_from(&a.netns, NEIGHBOUR, 9000));
        networks.close(true).unwrap();
    });
}

#[test]
fn containers_kept_apart_reach_only_the_host() {
    on_host(|| {
        let networks = open("0000c005");
        networks.create(&NetworkRequest { inter_container: false, ..dual("aaaa1111") }).unwrap();
        let a = sandbox(&networks, "a", vec![on("aaaa1111")], &[tcp(8080, 80)]);
        let b = sandbox(&networks, "b", vec![on("aaaa1111")], &[]);
        serve_both(&a.netns, 80, "a");
        assert!(shut_from(&b.netns, four(&a, 0), 80));
        assert!(shut_from(&b.netns, six(&a, 0), 80));
        assert_eq!(reach(four(&a, 0), 80).as_deref(), Some("a"));
        networks.close(true).unwrap();
    });
}

#[test]
fn networks_are_joined_and_left_while_the_container_runs() {
    on_host(|| {
        let networks = open("0000c006");
        networks.create(&NetworkRequest::new("aaaa1111", "a")).unwrap();
        networks.create(&NetworkRequest::new("bbbb2222", "b")).unwrap();
        let ports = [tcp(8080, 80)];
        let one = sandbox(&networks, "one", vec![on("bbbb2222")], &ports);
        let other = sandbox(&networks, "other", vec![on("aaaa1111")], &[]);
        serve_both(&one.netns, 80, "one");
        assert!(shut_from(&other.netns, four(&one, 0), 80));
        let (endpoint, published) =
            networks.connect("one", one.netns.as_fd(), &on("aaaa1111"), &ports).unwrap();
        assert_eq!((endpoint.interface.as_str(), &published), ("eth1", &one.ports));
        let ip = endpoint.ipv4.unwrap();
        assert_eq!(reach_from(&other.netns, ip.ip.into(), 80).as_deref(), Some("one"));
        // "a" comes before "b", so it is the way out now, and where the port leads.
        let route = inside(&one.netns, || sh("ip route show default"));
        assert!(route.contains(&format!("via {} dev eth1", ip.gateway.unwrap())), "{route}");
        assert!(sh("nft list map inet corten-0000c006 ports").contains(&ip.ip.to_string()));
        assert_eq!(reach(Ipv4Addr::LOCALHOST.into(), 8080).as_deref(), Some("one"));
        let again = networks.connect("one", one.netns.as_fd(), &on("aaaa1111"), &[]);
        assert!(matches!(again, Err(Error::AlreadyAttached(_))));
        assert!(matches!(networks.remove("aaaa1111"), Err(Error::NetworkInUse(_))));
        let left = networks.disconnect("one", "aaaa1111", Some(one.netns.as_fd()), &ports).unwrap();
        assert_eq!(left, one.ports);
        let route = inside(&one.netns, || sh("ip route show default; ip -o link"));
        assert!(route.contains("dev eth0") && !route.contains("eth1"), "{route}");
        assert_eq!(reach(Ipv4Addr::LOCALHOST.into(), 8080).as_deref(), Some("one"));
        // The last network goes, and the port with it; it comes back with the next.
        assert!(networks.disconnect("one", "bbbb2222", Some(one.netns.as_fd()), &ports).unwrap().is_empty());
        assert!(shut(LOOPBACK, 8080));
        let (endpoint, published) =
            networks.connect("one", one.netns.as_fd(), &on("aaaa1111"), &ports).unwrap();
        assert_eq!((endpoint.interface.as_str(), published.len()), ("eth0", 1));
        assert_eq!(reach(Ipv4Addr::LOCALHOST.into(), 8080).as_deref(), Some("one"));
        networks.detach("one").unwrap();
        networks.detach("other").unwrap();
        networks.remove("aaaa1111").unwrap();
        networks.remove("aaaa1111").unwrap();
        networks.close(true).unwrap();
    });
}

#[test]
fn what_fails_half_way_leaves_nothing() {
    on_host(|| {
        let networks = open("0000c007");
        let small = NetworkRequest {
            subnets: vec![SubnetRequest::new("10.9.9.0/30".parse().unwrap())],
            ..NetworkRequest::new("aaaa1111", "a")
        };
        networks.create(&small).unwrap();
        networks.create(&dual("bbbb2222")).unwrap();
        let taken = sandbox(&networks, "taken", vec![on("aaaa1111")], &[]);
        let free = |networks: &Engine| networks.usage("bbbb2222");
        // Beside them there is the default network's shelf.
        let ports = || {
            let links = sh("ip -o link show type veth");
            links.lines().filter(|link| link.contains("master b0000c007-")).count()
        };
        let (before, links) = (free(&networks), ports());
        // The second network has no address left.
        let both = SandboxRequest {
            container: "late".into(),
            endpoints: vec![on("bbbb2222"), on("aaaa1111")],
            ports: vec![tcp(8080, 80)],
        };
        assert!(matches!(networks.0.attach(&both), Err(Error::AddressesExhausted(_))));
        assert_eq!(free(&networks), before);
        // An interface's name that is taken in the container.
        let clash = EndpointRequest { interface: Some("eth0".into()), ..on("bbbb2222") };
        assert!(networks.connect("taken", taken.netns.as_fd(), &clash, &[]).is_err());
        // A port that is taken on the host.
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port =
            PortRequest { host_port: HostPort::Fixed(listener.local_addr().unwrap().port()), ..tcp(1, 80) };
        let request =
            SandboxRequest { container: "late".into(), endpoints: vec![on("bbbb2222")], ports: vec![port] };
        assert!(matches!(networks.0.attach(&request), Err(Error::PortInUse { .. })));
        eventually("nothing is left on the bridges", || ports() == links);
        // A network whose bridge is something else.
        sh("ip link add taken type veth peer name other");
        let bad = NetworkRequest { bridge: Some("taken".into()), ..NetworkRequest::new("cccc3333", "c") };
        assert!(matches!(networks.create(&bad), Err(Error::NotABridge(_))));
        assert!(matches!(
            networks.0.attach(&SandboxRequest {
                container: "x".into(),
                endpoints: vec![on("cccc3333")],
                ports: vec![]
            }),
            Err(Error::NoNetwork(_))
        ));
        networks.close(true).unwrap();
    });
}

#[test]
fn networks_and_their_containers_survive_the_engine() {
    on_host(|| {
        let networks = open("0000c008");
        let recorded = networks.create(&dual("aaaa1111")).unwrap();
        let unrecorded = networks.create(&NetworkRequest::new("bbbb2222", "b")).unwrap();
        let a = sandbox(&networks, "a", vec![on("aaaa1111"), on("default")], &[tcp(8080, 80)]);
        serve_both(&a.netns, 80, "a");
        let known =
            RestoredSandbox { container: "a".into(), endpoints: a.endpoints.clone(), ports: a.ports.clone() };
        networks.close(false).unwrap();
        drop(networks);
        let networks = open("0000c008");
        networks.add(&recorded).unwrap();
        assert_eq!(reach(Ipv4Addr::LOCALHOST.into(), 8080).as_deref(), Some("a"), "before it is restored");
        let failed = networks.restore(std::slice::from_ref(&known));
        assert!(failed.is_empty(), "{failed:?}");
        assert_eq!(networks.sandboxes(), [known]);
        assert!(!sh("ip -o link").contains(&unrecorded.bridge), "what nobody has recorded is gone");
        assert_eq!(reach(Ipv4Addr::LOCALHOST.into(), 8080).as_deref(), Some("a"));
        let b = sandbox(&networks, "b", vec![on("aaaa1111")], &[]);
        assert_ne!(four(&b, 0), four(&a, 0));
        assert_eq!(reach_from(&b.netns, six(&a, 0), 80).as_deref(), Some("a"));
        // A bridge that somebody deletes comes back with its ports.
        sh(&format!("ip link delete {}", recorded.bridge));
        networks.reconcile().unwrap();
        eventually("they reach each other again", || reach_from(&b.netns, four(&a, 0), 80).is_some());
        networks.close(true).unwrap();
    });
}

#[test]
fn settings_of_a_network_show_in_the_kernel() {
    on_host(|| {
        sh("ip link add br-mine type bridge; ip link set br-mine up");
        let networks = open("0000c009");
        let subnet = SubnetRequest {
            range: Some("10.8.1.0/24".parse().unwrap()),
            gateway: Some("10.8.0.9".parse().unwrap()),
            reserved: vec!["10.8.1.0".parse().unwrap()],
            ..SubnetRequest::new("10.8.0.0/16".parse().unwrap())
        };
        let second = SubnetRequest::new("10.7.0.0/24".parse().unwrap());
        let request = NetworkRequest {
            bridge: Some("br-mine".into()),
            subnets: vec![subnet, second],
            mtu: Some(1400),
            interface_prefix: Some("lan".into()),
            ..NetworkRequest::new("aaaa1111", "a")
        };
        let network = networks.create(&request).unwrap();
        assert!(!network.own_bridge);
        let wish = EndpointRequest {
            mac: Some("02:00:00:00:00:07".parse().unwrap()),
            sysctls: vec![("net/ipv4/conf/IFNAME/log_martians".into(), "1".into())],
            link_local: vec!["169.254.8.8".parse().unwrap()],
            ..on("aaaa1111")
        };
        let a = sandbox(&networks, "a", vec![wish], &[]);
        assert_eq!(four(&a, 0).to_string(), "10.8.1.1");
        let text = inside(&a.netns, || {
            sh(
                "ip -o link show lan0; ip -o addr show lan0; ip route show default; cat /proc/sys/net/ipv4/conf/lan0/log_martians",
            )
        });
        assert!(text.contains("mtu 1400") && text.contains("02:00:00:00:00:07"), "{text}");
        assert!(text.contains("169.254.8.8/16"), "{text}");
        assert!(text.contains("via 10.8.0.9") && text.trim_end().ends_with('1'), "{text}");
        let second = EndpointRequest { ipv4: Some("10.7.0.5".parse().unwrap()), ..on("aaaa1111") };
        let b = sandbox(&networks, "b", vec![second], &[]);
        serve_both(&b.netns, 80, "b");
        assert_eq!(
            reach_from(&a.netns, four(&b, 0), 80).as_deref(),
            Some("b"),
            "by the host, within the network"
        );
        networks.detach("a").unwrap();
        networks.detach("b").unwrap();
        networks.remove("aaaa1111").unwrap();
        assert!(sh("ip -o link").contains("br-mine"), "a bridge that was there stays");
        networks.close(true).unwrap();
    });
}
