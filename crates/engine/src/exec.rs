//! Exec: further processes in a running container.

mod table;

use std::os::fd::AsFd;
use std::sync::Arc;

use corten_api::exec::{ExecCreateRequest, ExecInspect, ExecProcessConfig, ExecStartRequest};
use corten_runtime::monitor::protocol::{Attach, Event, Request, Stdio, Step};
use corten_runtime::spec::{Capabilities, Process, User};
use rustix::net::{SendFlags, Shutdown};

use crate::Engine;
use crate::container::{Connection, Container, Phase, detach_keys, lock};
use crate::error::{Error, ErrorKind, Result};
use crate::id;
use crate::spec::{Security, capabilities};

pub use table::Execs;
use table::{Exec, ExecPhase};

/// Leave to start an exec; the client's connection is to follow.
pub struct ExecTicket {
    /// The stream is raw. As in Docker the start says so, whatever the exec's creation said of a terminal.
    pub tty: bool,
    pub detach: bool,
    engine: Engine,
    container: Arc<Container>,
    exec: String,
    /// Rows, columns.
    size: (u16, u16),
}

impl Engine {
    pub async fn exec_create(&self, key: &str, request: ExecCreateRequest) -> Result<String> {
        let container = self.containers.find(key)?;
        check_running(&container).await?;
        if request.cmd.is_empty() {
            return Err(Error::invalid("No exec command specified"));
        }
        detach_keys(&request.detach_keys)?;
        let id = id::random();
        let command = request.cmd.join(" ");
        let forgotten = lock(&container.execs).create(id.clone(), request);
        {
            let mut index = lock(&self.execs);
            index.insert(id.clone(), container.id.clone());
            forgotten.iter().for_each(|id| drop(index.remove(id)));
        }
        self.container_event(&container, &format!("exec_create: {command}"), &[("execID", &id)]);
        Ok(id)
    }

    pub async fn exec_start(&self, exec: &str, request: ExecStartRequest) -> Result<ExecTicket> {
        let (container, state) = self.find_exec(exec)?;
        check_running(&container).await?;
        match state.phase {
            ExecPhase::Created => {}
            ExecPhase::Running => return Err(Error::conflict(format!("exec {exec} is already running"))),
            ExecPhase::Ended(_) => return Err(Error::conflict(format!("exec {exec} has already run"))),
        }
        let [height, width] = request.console_size.or(state.request.console_size).unwrap_or_default();
        let side = |value: u32| u16::try_from(value).unwrap_or(0);
        Ok(ExecTicket {
            tty: request.tty,
            detach: request.detach,
            engine: self.clone(),
            container,
            exec: exec.to_owned(),
            size: (side(height), side(width)),
        })
    }

    pub async fn exec_inspect(&self, exec: &str) -> Result<ExecInspect> {
        let (container, mut state) = self.find_exec(exec)?;
        // A client that has seen the end of its stream asks at once: what the monitor said before must have been heard by then.
        if state.phase == ExecPhase::Running
            && let Some(link) = container.link()
        {
            let _ = link.ask(|seq| Request::Status { seq }, &[]).await;
            state = self.find_exec(exec)?.1;
        }
        let (entrypoint, arguments) =
            state.request.cmd.split_first().map(|(e, a)| (e.clone(), a.to_vec())).unwrap_or_default();
        Ok(ExecInspect {
            id: exec.to_owned(),
            running: state.phase == ExecPhase::Running,
            exit_code: match state.phase {
                ExecPhase::Ended(code) => Some(code),
                _ => None,
            },
            process_config: ExecProcessConfig {
                tty: state.request.tty,
                entrypoint,
                arguments: arguments.into(),
                privileged: Some(state.request.privileged),
                user: state.request.user,
            },
            open_stdin: state.request.attach_stdin,
            open_stderr: state.request.attach_stderr,
            open_stdout: state.request.attach_stdout,
            can_remove: matches!(state.phase, ExecPhase::Ended(_)),
            container_id: container.id.clone(),
            detach_keys: String::new(),
            pid: state.pid,
        })
    }

