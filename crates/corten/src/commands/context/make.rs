//! Making, changing, choosing and removing contexts.

use std::collections::BTreeMap;

use corten_api::client::Host;

use super::list::warn_of_environment;
use crate::cli::{Context, Failure, Outcome, Verb};
use crate::contexts::{DEFAULT, Meta, Store, TlsFiles};
use crate::options::csv;
use crate::output;

/// What `--docker` takes, as far as it was given.
#[derive(Debug, Default)]
struct Wish {
    host: Option<String>,
    /// Of [`TlsFiles`].
    files: [Option<String>; 3],
    skip_verify: Option<bool>,
    from: Option<String>,
}

impl Wish {
    fn parse(flags: &[String]) -> Result<Wish, Failure> {
        let invalid = |why: String| Failure::new(format!("unable to create docker endpoint config: {why}"));
        let mut given: BTreeMap<String, String> = BTreeMap::new();
        for flag in flags {
            for field in csv::fields(flag).map_err(|why| invalid(why.to_owned()))? {
                let (name, value) = field
                    .split_once('=')
                    .ok_or_else(|| invalid(format!("{field} must be formatted as key=value")))?;
                given.insert(name.to_owned(), value.to_owned());
            }
        }
        let mut take = |name: &str| given.remove(name);
        let mut wish = Wish {
            host: take("host"),
            files: ["ca", "cert", "key"].map(&mut take),
            from: take("from"),
            skip_verify: None,
        };
        if let Some(text) = take("skip-tls-verify") {
            let parsed = crate::options::values::boolean(&text);
            wish.skip_verify =
                Some(parsed.map_err(|_| invalid(format!("skip-tls-verify: {text}: true or false")))?);
        }
        match given.into_keys().next() {
            Some(unknown) => Err(invalid(format!("{unknown}: unrecognized config key"))),
            None => Ok(wish),
        }
    }

    /// The certificates and the key; `None` when nothing is said of them.
    fn read(&self) -> Result<Option<TlsFiles>, Failure> {
        let mut read = TlsFiles::default();
        for (file, path) in read.files.iter_mut().zip(&self.files) {
            if let Some(path) = path {
                *file = Some(std::fs::read(path).map_err(|e| Failure::new(format!("{path}: {e}")))?);
            }
        }
        if read.is_empty() {
            return Ok(None);
        }
        // Whether they can be used is found out now rather than with the first command.
        corten_api::client::Client::with_tls(Host::Tcp("localhost:2376".into()), &read.options(true))
            .map_err(|e| {
                Failure::new(format!(
                    "unable to create docker endpoint config: invalid docker endpoint options: {e}"
                ))
            })?;
        Ok(Some(read))
    }
}

fn check_host(host: &str) -> Result<(), Failure> {
    Host::parse(host).map(drop).map_err(|e| {
        Failure::new(format!(
            "unable to create docker endpoint config: unable to apply docker endpoint options: {e}"
        ))
    })
}

#[derive(Clone, Debug, clap::Args)]
pub struct Create {
    /// Description of the context
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    /// The endpoint: host=…,ca=FILE,cert=FILE,key=FILE,skip-tls-verify=BOOL or from=CONTEXT
    #[arg(long, value_name = "KEY=VALUE,...")]
    docker: Vec<String>,
    /// Create context from a named context
    #[arg(long, value_name = "CONTEXT")]
    from: Option<String>,
    /// Its name
    #[arg(value_name = "CONTEXT")]
    name: String,
}

impl Verb for Create {
    const ABOUT: &'static str = "Create a context";
    const USAGE: &'static str = "[OPTIONS] CONTEXT";

    fn run(self, context: &Context) -> Outcome {
        let store = context.contexts()?;
        store.check_new(&self.name)?;
        let wish = Wish::parse(&self.docker)?;
        let (mut meta, mut files) =
            base(context, &store, self.from.as_ref().or(wish.from.as_ref()), &self.name)?;
        if wish.from.is_none() && self.from.is_none() && !self.docker.is_empty() {
            let host = wish.host.clone().ok_or_else(|| {
                Failure::new(
                    "unable to create docker endpoint config: docker endpoint configuration is required",
                )
                .hint("say --docker host=…")
            })?;
            check_host(&host)?;
            meta = Meta::new(&self.name, "", &host, wish.skip_verify.unwrap_or(false));
            files = wish.read()?.unwrap_or_default();
        }
        if !self.description.is_empty() {
            meta.metadata.description = self.description;
        }
        store.put(&meta, (!files.is_empty()).then_some(&files))?;
        output::print(&format!("{}\n", self.name))?;
        output::say!("Successfully created context \"{}\"", self.name);
        Ok(0)
    }
}

