use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use corten_api::base64;

use super::*;
use crate::{ClientOptions, Insecure, Trust};

/// A server without TLS that answers what a function says, and what it was asked.
async fn server(
    answer: impl Fn(&str, u16) -> String + Send + 'static,
) -> (RegistryAddress, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 8192];
            let read = stream.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            // What is no HTTP is an attempt by TLS, and hung up on.
            if request.starts_with("GET") || request.starts_with("POST") {
                let _ = stream.write_all(answer(&request, port).as_bytes()).await;
                log.lock().unwrap().push(request);
            }
        }
    });
    (RegistryAddress::parse(&format!("127.0.0.1:{port}")).unwrap(), asked)
}

fn reply(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

fn somebody() -> Credentials {
    Credentials::Password { name: "hannibal".into(), password: "ele phant".into() }
}

async fn login(registry: &RegistryAddress, credentials: &Credentials) -> Result<Login> {
    let trust = Trust { directories: Vec::new(), ..Trust::default() };
    Client::new(ClientOptions { trust, ..ClientOptions::default() }).login(registry, credentials).await
}

#[tokio::test]
async fn by_password() {
    let right = format!("Basic {}", base64::encode(b"hannibal:ele phant")).to_lowercase();
    let (registry, asked) = server(move |request, _| match request.to_lowercase().contains(&right) {
        true => reply("200 OK", "", "{}"),
        false => reply("401 Unauthorized", "WWW-Authenticate: Basic realm=\"here\"\r\n", ""),
    })
    .await;
    assert_eq!(login(&registry, &somebody()).await.unwrap(), Login::default());
    assert!(!asked.lock().unwrap()[0].to_lowercase().contains("authorization"), "nothing is shown unasked");
    let wrong = Credentials::Password { name: "hannibal".into(), password: "wrong".into() };
    let refused = login(&registry, &wrong).await.unwrap_err();
    assert!(matches!(refused, Error::Unauthorized { .. }));
    assert_eq!(
        refused.to_string(),
        format!("Get \"http://{registry}/v2/\": unauthorized: incorrect username or password")
    );
    let token = login(&registry, &Credentials::Identity("t".into())).await.unwrap_err().to_string();
    assert!(token.contains("wants a name and a password"), "{token}");
}

#[tokio::test]
async fn by_a_token_for_a_password_and_for_an_identity() {
    let (registry, asked) = server(|request, port| {
        let line = request.lines().next().unwrap();
        if line.contains("/token") {
            return reply("200 OK", "", r#"{"access_token": "short", "refresh_token": "long"}"#);
        }
        if request.to_lowercase().contains("authorization: bearer short") {
            return reply("200 OK", "", "{}");
        }
        let realm = format!("Bearer realm=\"http://127.0.0.1:{port}/token?a=b\",service=\"the hub\"");
        reply("401 Unauthorized", &format!("WWW-Authenticate: {realm}\r\n"), "")
    })
    .await;
    let login_ = login(&registry, &somebody()).await.unwrap();
    assert_eq!(login_.identity.as_deref(), Some("long"));
    let line = asked.lock().unwrap()[1].lines().next().unwrap().to_owned();
    let query = "a=b&account=hannibal&client_id=corten&offline_token=true&service=the%20hub";
    assert_eq!(line, format!("GET /token?{query} HTTP/1.1"));
    login(&registry, &Credentials::Identity("l/ng".into())).await.unwrap();
    let post = asked.lock().unwrap().iter().find(|request| request.starts_with("POST")).cloned().unwrap();
    assert!(post.contains("grant_type=refresh_token&refresh_token=l%2Fng&client_id=corten"), "{post}");
    assert!(!post.to_lowercase().contains("authorization"), "{post}");
}

#[tokio::test]
async fn what_odd_and_hostile_servers_say() {
    let bearer = |realm: &str| format!("WWW-Authenticate: Bearer realm=\"{realm}\"\r\n");
    let cases = [
        (reply("500 Internal Server Error", "", ""), "status 500"),
        (reply("302 Found", "Location: http://127.0.0.1:1/\r\n", ""), "status 302"),
        (reply("401 Unauthorized", "", ""), "does not say what it wants"),
        (reply("401 Unauthorized", &bearer(""), ""), "its token server \"\" is no URL"),
        (reply("401 Unauthorized", &bearer("/token"), ""), "has no proper host"),
        (reply("401 Unauthorized", &bearer("http://me:pw@127.0.0.1/"), ""), "has no proper host"),
        (reply("401 Unauthorized", &bearer("ftp://127.0.0.1/"), ""), "neither of https nor of http"),
        (reply("401 Unauthorized", &bearer("http://127.0.0.1:1/"), ""), "onnection refused"),
        ("nonsense\r\n\r\n".to_owned(), "invalid HTTP version"),
        (String::new(), "closed before message completed"),
    ];
    for (answer, why) in cases {
        let (registry, _) = server(move |_, _| answer.clone()).await;
        let refused = login(&registry, &somebody()).await.unwrap_err().to_string();
        assert!(refused.contains(why), "{why}: {refused}");
    }
}

#[tokio::test]
async fn no_password_goes_in_the_open_where_identity_has_to_be_proven() {
    let (registry, asked) =
        server(|_, _| reply("401 Unauthorized", "WWW-Authenticate: Basic realm=x\r\n", "")).await;
    let nobody = Insecure { networks: Vec::new(), registries: Vec::new() };
    let trust = Trust { directories: Vec::new(), ..Trust::default() };
    let client = Client::new(ClientOptions { insecure: nobody, trust, ..ClientOptions::default() });
    let refused = client.login(&registry, &somebody()).await.unwrap_err();
    assert!(matches!(refused, Error::Unreachable { .. } | Error::Trust(_)), "{refused}");
    assert!(asked.lock().unwrap().is_empty());
}

#[test]
fn secrets_are_not_shown() {
    assert!(!format!("{:?} {:?}", somebody(), Credentials::Identity("secret".into())).contains("e phant"));
    assert_eq!(format!("{:?}", Credentials::Identity("secret".into())), "Identity");
}

/// An authority with what it has signed, in a directory, by the `openssl` program.
fn certificates(place: &std::path::Path) {
    let script = "
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=authority -keyout ca.key -out ca.crt -days 2
        for name in server client; do
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$name -keyout $name.key -out $name.csr
            printf 'subjectAltName=DNS:localhost\\nextendedKeyUsage=serverAuth,clientAuth' >extensions
            openssl x509 -req -in $name.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out $name.cert
        done";
    let output = std::process::Command::new("sh").args(["-ec", script]).current_dir(place).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A registry that asks for a client's certificate by this authority, and lets everybody in that has one.
async fn mutual_tls(place: &std::path::Path) -> RegistryAddress {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(place.join("ca.crt")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let chain = vec![CertificateDer::from_pem_file(place.join("server.cert")).unwrap()];
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(place.join("server.key")).unwrap())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.read(&mut [0; 8192]).await;
                let _ = stream.write_all(reply("200 OK", "", "{}").as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    RegistryAddress::parse(&format!("localhost:{port}")).unwrap()
}

#[tokio::test]
async fn certificates_of_one_registry() {
    let place = tempfile::tempdir().unwrap();
    certificates(place.path());
    let registry = mutual_tls(place.path()).await;
    let nobody = Insecure { networks: Vec::new(), registries: Vec::new() };
    let own = place.path().join("certs.d").join(registry.to_string());
    std::fs::create_dir_all(&own).unwrap();
    let trust =
        Trust { directories: vec![place.path().join("certs.d"), "/nowhere".into()], ..Trust::default() };
    let client = Client::new(ClientOptions { insecure: nobody, trust, ..ClientOptions::default() });
    let told = || async { client.login(&registry, &somebody()).await.map_err(|error| error.to_string()) };
    assert!(told().await.is_err(), "an authority that nobody knows");
    let copy = |name: &str| std::fs::copy(place.path().join(name), own.join(name)).unwrap();
    copy("ca.crt");
    let refused = told().await.unwrap_err();
    assert!(refused.contains("CertificateRequired"), "{refused}");
    copy("client.cert");
    let refused = told().await.unwrap_err();
    assert!(refused.starts_with("missing key ") && refused.contains("client.key"), "{refused}");
    copy("client.key");
    assert_eq!(told().await, Ok(Login::default()));
    std::fs::write(own.join("other.crt"), "-----BEGIN CERTIFICATE-----\nnonsense").unwrap();
    assert!(told().await.unwrap_err().contains("certificates for localhost"));
}
