//! The protocol with Docker's own buildx: an engine that is nothing but `/_ping`, `/version`, `/grpc` and `/session`, with a builder
//! that reads what it is given and tells of it. Without a docker CLI or buildx (`scripts/docker-plugins target/clients`) the tests
//! say so and pass.

use async_trait::async_trait;
use bytes::Bytes;
use corten_build::{
    Answer, Definition, Error, Event, Log, Options, Question, RemoteContext, Result, Stream, Teller, Tree,
    Vertex,
};
use corten_buildkit::{
    Builder, Built, Controller, Image, Job, Manifest, Output, Past, Prune, Recording, Store, Usage, Worker,
};
use corten_image::{Digest, Platform};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::io::BufRead;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output as Finished, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tokio::net::UnixListener;
use tokio::runtime::Runtime;

/// What the builder was given, as text.
type Seen = Arc<Mutex<Vec<String>>>;

/// A build that is in no history.
struct Noted(Past);

#[async_trait]
impl Recording for Noted {
    async fn end(self: Box<Self>, outcome: std::result::Result<Built, String>) {
        if let Err(error) = outcome {
            assert!(!error.is_empty(), "{}", self.0.reference);
        }
    }
}

/// Reads the context, and does what the Dockerfile's first line says after `#`.
struct Reader {
    seen: Seen,
    contexts: Store,
}

impl Reader {
    fn note(&self, text: String) {
        self.seen.lock().unwrap().push(text);
    }
}

#[async_trait]
impl Builder for Reader {
    fn worker(&self) -> Worker {
        Worker {
            id: "reader".into(),
            labels: BTreeMap::new(),
            platforms: vec![Platform::new("linux", "amd64", None)],
            version: "0.1.0".into(),
        }
    }

    fn record(&self, about: Past, teller: Teller) -> (Box<dyn Recording>, Teller) {
        (Box::new(Noted(about)), teller)
    }

    async fn history(&self) -> Result<Vec<Past>> {
        Ok(Vec::new())
    }

    fn history_changes(&self) -> tokio::sync::watch::Receiver<u64> {
        tokio::sync::watch::channel(0).1
    }

    async fn told(&self, reference: &str) -> Result<Vec<Event>> {
        Err(Error::NotFound(reference.to_owned()))
    }

    async fn pin(&self, reference: &str, _: bool) -> Result<()> {
        Err(Error::NotFound(reference.to_owned()))
    }

    async fn forget(&self, reference: &str) -> Result<()> {
        Err(Error::NotFound(reference.to_owned()))
    }

    async fn remote_context(
        &self,
        url: &str,
        _: &Options,
        _: Arc<dyn corten_build::Asker>,
        _: &Teller,
    ) -> Result<RemoteContext> {
        Err(Error::Invalid(format!("{url} is far away")))
    }

    async fn unpack(&self, archive: Box<dyn BufRead + Send>) -> Result<Tree> {
        let unpack = move || {
            let place = tempfile::tempdir().unwrap();
            let mut tar = Command::new("tar");
            tar.args(["-xf", "-", "-C"]).arg(place.path()).stdin(Stdio::piped());
            let mut tar = tar.spawn().unwrap();
            let mut archive = archive;
            std::io::copy(&mut archive, &mut tar.stdin.take().unwrap()).unwrap();
            assert!(tar.wait().unwrap().success());
            let root = fs::File::open(place.path()).unwrap();
            Tree { root: Arc::new(root.into()), keep: Some(Arc::new(place)) }
        };
        Ok(tokio::task::spawn_blocking(unpack).await.unwrap())
    }

    async fn answer(&self, question: Question, definition: Definition, options: Options) -> Result<Answer> {
        question.answer(&definition, &options, &|_, _| None)
    }

