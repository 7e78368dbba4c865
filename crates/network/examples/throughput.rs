//! Measures one TCP stream with iperf3 over loopback, the bridge and a published port, each as a share of loopback:
//! `unshare -n cargo run --release -p corten-network --example throughput`.

use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use corten_network::{EndpointRequest, HostPort, Networks, PortRequest, SandboxRequest, Settings};
use corten_sys::netns;

const SECONDS: &str = "3";
const ROUNDS: usize = 3;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
    let networks = Networks::open(Settings::new("0e0a0002".parse()?))?;
    let port =
        PortRequest { container_port: 5201, host_port: HostPort::Fixed(5301), ..PortRequest::default() };
    let endpoint = EndpointRequest { network: networks.nat().id.clone(), ..EndpointRequest::default() };
    let request = SandboxRequest { container: "c".into(), endpoints: vec![endpoint], ports: vec![port] };
    let endpoint = networks.attach(&request)?;
    let mut servers = vec![serve()?];
    let served = std::thread::scope(|scope| {
        let inside = || -> Result<Child, Failure> {
            netns::enter(endpoint.netns.as_fd())?;
            serve()
        };
        scope.spawn(inside).join()
    });
    servers.push(served.map_err(|_| "the server's thread panicked")??);
    std::thread::sleep(Duration::from_millis(300));
    let container = endpoint.endpoints[0].ipv4.ok_or("no address")?.ip.to_string();
    let paths = [
        ("loopback", "127.0.0.1", "5201", false),
        ("host to container", &container, "5201", false),
        ("container to host", &container, "5201", true),
        ("published port on 127.0.0.1", "127.0.0.1", "5301", false),
        ("the same, backwards", "127.0.0.1", "5301", true),
    ];
    let mut best = vec![0.0f64; paths.len()];
    for _ in 0..ROUNDS {
        for (best, (_, address, port, reverse)) in best.iter_mut().zip(&paths) {
            *best = best.max(stream(address, port, *reverse)?);
        }
    }
    for ((what, ..), gigabits) in paths.iter().zip(&best) {
        println!("{what:28} {gigabits:6.1} Gbit/s  {:.2} of loopback", gigabits / best[0]);
    }
    for mut server in servers {
        server.kill()?;
        server.wait()?;
    }
    Ok(networks.close(true)?)
}

fn serve() -> Result<Child, Failure> {
    Ok(Command::new("iperf3").args(["-s"]).stdout(Stdio::null()).spawn()?)
}

/// One stream's rate at the receiver, in Gbit/s.
fn stream(address: &str, port: &str, reverse: bool) -> Result<f64, Failure> {
    let mut command = Command::new("iperf3");
    command.args(["-J", "-t", SECONDS, "-c", address, "-p", port]);
    if reverse {
        command.arg("-R");
    }
    let report: serde_json::Value = serde_json::from_slice(&command.output()?.stdout)?;
    let rate = report["end"]["sum_received"]["bits_per_second"].as_f64().ok_or("no result from iperf3")?;
    Ok(rate / 1e9)
}
