//! Hostile containers and hostile images: the known attacks, and what must not be seen or done from inside.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use corten_tests::{TestEngine, busybox_rootfs, eventually, tar_of};

/// Imports busybox after `spoil` has changed its root file system.
fn hostile_image(engine: &TestEngine, name: &str, spoil: impl FnOnce(&Path)) {
    let place = tempfile::tempdir_in("/var/tmp").expect("directory");
    let (root, archive) = (place.path().join("root"), place.path().join("image.tar"));
    busybox_rootfs(&root);
    spoil(&root);
    tar_of(&root, &archive);
    engine.corten(&["import", "-c", "CMD [\"sh\"]", &archive.display().to_string(), name]).ok();
}

/// A directory of the host that nobody in a container may touch, and the file in it.
fn bait() -> (tempfile::TempDir, String) {
    let place = tempfile::tempdir_in("/var/tmp").expect("directory");
    let file = place.path().join("bait");
    fs::write(&file, "the host's").expect("bait");
    let path = file.display().to_string();
    (place, path)
}

fn unharmed(path: &str) {
    assert_eq!(fs::read_to_string(path).expect("bait"), "the host's");
}

fn sh(engine: &TestEngine, options: &[&str], image: &str, script: &str) -> corten_tests::Output {
    engine.corten(&[&["run", "--rm"], options, &[image, "sh", "-c", script]].concat())
}

#[test]
fn the_runtimes_program_can_not_be_overwritten() {
    // CVE-2019-5736: `#!/proc/self/exe` as entrypoint or exec, and a writer that waits for the runtime to show up.
    let engine = TestEngine::with_busybox();
    let shim = corten_tests::binary("corten-shim");
    let before = fs::read(&shim).expect("shim");
    hostile_image(&engine, "trap", |root| {
        fs::write(root.join("bin/trap"), "#!/proc/self/exe\n").expect("trap");
        let status = Command::new("chmod").arg("755").arg(root.join("bin/trap")).status().expect("chmod");
        assert!(status.success());
    });
    let entrypoint = engine.corten(&["run", "--rm", "trap", "/bin/trap"]);
    assert_ne!(entrypoint.code, 0);
    // Its own shells are left alone: their file is the container's, and may be written.
    let watcher = "while :; do for p in /proc/[0-9]*; do l=$(readlink $p/exe); case $l in */busybox) ;; *) (echo x > $p/exe) 2>/dev/null && echo \"$l\" >> /won; esac; done; done";
    engine.corten(&["run", "-d", "--name", "watcher", "trap", "sh", "-c", watcher]).ok();
    for _ in 0..20 {
        engine.corten(&["exec", "watcher", "/bin/trap"]);
        engine.corten(&["exec", "watcher", "true"]).ok();
    }
    assert_eq!(fs::read(&shim).expect("shim"), before);
    assert_eq!(engine.corten(&["exec", "watcher", "sh", "-c", "cat /won 2>/dev/null | head -5"]).ok(), "");
}

#[test]
fn leaked_descriptors_lead_nowhere() {
    // CVE-2024-21626.
    let engine = TestEngine::with_busybox();
    engine.corten(&["run", "-d", "--name", "base", "busybox", "sleep", "1000"]).ok();
    for number in 3..24 {
        let directory = format!("/proc/self/fd/{number}");
        for output in [
            sh(
                &engine,
                &["-w", &directory],
                "busybox",
                "ls ../../../../var/tmp ../../../../work; cat ../../../../etc/shadow",
            ),
            engine.corten(&["exec", "-w", &directory, "base", "cat", "../../../../etc/shadow"]),
        ] {
            assert_ne!(output.code, 0, "{directory}: {}", output.stdout);
            assert!(!output.stdout.contains("root:"), "{directory}: {}", output.stdout);
        }
    }
    let list = "for f in /proc/self/fd/*; do readlink $f; done | grep -v '^pipe:\\|^/dev/null\\|/fd$' ; for f in /proc/1/fd/*; do readlink $f; done | grep -v '^pipe:\\|^/dev/null' ; echo end";
    assert_eq!(sh(&engine, &[], "busybox", list).ok(), "end");
    assert_eq!(
        engine
            .corten(&[
                "exec",
                "base",
                "sh",
                "-c",
                "for f in /proc/$$/fd/*; do readlink $f; done | grep -v '^pipe:\\|^/dev/null' ; echo end"
            ])
            .ok(),
        "end"
    );
}

