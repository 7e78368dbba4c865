//! Checks that follow a stage from instruction to instruction: which variables are set, what is overridden, what is copied.

use std::collections::BTreeMap;

use corten_image::Platform;

use super::rules::{
    COPY_IGNORED_FILE, EXPOSE_INVALID_FORMAT, EXPOSE_PROTO_CASING, INVALID_BASE_IMAGE_PLATFORM,
    JSON_ARGS_RECOMMENDED, LEGACY_KEY_VALUE_FORMAT, MULTIPLE_INSTRUCTIONS_DISALLOWED, Rule,
    SECRETS_USED_IN_ARG_OR_ENV, UNDEFINED_VAR, WORKDIR_RELATIVE_PATH,
};
use super::stages::Globals;
use super::{Base, Circumstances, Report};
use crate::dockerfile::ast::{
    Arg, Command, Dockerfile, Expose, Form, Instruction, Located, Pairs, Span, Stage, Transfer,
};
use crate::dockerfile::expand::Expander;
use crate::dockerfile::{parse_trigger, port, suggest};
use crate::secrets;

/// Arguments that no environment ever holds.
const SILENT: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// What holds at one place in a stage; stages that start from it take it over.
#[derive(Clone)]
struct State {
    env: BTreeMap<String, String>,
    args: Vec<String>,
    has_shell: bool,
    has_workdir: bool,
    /// Instructions for whoever starts from it.
    on_build: Vec<String>,
    /// What the base sets isn't known: nothing can be said of variables.
    unknown: bool,
}

impl Default for State {
    fn default() -> State {
        State {
            // Each stage has a search path, if only the one that images have which set none.
            env: BTreeMap::from([("PATH".to_owned(), String::new())]),
            args: Vec::new(),
            has_shell: false,
            has_workdir: false,
            on_build: Vec::new(),
            unknown: false,
        }
    }
}

impl State {
    fn of(base: &Base) -> State {
        let mut state =
            State { has_shell: base.has_shell, on_build: base.on_build.clone(), ..State::default() };
        let env = base.env.iter().map(|entry| entry.split_once('=').unwrap_or((entry, "")));
        state.env.extend(env.map(|(name, value)| (name.to_owned(), value.to_owned())));
        state
    }
}

pub(super) fn check(
    dockerfile: &Dockerfile,
    circumstances: &Circumstances,
    globals: &Globals,
    report: &mut Report,
) {
    let expander = Expander::new(dockerfile.directives.escape);
    let mut states: Vec<State> = Vec::with_capacity(dockerfile.stages.len());
    for (index, stage) in dockerfile.stages.iter().enumerate() {
        let expand = |text: &str| expander.word(text, &|name| globals.values.get(name).cloned());
        let image = expand(&stage.from.value.image).map_or_else(|_| String::new(), |expanded| expanded.text);
        let silent = &mut Report { options: report.options, warnings: Vec::new() };
        let wanted = circumstances.stages.is_none_or(|stages| stages.contains(&index));
        let report = if wanted { &mut *report } else { silent };
        let state = match circumstances.bases.get(&index) {
            Some(Some(base)) => {
                let platform = stage.from.value.platform.as_deref().and_then(|text| expand(text).ok());
                let platform = platform.and_then(|expanded| expanded.text.parse::<Platform>().ok());
                let platform = platform.as_ref().unwrap_or(circumstances.target_platform);
                check_platform(stage, &image, base, platform, report);
                State::of(base)
            }
            Some(None) => State { unknown: true, ..State::default() },
            None => match dockerfile.find_stage(&image, index) {
                Some(found) => states[found].clone(),
                None => State { unknown: image != "scratch", ..State::default() },
            },
        };
        let mut flow = Flow { circumstances, globals, expander, state, last: BTreeMap::new(), report };
        flow.triggers();
        stage.instructions.iter().for_each(|located| flow.instruction(located));
        states.push(flow.state);
    }
}

fn check_platform(stage: &Stage, image: &str, base: &Base, expected: &Platform, report: &mut Report) {
    let Some(actual) = &base.platform else { return };
    if expected.os != actual.os || expected.architecture != actual.architecture {
        let detail = format!(
            "Base image {image} was pulled with platform \"{actual}\", expected \"{expected}\" for current build"
        );
        report.warn(&INVALID_BASE_IMAGE_PLATFORM, stage.from.span, detail);
    }
}

