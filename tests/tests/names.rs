//! Names of containers, asked for inside of them.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use corten_tests::{TestEngine, eventually, run};

/// An engine with a network `shop`; gives the network's gateway.
fn shop() -> (TestEngine, String) {
    let engine = TestEngine::with_busybox();
    engine.corten(&["network", "create", "shop"]).ok();
    let gateway =
        engine.corten(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "shop"]).ok();
    (engine, gateway)
}

fn idle(engine: &TestEngine, name: &str, options: &[&str]) {
    engine.background(name, options, "exec sleep 1000");
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dns.py")
}

/// A command that runs in a container's network, but with the host's programs.
fn within(engine: &TestEngine, container: &str, arguments: &[&str]) -> String {
    let pid = engine.corten(&["inspect", "-f", "{{.State.Pid}}", container]).ok();
    within_process(&pid, arguments)
}

fn within_process(pid: &str, arguments: &[&str]) -> String {
    run(Command::new("nsenter").args(["-t", pid, "-n", "python3"]).arg(script()).args(arguments)).ok()
}

fn ask(engine: &TestEngine, container: &str, name: &str, kind: &str) -> String {
    within(engine, container, &["ask", "127.0.0.11", name, kind])
}

fn address(engine: &TestEngine, container: &str, network: &str) -> String {
    let format =
        format!("{{{{with index .NetworkSettings.Networks \"{network}\"}}}}{{{{.IPAddress}}}}{{{{end}}}}");
    engine.docker(&["inspect", "-f", &format, container]).ok()
}

fn resolver_file(engine: &TestEngine, container: &str) -> String {
    engine.corten(&["exec", container, "cat", "/etc/resolv.conf"]).ok()
}

/// A server of the world outside, which ends with the test.
struct Outside(Child);

