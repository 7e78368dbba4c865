use std::io::{Cursor, Write};

use proptest::prelude::*;

use super::*;

fn scan(files: &[(&str, &[u8])]) -> Inventory {
    let mut scan = Scan::default();
    for (path, bytes) in files {
        scan.file(path, bytes.len() as u64, &mut Cursor::new(bytes));
    }
    scan.finish()
}

/// Package URLs of what a file tells of, on Debian 12.
fn purls(path: &str, text: impl AsRef<[u8]>) -> Vec<String> {
    let files = [("etc/os-release", &b"ID=debian\nVERSION_ID=\"12\"\n"[..]), (path, text.as_ref())];
    let inventory = scan(&files);
    assert_eq!(inventory.notes, [] as [String; 0]);
    inventory.packages.into_iter().map(|package| package.purl).collect()
}

#[test]
fn systems_databases_are_read() {
    let status = "Package: curl\nStatus: install ok installed\nArchitecture: amd64\nVersion: 7.88.1-10+deb12u5\n\
        Maintainer: A <a@b.c>\nDescription: x\n Package: no\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n";
    assert_eq!(
        purls("var/lib/dpkg/status", status),
        ["pkg:deb/debian/curl@7.88.1-10%2Bdeb12u5?arch=amd64&distro=debian-12"]
    );
    assert_eq!(
        purls("var/lib/dpkg/status.d/base", "Package: base-files\nVersion: 12\n"),
        ["pkg:deb/debian/base-files@12?distro=debian-12"]
    );
    assert_eq!(purls("var/lib/dpkg/status.d/base.md5sums", "Package: x\nVersion: 12\n"), [] as [String; 0]);
    let apk = "C:Q1\nP:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\nm:N <n@a>\n\nP:busybox\nV:1\n";
    let system = [
        ("usr/lib/os-release", &b"ID=alpine\nVERSION_ID=3.19.1"[..]),
        ("lib/apk/db/installed", apk.as_bytes()),
    ];
    let found = scan(&system).packages;
    assert_eq!(found[1].purl, "pkg:apk/alpine/musl@1.2.4-r2?arch=x86_64&distro=alpine-3.19.1");
    assert_eq!((found[1].licence.as_str(), found[1].supplier.as_str()), ("MIT", "N (n@a)"));
}

#[test]
fn languages_packages_are_read() {
    let metadata = "Metadata-Version: 2.1\nName: Foo_Bar\nVersion: 1.0\nLicense: MIT\n\nName: not this\n";
    assert_eq!(purls("usr/lib/python3/Foo_Bar-1.0.dist-info/METADATA", metadata), ["pkg:pypi/foo-bar@1.0"]);
    assert_eq!(purls("x/a.egg-info", "Name: a\nVersion: 2\n"), ["pkg:pypi/a@2"]);
    let manifest = r#"{"name": "@s/n", "version": "1.2.3", "license": {"type": "ISC"}, "author": "me"}"#;
    assert_eq!(purls("app/node_modules/@s/n/package.json", manifest), ["pkg:npm/%40s/n@1.2.3"]);
    assert_eq!(purls("app/package.json", manifest), [] as [String; 0]);
    assert_eq!(purls("app/node_modules/n/lib/package.json", manifest), [] as [String; 0]);
    let lock = r#"{"packages": {"": {"name": "own", "version": "0"}, "node_modules/a": {"version": "1"},
        "node_modules/a/node_modules/@s/b": {"version": "2"}, "node_modules/l": {"link": true}}}"#;
    assert_eq!(purls("app/package-lock.json", lock), ["pkg:npm/%40s/b@2", "pkg:npm/a@1"]);
    let old = r#"{"dependencies": {"a": {"version": "1", "dependencies": {"b": {"version": "2"}}}}}"#;
    assert_eq!(purls("app/package-lock.json", old), ["pkg:npm/a@1", "pkg:npm/b@2"]);
    let lock =
        "version = 3\n\n[[package]]\nname = \"serde\"\nversion = \"1.0.1\"\ndependencies = [\n \"x\",\n]\n";
    assert_eq!(purls("Cargo.lock", lock), ["pkg:cargo/serde@1.0.1"]);
    let gem = "Gem::Specification.new do |s|\n  s.name = \"rake\".freeze\n  s.version = \"13.0.6\"\n  s.licenses = [\"MIT\".freeze]\n";
    assert_eq!(purls("usr/lib/ruby/specifications/rake-13.gemspec", gem), ["pkg:gem/rake@13.0.6"]);
    let lock =
        "GEM\n  remote: https://rubygems.org/\n  specs:\n    rack (3.0.0)\n      other (>= 1)\n\nPLATFORMS\n";
    assert_eq!(purls("Gemfile.lock", lock), ["pkg:gem/rack@3.0.0"]);
}

