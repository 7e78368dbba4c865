//! The log formats: what is written is read again, also after kill -9, over rotations, and from the end.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::monitor::protocol::{LogConfig, LogDriver};

fn config(dir: &Path, driver: LogDriver) -> LogConfig {
    LogConfig {
        driver,
        path: dir.join("log"),
        bytes_max: 0,
        files_max: 1,
        compress: false,
        attributes: String::new(),
        remote: None,
    }
}

fn writer(config: &LogConfig) -> Writer {
    Writer::open(config).unwrap().unwrap()
}

fn entries(config: &LogConfig, selection: Selection) -> Vec<(i64, Stream, String)> {
    let mut reader = Reader::open(config.path.clone(), config.driver, selection).unwrap();
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        assert_eq!(entry.partial, !entry.line.ends_with(b"\n"));
        found.push((entry.time.0, entry.stream, String::from_utf8_lossy(entry.line).into_owned()));
    }
    found
}

fn lines(config: &LogConfig, selection: Selection) -> Vec<String> {
    entries(config, selection).into_iter().map(|e| e.2).collect()
}

fn tail(n: u64) -> Selection {
    Selection { tail: Some(n), ..Selection::default() }
}

fn chunks(config: &LogConfig, selection: Selection) -> Vec<(Stream, Vec<u8>)> {
    let mut reader = Reader::open(config.path.clone(), config.driver, selection).unwrap();
    let mut found = Vec::new();
    loop {
        let mut out = Vec::new();
        let Some(stream) = reader.next_chunk(&mut out, 64 * 1024).unwrap() else { return found };
        found.push((stream, out));
    }
}

const BOTH: [LogDriver; 2] = [LogDriver::Local, LogDriver::JsonFile];
use Stream::{Stderr, Stdout};

#[test]
fn lines_keep_their_order_stream_and_time() {
    for driver in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), driver);
        let mut log = writer(&config);
        log.write(Stdout, Timestamp(1_000_000_001), b"one\ntwo\n").unwrap();
        log.write(Stderr, Timestamp(1_500_000_000), b"oops\n").unwrap();
        log.write(Stdout, Timestamp(2_000_000_000), b"no newline").unwrap();
        log.finish(Timestamp(2_000_000_000)).unwrap();
        let expected = [
            (1_000_000_001, Stdout, "one\n"),
            (1_000_000_001, Stdout, "two\n"),
            (1_500_000_000, Stderr, "oops\n"),
            (2_000_000_000, Stdout, "no newline"),
        ];
        assert_eq!(entries(&config, Selection::default()), expected.map(|(t, s, l)| (t, s, l.to_owned())));
        let since = Selection { since: Some(Timestamp(1_500_000_000)), ..Selection::default() };
        assert_eq!(lines(&config, since), ["oops\n", "no newline"]);
        let until = Selection { until: Some(Timestamp(1_500_000_000)), ..tail(2) };
        assert_eq!(lines(&config, until), ["two\n", "oops\n"]);
        let stderr = Selection { stdout: false, ..tail(5) };
        assert_eq!(lines(&config, stderr), ["oops\n"]);
    }
}

#[test]
fn json_file_is_byte_for_byte_what_docker_writes() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), LogDriver::JsonFile);
    let mut log = writer(&config);
    let time = Timestamp(1_795_228_590_120_000_000);
    log.write(Stdout, time, b"a\t\"<b>&\\\r\x07\x7f \xff\xc3\xa9\xe2\x80\xa8\xf0\x9f\n").unwrap();
    let expected = concat!(
        r#"{"log":"a\u0009\"\u003cb\u003e\u0026\\\r\u0007"#,
        "\x7f ",
        r"\ufffd",
        "é",
        r"\u2028\ufffd\ufffd\n",
        r#"","stream":"stdout","time":"2026-11-21T02:36:30.12Z"}"#,
        "\n"
    );
    assert_eq!(std::fs::read_to_string(&config.path).unwrap(), expected);
}