    pub async fn exec_resize(&self, exec: &str, height: u16, width: u16) -> Result<()> {
        let (container, state) = self.find_exec(exec)?;
        let link = container.link().filter(|_| state.phase == ExecPhase::Running);
        let link = link.ok_or_else(|| Error::conflict(format!("exec {exec} is not running")))?;
        let name = exec.to_owned();
        let request = |seq| Request::Resize { seq, exec: Some(name), rows: height, columns: width };
        crate::link::done(link.ask(request, &[]).await?)
    }

    pub(crate) fn exec_ended(&self, container: &Container, exec: &str, code: i32) {
        lock(&container.execs).end(exec, code);
        let code = code.to_string();
        self.container_event(container, "exec_die", &[("execID", exec), ("exitCode", &code)]);
    }

    pub(crate) fn exec_ids(&self, container: &Container) -> Vec<String> {
        lock(&container.execs).running()
    }

    /// The container is gone, and its execs with it.
    pub(crate) fn forget_execs(&self, container: &Container) {
        let ids = lock(&container.execs).drain();
        let mut index = lock(&self.execs);
        for id in ids {
            index.remove(&id);
        }
    }

    fn find_exec(&self, exec: &str) -> Result<(Arc<Container>, Exec)> {
        let missing = || Error::not_found(format!("No such exec instance: {exec}"));
        let owner = lock(&self.execs).get(exec).cloned().ok_or_else(missing)?;
        let container = self.containers.find(&owner).map_err(|_| missing())?;
        let state = lock(&container.execs).get(exec).cloned().ok_or_else(missing)?;
        Ok((container, state))
    }

    /// What is run: the container's environment and privileges, unless the request says otherwise.
    pub(crate) fn exec_process(&self, container: &Container, request: &ExecCreateRequest) -> Result<Process> {
        let record = container.read();
        let host = &record.host_config;
        let security = Security::parse(host, &self.options.defaults)?;
        let privileged = request.privileged || host.privileged;
        let names: Vec<String> =
            capabilities::effective(&host.cap_add, &host.cap_drop, privileged, self.host.capabilities)?
                .into_iter()
                .collect();
        let mut env = crate::spec::environment(&record.config, &record.config.hostname, request.tty);
        for entry in &request.env {
            let name = entry.split('=').next().unwrap_or_default().to_owned();
            env.retain(|known| known.split('=').next() != Some(name.as_str()));
            if entry.contains('=') {
                env.push(entry.clone());
            }
        }
        let cwd = match request.working_dir.as_str() {
            "" => record.config.working_dir.clone(),
            own => own.to_owned(),
        };
        Ok(Process {
            terminal: request.tty,
            user: User::default(),
            args: request.cmd.to_vec(),
            env,
            cwd: crate::spec::working_directory(&cwd)?,
            capabilities: Some(Capabilities {
                bounding: names.clone(),
                effective: names.clone(),
                permitted: names,
                ..Capabilities::default()
            }),
            rlimits: crate::spec::resources::rlimits(host, &self.options.defaults.ulimits)?,
            no_new_privileges: security.no_new_privileges,
            apparmor_profile: security.apparmor_profile,
            oom_score_adj: Some(host.oom_score_adj),
            ..Process::default()
        })
    }
}

