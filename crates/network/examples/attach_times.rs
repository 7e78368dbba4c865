//! Measures attach and detach, warm and cold: `unshare -n cargo run --release -p corten-network --example attach_times`.

use std::time::{Duration, Instant};

use corten_network::{
    EndpointRequest, HostPort, NetworkRequest, Networks, PortRequest, SandboxRequest, Settings,
};

const ROUNDS: usize = 30;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let open = |instance: &str, warm_endpoints| {
        Networks::open(Settings { warm_endpoints, ..Settings::new(instance.parse()?) })
    };
    let port = PortRequest { container_port: 80, host_port: HostPort::Any, ..PortRequest::default() };
    let endpoint = EndpointRequest { network: "default".into(), ..EndpointRequest::default() };
    let own_address = EndpointRequest { ipv4: Some("172.30.77.7".parse()?), ..endpoint.clone() };
    let further = EndpointRequest { network: "further".into(), ..EndpointRequest::default() };
    let dual = EndpointRequest { network: "dual".into(), ..EndpointRequest::default() };
    let plain =
        SandboxRequest { container: "c".into(), endpoints: vec![endpoint], ..SandboxRequest::default() };
    let published = SandboxRequest { ports: vec![port], ..plain.clone() };
    let moved = SandboxRequest { endpoints: vec![own_address], ..plain.clone() };
    let other = SandboxRequest { endpoints: vec![further.clone()], ..plain.clone() };
    let two = SandboxRequest { endpoints: vec![further, dual.clone()], ..plain.clone() };
    let both = SandboxRequest { endpoints: vec![dual], ..plain.clone() };
    for (what, warm, request) in [
        ("warm", 4, &plain),
        ("warm, one published port", 4, &published),
        ("warm, an address of its own", 4, &moved),
        ("a further network", 4, &other),
        ("a further network, IPv6 too", 4, &both),
        ("two further networks", 4, &two),
        ("cold", 0, &plain),
        ("cold, one published port", 0, &published),
    ] {
        let networks = open("0e0a0001", warm)?;
        networks.create(&NetworkRequest::new("further", "further"))?;
        networks.create(&NetworkRequest { ipv6: true, ..NetworkRequest::new("dual", "dual") })?;
        let mut attach = Vec::new();
        let mut detach = Vec::new();
        for _ in 0..ROUNDS {
            networks.wait_until_warm(Duration::from_secs(10));
            let begin = Instant::now();
            let endpoint = networks.attach(request)?;
            attach.push(begin.elapsed());
            let begin = Instant::now();
            networks.detach("c")?;
            detach.push(begin.elapsed());
            drop(endpoint);
        }
        println!(
            "{what:28} attach {:>9.1?} detach {:>9.1?} (medians of {ROUNDS})",
            median(attach),
            median(detach)
        );
        networks.close(true)?;
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