/// What a new context begins with: a copy of another, or of what is in use now.
fn base(
    context: &Context,
    store: &Store,
    from: Option<&String>,
    name: &str,
) -> Result<(Meta, TlsFiles), Failure> {
    let other = match from {
        Some(other) => other.clone(),
        None => context.name(),
    };
    if other == DEFAULT {
        return Ok((Meta::new(name, "", &context.default_host(), false), TlsFiles::default()));
    }
    let meta = store.get(&other)?;
    Ok((Meta { name: name.to_owned(), ..meta }, store.tls(&other)?))
}

#[derive(Clone, Debug, clap::Args)]
pub struct Update {
    /// Description of the context
    #[arg(long)]
    description: Option<String>,
    /// The endpoint: host=…,ca=FILE,cert=FILE,key=FILE,skip-tls-verify=BOOL or from=CONTEXT
    #[arg(long, value_name = "KEY=VALUE,...")]
    docker: Vec<String>,
    /// Its name
    #[arg(value_name = "CONTEXT")]
    name: String,
}

impl Verb for Update {
    const ABOUT: &'static str = "Update a context";
    const USAGE: &'static str = "[OPTIONS] CONTEXT";

    fn run(self, context: &Context) -> Outcome {
        let store = context.contexts()?;
        let mut meta = store.get(&self.name)?;
        if let Some(description) = self.description {
            meta.metadata.description = description;
        }
        let mut files = None;
        if !self.docker.is_empty() {
            let wish = Wish::parse(&self.docker)?;
            if let Some(from) = &wish.from {
                let (other, others) = base(context, &store, Some(from), &self.name)?;
                (meta.endpoints, files) = (other.endpoints, Some(others));
            } else {
                let host = wish.host.clone().unwrap_or_else(|| context.default_host());
                check_host(&host)?;
                meta.set_endpoint(&host, wish.skip_verify.unwrap_or(false));
                files = Some(wish.read()?.unwrap_or_default());
            }
        }
        store.put(&meta, files.as_ref())?;
        output::print(&format!("{}\n", self.name))?;
        output::say!("Successfully updated context \"{}\"", self.name);
        Ok(0)
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Use {
    /// Its name
    #[arg(value_name = "CONTEXT")]
    name: String,
}

impl Verb for Use {
    const ABOUT: &'static str = "Set the current context, for Docker's client, too";
    const USAGE: &'static str = "CONTEXT";

    fn run(self, context: &Context) -> Outcome {
        let store = context.contexts()?;
        if self.name != DEFAULT {
            store.get(&self.name)?;
        }
        store.set_current(&self.name)?;
        output::print(&format!("{}\n", self.name))?;
        output::say!("Current context is now \"{}\"", self.name);
        if self.name != DEFAULT {
            warn_of_environment(context);
        }
        Ok(0)
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Rm {
    /// Force the removal of a context in use
    #[arg(short, long)]
    force: bool,
    /// Names of contexts
    #[arg(value_name = "CONTEXT", required = true)]
    names: Vec<String>,
}

impl Verb for Rm {
    const ABOUT: &'static str = "Remove one or more contexts";
    const USAGE: &'static str = "[OPTIONS] CONTEXT [CONTEXT...]";

    fn run(self, context: &Context) -> Outcome {
        let store = context.contexts()?;
        let mut first = None;
        for name in &self.names {
            match remove(context, &store, name, self.force) {
                Ok(()) => output::print(&format!("{name}\n"))?,
                Err(failure) => {
                    if let Some(earlier) = first.replace(failure) {
                        earlier.report();
                    }
                }
            }
        }
        first.map_or(Ok(0), Err)
    }
}

fn remove(context: &Context, store: &Store, name: &str, force: bool) -> Result<(), Failure> {
    if name == DEFAULT {
        return Err(Failure::new(format!("context \"{DEFAULT}\" cannot be removed")));
    }
    if !store.directories(name).0.exists() && !force {
        return Err(crate::contexts::StoreError::Missing(name.to_owned()).into());
    }
    if context.name() == name && !force {
        return Err(Failure::new(format!("context \"{name}\" is in use, set -f flag to force remove")));
    }
    if store.current().as_deref() == Some(name) {
        store.set_current(DEFAULT)?;
    }
    Ok(store.remove(name)?)
}
