//! The writer against the reader, byte facts of the format, and damaged images. The kernel and fsck.erofs
//! judge in `layer`'s conformance suite.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use proptest::prelude::*;

use super::format::{MAGIC, SUPERBLOCK, crc32c};
use super::*;

fn image(write: impl FnOnce(&mut Writer) -> Vec<(Vec<u8>, Child)>) -> File {
    let mut writer = Writer::new(tempfile::tempfile().expect("a file"));
    let names = write(&mut writer);
    let attributes = Attributes { mode: 0o755, ..Attributes::default() };
    let entries = names.iter().map(|(name, child)| (name.as_slice(), *child)).collect();
    writer.finish(&[Directory { attributes: &attributes, parent: 0, entries }], [7; 16]).expect("an image")
}

fn add_file(writer: &mut Writer, attributes: &Attributes, data: &[u8]) -> Child {
    let shape = FileShape { size: data.len() as u64, sparse: None };
    let (id, _) = writer.begin_file(attributes, shape).expect("a file");
    writer.data(data).expect("data");
    Child::Inode(id)
}

fn bytes_of(mut file: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).expect("the start");
    file.read_to_end(&mut bytes).expect("bytes");
    bytes
}

#[test]
fn checksum_is_the_kernels() {
    // CRC-32C of "123456789" is e3069283 with the inversion that the kernel leaves out.
    assert_eq!(crc32c(b"123456789"), !0xe306_9283);
    let bytes = bytes_of(&image(|_| Vec::new()));
    assert_eq!(bytes[SUPERBLOCK..SUPERBLOCK + 4], MAGIC.to_le_bytes());
    assert_eq!(bytes.len() % BLOCK as usize, 0);
}

#[test]
fn small_inodes_are_small_and_large_ones_keep_everything() {
    let time = Time { seconds: 1_700_000_000, nanoseconds: 5 };
    let small = Attributes { mode: 0o644, mtime: time, ..Attributes::default() };
    let large = Attributes { uid: 70_000, mtime: Time { seconds: -1, nanoseconds: 1 }, ..small.clone() };
    let file = image(|writer| {
        let small = add_file(writer, &small, b"small");
        vec![(b"small".to_vec(), small), (b"large".to_vec(), add_file(writer, &large, b"large"))]
    });
    let image = Image::open(file).expect("an image");
    for (name, expected) in [("small", &small), ("large", &large)] {
        let inode = image.lookup(name.as_bytes()).expect("a lookup").expect("a file");
        assert_eq!(&image.attributes(&inode).expect("attributes"), expected);
        assert_eq!(image.contents(&inode, 100).expect("contents"), name.as_bytes());
    }
}

#[test]
fn attributes_are_shared_once_seen_twice() {
    let mut attributes = Attributes { mode: 0o600, ..Attributes::default() };
    attributes.xattrs = vec![
        (b"security.selinux".to_vec(), b"system_u:object_r:usr_t:s0\0".to_vec()),
        (b"user.empty".to_vec(), Vec::new()),
    ];
    let many = |count: usize| {
        image(|writer| {
            (0..count).map(|n| (format!("{n:04}").into_bytes(), add_file(writer, &attributes, b""))).collect()
        })
    };
    let file = many(1000);
    let size = file.metadata().expect("a size").len();
    assert!(size < 200_000, "{size} bytes");
    let image = Image::open(file).expect("an image");
    for name in [&b"0000"[..], b"0001", b"0999"] {
        let inode = image.lookup(name).expect("a lookup").expect("a file");
        assert_eq!(image.attributes(&inode).expect("attributes"), attributes);
    }
}

#[test]
fn attributes_larger_than_a_block_and_too_large_ones() {
    let with = |bytes: usize| Attributes {
        xattrs: (0..5).map(|n| (format!("user.{n}").into_bytes(), vec![n as u8; bytes])).collect(),
        ..Attributes::default()
    };
    let attributes = with(20_000);
    let file = image(|writer| vec![(b"f".to_vec(), add_file(writer, &attributes, b"tail"))]);
    let image = Image::open(file).expect("an image");
    let inode = image.lookup(b"f").expect("a lookup").expect("a file");
    assert_eq!(image.attributes(&inode).expect("attributes"), attributes);
    assert_eq!(image.contents(&inode, 10).expect("contents"), b"tail");
    let mut writer = Writer::new(tempfile::tempfile().expect("a file"));
    assert!(writer.begin_file(&with(60_000), FileShape { size: 0, sparse: None }).is_err());
}

#[test]
fn a_root_with_many_attributes_still_fits() {
    let attributes = Attributes {
        xattrs: (0..9).map(|n| (format!("user.{n}").into_bytes(), vec![n; 1000])).collect(),
        ..Attributes::default()
    };
    let writer = Writer::new(tempfile::tempfile().expect("a file"));
    let root = Directory { attributes: &attributes, parent: 0, entries: Vec::new() };
    let image = Image::open(writer.finish(&[root], [0; 16]).expect("an image")).expect("an image");
    let inode = image.root().expect("a root");
    assert_eq!(image.attributes(&inode).expect("attributes"), attributes);
}

