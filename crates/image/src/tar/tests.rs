//! Round trips, what GNU tar writes, headers that tell two stories, and noise.

use std::io::Read;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::header::{SIZE, checksums, number, octal};
use super::*;

/// All entries with their data.
fn read_all(archive: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
    let mut reader = Reader::new(archive);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut data = Vec::new();
        reader.read_to_end(&mut data).map_err(|source| TarError::Read { offset: 0, source })?;
        entries.push((entry, data));
    }
    Ok(entries)
}

fn write_all(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in entries {
        writer.append(entry, &mut data.as_slice()).expect("writing into memory");
    }
    writer.finish().expect("writing into memory")
}

fn file(path: &str, data: &[u8]) -> (Entry, Vec<u8>) {
    let mut entry = Entry::new(Kind::File, path, 0o644);
    entry.size = data.len() as u64;
    entry.stored_bytes = entry.size;
    (entry, data.to_vec())
}

/// A raw header block, sealed.
fn block(name: &[u8], flag: u8, size: u64, change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut block = vec![0u8; BLOCK];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000644\0");
    block[SIZE].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    change(&mut block);
    let (sum, _) = checksums(&block);
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// A PAX header with one record per pair.
fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut payload = String::new();
    for (key, value) in records {
        let body = key.len() + value.len() + 3;
        let mut length = body + 1;
        while length != body + length.to_string().len() {
            length += 1;
        }
        payload.push_str(&format!("{length} {key}={value}\n"));
    }
    let header = block(b"pax", b'x', payload.len() as u64, |_| {});
    [header, padded(payload.into_bytes())].concat()
}

fn error_of(archive: &[u8]) -> String {
    read_all(archive).expect_err("the archive must be refused").to_string()
}

#[test]
fn numbers_are_octal_or_binary() {
    assert_eq!(octal(b" 0000644\0"), Some(0o644));
    assert_eq!(octal(b"644 \0\0\0\0"), Some(0o644));
    assert_eq!(octal(b"\0\0\0\0"), Some(0));
    assert_eq!(octal(b"0009\0"), None);
    assert_eq!(number(b"\x80\0\0\0\0\0\0\0\0\0\x01\0"), Some(256));
    assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe"), Some(-2));
    assert_eq!(number(b"\x80\0\0\x80\0\0\0\0\0\0\0\0"), None);
}