#[test]
fn long_lines_come_in_pieces_of_sixteen_kib() {
    for driver in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), driver);
        let mut log = writer(&config);
        let long = vec![b'x'; 40_000];
        log.write(Stdout, Timestamp(1), &long).unwrap();
        log.write(Stdout, Timestamp(2), b"y\nz\n").unwrap();
        let found = lines(&config, Selection::default());
        assert_eq!(
            found.iter().map(String::len).collect::<Vec<_>>(),
            [16_384, 16_384, 7_234, 2],
            "{driver:?}"
        );
    }
}

#[test]
fn a_line_of_exactly_the_piece_size_is_not_torn_from_its_end() {
    for driver in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), driver);
        let mut log = writer(&config);
        let mut text = vec![b'x'; LINE_BYTES_MAX - 1];
        text.extend_from_slice(b"\nnext\n");
        log.write(Stdout, Timestamp(1), &text).unwrap();
        assert_eq!(lines(&config, tail(1)), ["next\n"]);
        assert_eq!(lines(&config, Selection::default())[0].len(), LINE_BYTES_MAX);
    }
}

#[test]
fn a_reader_that_does_not_follow_ends_where_the_log_ended() {
    for driver in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), driver);
        let mut log = writer(&config);
        let read = |selection| {
            let mut reader = Reader::open(config.path.clone(), driver, selection).unwrap();
            move || reader.next_entry().unwrap().map(|entry| String::from_utf8_lossy(entry.line).into_owned())
        };
        let mut of_nothing = read(Selection::default());
        log.write(Stdout, Timestamp(1), b"one\ntwo\nthree\n").unwrap();
        let (mut all, mut last) = (read(Selection::default()), read(tail(2)));
        log.write(Stdout, Timestamp(2), "later\n".repeat(1000).as_bytes()).unwrap();
        assert_eq!(of_nothing(), None, "{driver:?}");
        assert_eq!(
            [all(), all(), all(), all()].map(Option::unwrap_or_default),
            ["one\n", "two\n", "three\n", ""]
        );
        assert_eq!([last(), last(), last()].map(Option::unwrap_or_default), ["two\n", "three\n", ""]);
    }
}

#[test]
fn tail_counts_lines_that_span_records() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), LogDriver::Local);
    let mut log = writer(&config);
    for (stream, text) in
        [(Stdout, "a\nbe"), (Stderr, "E1\nerr"), (Stdout, "gin\nc\n"), (Stderr, "or\n"), (Stdout, "open")]
    {
        log.write(stream, Timestamp(1), text.as_bytes()).unwrap();
    }
    assert_eq!(lines(&config, tail(0)), [""; 0]);
    assert_eq!(lines(&config, tail(1)), ["open"]);
    assert_eq!(lines(&config, tail(2)), ["error\n", "open"]);
    assert_eq!(lines(&config, tail(3)), ["c\n", "error\n", "open"]);
    assert_eq!(lines(&config, tail(4)), ["begin\n", "c\n", "error\n", "open"]);
    assert_eq!(lines(&config, tail(6)), ["a\n", "E1\n", "begin\n", "c\n", "error\n", "open"]);
    assert_eq!(lines(&config, tail(100)), ["a\n", "E1\n", "begin\n", "c\n", "error\n", "open"]);
    // The chunks of a tail begin at the same places.
    let all: Vec<u8> = chunks(&config, tail(3)).into_iter().flat_map(|c| c.1).collect();
    assert_eq!(all, b"errc\nor\nopen");
}

#[test]
fn a_restarted_container_begins_a_new_line() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), LogDriver::Local);
    writer(&config).write(Stdout, Timestamp(1), b"killed in the midd").unwrap();
    writer(&config).write(Stdout, Timestamp(2), b"hello\n").unwrap();
    assert_eq!(lines(&config, Selection::default()), ["killed in the midd", "hello\n"]);
    assert_eq!(lines(&config, tail(1)), ["hello\n"]);
    assert_eq!(lines(&config, tail(2)), ["killed in the midd", "hello\n"]);
}