/// A header of rpm's with texts, and a number for the epoch.
fn header(texts: &[(u32, &str)], epoch: Option<u32>) -> Vec<u8> {
    let (mut index, mut data) = (Vec::new(), Vec::new());
    let mut entry = |tag: u32, kind: u32, at: usize| {
        for number in [tag, kind, at as u32, 1] {
            index.extend(number.to_be_bytes());
        }
    };
    if let Some(epoch) = epoch {
        entry(1003, 4, 0);
        data.extend(epoch.to_be_bytes());
    }
    for (tag, text) in texts {
        entry(*tag, 6, data.len());
        data.extend(text.as_bytes());
        data.push(0);
    }
    let mut header = ((index.len() / 16) as u32).to_be_bytes().to_vec();
    header.extend((data.len() as u32).to_be_bytes());
    [header, index, data].concat()
}

/// A database as rpm makes them, with headers of all sizes, so that some lie on pages of their own.
fn rpm_database() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rpmdb.sqlite");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE Name (key TEXT, hnum INTEGER);
             CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL);",
        )
        .unwrap();
    for number in 0..700 {
        let name = format!("p{number:03}");
        let padding = "x".repeat(number * 37);
        let texts = [
            (1000, name.as_str()),
            (1001, "1.0"),
            (1002, "2.fc40"),
            (1014, "MIT"),
            (1022, "x86_64"),
            (9999, &padding),
        ];
        let header = header(&texts, (number == 0).then_some(1));
        connection.execute("INSERT INTO Packages (blob) VALUES (?1)", [header]).unwrap();
    }
    drop(connection);
    std::fs::read(path).unwrap()
}

#[test]
fn rpm_s_database_is_read() {
    let found = purls("var/lib/rpm/rpmdb.sqlite", rpm_database());
    assert_eq!(found.len(), 700);
    assert_eq!(found[0], "pkg:rpm/debian/p000@1.0-2.fc40?arch=x86_64&distro=debian-12&epoch=1");
    assert_eq!(found[699], "pkg:rpm/debian/p699@1.0-2.fc40?arch=x86_64&distro=debian-12");
    let old = scan(&[("var/lib/rpm/Packages", b"\0")]);
    assert!(old.notes[0].starts_with("/var/lib/rpm/Packages: it is a database of a form"), "{:?}", old.notes);
}

/// A page of a table that names one row, a header of rpm's, so often.
fn repeated_row(count: u16) -> Vec<u8> {
    let mut database = vec![0; 8192];
    database[..16].copy_from_slice(b"SQLite format 3\0");
    database[16] = 0x10;
    let schema = [&[28, 1, 6, 23, 29, 29, 1, 13], &b"tablePackagesPackages\x02"[..]].concat();
    database[100] = 0x0d;
    database[104] = 1;
    database[109] = 200;
    database[200..200 + schema.len()].copy_from_slice(&schema);
    let header = header(&[(1000, "p"), (1001, "1")], None);
    let row = [&[47, 1, 3, 0, 12 + 2 * header.len() as u8], &header[..]].concat();
    let leaf = &mut database[4096..];
    leaf[0] = 0x0d;
    leaf[3..5].copy_from_slice(&count.to_be_bytes());
    for cell in 0..usize::from(count) {
        leaf[8 + 2 * cell..][..2].copy_from_slice(&3000_u16.to_be_bytes());
    }
    leaf[3000..3000 + row.len()].copy_from_slice(&row);
    database
}

