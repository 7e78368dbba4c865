//! Repositories on loopback for builds to fetch: over HTTP as `git http-backend` serves them, or as plain files of a web server that knows
//! nothing of git.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

use crate::run;

/// When the commits of [`GitServer::commit`] are made: 2001-09-09T01:46:40Z.
pub const COMMITTED_AT: &str = "1000000000 +0000";

/// A server with repositories, and a work tree for each.
pub struct GitServer {
    port: u16,
    directory: TempDir,
    state: Arc<State>,
}

struct State {
    root: PathBuf,
    /// What `Authorization` has to be.
    authorization: Mutex<Option<String>>,
    /// First lines of requests, with the `Authorization` behind them.
    asked: Mutex<Vec<String>>,
    /// Is looked for in the arguments of all processes while a request is answered.
    secret: Mutex<Option<String>>,
    was_seen: Mutex<bool>,
    /// Requests are taken and not answered.
    stalls: Mutex<bool>,
}

impl GitServer {
    pub fn new() -> GitServer {
        let directory = TempDir::new().expect("a directory");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(State {
            root: directory.path().join("served"),
            authorization: Mutex::default(),
            asked: Mutex::default(),
            secret: Mutex::default(),
            was_seen: Mutex::default(),
            stalls: Mutex::default(),
        });
        let own = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = own.clone();
                let (sender, ended) = std::sync::mpsc::channel();
                std::thread::spawn(move || {
                    let is_last = serve(stream, &state).is_none();
                    let _ = sender.send(is_last);
                });
                // A last visit ends it; one that goes on is not waited for.
                if ended.recv_timeout(Duration::from_millis(200)) == Ok(true) {
                    return;
                }
            }
        });
        GitServer { port, directory, state }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// The host as a secret's name has it.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where the repositories lie.
    pub fn root(&self) -> &Path {
        &self.state.root
    }

    /// Where a repository's files lie, to be changed and committed.
    pub fn work(&self, name: &str) -> PathBuf {
        self.directory.path().join("work").join(name)
    }

    /// Runs git in a repository, which is made when there is none.
    pub fn git(&self, name: &str, arguments: &[&str]) -> String {
        let (bare, work) = (self.state.root.join(name), self.work(name));
        let command = |arguments: &[&str]| {
            let mut command = Command::new("git");
            command.args(arguments).current_dir(&work).env_clear();
            command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
            command.env("GIT_DIR", &bare).env("GIT_WORK_TREE", &work).env("HOME", "/dev/null");
            command.env("GIT_CONFIG_NOSYSTEM", "1");
            for who in ["AUTHOR", "COMMITTER"] {
                command.env(format!("GIT_{who}_NAME"), "somebody").env(format!("GIT_{who}_EMAIL"), "a@b");
                command.env(format!("GIT_{who}_DATE"), COMMITTED_AT);
            }
            run(&mut command).ok()
        };
        if !bare.exists() {
            fs::create_dir_all(&work).expect("a directory");
            fs::create_dir_all(&self.state.root).expect("a directory");
            command(&["-c", "init.defaultBranch=main", "init", "-q"]);
        }
        command(arguments)
    }

    pub fn write(&self, name: &str, path: &str, text: &str) {
        let path = self.work(name).join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    /// Commits all that is in the work tree; gives the commit.
    pub fn commit(&self, name: &str) -> String {
        self.git(name, &["add", "-A"]);
        self.git(name, &["commit", "-q", "--allow-empty", "-m", "a change"]);
        self.git(name, &["update-server-info"]);
        self.git(name, &["rev-parse", "HEAD"])
    }

    /// A repository with one commit of these files; gives the commit.
    pub fn with(&self, name: &str, files: &[(&str, &str)]) -> String {
        self.git(name, &["status"]);
        files.iter().for_each(|(path, text)| self.write(name, path, text));
        self.commit(name)
    }

    /// From now on only who says this in `Authorization` gets an answer.
    pub fn require(&self, authorization: &str) {
        *self.state.authorization.lock().expect("a lock") = Some(authorization.to_owned());
    }

    /// Looks for a text in the arguments of all processes from now on, whenever it is asked something.
    pub fn look_for(&self, secret: &str) {
        *self.state.secret.lock().expect("a lock") = Some(secret.to_owned());
    }

    pub fn has_seen(&self) -> bool {
        *self.state.was_seen.lock().expect("a lock")
    }

    /// From now on requests are taken and not answered.
    pub fn stall(&self, stalls: bool) {
        *self.state.stalls.lock().expect("a lock") = stalls;
    }

    /// What it was asked since the last time.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.state.asked.lock().expect("a lock"))
    }
}

