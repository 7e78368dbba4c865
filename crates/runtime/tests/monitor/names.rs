//! A monitor's name server, asked by the container that it stands beside.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_runtime::dns::names::Builder;
use corten_runtime::dns::{ADDRESS, NetworkNames, Resolver};
use corten_runtime::monitor::protocol::{Event, Request};
use corten_runtime::monitor::{Connection, read_state};
use corten_sys::netns;

use crate::fixture::{Container, Host, ask, eventually, is_root};

/// A network namespace, and two sockets at port 53 there.
pub fn network() -> (OwnedFd, [OwnedFd; 2]) {
    let made = std::thread::spawn(|| {
        netns::unshare().unwrap();
        netns::loopback_up().unwrap();
        (netns::current().unwrap(), open_sockets())
    });
    made.join().unwrap()
}

fn open_sockets() -> [OwnedFd; 2] {
    [UdpSocket::bind((ADDRESS, 53)).unwrap().into(), TcpListener::bind((ADDRESS, 53)).unwrap().into()]
}

/// Settings with one network, in which `name` has an address.
pub fn resolver(directory: &Path, name: &str, address: &str) -> Resolver {
    let mut names = Builder::default();
    names.address(name, address.parse().unwrap());
    let file: PathBuf = directory.join("names");
    std::fs::write(&file, names.build("net")).unwrap();
    let networks = vec![NetworkNames { file, links: Vec::new() }];
    Resolver { networks, internal: true, ..Resolver::default() }
}

/// What the container hears of a name; empty when it hears of none.
fn look_up(container: &mut Container, number: u32, name: &str) -> bool {
    let exec = format!("look{number}");
    let script = format!("nslookup -type=a {name} {ADDRESS} | grep -q 'Address: 10.9.9'");
    assert!(matches!(container.exec(&exec, &script, None, false), Event::ExecStarted { .. }));
    container.exec_code(&exec) == 0
}

#[test]
fn a_container_resolves_names_from_its_beginning_and_without_any_engine() {
    if !is_root() {
        return;
    }
    let mut host = Host::new();
    let (network, sockets) = network();
    let script = "nslookup -type=a web 127.0.0.11 >/tmp/first; cat /tmp/first; while :; do sleep 0.05; nslookup -type=a late 127.0.0.11 | grep 10.9.9.8 && exit 5; done";
    let mut launch = host.launch(script);
    launch.resolver = Some(resolver(host.dir.path(), "web", "10.9.9.9"));
    let container = host.start_with_names(launch, &network, &sockets);
    drop(sockets);
    container.started();
    eventually("the first name is found", || container.log().contains("10.9.9.9"));
    // No engine and no zygote: the file alone tells the news.
    let (state, run) = (container.launch.state_dir.clone(), container.launch.run_dir.clone());
    drop(container);
    drop(host.zygote.take());
    resolver(host.dir.path(), "late", "10.9.9.8");
    eventually("it has found the second name", || corten_runtime::monitor::read_exit(&state).is_ok());
    assert_eq!(corten_runtime::monitor::read_exit(&state).unwrap().code, 5);
    eventually("the monitor has gone", || !run.join("monitor.sock").exists());
}

#[test]
fn a_name_server_is_begun_changed_and_ended_while_the_container_runs() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let (network, sockets) = network();
    let mut launch = host.launch("sleep 1000");
    let settings = resolver(host.dir.path(), "web", "10.9.9.9");
    launch.resolver = None;
    let mut container = host.start_with_names(launch, &network, &sockets);
    container.started();
    let change = |container: &mut Container, resolver: Option<Resolver>, fds: &[OwnedFd]| {
        container.ask(|seq| Request::Resolve { seq, resolver }, fds)
    };
    let refused = change(&mut container, Some(settings.clone()), &[]);
    assert!(
        matches!(refused, Event::Refused { .. }),
        "sockets that came unasked for are not kept: {refused:?}"
    );
    assert!(matches!(change(&mut container, Some(settings.clone()), &sockets), Event::Done { .. }));
    assert!(look_up(&mut container, 1, "web"));
    assert!(!look_up(&mut container, 2, "db"));
    let mut more = settings.clone();
    more.networks[0].links = vec![corten_runtime::dns::Link { alias: "db".into(), name: "web".into() }];
    assert!(matches!(change(&mut container, Some(more), &[]), Event::Done { .. }));
    assert!(look_up(&mut container, 3, "db"));
    let again = Connection::open(&container.launch.run_dir).unwrap();
    let answer = ask(&again, Request::Resolve { seq: 77, resolver: None }, &[]);
    assert!(matches!(answer, Event::Done { seq: 77 }));
    drop(sockets);
    assert!(!look_up(&mut container, 4, "web"), "the sockets are closed");
    let one = [network.as_fd().try_clone_to_owned().unwrap()];
    assert!(matches!(change(&mut container, Some(settings), &one), Event::Refused { .. }));
    container.signal(9);
    container.exited();
    container.gone();
}

#[test]
fn what_a_container_s_names_need_goes_with_it() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let (network, sockets) = network();
    let mut launch = host.launch("sleep 1000");
    launch.resolver = Some(resolver(host.dir.path(), "web", "10.9.9.9"));
    let mut container = host.start_with_names(launch, &network, &sockets);
    container.started();
    eventually("state.json is there", || read_state(&container.launch.run_dir).is_ok());
    drop(sockets);
    container.signal(9);
    container.exited();
    // The address is free again the moment that the exit is told, although the monitor may still be there.
    let taken = std::thread::spawn(move || {
        netns::enter(network.as_fd()).unwrap();
        drop(open_sockets());
    });
    taken.join().unwrap();
    container.gone();
}
