//! Redirects, tries, mirrors, proxies: by which ways a request gets there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use corten_image::Digest;
use corten_image::manifest::{Descriptor, media};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::hostile::{Hostile, Step, blob, client, options, reply};
use crate::{Cause, Client, ClientOptions, Credentials, Error, Mirrors, Proxies, Repository};

const BLOB: &[u8] = b"the bytes of a layer";
const INDEX: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

async fn whole(repository: &Repository, of: &[u8]) -> crate::Result<Vec<u8>> {
    let mut download = repository.download(&Descriptor::of(media::OCI_LAYER, of), 0);
    let mut bytes = Vec::new();
    while let Some(next) = download.chunk().await? {
        bytes.extend_from_slice(&next);
    }
    Ok(bytes)
}

fn somebody() -> Option<Credentials> {
    Some(Credentials::Password { name: "me".into(), password: "secret".into() })
}

#[tokio::test]
async fn credentials_do_not_follow_to_another_host() {
    let storage = Hostile::start(|asked| blob(asked, BLOB)).await;
    let port = storage.port;
    let registry = Hostile::start(move |asked| match asked.header("authorization") {
        "" => reply("401 Unauthorized", "WWW-Authenticate: Basic realm=x\r\n", ""),
        _ => reply("307 Temporary Redirect", &format!("Location: http://localhost:{port}/s?sig=1\r\n"), ""),
    })
    .await;
    let repository = client().repository(&registry.address, "x", somebody());
    assert_eq!(whole(&repository, BLOB).await.unwrap(), BLOB);
    assert_eq!(storage.asked()[0].header("authorization"), "");
    assert!(registry.asked().iter().skip(1).all(|asked| asked.header("authorization").starts_with("Basic ")));
}

#[tokio::test]
async fn a_challenge_from_elsewhere_is_answered_to_nobody() {
    let thief =
        Hostile::start(|_| reply("401 Unauthorized", "WWW-Authenticate: Basic realm=x\r\n", "")).await;
    let port = thief.port;
    let registry = Hostile::start(move |_| {
        reply("307 Temporary Redirect", &format!("Location: http://127.0.0.1:{port}/\r\n"), "")
    })
    .await;
    assert!(whole(&client().repository(&registry.address, "x", somebody()), BLOB).await.is_err());
    assert!(thief.asked().iter().all(|asked| asked.header("authorization").is_empty()));
}

#[tokio::test]
async fn redirects_end() {
    let round = Hostile::start(|asked| {
        reply("302 Found", &format!("Location: {}?{}\r\n", asked.path(), asked.number), "")
    })
    .await;
    let refused = client().repository(&round.address, "x", None).manifest("a").await.unwrap_err();
    assert!(matches!(refused, Error::Unreachable { cause: Cause::Redirect, .. }), "{refused}");
    assert_eq!(round.asked().len(), 11);
    for odd in ["", "ftp://127.0.0.1/", "http://me:pw@127.0.0.1/", "http://"] {
        let server = Hostile::start(move |_| reply("302 Found", &format!("Location: {odd}\r\n"), "")).await;
        assert!(client().repository(&server.address, "x", None).manifest("a").await.is_err(), "{odd}");
    }
}

#[tokio::test]
async fn what_passes_by_itself_is_tried_again() {
    let server = Hostile::start(|asked| match asked.number {
        0 => reply("503 Service Unavailable", "", ""),
        1 => vec![Step::HangUp],
        2 => reply("429 Too Many Requests", "Retry-After: 1\r\n", ""),
        _ => reply("200 OK", "", INDEX),
    })
    .await;
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = told.clone();
    let repository = client().repository(&server.address, "x", None);
    let repository = repository.with_notices(move |notice| log.lock().unwrap().push(notice));
    let begun = Instant::now();
    repository.manifest("a").await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1), "the registry's wish counts");
    assert_eq!(server.asked().len(), 4);
    assert!(told.lock().unwrap().is_empty(), "a second isn't worth a word");
}

