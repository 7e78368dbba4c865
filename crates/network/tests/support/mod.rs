//! A host of its own for every test: a network namespace that dies with the test, other machines beside it, and
//! servers and clients in any of them. The real host's network is never touched.

#![allow(dead_code)]

pub mod two_families;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use corten_network::{
    EndpointRequest, HostPort, MacAddr, Networks, PortRequest, Protocol, PublishedPort, RestoredSandbox,
    Sandbox, SandboxRequest, Settings,
};
use corten_sys::netns;

/// How long what has to happen may take: on a busy machine a packet can be lost, and asked for again, several times.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long what must not happen is waited for.
const SILENCE: Duration = Duration::from_millis(600);

/// Runs `test` in a new host: lo is up, and a dummy uplink 192.0.2.2 carries the default route.
pub fn on_host(test: impl FnOnce() + Send) {
    assert!(rustix::process::geteuid().is_root(), "this test makes network namespaces: run it as root");
    std::thread::scope(|scope| {
        let run = || {
            netns::unshare().unwrap();
            sh("ip link set lo up");
            test();
        };
        if let Err(panic) = scope.spawn(run).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Another machine: 192.0.2.9, on the wire of the host's eth0, 192.0.2.2.
pub fn neighbour() -> OwnedFd {
    let machine = new_namespace();
    sh("ip link add eth0 type veth peer name far");
    move_link("far", &machine);
    sh("ip addr add 192.0.2.2/24 dev eth0; ip link set eth0 up; ip route add default via 192.0.2.9");
    inside(&machine, || sh("ip link set lo up; ip addr add 192.0.2.9/24 dev far; ip link set far up"));
    machine
}

pub fn new_namespace() -> OwnedFd {
    let spawned = std::thread::spawn(|| {
        netns::unshare().unwrap();
        netns::current().unwrap()
    });
    spawned.join().unwrap()
}

fn move_link(link: &str, machine: &OwnedFd) {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/{}/fd/{}", std::process::id(), machine.as_raw_fd());
    sh(&format!("ip link set {link} netns {path}"));
}

/// Runs `work` on a thread in that namespace.
pub fn inside<T: Send>(namespace: &OwnedFd, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let run = || {
            netns::enter(namespace.as_fd()).unwrap();
            work()
        };
        scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs a shell command in the calling thread's namespace; returns what it prints.
pub fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-ec", command]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command}: {}", text(&output.stderr));
    text(&output.stdout)
}

pub fn settings(instance: &str) -> Settings {
    Settings::new(instance.parse().unwrap())
}

/// Networks of which most tests use the default one only.
pub struct Engine(pub Networks);

impl Deref for Engine {
    type Target = Networks;

    fn deref(&self) -> &Networks {
        &self.0
    }
}

pub fn open(instance: &str) -> Engine {
    Engine(Networks::open(settings(instance)).unwrap())
}

/// One endpoint of the default network.
#[derive(Default, Clone)]
pub struct AttachRequest {
    pub container: String,
    pub ip: Option<Ipv4Addr>,
    pub mac: Option<MacAddr>,
    pub ports: Vec<PortRequest>,
}

#[derive(Debug)]
pub struct Attached {
    pub netns: OwnedFd,
    pub ip: Ipv4Addr,
    pub prefix_len: u8,
    pub gateway: Ipv4Addr,
    pub mac: MacAddr,
    pub host_interface: String,
    pub ports: Vec<PublishedPort>,
    pub sandbox: RestoredSandbox,
}

impl Engine {
    pub fn attach(&self, request: &AttachRequest) -> corten_network::Result<Attached> {
        Ok(attached(&request.container, self.0.attach(&self.sandbox_request(request))?))
    }

    pub fn attach_into(
        &self,
        netns: BorrowedFd<'_>,
        request: &AttachRequest,
    ) -> corten_network::Result<Attached> {
        Ok(attached(&request.container, self.0.attach_into(netns, &self.sandbox_request(request))?))
    }

    fn sandbox_request(&self, request: &AttachRequest) -> SandboxRequest {
        let AttachRequest { container, ip, mac, ports } = request.clone();
        let network = self.nat().id.clone();
        let endpoint = EndpointRequest { network, ipv4: ip, mac, ..EndpointRequest::default() };
        SandboxRequest { container, endpoints: vec![endpoint], ports }
    }
}

fn attached(container: &str, sandbox: Sandbox) -> Attached {
    let Sandbox { netns, endpoints, ports } = sandbox;
    let endpoint = &endpoints[0];
    let ipv4 = endpoint.ipv4.unwrap();
    Attached {
        netns,
        ip: ipv4.ip,
        prefix_len: ipv4.prefix_len,
        gateway: ipv4.gateway.unwrap(),
        mac: endpoint.mac,
        host_interface: endpoint.host_interface.clone(),
        ports: ports.clone(),
        sandbox: RestoredSandbox { container: container.to_owned(), endpoints: endpoints.clone(), ports },
    }
}

pub fn request(container: &str, ports: &[PortRequest]) -> AttachRequest {
    AttachRequest { container: container.into(), ports: ports.to_vec(), ..AttachRequest::default() }
}

pub fn port(host: u16, container: u16, protocol: Protocol) -> PortRequest {
    PortRequest { container_port: container, protocol, host_ip: None, host_port: HostPort::Fixed(host) }
}

pub fn tcp(host: u16, container: u16) -> PortRequest {
    port(host, container, Protocol::Tcp)
}

pub fn tcp_on(ip: &str, host: u16, container: u16) -> PortRequest {
    PortRequest { host_ip: Some(ip.parse().unwrap()), ..tcp(host, container) }
}

/// Serves TCP in that namespace: sends `name` and the client's address to whoever connects. Ends with the test.
pub fn serve(namespace: &OwnedFd, port: u16, name: &'static str) {
    let listener = inside(namespace, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let from = client.peer_addr().unwrap().ip();
            let _ = client.write_all(format!("{name} {from}").as_bytes());
        }
    });
}

