//! Networks that users make: by docker's command line and by the API, while containers run, and through a killed engine.

use std::process::Command;
use std::time::Duration;

use corten_tests::http::Connection;
use corten_tests::{TestEngine, eventually, free_subnet, now_s, run};
use serde_json::{Value, json};

fn inspect(engine: &TestEngine, name: &str) -> Value {
    let text = engine.docker(&["inspect", name]).ok();
    serde_json::from_str::<Value>(&text).expect("JSON")[0].take()
}

fn network(engine: &TestEngine, name: &str) -> Value {
    let text = engine.curl(&[], &format!("/networks/{name}")).ok();
    serde_json::from_str(&text).expect("JSON")
}

fn post(engine: &TestEngine, path: &str, body: &Value) -> (u16, Value) {
    let text = body.to_string();
    let header = "Content-Type: application/json";
    let output = engine.curl(&["-X", "POST", "-H", header, "-d", &text, "-w", "\n%{http_code}"], path).ok();
    let (body, status) = output.rsplit_once('\n').unwrap_or(("", &output));
    (status.parse().expect("a status"), serde_json::from_str(body).unwrap_or(Value::Null))
}

fn fetch(address: &str) -> String {
    run(Command::new("curl").args(["-gs", "--max-time", "30", &format!("http://{address}/")])).stdout
}

const SERVE: &str = "hostname > /index.html; httpd -f -p 80 -h /";

#[test]
fn docker_makes_shows_and_removes_networks() {
    let engine = TestEngine::with_busybox();
    let [a, b, c, _] = free_subnet().octets();
    let (subnet, range) = (format!("{a}.{b}.{c}.0/24"), format!("{a}.{b}.{c}.64/26"));
    let (gateway, other) = (format!("{a}.{b}.{c}.126"), format!("{a}.{b}.{c}.70"));
    let (reserved, half) = (format!("a={other}"), format!("{a}.{b}.{c}.128/25"));
    let options = [
        &["network", "create", "--subnet", &subnet, "--ip-range", &range][..],
        &["--gateway", &gateway, "--aux-address", &reserved, "--label", "env=test"],
        &["-o", "com.docker.network.driver.mtu=1400", "-o", "com.example.mine=1", "web"],
    ];
    let id = engine.docker(&options.concat()).ok();
    let shown = network(&engine, "web");
    assert_eq!(shown["Id"], id.as_str());
    assert_eq!(
        shown["IPAM"],
        json!({"Driver": "default", "Options": {}, "Config": [{
            "Subnet": subnet, "IPRange": range, "Gateway": gateway, "AuxiliaryAddresses": {"a": other},
        }]})
    );
    assert_eq!(shown["Options"]["com.example.mine"], "1");
    assert_eq!(shown["Status"]["IPAM"]["Subnets"][&subnet]["DynamicIPsAvailable"], 62);
    engine.docker(&["network", "create", "--ipv6", "--internal", "--attachable", "six"]).ok();
    let six = network(&engine, "six");
    assert_eq!(
        (&six["EnableIPv6"], &six["Internal"], &six["Attachable"]),
        (&json!(true), &json!(true), &json!(true))
    );
    assert_eq!(six["IPAM"]["Config"].as_array().map(Vec::len), Some(2));
    let list = |filters: &[&str]| {
        let format = ["network", "ls", "--format", "{{.Name}}"];
        engine.docker(&[&format[..], filters].concat()).ok().replace('\n', " ")
    };
    assert_eq!(list(&[]), "bridge host none six web");
    assert_eq!(list(&["-f", "type=custom"]), "six web");
    assert_eq!(list(&["-f", "label=env=test"]), "web");
    assert_eq!(list(&["-f", &format!("id={}", &id[..12])]), "web");
    assert_eq!(list(&["-f", "dangling=false"]), "bridge host none");
    let refused = |args: &[&str]| engine.docker(&[&["network"][..], args].concat()).fails(1);
    assert!(refused(&["create", "web"]).contains("network with name web already exists"));
    assert!(refused(&["create", "host"]).contains("operation is not permitted on predefined host network"));
    assert!(refused(&["create", "-d", "macvlan", "x"]).contains("\"macvlan\" is not supported yet"));
    assert!(refused(&["create", "--subnet", &half, "x"]).contains("Pool overlaps with other one"));
    assert!(refused(&["create", "--subnet", "10.62.0.1/24", "x"]).contains("it should be 10.62.0.0/24"));
    assert!(refused(&["rm", "bridge"]).contains("bridge is a pre-defined network and cannot be removed"));
    assert!(refused(&["inspect", "nosuch"]).contains("network nosuch not found"));
    engine.background("user", &["--network", "web"], "sleep 1000");
    assert_eq!(
        inspect(&engine, "user")["NetworkSettings"]["Networks"]["web"]["IPAddress"],
        range[..range.len() - 3]
    );
    assert!(refused(&["rm", "web"]).contains("has active endpoints (name:\"user\""));
    assert_eq!(engine.docker(&["network", "prune", "-f"]).ok(), "Deleted Networks:\nsix");
    engine.docker(&["rm", "-f", "user"]).ok();
    assert_eq!(engine.docker(&["network", "rm", &id[..12]]).ok(), id[..12]);
    assert_eq!(list(&[]), "bridge host none");
    assert!(
        !run(Command::new("ip").args(["-o", "link"])).stdout.contains(&format!("b{}-", engine.instance()))
    );
}

