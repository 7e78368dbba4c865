use std::io::Read;
use std::os::unix::net::{UnixDatagram, UnixListener};

use super::super::poll::BATCH as EVENTS;
use super::super::protocol::{Syslog, SyslogFormat};
use super::*;

fn config(address: RemoteAddress, transport: Transport, buffer: Option<u64>) -> RemoteLog {
    let format = SyslogFormat::Unix;
    RemoteLog {
        format: RemoteFormat::Syslog(Syslog { format, facility: 1, host: "h".into(), tag: "t".into() }),
        transport,
        addresses: vec![address],
        host: None,
        policy: RemotePolicy {
            buffer_bytes_max: buffer,
            wait_for_connection: false,
            retry_ms: 10,
            retries_max: None,
            write_timeout_ms: 0,
        },
    }
}

/// Goes on until `done` says so.
fn run(shipping: &mut Shipping, poll: &Poll, mut done: impl FnMut(&mut Shipping) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut found = [None; EVENTS];
    shipping.work(poll);
    while !done(shipping) {
        assert!(Instant::now() < deadline);
        poll.wait(Some(Duration::from_millis(5)), &mut found).unwrap();
        for (_, ready) in found.iter().flatten() {
            shipping.ready(poll, *ready);
        }
        shipping.work(poll);
    }
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().map(|line| line.split_once(": ").unwrap().1).collect()
}

#[test]
fn a_receiver_that_comes_back_gets_what_waited() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let poll = Poll::new().unwrap();
    let mut shipping =
        Shipping::new(config(RemoteAddress::Unix(path.clone()), Transport::Stream, None), None);
    shipping.offer(Stream::Stdout, Timestamp(0), b"one\ntwo\n");
    run(&mut shipping, &poll, |s| s.batch.ends.is_empty() && s.backlog.len() == 0);
    let (mut client, _) = listener.accept().unwrap();
    let mut text = [0; 256];
    let read = client.read(&mut text).unwrap();
    assert_eq!(lines(std::str::from_utf8(&text[..read]).unwrap()), ["one", "two"]);
    drop((client, listener));
    std::fs::remove_file(&path).unwrap();
    run(&mut shipping, &poll, |s| matches!(s.link, Link::Down { .. }) && s.failures > 1);
    shipping.offer(Stream::Stdout, Timestamp(0), b"three\nfour");
    let listener = UnixListener::bind(&path).unwrap();
    shipping.finish();
    run(&mut shipping, &poll, |s| s.is_done());
    assert!(shipping.take_trouble().unwrap().contains("no connection"));
    drop(shipping);
    let mut text = String::new();
    listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
    assert_eq!(lines(&text), ["three", "four"]);
}

#[test]
fn nothing_is_waited_for_once_the_receiver_was_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = RemoteAddress::Unix(dir.path().join("s"));
    let poll = Poll::new().unwrap();
    let mut shipping = Shipping::new(config(nobody, Transport::Stream, None), None);
    shipping.offer(Stream::Stdout, Timestamp(0), b"one\n");
    shipping.finish();
    shipping.work(&poll);
    assert!(!shipping.is_done() && shipping.deadline().is_some());
    shipping.until = Some(Instant::now());
    assert!(shipping.is_done());
    assert_eq!(shipping.deadline(), None);
}

/// A load balancer without anybody behind it, say.
#[test]
fn a_receiver_that_hangs_up_at_once_is_not_asked_without_a_pause() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let poll = Poll::new().unwrap();
    let mut shipping = Shipping::new(config(RemoteAddress::Unix(path), Transport::Stream, None), None);
    shipping.offer(Stream::Stdout, Timestamp(0), b"one\n");
    let (end, mut accepted) = (Instant::now() + Duration::from_millis(400), 0);
    run(&mut shipping, &poll, |_| {
        accepted += usize::from(listener.accept().is_ok());
        Instant::now() > end
    });
    assert!((2..20).contains(&accepted), "{accepted}");
}

