//! The command line as people meet it: Docker's commands, flags and output, and failures that say what helps.

use std::collections::BTreeSet;
use std::process::Command;

use corten_tests::{Output, TestEngine, binary, difference, eventually, run};

/// Commands for what this engine declines or has no use for: Swarm, plugins, content trust, the builder's and registries' own.
const OTHER_COMMANDS: [&str; 17] = [
    "build",
    "buildx",
    "checkpoint",
    "compose",
    "config",
    "login",
    "logout",
    "manifest",
    "node",
    "plugin",
    "pull",
    "push",
    "secret",
    "service",
    "stack",
    "swarm",
    "trust",
];

/// Flags that are taken, but not shown, by command: without meaning on Linux, or for what is declined.
#[rustfmt::skip]
const HIDDEN_FLAGS: [(&[&str], &[&str]); 5] = [
    (&["run", "create", "container run", "container create"], &["cpu-count", "cpu-percent", "disable-content-trust", "gpus",
        "io-maxbandwidth", "io-maxiops", "kernel-memory", "quiet", "storage-opt", "use-api-socket", "volume-driver"]),
    (&["start", "container start"], &["checkpoint", "checkpoint-dir"]),
    (&["network inspect"], &["verbose"]),
    (&["volume create"], &["availability", "group", "limit-bytes", "required-bytes", "scope", "secret", "sharing",
        "topology-preferred", "topology-required", "type"]),
    (&["volume ls"], &["cluster"]),
];

fn is_hidden(command: &str, flag: &str) -> bool {
    HIDDEN_FLAGS.iter().any(|(commands, flags)| commands.contains(&command) && flags.contains(&flag))
}

fn help(program: &mut Command) -> String {
    let output = run(program.arg("--help"));
    output.stdout + &output.stderr
}

/// The names of sub-commands in a help text of docker's.
fn commands(text: &str) -> Vec<String> {
    let mut listed = false;
    let mut names = Vec::new();
    for line in text.lines() {
        if !line.starts_with(' ') {
            listed = line.trim_end().ends_with("Commands:") && !line.contains("Swarm");
        } else if let Some(name) = line.split_whitespace().next().filter(|_| listed) {
            names.push(name.trim_end_matches('*').to_owned());
        }
    }
    names
}

