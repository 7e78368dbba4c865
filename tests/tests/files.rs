//! A container's files from outside: `cp` in all its combinations, hostile archives, `diff`, `export`, `commit`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use corten_tests::http::Connection;
use corten_tests::{Output, TestEngine, eventually, run};
use tempfile::TempDir;

/// What `/t` of the container is before each copy, and (in capitals) the host's directory.
const TREE: &str = "rm -rf /t; mkdir -p /t/dir/sub /t/empty /t/deep; echo f >/t/file; echo g >/t/dir/g; echo s >/t/dir/sub/s;
    ln -s file /t/lfile; ln -s dir /t/ldir; ln -s /t/dir /t/labs; ln -s nowhere /t/broken; ln -s /t/newf /t/lnew;
    ln -s ../dir/sub /t/deep/up; mkfifo /t/fifo";

fn host_tree(root: &Path) {
    let _ = fs::remove_dir_all(root);
    for directory in ["dir/sub", "empty", "deep"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    for (path, text) in [("file", "F\n"), ("dir/g", "G\n"), ("dir/sub/s", "S\n")] {
        fs::write(root.join(path), text).unwrap();
    }
    for (path, target) in [("lfile", "file"), ("ldir", "dir"), ("broken", "nowhere"), ("lnew", "newf")] {
        symlink(target, root.join(path)).unwrap();
    }
    symlink("../dir/sub", root.join("deep/up")).unwrap();
    symlink(root.join("dir"), root.join("labs")).unwrap();
}

/// Options, source, destination, and what is there afterwards: `path=content`, `path>target of a link`, or `!` for a refusal.
type Case = (&'static str, &'static str, &'static str, &'static str);

/// Into the container; destinations are below `/t`.
const INWARDS: &[Case] = &[
    ("", "file", "new", "new=F"),
    ("", "file", "empty", "empty/file=F"),
    ("", "file", "empty/", "empty/file=F"),
    ("", "file", "empty/.", "empty/file=F"),
    ("", "file", "file", "file=F"),
    ("", "file", "dir/sub/s", "dir/sub/s=F"),
    ("", "file", "new/", "!"),
    ("", "file", "nodir/new", "!"),
    ("", "file", "file/", "!"),
    ("", "file", "ldir", "dir/file=F"),
    ("", "file", "labs", "dir/file=F"),
    ("", "file", "deep/up", "dir/sub/file=F"),
    ("", "file", "lfile", "file=F"),
    ("", "file", "lnew", "newf=F"),
    ("", "file", "broken", "nowhere=F"),
    ("", "file", "fifo", "fifo=F"),
    ("", "file/", "new", "!"),
    ("", "nope", "new", "!"),
    ("", "dir", "new", "new/g=G"),
    ("", "dir", "new/", "new/g=G"),
    ("", "dir", "empty", "empty/dir/sub/s=S"),
    ("", "dir/", "empty", "empty/dir/g=G"),
    ("", "dir/.", "empty", "empty/g=G"),
    ("", "dir/.", "new", "new/sub/s=S"),
    ("", "dir/.", "dir", "dir/g=G"),
    ("", "dir", "file", "!"),
    ("", "dir", "nodir/new", "!"),
    ("", "dir", "ldir", "dir/dir/g=G"),
    ("", "lfile", "new", "new>file"),
    ("", "ldir", "empty", "empty/ldir>dir"),
    ("", "ldir/", "empty", "empty/ldir/g=G"),
    ("", "ldir/.", "empty", "empty/g=G"),
    ("", "broken", "empty", "empty/broken>nowhere"),
    ("", "deep/up/", "new", "new/s=S"),
    ("-L", "lfile", "new", "new=F"),
    ("-L", "lfile", "empty", "empty/lfile=F"),
    ("-L", "ldir", "empty", "empty/ldir/g=G"),
    ("-L", "ldir", "new", "new/g=G"),
    ("-L", "broken", "new", "!"),
    ("-a", "dir", "new", "new/g=G"),
    ("-q", "file", "new", "new=F"),
];

/// Out of the container; sources are below `/t`, destinations below the host's directory.
const OUTWARDS: &[Case] = &[
    ("", "file", "new", "new=f"),
    ("", "file", "empty", "empty/file=f"),
    ("", "file", "empty/.", "empty/file=f"),
    ("", "file", "file", "file=f"),
    ("", "file", "new/", "!"),
    ("", "file", "nodir/new", "!"),
    ("", "file", "ldir", "dir/file=f"),
    ("", "file", "lnew", "newf=f"),
    ("", "file", "lfile", "file=f"),
    ("", "file/", "new", "!"),
    ("", "nope", "new", "!"),
    ("", "dir", "new", "new/g=g"),
    ("", "dir", "empty", "empty/dir/sub/s=s"),
    ("", "dir/", "empty", "empty/dir/g=g"),
    ("", "dir/.", "empty", "empty/g=g"),
    ("", "dir/.", "new", "new/sub/s=s"),
    ("", "dir", "file", "!"),
    ("", "dir", "new/", "new/g=g"),
    ("", "dir/sub", "dir", "dir/sub/s=s"),
    ("", "dir/sub/s", "dir/sub", "dir/sub/s=s"),
    ("", "file", "dir/sub/s", "dir/sub/s=f"),
    ("", "lfile", "new", "new>file"),
    ("", "ldir", "empty", "empty/ldir>dir"),
    ("", "ldir/", "empty", "empty/ldir/g=g"),
    ("", "ldir/.", "empty", "empty/g=g"),
    ("", "deep/up/", "new", "new/s=s"),
    ("-L", "lfile", "new", "new=f"),
    ("-L", "lfile", "empty", "empty/lfile=f"),
    ("-L", "labs", "empty", "empty/labs/g=g"),
    ("-L", "deep/up", "new", "new/s=s"),
];

#[test]
fn copies_end_where_dockers_do() {
    let engine = TestEngine::with_busybox();
    let host = TempDir::with_prefix_in("corten-files-", "/var/tmp").unwrap();
    let root = host.path().join("h");
    engine.corten(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).ok();
    let inside = |script: &str| engine.corten(&["exec", "box", "sh", "-c", script]);
    for client in ["corten", "docker"] {
        let copy = |options: &str, from: &str, to: &str| {
            let mut arguments = vec!["cp"];
            arguments.extend(options.split_whitespace());
            arguments.extend([from, to]);
            let mut command = match client {
                "docker" => engine.docker_command(&arguments),
                _ => engine.command(&arguments),
            };
            run(command.current_dir(&root))
        };
        for (inwards, cases) in [(true, INWARDS), (false, OUTWARDS)] {
            for &(options, from, to, expected) in cases {
                host_tree(&root);
                inside(TREE).ok();
                let case = format!("{client}: cp {options} {from} {to} (in: {inwards})");
                let done = match inwards {
                    true => copy(options, from, &format!("box:/t/{to}")),
                    false => copy(options, &format!("box:/t/{from}"), to),
                };
                if expected == "!" {
                    assert_ne!(done.code, 0, "{case}: {}", done.stdout);
                    assert!(!done.stderr.trim().is_empty(), "{case}");
                    continue;
                }
                assert_eq!(done.code, 0, "{case}: {}", done.stderr);
                let (is_link, (path, wanted)) = match expected.split_once('>') {
                    Some(parts) => (true, parts),
                    None => (false, expected.split_once('=').expect("a case")),
                };
                let found = match (inwards, is_link) {
                    (true, true) => inside(&format!("readlink /t/{path}")).ok(),
                    (true, false) => inside(&format!("test -f /t/{path} && cat /t/{path}")).ok(),
                    (false, true) => fs::read_link(root.join(path)).unwrap().display().to_string(),
                    (false, false) => fs::read_to_string(root.join(path)).expect(&case).trim().to_owned(),
                };
                assert_eq!(found, wanted, "{case}");
            }
        }
    }
}

#[test]
fn copies_keep_what_files_are() {
    let engine = TestEngine::with_busybox();
    let host = TempDir::with_prefix_in("corten-files-", "/var/tmp").unwrap();
    let at = |name: &str| host.path().join(name);
    let text = |path: &Path| path.display().to_string();
    fs::create_dir(at("tree")).unwrap();
    fs::write(at("tree/one"), "1").unwrap();
    fs::hard_link(at("tree/one"), at("tree/two")).unwrap();
    std::os::unix::fs::chown(at("tree/one"), Some(11), Some(22)).unwrap();
    fs::set_permissions(at("tree/one"), fs::Permissions::from_mode(0o4751)).unwrap();
    let capability = [1u8, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    fs::write(at("tree/able"), "").unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(at("tree/able"), "security.capability", &capability, flags).unwrap();
    engine.corten(&["run", "-d", "--name", "box", "-u", "app", "busybox", "sleep", "1000"]).ok();
    let stat = |path: &str, format: &str| engine.corten(&["exec", "box", "stat", "-c", format, path]).ok();
    for (client, place) in [("corten", "/root/a"), ("docker", "/root/b")] {
        let run = |arguments: &[&str]| match client {
            "docker" => engine.docker(arguments),
            _ => engine.corten(arguments),
        };
        run(&["cp", &text(&at("tree")), &format!("box:{place}")]).ok();
        assert_eq!(stat(&format!("{place}/one"), "%a %u:%g %h"), "4751 11:22 2");
        // And out again: the caller's, with all else kept.
        run(&["cp", &format!("box:{place}"), &text(&at(client))]).ok();
        let (one, two) =
            (fs::metadata(at(client).join("one")).unwrap(), fs::metadata(at(client).join("two")).unwrap());
        assert_eq!((one.ino(), one.mode() & 0o7777, one.uid()), (two.ino(), 0o4751, 0));
        let mut value = [0u8; 64];
        let count =
            rustix::fs::getxattr(at(client).join("able"), "security.capability", &mut value[..]).unwrap();
        assert_eq!(value[..count], capability);
        // As the container's user, by its own list of users.
        run(&["cp", "-a", &text(&at("tree")), &format!("box:{place}-own")]).ok();
        assert_eq!(stat(&format!("{place}-own/one"), "%u:%g"), "1000:1000");
    }
    let archive = engine.command(&["cp", "box:/root/a", "-"]).stdin(Stdio::null()).output().unwrap().stdout;
    let mut tar = engine.command(&["cp", "-", "box:/tmp"]).stdin(Stdio::piped()).spawn().unwrap();
    tar.stdin.take().unwrap().write_all(&archive).unwrap();
    assert!(tar.wait().unwrap().success());
    assert_eq!(stat("/tmp/a/one", "%a %u:%g %h"), "4751 11:22 2");
}

#[test]
fn mounts_are_seen_and_obeyed() {
    let engine = TestEngine::with_busybox();
    let host = TempDir::with_prefix_in("corten-files-", "/var/tmp").unwrap();
    let bind = host.path().display().to_string();
    fs::write(host.path().join("x"), "in\n").unwrap();
    let file = format!("{bind}/x");
    let options = [
        "-v",
        "data:/data",
        "-v",
        &format!("{bind}:/bound"),
        "-v",
        &format!("{bind}:/fixed:ro"),
        "--tmpfs",
        "/fast",
    ];
    let create = ["create", "--name", "box"];
    engine.corten(&[&create[..], &options, &["busybox", "sleep", "1000"]].concat()).ok();
    // Never started, stopped and running, it is the same tree; what is in memory lives with the processes.
    for phase in ["created", "running", "exited"] {
        if phase == "running" {
            engine.corten(&["start", "box"]).ok();
            engine.corten(&["exec", "box", "touch", "/fast/y"]).ok();
            engine.corten(&["cp", &file, "box:/fast/z"]).ok();
            assert_eq!(engine.corten(&["exec", "box", "ls", "/fast"]).ok(), "y\nz");
            // What the kernel shows it is no file of it.
            let proc = engine.command(&["cp", "box:/proc", "-"]).output().unwrap().stdout;
            assert_eq!(proc.len(), 1536, "one directory");
        }
        if phase == "exited" {
            engine.corten(&["stop", "-t", "0", "box"]).ok();
        }
        for (place, shown) in [("data", "volumes/data/_data"), ("bound", "")] {
            let name = format!("{place}-{phase}");
            engine.corten(&["cp", &file, &format!("box:/{place}/{name}")]).ok();
            let there = if shown.is_empty() {
                host.path().join(&name)
            } else {
                engine.data_root().join(shown).join(&name)
            };
            assert_eq!(fs::read_to_string(there).unwrap(), "in\n", "{phase}");
            let back = host.path().join("back").display().to_string();
            engine.docker(&["cp", &format!("box:/{place}/{name}"), &back]).ok();
            assert_eq!(fs::read_to_string(&back).unwrap(), "in\n", "{phase}");
        }
        let refused = engine.corten(&["cp", &file, "box:/fixed/new"]).fails(1);
        assert!(refused.contains("mounted volume is marked read-only"), "{refused}");
    }
    engine
        .corten(&[
            "run",
            "-d",
            "--name",
            "hard",
            "--read-only",
            "-v",
            "data:/data",
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
    let refused = engine.docker(&["cp", &file, "hard:/new"]).fails(1);
    assert!(refused.contains("container rootfs is marked read-only"), "{refused}");
    engine.docker(&["cp", &file, "hard:/data/new"]).ok();
    engine.corten(&["rm", "-f", "box", "hard"]).ok();
    engine.corten(&["volume", "rm", "data"]).ok();
}

/// Their sources are made for the purpose: what is looked at must not become a file where the start needs a directory, or the other
/// way round.
#[test]
fn images_and_parts_of_volumes_are_seen_before_the_first_start() {
    let engine = TestEngine::with_busybox();
    engine.corten(&["run", "--rm", "-v", "filled:/v", "busybox", "sh", "-c", "echo text > /v/file"]).ok();
    let create = ["create", "--name", "box", "--mount", "type=image,source=busybox,target=/bins"];
    let part = ["--mount", "type=volume,source=filled,target=/conf/one,volume-subpath=file"];
    let command = ["busybox", "sh", "-c", "cat /conf/one; ls /bins/bin/busybox"];
    engine.corten(&[&create[..], &part, &command].concat()).ok();
    // Several at once, each with what it needs held in place.
    let copies: Vec<_> = (0..4)
        .map(|_| {
            engine.command(&["cp", "box:/bins/bin/busybox", "-"]).stdout(std::process::Stdio::piped()).spawn()
        })
        .collect();
    for copy in copies {
        let output = copy.unwrap().wait_with_output().unwrap();
        assert!(output.status.success() && output.stdout.len() > 100_000);
    }
    let one = engine.command(&["cp", "box:/conf/one", "-"]).output().unwrap().stdout;
    assert!(String::from_utf8_lossy(&one).contains("text\n"));
    assert_eq!(engine.corten(&["start", "-a", "box"]).ok(), "text\n/bins/bin/busybox");
    engine.corten(&["rm", "box"]).ok();
    engine.corten(&["volume", "rm", "filled"]).ok();
}

/// One entry of a tar archive, whatever its name is.
fn entry(name: &str, kind: u8, link: &str, data: &[u8]) -> Vec<u8> {
    let mut header = [0u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(b"0000644");
    header[108..115].copy_from_slice(b"0000000");
    header[116..123].copy_from_slice(b"0000000");
    header[124..135].copy_from_slice(format!("{:011o}", data.len()).as_bytes());
    header[136..147].copy_from_slice(b"00000000000");
    header[156] = kind;
    header[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let padding = data.len().next_multiple_of(512) - data.len();
    [&header[..], data, &vec![0; padding]].concat()
}

fn put(engine: &TestEngine, archive: &[u8], path: &str) -> Output {
    let place = tempfile::NamedTempFile::new().unwrap();
    fs::write(place.path(), archive).unwrap();
    let body = format!("@{}", place.path().display());
    let url = format!("/containers/box/archive?path={path}");
    engine.curl(
        &["-w", "%{http_code}", "-X", "PUT", "-H", "Content-Type: application/x-tar", "--data-binary", &body],
        &url,
    )
}

#[test]
fn hostile_archives_stay_inside() {
    let engine = TestEngine::with_busybox();
    let end = vec![0u8; 1024];
    engine.corten(&["create", "--name", "box", "busybox", "sleep", "1000"]).ok();
    let marker = TempDir::with_prefix_in("corten-outside-", "/var/tmp").unwrap();
    let outside = marker.path().display().to_string();
    for running in [false, true] {
        if running {
            engine.corten(&["start", "box"]).ok();
        }
        let refused = [
            (entry("../../escaped", b'0', "", b"x"), "leaves the directory"),
            (entry("link", b'1', "../../etc/passwd", b""), "invalid hardlink target"),
            (entry("cut", b'0', "", &[b'x'; 600])[..700].to_vec(), "truncated"),
            (vec![7; 2048], "cannot read the archive"),
        ];
        for (archive, text) in refused {
            let answer = put(&engine, &archive, "/tmp").stdout;
            assert!(answer.ends_with("400") && answer.contains(text), "{text}: {answer}");
        }
        // Links lead where they lead in the container, absolute names begin in the directory.
        let through = [
            entry("out", b'2', &outside, b""),
            entry("out/through", b'0', "", b"x"),
            entry("/absolute", b'0', "", b"y"),
            entry("up", b'2', "../../../../../../..", b""),
            entry("up/top", b'0', "", b"z"),
            end.clone(),
        ];
        let answer = put(&engine, &through.concat(), "/tmp").stdout;
        assert!(fs::read_dir(marker.path()).unwrap().next().is_none());
        assert!(!Path::new("/top").exists() && !Path::new("/absolute").exists());
        // The directory that the link names is not there in the container.
        assert!(answer.ends_with("500"), "{answer}");
        let rest = put(&engine, &[through[2..].concat()].concat(), "/tmp").stdout;
        assert!(rest.ends_with("200"), "{rest}");
        let archive = engine.command(&["cp", "box:/top", "-"]).output().unwrap().stdout;
        assert_eq!(archive[512], b'z');
    }
    for (path, status) in [("", "400"), ("/etc/passwd", "400"), ("/nope", "404")] {
        assert!(put(&engine, &end, path).stdout.ends_with(status), "{path}");
    }
    // A directory is not replaced by a file, if that is asked.
    let url = "/tmp&noOverwriteDirNonDir=true";
    let answer = put(&engine, &[entry("out", b'5', "", b""), end.clone()].concat(), url).stdout;
    assert!(answer.contains("cannot overwrite non-directory") && answer.ends_with("500"), "{answer}");
    assert_eq!(engine.corten(&["exec", "box", "echo", "well"]).ok(), "well");
}

#[test]
fn a_path_that_is_swapped_for_a_link_leads_nowhere_else() {
    let engine = TestEngine::with_busybox();
    let marker = TempDir::with_prefix_in("corten-outside-", "/var/tmp").unwrap();
    let outside = marker.path().display().to_string();
    let swap = format!("mkdir /a; while :; do rm -rf /a; ln -s {outside} /a; rm /a; mkdir /a; done");
    engine.background("box", &[], &swap);
    fs::write(engine.data_root().join("secret"), "s").unwrap();
    let file = engine.data_root().join("secret").display().to_string();
    // It may fail, as the directory comes and goes; but not always.
    let (mut inwards, mut outwards) = (0, 0);
    for round in 0..500 {
        inwards += i32::from(engine.corten(&["cp", &file, "box:/a/planted"]).code == 0);
        outwards += i32::from(engine.command(&["cp", "box:/a/", "-"]).output().unwrap().status.success());
        if round >= 60 && inwards > 0 && outwards > 0 {
            break;
        }
    }
    assert!(inwards > 0 && outwards > 0, "{inwards} in, {outwards} out");
    assert!(fs::read_dir(marker.path()).unwrap().next().is_none(), "a file was planted on the host");
    fs::remove_file(file).unwrap();
}

#[test]
fn changes_are_told_as_docker_tells_them() {
    let engine = TestEngine::with_busybox();
    engine.corten(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).ok();
    assert_eq!(engine.corten(&["diff", "box"]).ok(), "");
    assert_eq!(engine.curl(&[], "/containers/box/changes").ok(), "null");
    let script =
        "echo x >> /etc/passwd; rm /etc/group; mkdir -p /new/deep; touch /new/deep/f; chmod 700 /home;
        rm -rf /var; mkdir /var; rm -r /home/app; mkdir /home/app; touch /home/app/n; ln -s /etc /link";
    engine.corten(&["exec", "box", "sh", "-c", script]).ok();
    let expected = "C /etc\nD /etc/group\nC /etc/passwd\nC /home\nC /home/app\nA /home/app/n\nA /link\nA /new\nA /new/deep\nA /new/deep/f\nC /var";
    assert_eq!(engine.corten(&["diff", "box"]).ok(), expected);
    assert_eq!(engine.docker(&["diff", "box"]).ok(), expected);
    engine.corten(&["kill", "box"]).ok();
    assert_eq!(engine.corten(&["container", "diff", "box"]).ok(), expected);
}

#[test]
fn an_export_is_the_tree_without_its_mounts() {
    let engine = TestEngine::with_busybox();
    let file = engine.data_root().join("export.tar").display().to_string();
    engine.corten(&["run", "-d", "--name", "box", "-v", "data:/data", "busybox", "sleep", "1000"]).ok();
    engine.corten(&["exec", "box", "sh", "-c", "echo in > /data/in; echo own > /own; ln /own /own2"]).ok();
    let list = |archive: &str| run(Command::new("tar").args(["-tf", archive])).ok();
    engine.corten(&["export", "-o", &file, "box"]).ok();
    let names = list(&file);
    assert!(names.lines().any(|name| name == "own") && names.lines().any(|name| name == "data/"), "{names}");
    assert!(!names.contains("data/in") && !names.contains("proc/1"), "{names}");
    engine.corten(&["stop", "-t", "0", "box"]).ok();
    engine.docker(&["export", "-o", &file, "box"]).ok();
    assert_eq!(list(&file), names);
    engine.corten(&["import", &file, "again"]).ok();
    assert_eq!(engine.corten(&["run", "--rm", "again", "stat", "-c", "%h", "/own"]).ok(), "2");
    fs::remove_file(&file).unwrap();
    let refused = engine.corten(&["export", "-o", "/nowhere/x", "box"]).fails(1);
    assert!(refused.contains("/nowhere/x"), "{refused}");
}

#[test]
fn a_commit_is_an_image_of_files_and_settings() {
    let engine = TestEngine::with_busybox();
    engine
        .corten(&[
            "run", "-d", "--name", "box", "-e", "A=1", "-l", "own=yes", "-w", "/srv", "-u", "0", "busybox",
            "sleep", "1000",
        ])
        .ok();
    engine
        .corten(&["exec", "box", "sh", "-c", "echo kept > /kept; rm /etc/group; rm -r /home; mkdir /home"])
        .ok();
    let id = engine
        .docker(&[
            "commit",
            "-a",
            "me",
            "-m",
            "why",
            "-c",
            "CMD [\"cat\", \"/kept\"]",
            "-c",
            "ENV B=2",
            "box",
            "made:1",
        ])
        .ok();
    assert_eq!(engine.corten(&["run", "--rm", "made:1"]).ok(), "kept");
    assert_eq!(
        engine.corten(&["run", "--rm", "made:1", "sh", "-c", "echo $A$B; pwd; ls -a /home; ls /etc"]).ok(),
        "12\n/srv\n.\n..\nhostname\nhosts\npasswd\nresolv.conf"
    );
    let format = "{{.Id}} {{.Author}} {{.Comment}} {{.Config.Labels.own}} {{.Parent}}";
    let parent = engine.corten(&["inspect", "-f", "{{.Image}}", "box"]).ok();
    assert_eq!(
        engine.docker(&["image", "inspect", "-f", format, "made:1"]).ok(),
        format!("{id} me why yes {parent}")
    );
    let history = engine.docker(&["history", "--format", "{{.CreatedBy}}|{{.Comment}}", "made:1"]).ok();
    assert!(history.starts_with("sleep 1000|why\n"), "{history}");
    // The same changes are the same layer, however they are committed.
    let layers =
        |name: &str| engine.corten(&["image", "inspect", "-f", "{{json .RootFS.Layers}}", name]).ok();
    engine.corten(&["commit", "--pause=false", "box", "made:2"]).ok();
    engine.corten(&["stop", "-t", "0", "box"]).ok();
    engine.corten(&["commit", "box", "made:3"]).ok();
    assert_eq!((layers("made:1"), layers("made:1")), (layers("made:2"), layers("made:3")));
    let archive = engine.data_root().join("made.tar").display().to_string();
    engine.corten(&["save", "-o", &archive, "made:1"]).ok();
    engine.corten(&["rmi", "made:1"]).ok();
    engine.corten(&["load", "-i", &archive]).ok();
    assert_eq!(engine.corten(&["run", "--rm", "made:1"]).ok(), "kept");
    fs::remove_file(archive).unwrap();
    // Nothing has changed: no layer is added.
    engine.corten(&["create", "--name", "plain", "busybox"]).ok();
    engine.corten(&["commit", "plain", "same"]).ok();
    assert_eq!(layers("same"), layers("busybox"));
    for (change, text) in
        [("RUN x", "RUN is not a valid change command"), ("USER", "USER requires exactly one argument")]
    {
        let refused = engine.corten(&["commit", "-c", change, "plain"]).fails(1);
        assert!(refused.contains(text), "{refused}");
    }
    assert!(engine.corten(&["commit", "nobody"]).fails(1).contains("No such container"));
}

#[test]
fn a_commit_lets_its_container_go_on() {
    let engine = TestEngine::with_busybox();
    engine.background("box", &[], "while :; do echo x; sleep 0.01; done");
    engine.corten(&["commit", "box", "one"]).ok();
    assert_eq!(engine.corten(&["inspect", "-f", "{{.State.Status}}", "box"]).ok(), "running");
    assert_eq!(engine.corten(&["exec", "box", "echo", "on"]).ok(), "on");
    // One that stood still before stands still after it.
    engine.corten(&["pause", "box"]).ok();
    engine.corten(&["commit", "box", "two"]).ok();
    assert_eq!(engine.corten(&["inspect", "-f", "{{.State.Status}}", "box"]).ok(), "paused");
    let events =
        engine.corten(&["events", "--since", "10m", "--until", "0s", "--format", "{{.Action}}"]).ok();
    for action in ["pause", "unpause", "commit"] {
        assert!(events.lines().any(|line| line == action), "{events}");
    }
}

/// Whether the engine has a thread that unpacks an archive.
fn unpacking(engine: &TestEngine) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", engine.pid().expect("a running engine"))).unwrap();
    tasks
        .flatten()
        .any(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name == "unpack\n"))
}

#[test]
fn an_upload_that_stalls_holds_nobody_up_for_long() {
    let engine = TestEngine::with_busybox();
    engine.corten(&["create", "--name", "box", "busybox", "sleep", "1000"]).ok();
    let patience = Duration::from_secs(60);
    let stalled = || {
        eventually("the one before is over", || !unpacking(&engine));
        let mut client = Connection::open(&engine.socket(), patience).unwrap();
        client
            .begin_upload(
                "PUT",
                "/containers/box/archive?path=/",
                1 << 20,
                &entry("x", b'0', "", b"x")[..512],
            )
            .unwrap();
        eventually("it has begun", || unpacking(&engine));
        client
    };
    let reason = |mut client: Connection| {
        let answer = client.answer().unwrap();
        assert_eq!(answer.status, 400);
        assert!(
            answer.text().contains("nothing was sent for 10 s, while others waited"),
            "{}",
            answer.text()
        );
    };
    let first = stalled();
    let file = engine.data_root().join("file");
    fs::write(&file, "in time").unwrap();
    let begun = Instant::now();
    engine.corten(&["cp", &file.display().to_string(), "box:/file"]).ok();
    assert!(begun.elapsed() < patience, "{:?}", begun.elapsed());
    reason(first);
    let second = stalled();
    engine.corten(&["start", "box"]).ok();
    reason(second);
    assert_eq!(engine.corten(&["exec", "box", "cat", "/file"]).ok(), "in time");
    // One that began while the container ran holds up its next start, too.
    let third = stalled();
    engine.corten(&["stop", "-t", "0", "box"]).ok();
    engine.corten(&["start", "box"]).ok();
    reason(third);
    engine.corten(&["stop", "-t", "0", "box"]).ok();
    let fourth = stalled();
    engine.corten(&["rm", "box"]).ok();
    reason(fourth);
    fs::remove_file(file).unwrap();
}

#[test]
fn a_refused_upload_is_answered_though_its_client_waits() {
    let engine = TestEngine::with_busybox();
    let mut client = Connection::open(&engine.socket(), Duration::from_secs(60)).unwrap();
    client.begin_upload("PUT", "/containers/nobody/archive?path=/", 1 << 20, b"").unwrap();
    let answer = client.answer().unwrap();
    assert_eq!(answer.status, 404, "{}", answer.text());
}

#[test]
fn a_signal_and_an_exec_wait_for_the_start_that_is_on_its_way() {
    let engine = TestEngine::with_busybox();
    // Nothing tells that the start is on its way. What comes before it is refused, and all is tried again.
    eventually("they come while it is", || {
        engine.corten(&["create", "--name", "box", "busybox", "sleep", "1000"]).ok();
        let killed = start_with_a_signal_and_an_exec(&engine);
        if killed {
            assert_eq!(engine.corten(&["wait", "box"]).ok(), "137");
        }
        engine.corten(&["rm", "-f", "box"]).ok();
        killed
    });
}

/// Whether the signal has found the container of the start.
fn start_with_a_signal_and_an_exec(engine: &TestEngine) -> bool {
    let open =
        |patience_ms: u64| Connection::open(&engine.socket(), Duration::from_millis(patience_ms)).unwrap();
    let mut upload = open(60_000);
    let beginning = &entry("x", b'0', "", b"x")[..512];
    upload.begin_upload("PUT", "/containers/box/archive?path=/", 1 << 20, beginning).unwrap();
    eventually("it has begun", || unpacking(engine));
    let mut start = open(60_000);
    start.send("POST", "/containers/box/start", "", "").unwrap();
    let waiting = |path: &str, body: &str| {
        let mut asked = open(500);
        eventually("it waits for the start", || {
            asked = open(500);
            asked.send("POST", path, body, "").unwrap();
            // Too early for the start, and told so at once; or no answer yet.
            asked.answer().map(|answer| assert_eq!(answer.status, 409, "{}", answer.text())).is_err()
        });
        asked
    };
    let mut exec = waiting("/containers/box/exec", r#"{"Cmd": ["true"]}"#);
    let mut kill = waiting("/containers/box/kill?signal=KILL", "");
    drop(upload);
    assert_eq!(start.answer().unwrap().status, 204);
    let answered = |asked: &mut Connection| {
        let mut status = 0;
        eventually("it is answered", || asked.answer().map(|answer| status = answer.status).is_ok());
        status
    };
    // Whichever of the two came first.
    let executed = answered(&mut exec);
    assert!([201, 409].contains(&executed), "{executed}");
    let killed = answered(&mut kill);
    assert!([204, 409].contains(&killed), "{killed}");
    killed == 204
}
