//! What servers send, and what becomes of it: wrong, broken, slow, endless.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use corten_image::Digest;
use corten_image::manifest::{Descriptor, media};

use super::hostile::{Asked, Hostile, Step, blob, client, impatient, options, reply};
use crate::{Cause, Client, ClientOptions, Credentials, Error, Patience, Repository};

const INDEX: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

fn noise(len: usize) -> Bytes {
    (0..len).map(|n| (n * 31 + n / 251) as u8).collect()
}

async fn read(repository: &Repository, of: &[u8], offset: u64) -> crate::Result<Vec<u8>> {
    let mut download = repository.download(&Descriptor::of(media::OCI_LAYER, of), offset);
    let mut bytes = Vec::new();
    while let Some(next) = download.chunk().await? {
        bytes.extend_from_slice(&next);
    }
    assert!(download.chunk().await?.is_none(), "the end stays the end");
    Ok(bytes)
}

async fn reading(server: &Hostile, of: &[u8], offset: u64) -> crate::Result<Vec<u8>> {
    reading_by(client(), server, of, offset).await
}

async fn reading_by(client: Client, server: &Hostile, of: &[u8], offset: u64) -> crate::Result<Vec<u8>> {
    let repository = client.repository(&server.address, "x", None);
    let reading = read(&repository, of, offset);
    tokio::time::timeout(Duration::from_secs(120), reading).await.expect("in bounded time")
}

fn begin(of: &[u8], until: usize) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", of.len()).as_bytes(), &of[..until]].concat()
}