#[test]
fn bind_targets_follow_links_inside_the_root_only() {
    // The engine's own (hosts, resolv.conf, hostname), volumes and working directories.
    let engine = TestEngine::with_busybox();
    let (place, bait) = bait();
    let outside = place.path().display().to_string();
    hostile_image(&engine, "links", |root| {
        for name in ["hosts", "resolv.conf", "hostname"] {
            symlink(&bait, root.join("etc").join(name)).expect("link");
        }
        symlink(&outside, root.join("data")).expect("link");
        symlink(format!("../../../../../..{outside}"), root.join("up")).expect("link");
    });
    let script = "echo container > /etc/hosts; echo container > /etc/hostname; echo x > /data/new; echo x > /up/newer; pwd";
    for options in [
        &["-v", "/data", "-w", "/up"][..],
        &["-v", "named:/data/sub", "--tmpfs", "/up/sub"],
        &["--mount", "type=tmpfs,dst=/data/deep/er"],
    ] {
        sh(&engine, options, "links", script);
        unharmed(&bait);
        let names: Vec<_> =
            fs::read_dir(place.path()).expect("directory").flatten().map(|e| e.file_name()).collect();
        assert_eq!(names, ["bait"], "{options:?}");
    }
    engine.corten(&["volume", "rm", "named"]).ok();
}

#[test]
fn proc_and_sys_are_what_they_seem() {
    // CVE-2025-52881 and its elder CVE-2019-19921: mounts of procfs and sysfs led astray.
    let engine = TestEngine::with_busybox();
    for name in ["proc", "sys"] {
        hostile_image(&engine, "astray", |root| {
            fs::remove_dir(root.join(name)).expect(name);
            fs::create_dir(root.join("elsewhere")).expect("elsewhere");
            symlink("/elsewhere", root.join(name)).expect("link");
        });
        let output = sh(&engine, &[], "astray", "true");
        assert_ne!(output.code, 0, "/{name} as a link");
        assert!(output.stderr.contains("symbolic link"), "{}", output.stderr);
        engine.corten(&["rmi", "astray"]).ok();
    }
    // CVE-2025-31133: the null device of an image is not what masks.
    hostile_image(&engine, "null", |root| {
        symlink("/proc/sysrq-trigger", root.join("dev/null")).expect("link");
        symlink("/proc/sys/kernel/core_pattern", root.join("dev/console")).expect("link");
        symlink("/proc", root.join("dev/pts")).expect("link");
    });
    let probe = "stat -c %t:%T /proc/kcore /proc/keys 2>/dev/null; test -w /proc/sysrq-trigger && echo x 2>/dev/null > /proc/sysrq-trigger || echo refused; echo x 2>/dev/null > /proc/sys/kernel/core_pattern || echo refused";
    let output = sh(&engine, &[], "null", probe);
    assert!(output.stdout.matches("refused").count() == 2, "{} {}", output.stdout, output.stderr);
    // CVE-2025-52565: a console that is a link.
    let terminal = engine.corten(&["run", "--rm", "-t", "null", "sh", "-c", probe]);
    assert!(terminal.stdout.matches("refused").count() == 2, "{} {}", terminal.stdout, terminal.stderr);
    // The writes of the set-up itself (sysctl, scores, labels) go to a procfs of the host, whatever covers the container's.
    let (_place, bait) = bait();
    let covered = [
        "-v",
        &format!("{bait}:/proc/sys/net/ipv4/ip_default_ttl"),
        "--sysctl",
        "net.ipv4.ip_default_ttl=99",
    ];
    sh(&engine, &covered, "busybox", "true");
    unharmed(&bait);
}

#[test]
fn account_files_of_images_are_read_with_care() {
    let engine = TestEngine::with_busybox();
    let (_place, bait) = bait();
    fs::write(Path::new(&bait).with_file_name("passwd"), "evil:x:0:0::/:/bin/sh\n").expect("passwd");
    let outside = Path::new(&bait).with_file_name("passwd");
    type Spoil<'a> = Box<dyn Fn(&Path) + 'a>;
    let cases: [(&str, Spoil); 4] = [
        (
            "a pipe",
            Box::new(|passwd| {
                assert!(Command::new("mkfifo").arg(passwd).status().expect("mkfifo").success())
            }),
        ),
        ("a link outside", Box::new(|passwd| symlink(&outside, passwd).expect("link"))),
        ("a link to itself", Box::new(|passwd| symlink("passwd", passwd).expect("link"))),
        ("one endless line", Box::new(|passwd| fs::write(passwd, vec![b'x'; 40 << 20]).expect("file"))),
    ];
    for (what, spoil) in &cases {
        hostile_image(&engine, "accounts", |root| {
            let passwd = root.join("etc/passwd");
            fs::remove_file(&passwd).expect("passwd");
            spoil(&passwd);
        });
        let output = engine.corten(&["run", "--rm", "-u", "evil", "accounts", "id"]);
        assert!((125..128).contains(&output.code), "{what}: {} {}", output.code, output.stdout);
        engine.corten(&["rmi", "accounts"]).ok();
    }
}