impl Outside {
    fn at(address: &str) -> Self {
        let mut server = Command::new("python3");
        let mut child = server.arg(script()).args(["serve", address]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn containers_find_each_other_by_name_alias_and_id() {
    let (engine, _) = shop();
    idle(
        &engine,
        "web",
        &["--network", "shop", "--network-alias", "site", "--network-alias", "Www.Shop.Example"],
    );
    idle(&engine, "client", &["--network", "name=shop,alias=asker", "--hostname", "desk"]);
    let web = address(&engine, "web", "shop");
    let id = engine.corten(&["inspect", "-f", "{{slice .Id 0 12}}", "web"]).ok();
    for name in ["web", "WEB", "site", "www.shop.example", "web.shop", &id] {
        assert_eq!(ask(&engine, "client", name, "A"), format!("NOERROR {web}"), "{name}");
        assert_eq!(ask(&engine, "client", name, "AAAA"), "NOERROR", "{name}");
    }
    assert_eq!(ask(&engine, "client", "web", "HTTPS"), "NOERROR");
    let client = address(&engine, "client", "shop");
    for name in ["client", "asker", "desk"] {
        assert_eq!(ask(&engine, "web", name, "A"), format!("NOERROR {client}"), "{name}");
    }
    let reverse: Vec<&str> = web.rsplit('.').collect();
    let reverse = format!("{}.in-addr.arpa", reverse.join("."));
    assert_eq!(ask(&engine, "client", &reverse, "PTR"), "NOERROR web.shop");
    assert_eq!(
        within(&engine, "client", &["ask", "127.0.0.11", "web", "A", "tcp"]),
        format!("NOERROR {web}")
    );
    // The C library's own way, through the container's files.
    let file = resolver_file(&engine, "client");
    assert!(file.starts_with("nameserver 127.0.0.11\n") && file.contains("ndots:0"), "{file}");
    engine.corten(&["exec", "web", "sh", "-c", "echo hello > /index.html"]).ok();
    engine.corten(&["exec", "-d", "web", "httpd", "-f", "-h", "/"]).ok();
    eventually("by its name", || {
        engine.docker(&["exec", "client", "wget", "-qO-", "http://web/"]).stdout == "hello\n"
    });
    engine.corten(&["rename", "web", "store"]).ok();
    assert_eq!(ask(&engine, "client", "store", "A"), format!("NOERROR {web}"));
    let shared = engine.corten(&[
        "run",
        "--rm",
        "--network",
        "container:client",
        "busybox",
        "nslookup",
        "-type=a",
        "store",
    ]);
    assert!(shared.ok().contains(&web), "who shares the network shares the names");
}

#[test]
fn services_have_the_addresses_of_all_their_containers_in_turn() {
    let (engine, _) = shop();
    for name in ["one", "two", "three"] {
        idle(&engine, name, &["--network", "shop", "--network-alias", "service"]);
    }
    let answers: Vec<Vec<String>> = (0..6)
        .map(|_| ask(&engine, "one", "service", "A").split(' ').skip(1).map(str::to_owned).collect())
        .collect();
    let mut firsts: Vec<&String> = answers.iter().map(|answer| &answer[0]).collect();
    firsts.sort();
    firsts.dedup();
    assert_eq!(firsts.len(), 3, "{answers:?}");
    assert!(answers.iter().all(|answer| answer.len() == 3));
    engine.corten(&["stop", "-t", "0", "two"]).ok();
    assert_eq!(ask(&engine, "one", "service", "A").split(' ').count(), 3, "the code and two addresses");
    engine.corten(&["start", "two"]).ok();
    assert_eq!(ask(&engine, "one", "service", "A").split(' ').count(), 4);
    engine.corten(&["rm", "-f", "two", "three"]).ok();
    assert_eq!(ask(&engine, "one", "service", "A"), format!("NOERROR {}", address(&engine, "one", "shop")));
}

#[test]
fn other_names_are_asked_of_other_servers() {
    let (engine, gateway) = shop();
    let _outside = Outside::at(&gateway);
    idle(&engine, "client", &["--network", "shop", "--dns", &gateway, "--dns-search", "corp.example"]);
    assert_eq!(ask(&engine, "client", "example.org", "A"), "NOERROR 192.0.2.7");
    assert_eq!(
        within(&engine, "client", &["ask", "127.0.0.11", "example.org", "A", "tcp"]),
        "NOERROR 192.0.2.8"
    );
    let client = address(&engine, "client", "shop");
    assert_eq!(ask(&engine, "client", "client", "A"), format!("NOERROR {client}"), "its own are not");
    let file = resolver_file(&engine, "client");
    assert!(file.starts_with("nameserver 127.0.0.11\nsearch corp.example\n"), "{file}");
    // A name without a dot stays when somebody wants search domains first.
    idle(&engine, "dots", &["--network", "shop", "--dns", &gateway, "--dns-option", "ndots:1"]);
    assert_eq!(ask(&engine, "dots", "nobody", "A"), "NOERROR");
    assert_eq!(ask(&engine, "dots", "nobody.example", "A"), "NOERROR 192.0.2.7");
}

#[test]
fn an_internal_network_has_names_and_no_servers_of_the_host() {
    let engine = TestEngine::with_busybox();
    engine.docker(&["network", "create", "--internal", "vault"]).ok();
    idle(&engine, "safe", &["--network", "vault"]);
    idle(&engine, "client", &["--network", "vault"]);
    assert_eq!(ask(&engine, "client", "safe", "A"), format!("NOERROR {}", address(&engine, "safe", "vault")));
    assert_eq!(ask(&engine, "client", "example.org", "A"), "SERVFAIL");
    // A server within the network may be asked.
    let safe = address(&engine, "safe", "vault");
    idle(&engine, "given", &["--network", "vault", "--dns", &safe]);
    let pid = engine.corten(&["inspect", "-f", "{{.State.Pid}}", "safe"]).ok();
    let mut server = Command::new("nsenter");
    server.args(["-t", &pid, "-n", "python3"]).arg(script()).args(["serve", &safe]).stdout(Stdio::piped());
    let mut child = server.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let _server = Outside(child);
    assert_eq!(ask(&engine, "given", "example.org", "A"), "NOERROR 192.0.2.7");
}

#[test]
fn names_come_and_go_with_connections() {
    let (engine, gateway) = shop();
    engine.corten(&["network", "create", "back"]).ok();
    idle(&engine, "web", &["--network", "shop"]);
    idle(&engine, "db", &["--network", "back"]);
    let plain = ["--dns", gateway.as_str()];
    idle(&engine, "late", &plain);
    let before = resolver_file(&engine, "late");
    assert_eq!(before, format!("nameserver {gateway}"));
    engine.corten(&["network", "connect", "--alias", "caller", "--link", "web:front", "shop", "late"]).ok();
    let (web, late) = (address(&engine, "web", "shop"), address(&engine, "late", "shop"));
    assert!(resolver_file(&engine, "late").starts_with("nameserver 127.0.0.11\n"));
    for name in ["web", "front"] {
        assert_eq!(ask(&engine, "late", name, "A"), format!("NOERROR {web}"), "{name}");
    }
    for name in ["late", "caller"] {
        assert_eq!(ask(&engine, "web", name, "A"), format!("NOERROR {late}"), "{name}");
    }
    let strange = ask(&engine, "web", "front", "A");
    assert!(!strange.contains(&web), "a link is for its container only: {strange}");
    // A second network, and its names.
    assert!(!ask(&engine, "late", "db", "A").starts_with("NOERROR 1"));
    engine.docker(&["network", "connect", "--alias", "caller", "back", "late"]).ok();
    let db = address(&engine, "db", "back");
    assert_eq!(ask(&engine, "late", "db", "A"), format!("NOERROR {db}"));
    assert_eq!(ask(&engine, "db", "caller", "A"), format!("NOERROR {}", address(&engine, "late", "back")));
    engine.docker(&["network", "disconnect", "shop", "late"]).ok();
    assert!(!ask(&engine, "late", "web", "A").contains(&web));
    assert!(!ask(&engine, "web", "late", "A").contains(&late));
    assert_eq!(ask(&engine, "late", "db", "A"), format!("NOERROR {db}"));
    engine.corten(&["network", "disconnect", "back", "late"]).ok();
    assert_eq!(resolver_file(&engine, "late"), before, "as it was");
}

#[test]
fn an_edited_resolver_file_is_left_alone() {
    let (engine, _) = shop();
    idle(&engine, "own", &[]);
    engine.corten(&["exec", "own", "sh", "-c", "echo nameserver 192.0.2.1 > /etc/resolv.conf"]).ok();
    engine.corten(&["network", "connect", "shop", "own"]).ok();
    assert_eq!(resolver_file(&engine, "own"), "nameserver 192.0.2.1");
    let own = address(&engine, "own", "shop");
    assert_eq!(ask(&engine, "own", "own", "A"), format!("NOERROR {own}"), "its server is there all the same");
}

#[test]
fn names_are_resolved_while_no_engine_runs_and_right_again_after() {
    let (mut engine, gateway) = shop();
    let _outside = Outside::at(&gateway);
    for name in ["web", "client", "gone"] {
        idle(&engine, name, &["--network", "shop", "--dns", &gateway]);
    }
    let (web, gone) = (address(&engine, "web", "shop"), address(&engine, "gone", "shop"));
    let pids: Vec<String> =
        ["client", "gone"].map(|name| engine.corten(&["inspect", "-f", "{{.State.Pid}}", name]).ok()).into();
    engine.kill();
    let ask_dead = |name: &str| within_process(&pids[0], &["ask", "127.0.0.11", name, "A"]);
    assert_eq!(ask_dead("web"), format!("NOERROR {web}"));
    assert_eq!(ask_dead("example.org"), "NOERROR 192.0.2.7");
    assert_eq!(ask_dead("gone"), format!("NOERROR {gone}"));
    run(Command::new("kill").args(["-9", &pids[1]])).ok();
    engine.restart();
    eventually("the name of a container that ended meanwhile goes", || {
        !ask(&engine, "client", "gone", "A").contains(&gone)
    });
    assert_eq!(ask(&engine, "client", "web", "A"), format!("NOERROR {web}"));
    idle(&engine, "new", &["--network", "shop"]);
    assert_eq!(ask(&engine, "client", "new", "A"), format!("NOERROR {}", address(&engine, "new", "shop")));
    engine.corten(&["restart", "-t", "0", "client"]).ok();
    assert_eq!(ask(&engine, "client", "web", "A"), format!("NOERROR {web}"));
}

/// Whatever the kill interrupted: afterwards the container is in the network, with all its names, or it is not.
#[test]
fn a_kill_while_networks_change_leaves_names_that_fit_the_networks() {
    let (mut engine, gateway) = shop();
    idle(&engine, "web", &["--network", "shop"]);
    idle(&engine, "late", &["--dns", &gateway]);
    let web = address(&engine, "web", "shop");
    let (mut joined, mut apart) = (0, 0);
    for round in 0..12 {
        let inside = address(&engine, "late", "shop").starts_with(|c: char| c.is_ascii_digit());
        let change = if inside { "disconnect" } else { "connect" };
        let mut command = engine.command(&["network", change, "shop", "late"]);
        let mut client = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Each round a little later on its way.
        std::thread::sleep(std::time::Duration::from_micros(1500 * round));
        engine.kill();
        client.wait().unwrap();
        engine.restart();
        let inside = address(&engine, "late", "shop").starts_with(|c: char| c.is_ascii_digit());
        let file = resolver_file(&engine, "late");
        if inside {
            joined += 1;
            assert!(file.starts_with("nameserver 127.0.0.11\n"), "{round}: {file}");
            assert_eq!(ask(&engine, "late", "web", "A"), format!("NOERROR {web}"), "{round}");
            let late = address(&engine, "late", "shop");
            assert_eq!(ask(&engine, "web", "late", "A"), format!("NOERROR {late}"), "{round}");
        } else {
            apart += 1;
            assert_eq!(file, format!("nameserver {gateway}"), "{round}");
            assert!(!ask(&engine, "web", "late", "A").starts_with("NOERROR 1"), "{round}");
        }
    }
    println!("{joined} times in the network, {apart} times not");
}

#[test]
fn a_container_may_have_port_53_for_itself() {
    let (engine, _) = shop();
    idle(&engine, "web", &["--network", "shop"]);
    engine.background("server", &["--network", "shop"], "nc -l -p 53 -e echo own & exec sleep 1000");
    let (web, server) = (address(&engine, "web", "shop"), address(&engine, "server", "shop"));
    eventually("its own server answers", || {
        engine.corten(&["exec", "web", "nc", "-w", "2", "server", "53"]).stdout == "own\n"
    });
    assert_eq!(ask(&engine, "server", "web", "A"), format!("NOERROR {web}"));
    assert_eq!(ask(&engine, "web", "server", "A"), format!("NOERROR {server}"));
    assert_eq!(
        within(&engine, "server", &["ask", "127.0.0.11", "web", "A", "tcp"]),
        format!("NOERROR {web}")
    );
}

#[test]
fn who_shares_a_network_has_its_names_as_they_change() {
    let (engine, _) = shop();
    idle(&engine, "web", &[]);
    idle(&engine, "sidecar", &["--network", "container:web"]);
    let file = |container: &str, name: &str| engine.corten(&["exec", container, "cat", name]).ok();
    let before = file("sidecar", "/etc/hosts");
    engine.corten(&["network", "connect", "shop", "web"]).ok();
    for name in ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname"] {
        assert_eq!(file("sidecar", name), file("web", name), "{name}");
    }
    assert_ne!(file("sidecar", "/etc/hosts"), before);
    assert!(file("sidecar", "/etc/resolv.conf").starts_with("nameserver 127.0.0.11"));
    let path = |container: &str| engine.corten(&["inspect", "-f", "{{.HostsPath}}", container]).ok();
    assert_eq!(path("sidecar"), path("web"));
    engine.corten(&["stop", "-t", "0", "sidecar"]).ok();
    assert_eq!(engine.corten(&["cp", "sidecar:/etc/hosts", "-"]).code, 0);
}
