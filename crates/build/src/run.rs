//! RUN: the program, what is mounted for it, and what of its files becomes a layer.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use corten_image::build::{Stack, StepLayer, TakeAll};
use corten_image::{Changes, DiffId, Digest};

use crate::cache::{UsedMount, with_imported};
use crate::context::CONTEXT;
use crate::dockerfile::{self, Form, Instruction, Located, Mount, MountType, Run, Security, Sharing};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::pattern;
use crate::platform::Claim;
use crate::progress::Stream;
use crate::request::Network;
use crate::stage::Running;
use crate::variables::is_undeclared;
use crate::vertex::Told;
use crate::worker::{CacheDirectory, CacheWish, MountSource, Ran, RunStep, StepMount};

/// Where scripts of here-documents lie while they run.
const SCRIPTS: &str = "/dev/pipes";

/// A program as it is run, and as the history shows it.
struct Program {
    command: Vec<String>,
    shown: String,
    script: Option<StepMount>,
}

/// A container whose program has failed, and its turns at cache mounts.
struct Failed {
    ran: Ran,
    _turns: Vec<Box<dyn Any + Send + Sync>>,
}

/// What is known of a mount before the step is done.
enum Prepared {
    Source(MountSource),
    Cache(CacheWish),
    /// The asker is asked for it when the step is done.
    Later,
}

