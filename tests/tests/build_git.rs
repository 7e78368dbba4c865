//! `ADD` of repositories, from a server on loopback: commits, what is done again, secrets, submodules, and repositories that mean harm.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use corten_tests::git::GitServer;
use corten_tests::ssh::{Agent, SshServer};
use corten_tests::{Output, TestEngine, eventually, run};
use tempfile::TempDir;

fn context(dockerfile: &str) -> TempDir {
    let context = tempfile::tempdir().unwrap();
    fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    context
}

fn build(engine: &TestEngine, dockerfile: &str, flags: &[&str]) -> Output {
    let context = context(dockerfile);
    let path = context.path().display().to_string();
    let all = [&["build", "-t", "test", "--progress", "plain"], flags, &[path.as_str()]].concat();
    engine.corten(&all)
}

fn runs(engine: &TestEngine, script: &str) -> String {
    engine.corten(&["run", "--rm", "test", "sh", "-c", script]).ok()
}

/// Nothing of a fetch lies about any more.
fn is_swept(engine: &TestEngine) {
    eventually("nothing of it is left", || {
        fs::read_dir(engine.data_root().join("build/archives")).map_or(0, Iterator::count) == 0
    });
}

#[test]
fn a_commit_is_fetched_once_and_asked_for_then() {
    let engine = TestEngine::with_busybox();
    let server = GitServer::new();
    let first = server
        .with("a.git", &[("top", "1"), ("deep/er/file", "one"), (".gitattributes", "top export-ignore\n")]);
    fs::write(server.work("a.git").join("deep/run"), "#!/bin/sh\n").unwrap();
    run(Command::new("chmod").arg("755").arg(server.work("a.git").join("deep/run"))).ok();
    std::os::unix::fs::symlink("er/file", server.work("a.git").join("deep/link")).unwrap();
    let second = server.commit("a.git");
    server.git("a.git", &["tag", "-a", "-m", "a tag", "v1"]);
    let url = server.url("a.git");
    let dockerfile = format!(
        "FROM busybox\nADD {url} /all/\nADD --chown=3:4 {url}#v1:deep /part\nADD {url}#{first} /first\nADD {url}?branch=main&subdir=deep/er /query\n"
    );
    build(&engine, &dockerfile, &[]).ok();
    let facts = "cd /all; find . | sort | tr '\\n' ' '; cat top deep/link; stat -c ' %a %u:%g %Y' deep/er/file deep/run deep";
    assert_eq!(
        runs(&engine, facts),
        ". ./.gitattributes ./deep ./deep/er ./deep/er/file ./deep/link ./deep/run ./top 1one 644 0:0 1000000000\n \
         755 0:0 1000000000\n 755 0:0 1000000000"
    );
    assert_eq!(
        runs(&engine, "ls /part /first /query; stat -c '%u:%g' /part/er/file"),
        "/first:\ndeep\ntop\n\n/part:\ner\nlink\nrun\n\n/query:\nfile\n3:4"
    );
    let id = engine.corten(&["inspect", "-f", "{{.Id}}", "test"]).ok();
    is_swept(&engine);
    // What didn't move is asked for and nothing more; a commit is known by itself.
    server.asked();
    let told = build(&engine, &dockerfile, &[]).stderr;
    assert_eq!(told.matches("CACHED").count(), 5, "{told}");
    let posts = server.asked().iter().filter(|line| line.starts_with("POST")).count();
    assert!(posts <= 3, "{posts}");
    assert_eq!(engine.corten(&["inspect", "-f", "{{.Id}}", "test"]).ok(), id);
    server.write("a.git", "top", "2");
    server.commit("a.git");
    build(&engine, &dockerfile, &[]).ok();
    assert_eq!(runs(&engine, "cat /all/top /first/top"), "21");
    // What the ref means is said by whoever expects it.
    let line = |flag: &str| format!("FROM busybox\nADD --checksum={flag} {url}#v1 /x\n");
    build(&engine, &line(&second[..7]), &[]).ok();
    build(&engine, &line(&second), &[]).ok();
    let told = build(&engine, &line(&first), &[]).fails(1);
    assert!(told.contains(&first) && told.contains(&second) && told.contains("Dockerfile:2"), "{told}");
    for (reference, wanted) in [
        ("v2", "does not contain ref v2"),
        ("--upload-pack=x", "invalid git ref"),
        ("v1:top", "no directory"),
    ] {
        let told = build(&engine, &format!("FROM busybox\nADD {url}#{reference} /x\n"), &[]).fails(1);
        assert!(told.contains(wanted) && told.contains("Dockerfile:2"), "{told}");
    }
    is_swept(&engine);
}