/// A small file must not become much of anything.
#[test]
fn what_a_file_says_many_times_is_not_kept_many_times() {
    let path = "var/lib/rpm/rpmdb.sqlite";
    assert_eq!(purls(path, repeated_row(1)), ["pkg:rpm/debian/p@1?distro=debian-12"]);
    let notes = scan(&[(path, &repeated_row(1000))]).notes;
    assert_eq!(notes, ["/var/lib/rpm/rpmdb.sqlite: the database is broken"]);
    let status = "Package: a\n\n".repeat(PACKAGES_MAX + 10);
    assert_eq!(database::dpkg::packages(&status).len(), PACKAGES_MAX + 1);
    let mut large = Scan::default();
    large.file("package-lock.json", JSON_BYTES_MAX + 1, &mut Cursor::new(b"{}"));
    assert!(large.finish().notes[0].contains("more than 16777216 bytes"));
}

/// A program of 64 bits with one section.
fn program(section: &str, content: &[u8]) -> Vec<u8> {
    let names = format!("\0{section}\0");
    let mut file = vec![0; 64];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    let (content_at, names_at) = (64, 64 + content.len());
    let table = names_at + names.len();
    file[40..48].copy_from_slice(&(table as u64).to_le_bytes());
    for (at, number) in [(58, 64_u16), (60, 2), (62, 1)] {
        file[at..at + 2].copy_from_slice(&number.to_le_bytes());
    }
    file.extend(content);
    file.extend(names.as_bytes());
    for (name, at, bytes) in [(1_u32, content_at, content.len()), (0, names_at, names.len())] {
        let mut entry = [0; 64];
        entry[..4].copy_from_slice(&name.to_le_bytes());
        entry[24..32].copy_from_slice(&(at as u64).to_le_bytes());
        entry[32..40].copy_from_slice(&(bytes as u64).to_le_bytes());
        file.extend(entry);
    }
    file
}

fn go_program() -> Vec<u8> {
    let modules = "path\tx\nmod\tgithub.com/a/b\t(devel)\ndep\tgolang.org/x/sys\tv0.1.0\th1:\ndep\told\tv1\n=>\tgithub.com/n/n\tv2.0.0\th1:\n";
    let modules = format!("{}{modules}{}", "0".repeat(16), "1".repeat(16));
    let mut section = b"\xff Go buildinf:\x08\x02".to_vec();
    section.resize(32, 0);
    section.extend([8]);
    section.extend(b"go1.22.1");
    section.extend([(modules.len() as u8) | 0x80, (modules.len() >> 7) as u8]);
    section.extend(modules.as_bytes());
    program(".go.buildinfo", &section)
}

#[test]
fn programs_say_what_they_are_made_of() {
    let expected = [
        "pkg:golang/github.com/a/b",
        "pkg:golang/github.com/n/n@v2.0.0",
        "pkg:golang/golang.org/x/sys@v0.1.0",
        "pkg:golang/stdlib@1.22.1",
    ];
    assert_eq!(purls("usr/bin/tool", go_program()), expected);
    let audit =
        br#"{"packages": [{"name": "a", "version": "1"}, {"name": "cc", "version": "2", "kind": "build"}]}"#;
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(audit).unwrap();
    assert_eq!(purls("bin/x", program(".dep-v0", &packed.finish().unwrap())), ["pkg:cargo/a@1"]);
    assert_eq!(
        purls(
            "bin/sh",
            b"#!/bin/sh\necho this is no program, though it is as long as one would have to be\n"
        ),
        [] as [String; 0]
    );
    assert!(!is_wanted("bin/x", false, 1000) && is_wanted("bin/x", true, 1000));
}