#[test]
fn containers_come_and_go_while_they_run_and_while_they_rest() {
    let engine = TestEngine::with_busybox();
    let [a, b, c, _] = free_subnet().octets();
    let (subnet, fixed) = (format!("{a}.{b}.{c}.0/24"), format!("{a}.{b}.{c}.77"));
    engine.docker(&["network", "create", "--subnet", &subnet, "one"]).ok();
    engine.docker(&["network", "create", "--ipv6", "two"]).ok();
    engine.background("web", &["--network", "one", "--network-alias", "www", "-p", "127.0.0.1::80"], SERVE);
    engine.background("asker", &["--network", "two"], "sleep 1000");
    let port = engine.docker(&["port", "web", "80"]).ok();
    eventually("published", || !fetch(&port).is_empty());
    engine.docker(&["network", "connect", "--alias", "site", "two", "web"]).ok();
    let settings = inspect(&engine, "web")["NetworkSettings"]["Networks"].take();
    let id = &inspect(&engine, "web")["Id"].as_str().unwrap()[..12].to_owned();
    assert_eq!(settings["one"]["DNSNames"], json!(["web", "www", id]));
    assert_eq!(settings["two"]["DNSNames"], json!(["web", "site", id]));
    let (four, six) = (&settings["two"]["IPAddress"], &settings["two"]["GlobalIPv6Address"]);
    for ip in [four.as_str().unwrap().to_owned(), format!("[{}]", six.as_str().unwrap())] {
        let url = format!("http://{ip}/");
        assert_eq!(engine.docker(&["exec", "asker", "wget", "-qO-", &url]).ok(), *id, "{url}");
    }
    assert!(!fetch(&port).is_empty(), "published still, by its new way out");
    let hosts = engine.docker(&["exec", "web", "cat", "/etc/hosts"]).ok();
    assert!(hosts.contains(&format!("{}\t{id}", four.as_str().unwrap())), "{hosts}");
    assert!(
        engine
            .docker(&["network", "connect", "two", "web"])
            .fails(1)
            .contains("already exists in network two")
    );
    engine.docker(&["network", "disconnect", "two", "web"]).ok();
    let left = engine.docker(&["exec", "web", "sh", "-c", "cat /etc/hosts; ls /sys/class/net"]).ok();
    assert!(!left.contains(four.as_str().unwrap()) && !left.contains("eth1"), "{left}");
    assert!(!fetch(&port).is_empty(), "published by the first network again");
    // At rest: from the next start on.
    engine.docker(&["stop", "-t", "0", "web"]).ok();
    engine.docker(&["network", "connect", "--ip", &fixed, "one", "asker"]).ok();
    engine.docker(&["network", "connect", "two", "web"]).ok();
    engine.docker(&["network", "disconnect", "one", "web"]).ok();
    engine.docker(&["start", "web"]).ok();
    let settings = inspect(&engine, "web")["NetworkSettings"]["Networks"].take();
    assert_eq!(settings.as_object().unwrap().keys().collect::<Vec<_>>(), ["two"]);
    assert_eq!(inspect(&engine, "asker")["NetworkSettings"]["Networks"]["one"]["IPAddress"], fixed);
    let refused = |args: &[&str]| engine.docker(&[&["network", "connect"][..], args].concat()).fails(1);
    assert!(refused(&["host", "web"]).contains("must be created in host network mode"));
    assert!(refused(&["none", "web"]).contains("private (none) mode"));
    assert!(
        refused(&["--ip", "192.0.2.1", "one", "web"]).contains("no configured subnet contains IP address")
    );
    assert!(refused(&["--ip", &fixed, "one", "web"]).contains("Address already in use"));
    let gone = engine.docker(&["network", "disconnect", "one", "web"]).fails(1);
    assert!(gone.contains("is not connected to network one"), "{gone}");
    // Docker's client cuts "0s" to whole seconds, and with it what was just now.
    let until = (now_s() + 1).to_string();
    let events =
        ["events", "--since", "1h", "--until", &until, "-f", "type=network", "--format", "{{.Action}}"];
    let events = engine.docker(&events).ok();
    for action in ["create", "connect", "disconnect"] {
        assert!(events.lines().any(|line| line == action), "{events}");
    }
    engine.docker(&["rm", "-f", "web", "asker"]).ok();
    engine.docker(&["network", "rm", "one", "two"]).ok();
}

