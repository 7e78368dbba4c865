//! The pages of `corten registry serve`: what they show of real images, to whom, what hostile ones can't do, and how they look in
//! headless Chromium (screenshots stay in `target/screenshots`).

use std::path::{Path, PathBuf};
use std::process::Command;

use corten_tests::browser::{Browser, DESKTOP, Seen, View, keep};
use corten_tests::registry::{Reply, TestRegistry, digest};
use corten_tests::{binary, busybox_archive, run, run_with_input};
use serde_json::{Value, json};

#[path = "web/hub.rs"]
mod hub;
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

#[test]
fn pages_show_what_skopeo_and_docker_push() {
    let place = place();
    let hub = registry(place.path());
    let welcome = curl(&hub, "/", &[]);
    assert!(words(&welcome).contains(&format!("docker push {}/NAME:TAG", hub.address())), "{welcome}");
    let archive = busybox_archive(place.path());
    let layer = std::fs::read(&archive).expect("a layer");
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"], "Env": ["HOME=/root"], "Labels": {"a": "b"}},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        "history": [{"created_by": "/bin/sh -c #(nop) ADD file:busybox in /"}],
    })
    .to_string();
    let directory = place.path().join("image");
    std::fs::create_dir(&directory).expect("a directory");
    let descriptor =
        |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": corten_tests::registry::MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let write = |name: &str, bytes: &[u8]| std::fs::write(directory.join(name), bytes).expect("a file");
    write("version", b"Directory Transport Version: 1.1\n");
    write("manifest.json", manifest.to_string().as_bytes());
    for bytes in [config.as_bytes(), &layer] {
        write(digest(bytes).trim_start_matches("sha256:"), bytes);
    }
    for (format, tag) in [("oci", "oci"), ("v2s2", "docker")] {
        let to = format!("docker://{}/team/busybox:{tag}", hub.address());
        let from = format!("dir:{}", directory.display());
        run(Command::new("skopeo").args([
            "copy",
            "-q",
            "--dest-tls-verify=false",
            "--format",
            format,
            &from,
            &to,
        ]))
        .ok();
    }
    let list = curl(&hub, "/", &[]);
    assert_nested(&list);
    assert!(words(&list).contains("team/ busybox 2"), "{}", words(&list));
    let tags = words(&curl(&hub, "/r/team/busybox", &[]));
    for expected in ["oci", "docker", "linux/amd64", "docker pull", "podman pull --tls-verify=false"] {
        assert!(tags.contains(expected), "{expected}: {tags}");
    }
    for (tag, format) in [("oci", "OCI manifest"), ("docker", "Docker manifest")] {
        let page = curl(&hub, &format!("/r/team/busybox/-/{tag}"), &[]);
        assert_nested(&page);
        let page = words(&page);
        let command = format!("corten pull {}/team/busybox:{tag}", hub.address());
        for expected in [format, "linux/amd64", "ADD file:busybox in /", "HOME=/root", "Labels a b", &command]
        {
            assert!(page.contains(expected), "{expected}: {page}");
        }
    }
    let usage = words(&curl(&hub, "/usage", &[]));
    assert!(usage.contains("Stored") && usage.contains("team/ busybox"), "{usage}");
}