/// An archive of these files.
fn jar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        archive.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

const PROJECT: &[u8] = b"#Generated by Maven\nversion=1.2\ngroupId=org.example\nartifactId=tool\n";

#[test]
fn java_s_archives_are_looked_into() {
    let manifest = b"Manifest-Version: 1.0\r\nBundle-License: Apache-2.0\r\nImplementation-Vendor: E\r\n xample\r\n\r\nName: x\r\n";
    let of_maven = jar(&[
        ("META-INF/MANIFEST.MF", manifest),
        ("META-INF/maven/org.example/tool/pom.properties", PROJECT),
    ]);
    let bundle = b"Bundle-SymbolicName: a.b;singleton:=true\nBundle-Version: 3.1\n";
    let war = jar(&[
        ("WEB-INF/lib/tool.jar", &of_maven),
        ("WEB-INF/lib/b.jar", &jar(&[("META-INF/MANIFEST.MF", bundle)])),
        ("WEB-INF/lib/commons-io-2.11.0.jar", &jar(&[("a.class", b"")])),
        ("WEB-INF/lib/broken.jar", b"PK"),
        ("index.html", b""),
    ]);
    let ear = jar(&[("app.war", &war)]);
    let found = scan(&[("opt/app.ear", &ear), ("opt/tool.JAR", &of_maven), ("opt/other.jar", &jar(&[]))]);
    let purls: Vec<&str> = found.packages.iter().map(|package| package.purl.as_str()).collect();
    assert_eq!(
        purls,
        ["pkg:generic/a.b@3.1", "pkg:generic/commons-io@2.11.0", "pkg:maven/org.example/tool@1.2"]
    );
    let tool = &found.packages[2];
    assert_eq!((tool.licence.as_str(), tool.supplier.as_str()), ("Apache-2.0", "Example"));
    let places: Vec<&str> = tool.found_at.iter().map(String::as_str).collect();
    assert_eq!(places, ["/opt/app.ear!/app.war!/WEB-INF/lib/tool.jar", "/opt/tool.JAR"]);
    assert_eq!(found.notes.len(), 1);
    assert!(
        found.notes[0].starts_with("/opt/app.ear!/app.war!/WEB-INF/lib/broken.jar: "),
        "{:?}",
        found.notes
    );
}

#[test]
fn archives_within_archives_have_an_end() {
    let mut archive = jar(&[("META-INF/maven/g/a/pom.properties", PROJECT)]);
    for _ in 0..6 {
        archive = jar(&[("a.jar", &archive)]);
    }
    let found = scan(&[("a.jar", &archive)]);
    assert!(
        found.packages.is_empty() && found.notes[0].ends_with("it is too deep within others"),
        "{found:?}"
    );
    // Zeros take a thousandth of their room.
    let (zeros, own) = (vec![0; 2 << 20], "META-INF/maven/g/a/pom.properties");
    let found = scan(&[("a.jar", &jar(&[("META-INF/MANIFEST.MF", &zeros), (own, PROJECT)]))]);
    assert_eq!(found.notes, ["/a.jar!/META-INF/MANIFEST.MF: it has more than 1048576 bytes"]);
    assert_eq!(found.packages.len(), 1);
    // Many archives, with one project each or with all of them; one more than are taken says that there are others.
    let small = jar(&[(own, PROJECT)]);
    let names: Vec<String> = (0..9).map(|number| format!("{number}.jar")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &small[..])).collect();
    let inner = jar(&files);
    let outer = jar(&[("a.jar", &inner), ("b.jar", &inner)]);
    let projects: Vec<String> =
        (0..9).map(|number| format!("META-INF/maven/g/{number}/pom.properties")).collect();
    let files: Vec<(&str, &[u8])> = projects.iter().map(|name| (name.as_str(), PROJECT)).collect();
    for archive in [outer, jar(&files)] {
        let found = language::java::packages("a.jar", &mut Cursor::new(archive), 3);
        assert_eq!(found.packages.len(), 4);
    }
    // A directory of nothing but names.
    let names: Vec<String> = (0..300).map(|number| format!("{number:060000}")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let found = scan(&[("a.jar", &jar(&files))]);
    assert!(found.notes[0].contains("too long"), "{:?}", found.notes);
}

