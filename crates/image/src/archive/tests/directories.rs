//! Directories as blobs, and what strangers put into such.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use tempfile::TempDir;

use super::*;
use crate::archive::{
    DirectoryError, PackedDirectory, RemoteLayer, Source, fetch_directory, measure_directory, pack_directory,
};
use crate::compress::Format;

struct Blob(Vec<u8>);

impl Source for Blob {
    fn manifest(&self, _: &Descriptor) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn blob(&self, _: &Descriptor, _: u64) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(io::Cursor::new(self.0.clone())))
    }
}

fn pack(directory: &TempDir) -> (PackedDirectory, Vec<u8>) {
    let mut file = tempfile::tempfile().unwrap();
    let packed =
        pack_directory(&File::open(directory.path()).unwrap(), Format::Zstd, file.try_clone().unwrap());
    let mut bytes = Vec::new();
    io::Seek::rewind(&mut file).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    (packed.unwrap(), bytes)
}

fn unpack(wanted: &RemoteLayer, bytes: &[u8], limits: Limits) -> Result<TempDir, DirectoryError> {
    let directory = tempfile::tempdir().unwrap();
    let root = File::open(directory.path()).unwrap();
    fetch_directory(wanted, &Blob(bytes.to_vec()), &limits, &root, &|_, _| {})?;
    Ok(directory)
}

/// An archive as somebody offers it who keeps to the digests.
fn offer(tar: &[u8]) -> (RemoteLayer, Vec<u8>) {
    let bytes = zstd(tar);
    (RemoteLayer { blob: Descriptor::of(media::OCI_LAYER_ZSTD, &bytes), diff_id: Digest::of(tar) }, bytes)
}