#[test]
fn a_hub_with_all_kinds_of_things() {
    let place = place();
    let hub = registry(place.path());
    Hub::new(&hub).fill();
    let page = |path: &str| {
        let html = curl(&hub, path, &[]);
        assert!(html.len() < 50_000, "{path}: {} bytes", html.len());
        assert_nested(&html);
        words(&html)
    };
    let all = |path: &str, expected: &[&str]| {
        let text = page(path);
        for expected in expected {
            assert!(text.contains(expected), "{path}: {expected}: {text}");
        }
    };
    all("/", &["13 repositories", "library/ nginx", "team/shop/ api"]);
    all("/?q=nginx", &["1 found", "library/ nginx"]);
    all("/?q=ltsc", &["mirror/windows/nanoserver: ltsc2025"]);
    all("/?q=nothing-like-it", &["Nothing is called nothing-like-it here"]);
    all("/?q=shop&sort=size", &["6 found", "Size"]);
    all(
        "/r/library/nginx",
        &["1.29.3", "signed", "attested", "linux/amd64 , linux/arm64/v8 , linux/arm/v7 , linux/ppc64le"],
    );
    all(
        "/r/library/nginx/-/1.29",
        &[
            "Platforms",
            "Signature",
            "SBOM",
            "https://spdx.dev/Document",
            "Also tagged 1.29.3 latest",
            "4 layers",
            "EXPOSE map[80/tcp:{}]",
            "RUN set -x",
            "SIGQUIT",
            "NGINX_VERSION=1.29.3",
        ],
    );
    let arm = page("/r/library/nginx/-/1.29?platform=linux/arm64/v8");
    assert!(arm.contains("linux/arm64/v8 Layers") || arm.contains(", linux/arm64/v8"), "{arm}");
    // What isn't asked for by any name that is there is the usual one.
    all("/r/library/nginx/-/1.29?platform=plan9/mips", &["linux/amd64"]);
    all("/r/team/shop/api", &["2 tags of signatures and the like not shown", "2.1.0 signed SBOM"]);
    all("/r/team/shop/api?all=1", &[".sig"]);
    all(
        "/r/team/shop/api/-/2.1.0",
        &["SBOM application/spdx+json", "Signature by cosign", "shop", "/srv/shop", "8080/tcp"],
    );
    all(
        "/r/charts/shop/-/0.14.2",
        &[
            "Helm chart",
            "helm pull --plain-http oci://",
            "--version 0.14.2",
            "The shop, with its database and mail",
            "\"appVersion\": \"2.3.0\"".replace('"', "&quot;").as_str(),
        ],
    );
    all("/r/edge/filter/-/1.0", &["WebAssembly module"]);
    all(
        "/r/mirror/windows/nanoserver/-/ltsc2025",
        &["windows/amd64 10.0.26100.4349", "from elsewhere", "122 MB"],
    );
    all(
        "/r/data/models/embedding/-/2026-11",
        &["application/vnd.example.model", "weights.bin", "3 files", "corten artifact pull"],
    );
    all("/usage", &["Saved by sharing", "Largest blobs", "library/ nginx"]);
    // A digest has a page of its own, and so has what says something of an image.
    let list = get(&hub, "/v2/library/nginx/manifests/1.29", "");
    all(&format!("/r/library/nginx/-/{}", list.header("docker-content-digest")), &["Also tagged", "1.29"]);
    for path in ["/r/none", "/r/library/nginx/-/none", "/r/A", "/r/library/nginx/-/sha256:12", "/r/..%2fx"] {
        let reply = get(&hub, path, "");
        assert_eq!(reply.status, 404, "{path}");
        assert!(reply.text().contains("There is nothing here"), "{path}");
    }
}

#[test]
fn headers_methods_and_assets() {
    let place = place();
    let hub = registry(place.path());
    let page = get(&hub, "/", "");
    let policy = page.header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none';") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "private, no-cache"),
    ] {
        assert_eq!(page.header(name), value, "{name}");
    }
    let html = page.text();
    assert!(
        !html.contains("style=")
            && !html.contains("onclick")
            && !html.contains("<style")
            && !html.contains("http://www."),
        "{html}"
    );
    let assets: Vec<&str> = html.split('"').filter(|text| text.starts_with("/assets/")).collect();
    assert!(assets.len() >= 3, "{html}");
    for path in assets {
        let asset = get(&hub, path, "");
        assert_eq!(asset.status, 200, "{path}");
        assert_eq!(asset.header("cache-control"), "public, max-age=31536000, immutable");
        let known = get(&hub, path, &format!("If-None-Match: {}\r\n", asset.header("etag")));
        assert_eq!((known.status, known.body.len()), (304, 0));
        let small = get(&hub, path, "Accept-Encoding: gzip, br\r\n");
        assert_eq!(small.header("content-encoding"), "gzip");
        let whole = curl(&hub, path, &["--compressed"]);
        assert_eq!(whole.trim_end(), asset.text().trim_end());
    }
    let mut wire = hub.connect();
    let head = wire.ask("HEAD", "/", "", &[]).expect("HEAD");
    assert_eq!((head.status, head.header("content-length")), (200, page.body.len().to_string().as_str()));
    for (method, path) in
        [("POST", "/"), ("DELETE", "/r/a"), ("PUT", "/usage"), ("GET", "/sign-out"), ("POST", "/assets/x/y")]
    {
        assert_eq!(wire.ask(method, path, "", &[]).expect(method).status, 405, "{method} {path}");
    }
    // What is no page is what it was.
    let other = get(&hub, "/v1/_ping", "");
    assert_eq!((other.status, other.header("content-type")), (404, "application/json"));
    assert_eq!(get(&hub, "/v2/", "Accept: text/html\r\n").text(), "{}");
    let config = place.path().join("registry.json");
    std::fs::write(&config, r#"{"web": false}"#).expect("a configuration");
    let without =
        TestRegistry::start(&place.path().join("without"), &["--config", &config.display().to_string()]);
    for path in ["/", "/r/a", "/usage", "/sign-in", "/favicon.ico"] {
        let reply = get(&without, path, "");
        assert_eq!((reply.status, reply.header("content-type")), (404, "application/json"), "{path}");
    }
}

