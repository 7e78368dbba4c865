//! Docker Compose with a stack of real services (`tests/compose/`): a web server, an app in two copies, a database, a cache, a worker.
//!
//! Needs the host's package sources: for the image, and for Compose itself (`scripts/docker-plugins`).

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use corten_tests::{Output, TestEngine, eventually, run};

const INSTALL: &str = "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    nginx-light postgresql redis-server python3 python3-psycopg2 python3-redis >/dev/null \
    && install -d -o postgres -g postgres /var/lib/shop && rm -rf /var/lib/apt/lists /var/cache/apt";

/// A directory of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The image of all services: what people would write a Dockerfile for, by `run` and `commit`.
fn add_services_image(engine: &TestEngine) {
    engine.corten(&["image", "create-base", "debian:base"]).ok();
    engine.corten(&["run", "--name", "services", "debian:base", "sh", "-c", INSTALL]).ok();
    engine.docker(&["commit", "--change", "CMD [\"sh\"]", "services", "services"]).ok();
    engine.corten(&["rm", "services"]).ok();
}

/// The stack `shop` on one engine.
struct Shop<'a> {
    engine: &'a TestEngine,
    plugins: PathBuf,
}

impl<'a> Shop<'a> {
    fn new(engine: &'a TestEngine) -> Self {
        let plugins = repository("target/clients");
        run(Command::new(repository("scripts/docker-plugins")).arg(&plugins)).ok();
        Self { engine, plugins }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let file = repository("tests/compose/compose.yaml");
        let file = file.to_str().expect("UTF-8");
        let mut command = self.engine.docker_command(&["compose", "-f", file, "--ansi", "never"]);
        command.args(arguments).env("DOCKER_CONFIG", &self.plugins);
        command
    }

    fn compose(&self, arguments: &[&str]) -> Output {
        run(&mut self.command(arguments))
    }

    /// Asks the shop through the web server's published port.
    fn get(&self, path: &str) -> Option<serde_json::Value> {
        let address = self.compose(&["port", "web", "8080"]).ok();
        let answer =
            run(Command::new("curl").args(["-s", "--max-time", "60"]).arg(format!("http://{address}{path}")));
        // Shown with a test that fails.
        serde_json::from_str(&answer.stdout).inspect_err(|_| println!("{path}: {answer:?}")).ok()
    }

    fn has_order(&self, what: &str) -> bool {
        self.get("/")
            .is_some_and(|shop| shop["orders"].as_array().is_some_and(|all| all.iter().any(|o| o == what)))
    }

    fn hosts(&self, requests: usize) -> BTreeSet<String> {
        let host = |_| self.get("/").and_then(|shop| shop["host"].as_str().map(str::to_owned));
        (0..requests).filter_map(host).collect()
    }
}

#[test]
fn a_stack_of_five_services_lives_and_goes() {
    let engine = TestEngine::start();
    add_services_image(&engine);
    let shop = Shop::new(&engine);

    shop.compose(&["up", "-d", "--wait"]).ok();
    let states = shop.compose(&["ps", "--format", "{{.Service}} {{.State}} {{.Health}}"]).ok();
    let states: BTreeSet<&str> = states.lines().map(str::trim).collect();
    let expected = [
        "app running healthy",
        "cache running healthy",
        "db running healthy",
        "web running healthy",
        "worker running",
    ];
    assert_eq!(states, BTreeSet::from(expected));

    // Through the web server to an app, the cache, the worker, the database, and back.
    assert!(shop.get("/order/shoes").is_some(), "{}", shop.compose(&["logs"]).stdout);
    eventually("the order is written", || shop.has_order("shoes"));
    eventually("both copies answer", || shop.hosts(10).len() == 2);

    // A network without a way out, seen from within; names work there all the same.
    let out = "import socket; socket.create_connection(('192.0.2.1', 80), 1)";
    let refused = shop.compose(&["exec", "-T", "worker", "python3", "-c", out]);
    assert!(refused.code != 0 && refused.stderr.contains("unreachable"), "{refused:?}");
    let names =
        "import socket; print(len(socket.gethostbyname_ex('app')[2]), socket.gethostbyname('db') != '')";
    assert_eq!(shop.compose(&["exec", "-T", "worker", "python3", "-c", names]).ok(), "2 True");

    // Logs as they come.
    let mut logs = shop
        .command(&["logs", "-f", "--no-log-prefix", "worker"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("docker");
    let mut lines = BufReader::new(logs.stdout.take().expect("stdout")).lines();
    shop.get("/order/socks");
    assert!(lines.any(|line| line.expect("UTF-8").contains("worker: wrote socks")));
    logs.kill().expect("end docker");
    logs.wait().expect("docker's end");

    // Copies come and go; a service that isn't started unless asked for; restarts.
    shop.compose(&["up", "-d", "--scale", "app=3", "--no-recreate"]).ok();
    eventually("three copies answer", || shop.hosts(15).len() == 3);
    assert_eq!(shop.compose(&["--profile", "tools", "run", "--rm", "report"]).ok(), "orders: 2");
    shop.compose(&["restart", "-t", "2", "web"]).ok();
    eventually("the web server is back", || shop.get("/").is_some());

    // What lasts, and what doesn't.
    shop.compose(&["down", "-t", "2"]).ok();
    assert_eq!(engine.docker(&["ps", "-aq"]).ok(), "");
    shop.compose(&["up", "-d", "--wait"]).ok();
    assert!(shop.has_order("shoes") && shop.has_order("socks"));
    shop.compose(&["down", "-v", "-t", "2"]).ok();
    assert_eq!(engine.docker(&["volume", "ls", "-q"]).ok(), "");
    assert_eq!(
        engine.docker(&["network", "ls", "--format", "{{.Name}}", "--filter", "type=custom"]).ok(),
        ""
    );
}
