//! One stage: its instructions one after the other, each on the state that those before it have made.

use crate::dockerfile::expand::Expander;
use crate::dockerfile::{self, Instruction, Located, Pairs};
use crate::error::{Error, Result};
use crate::platform::Build;
use crate::state::State;
use crate::vertex::Told;

/// A stage on its way.
pub struct Running<'b> {
    pub build: &'b Build,
    pub index: usize,
    pub state: State,
    /// How many of the stage's steps were told of, and how many there are.
    told: usize,
    total: usize,
    /// Whether CMD was set here: one of the image below is made for the entrypoint of the image below.
    has_cmd: bool,
}

impl<'b> Running<'b> {
    pub fn new(build: &'b Build, index: usize, state: State) -> Running<'b> {
        Running { build, index, state, told: 0, total: 0, has_cmd: false }
    }

    pub async fn run(mut self) -> Result<State> {
        let build = self.build;
        if let Some(epoch) = build.epoch {
            self.state.newest = epoch;
        }
        let triggers = std::mem::take(&mut self.state.config().on_build);
        let mut instructions = Vec::new();
        for trigger in &triggers {
            let parsed = dockerfile::parse_trigger(trigger);
            instructions.push(parsed.map_err(|error| Error::Invalid(format!("ONBUILD {trigger}: {error}")))?);
        }
        let stage = build.parsed_stage(self.index);
        let makes_files = |instruction: &&Located<Instruction>| {
            let kind = &instruction.value;
            matches!(
                kind,
                Instruction::Run(_) | Instruction::Copy(_) | Instruction::Add(_) | Instruction::Workdir(_)
            )
        };
        self.total = 1 + instructions.iter().chain(&stage.instructions).filter(makes_files).count();
        self.tell_base().await?;
        for instruction in instructions.iter().chain(&stage.instructions) {
            let span = instruction.span;
            let done = self.instruction(instruction).await;
            done.map_err(|error| error.at(span.first_line as usize, span.last_line as usize))?;
        }
        Ok(self.state)
    }

    async fn instruction(&mut self, instruction: &Located<Instruction>) -> Result<()> {
        match &instruction.value {
            Instruction::Add(add) => self.add(add, instruction).await?,
            Instruction::Copy(copy) => self.copy(copy, instruction).await?,
            Instruction::Run(run) => self.run_step(run, instruction).await?,
            Instruction::Workdir(workdir) => self.workdir(workdir, instruction).await?,
            Instruction::Arg(arg) => self.arg(arg)?,
            Instruction::Cmd(command) => {
                let words = self.state.command(&command.form);
                let shown = shown(&words);
                self.state.config().cmd = Some(words);
                self.state.config().args_escaped = matches!(command.form, dockerfile::Form::Shell(_));
                self.has_cmd = true;
                self.state.note(format!("CMD {shown}"), true);
            }
            Instruction::Entrypoint(command) => {
                let words = self.state.command(&command.form);
                let shown = shown(&words);
                self.state.config().entrypoint = Some(words);
                if !self.has_cmd {
                    self.state.config().cmd = None;
                }
                self.state.note(format!("ENTRYPOINT {shown}"), true);
            }
            Instruction::Env(pairs) => {
                let pairs = self.pairs(pairs)?;
                for (key, value) in &pairs {
                    self.state.set_env(key, value);
                    self.state.args.give_way(key);
                }
                let shown: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
                self.state.note(format!("ENV {}", shown.join(" ")), true);
            }
            Instruction::Label(pairs) => {
                let pairs = self.pairs(pairs)?;
                let shown: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
                self.state.config().labels.extend(pairs);
                self.state.note(format!("LABEL {}", shown.join(" ")), true);
            }
            Instruction::Expose(expose) => {
                let mut ports = Vec::new();
                for port in &expose.ports {
                    ports.extend(self.words(port)?);
                }
                self.state.expose(&ports)?;
                self.state.note(format!("EXPOSE [{}]", ports.join(" ")), true);
            }
            Instruction::Healthcheck(check) => {
                self.state.set_healthcheck(check);
                self.state.note(instruction.original.clone(), true);
            }
            Instruction::Maintainer(maintainer) => {
                self.state.image.author.clone_from(&maintainer.name);
                self.state.note(format!("MAINTAINER {}", maintainer.name), true);
            }
            Instruction::Onbuild(trigger) => {
                self.state.config().on_build.push(trigger.expression.clone());
            }
            Instruction::Shell(shell) => {
                self.state.config().shell = Some(shell.words.clone());
                self.state.note(format!("SHELL {}", shown(&shell.words)), true);
            }
            Instruction::Stopsignal(stop) => {
                let signal = self.word(&stop.signal)?;
                if !corten_sys::signal_name::is_stop_signal(&signal) {
                    return Err(Error::Invalid(format!("invalid signal: {signal}")));
                }
                self.state.config().stop_signal.clone_from(&signal);
                self.state.note(format!("STOPSIGNAL {signal}"), true);
            }
            Instruction::User(user) => {
                let user = self.word(&user.user)?;
                self.state.config().user.clone_from(&user);
                self.state.note(format!("USER {user}"), true);
            }
            Instruction::Volume(volume) => {
                let mut shown = Vec::new();
                for path in &volume.volumes {
                    let path = self.word(path)?;
                    if path.is_empty() {
                        return Err(Error::Invalid("VOLUME specified can not be an empty string".to_owned()));
                    }
                    self.state.config().volumes.insert(path.clone(), corten_image::config::Empty {});
                    shown.push(path);
                }
                self.state.note(format!("VOLUME [{}]", shown.join(" ")), true);
            }
        }
        Ok(())
    }

    /// The stage that `--from` or `from=` means, none where it means something from outside.
    pub fn stage_named(&self, name: &str) -> Result<Option<usize>> {
        let stage = self.build.find_stage(name, self.index);
        // Not an image whose ID begins so.
        let is_number = name.parse::<usize>().is_ok() && !self.build.options.contexts.contains_key(name);
        if stage.is_none() && is_number {
            return Err(Error::Invalid(format!(
                "invalid stage index {name}: stages before this one are 0 to {}",
                self.index.saturating_sub(1)
            )));
        }
        Ok(stage)
    }

    fn arg(&mut self, arg: &dockerfile::Arg) -> Result<()> {
        let mut shown = Vec::new();
        for entry in &arg.entries {
            let default = entry.default.as_deref().map(|text| self.word(text)).transpose()?;
            let given = self.build.options.build_args.get(&entry.name).cloned();
            let value = given.or_else(|| default.clone()).or_else(|| self.build.globals.value(&entry.name));
            shown.push(match &value {
                Some(value) => format!("{}={value}", entry.name),
                None => entry.name.clone(),
            });
            self.state.args.declare(&entry.name, value);
        }
        self.state.note(format!("ARG {}", shown.join(" ")), true);
        Ok(())
    }

    /// All values are those before the instruction.
    fn pairs(&self, pairs: &Pairs) -> Result<Vec<(String, String)>> {
        pairs.pairs.iter().map(|pair| Ok((self.word(&pair.key)?, self.word(&pair.value)?))).collect()
    }

    fn expander(&self) -> Expander {
        Expander::new(self.build.dockerfile.directives.escape)
    }

    pub fn variable(&self, name: &str) -> Option<String> {
        let args = &self.state.args;
        let own = args.value(name).map(str::to_owned);
        if args.is_above_env(name) { own } else { self.state.env(name).or(own) }
    }

    /// A word with its variables replaced.
    pub fn word(&self, text: &str) -> Result<String> {
        let expansion = self.expander().word(text, &|name| self.variable(name));
        expansion.map(|expansion| expansion.text).map_err(|error| Error::Invalid(error.to_string()))
    }

    fn words(&self, text: &str) -> Result<Vec<String>> {
        let expansion = self.expander().words(text, &|name| self.variable(name));
        expansion.map(|expansion| expansion.words).map_err(|error| Error::Invalid(error.to_string()))
    }

    pub fn document(&self, text: &str) -> Result<String> {
        let expansion = Expander::document().word(text, &|name| self.variable(name));
        expansion.map(|expansion| expansion.text).map_err(|error| Error::Invalid(error.to_string()))
    }

    /// A path of the image, absolute; a slash at its end stays.
    pub fn absolute(&self, path: &str) -> String {
        if path.starts_with('/') {
            return path.to_owned();
        }
        let directory = self.state.image.config.working_dir.trim_end_matches('/');
        format!("{directory}/{path}")
    }

    /// The step's line of progress: `[build 2/5] RUN make`.
    pub fn told(&mut self, text: &str) -> Told {
        self.told += 1;
        let stage = match self.build.parsed_stage(self.index).name() {
            Some(name) => format!("{name} "),
            None if self.build.dockerfile.stages.len() > 1 => format!("stage-{} ", self.index),
            None => String::new(),
        };
        let place = self.build.place(&self.state.platform);
        let name = format!(
            "[{place}{stage}{:>width$}/{}] {text}",
            self.told,
            self.total,
            width = self.total.to_string().len()
        );
        let id = |step: usize| self.build.id(&format!("stage {} step {step}", self.index));
        let inputs = if self.told > 1 { vec![id(self.told - 1)] } else { Vec::new() };
        Told::new(&self.build.teller, id(self.told), name, inputs)
    }

    async fn tell_base(&mut self) -> Result<()> {
        let from = &self.build.parsed_stage(self.index).from;
        let image = self.build.globals.expand(self.build.dockerfile.directives.escape, &from.value.image)?;
        let mut told = self.told(&format!("FROM {image}"));
        told.cached().await
    }
}

/// Words as JSON shows them.
fn shown(words: &[String]) -> String {
    serde_json::to_string(words).unwrap_or_default()
}
