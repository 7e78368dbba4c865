use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

/// A server that reads one request's head and answers with fixed bytes, then returns the head and what follows on the socket.
async fn once(listener: UnixListener, answer: &'static [u8]) -> (String, tokio::net::UnixStream) {
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    socket.write_all(answer).await.unwrap();
    (String::from_utf8(head).unwrap(), socket)
}

fn listen() -> (tempfile::TempDir, UnixListener, Client) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("engine.sock");
    let listener = UnixListener::bind(&path).unwrap();
    (dir, listener, Client::new(Host::Unix(path)))
}

#[test]
fn hosts_are_read_or_refused_by_name() {
    assert_eq!(Host::parse("unix:///run/x.sock").unwrap(), Host::Unix("/run/x.sock".into()));
    assert_eq!(Host::parse("tcp://127.0.0.1").unwrap(), Host::Tcp("127.0.0.1:2375".into()));
    assert_eq!(Host::parse("tcp://[::1]:99/").unwrap(), Host::Tcp("[::1]:99".into()));
    for bad in ["", "unix://relative", "ssh://", "npipe:////./pipe", "tcp://", "fd://"] {
        assert!(Host::parse(bad).is_err(), "{bad}");
    }
    assert_eq!(Host::parse_with_port("tcp://a", 2376).unwrap(), Host::Tcp("a:2376".into()));
    assert!(matches!(Host::parse("ssh://me@box").unwrap(), Host::Ssh(_)));
}

#[test]
fn queries_are_encoded() {
    let query = Query::new().text("a", "x y&ü").flag("off", false).flag("on", true).option("n", Some(-1));
    assert_eq!(query.to_string(), "?a=x%20y%26%C3%BC&on=1&n=-1");
    assert_eq!(query::segment("reg:5000/a/b@sha256:00?"), "reg:5000/a/b@sha256:00%3F");
}

#[tokio::test]
async fn a_refusal_carries_the_servers_words() {
    let (_dir, listener, client) = listen();
    let server = tokio::spawn(once(
        listener,
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 36\r\n\r\n{\"message\":\"No such container: nix\"}\n",
    ));
    let error = client.container_inspect("nix", false).await.unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(error.to_string(), "No such container: nix");
    assert!(server.await.unwrap().0.starts_with("GET /v1.55/containers/nix/json HTTP/1.1\r\n"));
}

#[tokio::test]
async fn documents_are_found_however_the_stream_is_cut() {
    let (_dir, listener, client) = listen();
    let server = tokio::spawn(once(
        listener,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        10\r\n{\"status\":\"one\"}\r\n9\r\n\r\n{\"statu\r\nc\r\ns\":\"two\"}\r\n \r\n0\r\n\r\n",
    ));
    let mut messages = client.image_load(Body::empty(), true, &[]).await.unwrap();
    let mut seen = Vec::new();
    while let Some(message) = messages.next().await.unwrap() {
        seen.push(message.status);
    }
    assert_eq!(seen, ["one", "two"]);
    server.await.unwrap();
}

#[tokio::test]
async fn a_hijacked_socket_comes_with_what_was_read_already() {
    let (_dir, listener, client) = listen();
    let server = tokio::spawn(once(
        listener,
        b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n\
        Connection: Upgrade\r\nUpgrade: tcp\r\n\r\nearly",
    ));
    let mut hijacked = client.container_attach("c", &Default::default()).await.unwrap();
    let (head, mut peer) = server.await.unwrap();
    assert!(head.contains("upgrade: tcp\r\n") && hijacked.multiplexed);
    peer.write_all(b" late").await.unwrap();
    peer.shutdown().await.unwrap();
    let mut all = hijacked.head.to_vec();
    hijacked.socket.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"early late");
    hijacked.socket.write_all(b"after their end").await.unwrap();
    hijacked.socket.shutdown().await.unwrap();
    let mut back = String::new();
    peer.read_to_string(&mut back).await.unwrap();
    assert_eq!(back, "after their end");
}

#[tokio::test]
async fn an_absent_engine_is_recognised() {
    let client = Client::new(Host::Unix("/nonexistent/corten.sock".into()));
    assert!(client.ping().await.unwrap_err().is_no_server());
}