#[test]
fn a_file_torn_at_any_byte_reads_up_to_the_tear_and_is_repaired_by_the_next_writer() {
    for driver in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), driver);
        let mut log = writer(&config);
        log.write(Stdout, Timestamp(1), b"first\n").unwrap();
        let whole = std::fs::metadata(&config.path).unwrap().len();
        log.write(Stderr, Timestamp(2), b"second\n").unwrap();
        let full = std::fs::read(&config.path).unwrap();
        for len in whole..full.len() as u64 {
            std::fs::write(&config.path, &full[..len as usize]).unwrap();
            assert_eq!(lines(&config, Selection::default()), ["first\n"], "{driver:?} torn at {len}");
            assert_eq!(lines(&config, tail(1)), ["first\n"], "{driver:?} torn at {len}");
            writer(&config).write(Stdout, Timestamp(3), b"third\n").unwrap();
            assert_eq!(lines(&config, tail(5)), ["first\n", "third\n"], "{driver:?} torn at {len}");
        }
    }
}

#[test]
fn zeros_after_a_power_cut_are_taken_for_a_tear() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), LogDriver::Local);
    writer(&config).write(Stdout, Timestamp(1), b"first\n").unwrap();
    let len = std::fs::metadata(&config.path).unwrap().len();
    std::fs::File::options().write(true).open(&config.path).unwrap().write_all_at(&[0; 500], len).unwrap();
    assert_eq!(lines(&config, tail(3)), ["first\n"]);
    writer(&config).write(Stdout, Timestamp(2), b"next\n").unwrap();
    assert_eq!(lines(&config, Selection::default()), ["first\n", "next\n"]);
}

#[test]
fn another_file_is_not_taken_for_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), LogDriver::Local);
    std::fs::write(&config.path, "something else entirely").unwrap();
    assert!(matches!(Writer::open(&config), Err(LogError::Open { .. })));
    let mut reader = Reader::open(config.path.clone(), config.driver, Selection::default()).unwrap();
    assert!(matches!(reader.next_entry(), Err(LogError::NotALog { .. })));
}

#[test]
fn rotation_keeps_as_many_files_of_such_a_size_as_configured() {
    for driver in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let config = LogConfig { bytes_max: 1000, files_max: 3, ..config(dir.path(), driver) };
        let mut log = writer(&config);
        for i in 0..200 {
            log.write(Stdout, Timestamp(i), format!("line {i}\n").as_bytes()).unwrap();
        }
        let mut names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["log", "log.1", "log.2"]);
        for name in names {
            assert!(std::fs::metadata(dir.path().join(name)).unwrap().len() <= 1000);
        }
        let found = lines(&config, Selection::default());
        assert!(found.len() > 20, "{driver:?}: {}", found.len());
        let first = 200 - found.len();
        let expected: Vec<_> = (first..200).map(|i| format!("line {i}\n")).collect();
        assert_eq!(found, expected);
        assert_eq!(lines(&config, tail(30)), expected[expected.len().saturating_sub(30)..]);
    }
}