#[test]
fn a_git_directory_is_kept_on_wish_and_of_use() {
    let engine = TestEngine::with_busybox();
    let server = GitServer::new();
    server.with("a.git", &[("file", "text")]);
    let commit = server.commit("a.git");
    server.git("a.git", &["tag", "-a", "-m", "a tag", "v1"]);
    let url = server.url("a.git").replace("http://", "http://joe:hush@");
    let out = tempfile::tempdir().unwrap();
    let to = out.path().display().to_string();
    build(&engine, &format!("FROM scratch\nADD --keep-git-dir=true {url}#v1 /\n"), &["-o", &to]).ok();
    let git = |arguments: &[&str]| {
        run(Command::new("git").args(["-c", "safe.directory=*", "-C", &to]).args(arguments)).ok()
    };
    assert_eq!(git(&["rev-parse", "HEAD"]), commit);
    assert_eq!((git(&["status", "--porcelain"]), git(&["describe"])), (String::new(), "v1".to_owned()));
    assert_eq!(git(&["remote", "get-url", "origin"]), server.url("a.git"));
    let found =
        run(Command::new("grep").args(["-rl", "hush"]).arg(out.path()).arg(engine.data_root().join("build")));
    assert_eq!(found.stdout, "", "no password stays");
    let same = || engine.corten(&["inspect", "-f", "{{.Id}}", "test"]).ok();
    let id = same();
    build(&engine, &format!("FROM scratch\nADD --keep-git-dir=true {url}#v1 /\n"), &[]).ok();
    assert_eq!(same(), id);
}

#[test]
fn who_asks_is_known_by_a_secret_that_nobody_sees() {
    let engine = TestEngine::with_busybox();
    let server = GitServer::new();
    server.with("a.git", &[("file", "text")]);
    // x-access-token:hush and joe:hush
    server.require("Basic eC1hY2Nlc3MtdG9rZW46aHVzaA==");
    server.look_for("eC1hY2Nlc3MtdG9rZW46aHVzaA");
    let dockerfile = format!("FROM busybox\nADD {} /x/\n", server.url("a.git"));
    let told = build(&engine, &dockerfile, &[]).fails(1);
    assert!(told.contains("could not read Username") && told.contains("a.git"), "{told}");
    let secret = context("");
    let path = secret.path().join("token");
    fs::write(&path, "hush\n").unwrap();
    for name in ["GIT_AUTH_TOKEN".to_owned(), format!("GIT_AUTH_TOKEN.{}", server.host())] {
        let flag = format!("id={name},src={}", path.display());
        build(&engine, &dockerfile, &["--no-cache", "--secret", &flag]).ok();
        assert_eq!(runs(&engine, "cat /x/file"), "text");
    }
    fs::write(&path, "Basic am9lOmh1c2g=").unwrap();
    server.require("Basic am9lOmh1c2g=");
    server.look_for("am9lOmh1c2g");
    let flag = format!("id=GIT_AUTH_HEADER,src={}", path.display());
    build(&engine, &dockerfile, &["--no-cache", "--secret", &flag]).ok();
    let named = dockerfile.replace("http://", "http://joe:hush@");
    build(&engine, &named, &["--no-cache"]).ok();
    assert!(!server.has_seen(), "no argument of a process has it");
    is_swept(&engine);
    for secret in ["eC1hY2Nlc3MtdG9rZW46aHVzaA", "am9lOmh1c2g"] {
        let found = run(Command::new("grep").args(["-rl", secret]).arg(engine.data_root()));
        assert_eq!(found.stdout, "");
    }
}

