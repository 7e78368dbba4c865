//! The pages of `corten registry serve`: what they show of real images, to whom, what hostile ones can't do, and how they look in
//! headless Chromium (screenshots stay in `target/screenshots`).

mod hub;
mod pages;
mod screens;
mod signing;

use std::path::{Path, PathBuf};
use std::process::Command;

use corten_tests::browser::{Browser, DESKTOP, Seen, View, keep};
use corten_tests::registry::{Reply, TestRegistry, digest};
use corten_tests::{binary, busybox_archive, run, run_with_input};
use serde_json::{Value, json};

use hub::Hub;

fn place() -> tempfile::TempDir {
    tempfile::TempDir::with_prefix_in("corten-test-", "/var/tmp").expect("a directory")
}

fn registry(place: &Path) -> TestRegistry {
    TestRegistry::start(&place.join("hub"), &[])
}

/// A page as curl gets it, which knows no JavaScript.
fn curl(registry: &TestRegistry, path: &str, more: &[&str]) -> String {
    let url = format!("http://{}{path}", registry.address());
    run(Command::new("curl").args(["-sS", "--fail-with-body", "--max-time", "60"]).args(more).arg(url)).ok()
}

fn get(registry: &TestRegistry, path: &str, headers: &str) -> Reply {
    registry.connect().ask("GET", path, headers, &[]).expect("a page")
}

/// A page's text without its tags, in words.
fn words(html: &str) -> String {
    let mut text = String::new();
    let mut inside = false;
    for character in html.chars() {
        match character {
            '<' => inside = true,
            '>' => {
                inside = false;
                text.push(' ');
            }
            other if !inside => text.push(other),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Well-formed as far as elements are closed in the order in which they were opened.
fn assert_nested(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    let void = ["meta", "link", "img", "input", "wbr"];
    for piece in html.split('<').skip(1) {
        let tag = piece.split('>').next().expect("a tag");
        let name = tag.trim_start_matches('/').split(' ').next().expect("a name");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "…{}", &piece[..piece.len().min(80)]);
        } else if !tag.starts_with('!') && !void.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

/// A registry with users (alice: elephant, bob: mouse, root: whale) and rules.
struct Guarded {
    registry: TestRegistry,
    _place: tempfile::TempDir,
}

impl Guarded {
    fn start() -> Self {
        let place = place();
        let users = place.path().join("users");
        for (name, password) in [("alice", "elephant"), ("bob", "mouse"), ("root", "whale")] {
            let mut command = Command::new(binary("corten"));
            command.args(["registry", "user", "add", "--password-stdin", "--file"]).arg(&users).arg(name);
            assert_eq!(run_with_input(&mut command, password).code, 0);
        }
        let config = json!({
            "access": {
                "htpasswd": users,
                "groups": {"devs": ["user:alice"]},
                "rules": [
                    {"repositories": ["public/**"], "who": ["anonymous"], "may": ["read"]},
                    {"repositories": ["team/**"], "who": ["group:devs"], "may": ["write"]},
                    {"repositories": ["home/{user}/**"], "who": ["authenticated"], "may": ["write", "delete"]},
                    {"repositories": ["**"], "who": ["user:root"], "may": ["admin"]},
                ],
                "audit": {"file": place.path().join("audit.log")},
            },
        });
        let path = place.path().join("registry.json");
        std::fs::write(&path, config.to_string()).expect("a configuration");
        let registry =
            TestRegistry::start(&place.path().join("hub"), &["--config", &path.display().to_string()]);
        let hub = Self { registry, _place: place };
        let mut push = Hub::by(&hub.registry, "root", "whale");
        // A layer that all have, and one that only the secret one has.
        let shared = ("RUN shared", Some((1, 200_000)));
        for (name, own) in [("public/app", 2), ("team/app", 3), ("home/bob/app", 4), ("secret/app", 5)] {
            let steps = [shared, ("RUN own", Some((own, 100_000 * own as usize)))];
            push.image(name, Some("v1-secret-tag"), ("linux/amd64", json!({})), &steps, Value::Null);
        }
        hub
    }

    fn audit(&self) -> String {
        std::fs::read_to_string(self._place.path().join("audit.log")).unwrap_or_default()
    }

    fn sign_in(&self, name: &str, password: &str, headers: &str, back: &str) -> Reply {
        let body = format!("name={name}&password={password}&back={back}");
        let headers = format!("{headers}Content-Type: application/x-www-form-urlencoded\r\n");
        self.registry.connect().ask("POST", "/sign-in", &headers, body.as_bytes()).expect("sign in")
    }
}

const OURS: &str = "Origin: http://hub\r\n";

fn cookie(reply: &Reply) -> String {
    let set = reply.header("set-cookie");
    format!("Cookie: {}\r\n", set.split(';').next().expect("a cookie"))
}