impl Default for GitServer {
    fn default() -> GitServer {
        GitServer::new()
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.stall(false);
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            let _ = stream.write_all(b"END\r\n\r\n");
        }
    }
}

fn serve(stream: TcpStream, state: &State) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while reader.read_line(&mut head).is_ok_and(|count| count > 2) {}
    if head.starts_with("END") {
        return None;
    }
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(':'));
        let mut found = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let first = head.lines().next().unwrap_or_default();
    let authorization = header("authorization");
    state.asked.lock().expect("a lock").push(format!("{first} {authorization}").trim_end().to_owned());
    if let Some(secret) = &*state.secret.lock().expect("a lock") {
        *state.was_seen.lock().expect("a lock") |= is_an_argument(secret);
    }
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let mut stream = reader.into_inner();
    if *state.stalls.lock().expect("a lock") {
        // Until the other side gives up.
        let _ = stream.read(&mut [0]);
        return Some(());
    }
    let answer = match &*state.authorization.lock().expect("a lock") {
        Some(wanted) if *wanted != authorization => {
            b"Status: 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n".to_vec()
        }
        _ => answer(first, &header, &body, &state.root),
    };
    let status = answer.strip_prefix(b"Status: ").map_or_else(
        || b"200 OK\r\n".to_vec(),
        |rest| rest.iter().copied().take_while(|byte| *byte != b'\n').chain([b'\n']).collect(),
    );
    let _ = stream.write_all(b"HTTP/1.1 ");
    let _ = stream.write_all(&status);
    let _ = stream.write_all(b"Connection: close\r\n");
    let _ = stream.write_all(&answer);
    Some(())
}

/// What `git http-backend` says; below `plain/` the files as they are.
fn answer(first: &str, header: &dyn Fn(&str) -> String, body: &[u8], root: &Path) -> Vec<u8> {
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if let Some(path) = path.strip_prefix("/plain/") {
        return match fs::read(root.join(path)) {
            Ok(bytes) => [b"Content-Type: application/octet-stream\r\n\r\n".as_slice(), &bytes].concat(),
            Err(_) => b"Status: 404 Not Found\r\n\r\n".to_vec(),
        };
    }
    let mut backend = Command::new("git");
    backend.arg("http-backend").env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    backend.env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1").env("PATH_INFO", path);
    backend.env("QUERY_STRING", query).env("REQUEST_METHOD", method).env("HOME", "/dev/null");
    backend.env("CONTENT_TYPE", header("content-type")).env("CONTENT_LENGTH", body.len().to_string());
    backend.env("HTTP_GIT_PROTOCOL", header("git-protocol"));
    backend.env("HTTP_CONTENT_ENCODING", header("content-encoding"));
    backend.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = backend.spawn().expect("git http-backend");
    let _ = child.stdin.take().expect("its input").write_all(body);
    child.wait_with_output().expect("its end").stdout
}

/// Whether a text stands among the arguments of any process but this one.
fn is_an_argument(secret: &str) -> bool {
    let own = std::process::id().to_string();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut others = processes.filter(|entry| entry.file_name().to_str() != Some(&own));
    others.any(|entry| {
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(secret)
    })
}