#[test]
fn submodules_come_along_by_the_same_protocols() {
    let engine = TestEngine::with_busybox();
    let server = GitServer::new();
    server.with("inner.git", &[("inside", "deep")]);
    let inner = server.git("inner.git", &["rev-parse", "HEAD"]);
    server.with("middle.git", &[("between", "half")]);
    let link = |of: &str, to: &str, commit: &str, url: &str| {
        server.write(of, ".gitmodules", &format!("[submodule \"x\"]\n\tpath = {to}\n\turl = {url}\n"));
        server.git(of, &["add", "-A"]);
        server.git(of, &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{to}")]);
        server.git(of, &["commit", "-q", "-m", "a submodule"]);
        server.git(of, &["rev-parse", "HEAD"])
    };
    let middle = link("middle.git", "in", &inner, "../inner.git");
    server.with("outer.git", &[("outside", "top")]);
    link("outer.git", "sub/mid", &middle, &server.url("middle.git"));
    let url = server.url("outer.git");
    let dockerfile =
        format!("FROM busybox\nADD {url} /x\nADD {url}?submodules=false /y\nADD {url}#:sub /z\n");
    build(&engine, &dockerfile, &[]).ok();
    let facts =
        "cd /x; cat outside sub/mid/between sub/mid/in/inside; ls -A /y/sub/mid; cat /z/mid/in/inside";
    assert_eq!(runs(&engine, facts), "tophalfdeepdeep");
    let secret = fs::canonicalize(server.root().join("inner.git")).unwrap();
    for (number, url) in [
        format!("file://{}", secret.display()),
        secret.display().to_string(),
        "-u./x".to_owned(),
        "--upload-pack=touch /tmp/x".to_owned(),
        "ext::sh -c true".to_owned(),
        "ssh://-oProxyCommand=x/y".to_owned(),
        "../../../../etc".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let name = format!("evil{number}.git");
        server.with(&name, &[("f", "x")]);
        link(&name, "in", &inner, url);
        let told = build(&engine, &format!("FROM busybox\nADD {} /x\n", server.url(&name)), &[]).fails(1);
        assert!(told.contains("submodule in"), "{url}: {told}");
    }
    is_swept(&engine);
}

#[test]
fn repositories_lead_nowhere_else() {
    let engine = TestEngine::with_busybox();
    let server = GitServer::new();
    server.with("a.git", &[("real/file", "x")]);
    std::os::unix::fs::symlink("/etc", server.work("a.git").join("out")).unwrap();
    std::os::unix::fs::symlink("real", server.work("a.git").join("in")).unwrap();
    server.commit("a.git");
    let url = server.url("a.git");
    for subdir in ["out", "in", "in/file", "../..", "real/file", "nothing"] {
        let told = build(&engine, &format!("FROM busybox\nRUN rm -rf /x\nADD {url}#:{subdir} /x\n"), &[]);
        match subdir {
            // Of the repository itself nothing is above.
            "../.." => drop(told.ok()),
            _ => assert!(told.fails(1).contains("directory"), "{subdir}"),
        }
    }
    // A tree that git itself would not make.
    let blob = server.git("a.git", &["hash-object", "-w", "--stdin"]);
    for path in [".git", ".GIT", ".."] {
        let name = format!("odd{}.git", path.len() + usize::from(path == ".GIT"));
        server.with(&name, &[("f", "x")]);
        fs::write(server.work(&name).join("tree"), format!("100644 blob {blob}\t{path}\n")).unwrap();
        fs::write(server.work(&name).join("f"), "").unwrap();
        server.git(&name, &["hash-object", "-w", "f"]);
        let script = format!(
            "cd {} && tree=$(git --git-dir={} mktree <tree) && git --git-dir={} -c user.name=a -c user.email=a@b commit-tree -m x $tree",
            server.work(&name).display(),
            server.root().join(&name).display(),
            server.root().join(&name).display(),
        );
        let commit = run(Command::new("sh").args(["-c", &script])).ok();
        server.git(&name, &["update-ref", "refs/heads/odd", &commit]);
        let told = build(&engine, &format!("FROM busybox\nADD {}#odd /x\n", server.url(&name)), &[]).fails(1);
        assert!(told.contains("invalid path"), "{path}: {told}");
    }
    for url in ["file:///etc", "ext::sh -c true"] {
        let told = build(&engine, &format!("FROM busybox\nADD [\"{url}\", \"/x\"]\n"), &[]);
        assert!(told.code != 0, "{url}");
    }
    is_swept(&engine);
}

#[test]
fn servers_of_files_and_daemons_serve_too() {
    let engine = TestEngine::with_busybox();
    let server = GitServer::new();
    server.with("a.git", &[("file", "text")]);
    let commit = server.git("a.git", &["rev-parse", "HEAD"]);
    build(
        &engine,
        &format!(
            "FROM busybox\nADD {} /x\nADD {}#{commit} /y\n",
            server.url("plain/a.git"),
            server.url("plain/a.git")
        ),
        &[],
    )
    .ok();
    assert_eq!(runs(&engine, "cat /x/file /y/file"), "texttext");
    let port = corten_tests::free_port();
    // The program itself: another one in front of it would be ended without it.
    let programs = run(Command::new("git").arg("--exec-path")).ok();
    let mut daemon = Command::new(Path::new(&programs).join("git-daemon"));
    daemon.args(["--export-all", "--listen=127.0.0.1", "--reuseaddr"]);
    daemon.arg(format!("--port={port}")).arg(format!("--base-path={}", server.root().display()));
    let mut daemon = daemon.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the daemon listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let built =
        build(&engine, &format!("FROM busybox\nADD git://127.0.0.1:{port}/a.git#main /x\n"), &["--no-cache"]);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    built.ok();
    assert_eq!(runs(&engine, "cat /x/file"), "text");
}

/// The processes that work in a directory below another one.
fn workers(above: &Path) -> usize {
    let above = above.canonicalize().unwrap_or_default();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(|at| at.starts_with(&above)))
        .count()
}