impl Running<'_> {
    pub async fn run_step(&mut self, run: &Run, instruction: &Located<Instruction>) -> Result<()> {
        let mut told = self.told(&self.shown(instruction));
        let program = self.program(run)?;
        let mut mounts = run
            .mounts
            .iter()
            .map(|mount| {
                mount.resolve(|text| self.word(text)).map_err(|error| Error::Invalid(error.to_string()))
            })
            .collect::<Result<Vec<Mount>>>()?;
        place_agents(&mut mounts);
        for mount in &mounts {
            match mount.kind {
                MountType::Secret => self.build.note_asked_for("secret", &secret_id(mount)?),
                MountType::Ssh => {
                    self.build.note_asked_for("ssh", mount.id.as_deref().unwrap_or("default"));
                }
                _ => {}
            }
        }
        if let Some(device) = run.devices.first() {
            return Err(Error::Invalid(format!("RUN --device={}: devices are not supported", device.name)));
        }
        let network = match run.network {
            dockerfile::Network::Default => self.build.options.network.clone(),
            dockerfile::Network::None => Network::None,
            dockerfile::Network::Host => Network::Host,
        };
        // A Dockerfile may be a stranger's: what reaches beyond a container is for the asker to allow.
        if network == Network::Host && self.build.options.network != Network::Host {
            return Err(Error::Invalid(
                "RUN --network=host is not allowed: build with --network host to allow it".to_owned(),
            ));
        }
        if run.security == Security::Insecure {
            return Err(Error::Invalid("RUN --security=insecure is not allowed".to_owned()));
        }
        let mut key = Key::new("run");
        key.stack(&self.state.stack).texts(&program.command);
        key.texts(&self.environment());
        key.text(&self.state.image.config.user).text(&self.state.image.config.working_dir);
        key.text(&format!("{network:?}")).text(&self.state.platform.to_string());
        if let Some(epoch) = self.build.epoch {
            key.number(epoch);
        }
        if network != Network::None {
            self.build.has_network.store(true, Ordering::Relaxed);
        }
        let (mut sourced, mut offered) = (Vec::new(), BTreeSet::new());
        for mount in mounts {
            let source = self.source(&mount, &mut key).await?;
            if let Prepared::Cache(wish) = &source {
                offered.extend(self.build.worker.imported_mount(wish).map(|mount| mount.layer));
                self.build.note_mount(UsedMount { wish: wish.clone(), directory: None });
            }
            sourced.push((mount, source));
        }
        told.start().await?;
        let key = key.digest();
        let description = format!("RUN {}", program.command.join(" "));
        let others: Vec<Digest> = with_imported(&self.own_key(key), &offered).into_iter().collect();
        let turn = match self.claim_any(&key, others).await? {
            Claim::Known(layer) => {
                self.build.note_step(key, layer, description);
                self.state.take(layer, program.shown)?;
                return told.cached().await;
            }
            Claim::Ours(turn) => turn,
        };
        let (mut failed, shown) = (None, program.shown.clone());
        let outcome = self.execute(&told, program, network, sourced, key, &mut failed).await;
        // Another build that waits for this step does it itself.
        drop(turn);
        let outcome = told.end(outcome).await;
        if let Some(failed) = failed {
            self.look_into(failed).await?;
        }
        let layer = outcome?;
        self.build.note_step(key, layer, description);
        self.state.take(layer, shown)
    }

    /// Shows the asker what a failed program has left, where that is wanted.
    async fn look_into(&self, failed: Failed) -> Result<()> {
        let Some(debug) = self.build.options.debug else { return Ok(()) };
        let shell = self.state.shell().into_iter().take(1).collect();
        self.build.worker.look_into(&failed.ran, shell, debug, &self.build.teller).await
    }

    async fn execute(
        &mut self,
        told: &Told,
        program: Program,
        network: Network,
        mounts: Vec<(Mount, Prepared)>,
        key: Digest,
        failed: &mut Option<Failed>,
    ) -> Result<Option<StepLayer>> {
        self.build.bring(&self.state.stack, told).await?;
        let mut config = self.state.image.config.clone();
        config.env = self.environment();
        self.undeclared(&mut config.env);
        let mut step_mounts: Vec<StepMount> = program.script.into_iter().collect();
        let mut secret_env = Vec::new();
        // Held until the program has ended; in the same order by everybody, so that no two wait for each other.
        let is_locked = |mount: &&Mount| mount.kind == MountType::Cache && mount.sharing == Sharing::Locked;
        let locked: BTreeSet<String> =
            mounts.iter().map(|(mount, _)| mount).filter(is_locked).map(cache_id).collect();
        let mut turns = Vec::new();
        for id in &locked {
            turns.push(self.build.worker.cache_turn(id).await);
        }
        let mut imported = BTreeSet::new();
        for (mount, source) in mounts {
            let source = self.bring_source(source, &mut imported, told).await?;
            self.add_mount(mount, source, &mut config.env, &mut secret_env, &mut step_mounts).await?;
        }
        let stubs = stubs(&step_mounts);
        let command = program.command.join(" ");
        let step = RunStep {
            image: self.state.base,
            stack: self.state.stack.clone(),
            platform: self.state.platform.clone(),
            command: program.command,
            config,
            secret_env,
            network,
            mounts: step_mounts,
            extra_hosts: self.build.options.extra_hosts.clone(),
            limits: self.build.options.limits.clone(),
        };
        let output = |stream: Stream, bytes: Vec<u8>| -> futures_util::future::BoxFuture<'_, ()> {
            Box::pin(told.log(stream, bytes))
        };
        let ran = self.build.worker.run(step, &output).await?;
        if ran.exit_code != 0 || ran.is_out_of_memory {
            let command = if ran.is_out_of_memory { format!("{command} (out of memory)") } else { command };
            let error = Error::Exit { command, code: ran.exit_code };
            *failed = Some(Failed { ran, _turns: turns });
            return Err(error);
        }
        drop(turns);
        let key = self.own_key(key);
        let key = with_imported(&key, &imported).unwrap_or(key);
        let changes = Changes { newest: Some(self.state.newest), stubs };
        let (session, snapshot, shown) = (self.build.session.clone(), ran.snapshot.clone(), program.shown);
        let layer = crate::blocking(move || {
            let layer = session.commit(&key, &snapshot, &changes, &shown);
            drop(ran);
            Ok(layer?)
        });
        layer.await
    }

    /// What a mount brings, here and made: not before it is known that the step is to be done.
    async fn bring_source(
        &self,
        source: Prepared,
        imported: &mut BTreeSet<DiffId>,
        told: &Told,
    ) -> Result<Option<MountSource>> {
        match source {
            Prepared::Later => Ok(None),
            Prepared::Cache(wish) => {
                if let Some((stack, _)) = &wish.origin {
                    self.build.bring(stack, told).await?;
                }
                let (worker, teller) = (&self.build.worker, &self.build.teller);
                let directory = worker.cache_directory(wish.clone(), teller, told.id()).await?;
                let CacheDirectory { path, keep, imported: layer } = directory;
                imported.extend(layer);
                self.build.note_mount(UsedMount { wish, directory: Some(path.clone()) });
                Ok(Some(MountSource::Path { path, keep: Some(keep) }))
            }
            Prepared::Source(source) => {
                if let MountSource::Layers { stack, .. } = &source {
                    self.build.bring(stack, told).await?;
                }
                Ok(Some(source))
            }
        }
    }

    fn program(&self, run: &Run) -> Result<Program> {
        let documents = &run.command.documents;
        let shown_arg = |name: &str| format!("{name}={}", self.variable(name).unwrap_or_default());
        let args: Vec<String> = self.state.args.counted().map(shown_arg).collect();
        let with_args = |shown: String| match args.len() {
            0 => format!("RUN {shown} # buildkit"),
            count => format!("RUN |{count} {} {shown} # buildkit", args.join(" ")),
        };
        let text = match &run.command.form {
            Form::Exec(words) => {
                return Ok(Program {
                    shown: with_args(words.join(" ")),
                    command: words.clone(),
                    script: None,
                });
            }
            Form::Shell(text) => text,
        };
        let is_alone = text.starts_with("<<") && !text.trim().contains(char::is_whitespace);
        match &documents[..] {
            [] => {
                let command = self.state.command(&run.command.form);
                Ok(Program { shown: with_args(command.join(" ")), command, script: None })
            }
            [document] if is_alone => {
                let content = match document.chomp {
                    true => dockerfile::chomp(&document.content).to_string(),
                    false => document.content.clone(),
                };
                if !content.starts_with("#!") {
                    let command = [self.state.shell(), vec![content]].concat();
                    return Ok(Program { shown: with_args(command.join(" ")), command, script: None });
                }
                let path = format!("{SCRIPTS}/{}", document.name);
                let command = interpreted(&content, &path);
                let shown = with_args(format!("{}{content}{}", text, document.name));
                let source = MountSource::Secret { bytes: content.into_bytes(), mode: 0o755, uid: 0, gid: 0 };
                let script = StepMount { target: path.clone(), is_read_only: true, source };
                Ok(Program { shown, command, script: Some(script) })
            }
            documents => {
                let mut whole = text.clone();
                for document in documents {
                    whole.push('\n');
                    whole.push_str(&document.content);
                    whole.push_str(&document.name);
                }
                let command = [self.state.shell(), vec![whole]].concat();
                Ok(Program { shown: with_args(command.join(" ")), command, script: None })
            }
        }
    }

    /// What the program sees of ENV and ARG.
    fn environment(&self) -> Vec<String> {
        let mut state = self.state.clone();
        for name in self.state.args.counted() {
            if let Some(value) = self.variable(name) {
                state.set_env(name, &value);
            }
        }
        state.image.config.env
    }

    /// What it sees besides: proxies, and the time for those who write times.
    fn undeclared(&self, env: &mut Vec<String>) {
        let is_set =
            |env: &[String], name: &str| env.iter().any(|entry| crate::state::name_of(entry) == name);
        for (name, value) in &self.build.options.build_args {
            if is_undeclared(name) && !is_set(env, name) {
                env.push(format!("{name}={value}"));
            }
        }
        if !is_set(env, "SOURCE_DATE_EPOCH") {
            env.push(format!("SOURCE_DATE_EPOCH={}", self.state.newest));
        }
    }

    /// What a mount brings, as far as the key depends on it.
    async fn source(&self, mount: &Mount, key: &mut Key) -> Result<Prepared> {
        let target = self.target_of(mount)?;
        key.text(mount.kind.name()).text(&target).number(mount.read_only.into());
        let path = pattern::relative(mount.source.as_deref().unwrap_or(""));
        match mount.kind {
            MountType::Bind => {
                let (stack, path) = match &mount.from {
                    None => {
                        let (tree, filter) = (self.build.tree(CONTEXT).await?, self.build.context.filter());
                        self.build.mounted_tree(tree, filter, &path, key).await?
                    }
                    Some(name) => self.mounted_from(name, path, key).await?,
                };
                Ok(Prepared::Source(MountSource::Layers { stack, path }))
            }
            MountType::Cache => {
                key.text(&cache_id(mount));
                let origin = match &mount.from {
                    Some(name) => Some(self.mounted_from(name, path, key).await?),
                    None if path.is_empty() => None,
                    None => {
                        return Err(Error::Invalid(format!(
                            "RUN --mount=type=cache,source=/{path}: a cache begins empty; say by from= what it is a copy of"
                        )));
                    }
                };
                let private = mount.sharing == Sharing::Private;
                let owner = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
                let wish = CacheWish {
                    id: cache_id(mount),
                    mode: mount.mode.unwrap_or(0o755),
                    owner,
                    is_private: private,
                    origin,
                };
                Ok(Prepared::Cache(wish))
            }
            MountType::Tmpfs => {
                let bytes = mount.size_bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
                Ok(Prepared::Source(MountSource::Tmpfs { bytes }))
            }
            // What they hold is no part of any key.
            MountType::Secret | MountType::Ssh => {
                key.text(mount.id.as_deref().unwrap_or("")).text(mount.env.as_deref().unwrap_or(""));
                Ok(Prepared::Later)
            }
        }
    }

    async fn mounted_from(&self, name: &str, path: String, key: &mut Key) -> Result<(Stack, String)> {
        let state = match self.stage_named(name)? {
            Some(stage) => self.build.stage(stage).await?,
            None => match self.build.named_tree(name).await? {
                Some(tree) => return self.build.mounted_tree(tree, Arc::new(TakeAll), &path, key).await,
                None => Arc::new(self.build.outside(name, &self.build.platform).await?),
            },
        };
        key.stack(&state.stack).text(&path);
        Ok((state.stack.clone(), path))
    }

    async fn add_mount(
        &self,
        mount: Mount,
        source: Option<MountSource>,
        env: &mut Vec<String>,
        secret_env: &mut Vec<String>,
        mounts: &mut Vec<StepMount>,
    ) -> Result<()> {
        let target = self.target_of(&mount)?;
        let (uid, gid) = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        let source = match (mount.kind, source) {
            (_, Some(source)) => source,
            (MountType::Secret, _) => {
                let id = secret_id(&mount)?;
                let Some(bytes) = self.build.asker.secret(&id).await? else {
                    return match mount.required {
                        true => Err(Error::Invalid(format!(
                            "secret {id}: not found: give it by --secret id={id},src=FILE"
                        ))),
                        false => Ok(()),
                    };
                };
                if let Some(name) = &mount.env {
                    let text = String::from_utf8(bytes).map_err(|_| {
                        Error::Invalid(format!("secret {id} is no text and can't be an environment variable"))
                    })?;
                    env.retain(|entry| crate::state::name_of(entry) != name);
                    secret_env.push(format!("{name}={text}"));
                    if mount.target.is_none() {
                        return Ok(());
                    }
                    let bytes = text.into_bytes();
                    MountSource::Secret { bytes, mode: mount.mode.unwrap_or(0o400), uid, gid }
                } else {
                    MountSource::Secret { bytes, mode: mount.mode.unwrap_or(0o400), uid, gid }
                }
            }
            (MountType::Ssh, _) => {
                let id = mount.id.clone().unwrap_or_else(|| "default".to_owned());
                let is_there = self.build.asker.ssh(&id).await?;
                let Some(agent) = is_there else {
                    return match mount.required {
                        true => {
                            Err(Error::Invalid(format!("unset ssh forward key {id}: give it by --ssh {id}")))
                        }
                        false => Ok(()),
                    };
                };
                // The first one's; what the Dockerfile sets stays.
                if !env.iter().any(|entry| crate::state::name_of(entry) == "SSH_AUTH_SOCK") {
                    env.push(format!("SSH_AUTH_SOCK={target}"));
                }
                MountSource::Agent { agent, mode: mount.mode.unwrap_or(0o600), uid, gid }
            }
            _ => return Err(Error::Internal("a mount without a source".to_owned())),
        };
        mounts.push(StepMount { target, is_read_only: mount.read_only, source });
        Ok(())
    }

    fn target_of(&self, mount: &Mount) -> Result<String> {
        let target = match (&mount.target, mount.kind) {
            (Some(target), _) => target.clone(),
            (None, MountType::Secret) => format!("/run/secrets/{}", base_name(&secret_id(mount)?)),
            (None, kind) => {
                return Err(Error::Invalid(format!("RUN --mount=type={}: target is required", kind.name())));
            }
        };
        Ok(pattern::clean(&self.absolute(&target)))
    }
}

