use std::io::Read;

use super::backlog::Gap;
use super::*;
use crate::monitor::protocol::{GelfCompression, Syslog, SyslogFormat};

/// 2026-11-02 01:02:03.5 UTC.
const TIME: Timestamp = Timestamp(1_793_581_323_500_000_000);

fn line(line: &[u8]) -> Message<'_> {
    Message { time: TIME, stream: Stream::Stdout, line, partial: None }
}

fn encoded(format: RemoteFormat, transport: Transport, message: &Message<'_>) -> (Vec<u8>, Vec<usize>) {
    let (mut out, mut ends) = (Vec::new(), Vec::new());
    Encoder::new(format, transport).encode(message, &mut out, &mut ends);
    (out, ends)
}

/// Stream, line, and the piece's number and whether it is the last.
type Seen = (Stream, String, Option<(u32, bool)>);

/// Everything that is in the backlog, as messages.
fn messages(backlog: &mut Backlog, cutter: &mut Messages) -> Vec<Seen> {
    let mut found = Vec::new();
    let mut take = |m: &Message<'_>| {
        let line = String::from_utf8(m.line.to_vec()).unwrap();
        found.push((m.stream, line, m.partial.map(|p| (p.ordinal, p.last))));
    };
    while let Some(chunk) = backlog.pop(Vec::new()) {
        let mut at = 0;
        while cutter.next(&chunk, &mut at, &mut take) {}
    }
    found
}

#[test]
fn lines_are_joined_and_long_ones_come_in_pieces() {
    let (mut backlog, mut cutter) = (Backlog::new(1 << 20), Messages::default());
    let long = "x".repeat(16 * 1024 + 5) + "\n";
    for (stream, bytes) in [
        (Stream::Stdout, "one\ntw"),
        (Stream::Stderr, "error\n"),
        (Stream::Stdout, "o\n\n"),
        (Stream::Stdout, &long),
        (Stream::Stdout, "end"),
    ] {
        backlog.push(stream, TIME, bytes.as_bytes(), false);
    }
    let found = messages(&mut backlog, &mut cutter);
    let (out, err) = (Stream::Stdout, Stream::Stderr);
    assert_eq!(
        found,
        [
            (out, "one".into(), None),
            (err, "error".into(), None),
            (out, "two".into(), None),
            (out, String::new(), None),
            (out, "x".repeat(16 * 1024), Some((1, false))),
            (out, "xxxxx".into(), Some((2, true))),
        ]
    );
    let mut rest = Vec::new();
    cutter.finish(|m| rest.push((m.line.to_vec(), m.partial.map(|p| (p.ordinal, p.last)))));
    assert_eq!(rest, [(b"end".to_vec(), Some((1, false)))]);
    assert_eq!(backlog.len(), 0);
}

#[test]
fn what_does_not_fit_is_lost_in_whole_lines() {
    let (mut backlog, mut cutter) = (Backlog::new(60), Messages::default());
    let out = Stream::Stdout;
    backlog.push(out, TIME, b"0123456789\nabcdefghij\nABC", false);
    backlog.push(out, TIME, b"0123456789\nabcdefghij\nABC", false);
    backlog.push(out, TIME, b"lost as well", false);
    assert!(backlog.len() <= 60);
    assert_eq!(
        messages(&mut backlog, &mut cutter).into_iter().map(|m| m.1).collect::<Vec<_>>(),
        ["0123456789", "abcdefghij"]
    );
    assert_eq!(backlog.take_lost(), 25 + 12);
    // "ABC" ends where the gap is, and what goes on behind it belongs to a line whose beginning is lost.
    backlog.push(out, TIME, b"rest of it\nwhole\n", false);
    assert_eq!(
        messages(&mut backlog, &mut cutter).into_iter().map(|m| m.1).collect::<Vec<_>>(),
        ["ABC", "whole"]
    );
    // Lost to the end of a line: what follows is whole.
    backlog.push(out, TIME, b"a line that is too long for what there is room for here\n", false);
    backlog.push(out, TIME, b"next\n", false);
    let chunk = backlog.pop(Vec::new()).unwrap();
    assert_eq!((chunk.gap, chunk.bytes.as_slice()), (Gap::Lines, &b"next\n"[..]));
    backlog.push(out, TIME, &[b'y'; 500], true);
    assert_eq!(backlog.pop(Vec::new()).unwrap().bytes.len(), 500);
}