#[test]
fn lists_come_in_pages() {
    let place = place();
    let hub = registry(place.path());
    let mut push = Hub::new(&hub);
    let hello = [("COPY hello /", Some((1, 100)))];
    for number in 0..120 {
        let name = format!("many/r{number:03}");
        push.image(&name, Some("1"), ("linux/amd64", json!({})), &hello, Value::Null);
        push.image(
            "tags",
            Some(&format!("t{number:03}")),
            ("linux/amd64", json!({"n": number})),
            &hello,
            Value::Null,
        );
    }
    for (start, unit) in [("/?q=many", "many/r"), ("/r/tags?sort=name&q=t", "/r/tags/-/t")] {
        let mut path = start.to_owned();
        let mut seen = Vec::new();
        for turn in 1.. {
            let html = curl(&hub, &path, &[]);
            assert!(html.len() < 50_000, "{} bytes", html.len());
            seen.extend(html.split("href=\"").skip(1).filter_map(|rest| {
                let target = rest.split('"').next().expect("an address");
                let name = target.split(unit).nth(1)?.get(..3)?;
                name.parse::<u32>().ok()
            }));
            let next = html.split("rel=\"next\" href=\"").nth(1).and_then(|rest| rest.split('"').next());
            match next {
                Some(next) => path = next.replace("&amp;", "&"),
                None => {
                    assert_eq!(turn, 3);
                    break;
                }
            }
        }
        seen.dedup();
        assert_eq!(seen, (0..120).collect::<Vec<_>>(), "{start}");
    }
    let back = curl(&hub, "/?from=50", &[]);
    assert!(back.contains("rel=\"prev\" href=\"/\""), "{back}");
    assert_eq!(get(&hub, "/?from=99999999999999999999", "").status, 200);
}

/// Nothing of what somebody has pushed is markup, or turns the text around it.
fn assert_harmless(html: &str) {
    assert_nested(html);
    let lower = html.to_lowercase();
    assert!(lower.matches("<script").count() == 1 && lower.contains("<script src=\"/assets/"), "{html}");
    for tag in ["<img src=x", "<svg onload", "<b>80", "<i>amd64", "<h1>signed"] {
        assert!(!lower.contains(tag), "{tag}");
    }
    for piece in html.split('<').skip(1) {
        let tag = piece.split('>').next().expect("a tag");
        if let Some(href) = tag.split("href=\"").nth(1).and_then(|rest| rest.split('"').next()) {
            assert!(href.starts_with(['/', '#']) || href.starts_with("https://example.org/"), "{href}");
        }
        // What stands outside of quotes is ours.
        let names = tag.split('"').step_by(2).flat_map(str::split_whitespace);
        assert!(!names.map(str::to_lowercase).any(|name| name.starts_with("on")), "{tag}");
    }
    for odd in ['\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}', '\u{ad}', '\u{0}', '\u{1b}', '\u{7}'] {
        assert!(!html.contains(odd), "{odd:?}");
    }
}

