//! Headless Chromium, driven over a pipe (the DevTools protocol): shows a page as people see it, and tells what it asked for and
//! complained about on the way.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use corten_api::base64;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long the browser may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pixels of a screenshot's height, at most.
const HEIGHT_MAX: f64 = 6000.0;

pub struct Browser {
    process: Child,
    to: File,
    messages: Receiver<Value>,
    next: u64,
    _directory: TempDir,
}

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub width: u32,
    pub dark: bool,
    pub script: bool,
    /// What is done with the page when it is there: JavaScript whose promise is awaited.
    pub then: Option<&'a str>,
    /// Whether that leads to another page, which is looked at then.
    pub leaves: bool,
}

pub const DESKTOP: View<'static> = View { width: 1280, dark: false, script: true, then: None, leaves: false };

/// What was to be seen.
#[derive(Debug)]
pub struct Seen {
    /// The document as it is in the end.
    pub html: String,
    pub png: Vec<u8>,
    /// Pixels that the content is wider than the window.
    pub overflow: f64,
    /// Errors and warnings of scripts, policies and the network.
    pub complaints: Vec<String>,
    /// All addresses that were asked.
    pub requests: Vec<String>,
    /// What `then` came to.
    pub outcome: Value,
}

impl Browser {
    /// None where there is no Chromium.
    pub fn start() -> Option<Browser> {
        let program = ["chromium", "chromium-browser"].into_iter().find(|name| {
            let found =
                Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            found.is_ok_and(|status| status.success())
        })?;
        let directory = TempDir::with_prefix_in("corten-test-", "/var/tmp").expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let (to, from) = (path("to"), path("from"));
        let made = Command::new("mkfifo").args([&to, &from]).status().expect("mkfifo");
        assert!(made.success());
        // The shell opens what the browser reads and writes, as descriptors 3 and 4. It waits there for us.
        let process = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<"$TO" 4>"$FROM""#, program])
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--remote-debugging-pipe",
            ])
            .args([
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ])
            .args(["--hide-scrollbars", "--force-device-scale-factor=1"])
            // Nothing but this host is to be reached.
            .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
            .arg(format!("--user-data-dir={}", path("profile").display()))
            .env("TO", &to)
            .env("FROM", &from)
            .env("HOME", directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start the browser");
        let to = OpenOptions::new().write(true).open(&to).expect("the pipe to the browser");
        let from = File::open(&from).expect("the pipe from the browser");
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(from).split(0) {
                let Ok(bytes) = message else { return };
                let Ok(message) = serde_json::from_slice(&bytes) else { return };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Some(Browser { process, to, messages, next: 0, _directory: directory })
    }

    /// Opens a page, looks at it, and closes it again.
    pub fn look(&mut self, url: &str, view: &View<'_>) -> Seen {
        let mut events = Vec::new();
        let target = self.ask(None, "Target.createTarget", json!({"url": "about:blank"}), &mut events);
        let target = target["targetId"].clone();
        let attach = json!({"targetId": target, "flatten": true});
        let session = self.ask(None, "Target.attachToTarget", attach, &mut events)["sessionId"].clone();
        let session = session.as_str().expect("a session");
        let mut ask =
            |method: &str, parameters: Value| self.ask(Some(session), method, parameters, &mut events);
        for domain in ["Page", "Runtime", "Log", "Network", "DOM"] {
            ask(&format!("{domain}.enable"), json!({}));
        }
        let metrics =
            json!({"width": view.width, "height": 900, "deviceScaleFactor": 1, "mobile": view.width < 600});
        ask("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = if view.dark { "dark" } else { "light" };
        ask(
            "Emulation.setEmulatedMedia",
            json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}),
        );
        ask("Emulation.setScriptExecutionDisabled", json!({"value": !view.script}));
        ask("Page.setLifecycleEventsEnabled", json!({"enabled": true}));
        let went = ask("Page.navigate", json!({"url": url}));
        assert!(went["errorText"].is_null(), "{url}: {went}");
        let first = went["loaderId"].clone();
        self.await_load(session, &mut events, |loader| *loader == first);
        let mut outcome = Value::Null;
        let before = loaders(&events, session);
        let mut ask =
            |method: &str, parameters: Value| self.ask(Some(session), method, parameters, &mut events);
        if let Some(script) = view.then {
            let evaluate = json!({"expression": script, "awaitPromise": true, "returnByValue": true});
            let answer = ask("Runtime.evaluate", evaluate);
            assert!(answer["exceptionDetails"].is_null(), "{script}: {answer}");
            outcome = answer["result"]["value"].clone();
        }
        if view.leaves {
            self.await_load(session, &mut events, |loader| !before.contains(loader));
        }
        let mut ask =
            |method: &str, parameters: Value| self.ask(Some(session), method, parameters, &mut events);
        let root = ask("DOM.getDocument", json!({"depth": 0}))["root"]["nodeId"].clone();
        let html = ask("DOM.getOuterHTML", json!({"nodeId": root}))["outerHTML"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let size = ask("Page.getLayoutMetrics", json!({}));
        let side = |name: &str| size["cssContentSize"][name].as_f64().expect("a size");
        let height = side("height").min(HEIGHT_MAX);
        let clip = json!({"x": 0, "y": 0, "width": view.width, "height": height, "scale": 1});
        let shot = ask(
            "Page.captureScreenshot",
            json!({"format": "png", "captureBeyondViewport": true, "clip": clip}),
        );
        let png = shot["data"].as_str().and_then(base64::decode).expect("a screenshot");
        self.ask(None, "Target.closeTarget", json!({"targetId": target}), &mut events);
        let overflow = side("width") - f64::from(view.width);
        Seen { html, png, overflow, complaints: complaints(&events), requests: requests(&events), outcome }
    }

    fn ask(
        &mut self,
        session: Option<&str>,
        method: &str,
        parameters: Value,
        events: &mut Vec<Value>,
    ) -> Value {
        self.next += 1;
        let mut message = json!({"id": self.next, "method": method, "params": parameters});
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).expect("tell the browser");
        let end = Instant::now() + PATIENCE;
        loop {
            let message = self.receive(method, end);
            if message["id"] == self.next {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            events.push(message);
        }
    }

    /// Waits until a page is there with all that it needs: which one, its loader's name tells.
    fn await_load(&mut self, session: &str, events: &mut Vec<Value>, wanted: impl Fn(&Value) -> bool) {
        let is_it = |event: &Value| {
            let parameters = &event["params"];
            let loaded = event["method"] == "Page.lifecycleEvent" && parameters["name"] == "load";
            loaded && event["sessionId"] == session && wanted(&parameters["loaderId"])
        };
        let end = Instant::now() + PATIENCE;
        while !events.iter().any(is_it) {
            let event = self.receive("Page.navigate", end);
            events.push(event);
        }
    }

    fn receive(&self, what: &str, end: Instant) -> Value {
        let left = end.saturating_duration_since(Instant::now());
        self.messages
            .recv_timeout(left)
            .unwrap_or_else(|error| panic!("the browser's answer to {what}: {error}"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends its helpers itself when it is asked to.
        let _ = self.to.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            match self.process.try_wait() {
                Ok(Some(_)) => return,
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The loaders that a page has had so far.
fn loaders(events: &[Value], session: &str) -> Vec<Value> {
    let loaded = events
        .iter()
        .filter(|event| event["method"] == "Page.lifecycleEvent" && event["sessionId"] == session);
    loaded.map(|event| event["params"]["loaderId"].clone()).collect()
}

fn complaints(events: &[Value]) -> Vec<String> {
    let complaint = |event: &Value| {
        let parameters = &event["params"];
        match event["method"].as_str()? {
            "Runtime.exceptionThrown" => Some(parameters["exceptionDetails"].to_string()),
            "Runtime.consoleAPICalled" => Some(parameters["args"].to_string()),
            "Log.entryAdded" if parameters["entry"]["level"] != "verbose" => {
                Some(format!("{} {}", parameters["entry"]["text"], parameters["entry"]["url"]))
            }
            "Network.loadingFailed" => Some(format!("not loaded: {parameters}")),
            _ => None,
        }
    };
    events.iter().filter_map(complaint).collect()
}

fn requests(events: &[Value]) -> Vec<String> {
    let asked = events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
    asked.filter_map(|event| event["params"]["request"]["url"].as_str().map(str::to_owned)).collect()
}

/// Keeps a screenshot beside the other output of a test.
pub fn keep(directory: &Path, name: &str, png: &[u8]) {
    std::fs::create_dir_all(directory).expect("a directory for screenshots");
    std::fs::write(directory.join(format!("{name}.png")), png).expect("a screenshot");
}
