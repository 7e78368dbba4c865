//! `run` and `create` options: each one is looked at from inside the container, by our CLI and by the docker CLI.

use corten_tests::TestEngine;

/// The same command by both clients must print the same.
fn both(engine: &TestEngine, args: &[&str], expected: &str) {
    for (client, output) in [("corten", engine.corten(args)), ("docker", engine.docker(args))] {
        assert_eq!(output.clone().ok(), expected, "{client} {args:?}: {}", output.stderr);
    }
}

fn sh<'a>(options: &[&'a str], script: &'a str) -> Vec<&'a str> {
    [&["run", "--rm"], options, &["busybox", "sh", "-c", script]].concat()
}

#[test]
fn identity_environment_and_user() {
    let engine = TestEngine::with_busybox();
    both(&engine, &sh(&["--hostname", "box"], "hostname; cat /etc/hostname"), "box\nbox");
    both(&engine, &sh(&["-e", "A=1", "-e", "B=two words"], "echo $A $B"), "1 two words");
    both(&engine, &sh(&["-w", "/made/up"], "pwd"), "/made/up");
    both(&engine, &sh(&["-u", "app"], "id -u; id -g; echo $HOME"), "1000\n1000\n/home/app");
    both(&engine, &sh(&["-u", "7:8"], "id -u; id -g"), "7\n8");
    both(&engine, &sh(&["--group-add", "extra"], "id -G"), "0 2000");
    both(&engine, &sh(&["--entrypoint", "echo"], "x"), "sh -c x");
    both(
        &engine,
        &sh(&["--label", "a=b", "--domainname", "example.org"], "grep -c example.org /etc/hosts"),
        "1",
    );
    let missing = engine.corten(&sh(&["-u", "nobody-here"], "true"));
    assert!(
        missing.fails(125).contains("unable to find user nobody-here: no matching entries in passwd file")
    );
}

#[test]
fn files_and_mounts() {
    let engine = TestEngine::with_busybox();
    let dir = tempfile::tempdir().unwrap();
    let (tree, file) = (dir.path().join("tree"), dir.path().join("file"));
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(tree.join("x"), "in the tree").unwrap();
    std::fs::write(&file, "one file").unwrap();
    let (tree, file) = (tree.display().to_string(), file.display().to_string());
    both(
        &engine,
        &sh(&["-v", &format!("{tree}:/t"), "-v", &format!("{file}:/etc/one")], "cat /t/x; cat /etc/one"),
        "in the treeone file",
    );
    both(
        &engine,
        &sh(&["-v", &format!("{tree}:/t:ro")], "touch /t/y 2>/dev/null || echo refused"),
        "refused",
    );
    both(
        &engine,
        &sh(&["--mount", &format!("type=bind,src={tree},dst=/t,readonly")], "cat /t/x"),
        "in the tree",
    );
    both(
        &engine,
        &sh(&["--tmpfs", "/scratch:size=1m"], "df -k /scratch | tail -1 | awk '{print $2}'"),
        "1024",
    );
    both(&engine, &sh(&["--mount", "type=tmpfs,dst=/s,tmpfs-mode=700"], "stat -c %a /s"), "700");
    both(&engine, &sh(&["--read-only"], "touch /x 2>/dev/null || echo refused"), "refused");
    both(&engine, &sh(&["--shm-size", "2m"], "df -k /dev/shm | tail -1 | awk '{print $2}'"), "2048");
    let missing =
        engine.corten(&["run", "--rm", "--mount", "type=bind,src=/no/such,dst=/x", "busybox", "true"]);
    assert!(missing.fails(125).contains("/no/such"));
}

