//! `login` and `logout`: the engine shows credentials to a registry, here one that knows a single user.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use corten_tests::{TestEngine, run, run_with_input};

/// What `hannibal:elephant` is in base64, in lower case as the rest of the request is compared.
const RIGHT: &str = "basic agfubmliyww6zwxlcghhbnq=";

/// Answers until the test ends; without TLS, as a host's own registry may.
fn registry() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream);
        }
    });
    address
}

fn answer(mut stream: impl Read + Write) {
    let mut request = [0; 4096];
    let read = stream.read(&mut request).unwrap_or(0);
    let request = String::from_utf8_lossy(&request[..read]).to_lowercase();
    let head = match request {
        _ if !request.starts_with("get /v2/ ") => return,
        _ if request.contains(RIGHT) => "200 OK\r\n",
        _ => "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"herds\"\r\n",
    };
    // Who hangs up early is told nothing.
    let _ = write!(stream, "HTTP/1.1 {head}Content-Length: 2\r\nConnection: close\r\n\r\n{{}}");
}

#[test]
fn both_clients_log_in_where_the_password_is_right() {
    let engine = TestEngine::start();
    let registry = registry();
    let arguments = ["login", "-u", "hannibal", "--password-stdin", &registry];
    let homes = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    for (home, make) in homes.iter().zip([TestEngine::docker_command, TestEngine::command]) {
        let client = |arguments: &[&str]| {
            let mut command = make(&engine, arguments);
            command.env("DOCKER_CONFIG", home.path());
            command
        };
        let refused = run_with_input(&mut client(&arguments), "mouse").fails(1);
        assert!(refused.contains("unauthorized: incorrect username or password"), "{refused}");
        assert!(!home.path().join("config.json").exists());
        let done = run_with_input(&mut client(&arguments), "elephant\n");
        assert!(done.stderr.contains("unencrypted"), "{}", done.stderr);
        assert_eq!(done.ok(), "Login Succeeded");
    }
    // Either client finds what the other one has kept.
    for (home, make) in homes.iter().zip([TestEngine::command, TestEngine::docker_command]) {
        let client = |arguments: &[&str]| run(make(&engine, arguments).env("DOCKER_CONFIG", home.path()));
        let again = client(&["login", &registry]);
        assert!(
            again.stderr.to_lowercase().contains("existing credentials") || again.stdout.contains("existing")
        );
        assert!(again.ok().ends_with("Login Succeeded"));
        assert_eq!(client(&["logout", &registry]).ok(), format!("Removing login credentials for {registry}"));
        let kept = std::fs::read_to_string(home.path().join("config.json")).expect("the settings");
        assert!(!kept.contains(&registry), "{kept}");
        client(&["logout", &registry]).ok();
    }
    assert!(!engine.log().contains("elephant"), "{}", engine.log());
    let bare = run(engine.command(&["login", &registry]).env("DOCKER_CONFIG", homes[0].path()));
    assert!(bare.fails(1).contains("Cannot perform an interactive login from a non TTY device"));
    let nameless = engine.corten(&["login", "--password-stdin", &registry]).fails(1);
    assert!(nameless.contains("Must provide --username with --password-stdin"), "{nameless}");
}

/// Keeps what it is told in one file, as it came.
const HELPER: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit
case $1 in
store) cat >kept ;;
get) cat >/dev/null; cat kept ;;
erase) rm kept ;;
esac"#;

#[test]
fn a_helper_keeps_the_password() {
    let engine = TestEngine::start();
    let (registry, home) = (registry(), tempfile::tempdir().expect("a directory"));
    let helper = home.path().join("docker-credential-file");
    std::fs::write(&helper, HELPER).expect("a helper");
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    let config = home.path().join("config.json");
    std::fs::write(&config, r#"{"credsStore": "file", "other": {"kept": 1}}"#).expect("settings");
    let client = |arguments: &[&str]| {
        let mut command = engine.command(arguments);
        let path = format!("{}:{}", home.path().display(), std::env::var("PATH").expect("a path"));
        command.env("DOCKER_CONFIG", home.path()).env("PATH", path);
        command
    };
    let done =
        run_with_input(&mut client(&["login", "-u", "hannibal", "--password-stdin", &registry]), "elephant");
    assert_eq!((done.stderr.as_str(), done.code), ("", 0));
    let text = std::fs::read_to_string(&config).expect("the settings");
    assert!(text.contains(&registry) && text.contains("kept") && !text.contains("auth\""), "{text}");
    assert!(
        std::fs::read_to_string(home.path().join("kept")).expect("the helper's file").contains("elephant")
    );
    assert_eq!(run(&mut client(&["login", &registry])).ok(), "Login Succeeded");
    run(&mut client(&["logout", &registry])).ok();
    assert!(!home.path().join("kept").exists());
    std::fs::remove_file(helper).expect("remove the helper");
    let missing = run(&mut client(&["login", &registry])).fails(1);
    assert!(missing.contains("docker-credential-file") && missing.contains("config.json"), "{missing}");
}

#[test]
fn mistakes_are_told_by_status() {
    let engine = TestEngine::start_with(&[
        "--insecure-registry",
        "10.9.0.0/16",
        "--insecure-registry",
        "hub.lan:5000",
    ]);
    let ask = |server: &str| {
        let body = format!(r#"{{"username":"a","password":"b","serveraddress":"{server}"}}"#);
        engine
            .curl(
                &["-X", "POST", "-H", "Content-Type: application/json", "-d", &body, "-w", "%{http_code}"],
                "/v1.50/auth",
            )
            .stdout
    };
    // Nobody has that port.
    let answer = ask("127.0.0.1:1");
    assert!(answer.contains("onnection refused") && answer.ends_with("500"), "{answer}");
    let answer = ask("some body@hub");
    assert!(answer.contains("invalid registry address") && answer.ends_with("400"), "{answer}");
    let shown = engine.docker(&["info", "--format", "{{json .RegistryConfig}}"]).ok();
    assert!(shown.contains("10.9.0.0/16") && shown.contains("127.0.0.0/8"), "{shown}");
    assert!(shown.contains(r#""hub.lan:5000":{"#) && shown.contains(r#""Secure":false"#), "{shown}");
    let refused =
        run(Command::new(corten_tests::binary("corten")).args(["daemon", "--insecure-registry", "me@hub"]));
    assert!(refused.stderr.contains("invalid registry address \"me@hub\""), "{}", refused.stderr);
}
