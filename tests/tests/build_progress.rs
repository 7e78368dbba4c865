//! A build's progress on terminals of several sizes, one of which changes, and for programs.

use std::fs::{self, File};
use std::io::Read;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use corten_tests::{TestEngine, eventually};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tempfile::TempDir;

/// A step that says something and goes on when it is told to.
const DOCKERFILE: &str = "FROM busybox as made\nRUN echo always\n\
    RUN --mount=type=cache,target=/c for n in 1 2 3 4 5 6 7 8 9; do echo said $n; done; while [ ! -e /c/go ]; do sleep 0.1; done\n";

/// A build whose standard error is a terminal.
struct Terminal {
    child: Child,
    master: File,
    shown: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Terminal {
    fn build(engine: &TestEngine, context: &TempDir, rows: u16, columns: u16, env: &[(&str, &str)]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let master = File::from(master);
        resize(&master, rows, columns);
        let mut command = engine.command(&["build", "-t", "t", context.path().to_str().unwrap()]);
        command.env("TERM", "xterm").env_remove("NO_COLOR").env_remove("BUILDKIT_PROGRESS");
        command.envs(env.iter().copied());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(slave).spawn().unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut source, sink) = (master.try_clone().unwrap(), shown.clone());
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // It ends with an error when nobody has the other side any more.
            while let Ok(count @ 1..) = source.read(&mut piece) {
                sink.lock().unwrap().extend_from_slice(&piece[..count]);
            }
        });
        Self { child, master, shown, reader }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// All that was shown, and the exit status.
    fn end(mut self) -> (String, Option<i32>) {
        let code = self.child.wait().unwrap().code();
        self.reader.join().unwrap();
        (String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned(), code)
    }
}

fn resize(master: &File, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).unwrap();
}

fn context(dockerfile: &str) -> TempDir {
    let context = tempfile::tempdir().unwrap();
    fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    context
}

/// Lets the step go on.
fn go(engine: &TestEngine) {
    let caches = engine.data_root().join("build/caches");
    let directories = || fs::read_dir(&caches).into_iter().flatten().flatten().filter(|e| e.path().is_dir());
    eventually("the cache is there", || directories().count() > 0);
    for directory in directories() {
        fs::write(directory.path().join("go"), "").unwrap();
    }
}

/// By how many rows the cursor went up, each time.
fn ups(shown: &str) -> Vec<usize> {
    let codes = shown.split("\x1b[").skip(1);
    codes.filter_map(|code| code.split_once('A')?.0.parse().ok()).collect()
}

#[test]
fn running_steps_are_painted_and_finished_ones_stay() {
    let engine = TestEngine::with_busybox();
    let context = context(DOCKERFILE);
    let terminal = Terminal::build(&engine, &context, 24, 80, &[]);
    eventually("the step is painted", || terminal.shown().contains(" => => # said 9"));
    go(&engine);
    let (shown, code) = terminal.end();
    assert_eq!(code, Some(0), "{shown}");
    for part in [" => [made 2/3] RUN echo always", "FINISHED", "1 warning found", "FromAsCasing", "\x1b[34m"]
    {
        assert!(shown.contains(part), "{part:?}: {shown}");
    }
    assert!(!shown.contains("said 3\r\n\x1b[0m") && ups(&shown).iter().all(|rows| *rows < 24), "{shown}");
    let (shown, _) = Terminal::build(&engine, &context, 24, 80, &[("NO_COLOR", "1")]).end();
    assert!(shown.contains(" => CACHED [made 3/3]"), "{shown}");
    for colour in ["\x1b[3", "\x1b[2m", "\x1b[0m"] {
        assert!(!shown.contains(colour), "{colour:?}: {shown:?}");
    }
    let (shown, _) = Terminal::build(&engine, &context, 24, 80, &[("TERM", "dumb")]).end();
    assert!(!shown.contains('\x1b') && shown.contains("CACHED"), "{shown}");
}

#[test]
fn a_small_terminal_and_one_that_shrinks_hold_what_is_painted() {
    let engine = TestEngine::with_busybox();
    let context = context(DOCKERFILE);
    let terminal = Terminal::build(&engine, &context, 24, 80, &[]);
    eventually("the step is painted", || terminal.shown().contains(" => => # said 9"));
    resize(&terminal.master, 4, 20);
    let before = terminal.shown().len();
    eventually("it is painted in less columns", || {
        let shown = terminal.shown();
        // The step's name no longer fits.
        shown[before..].contains("...") && shown[before..].matches("[+] Buil").count() > 1
    });
    let shrunk = terminal.shown().len();
    eventually("and in less rows", || ups(&terminal.shown()[shrunk..]).len() > 2);
    let rows = ups(&terminal.shown()[shrunk..]);
    assert!(rows.iter().skip(1).all(|rows| *rows < 4), "{rows:?}");
    go(&engine);
    let (shown, code) = terminal.end();
    assert_eq!(code, Some(0), "{shown}");
}

#[test]
fn a_failing_step_is_shown_with_what_it_printed() {
    let engine = TestEngine::with_busybox();
    let context = context("FROM busybox\nRUN echo why; exit 3\n");
    let (shown, code) = Terminal::build(&engine, &context, 10, 60, &[]).end();
    assert_eq!(code, Some(1), "{shown}");
    for part in [" => ERROR [2/2] RUN echo why", " => => # why", ">>> RUN echo why", "exit code: 3"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let path = context.path().to_str().unwrap();
    let told = engine.corten(&["build", "--progress", "tty", path]).fails(1);
    assert!(told.contains("wants a terminal"), "{told}");
    let raw = engine.corten(&["build", "--progress", "rawjson", path]).stderr;
    let first: serde_json::Value = serde_json::from_str(raw.lines().next().unwrap()).unwrap();
    assert!(first["vertexes"][0]["name"].as_str().unwrap().contains("load build definition"), "{raw}");
}