fn archive(entries: &[(Entry, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in entries {
        writer.append_header(entry).unwrap();
        writer.write_all(data).unwrap();
    }
    writer.finish().unwrap()
}

fn refusal(tar: &[u8], limits: Limits) -> String {
    let (wanted, bytes) = offer(tar);
    let error = unpack(&wanted, &bytes, limits).unwrap_err();
    crate::error::explain(&error)
}

#[test]
fn a_directory_comes_back_as_it_was() {
    let from = tempfile::tempdir().unwrap();
    let at = |name: &str| from.path().join(name);
    fs::create_dir_all(at("deep/below")).unwrap();
    fs::write(at("deep/below/file"), "text").unwrap();
    fs::hard_link(at("deep/below/file"), at("twin")).unwrap();
    symlink("/etc/passwd", at("link")).unwrap();
    symlink("..", at("deep/up")).unwrap();
    // Names that mean something in layers.
    fs::write(at(".wh.gone"), "").unwrap();
    fs::write(at("deep/.wh..wh..opq"), "").unwrap();
    fs::set_permissions(at("twin"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(at("deep"), fs::Permissions::from_mode(0o1700)).unwrap();
    rustix::fs::setxattr(at("twin"), "user.note", b"kept", XattrFlags::empty()).unwrap();
    std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        rustix::fs::mknodat(CWD, at("device"), FileType::CharacterDevice, Mode::RUSR, 0).unwrap();
        std::os::unix::fs::lchown(at("link"), Some(12), Some(34)).unwrap();
    }
    let sparse = File::create(at("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (64 << 20) - 3).unwrap();

    let (packed, bytes) = pack(&from);
    assert_eq!(packed.blob, Descriptor::of(media::OCI_LAYER_ZSTD, &bytes));
    let again = pack(&from).0;
    assert_eq!((again.diff_id, again.blob), (packed.diff_id, packed.blob.clone()), "the same bytes");
    let (entries, about) = measure_directory(&File::open(from.path()).unwrap()).unwrap();
    assert_eq!(entries, 10);
    assert!(about > 64 << 20 && about < packed.tar_bytes + 4096, "{about} {}", packed.tar_bytes);

    let wanted = RemoteLayer { blob: packed.blob, diff_id: packed.diff_id };
    let to = unpack(&wanted, &bytes, Limits::default()).unwrap();
    let at = |name: &str| to.path().join(name);
    let twin = fs::metadata(at("twin")).unwrap();
    assert_eq!(fs::read(at("twin")).unwrap(), b"text");
    assert_eq!(twin.ino(), fs::metadata(at("deep/below/file")).unwrap().ino());
    assert_eq!((twin.mode() & 0o7777, twin.nlink()), (0o4751, 2));
    assert_eq!(fs::metadata(at("deep")).unwrap().mode() & 0o7777, 0o1700);
    assert_eq!(fs::read_link(at("link")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::read_link(at("deep/up")).unwrap(), Path::new(".."));
    assert!(at(".wh.gone").exists() && at("deep/.wh..wh..opq").exists());
    assert!(fs::metadata(at("fifo")).unwrap().file_type().is_fifo());
    assert!(!at("socket").exists() && fs::symlink_metadata(at("device")).is_err());
    let mut note = [0; 8];
    assert_eq!(rustix::fs::getxattr(at("twin"), "user.note", &mut note[..]).unwrap(), 4);
    if is_root {
        let link = fs::symlink_metadata(at("link")).unwrap();
        assert_eq!((link.uid(), link.gid()), (12, 34));
    }
    let sparse = fs::metadata(at("sparse")).unwrap();
    assert_eq!(sparse.len(), 64 << 20);
    assert!(sparse.blocks() * 512 < 1 << 20, "holes take no room: {}", sparse.blocks());
    assert_eq!(&fs::read(at("sparse")).unwrap()[(64 << 20) - 4..], b"\0end");
    let back = pack(&to).0;
    assert_eq!(back.diff_id, wanted.diff_id, "and goes on as it came");
}

#[test]
fn nothing_leaves_the_directory() {
    let file = |path: &str| Entry { size: 4, stored_bytes: 4, ..Entry::new(Kind::File, path, 0o644) };
    let link = |kind, path: &str, target: &str| Entry {
        link: target.as_bytes().to_vec(),
        ..Entry::new(kind, path, 0o777)
    };
    let up = archive(&[(file("../evil"), b"evil")]);
    assert!(refusal(&up, Limits::default()).contains("leaves the directory"));
    let up = archive(&[(link(Kind::HardLink, "a", "../../etc/passwd"), b"")]);
    assert!(refusal(&up, Limits::default()).contains("invalid hardlink target"));
    // Links lead as they would for a process below the directory.
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    refusal(
        &archive(&[(link(Kind::Symlink, "out", target), b""), (file("out/evil"), b"evil")]),
        Limits::default(),
    );
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    let (wanted, bytes) =
        offer(&archive(&[(link(Kind::Symlink, "out", "/../.."), b""), (file("out/evil"), b"evil")]));
    let to = unpack(&wanted, &bytes, Limits::default()).unwrap();
    assert!(to.path().join("evil").exists());
}

#[test]
fn strangers_bring_no_devices_and_no_attributes_that_are_trusted() {
    for kind in [Kind::CharDevice, Kind::BlockDevice] {
        let told = refusal(&archive(&[(Entry::new(kind, "disk", 0o666), b"")]), Limits::default());
        assert!(told.contains("\"disk\" is a device"), "{told}");
    }
    let mut entry = Entry::new(Kind::File, "file", 0o644);
    entry.xattrs =
        ["security.ima", "system.posix_acl_access", "trusted.overlay.opaque", "trusted.x", "user.ours"]
            .iter()
            .map(|name| (name.as_bytes().to_vec(), b"y".to_vec()))
            .collect();
    let (wanted, bytes) = offer(&archive(&[(entry, b"")]));
    let to = unpack(&wanted, &bytes, Limits::default()).unwrap();
    let mut names = [0; 256];
    let count = rustix::fs::listxattr(to.path().join("file"), &mut names[..]).unwrap();
    assert_eq!(&names[..count], b"user.ours\0");
}

#[test]
fn what_is_endless_ends() {
    let big = Entry { size: 1 << 20, stored_bytes: 1 << 20, ..Entry::new(Kind::File, "big", 0o644) };
    let zeros = vec![0; 1 << 20];
    let tar = archive(&[(big, &zeros)]);
    let limits = |tar_bytes_max, entries_max| Limits { tar_bytes_max, entries_max, ..Limits::default() };
    assert!(refusal(&tar, limits(1 << 19, 9)).contains("it has more than 524288 bytes"));
    let many: Vec<(Entry, &[u8])> =
        (0..9).map(|number| (Entry::new(Kind::File, number.to_string(), 0o644), &b""[..])).collect();
    assert!(refusal(&archive(&many), limits(1 << 30, 8)).contains("more than 8 entries"));
    // Behind the archive's end, too.
    let mut long = archive(&many);
    long.resize(2 << 20, 0);
    assert!(refusal(&long, limits(1 << 20, 9)).contains("it has more than 1048576 bytes"));
}

#[test]
fn what_is_not_as_promised_is_none() {
    let from = tempfile::tempdir().unwrap();
    fs::write(from.path().join("file"), "text").unwrap();
    let (packed, bytes) = pack(&from);
    let wanted = RemoteLayer { blob: packed.blob, diff_id: packed.diff_id };
    let told = |wanted: &RemoteLayer, bytes: &[u8]| {
        crate::error::explain(&unpack(wanted, bytes, Limits::default()).unwrap_err())
    };
    let other = RemoteLayer { diff_id: Digest::of(b"other"), ..wanted.clone() };
    assert!(told(&other, &bytes).contains("what was packed is sha256:"));
    let mut other = wanted.clone();
    other.blob.digest = Digest::of(b"other");
    assert!(told(&other, &bytes).contains("what came is sha256:"));
    for at in [0, bytes.len() / 2, bytes.len() - 1] {
        let mut broken = bytes.clone();
        broken[at] ^= 0x55;
        told(&wanted, &broken);
    }
    assert!(told(&wanted, &bytes[..bytes.len() - 7]).contains("7 bytes before its end"));
    assert!(told(&wanted, b"").contains("before its end"));
    let mut long = bytes.clone();
    long.extend_from_slice(b"more");
    unpack(&wanted, &long, Limits::default()).expect("what is not promised is not read");
    let xz = b"\xfd7zXZ\0 and so on";
    let other = RemoteLayer { blob: Descriptor::of(media::OCI_LAYER_ZSTD, xz), ..wanted };
    assert!(told(&other, xz).contains("xz"));
}
