//! RUN: the program, what is mounted for it, and what of its files becomes a layer.

mod mounts;
mod program;

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use corten_image::build::StepLayer;
use corten_image::{Changes, DiffId, Digest};

use crate::cache::{UsedMount, with_imported};
use crate::dockerfile::{self, Instruction, Located, Mount, MountType, Run, Security, Sharing};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::platform::Claim;
use crate::progress::Stream;
use crate::request::Network;
use crate::stage::Running;
use crate::vertex::Told;
use crate::worker::{CacheDirectory, MountSource, Ran, RunStep, StepMount};
use mounts::{Prepared, place_agents, secret_id, stubs};
use program::Program;

/// A container whose program has failed, and its turns at cache mounts.
struct Failed {
    ran: Ran,
    _turns: Vec<Box<dyn Any + Send + Sync>>,
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
        let options = &self.build.options;
        if network == Network::Host && options.network != Network::Host && !options.allows_host_network {
            return Err(Error::Invalid(
                "RUN --network=host is not allowed: build with --network host to allow it, or with --allow network.host"
                    .to_owned(),
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
        if let Some(hostname) = self.own_hostname() {
            key.text("hostname").text(hostname);
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
        let locked: BTreeSet<String> = mounts
            .iter()
            .map(|(mount, _)| mount)
            .filter(is_locked)
            .map(|mount| self.cache_id(mount))
            .collect();
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
            hostname: self.hostname().to_owned(),
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
}