#[test]
fn one_file_only_starts_over() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { bytes_max: 100, files_max: 1, ..config(dir.path(), LogDriver::Local) };
    let mut log = writer(&config);
    for i in 0..20 {
        log.write(Stdout, Timestamp(i), format!("line {i}\n").as_bytes()).unwrap();
    }
    assert_eq!(lines(&config, tail(1)), ["line 19\n"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn following_sees_every_line_over_rotations_and_ends_when_told() {
    for driver in BOTH {
        let dir = tempfile::tempdir().unwrap();
        let config = LogConfig { bytes_max: 2000, files_max: 100, ..config(dir.path(), driver) };
        let stop = Stop::new().unwrap();
        let mut reader =
            Reader::follow(config.path.clone(), driver, Selection::default(), stop.clone()).unwrap();
        let following = std::thread::spawn(move || {
            let mut found = Vec::new();
            while let Some(entry) = reader.next_entry().unwrap() {
                found.push(String::from_utf8(entry.line.to_vec()).unwrap());
            }
            found
        });
        let mut log = writer(&config);
        for i in 0..1000 {
            log.write(Stdout, Timestamp(i), format!("line {i}\n").as_bytes()).unwrap();
            if i % 100 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        stop.finish();
        let expected: Vec<_> = (0..1000).map(|i| format!("line {i}\n")).collect();
        assert_eq!(following.join().unwrap(), expected);
    }
}

#[test]
fn a_cancelled_follower_ends_without_new_output() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), LogDriver::Local);
    writer(&config).write(Stdout, Timestamp(1), b"one\n").unwrap();
    let stop = Stop::new().unwrap();
    let mut reader =
        Reader::follow(config.path.clone(), config.driver, Selection::default(), stop.clone()).unwrap();
    assert!(reader.next_entry().unwrap().is_some());
    let waiting = std::thread::spawn(move || reader.next_entry().unwrap().is_none());
    stop.cancel();
    assert!(waiting.join().unwrap());
}

#[test]
fn times_are_go_s() {
    let cases = [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_400_000_000_000, "2000-02-29T00:00:00Z"),
        (1_795_228_590_000_000_010, "2026-11-21T02:36:30.00000001Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
    ];
    for (nanos, text) in cases {
        let mut out = Vec::new();
        rfc3339::append_rfc3339(Timestamp(nanos), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), text);
        assert_eq!(parse_rfc3339(text.as_bytes()), Some(Timestamp(nanos)));
    }
    assert_eq!(format_rfc3339(Timestamp(500_000_000)), "1970-01-01T00:00:00.500000000Z");
    assert_eq!(parse_rfc3339(b"1970-01-01T01:30:00.5+01:30"), Some(Timestamp(500_000_000)));
    for bad in ["", "1970", "1970-13-01T00:00:00Z", "1970-01-01T00:00:00", "1970-01-01T00:00:00+1"] {
        assert_eq!(parse_rfc3339(bad.as_bytes()), None, "{bad}");
    }
}