#[test]
fn torn_images_do_not_open() {
    let file = image(|writer| vec![(b"f".to_vec(), add_file(writer, &Attributes::default(), &[1; 9000]))]);
    let bytes = bytes_of(&file);
    let open = |bytes: &[u8]| {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("bytes");
        Image::open(file).err().map(|error| error.to_string())
    };
    assert!(open(&bytes).is_none());
    assert!(open(&bytes[..bytes.len() - 1]).is_some_and(|error| error.contains("cut short")));
    let mut flipped = bytes.clone();
    flipped[SUPERBLOCK + 40] ^= 1;
    assert!(open(&flipped).is_some_and(|error| error.contains("checksum")));
    let mut without = bytes;
    without[..BLOCK as usize].fill(0);
    assert!(open(&without).is_some_and(|error| error.contains("superblock")));
}

/// Visits everything of an image; errors are fine.
fn visit(image: &Image, inode: &Inode, depth: u32) -> Result<(), ReadError> {
    image.attributes(inode)?;
    let _ = image.contents(inode, 1 << 20);
    if inode.is_directory() && depth > 0 {
        for entry in image.list(inode)? {
            visit(image, &image.inode(entry.nid)?, depth - 1)?;
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn files_of_any_size_come_back(sizes in prop::collection::vec(0usize..20_000, 0..40), cut in 1usize..5000) {
        let attributes = Attributes { mode: 0o644, ..Attributes::default() };
        let contents: Vec<Vec<u8>> =
            sizes.iter().enumerate().map(|(n, size)| (0..*size).map(|i| (i * 7 + n) as u8).collect()).collect();
        let file = image(|writer| {
            let mut names = Vec::new();
            for (n, data) in contents.iter().enumerate() {
                let shape = FileShape { size: data.len() as u64, sparse: None };
                let (id, _) = writer.begin_file(&attributes, shape).expect("a file");
                data.chunks(cut).for_each(|part| writer.data(part).expect("data"));
                names.push((format!("file-{n}").into_bytes(), Child::Inode(id)));
            }
            names
        });
        let image = Image::open(file).expect("an image");
        for (n, data) in contents.iter().enumerate() {
            let inode = image.lookup(format!("file-{n}").as_bytes()).expect("a lookup").expect("a file");
            prop_assert!(&image.contents(&inode, 1 << 20).expect("contents") == data);
        }
    }

    #[test]
    fn sparse_files_come_back(
        runs in prop::collection::vec((0u64..60_000, 1u64..9000), 0..6),
        behind in 0u64..100_000,
    ) {
        let mut extents = Vec::new();
        let mut end = 0;
        for (gap, bytes) in runs {
            extents.push(Extent { offset: end + gap, bytes });
            end += gap + bytes;
        }
        let size = end + behind;
        let mut expected = vec![0u8; size as usize];
        let mut stored = Vec::new();
        for extent in &extents {
            let run = &mut expected[extent.offset as usize..(extent.offset + extent.bytes) as usize];
            run.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i % 251) as u8 + 1);
            stored.extend_from_slice(run);
        }
        let mut pieces = Vec::new();
        let file = image(|writer| {
            let shape = FileShape { size, sparse: Some(&extents) };
            let (id, at) = writer.begin_file(&Attributes::default(), shape).expect("a file");
            pieces = at.to_vec();
            writer.data(&stored).expect("data");
            vec![(b"s".to_vec(), Child::Inode(id))]
        });
        let raw = bytes_of(&file);
        let found: Vec<u8> =
            pieces.iter().flat_map(|p| &raw[p.position as usize..(p.position + p.bytes) as usize]).copied().collect();
        prop_assert!(found == stored, "the pieces do not lead to the stored bytes");
        let image = Image::open(file).expect("an image");
        let inode = image.lookup(b"s").expect("a lookup").expect("a file");
        prop_assert!(image.contents(&inode, 1 << 24).expect("contents") == expected);
    }

    #[test]
    fn damage_never_panics(damage in prop::collection::vec((4096usize..40_000, any::<u8>()), 1..20)) {
        let attributes = Attributes {
            xattrs: vec![(b"user.a".to_vec(), vec![1; 100])],
            ..Attributes::default()
        };
        let file = image(|writer| {
            (0..50).map(|n| (format!("name-{n}").into_bytes(), add_file(writer, &attributes, &[2; 600]))).collect()
        });
        let mut bytes = bytes_of(&file);
        for (at, byte) in damage {
            let at = at % bytes.len();
            if at >= BLOCK as usize {
                bytes[at] = byte;
            }
        }
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&bytes).expect("bytes");
        let image = Image::open(file).expect("block 0 is whole");
        if let Ok(root) = image.root() {
            let _ = visit(&image, &root, 3);
        }
    }
}