/// Its process is known to the engine as soon as the start is answered.
#[test]
fn a_container_is_joined_right_after_its_start() {
    let engine = TestEngine::with_busybox();
    engine.docker(&["network", "create", "late"]).ok();
    let mut api = Connection::open(&engine.socket(), Duration::from_secs(60)).expect("connect");
    let mut ask = |method: &str, path: &str, body: &str, wanted: u16| {
        let answer = api.request(method, path, body).expect("an answer");
        assert_eq!(answer.status, wanted, "{method} {path}: {}", answer.text());
    };
    let wish = r#"{"Image": "busybox", "Cmd": ["sleep", "1000"]}"#;
    ask("POST", "/containers/create?name=box", wish, 201);
    let partner = r#"{"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "container:box"}}"#;
    ask("POST", "/containers/create?name=guest", partner, 201);
    for _ in 0..20 {
        ask("POST", "/containers/box/start", "", 204);
        ask("POST", "/networks/late/connect", r#"{"Container": "box"}"#, 200);
        ask("POST", "/containers/guest/start", "", 204);
        ask("POST", "/networks/late/disconnect", r#"{"Container": "box"}"#, 200);
        ask("POST", "/containers/box/stop?t=0", "", 204);
    }
}

#[test]
fn one_container_in_several_networks_from_its_start() {
    let engine = TestEngine::with_busybox();
    for name in ["alpha", "beta", "gamma"] {
        engine.docker(&["network", "create", name]).ok();
    }
    let endpoint = |priority: i64| json!({"GwPriority": priority});
    let body = json!({
        "Image": "busybox", "Cmd": ["sleep", "1000"],
        "HostConfig": {"NetworkMode": "beta"},
        "NetworkingConfig": {"EndpointsConfig": {
            "alpha": endpoint(0),
            "beta": {"MacAddress": "02:00:00:00:00:42", "DriverOpts": {
                "com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1"}},
            "gamma": endpoint(5),
        }},
    });
    let (status, answer) = post(&engine, "/v1.50/containers/create?name=many", &body);
    assert_eq!(status, 201, "{answer}");
    engine.docker(&["start", "many"]).ok();
    let settings = inspect(&engine, "many")["NetworkSettings"]["Networks"].take();
    let show = "ip route show default; cat /proc/sys/net/ipv4/conf/eth0/log_martians; ip -o link show eth0; ls /sys/class/net";
    let shown = engine.docker(&["exec", "many", "sh", "-c", show]).ok();
    let gateway = settings["gamma"]["Gateway"].as_str().unwrap();
    assert!(shown.contains(&format!("default via {gateway}")), "{shown}");
    assert!(
        shown.contains("\n1\n") && shown.contains("02:00:00:00:00:42"),
        "eth0 is that of its mode: {shown}"
    );
    assert!(shown.contains("eth2"), "{shown}");
    let bad = json!({"Image": "busybox", "NetworkingConfig": {"EndpointsConfig": {
        "alpha": {"IPAMConfig": {"IPv4Address": "10.99.99.99"}}}}});
    let (status, answer) = post(&engine, "/v1.50/containers/create", &bad);
    assert_eq!(status, 400);
    let message = answer["message"].as_str().unwrap();
    assert!(message.starts_with("invalid config for network alpha: invalid endpoint settings:"), "{message}");
    engine.docker(&["rm", "-f", "many"]).ok();
    let missing = engine.docker(&["run", "--rm", "--network", "nosuch", "busybox", "true"]).fails(125);
    assert!(missing.contains("network nosuch not found"), "{missing}");
    engine.docker(&["network", "rm", "alpha", "beta", "gamma"]).ok();
}

#[test]
fn networks_and_their_members_survive_a_killed_engine() {
    let mut engine = TestEngine::with_busybox();
    engine.docker(&["network", "create", "--ipv6", "lasting"]).ok();
    engine.background("web", &["--network", "lasting", "-p", "127.0.0.1::80"], SERVE);
    engine.docker(&["network", "connect", "bridge", "web"]).ok();
    let port = engine.docker(&["port", "web", "80"]).ok();
    eventually("published", || !fetch(&port).is_empty());
    let before = (network(&engine, "lasting"), inspect(&engine, "web")["NetworkSettings"].take());
    engine.kill();
    assert!(!fetch(&port).is_empty(), "without an engine");
    engine.restart();
    assert_eq!((network(&engine, "lasting"), inspect(&engine, "web")["NetworkSettings"].take()), before);
    assert!(!fetch(&port).is_empty());
    engine.background("other", &["--network", "lasting"], "sleep 1000");
    let url = format!("http://{}/", before.1["Networks"]["lasting"]["IPAddress"].as_str().unwrap());
    assert!(!engine.docker(&["exec", "other", "wget", "-qO-", &url]).ok().is_empty());
    engine.docker(&["rm", "-f", "web", "other"]).ok();
    engine.stop();
    engine.restart();
    assert_eq!(network(&engine, "lasting")["Id"], before.0["Id"], "and a rest of the engine");
    engine.docker(&["network", "rm", "lasting"]).ok();
}

/// The three accounts of who is in a network agree: the network's, the container's, and the container's interfaces.
#[test]
fn a_kill_in_the_middle_leaves_nothing_half_made() {
    let mut engine = TestEngine::with_busybox();
    engine.docker(&["network", "create", "base"]).ok();
    engine.background("web", &["--network", "base"], "sleep 1000");
    for round in 0..6u64 {
        let names: Vec<String> = (0..4).map(|n| format!("net{round}{n}")).collect();
        let mut clients: Vec<_> = names
            .iter()
            .map(|name| {
                let host = engine.host();
                let script = format!(
                    "docker -H {host} network create {name} && docker -H {host} network connect {name} web && \
                     docker -H {host} network disconnect {name} web"
                );
                Command::new("sh").args(["-c", &script]).output_in_background()
            })
            .collect();
        // Each round a little later on their way.
        std::thread::sleep(Duration::from_millis(40 + 45 * round));
        engine.kill();
        clients.iter_mut().for_each(|client| drop(client.wait()));
        engine.restart();
        let shown = inspect(&engine, "web")["NetworkSettings"]["Networks"].take();
        let shown: Vec<&String> = shown.as_object().unwrap().keys().collect();
        let interfaces = engine.docker(&["exec", "web", "sh", "-c", "ls /sys/class/net | grep -c eth"]).ok();
        assert_eq!(interfaces, shown.len().to_string(), "round {round}: {shown:?}");
        let route = engine.docker(&["exec", "web", "ip", "route", "show", "default"]).ok();
        assert!(route.starts_with("default via"), "round {round}: {route}");
        let all = engine.docker(&["network", "ls", "-f", "type=custom", "--format", "{{.Name}}"]).ok();
        for name in all.lines() {
            let member = !network(&engine, name)["Containers"].as_object().unwrap().is_empty();
            assert_eq!(member, shown.iter().any(|n| *n == name), "round {round}: {name}");
        }
        let links = run(Command::new("ip").args(["-o", "link"])).stdout;
        let bridges = links.matches(&format!(": b{}-", engine.instance())).count();
        assert_eq!(bridges, all.lines().count(), "round {round}: {links}");
    }
    engine.docker(&["rm", "-f", "web"]).ok();
    engine.docker(&["network", "prune", "-f"]).ok();
}

trait InBackground {
    fn output_in_background(&mut self) -> std::process::Child;
}

impl InBackground for Command {
    fn output_in_background(&mut self) -> std::process::Child {
        use std::process::Stdio;
        self.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a client")
    }
}

#[test]
fn links_are_names_in_the_hosts_file() {
    let engine = TestEngine::with_busybox();
    engine.background("db", &[], "sleep 1000");
    engine.background("web", &["--link", "db:store"], "sleep 1000");
    let ip = |name: &str| {
        inspect(&engine, name)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let hosts = || engine.docker(&["exec", "web", "cat", "/etc/hosts"]).ok();
    assert!(hosts().contains(&format!("{}\tstore ", ip("db"))), "{}", hosts());
    // One that comes back with another address is found again.
    engine.docker(&["stop", "-t", "0", "db"]).ok();
    engine.background("between", &[], "sleep 1000");
    engine.docker(&["start", "db"]).ok();
    assert_eq!(hosts().matches("\tstore ").count(), 1, "{}", hosts());
    assert!(hosts().contains(&format!("{}\tstore ", ip("db"))), "{}", hosts());
    engine.docker(&["stop", "-t", "0", "db"]).ok();
    engine.docker(&["stop", "-t", "0", "web"]).ok();
    let refused = engine.docker(&["start", "web"]).fails(1);
    assert!(refused.contains("Cannot link to a non running container: /db AS /web/store"), "{refused}");
    let missing = engine.docker(&["run", "--link", "nosuch:x", "busybox", "true"]).fails(125);
    assert!(missing.contains("could not get container for nosuch"), "{missing}");
}

#[test]
fn the_default_network_is_as_the_operator_wishes() {
    let subnet = format!("fd00:c0:{:x}::/64", std::process::id() & 0xffff);
    let wishes = ["--icc=false", "--ip-masq=false", "--ipv6", "--fixed-cidr-v6", &subnet];
    let engine = TestEngine::start_with(&wishes);
    engine.add_busybox();
    let shown = network(&engine, "bridge");
    assert_eq!(shown["EnableIPv6"], true);
    assert_eq!(shown["IPAM"]["Config"][1]["Subnet"], subnet);
    assert_eq!(shown["Options"]["com.docker.network.bridge.enable_icc"], "false");
    assert_eq!(shown["Options"]["com.docker.network.bridge.enable_ip_masquerade"], "false");
    engine.background("one", &[], SERVE);
    let one = inspect(&engine, "one");
    let settings = &one["NetworkSettings"];
    let six = settings["GlobalIPv6Address"].as_str().unwrap();
    assert!(subnet.starts_with(six.rsplit_once("::").unwrap().0), "{six}");
    assert_eq!(settings["GlobalIPv6PrefixLen"], 64);
    let four = settings["IPAddress"].as_str().unwrap();
    let hostname = format!("{}\n", one["Config"]["Hostname"].as_str().unwrap());
    eventually("it serves the host", || fetch(four) == hostname && fetch(&format!("[{six}]")) == hostname);
    let asked =
        engine.corten(&["run", "--rm", "busybox", "wget", "-T", "1", "-O", "-", &format!("http://{four}/")]);
    assert!(asked.code != 0 && asked.stdout.is_empty(), "containers are kept apart: {asked:?}");
    engine.corten(&["rm", "-f", "one"]).ok();
}

#[test]
fn a_routed_network_publishes_without_ports_of_the_host() {
    let engine = TestEngine::with_busybox();
    let mode = |mode: &str| format!("com.docker.network.bridge.gateway_mode_ipv4={mode}");
    engine.docker(&["network", "create", "-o", &mode("routed"), "routed"]).ok();
    engine.background("web", &["--network", "routed", "-p", "8080:80"], SERVE);
    let web = inspect(&engine, "web");
    let ports = &web["NetworkSettings"]["Ports"];
    assert_eq!(*ports, json!({"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": ""}]}));
    let listed = engine.docker(&["ps", "--format", "{{.Ports}}"]).ok();
    assert_eq!(listed, "80/tcp");
    let own = web["NetworkSettings"]["Networks"]["routed"]["IPAddress"].as_str().unwrap();
    let hostname = format!("{}\n", web["Config"]["Hostname"].as_str().unwrap());
    eventually("it serves", || fetch(own) == hostname);
    let refused = engine.docker(&["network", "create", "-o", &mode("isolated"), "alone"]).fails(1);
    assert!(
        refused.contains("gateway mode 'isolated' can only be used for an internal network"),
        "{refused}"
    );
    engine.docker(&["network", "create", "--internal", "-o", &mode("isolated"), "alone"]).ok();
    let refused = engine.docker(&["network", "create", "-o", &mode("open"), "other"]).fails(1);
    assert!(refused.contains("unknown gateway mode open"), "{refused}");
    engine.corten(&["rm", "-f", "web"]).ok();
    engine.docker(&["network", "rm", "routed", "alone"]).ok();
}

#[test]
fn a_link_follows_the_container_that_it_means() {
    let engine = TestEngine::with_busybox();
    engine.background("db", &[], "sleep 1000");
    engine.background("web", &["--link", "db:store"], "sleep 1000");
    let links = || engine.corten(&["inspect", "-f", "{{json .HostConfig.Links}}", "web"]).ok();
    assert_eq!(links(), r#"["/db:/web/store"]"#);
    engine.corten(&["rename", "db", "data"]).ok();
    assert_eq!(links(), r#"["/data:/web/store"]"#);
    engine.corten(&["restart", "-t", "0", "web"]).ok();
    let hosts = engine.corten(&["exec", "web", "grep", "store", "/etc/hosts"]).ok();
    assert!(hosts.contains("store") && hosts.contains("data"), "{hosts}");
    // Another one of that name is another one; and a link to nobody is none.
    engine.corten(&["rm", "-f", "data"]).ok();
    engine.background("data", &[], "sleep 1000");
    engine.corten(&["restart", "-t", "0", "web"]).ok();
    assert_eq!(engine.corten(&["exec", "web", "grep", "store", "/etc/hosts"]).code, 1);
    assert_eq!(links(), "null");
}