/// What the server at that address says; `None` when it cannot be reached.
pub fn ask(ip: Ipv4Addr, port: u16) -> Option<String> {
    two_families::reach(ip.into(), port)
}

pub fn ask_from(namespace: &OwnedFd, ip: Ipv4Addr, port: u16) -> Option<String> {
    inside(namespace, || ask(ip, port))
}

/// Whether nobody takes a connection there.
pub fn shut(ip: impl Into<IpAddr>, port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::new(ip.into(), port), SILENCE).is_err()
}

pub fn shut_from(namespace: &OwnedFd, ip: impl Into<IpAddr>, port: u16) -> bool {
    let ip = ip.into();
    inside(namespace, || shut(ip, port))
}

/// Until it is true; the state of the kernel changes behind our back here.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Serves UDP in that namespace: answers each datagram with `name`.
pub fn serve_udp(namespace: &OwnedFd, port: u16, name: &'static str) {
    let socket = inside(namespace, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, client)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(name.as_bytes(), client);
        }
    });
}

pub fn udp_client(namespace: &OwnedFd) -> UdpSocket {
    let socket = inside(namespace, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

pub fn ask_udp(socket: &UdpSocket, ip: Ipv4Addr, port: u16) -> Option<String> {
    socket.send_to(b"who", (ip, port)).ok()?;
    let mut buffer = [0; 64];
    let (length, _) = socket.recv_from(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Whether nobody answers a datagram.
pub fn silent_udp(socket: &UdpSocket, ip: Ipv4Addr, port: u16) -> bool {
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    let silent = ask_udp(socket, ip, port).is_none();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    silent
}

/// The calling thread's namespace.
pub fn here() -> OwnedFd {
    netns::current().unwrap()
}

pub const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
pub const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
