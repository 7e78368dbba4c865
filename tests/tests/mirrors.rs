//! Mirrors and proxies of registries: asked first, from daemon.json, and changed by SIGHUP.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};

use corten_tests::{TestEngine, eventually, run};

/// Has nothing, and notes who asks for what.
struct Empty {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Empty {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut request = [0; 4096];
                let read = stream.read(&mut request).unwrap_or(0);
                let line = String::from_utf8_lossy(&request[..read]).lines().next().map(str::to_owned);
                log.lock().expect("the log").extend(line);
                // Who hangs up early is told nothing.
                let _ = stream
                    .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
        });
        Self { address, asked }
    }

    /// Those lines since the last call.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().expect("the log"))
    }
}

#[test]
fn a_busy_registry_is_waited_for_and_that_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    std::thread::spawn(move || {
        let mut head = "429 Too Many Requests\r\nRetry-After: 2";
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap_or(0);
            // What is no HTTP is an attempt by TLS, and hung up on.
            if !request[..read].starts_with(b"GET ") && !request[..read].starts_with(b"HEAD ") {
                continue;
            }
            let answer = format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            // Who hangs up early is told nothing.
            let _ = stream.write_all(answer.as_bytes());
            head = "404 Not Found";
        }
    });
    let engine = TestEngine::start();
    let output = run(&mut engine.command(&["pull", &format!("{address}/x:1")]));
    assert!(output.stdout.contains(&format!("{address} is busy: trying again in 2 s")), "{}", output.stdout);
    assert!(output.fails(1).contains("not found: manifest unknown"));
}

#[test]
fn mirrors_and_proxies_come_from_the_settings_and_change_on_sighup() {
    let (one, two) = (Empty::start(), Empty::start());
    let file = tempfile::NamedTempFile::new().expect("a file");
    let settings = |text: String| std::fs::write(file.path(), text).expect("write the settings");
    settings(format!(
        r#"{{"mirrors": {{"hub.test": ["http://{}/a"]}}, "registry-mirrors": ["http://{}"]}}"#,
        one.address, two.address
    ));
    let engine = TestEngine::start_with(&["--config-file", &file.path().display().to_string()]);
    let pull = |name: &str| engine.corten(&["pull", name]).fails(1);
    let failed = pull("hub.test/group/image:1");
    assert!(failed.contains("hub.test can't be resolved"), "{failed}");
    let line = "GET /a/v2/group/image/manifests/1 HTTP/1.1";
    assert!(one.asked().contains(&line.to_owned()));
    assert!(two.asked().is_empty());
    let shown = engine.docker(&["info", "--format", "{{json .RegistryConfig}} {{.HTTPProxy}}"]).ok();
    assert!(shown.contains(&format!(r#""Mirrors":["http://{}/"]"#, two.address)), "{shown}");

    let proxy = format!("http://me:secret@{}", two.address);
    settings(format!(
        r#"{{"proxies": {{"http-proxy": "{proxy}", "https-proxy": "{proxy}"}}, "insecure-registries": ["hub.test"]}}"#
    ));
    let pid = engine.pid().expect("a running engine").to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().expect("kill").success());
    eventually("the settings count", || {
        let proxy = engine.corten(&["info", "--format", "{{.HTTPProxy}}"]).ok();
        proxy == format!("http://{}", two.address)
    });
    let failed = pull("hub.test/group/image:1");
    assert!(failed.contains("manifest for hub.test/group/image:1 not found"), "{failed}");
    let asked = two.asked();
    assert_eq!(asked.first().map(String::as_str), Some("CONNECT hub.test:443 HTTP/1.1"));
    assert!(
        asked.contains(&"GET http://hub.test/v2/group/image/manifests/1 HTTP/1.1".to_owned()),
        "{asked:?}"
    );
    assert!(one.asked().is_empty());
    assert!(!engine.log().contains("secret"));
}