struct Flow<'f, 'o> {
    circumstances: &'f Circumstances<'f>,
    globals: &'f Globals,
    expander: Expander,
    state: State,
    /// Where instructions stand of which only the last counts.
    last: BTreeMap<&'static str, Span>,
    report: &'f mut Report<'o>,
}

impl Flow<'_, '_> {
    /// Does what the base has for whoever starts from it. It stands in another file: nothing is said of it.
    fn triggers(&mut self) {
        let (said, triggers) = (self.report.warnings.len(), std::mem::take(&mut self.state.on_build));
        for trigger in triggers.iter().filter_map(|text| parse_trigger(text).ok()) {
            self.instruction(&trigger);
        }
        self.report.warnings.truncate(said);
        self.last.clear();
    }

    fn instruction(&mut self, located: &Located<Instruction>) {
        match &located.value {
            Instruction::Arg(arg) => self.arg(located, arg),
            Instruction::Env(pairs) => {
                let pairs = self.pairs(located, pairs);
                for (key, _) in &pairs {
                    self.secret(located, "ENV", key);
                }
                self.state.env.extend(pairs);
            }
            Instruction::Label(pairs) => drop(self.pairs(located, pairs)),
            Instruction::Cmd(command) => self.command(located, "CMD", command),
            Instruction::Entrypoint(command) => self.command(located, "ENTRYPOINT", command),
            Instruction::Healthcheck(_) => self.once(located, "HEALTHCHECK"),
            Instruction::Shell(_) => self.state.has_shell = true,
            Instruction::Workdir(workdir) => {
                let path = self.expand(located, &workdir.path);
                if !self.state.has_workdir && !path.starts_with('/') {
                    let quoted = corten_template::quote(&path);
                    let detail = format!(
                        "Relative workdir {quoted} can have unexpected results if the base image changes"
                    );
                    self.warn(located, &WORKDIR_RELATIVE_PATH, detail);
                }
                self.state.has_workdir = true;
            }
            Instruction::Expose(expose) => self.expose(located, expose),
            Instruction::User(user) => drop(self.expand(located, &user.user)),
            Instruction::Stopsignal(signal) => drop(self.expand(located, &signal.signal)),
            Instruction::Volume(volume) => {
                for path in &volume.volumes {
                    self.expand(located, path);
                }
            }
            Instruction::Run(run) => {
                for mount in &run.mounts {
                    // Only its variables matter here.
                    let _ =
                        mount.resolve(|value| Ok::<_, std::convert::Infallible>(self.expand(located, value)));
                }
            }
            Instruction::Copy(copy) => {
                self.transfer(located, &copy.transfer, "Copy", copy.from.is_none(), None)
            }
            Instruction::Add(add) => {
                self.transfer(located, &add.transfer, "Add", true, add.checksum.as_deref());
            }
            Instruction::Onbuild(trigger) => self.state.on_build.push(trigger.expression.clone()),
            Instruction::Maintainer(_) => {}
        }
    }

    fn warn(&mut self, located: &Located<Instruction>, rule: &'static Rule, detail: String) {
        self.report.warn_below(&located.comments, rule, located.span, detail);
    }

    /// Expands a word and speaks of variables that nobody set; what can't be expanded stays, building will say it.
    fn expand(&mut self, located: &Located<Instruction>, text: &str) -> String {
        self.expand_by(self.expander, located, text)
    }

    fn expand_by(&mut self, expander: Expander, located: &Located<Instruction>, text: &str) -> String {
        let state = &self.state;
        let Ok(expanded) = expander.word(text, &|name| state.env.get(name).cloned()) else {
            return text.to_owned();
        };
        for name in expanded.undefined {
            if self.state.unknown || self.state.args.contains(&name) || SILENT.contains(&name.as_str()) {
                continue;
            }
            let mut detail = format!("Usage of undefined variable '${name}'");
            if let Some(meant) = suggest::nearest(&name, self.state.env.keys().map(String::as_str)) {
                detail.push_str(&format!(" (did you mean ${meant}?)"));
            }
            self.warn(located, &UNDEFINED_VAR, detail);
        }
        expanded.text
    }