    async fn build(&self, job: Job) -> Result<Built> {
        let source =
            read(&corten_build::Asker::tree(&*job.asker, "dockerfile").await?, &job.options.dockerfile);
        let task = source.lines().next().unwrap_or_default().trim_start_matches("# ").to_owned();
        let id = Digest::of(task.as_bytes());
        let mut vertex = Vertex {
            id,
            inputs: vec![],
            name: format!("[1/1] {task}"),
            started: Some(SystemTime::now()),
            completed: None,
            is_cached: false,
            error: None,
        };
        let tell = |event| async { job.teller.send(event).await.map_err(|_| Error::Canceled) };
        tell(Event::Vertex(vertex.clone())).await?;
        match task.split_once(' ').unwrap_or((&task, "")) {
            ("context", _) => {
                let tree = corten_build::Asker::tree(&*job.asker, "context").await?;
                self.note(list(&PathBuf::from(format!("/proc/self/fd/{}", tree.root.as_raw_fd()))));
            }
            ("secret", id) => {
                let secret = corten_build::Asker::secret(&*job.asker, id).await?;
                self.note(format!("{:?}", secret.map(|bytes| String::from_utf8(bytes).unwrap())));
            }
            ("credentials", host) => {
                let known = corten_build::Asker::login(&*job.asker, host).await?;
                self.note(format!("{:?}", known.map(|known| (known.username, known.secret))));
            }
            ("input", name) => {
                let input = corten_build::Asker::input(&*job.asker, name).await;
                self.note(input.err().map(|error| error.to_string()).unwrap_or_default());
            }
            ("print", text) => {
                let bytes = format!("{text}\n").into_bytes();
                tell(Event::Log(Log { vertex: id, stream: Stream::Stdout, bytes, at: SystemTime::now() }))
                    .await?;
            }
            ("fail", _) => {
                let error = Error::Exit { command: "/bin/sh -c false".into(), code: 1 };
                vertex.completed = Some(SystemTime::now());
                vertex.error = Some(error.to_string());
                tell(Event::Vertex(vertex)).await?;
                return Err(error.at(2, 2));
            }
            ("wait", _) => {
                let gone = Gone(self.seen.clone());
                self.note("waiting".into());
                std::future::pending::<()>().await;
                drop(gone);
            }
            ("file", _) => {
                for output in &job.outputs {
                    let (Output::Image { number, .. } | Output::Archive { number, .. }) = output else {
                        continue;
                    };
                    let mut file = job.asker.send_file(*number, &BTreeMap::new()).await?;
                    let sent = file.write(Bytes::from_static(&[7; 3 << 20])).await;
                    sent.map_err(|status| Error::Internal(status.to_string()))?;
                    file.finish().await.map_err(|status| Error::Internal(status.to_string()))?;
                }
            }
            _ => {}
        }
        vertex.completed = Some(SystemTime::now());
        tell(Event::Vertex(vertex)).await?;
        self.note(format!("{:?} {:?}", job.options.tags, job.options.build_args));
        let manifest = Manifest { media_type: String::new(), digest: id, bytes: 0 };
        Ok(Built { image: Some(Image { id: Some(id), manifest, names: job.options.tags }), cache: None })
    }

    async fn usage(&self) -> Result<Vec<Usage>> {
        let usage = |kept: corten_buildkit::KeptContext| Usage {
            id: kept.name,
            description: "context".into(),
            kind: "source.local".into(),
            bytes: kept.bytes,
            created: None,
            last_used: Some(kept.used),
            use_count: 1,
            is_mutable: true,
            is_in_use: kept.in_use,
            is_shared: false,
            parents: Vec::new(),
        };
        Ok(self.contexts.usage().unwrap().into_iter().map(usage).collect())
    }

    async fn prune(&self, _: Prune) -> Result<Vec<Usage>> {
        let kept = self.usage().await?;
        self.contexts.forget(|_, _| true).unwrap();
        Ok(kept)
    }
}

/// Notes that the build was given up.
struct Gone(Seen);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.lock().unwrap().push("given up".into());
    }
}

fn read(tree: &corten_build::Tree, name: &str) -> String {
    fs::read_to_string(format!("/proc/self/fd/{}/{name}", tree.root.as_raw_fd())).unwrap()
}

/// Each file's name, mode and contents, a link's target.
fn list(root: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let mut lines = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            let name = entry.strip_prefix(root).unwrap().display().to_string();
            let metadata = fs::symlink_metadata(&entry).unwrap();
            let what = if metadata.is_dir() {
                open.push(entry);
                "/".to_owned()
            } else if metadata.is_symlink() {
                format!(" -> {}", fs::read_link(&entry).unwrap().display())
            } else {
                format!(" {:o} {}", metadata.mode() & 0o7777, fs::read_to_string(&entry).unwrap())
            };
            lines.push(format!("{name}{what}"));
        }
    }
    lines.sort();
    lines.join("|")
}