#[tokio::test]
async fn tries_end() {
    let cases: [(&str, &str); 4] = [
        ("503 Service Unavailable", ""),
        ("502 Bad Gateway", ""),
        ("429 Too Many Requests", "Retry-After: 0\r\n"),
        ("429 Too Many Requests", "Retry-After: 86400\r\n"),
    ];
    let mut tasks = tokio::task::JoinSet::new();
    for (status, headers) in cases {
        tasks.spawn(async move {
            let server = Hostile::start(move |_| reply(status, headers, "")).await;
            let begun = Instant::now();
            let refused = client().repository(&server.address, "x", None).manifest("a").await.unwrap_err();
            assert!(server.asked().len() <= 4 && begun.elapsed() < Duration::from_secs(60), "{status}");
            match refused {
                Error::RateLimited { retry_after, .. } if status.starts_with("429") => {
                    assert!(refused.to_string().starts_with("toomanyrequests: "), "{refused}");
                    assert!(retry_after.is_some());
                    if headers.contains("86400") {
                        assert!(refused.to_string().ends_with("; try again in 86400 s"), "{refused}");
                        assert_eq!(server.asked().len(), 1);
                    }
                }
                Error::Unavailable { .. } => assert!(status.starts_with("50"), "{refused}"),
                other => panic!("{other}"),
            }
        });
    }
    tasks.join_all().await;
    // What may have changed something isn't said again, but for the connection that was there already and may have been stale.
    let server = Hostile::start(|_| vec![Step::HangUp]).await;
    assert!(client().repository(&server.address, "x", None).upload().await.is_err());
    assert!(server.asked().len() <= 2, "{}", server.asked().len());
}

#[tokio::test]
async fn connections_are_used_again() {
    let server = Hostile::start(|asked| match asked.path().contains("blobs") {
        true => blob(asked, BLOB),
        false => reply("200 OK", "", INDEX),
    })
    .await;
    let repository = client().repository(&server.address, "x", None);
    for _ in 0..5 {
        repository.manifest("a").await.unwrap();
        whole(&repository, BLOB).await.unwrap();
    }
    assert_eq!(server.connections(), 1);
    // One that was hung up on meanwhile costs nothing.
    let server = Hostile::start(|_| {
        let mut steps = reply("200 OK", "", INDEX);
        steps.push(Step::HangUp);
        steps
    })
    .await;
    let repository = client().repository(&server.address, "x", None);
    for _ in 0..5 {
        repository.manifest("a").await.unwrap();
    }
    assert_eq!(server.asked().len(), 5);
}

fn with_mirrors(registry: &str, mirrors: &[String]) -> Client {
    let mut list = Mirrors::default();
    for mirror in mirrors {
        list.add(registry, mirror).unwrap();
    }
    Client::new(ClientOptions { mirrors: list, ..options() })
}

#[tokio::test]
async fn mirrors_are_asked_first_and_not_believed() {
    let empty = Hostile::start(|_| reply("404 Not Found", "", "")).await;
    let broken = Hostile::start(|_| reply("500 Internal Server Error", "", "")).await;
    let wrong = Hostile::start(|asked| match asked.path().contains("blobs") {
        true => reply("200 OK", "", vec![0; BLOB.len()]),
        false => reply("200 OK", &format!("Docker-Content-Digest: {}\r\n", Digest::of(b"x")), INDEX),
    })
    .await;
    let registry = Hostile::start(|asked| match asked.path().contains("blobs") {
        true => blob(asked, BLOB),
        false => reply("200 OK", "", INDEX),
    })
    .await;
    let down = "http://127.0.0.1:1".to_owned();
    let of = |server: &Hostile| format!("http://{}/hub", server.address);
    let mirrors = [of(&empty), of(&broken), down, of(&wrong)];
    let client = with_mirrors(&registry.address.to_string(), &mirrors);
    let repository = client.repository(&registry.address, "x", somebody());
    for _ in 0..2 {
        assert_eq!(repository.manifest("a").await.unwrap().bytes, INDEX);
    }
    assert_eq!(
        (empty.asked().len(), broken.asked().len(), wrong.asked().len()),
        (2, 1, 1),
        "who fails has a rest"
    );
    assert_eq!(empty.asked()[0].target, "/hub/v2/x/manifests/a");
    assert!(empty.asked().iter().all(|asked| asked.header("authorization").is_empty()));

    // A mirror with other bytes: the reader finds out, says so, and gets the right ones.
    let client = with_mirrors(&registry.address.to_string(), &[of(&wrong)]);
    let repository = client.repository(&registry.address, "x", None);
    let mut download = repository.download(&Descriptor::of(media::OCI_LAYER, BLOB), 0);
    assert_eq!(download.chunk().await.unwrap().unwrap(), vec![0; BLOB.len()]);
    assert!(download.distrust());
    assert_eq!(whole(&repository, BLOB).await.unwrap(), BLOB);
}

