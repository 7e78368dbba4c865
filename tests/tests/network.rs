//! The default network and published ports.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;

use corten_tests::{TestEngine, eventually, free_port, run};

fn fetch(address: &str) -> String {
    run(Command::new("curl").args(["-s", "--max-time", "30", &format!("http://{address}/")])).stdout
}

fn serve(engine: &TestEngine, name: &str, options: &[&str]) {
    let script = format!("echo {name} > /index.html; httpd -f -p 80 -h /");
    let args = [&["run", "-d", "--name", name], options, &["busybox", "sh", "-c", &script]].concat();
    engine.corten(&args).ok();
}

#[test]
fn containers_reach_each_other_and_the_host_reaches_them() {
    let engine = TestEngine::with_busybox();
    serve(&engine, "web", &[]);
    let ip = engine
        .docker(&["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "web"])
        .ok();
    // As scripts have asked for it for ten years.
    for client in [TestEngine::corten, TestEngine::docker] {
        let old = "{{.NetworkSettings.IPAddress}}/{{.NetworkSettings.IPPrefixLen}}";
        assert_eq!(client(&engine, &["inspect", "-f", old, "web"]).ok(), format!("{ip}/24"));
    }
    eventually("the server answers the host", || fetch(&ip) == "web\n");
    let url = format!("http://{ip}/");
    assert_eq!(engine.corten(&["run", "--rm", "busybox", "wget", "-qO-", &url]).ok(), "web");
    assert!(engine.corten(&["network", "inspect", "bridge"]).ok().contains(&ip));
    assert_eq!(
        engine.docker(&["network", "ls", "--format", "{{.Name}} {{.Driver}}"]).ok(),
        "bridge bridge\nhost host\nnone null"
    );
}

#[test]
fn ports_are_published_in_every_form() {
    let engine = TestEngine::with_busybox();
    serve(&engine, "any", &["-p", "80"]);
    let port = engine.docker(&["port", "any", "80/tcp"]).ok();
    let number = port.lines().next().unwrap().rsplit(':').next().unwrap().to_owned();
    eventually("by 127.0.0.1", || fetch(&format!("127.0.0.1:{number}")) == "any\n");
    let gateway =
        engine.corten(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge"]).ok();
    assert_eq!(fetch(&format!("{gateway}:{number}")), "any\n", "by an address of the host");
    let hairpin = format!("http://{gateway}:{number}/");
    assert_eq!(
        engine.corten(&["exec", "any", "wget", "-qO-", &hairpin]).ok(),
        "any",
        "from the container itself"
    );
    assert_eq!(
        engine.corten(&["run", "--rm", "busybox", "wget", "-qO-", &hairpin]).ok(),
        "any",
        "from another one"
    );
    engine.corten(&["rm", "-f", "any"]).ok();
    assert!(TcpStream::connect(format!("127.0.0.1:{number}")).is_err(), "nothing listens any more");
    serve(&engine, "all", &["--expose", "80", "-P"]);
    assert!(engine.corten(&["port", "all"]).ok().starts_with("80/tcp -> "));
}

#[test]
fn udp_is_published_too() {
    let engine = TestEngine::start();
    engine.corten(&["image", "create-base", "base:1"]).ok();
    let echo = "use Socket; socket(S, PF_INET, SOCK_DGRAM, 0); bind(S, sockaddr_in(9, INADDR_ANY)) or die; while ($from = recv(S, $b, 999, 0)) { send(S, $b, 0, $from) }";
    engine
        .corten(&["run", "-d", "--name", "echo", "-p", "127.0.0.1::9/udp", "base:1", "perl", "-e", echo])
        .ok();
    let address = engine.corten(&["port", "echo", "9/udp"]).ok();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    eventually("the datagram comes back", || {
        socket.send_to(b"ping", &address).unwrap();
        let mut buffer = [0; 16];
        socket.recv(&mut buffer).is_ok_and(|n| &buffer[..n] == b"ping")
    });
}

#[test]
fn a_taken_port_is_named_with_its_owner() {
    let engine = TestEngine::with_busybox();
    let port = free_port();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let publish = format!("127.0.0.1:{port}:80");
    let refused =
        engine.corten(&["run", "-d", "--name", "late", "-p", &publish, "busybox", "true"]).fails(125);
    assert!(refused.contains(&port.to_string()) && refused.contains("in use"), "{refused}");
    drop(listener);
    engine.corten(&["start", "late"]).ok();
    serve(&engine, "first", &["-p", "127.0.0.1::80"]);
    let taken = engine.corten(&["port", "first", "80"]).ok();
    let refused = engine.docker(&["run", "-d", "-p", &format!("{taken}:80"), "busybox", "true"]);
    assert!(refused.fails(125).contains("port is already allocated (by container first)"));
    let nowhere = engine.corten(&["run", "--rm", "-p", "192.0.2.1::80", "busybox", "true"]).fails(125);
    assert!(nowhere.contains("hint: no interface of the engine's host has that address"), "{nowhere}");
}

#[test]
fn engines_live_side_by_side() {
    let (one, two) = (TestEngine::with_busybox(), TestEngine::with_busybox());
    assert_ne!(one.instance(), two.instance());
    for engine in [&one, &two] {
        serve(engine, "web", &["-p", "127.0.0.1::80"]);
    }
    for engine in [&one, &two] {
        let address = engine.corten(&["port", "web", "80"]).ok();
        eventually("both answer", || fetch(&address) == "web\n");
    }
}