async fn answer(controller: Arc<Controller>, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let upgrade = request.headers().contains_key(UPGRADE).then(|| hyper::upgrade::on(&mut request));
    let path = request.uri().path();
    let path =
        path.strip_prefix("/v1.").and_then(|rest| rest.find('/').map(|at| &rest[at..])).unwrap_or(path);
    let body = match (path, upgrade) {
        ("/_ping", _) => "OK",
        ("/version", _) => r#"{"Version":"28.0.0","ApiVersion":"1.47","Os":"linux","Arch":"amd64"}"#,
        ("/info", _) => r#"{"ID":"x","OSType":"linux","Architecture":"x86_64"}"#,
        ("/grpc", Some(upgrade)) => {
            tokio::spawn(async move { controller.serve(upgrade.await.unwrap()).await });
            return switching();
        }
        ("/session", Some(upgrade)) => {
            let session = controller.welcome(request.headers()).unwrap();
            tokio::spawn(async move { session.run(upgrade.await.unwrap()).await });
            return switching();
        }
        _ => {
            let mut response = Response::new(Full::from("{\"message\":\"page not found\"}"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        }
    };
    let mut response = Response::new(Full::from(body));
    response.headers_mut().insert("api-version", HeaderValue::from_static("1.47"));
    response.headers_mut().insert("ostype", HeaderValue::from_static("linux"));
    response.headers_mut().insert("builder-version", HeaderValue::from_static("2"));
    response
}

fn switching() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("h2c"));
    response
}

/// An engine on a socket of its own.
struct Engine {
    directory: tempfile::TempDir,
    plugins: PathBuf,
    seen: Seen,
    _runtime: Runtime,
}