#[tokio::test]
async fn a_mirror_that_breaks_off_is_gone_on_with_elsewhere() {
    let mirror = Hostile::start(|_| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", BLOB.len());
        vec![Step::Say([head.as_bytes(), &BLOB[..7]].concat()), Step::HangUp]
    })
    .await;
    let registry = Hostile::start(|asked| blob(asked, BLOB)).await;
    let client = with_mirrors(&registry.address.to_string(), &[format!("http://{}", mirror.address)]);
    let repository = client.repository(&registry.address, "x", None);
    assert_eq!(whole(&repository, BLOB).await.unwrap(), BLOB);
    assert_eq!(registry.asked()[0].range(), Some((7, None)));
    // Pushes know no mirrors.
    let begun = mirror.asked().len();
    let _ = repository.clone().without_mirrors().manifest_descriptor("a").await;
    let _ = repository.put_manifest("a", media::OCI_INDEX, Bytes::from(INDEX)).await;
    assert_eq!(mirror.asked().len(), begun);
}

#[tokio::test]
async fn by_proxy() {
    let proxy = Hostile::start(|asked| match asked.method.as_str() {
        "CONNECT" if asked.header("proxy-authorization").is_empty() => {
            reply("407 Proxy Authentication Required", "", "")
        }
        "CONNECT" => reply("403 No", "", ""),
        _ => reply("200 OK", "", INDEX),
    })
    .await;
    let host = format!("http://{}", proxy.address);
    let me = format!("http://me:pw@{}", proxy.address);
    let by = |http: &str, https: &str| {
        let proxies = Proxies::new(Some(http), Some(https), Some("direct.test")).unwrap();
        Client::new(ClientOptions {
            proxies,
            insecure: crate::Insecure::parse(&["plain.test".to_owned()]).unwrap(),
            ..options()
        })
    };
    let address = |text: &str| crate::RegistryAddress::parse(text).unwrap();
    // What is insecure is tried by TLS first, which this proxy won't.
    by(&me, &host).repository(&address("plain.test"), "x", None).manifest("a").await.unwrap();
    let last = proxy.asked().pop().unwrap();
    assert_eq!(last.target, "http://plain.test/v2/x/manifests/a");
    assert_eq!(last.header("proxy-authorization"), "Basic bWU6cHc=");
    assert_eq!(last.header("host"), "plain.test");
    for (https, why) in [(&host, "wants a name and a password"), (&me, "won't connect to tls.test:443")] {
        let refused =
            by(&me, https).repository(&address("tls.test"), "x", None).manifest("a").await.unwrap_err();
        assert!(matches!(refused, Error::Unreachable { cause: Cause::Proxy, .. }), "{refused}");
        assert!(refused.to_string().contains(why) && !refused.to_string().contains("pw"), "{refused}");
    }
    let before = proxy.asked().len();
    let refused =
        by(&me, &me).repository(&address("direct.test"), "x", None).manifest("a").await.unwrap_err();
    assert!(matches!(refused, Error::Unreachable { cause: Cause::Name, .. }), "{refused}");
    assert_eq!(proxy.asked().len(), before);
}