#[test]
fn hostile_images_are_only_text() {
    let place = place();
    let hub = registry(place.path());
    Hub::new(&hub).hostile("evil/image");
    let mut pages = vec!["/".to_owned(), "/r/evil/image".into(), "/usage".into()];
    pages.extend(["evil", "odd", "foreign", "large"].map(|tag| format!("/r/evil/image/-/{tag}")));
    let script = "%3Cscript%3Ealert(0)%3C/script%3E%22%27%E2%80%AE";
    pages.extend([
        format!("/?q={script}&sort={script}"),
        format!("/r/evil/image?q={script}"),
        format!("/sign-in?back={script}"),
    ]);
    pages.push(format!("/r/evil/image/-/evil?platform={script}"));
    for path in &pages {
        let reply = get(&hub, path, "");
        assert!(matches!(reply.status, 200 | 303), "{path}: {}", reply.status);
        assert!(reply.body.len() < 50_000, "{path}: {} bytes", reply.body.len());
        if reply.status == 303 {
            assert_eq!(reply.header("location"), "/", "{path}");
            continue;
        }
        // What somebody has typed themselves stands in the field as they have typed it.
        let typed = "&lt;script&gt;alert(0)&lt;/script&gt;&quot;&#39;\u{202e}";
        assert_harmless(&reply.text().replace(&format!("value=\"{typed}\""), ""));
    }
    let page = get(&hub, "/r/evil/image/-/evil", "").text();
    for expected in [
        "&lt;script&gt;alert(&#39;pwned&#39;)&lt;/script&gt;",
        "‹U+202E›gpj.exe",
        "more characters",
        "https://example.org/a?b=1&amp;c=2",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    let says = |tag: &str, expected: &str| {
        let page = get(&hub, &format!("/r/evil/image/-/{tag}"), "").text();
        assert!(page.contains(expected), "{tag}: {page}");
    };
    says("odd", "is no JSON object");
    says("large", "which is too much to show");
    says("foreign", "&lt;script&gt;");
    // What a name in the request holds comes back as text, in the page that says that it isn't there.
    for host in ["Host: <script>alert(1)</script>\r\n", "Host: a\"b\r\n"] {
        let mut wire = hub.connect();
        wire.send(format!("GET /r/evil/image HTTP/1.1\r\n{host}\r\n").as_bytes()).expect("a request");
        let reply = wire.answer(false).expect("an answer");
        assert_harmless(&reply.text());
    }
    // A configuration that has rotten in the storage.
    let odd = get(&hub, "/v2/evil/image/manifests/foreign", "").text();
    let odd: Value = serde_json::from_str(&odd).expect("a manifest");
    let hex = odd["config"]["digest"].as_str().expect("a digest").trim_start_matches("sha256:").to_owned();
    let path = hub.data().join("blobs/sha256").join(&hex);
    let mut bytes = std::fs::read(&path).expect("a blob");
    bytes[0] ^= 1;
    std::fs::remove_file(&path).and_then(|()| std::fs::write(&path, &bytes)).expect("damage");
    says("foreign", "The configuration is damaged");
    std::fs::remove_file(&path).expect("remove");
    says("foreign", "The configuration is not in this repository");
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

#[test]
fn everybody_sees_what_they_may_read() {
    let hub = Guarded::start();
    let registry = &hub.registry;
    let page = |path: &str, who: Option<&str>| {
        let headers =
            who.map(|who| format!("Authorization: Basic {}\r\n", corten_api::base64::encode(who.as_bytes())));
        get(registry, path, &headers.unwrap_or_default())
    };
    let everything = ["public/app", "team/app", "home/bob/app", "secret/app"];
    for (who, sees) in [
        (None, &["public/app"][..]),
        (Some("alice:elephant"), &["public/app", "team/app"]),
        (Some("bob:mouse"), &["public/app", "home/bob/app"]),
        (Some("root:whale"), &everything),
    ] {
        let lists = ["/", "/?q=app", "/?q=secret-tag", "/?q=app:v1", "/usage", "/?sort=size"]
            .map(|path| page(path, who).text());
        for name in everything {
            let link = format!("/r/{name}");
            let there = sees.contains(&name);
            for list in &lists {
                assert_eq!(list.contains(&link), there, "{who:?} {name}: {list}");
            }
            for path in [link.clone(), format!("{link}/-/v1-secret-tag"), format!("{link}?all=1")] {
                assert_eq!(page(&path, who).status, if there { 200 } else { 404 }, "{who:?} {path}");
            }
        }
        // Neither do sizes tell of what isn't there.
        let usage = words(&lists[4]);
        let stored = 200
            + [2, 3, 4, 5]
                .iter()
                .zip(everything)
                .filter(|(_, name)| sees.contains(name))
                .map(|(own, _)| own * 100)
                .sum::<u64>();
        let shown = if stored >= 1000 {
            format!("{}.{:02} MB", stored / 1000, stored % 1000 / 10)
        } else {
            format!("{stored} kB")
        };
        assert!(usage.contains(&format!("Stored {shown}")), "{who:?} {shown}: {usage}");
    }
    // What may not be seen looks like what isn't there.
    let [secret, none] =
        ["/r/secret/app", "/r/secret/nap"].map(|path| page(path, None).text().replace("nap", "app"));
    assert_eq!(secret, none);
    assert_eq!(page("/", Some("alice:cat")).status, 401);
    let token = get(registry, "/", "Authorization: Bearer x.y.z\r\n");
    assert_eq!(token.status, 401);
    let account = words(&page("/account", Some("root:whale")).text());
    assert!(account.contains("** read, write, delete, admin") && account.contains("Robots"), "{account}");
    let account = words(&page("/account", Some("alice:elephant")).text());
    assert!(account.contains("team/** read, write") && !account.contains("Robots"), "{account}");
    assert_eq!(page("/account", None).header("location"), "/sign-in?back=/account");
    assert_eq!(page("/", Some("alice:elephant")).header("cache-control"), "private, no-store");
}

#[test]
fn signing_in_and_out() {
    let hub = Guarded::start();
    let registry = &hub.registry;
    let form = get(registry, "/sign-in?back=/r/team/app", "").text();
    assert!(
        form.contains("value=\"/r/team/app\"") && form.contains("autocomplete=\"current-password\""),
        "{form}"
    );
    // Only from our own pages.
    for odd in [
        "",
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Origin: http://hub\r\nSec-Fetch-Site: cross-site\r\n",
    ] {
        let refused = hub.sign_in("alice", "elephant", odd, "/");
        assert!(
            refused.status == 401 && refused.header("set-cookie").is_empty(),
            "{odd}: {}",
            refused.status
        );
    }
    let wrong = hub.sign_in("alice", "cat", OURS, "/r/team/app");
    assert_eq!((wrong.status, wrong.header("set-cookie")), (403, ""));
    assert!(words(&wrong.text()).contains("Incorrect username or password."), "{}", wrong.text());
    assert!(wrong.text().contains("value=\"alice\"") && !wrong.text().contains("cat\""));
    let welcome = hub.sign_in("alice", "elephant", OURS, "/r/team/app");
    assert_eq!((welcome.status, welcome.header("location")), (303, "/r/team/app"));
    let set = welcome.header("set-cookie");
    assert!(
        set.starts_with("corten=") && set.ends_with("; Path=/; Max-Age=28800; HttpOnly; SameSite=Strict"),
        "{set}"
    );
    let session = cookie(&welcome);
    let page = get(registry, "/r/team/app", &session);
    assert!(page.status == 200 && words(&page.text()).contains("alice Sign out"), "{}", page.text());
    assert_eq!(get(registry, "/sign-in?back=/usage", &session).header("location"), "/usage");
    // A session is for pages, and for nothing else.
    assert_eq!(get(registry, "/v2/team/app/tags/list", &session).status, 401);
    let token = session.trim_start_matches("Cookie: corten=").trim_end();
    assert_eq!(get(registry, "/v2/", &format!("Authorization: Bearer {token}\r\n")).status, 401);
    // The way back stays here.
    for back in [
        "https://evil.example/",
        "//evil.example",
        "/%5Cevil.example",
        "/sign-out",
        "javascript:alert(1)",
        "/v2/",
    ] {
        assert_eq!(hub.sign_in("alice", "elephant", OURS, back).header("location"), "/", "{back}");
    }
    let foreign = registry
        .connect()
        .ask("POST", "/sign-out", &format!("{session}Origin: http://evil.example\r\n"), &[])
        .expect("sign out");
    assert_eq!(foreign.status, 401);
    assert_eq!(get(registry, "/r/team/app", &session).status, 200);
    let out =
        registry.connect().ask("POST", "/sign-out", &format!("{session}{OURS}"), &[]).expect("sign out");
    assert_eq!((out.status, out.header("location")), (303, "/"));
    assert!(
        out.header("set-cookie").starts_with("corten=; Path=/; Max-Age=0"),
        "{}",
        out.header("set-cookie")
    );
    // The cookie is worth nothing any more, whoever has kept it.
    assert_eq!(get(registry, "/r/team/app", &session).status, 404);
    let session = cookie(&hub.sign_in("bob", "mouse", OURS, "/"));
    assert_eq!(get(registry, "/r/home/bob/app", &session).status, 200);
    let users = hub._place.path().join("users").display().to_string();
    run(Command::new(binary("corten")).args(["registry", "user", "rm", "--file", &users, "bob"])).ok();
    corten_tests::eventually("bob is out", || get(registry, "/r/home/bob/app", &session).status == 404);
    for _ in 0..10 {
        hub.sign_in("alice", "guess", OURS, "/");
    }
    let later = hub.sign_in("alice", "guess", OURS, "/");
    assert!(later.status == 429 && !later.header("retry-after").is_empty(), "{}", later.status);
    corten_tests::eventually("the audit log tells it", || {
        let audit = hub.audit();
        audit.contains(r#""identity":"user:alice","action":"login","status":200"#)
            && audit.contains(r#""identity":"alice","action":"login","status":401"#)
    });
}

fn screenshots() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"));
    target.join("screenshots")
}

/// What was pushed is said to have been pushed at different times, as in a hub that people use. The registry is stopped meanwhile.
fn spread_in_time(hub: &mut TestRegistry) {
    hub.stop();
    let script = r#"
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1]); now = int(time.time())
rows = db.execute("SELECT m.id, m.repository FROM manifests m ORDER BY m.id DESC").fetchall()
for at, (id, repository) in enumerate(rows):
    then = now - int(90 * (1 + at) ** 2.1) - repository * 3600 * 7
    db.execute("UPDATE manifests SET pushed_at = ?, pulled_at = ? WHERE id = ?", (then, now - (now - then) // 9 if repository % 4 else None, id))
    db.execute("UPDATE tags SET tagged_at = ? WHERE manifest = ?", (then, id))
db.execute("UPDATE repositories SET pushed_at = (SELECT max(pushed_at) FROM manifests WHERE repository = repositories.id), "
           "pulled_at = (SELECT max(pulled_at) FROM manifests WHERE repository = repositories.id)")
db.commit()
"#;
    run(Command::new("python3").args(["-c", script]).arg(hub.data().join("registry.db"))).ok();
    hub.restart();
}

/// Without what the script adds, and what depends on when it was made.
fn plain(seen: &Seen) -> String {
    let mut html = seen.html.replace(" class=\"live\"", "");
    while let Some(at) = html.find("<button type=\"button\"") {
        let end = html[at..].find("</button>").expect("its end") + "</button>".len();
        html.replace_range(at..at + end, "");
    }
    html.split("<time")
        .enumerate()
        .map(
            |(at, piece)| {
                if at == 0 { piece } else { piece.split_once("</time>").map_or(piece, |(_, rest)| rest) }
            },
        )
        .collect()
}

fn assert_quiet(seen: &Seen, address: &str, path: &str) {
    assert!(seen.complaints.is_empty(), "{path}: {:?}", seen.complaints);
    let elsewhere: Vec<_> =
        seen.requests.iter().filter(|url| !url.starts_with(&format!("http://{address}/"))).collect();
    assert!(elsewhere.is_empty(), "{path}: {elsewhere:?}");
}

#[test]
fn pages_as_chromium_shows_them() {
    let Some(mut browser) = Browser::start() else {
        println!("skipped: there is no chromium here; scripts/setup installs it");
        return;
    };
    let place = place();
    let mut hub = registry(place.path());
    let mut push = Hub::new(&hub);
    push.fill();
    push.hostile("evil/image");
    drop(push);
    spread_in_time(&mut hub);
    let address = hub.address().to_string();
    let directory = screenshots();
    let mut too_wide = Vec::new();
    for (name, path) in [
        ("repositories", "/"),
        ("search", "/?q=shop&sort=size"),
        ("search-tags", "/?q=1.29"),
        ("repository", "/r/library/nginx"),
        ("repository-signed", "/r/team/shop/api"),
        ("index", "/r/library/nginx/-/1.29"),
        ("image", "/r/team/shop/api/-/2.1.0"),
        ("chart", "/r/charts/shop/-/0.14.2"),
        ("windows", "/r/mirror/windows/nanoserver/-/ltsc2025"),
        ("model", "/r/data/models/embedding/-/2026-11"),
        ("hostile", "/r/evil/image/-/evil"),
        ("hostile-tags", "/r/evil/image"),
        ("usage", "/usage"),
    ] {
        let url = format!("http://{address}{path}");
        let views = [
            ("light", DESKTOP),
            ("dark", View { dark: true, ..DESKTOP }),
            ("phone", View { width: 390, ..DESKTOP }),
        ];
        for (kind, view) in views {
            let seen = browser.look(&url, &view);
            keep(&directory, &format!("{name}-{kind}"), &seen.png);
            assert_quiet(&seen, &address, path);
            if seen.overflow > 0.0 {
                too_wide.push(format!("{path} ({kind}) by {} pixels", seen.overflow));
            }
        }
        let with = browser.look(&url, &DESKTOP);
        let without = browser.look(&url, &View { script: false, ..DESKTOP });
        assert_quiet(&without, &address, path);
        assert_eq!(plain(&with), plain(&without), "{path}");
    }
    assert!(too_wide.is_empty(), "too wide: {too_wide:?}");
    let missing = browser.look(&format!("http://{address}/r/none"), &DESKTOP);
    keep(&directory, "nothing-light", &missing.png);
    // What the script does: a list that follows, and a button that copies.
    let type_shop = "(async () => { const field = document.querySelector('input[type=search]'); field.value = 'shop/wo';
        field.dispatchEvent(new Event('input')); for (let n = 0; n < 200 && document.querySelectorAll('tbody tr').length > 1; n++)
        await new Promise(done => setTimeout(done, 25)); return [document.querySelectorAll('tbody tr').length, location.search].join(); })()";
    let typed = browser.look(&format!("http://{address}/"), &View { then: Some(type_shop), ..DESKTOP });
    assert_eq!(typed.outcome, "1,?q=shop%2Fwo");
    let copy = "(async () => { const button = document.querySelector('.panel .copy button'); button.click();
        for (let n = 0; n < 200 && button.textContent == 'Copy'; n++) await new Promise(done => setTimeout(done, 25)); return button.textContent; })()";
    let copied =
        browser.look(&format!("http://{address}/r/library/nginx"), &View { then: Some(copy), ..DESKTOP });
    assert_ne!(copied.outcome, "Copy");
}