#[test]
fn what_a_container_sees_of_the_engine() {
    let engine = TestEngine::with_busybox();
    let mut command = engine.command(&[
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "tr '\\0' '\\n' < /proc/1/environ | cut -d= -f1 | sort | tr '\\n' ' '",
    ]);
    let seen = corten_tests::run(command.env("SECRET", "x")).ok();
    assert_eq!(seen, "HOME HOSTNAME PATH");
    let run = engine.exec_root().display().to_string();
    let mounts = sh(&engine, &[], "busybox", "cat /proc/1/mountinfo").ok();
    let leaked = mounts.lines().filter(|l| l.contains(&run) && !l.contains(" / / ")).count();
    assert_eq!(leaked, 0, "{mounts}");
    assert_eq!(sh(&engine, &[], "busybox", "cat /proc/keys 2>/dev/null | wc -l").ok(), "0");
    // No process but its own is there to be signalled or traced: the monitor least of all.
    assert_eq!(
        sh(&engine, &[], "busybox", "ls -d /proc/[0-9]* | head -1; kill -9 -1; echo alive").ok(),
        "/proc/1\nalive"
    );
    let nonroot = sh(
        &engine,
        &["-u", "1000"],
        "busybox",
        "grep -E 'Cap(Prm|Eff|Amb|Inh)' /proc/self/status | cut -f2 | sort -u",
    );
    assert_eq!(nonroot.ok(), "0000000000000000");
    let write =
        "mkdir /sys/fs/cgroup/x 2>/dev/null || mkdir /sys/fs/cgroup/memory/x 2>/dev/null || echo refused";
    assert_eq!(sh(&engine, &[], "busybox", write).ok(), "refused");
}

#[test]
fn set_user_id_programs_gain_nothing_when_told_so() {
    let engine = TestEngine::with_busybox();
    hostile_image(&engine, "setuid", |root| {
        fs::copy(root.join("bin/busybox"), root.join("bin/rootid")).expect("copy");
        assert!(
            Command::new("chmod").arg("4755").arg(root.join("bin/rootid")).status().expect("chmod").success()
        );
    });
    let id = |options: &[&str]| {
        let arguments = [
            &["run", "--rm", "-u", "1000"],
            options,
            &["setuid", "/bin/rootid", "grep", "Uid", "/proc/self/status"],
        ]
        .concat();
        engine.corten(&arguments)
    };
    // busybox gives the privilege up by itself for applets that need none: the saved id tells.
    let with = id(&["--security-opt", "no-new-privileges"]);
    assert!(with.stdout.contains("1000\t1000\t1000\t1000") || with.code != 0, "{}", with.stdout);
}

#[test]
fn devices_are_refused_and_privileged_opens_them() {
    let engine = TestEngine::with_busybox();
    let memory = "mknod /tmp/m c 1 1; dd if=/tmp/m of=/dev/null bs=1 count=1 2>&1 | grep -c 'not permitted'";
    assert_eq!(sh(&engine, &[], "busybox", memory).ok(), "1");
    let disk = "mknod /tmp/d b 7 0; (exec 3</tmp/d) 2>&1 | grep -c 'not permitted'";
    assert_eq!(sh(&engine, &[], "busybox", disk).ok(), "1");
    let open = "ls /dev | wc -l; mknod /tmp/k c 1 11; (exec 3</tmp/k) && echo opened; grep -c ' /sys .*rw' /proc/mounts";
    let output = sh(&engine, &["--privileged"], "busybox", open);
    assert!(output.stdout.contains("opened"), "{} {}", output.stdout, output.stderr);
}

