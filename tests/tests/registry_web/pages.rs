//! What pages say, without JavaScript; of hostile images, too.

use super::*;

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