/// What each stream's bytes look like as lines, whatever the chunks were.
fn by_stream(found: &[(i64, Stream, String)], stream: Stream) -> String {
    found.iter().filter(|e| e.1 == stream).map(|e| e.2.as_str()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_written_is_read(
        writes in prop::collection::vec((any::<bool>(), "[a-c\n]{1,40}"), 1..40),
        bytes_max in prop_oneof![Just(0_u64), 100..2000_u64],
        local in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let driver = if local { LogDriver::Local } else { LogDriver::JsonFile };
        let config = LogConfig { bytes_max, files_max: 1000, ..config(dir.path(), driver) };
        let mut log = writer(&config);
        let mut written = [String::new(), String::new()];
        for (i, (is_stderr, text)) in writes.iter().enumerate() {
            let stream = if *is_stderr { Stderr } else { Stdout };
            log.write(stream, Timestamp(i as i64), text.as_bytes()).unwrap();
            written[stream.index()].push_str(text);
        }
        log.finish(Timestamp(0)).unwrap();
        let found = entries(&config, Selection::default());
        prop_assert_eq!(by_stream(&found, Stdout), written[0].clone());
        prop_assert_eq!(by_stream(&found, Stderr), written[1].clone());
        let raw: Vec<u8> =
            chunks(&config, Selection::default()).into_iter().filter(|c| c.0 == Stdout).flat_map(|c| c.1).collect();
        prop_assert_eq!(String::from_utf8(raw).unwrap(), written[0].clone());
        // A tail is the end of the whole, for each stream, and as long as asked for.
        for n in [0, 1, 2, 5, found.len() as u64] {
            let part = entries(&config, tail(n));
            prop_assert_eq!(part.len() as u64, n.min(found.len() as u64));
            for stream in [Stdout, Stderr] {
                prop_assert!(by_stream(&found, stream).ends_with(&by_stream(&part, stream)));
            }
        }
    }
}

/// Compresses what has been rotated, as the monitor's child does.
fn pack(writer: &mut Writer) {
    while let Some(job) = writer.next_to_pack() {
        job.run().unwrap();
        writer.packed(&job, true).unwrap();
    }
}

#[test]
fn compressed_files_are_read_as_the_others_and_unpacked_by_any_tool() {
    for driver in [LogDriver::Local, LogDriver::JsonFile] {
        let dir = tempfile::tempdir().unwrap();
        let config =
            LogConfig { bytes_max: 700_000, files_max: 4, compress: true, ..config(dir.path(), driver) };
        let mut log = writer(&config);
        let mut written = Vec::new();
        for i in 0..45_000_i64 {
            let line = format!("line {i} {}\n", "x".repeat((i % 90) as usize));
            let stream = if i % 3 == 0 { Stream::Stderr } else { Stream::Stdout };
            log.write(stream, Timestamp(i * 1000 + 1), line.as_bytes()).unwrap();
            written.push((i * 1000 + 1, stream, line));
            if i % 2000 == 0 {
                pack(&mut log);
            }
        }
        pack(&mut log);
        let names = |number: u32| {
            let plain = files::rotated(&config.path, number);
            [plain.exists(), index::path_of(&plain).exists(), files::packed(&config.path, number).exists()]
        };
        assert_eq!(
            [1, 2, 3, 4].map(names),
            [[false, false, true]; 3].into_iter().chain([[false; 3]]).collect::<Vec<_>>()[..]
        );
        assert!(std::fs::metadata(files::packed(&config.path, 1)).unwrap().len() < 250_000);
        let mut unpacked = Vec::new();
        let file = std::fs::File::open(files::packed(&config.path, 1)).unwrap();
        std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(file), &mut unpacked).unwrap();
        assert!(unpacked.len() > 600_000 && unpacked.len() <= 700_000);

        let all = entries(&config, Selection::default());
        assert!(all.len() > 15_000);
        assert_eq!(all, written[written.len() - all.len()..]);
        let tail = Selection { tail: Some(12_000), ..Selection::default() };
        assert_eq!(entries(&config, tail), all[all.len().saturating_sub(12_000)..]);
        for at in [0, all.len() / 2, all.len() - 2] {
            let since = Selection { since: Some(Timestamp(all[at].0)), ..Selection::default() };
            assert_eq!(entries(&config, since.clone()), all[at..], "{at}");
            let both = Selection { tail: Some(10), stderr: false, ..since };
            let mut expected: Vec<_> = all[at..].iter().filter(|e| e.1 == Stream::Stdout).cloned().collect();
            expected.drain(..expected.len().saturating_sub(10));
            assert_eq!(entries(&config, both), expected);
        }
    }
}

