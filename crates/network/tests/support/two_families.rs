//! Containers in further networks, reached by either family.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use corten_network::{EndpointRequest, NetworkRequest, PortRequest, Sandbox, SandboxRequest};

use super::{Engine, PATIENCE, inside};

pub fn on(network: &str) -> EndpointRequest {
    EndpointRequest { network: network.into(), ..EndpointRequest::default() }
}

pub fn sandbox(
    networks: &Engine,
    container: &str,
    endpoints: Vec<EndpointRequest>,
    ports: &[PortRequest],
) -> Sandbox {
    let request = SandboxRequest { container: container.into(), endpoints, ports: ports.to_vec() };
    networks.0.attach(&request).unwrap()
}

pub fn four(sandbox: &Sandbox, index: usize) -> IpAddr {
    sandbox.endpoints[index].ipv4.unwrap().ip.into()
}

pub fn six(sandbox: &Sandbox, index: usize) -> IpAddr {
    sandbox.endpoints[index].ipv6.unwrap().ip.into()
}

/// Serves on both families.
pub fn serve_both(namespace: &OwnedFd, port: u16, name: &'static str) {
    let listener = inside(namespace, || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let _ = client.unwrap().write_all(name.as_bytes());
        }
    });
}

/// What the server at that address says; `None` when it cannot be reached.
pub fn reach(ip: IpAddr, port: u16) -> Option<String> {
    let address = SocketAddr::new(ip, port);
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

pub fn reach_from(namespace: &OwnedFd, ip: IpAddr, port: u16) -> Option<String> {
    inside(namespace, || reach(ip, port))
}

pub fn dual(id: &str) -> NetworkRequest {
    NetworkRequest { ipv6: true, ..NetworkRequest::new(id, id) }
}