impl Engine {
    /// None where there is no buildx.
    fn start() -> Option<Self> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let plugins = std::env::var_os("CORTEN_DOCKER_PLUGINS")
            .map_or_else(|| repository.join("target/clients"), PathBuf::from);
        let found = Command::new("docker").arg("--version").stdout(Stdio::null()).status().is_ok();
        if !found || !plugins.join("cli-plugins/docker-buildx").exists() {
            eprintln!(
                "no docker CLI with buildx here (scripts/docker-plugins target/clients): nothing is tested"
            );
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let seen = Seen::default();
        let store = Store::new(directory.path().join("contexts"));
        let controller =
            Controller::new(Arc::new(Reader { seen: seen.clone(), contexts: store.clone() }), store);
        let runtime = Runtime::new().unwrap();
        let socket = directory.path().join("engine.sock");
        let listener = {
            let _within = runtime.enter();
            UnixListener::bind(socket).unwrap()
        };
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let controller = controller.clone();
                let service = service_fn(move |request| {
                    let controller = controller.clone();
                    async move { Ok::<_, Infallible>(answer(controller, request).await) }
                });
                tokio::spawn(
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades(),
                );
            }
        });
        Some(Self { directory, plugins, seen, _runtime: runtime })
    }

    /// A context whose Dockerfile has the builder do something.
    fn context(&self, task: &str) -> PathBuf {
        let context = self.directory.path().join("context");
        fs::create_dir_all(&context).unwrap();
        fs::write(context.join("Dockerfile"), format!("# {task}\nFROM scratch\n")).unwrap();
        context
    }

    fn docker(&self, arguments: &[&str]) -> Command {
        let config = self.directory.path().join("config");
        fs::create_dir_all(&config).unwrap();
        let plugins = config.join("cli-plugins");
        if !plugins.exists() {
            std::os::unix::fs::symlink(self.plugins.join("cli-plugins"), &plugins).unwrap();
        }
        let mut command = Command::new("docker");
        command
            .args(arguments)
            .env("DOCKER_CONFIG", config)
            .env("DOCKER_HOST", format!("unix://{}", self.directory.path().join("engine.sock").display()))
            .env_remove("DOCKER_BUILDKIT")
            .current_dir(self.directory.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        // A client that waits for something that never comes is a failure, and none of the test's time.
        let docker = self.docker(arguments);
        let mut command = Command::new("timeout");
        command.args(["-k", "5", "60"]).arg(docker.get_program()).args(docker.get_args());
        for (name, value) in docker.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.current_dir(self.directory.path()).output().unwrap()
    }

    /// Builds; what it said of it.
    fn build(&self, task: &str, more: &[&str]) -> Finished {
        let context = self.context(task);
        let arguments =
            [&["buildx", "build", "--progress=plain"], more, &[context.to_str().unwrap()]].concat();
        self.run(&arguments)
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    fn eventually_seen(&self, what: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.seen.lock().unwrap().iter().any(|seen| seen == what) {
            assert!(Instant::now() < deadline, "{what}: not seen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn ok(finished: &Finished) -> String {
    let text = format!("{}{}", text(&finished.stdout), text(&finished.stderr));
    assert!(finished.status.success(), "{text}");
    text
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_builder_is_listed_and_described() {
    let Some(engine) = Engine::start() else { return };
    let listed = ok(&engine.run(&["buildx", "ls"]));
    assert!(listed.contains("running") && listed.contains("linux/amd64"), "{listed}");
    let described = ok(&engine.run(&["buildx", "inspect", "default"]));
    assert!(described.contains("Driver:") && described.contains("docker"), "{described}");
    assert!(described.contains("linux/amd64"), "{described}");
    ok(&engine.run(&["buildx", "du"]));
    ok(&engine.run(&["buildx", "prune", "-f"]));
}

#[test]
fn a_context_comes_and_then_what_changed_of_it() {
    let Some(engine) = Engine::start() else { return };
    let context = engine.context("context");
    fs::create_dir_all(context.join("deep/er")).unwrap();
    fs::write(context.join("deep/er/file"), "one").unwrap();
    fs::write(context.join("deep/left.out"), "x").unwrap();
    fs::write(context.join("tool"), "tool").unwrap();
    fs::set_permissions(context.join("tool"), std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    fs::hard_link(context.join("tool"), context.join("tool2")).unwrap();
    std::os::unix::fs::symlink("/etc/shadow", context.join("out")).unwrap();
    fs::write(context.join(".dockerignore"), "# none of it\n**/*.out\n").unwrap();
    ok(&engine.build("context", &["-t", "a:1", "--build-arg", "V=ü"]));
    let seen = engine.seen();
    let dockerfile = "Dockerfile 644 # context\nFROM scratch\n";
    let ignore = ".dockerignore 644 # none of it\n**/*.out\n";
    assert_eq!(
        seen[0],
        format!(
            "{ignore}|{dockerfile}|deep/|deep/er/|deep/er/file 644 one|out -> /etc/shadow|tool 4755 tool|tool2 4755 tool"
        )
    );
    assert_eq!(seen[1], "[\"a:1\"] {\"V\": \"ü\"}");

    fs::write(context.join("deep/er/file"), "other").unwrap();
    fs::remove_file(context.join("out")).unwrap();
    fs::create_dir(context.join("out")).unwrap();
    fs::remove_file(context.join("tool2")).unwrap();
    let said = ok(&engine.build("context", &[]));
    assert_eq!(
        engine.seen()[0],
        format!("{ignore}|{dockerfile}|deep/|deep/er/|deep/er/file 644 other|out/|tool 4755 tool")
    );
    // The Dockerfile was written again, and so has a new time.
    let bytes = "other".len() + "# context\nFROM scratch\n".len();
    assert!(said.contains(&format!("transferring context: {bytes}B")), "{said}");

    fs::remove_dir_all(context.join("deep")).unwrap();
    ok(&engine.build("context", &[]));
    assert_eq!(engine.seen()[0], format!("{ignore}|{dockerfile}|out/|tool 4755 tool"));
    let kept = ok(&engine.run(&["buildx", "du"]));
    assert!(kept.contains("Total"), "{kept}");
    ok(&engine.run(&["buildx", "prune", "-f"]));
    assert_eq!(fs::read_dir(engine.directory.path().join("contexts")).unwrap().count(), 0);
}

#[test]
fn an_archive_on_standard_input_is_taken_whole() {
    let Some(engine) = Engine::start() else { return };
    let context = engine.context("context");
    // Of several messages.
    fs::write(context.join("large"), "x".repeat(10 << 20)).unwrap();
    let archive = engine.directory.path().join("archive.tar");
    let packed = Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&context).arg(".").status();
    assert!(packed.unwrap().success());
    let mut client = engine.docker(&["buildx", "build", "--progress=plain", "-"]);
    let said = ok(&client.stdin(fs::File::open(&archive).unwrap()).output().unwrap());
    assert!(said.contains("transferring context: 10."), "{said}");
    let seen = engine.seen();
    let expected = format!("Dockerfile 644 # context\nFROM scratch\n|large 644 {}", "x".repeat(10 << 20));
    assert!(seen[0] == expected, "{} bytes", seen[0].len());
}

#[test]
fn who_goes_on_from_a_build_that_keeps_nothing_is_told() {
    let Some(engine) = Engine::start() else { return };
    let context = engine.context("print x");
    fs::write(context.join("other"), "# input 0-base\nFROM scratch\n").unwrap();
    let file = engine.directory.path().join("bake.json");
    fs::write(
        &file,
        r#"{"target": {
            "base": {"context": "context"},
            "default": {"context": "context", "dockerfile": "other", "contexts": {"base": "target:base"}}
        }}"#,
    )
    .unwrap();
    ok(&engine.run(&["buildx", "bake", "--progress=plain", "-f", file.to_str().unwrap()]));
    assert!(engine.seen().contains(&"its build has ended before".to_owned()));
}

#[test]
fn secrets_and_passwords_are_asked_for() {
    let Some(engine) = Engine::start() else { return };
    let file = engine.directory.path().join("secret");
    fs::write(&file, "hush").unwrap();
    let secret = format!("id=pin,src={}", file.display());
    ok(&engine.build("secret pin", &["--secret", &secret]));
    assert_eq!(engine.seen()[0], "Some(\"hush\")");
    ok(&engine.build("secret other", &["--secret", &secret]));
    assert_eq!(engine.seen()[0], "None");
    ok(&engine.build("secret pin", &[]));
    assert_eq!(engine.seen()[0], "None");
    // Docker's own place for passwords: amp:le in base64.
    let config = engine.directory.path().join("config");
    fs::write(config.join("config.json"), r#"{"auths":{"r.example":{"auth":"YW1wOmxl"}}}"#).unwrap();
    ok(&engine.build("credentials r.example", &[]));
    assert_eq!(engine.seen()[0], "Some((\"amp\", \"le\"))");
}

#[test]
fn progress_and_errors_look_as_people_know_them() {
    let Some(engine) = Engine::start() else { return };
    let said = ok(&engine.build("print hello there", &[]));
    for line in [
        "[internal] load build definition from Dockerfile",
        "transferring dockerfile: ",
        "[1/1] print hello there",
        "hello there",
        "DONE",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let failed = engine.build("fail", &[]);
    let said = text(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "{said}");
    for line in [
        "Dockerfile:2",
        "   2 | >>> FROM scratch",
        "ERROR: failed to solve: process \"/bin/sh -c false\" did not complete successfully: exit code: 1",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
}

#[test]
fn what_is_not_spoken_is_refused_in_words() {
    let Some(engine) = Engine::start() else { return };
    for (arguments, words) in [
        (&["--platform", "linux/amd64,linux/arm64"][..], "not supported"),
        (&["--allow", "security.insecure"], "security.insecure is not allowed"),
        (&["--build-arg", "BUILDKIT_SYNTAX=example.org/front"], "is a frontend image"),
        (&["--cache-from", "type=other,name=a"], "a build cache of type \"other\" is not supported"),
        (&["-f", "nowhere"], "nowhere"),
    ] {
        let refused = engine.build("print x", arguments);
        let said = text(&refused.stderr);
        assert!(!refused.status.success() && said.contains(words), "{arguments:?}: {said}");
    }
    let context = engine.context("syntax=example.org/front:1");
    let refused = engine.run(&["buildx", "build", context.to_str().unwrap()]);
    assert!(text(&refused.stderr).contains("is a frontend image"), "{}", text(&refused.stderr));
}

#[test]
fn a_file_is_handed_over_and_an_image_has_its_id() {
    let Some(engine) = Engine::start() else { return };
    let file = engine.directory.path().join("out.tar");
    ok(&engine.build("file", &["-o", &format!("type=tar,dest={}", file.display())]));
    assert_eq!(fs::read(&file).unwrap(), vec![7; 3 << 20]);
    let id = engine.directory.path().join("id");
    ok(&engine.build("print x", &["--iidfile", id.to_str().unwrap()]));
    assert_eq!(fs::read_to_string(id).unwrap(), Digest::of(b"print x").to_string());
}

#[test]
fn a_client_that_is_killed_ends_its_build() {
    let Some(engine) = Engine::start() else { return };
    let context = engine.context("wait");
    // buildx itself: the docker command in front of it would only wait for it.
    let mut command = Command::new(engine.plugins.join("cli-plugins/docker-buildx"));
    let reference = engine.docker(&[]);
    for (name, value) in reference.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.args(["build", context.to_str().unwrap()]).stderr(Stdio::null());
    let mut client = command.spawn().unwrap();
    engine.eventually_seen("waiting");
    client.kill().unwrap();
    client.wait().unwrap();
    engine.eventually_seen("given up");
}
