//! What Docker's builder clients may ask of a build besides what is in it: networks, hosts, outputs and their attributes, refusals.

use std::fs;
use std::process::Command;

use corten_tests::buildx::Site;
use corten_tests::run;

/// Sockets of the network that a step sees.
const SEES: &str = "wc -l </proc/net/unix >/seen";

#[test]
fn the_hosts_network_is_for_who_asks_for_it() {
    let site = Site::new(&format!("FROM busybox\nRUN {SEES}\n"));
    let seen = || site.print(&["cat", "/seen"]);
    site.build(&["-t", "t"]).ok();
    assert_eq!(seen(), "1");
    site.build(&["-t", "t", "--network", "host"]).ok();
    assert_ne!(seen(), "1", "the host's sockets");
    site.write(
        "compose.yaml",
        "services:\n  a:\n    image: composed\n    build: {context: ., network: host}\n",
    );
    site.docker(&["compose", "build"]).ok();
    assert_ne!(site.engine.docker(&["run", "--rm", "composed", "cat", "/seen"]).ok(), "1");

    // A Dockerfile alone doesn't get it.
    site.write(
        "Dockerfile",
        &format!("FROM busybox\nRUN --network=host {SEES}\nRUN wc -l </proc/net/unix >/other\n"),
    );
    let refused = site.build(&["-t", "t"]).fails(1);
    assert!(refused.contains("RUN --network=host is not allowed"), "{refused}");
    site.build(&["-t", "t", "--allow", "network.host"]).ok();
    assert_ne!(seen(), "1");
    assert_eq!(site.print(&["cat", "/other"]), "1", "a step that hasn't asked");
    for entitlement in ["security.insecure", "network.host,security.insecure"] {
        let refused = site.build(&["--allow", entitlement]).fails(1);
        assert!(refused.contains("security.insecure is not allowed"), "{refused}");
    }
}

#[test]
fn the_host_has_an_address_in_steps() {
    let site = Site::new("FROM busybox\nRUN grep -w box /etc/hosts >/seen\n");
    site.build(&["-t", "t", "--add-host", "box:host-gateway"]).ok();
    let hosts =
        ["run", "--rm", "--add-host", "box:host-gateway", "busybox", "grep", "-w", "box", "/etc/hosts"];
    assert_eq!(site.print(&["cat", "/seen"]), site.engine.docker(&hosts).ok());
}

#[test]
fn several_outputs_come_of_one_build() {
    let site = Site::new(
        "FROM busybox\nRUN --mount=type=cache,target=/count echo x >>/count/runs && echo text >/made\n",
    );
    site.write(".dockerignore", "out\n*.tar\n");
    let at = |name: &str| site.context.path().join(name).display().to_string();
    let outputs = [
        format!("type=local,dest={}", at("out")),
        format!("type=tar,dest={}", at("files.tar")),
        format!("type=oci,dest={}", at("image.tar")),
        "type=image".to_owned(),
    ];
    let flags: Vec<&str> = outputs.iter().flat_map(|output| ["-o", output]).collect();
    site.build(&[&["-t", "t"], &flags[..]].concat()).ok();
    assert_eq!(fs::read_to_string(at("out/made")).expect("a file"), "text\n");
    assert_eq!(run(Command::new("tar").args(["-xOf", &at("files.tar"), "made"])).ok(), "text");
    assert!(run(Command::new("tar").args(["-tf", &at("image.tar")])).ok().contains("index.json"));
    assert_eq!((site.print(&["cat", "/made"]), site.runs()), ("text".to_owned(), 1));
}

#[test]
fn the_questions_that_there_are_can_be_asked_for() {
    let site = Site::new("FROM busybox AS first\n");
    let ask = |question: &str| {
        let mut command = site.command(&["buildx", "build", "--print", question, site.path()]);
        run(command.env("BUILDX_EXPERIMENTAL", "1")).ok()
    };
    let told = ask("subrequests.describe");
    for question in ["lint", "outline", "targets"] {
        assert!(told.lines().any(|line| line.starts_with(&format!("{question} "))), "{told}");
        ask(question);
    }
}

#[test]
fn what_only_other_platforms_have_is_refused() {
    let site = Site::new("FROM busybox\nSTOPSIGNAL 99\nCMD [\"sleep\", \"1000\"]\n");
    let classic = |more: &[&str]| {
        let mut command = site.command(&[&["build", "-t", "t"], more, &[site.path()]].concat());
        run(command.env("DOCKER_BUILDKIT", "0"))
    };
    let refused = classic(&["--isolation", "hyperv"]).fails(1);
    assert!(refused.contains("unsupported isolation: \"hyperv\""), "{refused}");
    let refused = classic(&["--security-opt", "credentialspec=file://x"]).fails(1);
    assert!(refused.contains("security options are not supported"), "{refused}");
    // Nobody hears such a signal: who has it is ended at once.
    classic(&["--isolation", "default"]).ok();
    site.engine.docker(&["run", "-d", "--name", "deaf", "t"]).ok();
    site.engine.docker(&["stop", "deaf"]).ok();
    assert_eq!(
        site.engine.docker(&["inspect", "-f", "{{.State.Status}} {{.Config.StopSignal}}", "deaf"]).ok(),
        "exited 99"
    );
    site.write("Dockerfile", "FROM busybox\nSTOPSIGNAL 0\n");
    let refused = site.build(&[]).fails(1);
    assert!(refused.contains("invalid signal: 0"), "{refused}");
}