#[test]
fn syslog_messages_are_those_of_the_rfcs() {
    let config = |format| Syslog { format, facility: 3, host: "box".into(), tag: "web".into() };
    let text = |format, offset_s| {
        let mut out = Vec::new();
        syslog::encode_at(&config(format), offset_s, 77, &line(b"hello"), &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(text(SyslogFormat::Unix, 0), "<30>Nov  2 01:02:03 web[77]: hello\n");
    assert_eq!(text(SyslogFormat::Rfc3164, -7200), "<30>Nov  1 23:02:03 box web[77]: hello\n");
    assert_eq!(
        text(SyslogFormat::Rfc5424, 19_800),
        "<30>1 2026-11-02T06:32:03+05:30 box web 77 web - hello\n"
    );
    assert_eq!(
        text(SyslogFormat::Rfc5424Micro, 0),
        "<30>1 2026-11-02T01:02:03.500000Z box web 77 web - hello\n"
    );
    let error = Message { stream: Stream::Stderr, ..line(b"oh") };
    let (out, ends) = encoded(RemoteFormat::Syslog(config(SyslogFormat::Unix)), Transport::Datagram, &error);
    assert!(out.starts_with(b"<27>"));
    assert_eq!(ends, [out.len()]);
    let empty = encoded(RemoteFormat::Syslog(config(SyslogFormat::Unix)), Transport::Datagram, &line(b""));
    assert_eq!(empty, (vec![], vec![]));
}

#[test]
fn the_journal_gets_fields() {
    let fields =
        vec![("CONTAINER_NAME".to_owned(), "web".to_owned()), ("LINES".to_owned(), "a\nb".to_owned())];
    let format = RemoteFormat::Journald { fields };
    let partial = Some(Partial { id: "aa", ordinal: 2, last: false });
    let (out, _) = encoded(format, Transport::Datagram, &Message { partial, ..line(b"hello") });
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "PRIORITY=6\nMESSAGE=hello\nCONTAINER_NAME=web\nLINES\n\x03\0\0\0\0\0\0\0a\nb\n\
         SYSLOG_TIMESTAMP=2026-11-02T01:02:03.5Z\nCONTAINER_PARTIAL_ID=aa\nCONTAINER_PARTIAL_ORDINAL=2\n\
         CONTAINER_PARTIAL_LAST=false\nCONTAINER_PARTIAL_MESSAGE=true\nCONTAINER_LOG_ORDINAL=1\n"
    );
}

#[test]
fn fluentd_gets_message_pack() {
    let record = vec![("container_name".to_owned(), "/web".to_owned())];
    let format = |sub_second| RemoteFormat::Fluentd { tag: "t".into(), record: record.clone(), sub_second };
    let (out, ends) = encoded(format(false), Transport::Stream, &line(b"hi"));
    let expected = [
        b"\x94\xa1t\xd3\0\0\0\0".as_slice(),
        &1_793_581_323_u32.to_be_bytes(),
        b"\x83\xaecontainer_name\xa4/web\xa6source\xa6stdout\xa3log\xa2hi\x80",
    ]
    .concat();
    assert_eq!(out, expected);
    assert_eq!(ends, [out.len()]);
    let (out, _) = encoded(format(true), Transport::Stream, &line(b"hi"));
    assert_eq!(out[3..5], [0xd7, 0]);
    assert_eq!(out[9..13], 500_000_000_u32.to_be_bytes());
}

fn gelf(compression: GelfCompression) -> RemoteFormat {
    RemoteFormat::Gelf { host: "box".into(), members: r#""_tag":"t""#.into(), compression }
}

const OBJECT: &str = r#"{"version":"1.1","host":"box","short_message":"say \"hi\"","timestamp":1793581323.500,"level":6,"_tag":"t"}"#;

#[test]
fn gelf_is_packed_for_datagrams_only() {
    let message = line(b"say \"hi\"");
    let (out, _) = encoded(gelf(GelfCompression::Gzip(1)), Transport::Stream, &message);
    assert_eq!(String::from_utf8(out).unwrap(), format!("{OBJECT}\0"));
    let (out, ends) = encoded(gelf(GelfCompression::None), Transport::Datagram, &message);
    assert_eq!((String::from_utf8(out).unwrap(), ends), (OBJECT.to_owned(), vec![OBJECT.len()]));
    let mut text = String::new();
    let (out, _) = encoded(gelf(GelfCompression::Gzip(1)), Transport::Datagram, &message);
    flate2::read::GzDecoder::new(out.as_slice()).read_to_string(&mut text).unwrap();
    assert_eq!(text, OBJECT);
    text.clear();
    let (out, _) = encoded(gelf(GelfCompression::Zlib(-1)), Transport::Datagram, &message);
    flate2::read::ZlibDecoder::new(out.as_slice()).read_to_string(&mut text).unwrap();
    assert_eq!(text, OBJECT);
}

#[test]
fn large_gelf_messages_come_in_chunks() {
    let long: Vec<u8> = (0..16_384).map(|i| b'a' + (i * 7 % 23) as u8).collect();
    let (out, ends) = encoded(gelf(GelfCompression::None), Transport::Datagram, &line(&long));
    let starts = [0].into_iter().chain(ends.iter().copied());
    let chunks: Vec<&[u8]> = starts.zip(&ends).map(|(from, to)| &out[from..*to]).collect();
    assert_eq!(chunks.len(), 12);
    let mut whole = Vec::new();
    for (number, chunk) in chunks.iter().enumerate() {
        assert!(chunk.len() <= 1420);
        assert_eq!((&chunk[..2], chunk[10], chunk[11]), (&[0x1e, 0x0f][..], number as u8, 12));
        assert_eq!(chunk[2..10], chunks[0][2..10]);
        whole.extend_from_slice(&chunk[12..]);
    }
    assert!(String::from_utf8(whole).unwrap().contains(std::str::from_utf8(&long).unwrap()));
}