#[test]
fn archives_that_lead_out() {
    let engine = TestEngine::with_busybox();
    let (place, bait) = bait();
    let script = r#"
import io, sys, tarfile
kind, path, out = sys.argv[1:]
t = tarfile.open(out, "w")
def add(name, **k):
    e = tarfile.TarInfo(name); data = k.pop("data", b"")
    for key, value in k.items(): setattr(e, key, value)
    e.size = len(data); t.addfile(e, io.BytesIO(data))
if kind == "absolute": add(path, data=b"overwritten")
if kind == "dots": add("../" * 12 + path.lstrip("/"), data=b"overwritten")
if kind == "link":
    add("d", type=tarfile.SYMTYPE, linkname=path.rsplit("/", 1)[0]); add("d/bait", data=b"overwritten")
if kind == "hardlink":
    add("h", type=tarfile.LNKTYPE, linkname=path); add("h", data=b"overwritten")
t.close()
"#;
    for kind in ["absolute", "dots", "link", "hardlink"] {
        let archive = place.path().join("evil.tar");
        let made = Command::new("python3")
            .args(["-c", script, kind, &bait])
            .arg(&archive)
            .status()
            .expect("python3");
        assert!(made.success());
        let before = engine.corten(&["images", "-q"]).ok();
        let output = engine.corten(&["import", &archive.display().to_string(), "evil"]);
        unharmed(&bait);
        if output.code == 0 {
            engine.corten(&["rmi", "evil"]).ok();
        }
        let loaded = engine.corten(&["load", "-i", &archive.display().to_string()]);
        assert_ne!(loaded.code, 0, "{kind}");
        assert_eq!(engine.corten(&["images", "-q"]).ok(), before);
        unharmed(&bait);
    }
}

#[test]
fn resource_hogs_are_bounded() {
    let engine = TestEngine::with_busybox();
    engine.background(
        "bomb",
        &["--pids-limit", "40"],
        "(for i in $(seq 1000); do sleep 1000 & done) 2>/dev/null; sleep 1000",
    );
    engine
        .corten(&[
            "run",
            "-d",
            "--name",
            "flood",
            "--log-opt",
            "max-size=1m",
            "--log-opt",
            "max-file=2",
            "busybox",
            "yes",
            "a line that is repeated for ever",
        ])
        .ok();
    let log = engine.corten(&["inspect", "-f", "{{.LogPath}}", "flood"]).ok();
    let directory = Path::new(&log).parent().expect("the log's directory");
    let sizes = || -> Vec<u64> {
        let files = fs::read_dir(directory).expect("the log's directory").flatten();
        let files = files.filter(|entry| entry.path().to_string_lossy().starts_with(&log));
        files.filter_map(|entry| Some(entry.metadata().ok()?.len())).collect()
    };
    eventually("the log has been rotated", || sizes().len() == 2);
    let processes = || engine.corten(&["top", "bomb"]).stdout.lines().skip(1).count();
    eventually("the bomb has gone off", || processes() > 35);
    for _ in 0..20 {
        let (processes, bytes) = (processes(), sizes().iter().sum::<u64>());
        assert!(processes <= 40, "{processes} processes");
        assert!(bytes <= 2 << 20, "{bytes} bytes of log");
    }
    engine.corten(&["rm", "-f", "bomb", "flood"]).ok();
}

#[test]
fn large_requests_work() {
    let engine = TestEngine::with_busybox();
    let place = tempfile::tempdir().expect("directory");
    let list = place.path().join("environment");
    let entries: String = (0..10_000).map(|i| format!("V{i}=value {i}\n")).collect();
    fs::write(&list, entries).expect("list");
    let file = list.display().to_string();
    assert_eq!(sh(&engine, &["--env-file", &file], "busybox", "env | grep -c ^V").ok(), "10000");
    let long = "x".repeat(100 << 10);
    assert_eq!(
        engine.corten(&["run", "--rm", "busybox", "sh", "-c", "echo ${#1}", "sh", &long]).ok(),
        long.len().to_string()
    );
    let binds: Vec<String> = (0..1_000).map(|i| format!("-v{}:/mnt/{i}", place.path().display())).collect();
    let mut arguments = vec!["run", "--rm"];
    arguments.extend(binds.iter().map(String::as_str));
    arguments.extend(["busybox", "sh", "-c", "ls -d /mnt/* | wc -l; grep -c /mnt/ /proc/mounts"]);
    assert_eq!(engine.corten(&arguments).ok(), "1000\n1000");
}