#[test]
fn a_reader_passes_over_what_is_older_even_where_the_clock_was_set_back() {
    for (driver, compress) in [
        (LogDriver::Local, false),
        (LogDriver::JsonFile, false),
        (LogDriver::Local, true),
        (LogDriver::JsonFile, true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let config = LogConfig { bytes_max: 1_000_000, files_max: 3, compress, ..config(dir.path(), driver) };
        let mut log = writer(&config);
        let text = "y".repeat(100);
        for i in 0..18_000_i64 {
            // Half-way the clock goes back by a third of what was, and on again.
            let time = if i < 9_000 { i } else { i - 3_000 };
            log.write(Stream::Stdout, Timestamp(time), format!("{i} {text}\n").as_bytes()).unwrap();
            if i % 6_000 == 0 {
                // As a restart of the container does.
                log = writer(&config);
            }
        }
        pack(&mut log);
        let all = entries(&config, Selection::default());
        for since in [0, 7_500, 8_999, 14_700] {
            let selection = Selection { since: Some(Timestamp(since)), ..Selection::default() };
            let expected: Vec<_> = all.iter().filter(|entry| entry.0 >= since).cloned().collect();
            assert_eq!(entries(&config, selection), expected, "{driver:?} {compress} {since}");
        }
    }
}

#[test]
fn a_follower_sees_each_line_once_while_files_are_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig {
        bytes_max: 20_000,
        files_max: 50,
        compress: true,
        ..config(dir.path(), LogDriver::Local)
    };
    let mut log = writer(&config);
    let stop = Stop::new().unwrap();
    let mut reader =
        Reader::follow(config.path.clone(), config.driver, Selection::default(), stop.clone()).unwrap();
    let follower = std::thread::spawn(move || {
        let mut seen = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            seen.push(String::from_utf8(entry.line.to_vec()).unwrap());
        }
        seen
    });
    for i in 0..10_000 {
        log.write(Stream::Stdout, Timestamp(i), format!("{i}\n").as_bytes()).unwrap();
        pack(&mut log);
    }
    stop.finish();
    assert_eq!(follower.join().unwrap(), (0..10_000).map(|i| format!("{i}\n")).collect::<Vec<_>>());
}

#[test]
fn what_a_killed_writer_left_of_compressing_is_done_again() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        LogConfig { bytes_max: 1000, files_max: 3, compress: true, ..config(dir.path(), LogDriver::Local) };
    let mut log = writer(&config);
    for i in 0..130 {
        log.write(Stream::Stdout, Timestamp(i), format!("{i}\n").as_bytes()).unwrap();
    }
    let before = entries(&config, Selection::default());
    // Killed between the compressed file's coming and the other's going, and with the next one half-made.
    let job = log.next_to_pack().unwrap();
    job.run().unwrap();
    std::fs::copy(files::unfinished(&config.path), files::packed(&config.path, 1)).unwrap();
    std::fs::write(files::unfinished(&config.path), b"half").unwrap();
    drop(log);
    assert_eq!(entries(&config, Selection::default()), before);
    let mut log = writer(&config);
    assert_eq!(entries(&config, Selection::default()), before);
    pack(&mut log);
    assert!(!files::unfinished(&config.path).exists() && !files::rotated(&config.path, 1).exists());
    assert_eq!(entries(&config, Selection::default()), before);
    // A compressed file that is damaged costs its own lines only.
    std::fs::write(files::packed(&config.path, 2), b"\x1f\x8bnothing").unwrap();
    let after = entries(&config, Selection::default());
    assert!(after.len() < before.len() && before.ends_with(&after));
}

#[test]
fn a_file_that_is_rotated_before_it_is_compressed_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        LogConfig { bytes_max: 1000, files_max: 3, compress: true, ..config(dir.path(), LogDriver::Local) };
    let mut log = writer(&config);
    let mut number = 0;
    // Writes until that goes to another file.
    let mut rotate = |log: &mut Writer| {
        let inode = || std::fs::metadata(&config.path).unwrap().ino();
        let before = inode();
        while inode() == before {
            log.write(Stdout, Timestamp(number), format!("{number}\n").as_bytes()).unwrap();
            number += 1;
        }
    };
    rotate(&mut log);
    let job = log.next_to_pack().unwrap();
    rotate(&mut log);
    job.run().unwrap_err();
    let _ = log.packed(&job, false);
    pack(&mut log);
    assert!((1..3).all(|number| files::packed(&config.path, number).exists()));
    // One that can't be compressed where it lies is left alone until the next rotation.
    rotate(&mut log);
    let job = log.next_to_pack().unwrap();
    let _ = log.packed(&job, false);
    assert!(log.next_to_pack().is_none());
}