#[tokio::test]
async fn manifests_are_what_they_are_called() {
    let server = Hostile::start(|asked| {
        let kind = "Content-Type: application/vnd.oci.image.index.v1+json; charset=utf-8\r\n";
        match asked.path().rsplit('/').next().unwrap() {
            "said" => {
                reply("200 OK", &format!("{kind}Docker-Content-Digest: {}\r\n", Digest::of(b"x")), INDEX)
            }
            "huge" => vec![
                Step::Say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
                Step::Repeat([b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat()),
            ],
            "long" => vec![Step::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n".to_vec())],
            _ => reply("200 OK", kind, INDEX),
        }
    })
    .await;
    let repository = client().repository(&server.address, "x", None);
    let found = repository.manifest(&Digest::of(INDEX.as_bytes()).to_string()).await.unwrap();
    assert_eq!(found.media_type, media::OCI_INDEX);
    for (reference, what) in [(Digest::of(b"y").to_string(), "digest"), ("said".to_owned(), "digest")] {
        let refused = repository.manifest(&reference).await.unwrap_err();
        assert!(matches!(refused, Error::Digest { .. }) && refused.to_string().contains(what), "{refused}");
    }
    for reference in ["huge", "long"] {
        let refused = repository.manifest(reference).await.unwrap_err().to_string();
        assert!(refused.contains("larger than 8388608 bytes"), "{refused}");
    }
    // HEAD says nothing here, so that GET has to.
    let described = repository.manifest_descriptor("a").await.unwrap().unwrap();
    assert_eq!(described, Descriptor::of(media::OCI_INDEX, INDEX.as_bytes()));
}

#[tokio::test]
async fn heads_without_end_and_nonsense() {
    let cases = [
        vec![
            Step::Say(b"HTTP/1.1 200 OK\r\n".to_vec()),
            Step::Repeat(b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".to_vec()),
        ],
        vec![Step::Say(b"HTTP/1.1 200 OK\r\nX: ".to_vec()), Step::Repeat(vec![b'x'; 4096])],
        vec![Step::Repeat(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec())],
        vec![Step::Say(b"SSH-2.0-server\r\n\r\n".to_vec())],
        vec![Step::Say(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n".to_vec())],
        vec![Step::Wait(Duration::from_secs(60))],
        vec![Step::HangUp],
    ];
    let mut tasks = tokio::task::JoinSet::new();
    for (number, case) in cases.into_iter().enumerate() {
        let case = std::sync::Mutex::new(Some(case));
        let server = Hostile::start(move |_| case.lock().unwrap().take().unwrap_or(vec![Step::HangUp])).await;
        tasks.spawn(async move {
            let begun = Instant::now();
            let refused = impatient().repository(&server.address, "x", None).manifest("a").await;
            assert!(refused.is_err(), "{number}");
            assert!(begun.elapsed() < Duration::from_secs(30), "{number}: {:?}", begun.elapsed());
        });
    }
    tasks.join_all().await;
}

#[tokio::test]
async fn broken_downloads_go_on_where_they_broke() {
    let content = noise(400_000);
    let served = content.clone();
    // Every connection brings 100 000 bytes.
    let server = Hostile::start(move |asked| {
        let (from, _) = asked.range().unwrap_or_default();
        let until = (from + 100_000).min(served.len());
        let range = format!("Content-Range: bytes {from}-{}/{}\r\n", served.len() - 1, served.len());
        let (status, range) =
            if from == 0 { ("200 OK", "") } else { ("206 Partial Content", range.as_str()) };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{range}\r\n", served.len() - from);
        vec![Step::Say([head.as_bytes(), &served[from..until]].concat()), Step::HangUp]
    })
    .await;
    assert!(reading(&server, &content, 0).await.unwrap() == content);
    let ranges: Vec<_> = server.asked().iter().map(Asked::range).collect();
    assert_eq!(ranges.len(), 4);
    assert_eq!(ranges[3], Some((300_000, None)));
    assert!(reading(&server, &content, 123_456).await.unwrap() == content[123_456..]);
}

#[tokio::test]
async fn without_progress_it_ends() {
    let content = noise(1000);
    let served = content.clone();
    let server = Hostile::start(move |_| vec![Step::Say(begin(&served, 1)), Step::HangUp]).await;
    let refused = reading(&server, &content, 0).await.unwrap_err();
    assert!(refused.is_temporary(), "{refused}");
    assert!(server.asked().len() <= 6, "{}", server.asked().len());
    // A byte now and then is no progress either.
    let served = noise(10_000_000);
    let slow = served.clone();
    let server = Hostile::start(move |_| {
        let mut steps = vec![Step::Say(begin(&slow, 1))];
        steps.extend((0..1000).flat_map(|_| [Step::Wait(Duration::from_millis(50)), Step::Say(vec![0])]));
        steps
    })
    .await;
    let refused = reading_by(impatient(), &server, &served, 0).await.unwrap_err();
    assert!(refused.to_string().contains("next to nothing"), "{refused}");
}

#[tokio::test]
async fn a_reader_may_take_its_time() {
    let content = noise(3_000_000);
    let served = content.clone();
    let server = Hostile::start(move |asked| blob(asked, &served)).await;
    let stall = Duration::from_secs(2);
    let client =
        Client::new(ClientOptions { patience: Patience { stall, ..Patience::default() }, ..options() });
    let repository = client.repository(&server.address, "x", None);
    let mut download = repository.download(&Descriptor::of(media::OCI_LAYER, &content), 0);
    let first = download.chunk().await.unwrap().unwrap();
    tokio::time::sleep(stall + Duration::from_millis(500)).await;
    let mut got = first.to_vec();
    while let Some(bytes) = download.chunk().await.unwrap() {
        got.extend_from_slice(&bytes);
    }
    assert!(got == content);
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn servers_without_ranges_are_coped_with() {
    let content = noise(300_000);
    let served = content.clone();
    let has_broken = Arc::new(AtomicBool::new(false));
    let server = Hostile::start(move |_| match has_broken.swap(true, Ordering::SeqCst) {
        false => vec![Step::Say(begin(&served, 150_000)), Step::HangUp],
        true => reply("200 OK", "", &served),
    })
    .await;
    assert!(reading(&server, &content, 0).await.unwrap() == content);
    assert!(reading(&server, &content, 299_999).await.unwrap() == content[299_999..]);
}

#[tokio::test]
async fn lies_about_ranges_and_lengths() {
    let content = noise(1000);
    for range in ["bytes 0-999/1000", "bytes 500-999/2000", "bytes 500-998/1000", "nonsense", ""] {
        let served = content.clone();
        let server = Hostile::start(move |_| {
            reply("206 Partial Content", &format!("Content-Range: {range}\r\n"), &served[500..])
        })
        .await;
        let refused = reading(&server, &content, 500).await.unwrap_err();
        assert!(matches!(refused, Error::Protocol { .. }), "{range}: {refused}");
        assert!(server.asked().len() == 1);
    }
    for (said, sent) in [
        ("Content-Length: 999\r\n", 999),
        ("Content-Length: 1001\r\n", 1001),
        ("Transfer-Encoding: chunked\r\n", 1001),
    ] {
        let longer = noise(1001);
        let server = Hostile::start(move |_| {
            let body = match said.contains("chunked") {
                true => [format!("{sent:x}\r\n").as_bytes(), &longer[..sent], b"\r\n0\r\n\r\n"].concat(),
                false => longer[..sent].to_vec(),
            };
            vec![Step::Say([format!("HTTP/1.1 200 OK\r\n{said}\r\n").as_bytes(), &body].concat())]
        })
        .await;
        let refused = reading(&server, &content, 0).await.unwrap_err();
        assert!(matches!(refused, Error::Protocol { .. }), "{said}: {refused}");
    }
}

/// Gives 8 MB/s by each connection, one block at a time.
fn throttled(asked: &Asked, of: &[u8], takes_ranges: bool) -> Vec<Step> {
    let mut steps = match takes_ranges {
        true => blob(asked, of),
        false => reply("200 OK", "", of),
    };
    let Some(Step::Say(bytes)) = steps.pop() else { return steps };
    for block in bytes.chunks(80_000) {
        steps.extend([Step::Say(block.to_vec()), Step::Wait(Duration::from_millis(10))]);
    }
    steps
}

#[tokio::test]
async fn a_slow_connection_gets_company() {
    let content = noise(48 << 20);
    let served = content.clone();
    let server = Hostile::start(move |asked| throttled(asked, &served, true)).await;
    assert!(reading(&server, &content, 0).await.unwrap() == content);
    let connections = server.connections();
    assert!((2..=5).contains(&connections), "{connections}");
    // A server without ranges is found out by one request, and costs nothing more.
    let served = content.clone();
    let server = Hostile::start(move |asked| throttled(asked, &served[..24 << 20], false)).await;
    assert!(reading(&server, &content[..24 << 20], 0).await.unwrap() == content[..24 << 20]);
    assert!(server.asked().len() <= 4, "{}", server.asked().len());
}

#[tokio::test]
async fn what_a_registry_may_not_pass_on_is_had_from_elsewhere() {
    let layer = noise(300_000);
    let elsewhere = Hostile::start({
        let layer = layer.clone();
        move |asked| match asked.path() {
            "/layer" => blob(asked, &layer),
            _ => reply("404 Not Found", "", ""),
        }
    })
    .await;
    let server = Hostile::start(|asked| match asked.header("authorization") {
        "" => reply("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", ""),
        _ => reply("404 Not Found", "", ""),
    })
    .await;
    let somebody = Credentials::Password { name: "me".into(), password: "secret".into() };
    let repository = client().repository(&server.address, "x", Some(somebody));
    let mut descriptor = Descriptor::of("application/x", &layer);
    let urls = ["gone", "layer"].map(|name| format!("http://{}/{name}", elsewhere.address));
    descriptor.urls = Some(urls.to_vec());
    let mut download = repository.download(&descriptor, 1000);
    let mut read = Vec::new();
    while let Some(chunk) = download.chunk().await.unwrap() {
        read.extend_from_slice(&chunk);
    }
    assert!(read == layer[1000..]);
    assert!(elsewhere.asked().iter().all(|asked| asked.header("authorization").is_empty()));
    descriptor.urls = Some(vec!["file:///etc/passwd".to_owned()]);
    repository.download(&descriptor, 0).chunk().await.unwrap_err();
}

#[tokio::test]
async fn uploads_that_are_refused_on_their_way() {
    let server = Hostile::start(|asked| match asked.method.as_str() {
        "POST" => reply("202 Accepted", "Location: /v2/x/blobs/uploads/1?state=a\r\n", ""),
        "PATCH" => {
            let mut steps = reply(
                "413 Payload Too Large",
                "Connection: close\r\n",
                r#"{"errors":[{"code":"SIZE_INVALID","message":"too large"}]}"#,
            );
            steps.push(Step::HangUp);
            steps
        }
        _ => reply("204 No Content", "", ""),
    })
    .await;
    let repository = client().repository(&server.address, "x", None);
    let mut upload = repository.upload().await.unwrap();
    let mut refused = None;
    for _ in 0..1000 {
        if let Err(error) = upload.send(noise(100_000)).await {
            refused = Some(error);
            break;
        }
    }
    assert!(refused.is_some());
    drop(upload);
    // Dropped is cancelled.
    let deadline = Instant::now() + Duration::from_secs(30);
    while !server.asked().iter().any(|asked| asked.method == "DELETE" && asked.target.ends_with("?state=a")) {
        assert!(Instant::now() < deadline, "nobody cancelled it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Nowhere to go on.
    let server = Hostile::start(|_| reply("202 Accepted", "", "")).await;
    let refused = client().repository(&server.address, "x", None).upload().await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("doesn't say where the upload goes on"), "{refused}");
}

#[tokio::test]
async fn lists_come_in_pages_and_end() {
    let server = Hostile::start(|asked| match asked.target.as_str() {
        "/v2/x/tags/list?n=1000" => reply(
            "200 OK",
            "Link: </v2/x/tags/list?n=1000&last=b>; rel=\"next\"\r\n",
            r#"{"tags":["a","b"]}"#,
        ),
        "/v2/x/tags/list?n=1000&last=b" => reply("200 OK", "", r#"{"tags":["c"]}"#),
        // For ever the same page.
        target if target.starts_with("/v2/round") => {
            reply("200 OK", &format!("Link: <{target}>; rel=\"next\"\r\n"), r#"{"tags":["a"]}"#)
        }
        // For ever empty ones.
        _ => reply(
            "200 OK",
            &format!("Link: </v2/empty/tags/list?{}>; rel=\"next\"\r\n", asked.number),
            r#"{"tags":null}"#,
        ),
    })
    .await;
    let of = |path: &str| client().repository(&server.address, path, None);
    assert_eq!(of("x").tags().await.unwrap(), ["a", "b", "c"]);
    assert!(of("round").tags().await.unwrap().len() <= 2);
    assert!(of("empty").tags().await.unwrap().is_empty());
    assert!(server.asked().len() < 10);
}

#[tokio::test]
async fn referrers_by_either_way() {
    let digest = Digest::of(b"subject");
    let entry = |kind: &str| {
        format!(
            r#"{{"mediaType":"m","digest":"{}","size":1,"artifactType":"{kind}"}}"#,
            Digest::of(kind.as_bytes())
        )
    };
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{},{}]}}"#, entry("sig"), entry("sbom"));
    let server = Hostile::start(move |asked| match asked.path() {
        path if path.starts_with("/v2/new/referrers/") => reply("200 OK", "", &index),
        path if path == format!("/v2/old/manifests/sha256-{}", digest.hex()) => reply("200 OK", "", &index),
        _ => reply("404 Not Found", "", "404 page not found"),
    })
    .await;
    for path in ["new", "old"] {
        let repository = client().repository(&server.address, path, None);
        assert_eq!(repository.referrers(&digest, None).await.unwrap().len(), 2, "{path}");
        let filtered = repository.referrers(&digest, Some("sbom")).await.unwrap();
        assert_eq!(filtered.len(), 1, "{path}");
    }
    assert!(
        client().repository(&server.address, "none", None).referrers(&digest, None).await.unwrap().is_empty()
    );
}

/// Certificates for `localhost`: good, and good no longer.
pub(super) fn certificates(place: &std::path::Path) {
    let script = "
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=authority -keyout ca.key -out ca.crt -days 2
        printf 'subjectAltName=DNS:localhost' >extensions
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=server -keyout server.key -out server.csr
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out good.crt
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days -1 -extfile extensions -out old.crt";
    let output = std::process::Command::new("sh").args(["-ec", script]).current_dir(place).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

pub(super) fn tls(place: &std::path::Path, certificate: &str) -> Arc<rustls::ServerConfig> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let chain = vec![CertificateDer::from_pem_file(place.join(certificate)).unwrap()];
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_file(place.join("server.key")).unwrap())
            .unwrap();
    Arc::new(config)
}

#[tokio::test]
async fn certificates_are_looked_at() {
    let place = tempfile::tempdir().unwrap();
    certificates(place.path());
    let nobody = crate::Insecure { networks: Vec::new(), registries: Vec::new() };
    let directories = vec![place.path().join("certs.d")];
    let client = Client::new(ClientOptions {
        insecure: nobody,
        trust: crate::Trust { directories, ..crate::Trust::default() },
        patience: Patience::default(),
        ..options()
    });
    let index = |_: &Asked| reply("200 OK", "", INDEX);
    let ask = async |server: &Hostile, is_trusted: bool| {
        let address = crate::RegistryAddress::parse(&format!("localhost:{}", server.port)).unwrap();
        let own = place.path().join("certs.d").join(address.to_string());
        if is_trusted {
            std::fs::create_dir_all(&own).unwrap();
            std::fs::copy(place.path().join("ca.crt"), own.join("ca.crt")).unwrap();
        }
        client.repository(&address, "x", None).manifest("a").await.map_err(|error| match error {
            Error::Unreachable { cause, why, .. } => (cause, why),
            other => panic!("{other}"),
        })
    };
    let good = Hostile::start_with(Some(tls(place.path(), "good.crt")), index).await;
    let (cause, why) = ask(&good, false).await.unwrap_err();
    assert_eq!(cause, Cause::Certificate);
    assert!(why.contains("certificate signed by unknown authority"), "{why}");
    assert!(why.contains(&format!("/etc/corten/certs.d/localhost:{}/ca.crt", good.port)), "{why}");
    // Read again as soon as there is something new.
    ask(&good, true).await.unwrap();
    let old = Hostile::start_with(Some(tls(place.path(), "old.crt")), index).await;
    let (cause, why) = ask(&old, true).await.unwrap_err();
    assert!(cause == Cause::Certificate && why.contains("certificate has expired"), "{why}");
    let plain = Hostile::start(index).await;
    let (cause, why) = ask(&plain, true).await.unwrap_err();
    assert!(matches!(cause, Cause::Plain | Cause::Broken), "{why}");
    // From an encrypted place the way never leads to one that isn't.
    let port = plain.port;
    let down = move |_: &Asked| reply("302 Found", &format!("Location: http://127.0.0.1:{port}/\r\n"), "");
    let lowering = Hostile::start_with(Some(tls(place.path(), "good.crt")), down).await;
    let (cause, why) = ask(&lowering, true).await.unwrap_err();
    assert!(cause == Cause::Redirect && why.contains("X-Forwarded-Proto"), "{why}");
    assert!(plain.asked().is_empty());
}