impl ExecTicket {
    /// Starts the exec with the client's connection; without one, it runs for nobody to see.
    pub async fn connect(self, connection: Option<Connection>) -> Result<()> {
        let Self { tty, engine, container, exec, size, .. } = self;
        let begun = lock(&container.execs).begin(&exec);
        let request = begun
            .ok_or_else(|| Error::not_found(format!("No such exec instance: {exec}")))?
            .map_err(|_| Error::conflict(format!("exec {exec} has already been started")))?;
        let command = request.cmd.join(" ");
        engine.container_event(&container, &format!("exec_start: {command}"), &[("execID", &exec)]);
        let terms = Terms { raw: tty, size };
        let outcome = run(&engine, &container, &exec, &request, terms, connection.as_ref()).await;
        match &outcome {
            Ok(pid) => lock(&container.execs).set_pid(&exec, *pid),
            Err((error, code)) => {
                lock(&container.execs).end(&exec, *code);
                if let Some(connection) = &connection {
                    say(connection, tty, &error.message);
                }
            }
        }
        outcome.map(drop).map_err(|(error, _)| error)
    }
}

/// Tells a client, whose connection is no HTTP any more, why there will be no output; then that was all.
fn say(connection: &Connection, raw: bool, message: &str) {
    let text = format!("{message}\r\n");
    let [a, b, c, d] = (text.len() as u32).to_be_bytes();
    let header = [1, 0, 0, 0, a, b, c, d];
    let header = if raw { &header[..0] } else { &header[..] };
    // So little fits into a new connection; a client that has gone needs no reason.
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let _ = rustix::net::send(&connection.fd, &[header, text.as_bytes()].concat(), flags);
    let _ = rustix::net::shutdown(&connection.fd, Shutdown::Both);
}

/// What the start of an exec adds to its creation.
struct Terms {
    /// No frames around the output.
    raw: bool,
    /// Rows, columns.
    size: (u16, u16),
}

/// The new process's number, or why not with the exit code that stands for it.
async fn run(
    engine: &Engine,
    container: &Container,
    exec: &str,
    request: &ExecCreateRequest,
    terms: Terms,
    connection: Option<&Connection>,
) -> std::result::Result<i32, (Error, i32)> {
    let other = |error: Error| (error, 126);
    let process = Box::new(engine.exec_process(container, request).map_err(other)?);
    let link = container.link().ok_or_else(|| other(crate::container::not_running(container)))?;
    let user = match request.user.as_str() {
        "" => container.read().config.user.clone(),
        own => own.to_owned(),
    };
    let attach = connection.map(|connection| Attach {
        stdin: request.attach_stdin,
        stdout: request.attach_stdout,
        stderr: request.attach_stderr,
        raw: terms.raw,
        detach_keys: if request.tty {
            detach_keys(&request.detach_keys).unwrap_or_default()
        } else {
            Vec::new()
        },
        stdin_head: connection.head.clone(),
        holds: true,
    });
    let groups = container.read().host_config.group_add.to_vec();
    if let Some(connection) = connection {
        connection.head_read().await;
    }
    let fds: Vec<_> = connection.iter().map(|connection| connection.fd.as_fd()).collect();
    let event = link
        .ask(
            |seq| Request::Exec {
                seq,
                exec: exec.to_owned(),
                process,
                user: Some(user).filter(|user| !user.is_empty()),
                groups,
                stdio: Stdio {
                    tty: request.tty,
                    size: terms.size,
                    open_stdin: request.attach_stdin,
                    stdin_once: true,
                },
                attach,
            },
            &fds,
        )
        .await
        .map_err(other)?;
    match event {
        Event::ExecStarted { pid, .. } => Ok(pid),
        Event::ExecFailed { error, .. } | Event::Refused { error, .. } => {
            let missing = error.step == Step::Exec && [2, 20].contains(&error.errno);
            let message = format!("OCI runtime exec failed: exec failed: {error}");
            Err((Error::new(ErrorKind::InvalidParameter, message), if missing { 127 } else { 126 }))
        }
        _ => Err(other(Error::internal("unexpected answer of the container's monitor"))),
    }
}

async fn check_running(container: &Container) -> Result<()> {
    match container.settled_phase().await {
        Phase::Running => Ok(()),
        Phase::Paused => Err(Error::conflict(format!(
            "container {} is paused, unpause the container before exec",
            container.id
        ))),
        _ => Err(crate::container::not_running(container)),
    }
}