    fn arg(&mut self, located: &Located<Instruction>, arg: &Arg) {
        for entry in &arg.entries {
            self.secret(located, "ARG", &entry.name);
            let value = match (self.circumstances.build_args.get(&entry.name), &entry.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(text)) => Some(self.expand(located, text)),
                // Taken over from before the first FROM, where it is expanded; and here again.
                (None, None) => self.globals.values.get(&entry.name).cloned(),
            };
            if let Some(value) = value
                && !SILENT.contains(&entry.name.as_str())
            {
                self.state.env.insert(entry.name.clone(), value);
            }
            self.state.args.push(entry.name.clone());
        }
    }

    fn pairs(&mut self, located: &Located<Instruction>, pairs: &Pairs) -> Vec<(String, String)> {
        let mut expanded = Vec::with_capacity(pairs.pairs.len());
        for pair in &pairs.pairs {
            let key = self.expand(located, &pair.key);
            expanded.push((key, self.expand(located, &pair.value)));
        }
        let keyword = &located.keyword;
        for _ in pairs.pairs.iter().filter(|pair| pair.legacy) {
            let detail = format!(
                "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
            );
            self.warn(located, &LEGACY_KEY_VALUE_FORMAT, detail);
        }
        expanded
    }

    fn secret(&mut self, located: &Located<Instruction>, keyword: &str, name: &str) {
        if secrets::is_secret_name(name) {
            let quoted = corten_template::quote(name);
            let detail =
                format!("Do not use ARG or ENV instructions for sensitive data ({keyword} {quoted})");
            self.warn(located, &SECRETS_USED_IN_ARG_OR_ENV, detail);
        }
    }

    fn command(&mut self, located: &Located<Instruction>, name: &'static str, command: &Command) {
        self.once(located, name);
        if matches!(command.form, Form::Shell(_)) && !self.state.has_shell {
            let keyword = &located.keyword;
            let detail = format!(
                "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"
            );
            self.warn(located, &JSON_ARGS_RECOMMENDED, detail);
        }
    }

    /// The earlier one is the one that is lost.
    fn once(&mut self, located: &Located<Instruction>, name: &'static str) {
        if let Some(earlier) = self.last.insert(name, located.span) {
            let detail = format!(
                "Multiple {} instructions should not be used in the same stage because only the last one will be used",
                located.keyword
            );
            self.report.warn_below(&located.comments, &MULTIPLE_INSTRUCTIONS_DISALLOWED, earlier, detail);
        }
    }

    fn expose(&mut self, located: &Located<Instruction>, expose: &Expose) {
        let env = &self.state.env;
        let words = expose.ports.iter().filter_map(|port| {
            self.expander.words(port, &|name| env.get(name).cloned()).ok().map(|words| words.words)
        });
        let words: Vec<String> = words.flatten().collect();
        for word in words {
            // As Docker looks: what has no valid protocol is an error already.
            let Ok(parts) = port::split(&word) else { return };
            if parts.protocol != parts.protocol.to_lowercase() {
                let detail = format!("Defined protocol '{word}' in EXPOSE instruction should be lowercase");
                self.warn(located, &EXPOSE_PROTO_CASING, detail);
            }
            if parts.is_mapping() {
                let detail = format!(
                    "EXPOSE instruction should not define an IP address or host-port mapping, found '{word}'"
                );
                self.warn(located, &EXPOSE_INVALID_FORMAT, detail);
            }
            if port::expose(&word).is_err() {
                return;
            }
        }
    }

    fn transfer(
        &mut self,
        located: &Located<Instruction>,
        transfer: &Transfer,
        verb: &str,
        from_context: bool,
        checksum: Option<&str>,
    ) {
        for text in [transfer.chown.as_deref(), transfer.chmod.as_deref(), checksum].into_iter().flatten() {
            self.expand(located, text);
        }
        let sources: Vec<String> =
            transfer.sources.iter().map(|source| self.expand(located, source)).collect();
        self.expand(located, &transfer.destination);
        for document in transfer.documents.iter().filter(|document| document.expand) {
            self.expand_by(Expander::document(), located, &document.content);
        }
        let Some(ignore) = self.circumstances.ignore.filter(|ignore| from_context && !ignore.inverts())
        else {
            return;
        };
        for source in sources {
            let is_remote = |text: &str| {
                ["http://", "https://", "git://", "ssh://", "git@"]
                    .iter()
                    .any(|start| text.starts_with(start))
            };
            if verb == "Add" && is_remote(&source) {
                continue;
            }
            let path = crate::ignore::clean(&source);
            let everything = || ignore.patterns().any(|(text, _)| matches!(text, "*" | "**" | "**/*"));
            // The root itself is excluded only together with all that is in it.
            if matches!(path.as_str(), "." | "/") && !everything() {
                continue;
            }
            if ignore.excludes(&path) {
                let detail =
                    format!("Attempting to {verb} file \"{path}\" that is excluded by .dockerignore");
                self.warn(located, &COPY_IGNORED_FILE, detail);
            }
        }
    }
}