/// The long flags in a help text, of docker's or ours.
fn flags(text: &str) -> BTreeSet<String> {
    let flag = |line: &str| {
        let line = line.trim_start();
        let at = line.find("--").filter(|&at| at <= 4 && line.starts_with('-'))?;
        let name: String =
            line[at + 2..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        Some(name).filter(|name| !name.is_empty())
    };
    text.lines().filter_map(flag).collect()
}

fn compare(path: &[String], lacking: &mut Vec<String>) {
    let theirs = help(Command::new("docker").args(path).env_remove("DOCKER_HOST"));
    let below = commands(&theirs);
    if !below.is_empty() {
        for name in below.iter().filter(|name| !OTHER_COMMANDS.contains(&name.as_str())) {
            compare(&[path, std::slice::from_ref(name)].concat(), lacking);
        }
        return;
    }
    let words = path.join(" ");
    if words == "volume update" {
        return;
    }
    let ours = help(Command::new(binary("corten")).args(path));
    if !ours.contains("Usage:") || ours.contains("unknown command") {
        lacking.push(words);
        return;
    }
    let ours = flags(&ours);
    let missing = flags(&theirs).into_iter().filter(|flag| !ours.contains(flag) && !is_hidden(&words, flag));
    lacking.extend(missing.map(|flag| format!("{words} --{flag}")));
}

#[test]
fn every_command_and_flag_of_dockers_is_there() {
    let mut lacking = Vec::new();
    compare(&[], &mut lacking);
    assert!(lacking.is_empty(), "{lacking:#?}");
}

/// Command lines whose output is the same from docker's client and from ours; `'…'` holds a word with spaces.
#[rustfmt::skip]
const SAME: &[&str] = &[
    "ps", "ps -a", "ps -aq", "ps -a --no-trunc", "ps -as", "ps -n 1", "ps -l", "ps -a --filter exited=3",
    "ps -a --filter label=role=front", "ps -a --filter ancestor=busybox --filter volume=vol",
        "ps -a --format 'table {{.Names}}\t{{.Image | upper}}\t{{json .Labels}}'",
    "ps -a --format '{{range $i, $e := split .Names \",\"}}{{$i}}={{$e}}{{end}}{{if eq .State \"running\"}} up{{else}} down{{end}}'",
    "ps -a --format '{{with .Names}}{{.}}{{end}}{{/* c */}} {{- .State -}} x {{join (split .Image \"s\") \"/\"}} {{lower \"AB\"}} {{ne .State \"x\"}} {{lt 1 2}} {{and true .Names}} {{or \"\" .Names}} {{not true}}'",
    "ps -a --format '{{truncate .ID 4}} {{pad .Names 2 3}}| {{title .State}} {{println .Names}}{{printf \"%-10s|%q\" .Names .State}} {{len .Names}}'",
    "ps -a --format '{{.ID}} {{.Command}} {{.Ports}} {{.Status}} {{.Names}} {{.Labels}} {{.Label \"role\"}} {{.Mounts}} {{.Networks}} {{.LocalVolumes}} {{.Size}}'",
    "images busybox", "images -q", "images --filter reference=*:two", "image ls --no-trunc busybox:two",
    "history busybox", "history --no-trunc busybox", "history -q busybox", "history --format json busybox", "history -H=false busybox",
    "inspect --format '{{.State.Status}} {{.Config.Env}} {{json .HostConfig.PortBindings}} {{range $k,$v := .NetworkSettings.Ports}}{{$k}} {{(index $v 0).HostPort}}{{end}}' web",
    "inspect --type volume vol", "inspect nosuch",
    "volume ls", "volume ls -q", "volume ls --format json", "volume inspect vol", "volume ls --filter label=a=b",
    "volume ls --format 'table {{.Name}}\t{{.Driver}}\t{{.Labels}}\t{{.Mountpoint}}\t{{.Scope}}\t{{.Size}}\t{{.Links}}\t{{.Label \"a\"}}'",
    "network ls", "network ls --no-trunc", "network ls --format json", "network ls --filter driver=host",
    "network ls --format 'table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}\t{{.IPv6}}\t{{.Internal}}\t{{.Labels}}\t{{.CreatedAt}}'",
    "port web", "port web 80", "port web 53/udp", "logs web", "logs --tail 1 web", "top web", "top web -o pid,comm",
    "version --format '{{.Server.Version}} {{.Server.APIVersion}}'", "info --format '{{.Driver}} {{.ID}} {{.Containers}} {{.DefaultRuntime}}'",
    "events --since 1h --until 0s --filter type=volume --format json", "wait job", "diff web", "diff job",
    "exec web sh -c 'echo hi; exit 4'", "exec -e A=b -w /tmp web sh -c 'pwd; echo $A'", "exec -u 1000:1000 web id",
    "run --rm busybox echo hello", "run --rm busybox sh -c 'exit 7'", "run --rm -e B=c --hostname h busybox sh -c 'hostname; echo $B'",
    "stats --no-stream --format '{{.Name}} {{.PIDs}} {{.NetIO}}' web",
    "system df --format '{{.Type}} {{.TotalCount}} {{.Active}}'", "container prune -f --filter label=nosuch", "image prune -f --filter label=nosuch",
];

/// The words of a command line as a shell would split it, quotes of one kind.
fn words(line: &str) -> Vec<String> {
    line.split('\'')
        .enumerate()
        .flat_map(|(index, part)| match index % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

#[test]
fn output_is_as_dockers() {
    let engine = TestEngine::with_busybox();
    engine.corten(&["volume", "create", "--label", "a=b", "vol"]).ok();
    let options = ["-p", "127.0.0.1::80", "-p", "127.0.0.1::53/udp", "-v", "vol:/data", "-l", "role=front"];
    engine.background("web", &options, "echo one; echo two >&2; echo x >/changed; exec sleep 1000");
    engine.corten(&["run", "--name", "job", "-e", "X=y", "busybox", "sh", "-c", "exit 3"]).fails(3);
    engine.corten(&["tag", "busybox", "busybox:two"]).ok();
    eventually("the log is there", || engine.corten(&["logs", "web"]).stdout == "one\n");
    let mut different = Vec::new();
    for line in SAME {
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let seen = |output: Output| (output.code, output.stdout);
        if let Some((ours, theirs)) =
            difference(|| (seen(engine.corten(&words)), seen(engine.docker(&words))))
        {
            different.push(format!("{line}\n  ours   {ours:?}\n  docker {theirs:?}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// What is typed, how it ends, what it says and what it advises.
type Failing = (&'static str, i32, &'static str, &'static str);

#[rustfmt::skip]
const FAILURES: &[Failing] = &[
    ("run --rm --pull never nosuch", 125, "No such image: nosuch:latest", "corten images"),
    ("run --rm 127.0.0.1:1/nosuch", 125, "Unable to find image '127.0.0.1:1/nosuch:latest' locally", "is the registry running"),
    ("push nosuch:1", 1, "does not exist locally with the tag: nosuch:1", "corten images"),
    ("pull 127.0.0.1:1/nosuch", 1, "connection refused", "is the registry running"),
    ("run --rm busybox nosuch", 127, "nosuch: executable file not found in $PATH", "--entrypoint sh"),
    ("run --rm busybox /etc", 126, "/etc: permission denied: it is a directory", "inside it"),
    ("run --rm busybox /etc/passwd", 126, "/etc/passwd: permission denied", "chmod +x"),
    ("run --rm broken /foreign", 126, "the program is for arm64", "images --tree"),
    ("run --rm broken /crlf", 127, "\"/bin/sh\" with a carriage return", "sed"),
    ("run --rm broken /nointerp", 127, "its interpreter /usr/bin/nosuch is not there", "the image lacks"),
    ("run --rm broken /text", 126, "exec format error", "#!/bin/sh"),
    ("run --rm -w /etc/passwd busybox true", 125, "/etc/passwd: not a directory", "--workdir"),
    ("run --rm -u nobodyx busybox true", 125, "unable to find user nobodyx", "numeric user"),
    ("run --rm -u 1:nogrp busybox true", 125, "no matching entries in group file", "numeric group"),
    ("run --rm -v nosuch/x:/y busybox true", 125, "\"nosuch/x\" includes invalid characters", "full path"),
    ("run --rm -v /etc:/x:zz busybox true", 125, "invalid mode: zz", "modes are"),
    ("run --rm --mount type=bind,src=/nosuch,dst=/x busybox true", 125, "does not exist: /nosuch", "create it"),
    ("run --rm --mount type=bind,src=/etc/passwd,dst=/etc busybox true", 125, "mount: /etc", "files on files"),
    ("run --rm -p 99999:80 busybox true", 125, "\"99999\" is no port", "1 to 65535"),
    ("run --rm -p 80:80:80:80 busybox true", 125, "\"80:80\" is no IP address", "HOST-PORT"),
    ("run --rm -m 1k busybox true", 125, "Minimum memory limit", "6m"),
    ("run --rm -m 1x busybox true", 125, "\"1x\" for --memory", "512m"),
    ("run --rm --cpus 10000 busybox true", 125, "range of CPUs", "nproc"),
    ("run --rm --cpuset-cpus 9999 busybox true", 125, "requested 9999", "nproc"),
    ("run --rm --name sleeper busybox true", 125, "\"/sleeper\" is already in use", "another --name"),
    ("run --rm --name x busybox true", 125, "Invalid container name (x)", "two characters"),
    ("run --rm --network nosuch busybox true", 125, "network nosuch not found", "network create"),
    ("run --rm --network container:nosuch busybox true", 125, "No such container: nosuch", "ps -a"),
    ("run --rm --ip 192.0.2.1 busybox true", 125, "no configured subnet contains IP address", "network inspect"),
    ("run --rm --device /dev/nosuch busybox true", 127, "\"/dev/nosuch\"", "ls -l"),
    ("run --rm --cap-add NOPE busybox true", 125, "CAP_NOPE", "capabilities(7)"),
    ("run --rm --sysctl kernel.foo=1 busybox true", 125, "'kernel.foo' is not allowed", "sysctl -w"),
    ("run --rm --sysctl net.foo=1 busybox true", 127, "net.foo", "sysctl -a"),
    ("run --rm --log-driver nope busybox true", 125, "'nope'", "Plugins.Log"),
    ("run --rm --log-opt nope=1 busybox true", 125, "'nope'", "docs/log-format.md"),
    ("run --rm --restart always busybox true", 125, "--restart and --rm", "choose between"),
    ("run --rm --runtime nope busybox true", 125, "runtime name: nope", "info"),
    ("run --rm --gpus all busybox true", 125, "--gpus", "--device"),
    ("run --rm --platform linux/arm64 busybox true", 125, "(linux/arm64)", "images --tree"),
    ("run --rm --env-file /nosuch busybox true", 125, "/nosuch", "check the path"),
    ("run --rm --read-only busybox touch /x", 1, "Read-only file system", ""),
    ("run -it --rm busybox true", 1, "not a TTY", "leave out -t"),
    
    ("exec nosuch true", 1, "No such container: nosuch", "ps -a"),
    ("exec ended true", 1, "is not running", "corten start"),
    ("rm sleeper", 1, "container is running", "rm -f"),
    ("rmi busybox", 1, "is using its referenced image", "remove that container"),
    ("rmi nosuch", 1, "No such image: nosuch:latest", "corten images"),
    ("pause ended", 1, "is not running", "corten start"),
    ("unpause sleeper", 1, "is not paused", "status=paused"),
    ("kill -s NOPE sleeper", 1, "NOPE", "kill -l"),
    ("volume rm nosuch", 1, "no such volume", "volume ls"),
    ("volume rm kept", 1, "volume is in use", "filter volume"),
    ("network inspect nosuch", 1, "network nosuch not found", "network ls"),
    ("tag busybox X", 1, "must be lowercase", "looks like"),
    ("load -i /nosuch", 1, "/nosuch: No such file", "check the path"),
    ("load -i /etc/passwd", 1, "not a tar archive", "corten import"),
    ("ps --filter nope=1", 1, "invalid filter 'nope'", "--help"),
    ("ps --format {{.Nosuch}}", 1, "there are: Command, CreatedAt", ""),
    ("ps extra", 1, "takes no argument \"extra\"; usage: corten ps [OPTIONS]", "ps --help"),
    ("exec sleeper", 1, "needs more arguments: CONTAINER COMMAND", "exec --help"),
    ("tag busybox", 1, "needs more arguments: SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", "tag --help"),
    ("images --tree -q", 1, "--quiet is not yet supported with --tree", ""),
    ("inspect --type nosuch sleeper", 1, "no type \"nosuch\"", "container, image"),
    ("volume prune -f -a --filter all=1", 1, "--all and --filter all", ""),
    ("load -i /etc", 1, "opening /etc: is a directory", ""),
    ("import /etc", 1, "opening /etc: is a directory", ""),
    ("save -o /nosuch/x busybox", 1, "creating /nosuch/x: No such file", "directory first"),
    ("cp sleeper:/nosuch /tmp", 1, "Could not find the file /nosuch", "export"),
    ("run --rm --device nosuch busybox true", 125, "must be absolute", ""),
    ("network inspect -s bridge", 125, "unknown flag: -s", "network inspect --help"),
    ("ps --format {{", 1, "no closing", "templates look like"),
    ("build --rm=false .", 125, "--rm=false is not supported: no step leaves its container", "--debug-on-failure"),
    ("build --squash .", 125, "--squash is not supported", "FROM scratch"),
    ("build --isolation hyperv .", 125, "--isolation is not supported", "default"),
    ("build --security-opt seccomp=unconfined .", 125, "--security-opt is not supported", "leave it out"),
    ("build --annotation a=b .", 125, "--annotation is not supported", "--label"),
    ("buildx build --builder other .", 125, "--builder is not supported", "--host"),
    ("build -m 1x .", 125, "\"1x\" for --memory", "512m"),
    ("builder du --filter colour=red", 1, "invalid filter 'colour'", "--help"),
    ("buildx bake", 1, "`corten buildx bake` is not supported yet", "corten build --target"),
    ("buildx create", 1, "not supported yet", "the only builder"),
    ("nosuch", 1, "unknown command", "--help"),
    ("run --nosuch busybox", 125, "unknown flag: --nosuch", "run --help"),
    ("inspect nosuch", 1, "No such object: nosuch", "ps -a"),
];

/// An image with programs that don't run here.
fn add_broken_image(engine: &TestEngine) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut foreign = std::fs::read(binary("corten-oci")).expect("a program");
    foreign.truncate(4096);
    foreign[18..20].copy_from_slice(&183_u16.to_le_bytes());
    let files: [(&str, &[u8]); 4] = [
        ("foreign", &foreign),
        ("crlf", b"#!/bin/sh\r\necho\r\n"),
        ("nointerp", b"#!/usr/bin/nosuch\n"),
        ("text", b"echo hello\n"),
    ];
    for (name, bytes) in files {
        std::fs::write(directory.path().join(name), bytes).expect("a file");
        let chmod = run(Command::new("chmod").arg("755").arg(directory.path().join(name)));
        chmod.ok();
    }
    let archive = directory.path().join("broken.tar");
    let mut tar = Command::new("tar");
    tar.arg("-cf").arg(&archive).arg("-C").arg(directory.path()).args(files.map(|(name, _)| name));
    run(&mut tar).ok();
    engine.corten(&["import", archive.to_str().expect("UTF-8"), "broken"]).ok();
}

#[test]
fn failures_say_what_failed_why_and_what_helps() {
    let engine = TestEngine::with_busybox();
    add_broken_image(&engine);
    engine.background("sleeper", &["-v", "kept:/kept"], "sleep 1000");
    engine.corten(&["create", "--name", "ended", "busybox", "true"]).ok();
    let mut wrong = Vec::new();
    for (line, code, cause, advice) in FAILURES {
        let words: Vec<&str> = line.split(' ').collect();
        let output = engine.corten(&words);
        let says = |words: &str| output.stderr.contains(words);
        let advised = advice.is_empty() || says("hint: ") && says(advice);
        if output.code != *code || !says(cause) || !advised {
            wrong.push(format!(
                "corten {line}\n  wanted {code}, {cause:?}, {advice:?}\n  got {} {}",
                output.code, output.stderr
            ));
        }
    }
    engine.corten(&["rm", "-f", "sleeper", "ended"]).ok();
    engine.corten(&["volume", "rm", "kept"]).ok();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