#[test]
fn a_stuck_receiver_costs_bounded_memory_and_output_or_time() {
    let dir = tempfile::tempdir().unwrap();
    for buffer in [Some(100_000), None] {
        let path = dir.path().join(format!("s{buffer:?}"));
        let listener = UnixListener::bind(&path).unwrap();
        let poll = Poll::new().unwrap();
        let mut shipping = Shipping::new(config(RemoteAddress::Unix(path), Transport::Stream, buffer), None);
        run(&mut shipping, &poll, |s| matches!(s.link, Link::Up { .. }));
        let chunk: String = (0..1000).map(|i| format!("line {i}\n")).collect();
        for _ in 0..200 {
            if shipping.is_full() {
                break;
            }
            shipping.offer(Stream::Stdout, Timestamp(0), chunk.as_bytes());
            shipping.work(&poll);
        }
        assert_eq!(shipping.is_full(), buffer.is_none());
        assert!(shipping.backlog.len() <= BACKLOG + 2 * chunk.len());
        assert_eq!(shipping.backlog.take_lost() > 0, buffer.is_some());
        let (mut client, _) = listener.accept().unwrap();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            client.read_to_string(&mut text).unwrap();
            text
        });
        shipping.finish();
        run(&mut shipping, &poll, |s| s.is_done());
        assert!(!shipping.is_full());
        drop(shipping);
        let text = reader.join().unwrap();
        // No line is torn or comes twice, whatever was lost.
        let mut last = -1;
        for line in lines(&text) {
            let number: i64 = line.strip_prefix("line ").unwrap().parse().unwrap();
            assert!(number > last || number == 0 || buffer.is_some(), "{number} after {last}");
            last = number;
        }
    }
}

#[test]
fn datagrams_are_whole_and_nobody_listening_is_no_trouble() {
    let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = receiver.local_addr().unwrap();
    let poll = Poll::new().unwrap();
    let mut shipping = Shipping::new(config(RemoteAddress::Ip(address), Transport::Datagram, None), None);
    shipping.offer(Stream::Stderr, Timestamp(0), b"one\ntwo\n");
    run(&mut shipping, &poll, |s| s.batch.ends.is_empty());
    let mut packet = [0; 256];
    for expected in ["one", "two"] {
        let read = receiver.recv(&mut packet).unwrap();
        assert_eq!(lines(std::str::from_utf8(&packet[..read]).unwrap()), [expected]);
    }
    drop(receiver);
    for _ in 0..5 {
        shipping.offer(Stream::Stderr, Timestamp(0), b"lost\n");
        run(&mut shipping, &poll, |s| s.batch.ends.is_empty());
    }
    assert!(matches!(shipping.link, Link::Up { .. }));
    let receiver = std::net::UdpSocket::bind(address).unwrap();
    shipping.offer(Stream::Stderr, Timestamp(0), b"heard\n");
    run(&mut shipping, &poll, |s| s.batch.ends.is_empty());
    let read = receiver.recv(&mut packet).unwrap();
    assert!(packet[..read].ends_with(b"heard\n"));
}

#[test]
fn what_is_too_large_for_a_datagram_reaches_the_journal_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let journal = UnixDatagram::bind(&path).unwrap();
    let poll = Poll::new().unwrap();
    let mut config = config(RemoteAddress::Unix(path), Transport::Datagram, None);
    let fields = vec![("LABEL".to_owned(), "x".repeat(400_000))];
    config.format = RemoteFormat::Journald { fields };
    let mut shipping = Shipping::new(config, None);
    shipping.offer(Stream::Stdout, Timestamp(0), b"hello\n");
    run(&mut shipping, &poll, |s| s.batch.ends.is_empty());
    let mut fds = Vec::new();
    assert_eq!(corten_sys::fd::receive(journal.as_fd(), &mut [0; 16], &mut fds).unwrap(), 0);
    let mut text = String::new();
    let mut file = std::fs::File::from(fds.pop().unwrap());
    std::io::Seek::rewind(&mut file).unwrap();
    file.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("PRIORITY=6\nMESSAGE=hello\nLABEL=xxx"));
}