#[test]
fn signing_in_with_chromium() {
    let Some(mut browser) = Browser::start() else {
        println!("skipped: there is no chromium here; scripts/setup installs it");
        return;
    };
    let hub = Guarded::start();
    let address = hub.registry.address().to_string();
    let directory = screenshots();
    for (kind, view) in [
        ("light", DESKTOP),
        ("dark", View { dark: true, ..DESKTOP }),
        ("phone", View { width: 390, ..DESKTOP }),
    ] {
        let form = browser.look(&format!("http://{address}/sign-in"), &view);
        keep(&directory, &format!("sign-in-{kind}"), &form.png);
        assert_quiet(&form, &address, "/sign-in");
    }
    let url = format!("http://{address}/sign-in?back=/r/team/app");
    // The form is sent by the browser, with what it says of where it comes from.
    let fill = "(() => { const [name, password] = document.querySelectorAll('.entrance input');
        name.value = 'alice'; password.value = 'elephant'; setTimeout(() => document.querySelector('.entrance').requestSubmit()); })()";
    let signed = browser.look(&url, &View { then: Some(fill), leaves: true, ..DESKTOP });
    assert_quiet(&signed, &address, "/sign-in");
    assert!(signed.html.contains("Sign out") && signed.html.contains("v1-secret-tag"), "{}", signed.html);
    let account = browser.look(&format!("http://{address}/account"), &DESKTOP);
    keep(&directory, "account-light", &account.png);
    assert!(account.html.contains("team/**"), "{}", account.html);
    let cookies =
        browser.look(&format!("http://{address}/"), &View { then: Some("document.cookie"), ..DESKTOP });
    assert_eq!(cookies.outcome, "");
}