#[test]
fn what_does_not_fit_a_header_survives() {
    let long = "d/".repeat(200) + "name";
    let mut odd = file(&long, b"data");
    odd.0.uid = 3_000_000;
    odd.0.gid = u32::MAX - 1;
    odd.0.mtime = Time { seconds: -2, nanoseconds: 750_000_000 };
    odd.0.user = "jürgen".as_bytes().to_vec();
    odd.0.xattrs = vec![(b"user.a".to_vec(), vec![0, b'\n', b'=', 255])];
    let mut link = Entry::new(Kind::Symlink, "ü", 0o777);
    link.link = vec![b't'; 3000];
    let mut device = Entry::new(Kind::BlockDevice, "b", 0o600);
    device.device = Device { major: 4095, minor: 1_048_575 };
    let entries = vec![odd, (link, Vec::new()), (device, Vec::new()), file("last", &[7; 1000])];
    let archive = write_all(&entries);
    assert_eq!(read_all(&archive).expect("our own archive"), entries);
    // GNU tar agrees.
    let mut command = Command::new("tar");
    command.args(["-tf", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut tar = command.spawn().expect("GNU tar");
    std::io::Write::write_all(&mut tar.stdin.take().expect("its input"), &archive).expect("written");
    let output = tar.wait_with_output().expect("tar");
    assert!(output.status.success());
    assert_eq!(output.stdout.iter().filter(|&&byte| byte == b'\n').count(), 4);
}

#[test]
fn a_size_told_twice_must_be_the_same() {
    let smuggled = block(b"smuggled", b'0', 0, |_| {});
    let ambiguous = [pax(&[("size", "0")]), block(b"a", b'0', 512, |_| {}), smuggled.clone()].concat();
    assert!(error_of(&ambiguous).contains("its PAX size and the size in its header differ"));
    let ambiguous = [pax(&[("size", "512")]), block(b"a", b'0', 0, |_| {}), smuggled.clone()].concat();
    assert!(error_of(&ambiguous).contains("ambiguous tar header of \"a\""));
    let ambiguous = [pax(&[("size", "512")]), block(b"a", b'5', 0, |_| {}), smuggled].concat();
    assert!(error_of(&ambiguous).contains("an entry without data"));
    let same = [pax(&[("size", "4")]), block(b"a", b'0', 4, |_| {}), padded(b"data".to_vec())].concat();
    assert_eq!(read_all(&same).expect("no ambiguity")[0].1, b"data");
}

#[test]
fn two_stories_about_one_entry_are_refused() {
    let long = |flag| [block(b"long", flag, 5, |_| {}), padded(b"name\0".to_vec())].concat();
    let entry = block(b"a", b'0', 0, |_| {});
    assert!(error_of(&[long(b'L'), long(b'L'), entry.clone()].concat()).contains("two extended headers"));
    let both = [long(b'L'), pax(&[("path", "other")]), entry.clone()].concat();
    assert!(error_of(&both).contains("a GNU long name and a PAX record that differ"));
    let twice = [pax(&[("path", "x"), ("path", "y")]), entry.clone()].concat();
    assert!(error_of(&twice).contains("a PAX record is there twice"));
    let agree = [long(b'L'), pax(&[("path", "name")]), entry.clone()].concat();
    assert_eq!(read_all(&agree).expect("no ambiguity")[0].0.path, b"name");
    let version = [pax(&[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0")]), entry].concat();
    assert!(error_of(&version).contains("unknown version"));
}

#[test]
fn invalid_headers_are_named() {
    let bad = |change: fn(&mut [u8])| error_of(&block(b"bad", b'0', 0, change));
    assert!(bad(|b| b[100..108].copy_from_slice(b"999 999\0")).contains("mode"));
    assert!(bad(|b| b[108..116].copy_from_slice(b"\xff\xff\xff\xff\xff\xff\xff\xff")).contains("uid"));
    assert!(bad(|b| b[156] = b'M').contains("unsupported tar entry type 'M'"));
    assert!(error_of(&[1; 512]).contains("not a tar archive"));
    let entry = block(b"a", b'0', 0, |_| {});
    for (record, reason) in [("path", "NUL"), ("mtime", "time"), ("size", "number")] {
        let archive = [pax(&[(record, "x\0")]), entry.clone()].concat();
        assert!(error_of(&archive).contains(reason), "{record}");
    }
    for payload in ["9999 a=b\n", "x a=b\n", "6 a=b", "6 aab\n", "5 =b\n", "0 a=b\n"] {
        let header = block(b"pax", b'x', payload.len() as u64, |_| {});
        let archive = [header, padded(payload.into()), entry.clone()].concat();
        assert!(error_of(&archive).contains("invalid PAX record"), "{payload:?}");
    }
}

#[test]
fn metadata_is_bounded() {
    let huge = block(b"huge", b'L', 1 << 32, |_| {});
    assert!(error_of(&huge).contains("more than the 1048576 allowed"));
    let global = [block(b"g", b'g', 6, |_| {}), padded(b"6 a=b\n".to_vec())].concat();
    let mut many = global.repeat(3000);
    many.extend(block(b"a", b'0', 0, |_| {}));
    assert_eq!(read_all(&many).expect("global headers don't add up").len(), 1);
}

#[test]
fn sparse_maps_must_fit_their_file() {
    let sparse = |map: &str, real: &str, stored: u64| {
        let records = [("GNU.sparse.size", real), ("GNU.sparse.map", map)];
        [pax(&records), block(b"s", b'0', stored, |_| {}), vec![1; 512]].concat()
    };
    let fine = read_all(&sparse("0,256,1000,256", "2000", 512)).expect("a sparse file");
    let extents = vec![Extent { offset: 0, bytes: 256 }, Extent { offset: 1000, bytes: 256 }];
    assert_eq!((fine[0].0.size, &fine[0].0.sparse), (2000, &Some(extents)));
    assert!(error_of(&sparse("0,256,100,256", "2000", 512)).contains("runs overlap"));
    assert!(error_of(&sparse("0,256,1900,256", "2000", 512)).contains("behind the end"));
    assert!(error_of(&sparse("0,256", "2000", 512)).contains("do not add up"));
    assert!(error_of(&sparse("0,256,1", "2000", 512)).contains("number of runs"));
    let max = u64::MAX.to_string();
    assert!(error_of(&sparse(&format!("{max},512"), &max, 512)).contains("number"));
}

#[test]
fn libarchive_attributes_are_decoded() {
    let archive = [pax(&[("LIBARCHIVE.xattr.user.a%3Db", "aGVsbG8")]), block(b"a", b'0', 0, |_| {})].concat();
    let entries = read_all(&archive).expect("an entry");
    assert_eq!(entries[0].0.xattrs, [(b"user.a=b".to_vec(), b"hello".to_vec())]);
}

prop_compose! {
    fn any_entry()(
        kind in prop_oneof![Just(Kind::File), Just(Kind::Directory), Just(Kind::Symlink), Just(Kind::Fifo)],
        path in "[a-zé/.]{1,300}",
        link in "[a-zé/.]{1,200}",
        mode in 0u32..0o10000,
        (uid, gid) in (0..u32::MAX, 0..u32::MAX),
        seconds in -10_000_000_000i64..100_000_000_000,
        nanoseconds in prop_oneof![Just(0u32), 0u32..1_000_000_000],
        xattrs in prop::collection::btree_map("user\\.[a-z]{1,9}", prop::collection::vec(any::<u8>(), 0..50), 0..3),
        data in prop::collection::vec(any::<u8>(), 0..2000),
    ) -> (Entry, Vec<u8>) {
        let mut entry = Entry::new(kind, path, mode);
        let data = if kind == Kind::File { data } else { Vec::new() };
        entry.link = if kind == Kind::Symlink { link.into_bytes() } else { Vec::new() };
        (entry.uid, entry.gid) = (uid, gid);
        entry.mtime = Time { seconds, nanoseconds };
        entry.xattrs = xattrs.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
        entry.size = data.len() as u64;
        entry.stored_bytes = entry.size;
        (entry, data)
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(entries in prop::collection::vec(any_entry(), 0..6)) {
        prop_assert_eq!(read_all(&write_all(&entries)).expect("our own archive"), entries);
    }

    #[test]
    fn noise_never_panics(
        entries in prop::collection::vec(any_entry(), 1..4),
        noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        reseal in any::<bool>(),
        length in any::<prop::sample::Index>(),
    ) {
        let mut archive = write_all(&entries);
        for (at, byte) in noise {
            let at = at.index(archive.len());
            archive[at] = byte;
            if reseal {
                // With a checksum that holds, so that the noise gets past it.
                let start = at / BLOCK * BLOCK;
                let (sum, _) = checksums(&archive[start..]);
                archive[start + 148..start + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        archive.truncate(length.index(archive.len()) + 1);
        let _ = read_all(&archive);
    }
}

/// As Docker's client ends an archive whose last file it has put in.
#[test]
fn an_archive_may_end_with_the_last_files_data() {
    let header = block(b"name", b'0', 3, |_| {});
    for tail in [b"abc".to_vec(), b"abc\0\0".to_vec(), padded(b"abc".to_vec())] {
        let entries = read_all(&[header.clone(), tail].concat()).unwrap();
        assert_eq!((entries.len(), entries[0].1.as_slice()), (1, b"abc".as_slice()));
    }
    assert!(error_of(&[header.clone(), b"ab".to_vec()].concat()).contains("cannot read"));
    // Nobody has read the data.
    let mut reader = Reader::new(&header[..]);
    reader.next_entry().unwrap();
    assert!(reader.next_entry().unwrap_err().to_string().contains("truncated"));
}