#[test]
fn volumes_keep_what_is_written_and_start_with_what_the_image_has() {
    let engine = TestEngine::with_busybox();
    engine.corten(&sh(&["-v", "data:/data"], "echo kept > /data/f")).ok();
    both(&engine, &sh(&["-v", "data:/d:ro"], "cat /d/f"), "kept");
    both(&engine, &sh(&["--mount", "type=volume,src=fresh,dst=/home"], "ls /home"), "app");
    both(&engine, &sh(&["-v", "empty:/home:nocopy"], "ls /home"), "");
    let in_use = {
        engine.corten(&["create", "--name", "user", "-v", "data:/data", "busybox"]).ok();
        engine.corten(&["volume", "rm", "data"])
    };
    assert!(in_use.fails(1).contains("volume is in use"));
    engine.corten(&["rm", "user"]).ok();
    engine.corten(&["volume", "rm", "data", "fresh", "empty"]).ok();
    // An anonymous volume goes with its container.
    engine.corten(&sh(&["-v", "/anonymous"], "touch /anonymous/x")).ok();
    assert_eq!(engine.corten(&["volume", "ls", "-q"]).ok(), "");
}

#[test]
fn limits_are_in_force() {
    let engine = TestEngine::with_busybox();
    let cgroup = |file: &str| {
        let (v1, v2) = match file {
            "memory" => ("memory/memory.limit_in_bytes", "memory.max"),
            "pids" => ("pids/pids.max", "pids.max"),
            "cpus" => ("cpuset/cpuset.cpus", "cpuset.cpus"),
            _ => ("cpu/cpu.shares", "cpu.weight"),
        };
        format!("cat /sys/fs/cgroup/{v1} 2>/dev/null || cat /sys/fs/cgroup/{v2}")
    };
    both(&engine, &sh(&["--memory", "64m"], &cgroup("memory")), "67108864");
    both(&engine, &sh(&["--pids-limit", "50"], &cgroup("pids")), "50");
    both(&engine, &sh(&["--cpuset-cpus", "0"], &cgroup("cpus")), "0");
    both(&engine, &sh(&["--ulimit", "nofile=512:1024"], "ulimit -Sn; ulimit -Hn"), "512\n1024");
    both(
        &engine,
        &sh(&["--sysctl", "net.ipv4.ip_default_ttl=99"], "cat /proc/sys/net/ipv4/ip_default_ttl"),
        "99",
    );
    both(&engine, &sh(&["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj"), "500");
    let killed = engine.corten(&[
        "run",
        "--name",
        "hungry",
        "--memory",
        "16m",
        "--memory-swap",
        "16m",
        "busybox",
        "sh",
        "-c",
        "tail /dev/zero",
    ]);
    assert_eq!(killed.code, 137);
    assert_eq!(engine.corten(&["inspect", "-f", "{{.State.OOMKilled}}", "hungry"]).ok(), "true");
}

#[test]
fn privileges_are_what_was_asked() {
    let engine = TestEngine::with_busybox();
    let caps = "grep CapEff /proc/self/status | cut -f2";
    both(&engine, &sh(&[], caps), "00000000a80425fb");
    both(&engine, &sh(&["--cap-drop", "ALL"], caps), "0000000000000000");
    both(&engine, &sh(&["--cap-drop", "ALL", "--cap-add", "net_bind_service"], caps), "0000000000000400");
    both(
        &engine,
        &sh(&["--security-opt", "no-new-privileges"], "grep NoNewPrivs /proc/self/status | cut -f2"),
        "1",
    );
    both(&engine, &sh(&[], "grep Seccomp: /proc/self/status | cut -f2"), "2");
    both(
        &engine,
        &sh(&["--security-opt", "seccomp=unconfined"], "grep Seccomp: /proc/self/status | cut -f2"),
        "0",
    );
    both(&engine, &sh(&["--device", "/dev/null:/dev/mine"], "echo x > /dev/mine && echo written"), "written");
    both(&engine, &sh(&[], "mknod /tmp/m c 1 1 && cat /tmp/m 2>/dev/null || echo refused"), "refused");
    both(&engine, &sh(&["--privileged"], "mount -t tmpfs none /tmp && echo mounted"), "mounted");
    both(&engine, &sh(&[], "mount -t tmpfs none /tmp 2>/dev/null || echo refused"), "refused");
    both(&engine, &sh(&[], "ls /proc/kcore >/dev/null; cat /proc/kcore | wc -c"), "0");
    both(&engine, &sh(&[], "echo 1 2>/dev/null > /proc/sys/kernel/panic || echo refused"), "refused");
}

#[test]
fn namespaces_are_shared_on_request() {
    let engine = TestEngine::with_busybox();
    let own = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
    both(&engine, &sh(&["--network", "host"], "readlink /proc/self/ns/net"), &own("net"));
    both(&engine, &sh(&["--pid", "host"], "readlink /proc/self/ns/pid"), &own("pid"));
    both(&engine, &sh(&["--uts", "host"], "readlink /proc/self/ns/uts"), &own("uts"));
    both(&engine, &sh(&["--ipc", "host"], "readlink /proc/self/ns/ipc"), &own("ipc"));
    both(&engine, &sh(&["--cgroupns", "host"], "readlink /proc/self/ns/cgroup"), &own("cgroup"));
    both(&engine, &sh(&["--network", "none"], "ls /sys/class/net"), "lo");
    engine.corten(&["run", "-d", "--name", "first", "--ipc", "shareable", "busybox", "sleep", "1000"]).ok();
    let net = engine.corten(&["exec", "first", "readlink", "/proc/self/ns/net"]).ok();
    both(&engine, &sh(&["--network", "container:first"], "readlink /proc/self/ns/net"), &net);
    both(&engine, &sh(&["--pid", "container:first"], "cat /proc/1/cmdline | tr '\\0' ' '"), "sleep 1000");
    engine.corten(&["exec", "first", "sh", "-c", "echo shared > /dev/shm/f"]).ok();
    both(&engine, &sh(&["--ipc", "container:first"], "cat /dev/shm/f"), "shared");
}

#[test]
fn an_init_reaps_and_forwards() {
    let engine = TestEngine::with_busybox();
    both(&engine, &sh(&["--init"], "test $$ -ne 1 && echo child"), "child");
    engine.corten(&["run", "-d", "--name", "waiting", "--init", "busybox", "sleep", "1000"]).ok();
    // Without an init, process 1 would ignore SIGTERM and be killed after ten seconds: 137.
    engine.corten(&["stop", "waiting"]).ok();
    assert_eq!(engine.corten(&["inspect", "-f", "{{.State.ExitCode}}", "waiting"]).ok(), "143");
}

#[test]
fn names_of_hosts_and_resolver() {
    let engine = TestEngine::with_busybox();
    both(&engine, &sh(&["--add-host", "db:10.9.8.7"], "grep -w db /etc/hosts | cut -f1"), "10.9.8.7");
    both(
        &engine,
        &sh(&["--dns", "10.1.1.1", "--dns-search", "corp.example"], "cat /etc/resolv.conf"),
        "nameserver 10.1.1.1\nsearch corp.example",
    );
    both(
        &engine,
        &sh(&["--mac-address", "02:42:0a:01:02:03"], "cat /sys/class/net/eth0/address"),
        "02:42:0a:01:02:03",
    );
}

#[test]
fn a_subpath_stays_within_its_volume() {
    let engine = TestEngine::with_busybox();
    let make = "mkdir -p /v/inner && echo inside > /v/inner/f && ln -s / /v/out && ln -s inner /v/in && ln -s /inner /v/rooted && echo one > /v/file";
    engine.corten(&sh(&["-v", "shared:/v"], make)).ok();
    let mount = |subpath: &str| format!("type=volume,src=shared,dst=/m,volume-subpath={subpath}");
    for path in ["inner", "in", "rooted"] {
        both(&engine, &sh(&["--mount", &mount(path)], "cat /m/f"), "inside");
    }
    both(&engine, &sh(&["--mount", &mount("file")], "cat /m"), "one");
    // A link to the root leads to the root of the volume, not of the host.
    both(&engine, &sh(&["--mount", &mount("out")], "ls /m"), "file\nin\ninner\nout\nrooted");
    for path in ["../..", "/etc", "missing"] {
        let refused = engine.corten(&["run", "--rm", "--mount", &mount(path), "busybox", "true"]);
        assert!(refused.code != 0 && refused.stderr.contains(path), "{}", refused.stderr);
    }
}

#[test]
fn defaults_come_from_the_engine() {
    let engine = TestEngine::start_with(&[
        "--default-ulimit=nofile=512:600",
        "--default-shm-size=8m",
        "--dns=10.1.1.1",
        "--dns-search=example.org",
        "--log-driver=json-file",
        "--log-opt=max-size=1m",
        "--init",
    ]);
    engine.add_busybox();
    both(&engine, &sh(&[], "ulimit -Sn; ulimit -Hn"), "512\n600");
    both(&engine, &sh(&["--ulimit", "nofile=100:100"], "ulimit -n"), "100");
    both(&engine, &sh(&[], "df -m /dev/shm | awk 'NR == 2 { print $2 }'"), "8");
    both(&engine, &sh(&[], "cat /etc/resolv.conf"), "nameserver 10.1.1.1\nsearch example.org");
    both(&engine, &sh(&[], "[ $$ = 1 ] || echo init"), "init");
    engine.corten(&["run", "--name", "logged", "busybox", "echo", "kept"]).ok();
    let format = "{{.HostConfig.LogConfig.Type}} {{index .HostConfig.LogConfig.Config \"max-size\"}}";
    both(&engine, &["inspect", "--format", format, "logged"], "json-file 1m");
    both(&engine, &["logs", "logged"], "kept");
}

#[test]
fn what_cannot_be_had_is_refused_before_anything_is_made() {
    let engine = TestEngine::with_busybox();
    let long = "h".repeat(65);
    for (options, why) in [
        (&["--hostname", &long][..], "64 bytes"),
        (&["--network-alias", "db"], "alias"),
        (&["--ip6", "fd00::5"], "no configured subnet contains IP address fd00::5"),
    ] {
        for output in [
            engine.corten(&[&["create"], options, &["busybox"]].concat()),
            engine.docker(&[&["create"], options, &["busybox"]].concat()),
        ] {
            assert!(output.code != 0 && output.stderr.contains(why), "{options:?}: {}", output.stderr);
        }
    }
    for (settings, why) in [
        (r#""Env": ["=x"]"#, "invalid environment variable: =x"),
        (r#""HostConfig": {"ExtraHosts": ["a"]}"#, "bad format for add-host: \\\"a\\\""),
        (r#""HostConfig": {"ExtraHosts": ["a:zz"]}"#, "invalid IP address in add-host"),
        (r#""HostConfig": {"NetworkMode": "container:"}"#, "invalid container format container:<name|id>"),
        (r#""HostConfig": {"Tmpfs": {"/": ""}}"#, "destination can't be '/'"),
        (r#""HostConfig": {"Mounts": [{"Type": "tmpfs", "Target": "/a/.."}]}"#, "destination can't be '/'"),
    ] {
        let body = format!("{{\"Image\": \"busybox\", {settings}}}");
        let options =
            ["-X", "POST", "-H", "Content-Type: application/json", "-d", &body, "-w", "%{http_code}"];
        let answer = engine.curl(&options, "/containers/create").ok();
        assert!(answer.contains(why) && answer.ends_with("400"), "{settings}: {answer}");
    }
    // Docker's newer clients drop it themselves.
    let kernel = engine.corten(&["create", "--kernel-memory", "50m", "busybox"]);
    assert!(kernel.fails(125).contains("--kernel-memory is not supported"));
    assert_eq!(engine.corten(&["ps", "-aq"]).ok(), "");
    let discarded = engine.docker(&["run", "--rm", "--network", "none", "-p", "80:80", "busybox", "true"]);
    assert!(discarded.stderr.contains("Published ports are discarded"), "{}", discarded.stderr);
}
