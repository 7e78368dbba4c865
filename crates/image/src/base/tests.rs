//! A base image of this very machine, and of small made-up systems.

use std::fs;
use std::path::Path;

use super::*;
use crate::archive::tests::{assert_clean_after_removal, open};
use crate::tar::{Kind, Reader};

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A merged-/usr system of four packages, one of them not wanted.
fn tiny_system(root: &Path) {
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    std::os::unix::fs::symlink("usr/bin", root.join("bin")).unwrap();
    write(root, "etc/os-release", "ID=tinyix\nVERSION_CODENAME=\"one\"\nPRETTY_NAME='Tinyix 1'\n");
    let pristine = md5::hex(b"shipped\n");
    write(
        root,
        "var/lib/dpkg/status",
        &format!(
            "Package: base\nStatus: install ok installed\nEssential: yes\nArchitecture: all\nDepends: libx (>= 1)\n\
             Conffiles:\n /etc/kept.conf {pristine}\n /etc/edited.conf {pristine}\n\n\
             Package: libx\nStatus: install ok installed\nMulti-Arch: same\nArchitecture: amd64\n\n\
             Package: game\nStatus: install ok installed\nArchitecture: all\n\n\
             Package: gone\nStatus: deinstall ok config-files\nArchitecture: all\n"
        ),
    );
    write(
        root,
        "var/lib/dpkg/info/base.list",
        "/.\n/bin\n/bin/tool\n/bin/second\n/etc/kept.conf\n/etc/edited.conf\n/usr/share/doc/missing\n",
    );
    write(root, "var/lib/dpkg/info/libx:amd64.list", "/usr/lib/libx.so\n");
    write(root, "var/lib/dpkg/info/game.list", "/usr/games/game\n");
    write(root, "usr/bin/tool", "tool");
    fs::hard_link(root.join("usr/bin/tool"), root.join("usr/bin/second")).unwrap();
    write(root, "usr/lib/libx.so", "library");
    write(root, "usr/games/game", "fun");
    write(root, "etc/kept.conf", "shipped\n");
    write(root, "etc/edited.conf", "password=secret\n");
    write(root, "etc/shadow", "root:$6$hash:1::::::\n");
    write(root, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n");
    write(root, "etc/group", "root:x:0:\n");
    write(root, "etc/ssh/ssh_host_key", "PRIVATE KEY");
    write(root, "etc/hostname", "secret-host\n");
    write(root, "etc/machine-id", "0123456789abcdef\n");
}

fn entries(store: &Store, image: &Image) -> Vec<(String, Kind, String)> {
    let mut bytes = Vec::new();
    store.layers.reproduce(&image.layers[0], &mut bytes).unwrap();
    let mut reader = Reader::new(&bytes[..]);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut text).unwrap();
        let link = String::from_utf8_lossy(&entry.link).into_owned();
        let text = if link.is_empty() { String::from_utf8_lossy(&text).into_owned() } else { link };
        entries.push((entry.name(), entry.kind, text));
    }
    entries
}

#[test]
fn takes_the_packages_and_nothing_of_the_host() {
    let (root, system) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    tiny_system(system.path());
    let store = open(root.path());
    let options = BaseOptions { root: system.path().to_owned(), ..BaseOptions::default() };
    let image = store.create_base(&options, &|_| {}).unwrap();
    assert_eq!(image.repo_tags, ["tinyix:one"]);
    assert_eq!(image.config.config.cmd.as_deref().unwrap(), ["bash"]);
    let entries = entries(&store, &image);
    let find = |path: &str| {
        entries.iter().find(|(name, ..)| name == path).map(|(_, kind, text)| (*kind, text.as_str()))
    };
    assert_eq!(find("bin"), Some((Kind::Symlink, "usr/bin")));
    assert_eq!(find("usr/bin/second"), Some((Kind::File, "tool")));
    assert_eq!(find("usr/bin/tool"), Some((Kind::HardLink, "usr/bin/second")));
    assert_eq!(find("usr/lib/libx.so"), Some((Kind::File, "library")));
    assert_eq!(find("etc/kept.conf"), Some((Kind::File, "shipped\n")));
    for absent in ["etc/edited.conf", "usr/games/game", "etc/ssh/ssh_host_key", "etc/hostname"] {
        assert_eq!(find(absent), None, "{absent}");
    }
    assert_eq!(find("etc/machine-id"), Some((Kind::File, "")));
    assert_eq!(find("etc/shadow"), Some((Kind::File, "root:*:1:0:99999:7:::\n")));
    let (_, status) = find("var/lib/dpkg/status").unwrap();
    assert!(status.contains("Package: base") && status.contains("Package: libx") && !status.contains("game"));
    assert!(entries.iter().all(|(_, _, text)| !text.contains("secret") && !text.contains("hash")));
    // The same system gives the same layer.
    let again = store.create_base(&options, &|_| {}).unwrap();
    assert_eq!(again.layers, image.layers);
    let more = BaseOptions { packages: vec!["game".to_owned()], ..options.clone() };
    let with_game = store.create_base(&more, &|_| {}).unwrap();
    assert!(with_game.size > image.size);
    let absent = BaseOptions { packages: vec!["nosuch".to_owned()], ..options };
    assert!(
        store
            .create_base(&absent, &|_| {})
            .unwrap_err()
            .to_string()
            .starts_with("package nosuch is not installed")
    );
    assert_clean_after_removal(&store, root.path());
}

#[test]
fn other_systems_are_refused_in_plain_words() {
    let (root, system) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(root.path());
    let options = BaseOptions { root: system.path().to_owned(), ..BaseOptions::default() };
    write(system.path(), "etc/os-release", "NAME=x\n");
    assert!(store.create_base(&options, &|_| {}).unwrap_err().to_string().contains("has no ID"));
    write(system.path(), "etc/os-release", "ID=fedora\n");
    assert!(
        store
            .create_base(&options, &|_| {})
            .unwrap_err()
            .to_string()
            .contains("there is no package database")
    );
    write(system.path(), "usr/lib/sysimage/rpm/rpmdb.sqlite", "");
    let error = store.create_base(&options, &|_| {}).unwrap_err().to_string();
    assert!(error.contains("a system of rpm packages; supported are dpkg systems"), "{error}");
}