#[tokio::test]
async fn by_proxy_with_tls() {
    let place = tempfile::tempdir().unwrap();
    super::bodies::certificates(place.path());
    let tls = super::bodies::tls(place.path(), "good.crt");
    let server = Hostile::start_with(Some(tls), |_| reply("200 OK", "", INDEX)).await;
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, to) = (proxy.local_addr().unwrap().port(), server.port);
    let asked = tokio::spawn(async move {
        let (mut stream, _) = proxy.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let mut there = tokio::net::TcpStream::connect(("127.0.0.1", to)).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n").await.unwrap();
        tokio::spawn(async move {
            let both = tokio::io::copy_bidirectional(&mut stream, &mut there);
            tokio::time::timeout(Duration::from_secs(10), both).await
        });
        String::from_utf8(head).unwrap()
    });
    let proxies = Proxies::new(None, Some(&format!("http://me:p%20w@127.0.0.1:{port}")), None).unwrap();
    let insecure = crate::Insecure::parse(&["tls.test:5000".to_owned()]).unwrap();
    let client = Client::new(ClientOptions { proxies, insecure, ..options() });
    let registry = crate::RegistryAddress::parse("tls.test:5000").unwrap();
    let repository = client.repository(&registry, "x", None);
    for _ in 0..2 {
        assert_eq!(repository.manifest("a").await.unwrap().bytes, INDEX);
    }
    assert_eq!(
        asked.await.unwrap(),
        "CONNECT tls.test:5000 HTTP/1.1\r\nHost: tls.test:5000\r\nProxy-Authorization: Basic bWU6cCB3\r\n\r\n"
    );
    assert_eq!(server.asked()[0].target, "/v2/x/manifests/a");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn who_is_not_there_is_told_of_quickly() {
    let begun = Instant::now();
    let address = |text: &str| crate::RegistryAddress::parse(text).unwrap();
    let refused = client().repository(&address("127.0.0.1:1"), "x", None).manifest("a").await.unwrap_err();
    assert!(matches!(refused, Error::Unreachable { cause: Cause::Down, .. }), "{refused}");
    assert!(refused.to_string().contains("connect to 127.0.0.1 port 1: connection refused"), "{refused}");
    assert!(begun.elapsed() < options().patience.connect / 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_same_place_is_left_alone_by_all() {
    let refused = Arc::new(AtomicUsize::new(0));
    let count = refused.clone();
    let first = std::sync::OnceLock::new();
    let server = Hostile::start(move |_| {
        if first.get_or_init(Instant::now).elapsed() < Duration::from_millis(900) {
            count.fetch_add(1, Ordering::SeqCst);
            return reply("429 Too Many Requests", "Retry-After: 1\r\n", "");
        }
        reply("200 OK", "", INDEX)
    })
    .await;
    let repository = client().repository(&server.address, "x", None);
    assert!(repository.manifest("a").await.is_ok());
    assert_eq!(refused.load(Ordering::SeqCst), 1);
    let server_again = server.asked().len();
    assert_eq!(server_again, 2);
}

#[tokio::test]
async fn a_registry_is_searched_by_either_way() {
    let server = Hostile::start(|asked| match asked.target.as_str() {
        "/v2/_catalog?n=1000" => reply(
            "200 OK",
            "Link: </v2/_catalog?n=1000&last=b>; rel=\"next\"\r\n",
            r#"{"repositories":["a/web","b"]}"#,
        ),
        "/v2/_catalog?n=1000&last=b" => reply("200 OK", "", r#"{"repositories":["c/webapp"]}"#),
        _ => reply("404 Not Found", "", ""),
    })
    .await;
    let found = client().search(&server.address, "Web", 25, None).await.unwrap();
    let names: Vec<_> = found.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, [format!("{}/a/web", server.address), format!("{}/c/webapp", server.address)]);
    assert_eq!(client().search(&server.address, "web", 1, None).await.unwrap().len(), 1);
    let old = Hostile::start(|_| {
        reply(
            "200 OK",
            "",
            r#"{"results":[{"name":"a/web","star_count":7,"is_official":true,"description":"d"}]}"#,
        )
    })
    .await;
    let found = client().search(&old.address, "we b", 25, None).await.unwrap();
    assert_eq!((found[0].star_count, found[0].is_official), (7, true));
    assert_eq!(old.asked()[0].target, "/v1/search?q=we%20b&n=25");
}