#[test]
fn a_fetch_ends_with_whoever_wants_it() {
    let mut engine = TestEngine::with_busybox();
    let server = GitServer::new();
    server.with("a.git", &[("file", "text")]);
    server.stall(true);
    let context = context(&format!("FROM busybox\nADD {} /x\n", server.url("a.git")));
    let start = |engine: &TestEngine| {
        let mut corten = engine.command(&["build", &context.path().display().to_string()]);
        corten.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let archives = engine.data_root().join("build/archives");
    let mut client = start(&engine);
    eventually("git waits for the server", || workers(&archives) > 0 && !server.asked().is_empty());
    client.kill().unwrap();
    client.wait().unwrap();
    eventually("git has ended with the client", || workers(&archives) == 0);
    is_swept(&engine);
    let mut client = start(&engine);
    eventually("git waits for the server", || workers(&archives) > 0 && !server.asked().is_empty());
    engine.kill();
    client.wait().unwrap();
    engine.restart();
    eventually("git has ended with the next engine", || workers(&archives) == 0);
    is_swept(&engine);
    server.stall(false);
    build(&engine, &format!("FROM busybox\nADD {} /x\n", server.url("a.git")), &[]).ok();
    assert_eq!(runs(&engine, "cat /x/file"), "text");
}

#[test]
fn ssh_shows_the_clients_keys_and_no_others() {
    let engine = TestEngine::with_busybox();
    let (agent, stranger) = (Agent::new(), Agent::new());
    let server = SshServer::letting_in(&agent);
    let repositories = GitServer::new();
    repositories.with("inner.git", &[("deep", "inner")]);
    repositories.with("a.git", &[("file", "text"), ("Dockerfile", "FROM busybox\nCOPY . /whole\n")]);
    let url = server.url(&repositories.root().join("a.git"));
    let inner = server.url(&repositories.root().join("inner.git"));
    repositories.git("inner.git", &["update-server-info"]);
    let clone = "[submodule \"inner\"]\n\tpath = inner\n\turl = ../inner.git\n";
    repositories.write("a.git", ".gitmodules", clone);
    let commit = repositories.git("inner.git", &["rev-parse", "HEAD"]);
    repositories.git("a.git", &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},inner")]);
    repositories.git("a.git", &["add", ".gitmodules"]);
    repositories.git("a.git", &["commit", "-q", "-m", "with another one"]);

    let context = context(&format!("FROM busybox\nADD {url} /x\nADD {inner} /inner\n"));
    let build = |agent: Option<&Agent>, arguments: &[&str]| {
        let mut corten = engine.command(&["build", "-t", "test", "--progress", "plain"]);
        corten.args(arguments).env_remove("SSH_AUTH_SOCK");
        run(corten.envs(agent.map(|agent| ("SSH_AUTH_SOCK", agent.socket()))))
    };
    let place = context.path().display().to_string();
    let told = build(Some(&stranger), &["--ssh", "default", &place]).fails(1);
    assert!(told.contains("Permission denied") && told.contains("Dockerfile:2"), "{told}");
    let told = build(None, &[&place]).fails(1);
    assert!(told.contains("--ssh default"), "{told}");
    build(Some(&agent), &["--ssh", "default", &place]).ok();
    assert_eq!(runs(&engine, "cat /x/file /x/inner/deep /inner/deep"), "textinnerinner");
    // As a context, too.
    build(Some(&agent), &["--ssh", "default", &url]).ok();
    assert_eq!(runs(&engine, "cat /whole/file /whole/inner/deep"), "textinner");
    is_swept(&engine);
}

#[test]
fn a_host_without_git_is_told_of() {
    let empty = tempfile::tempdir().unwrap();
    let engine = TestEngine::start_in(&[("PATH", empty.path().as_os_str())]);
    engine.add_busybox();
    let server = GitServer::new();
    server.with("a.git", &[("file", "text")]);
    let told = build(&engine, &format!("FROM busybox\nADD {} /x\n", server.url("a.git")), &[]).fails(1);
    assert!(told.contains("install the package git") && told.contains("Dockerfile:2"), "{told}");
    // All else needs none.
    build(&engine, "FROM busybox\nRUN echo text > /x\n", &[]).ok();
    assert_eq!(runs(&engine, "cat /x"), "text");
}