#[test]
fn documents_are_the_same_for_the_same_files() {
    let python = b"Name: a\nVersion: 1\nLicense: My Own\n";
    let files: [(&str, &[u8]); 3] =
        [("b/a.egg-info", python), ("a/a.egg-info", python), ("x/package-lock.json", b"{")];
    let reversed: Vec<_> = files.iter().rev().copied().collect();
    let about = About { name: "n".into(), digest: "00".into(), created: 0, tool: "t".into() };
    let (one, other) = (spdx(&scan(&files), &about), spdx(&scan(&reversed), &about));
    assert_eq!(one, other);
    assert_eq!(one["creationInfo"]["created"], "1970-01-01T00:00:00Z");
    assert_eq!(one["packages"].as_array().unwrap().len(), 2);
    assert_eq!(one["packages"][1]["sourceInfo"], "told of by /a/a.egg-info, /b/a.egg-info");
    assert_eq!(one["packages"][1]["licenseDeclared"], "LicenseRef-1");
    assert_eq!(one["hasExtractedLicensingInfos"][0]["extractedText"], "My Own");
    assert!(one["comment"].as_str().unwrap().contains("/x/package-lock.json: "), "{one}");
    let other = cyclonedx(&scan(&files), &about);
    assert_eq!(other["components"][0]["purl"], "pkg:pypi/a@1");
}

const PATHS: [&str; 13] = [
    "etc/os-release",
    "var/lib/dpkg/status",
    "lib/apk/db/installed",
    "var/lib/rpm/rpmdb.sqlite",
    "a.dist-info/METADATA",
    "a.egg-info",
    "node_modules/a/package.json",
    "package-lock.json",
    "Cargo.lock",
    "Gemfile.lock",
    "specifications/a.gemspec",
    "bin/x",
    "a.jar",
];

proptest! {
    #[test]
    fn nothing_that_a_file_holds_breaks_it(path in 0..PATHS.len(), bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        scan(&[(PATHS[path], &bytes)]);
    }

    #[test]
    fn no_text_breaks_it(path in 0..PATHS.len(), text in "[\\[\\]{}\":=\\n PNVsname(ver).]{0,200}") {
        scan(&[(PATHS[path], text.as_bytes())]);
    }

    #[test]
    fn a_program_that_lies_breaks_nothing(changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8)) {
        let mut program = go_program();
        for (at, byte) in changes {
            let at = at.index(program.len());
            program[at] = byte;
        }
        scan(&[("bin/x", &program)]);
    }

    #[test]
    fn an_archive_that_lies_breaks_nothing(changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8)) {
        let mut archive = jar(&[("META-INF/maven/g/a/pom.properties", PROJECT), ("b.jar", &jar(&[("a", b"b")]))]);
        for (at, byte) in changes {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        scan(&[("a.jar", &archive)]);
    }

    #[test]
    fn a_database_that_lies_breaks_nothing(changes in proptest::collection::vec((0..12000_usize, any::<u8>()), 1..8)) {
        static DATABASE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let mut database = DATABASE.get_or_init(rpm_database)[..64 << 10].to_vec();
        for (at, byte) in changes {
            database[at] = byte;
        }
        scan(&[("var/lib/rpm/rpmdb.sqlite", &database)]);
    }
}
