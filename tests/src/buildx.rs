//! Docker's own builder clients (buildx, `docker build`, Compose) at an engine of their own.
//!
//! Needs the host's package sources for the clients (`scripts/docker-plugins`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::client::{Output, run};
use crate::engine::TestEngine;

/// A directory of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// An engine with busybox, and a context with a Dockerfile.
pub struct Site {
    pub engine: TestEngine,
    /// The directory of the client's configuration, with its plugins.
    pub plugins: PathBuf,
    pub context: TempDir,
}

impl Site {
    pub fn new(dockerfile: &str) -> Self {
        let plugins = repository("target/clients");
        run(Command::new(repository("scripts/docker-plugins")).arg(&plugins)).ok();
        let site =
            Self { engine: TestEngine::with_busybox(), plugins, context: TempDir::new().expect("a context") };
        site.write("Dockerfile", dockerfile);
        site
    }

    pub fn path(&self) -> &str {
        self.context.path().to_str().expect("UTF-8")
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.context.path().join(name), text).expect("a file of the context");
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.engine.docker_command(arguments);
        command.env("DOCKER_CONFIG", &self.plugins).current_dir(self.context.path());
        command
    }

    pub fn docker(&self, arguments: &[&str]) -> Output {
        run(&mut self.command(arguments))
    }

    /// `docker build`; what it printed of its progress.
    pub fn build(&self, more: &[&str]) -> Output {
        self.docker(&[&["build", "--progress=plain"], more, &[self.path()]].concat())
    }

    /// `docker build -` with a file as standard input.
    pub fn build_from(&self, input: &Path, more: &[&str]) -> Output {
        let mut command = self.command(&[&["build", "--progress=plain", "-t", "t"], more, &["-"]].concat());
        command.stdin(fs::File::open(input).expect("the input")).output().expect("the client").into()
    }

    /// How many lines steps have written into `runs` of their cache mount.
    pub fn runs(&self) -> usize {
        let mounts = fs::read_dir(self.engine.data_root().join("build/caches"));
        let mounts = mounts.expect("cache mounts").flatten();
        let texts = mounts.filter_map(|mount| fs::read_to_string(mount.path().join("runs")).ok());
        texts.map(|text| text.lines().count()).sum()
    }

    /// What a program of the image `t` prints.
    pub fn print(&self, command: &[&str]) -> String {
        self.engine.docker(&[&["run", "--rm", "t"], command].concat()).ok()
    }
}