/// How the kernel would start a script (execve(2)): the interpreter, at most one argument, the path. The script lies where nothing is
/// executed.
fn interpreted(script: &str, path: &str) -> Vec<String> {
    let line = script.strip_prefix("#!").unwrap_or(script).lines().next().unwrap_or_default().trim();
    let (interpreter, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let words = [interpreter, argument.trim_start(), path];
    words.into_iter().filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn secret_id(mount: &Mount) -> Result<String> {
    let named = mount.id.clone().or_else(|| mount.source.clone());
    named
        .or_else(|| mount.target.as_deref().map(|target| base_name(target).to_owned()))
        .ok_or_else(|| Error::Invalid("RUN --mount=type=secret: id or target is required".to_owned()))
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Sockets of agents that have no place are numbered.
fn place_agents(mounts: &mut [Mount]) {
    let agents = mounts.iter_mut().filter(|mount| mount.kind == MountType::Ssh);
    for (number, mount) in agents.enumerate() {
        mount.target.get_or_insert_with(|| format!("/run/buildkit/ssh_agent.{number}"));
    }
}

/// A cache is known by its id, else by its target.
fn cache_id(mount: &Mount) -> String {
    mount.id.clone().or_else(|| mount.target.clone()).unwrap_or_default()
}

/// The places that are made to mount on, and the directories above them.
fn stubs(mounts: &[StepMount]) -> Vec<Vec<u8>> {
    let mut stubs = Vec::new();
    for mount in mounts {
        let mut path = mount.target.trim_start_matches('/');
        while !path.is_empty() {
            stubs.push(path.as_bytes().to_vec());
            path = path.rfind('/').map_or("", |at| &path[..at]);
        }
    }
    stubs
}
