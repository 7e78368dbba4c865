//! TLS on TCP with our CLI, the docker CLI and docker-py; contexts, shared with the docker CLI; hosts behind SSH.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use corten_tests::{TestEngine, binary, run, run_with_input};
use tempfile::TempDir;

/// An authority, and certificates of a server and a client that it has signed, in `server/` and `client/`; `stranger/` has one of
/// another authority.
fn certificates() -> TempDir {
    let dir = TempDir::new().expect("a directory");
    let script = r#"
        set -e
        authority() { openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$1" -keyout "$1-ca-key.pem" -out "$1-ca.pem"; }
        issue() {
            mkdir "$2"; cp "$4-ca.pem" "$2/ca.pem"
            openssl req -newkey rsa:2048 -nodes -subj "/CN=$2" -keyout "$2/key.pem" -out "$2.csr"
            printf "$3" > "$2.ext"
            openssl x509 -req -days 2 -in "$2.csr" -CA "$1-ca.pem" -CAkey "$1-ca-key.pem" -CAcreateserial -extfile "$2.ext" -out "$2/cert.pem"
        }
        authority ours; authority theirs
        issue ours server 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth' ours
        issue ours client 'extendedKeyUsage=clientAuth' ours
        issue theirs stranger 'extendedKeyUsage=clientAuth' ours
    "#;
    run(Command::new("sh").args(["-c", script]).current_dir(dir.path())).ok();
    dir
}

/// The port that is free is chosen by whoever binds it, so that nobody can take it before.
const ANY_PORT: &str = "tcp://127.0.0.1:0";

/// An engine that also listens on TCP for clients with certificates; the address.
fn engine(certificates: &Path) -> (TestEngine, String) {
    let path = |name: &str| certificates.join(name).display().to_string();
    let (ca, cert, key) = (path("server/ca.pem"), path("server/cert.pem"), path("server/key.pem"));
    let flags = ["-H", ANY_PORT, "--tlsverify", "--tlscacert", &ca, "--tlscert", &cert, "--tlskey", &key];
    let engine = TestEngine::start_with(&flags);
    let address = format!("tcp://{}", engine.listens_on_tcp("API"));
    engine.add_busybox();
    (engine, address)
}

/// A client without a configuration of its own.
fn client(program: &Path, certificates: &Path, address: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", "/nonexistent");
    command.env("DOCKER_CERT_PATH", certificates).env("DOCKER_TLS_VERIFY", "1").env("DOCKER_HOST", address);
    command
}

fn clients() -> [PathBuf; 2] {
    [binary("corten"), PathBuf::from("docker")]
}

#[test]
fn clients_with_certificates_do_everything_and_others_nothing() {
    let certificates = certificates();
    let (engine, address) = engine(certificates.path());
    for program in clients() {
        let ours = || client(&program, &certificates.path().join("client"), &address);
        assert_eq!(
            run(ours().args(["info", "--format", "{{.ID}}"])).ok(),
            engine.corten(&["info", "-f", "{{.ID}}"]).ok()
        );
        // Attached, both ways; the end of the input is passed on, and the output that follows it comes.
        let mut cat = ours();
        cat.args(["run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo end >&2"]);
        let large = "0123456789abcde\n".repeat(100_000);
        let output = run_with_input(&mut cat, &large);
        assert_eq!((output.code, output.stdout.len(), output.stderr.as_str()), (0, large.len(), "end\n"));
        let id = run(ours().args(["run", "-d", "busybox", "sleep", "1000"])).ok();
        let mut exec = ours();
        exec.args(["exec", "-i", &id, "sh", "-c", "cat; exit 3"]);
        let output = run_with_input(&mut exec, "typed");
        assert_eq!((output.code, output.stdout.as_str()), (3, "typed"));
        let other = run(ours().args(["run", "-d", "busybox", "sleep", "1000"])).ok();
        // Several at once go over several connections.
        run(ours().args(["rm", "-f", &id, &other])).ok();
        assert!(run(ours().arg("version")).ok().contains("Server"));

        let stranger = run(client(&program, &certificates.path().join("stranger"), &address).arg("ps"));
        assert_ne!(stranger.code, 0, "{stranger:?}");
        let mut nobody = client(&program, Path::new("/nonexistent"), &address);
        assert_ne!(run(nobody.env("DOCKER_TLS", "1").env_remove("DOCKER_TLS_VERIFY").arg("ps")).code, 0);
        let plain = run(client(&program, Path::new("/nonexistent"), &address)
            .env_remove("DOCKER_TLS_VERIFY")
            .arg("ps"));
        assert_ne!(plain.code, 0);
        // The server's name is another's: refused, unless nobody wants to know.
        let elsewhere = address.replace("127.0.0.1", "127.0.0.2");
        assert_ne!(run(client(&program, &certificates.path().join("client"), &elsewhere).arg("ps")).code, 0);
    }
    let mut careless = client(&binary("corten"), &certificates.path().join("client"), &address);
    run(careless.env_remove("DOCKER_TLS_VERIFY").args(["--tls", "ps"])).ok();

    // Each of the usual mistakes is named.
    let mistake = |certificates: &str, arguments: &[&str]| {
        let mut ours = client(&binary("corten"), Path::new(certificates), &address);
        run(ours.env_remove("DOCKER_TLS_VERIFY").args(arguments).arg("ps")).stderr
    };
    assert!(mistake("/nonexistent", &[]).contains("hint: that port may speak TLS"));
    let ca = certificates.path().join("client/ca.pem");
    let without = mistake("/nonexistent", &["--tlsverify", "--tlscacert", &ca.display().to_string()]);
    assert!(without.contains("CertificateRequired") && without.contains("--tlscert"), "{without}");
    let stranger = certificates.path().join("stranger");
    let strange = mistake(&stranger.display().to_string(), &["--tls"]);
    assert!(strange.contains("fatal alert") && strange.contains("--tlscert"), "{strange}");
}

#[test]
fn docker_py_speaks_tls() {
    let certificates = certificates();
    let (_engine, address) = engine(certificates.path());
    let script = r#"
import docker
client = docker.from_env()
print(client.containers.run("busybox", ["echo", "hello"], remove=True).decode(), end="")
container = client.containers.run("busybox", ["sleep", "1000"], detach=True)
print(container.exec_run(["echo", "from exec"]).output.decode(), end="")
container.remove(force=True)
"#;
    let mut python = client(Path::new("python3"), &certificates.path().join("client"), &address);
    assert_eq!(run(python.args(["-c", script])).ok(), "hello\nfrom exec");
}

#[test]
fn tcp_without_client_certificates_has_to_be_said() {
    let certificates = certificates();
    let dir = TempDir::new().expect("a directory");
    let path = |name: &str| certificates.path().join("server").join(name).display().to_string();
    let refused = |flags: &[&str]| {
        let mut daemon = Command::new(binary("corten"));
        daemon.args(["daemon", "-H", "tcp://127.0.0.1:1", "--data-root"]).arg(dir.path());
        run(daemon.arg("--exec-root").arg(dir.path()).args(flags)).fails(1)
    };
    assert!(refused(&[]).contains("--tlsverify"));
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    assert!(refused(&["--tls", "--tlscert", &cert, "--tlskey", &key]).contains("--insecure-tcp"));
    let missing =
        refused(&["--tlsverify", "--tlscacert", "/nonexistent/ca.pem", "--tlscert", &cert, "--tlskey", &key]);
    assert!(missing.contains("/nonexistent/ca.pem"), "{missing}");

    let flags = ["-H", ANY_PORT, "--insecure-tcp", "--tls", "--tlscert", &cert, "--tlskey", &key];
    let engine = TestEngine::start_with(&flags);
    let address = format!("tcp://{}", engine.listens_on_tcp("API"));
    let ca = certificates.path().join("client/ca.pem");
    let mut anybody = Command::new(binary("corten"));
    run(anybody.args(["-H", &address, "--tlsverify", "--tlscacert"]).arg(ca).args(["ps", "-q"])).ok();
}

#[test]
fn contexts_are_shared_with_docker() {
    let certificates = certificates();
    let (_engine, address) = engine(certificates.path());
    let config = TempDir::new().expect("a directory");
    let cli = |program: &Path, args: &[&str]| {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", "/nonexistent");
        run(command.env("DOCKER_CONFIG", config.path()).args(args))
    };
    let (corten, docker) = (binary("corten"), PathBuf::from("docker"));
    let file = |name: &str| certificates.path().join("client").join(name).display().to_string();
    let endpoint =
        format!("host={address},ca={},cert={},key={}", file("ca.pem"), file("cert.pem"), file("key.pem"));
    let created =
        cli(&corten, &["context", "create", "ours", "--description", "an engine", "--docker", &endpoint]);
    assert_eq!(
        (created.stdout.as_str(), created.stderr.as_str()),
        ("ours\n", "Successfully created context \"ours\"\n")
    );
    cli(&docker, &["context", "create", "theirs", "--docker", "host=unix:///nonexistent.sock"]).ok();
    // Each sees the other's, alike.
    for args in [
        &["context", "inspect", "ours", "theirs"][..],
        &["context", "ls", "--format", "{{.Name}} {{.Description}} {{.Current}}"],
        &["context", "ls", "--format", "{{.Name}}!", "-q"],
        &["context", "inspect", "--format", "{{.Name}} {{.Endpoints.docker.Host}}", "ours"],
        &["context", "show"],
    ] {
        assert_eq!(cli(&corten, args).ok(), cli(&docker, args).ok(), "{args:?}");
    }
    for program in [&corten, &docker] {
        cli(program, &["--context", "ours", "ps"]).ok();
        assert_ne!(cli(program, &["--context", "theirs", "ps"]).code, 0);
        assert_ne!(cli(program, &["--context", "nosuch", "ps"]).code, 0);
        assert_ne!(cli(program, &["-H", "unix:///x", "--context", "ours", "ps"]).code, 0);
    }
    cli(&corten, &["context", "use", "ours"]).ok();
    for program in [&corten, &docker] {
        assert_eq!(cli(program, &["context", "show"]).ok(), "ours");
        cli(program, &["run", "--rm", "busybox", "true"]).ok();
        let refused = cli(program, &["context", "rm", "ours"]).fails(1);
        assert!(refused.contains("context \"ours\" is in use, set -f flag to force remove"), "{refused}");
        let refused = cli(program, &["context", "create", "b!d"]).fails(1);
        assert!(refused.contains("context name \"b!d\" is invalid"), "{refused}");
    }
    // Through an archive, both ways.
    let archive = config.path().join("archive").display().to_string();
    for (from, to, name) in [(&corten, &docker, "copy1"), (&docker, &corten, "copy2")] {
        cli(from, &["context", "export", "ours", &archive]).ok();
        cli(to, &["context", "import", name, &archive]).ok();
        cli(to, &["--context", name, "ps"]).ok();
        std::fs::remove_file(&archive).expect("remove the archive");
    }
    cli(&corten, &["context", "update", "theirs", "--docker", &endpoint]).ok();
    cli(&docker, &["--context", "theirs", "ps"]).ok();
    cli(&corten, &["context", "rm", "-f", "ours", "theirs", "copy1", "copy2"]).ok();
    assert_eq!(cli(&docker, &["context", "ls", "-q"]).ok(), "default");
    assert_eq!(cli(&docker, &["context", "show"]).ok(), "default");
}

/// `ssh` is a program that runs the rest of its line here.
#[test]
fn engines_behind_ssh() {
    let engine = TestEngine::with_busybox();
    let dir = TempDir::new().expect("a directory");
    let ssh = dir.path().join("ssh");
    let corten = binary("corten").canonicalize().expect("corten");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {}\nwhile [ \"$1\" != -- ]; do shift; done; shift 2\nPATH={}:$PATH exec sh -c \"$*\"\n",
        dir.path().join("calls").display(),
        corten.parent().expect("a directory").display(),
    );
    std::fs::write(&ssh, script).expect("a program");
    std::fs::set_permissions(&ssh, PermissionsExt::from_mode(0o755)).expect("a program");
    let host = format!("ssh://me@box:2222{}", engine.socket().display());
    let cli = |args: &[&str]| {
        let mut command = Command::new(&corten);
        command.env("PATH", format!("{}:/usr/bin:/bin", dir.path().display()));
        command.args(["-H", &host]).args(args);
        command
    };
    let id = engine.corten(&["info", "-f", "{{.ID}}"]).ok();
    assert_eq!(run(&mut cli(&["info", "-f", "{{.ID}}"])).ok(), id);
    let output = run_with_input(&mut cli(&["run", "--rm", "-i", "busybox", "cat"]), "through a tunnel\n");
    assert_eq!((output.code, output.stdout.as_str()), (0, "through a tunnel\n"));
    let calls = std::fs::read_to_string(dir.path().join("calls")).expect("calls");
    let line = calls.lines().next().expect("a call");
    assert!(line.starts_with("-l me -p 2222 -o ConnectTimeout=30 -T -- box corten --host"), "{line}");
    assert!(line.ends_with("system dial-stdio"), "{line}");
}
