//! Which engine a command talks to: flags, then the environment, then the current context, then this host's own.

use std::path::PathBuf;

use corten_api::client::{Client, Host, TlsOptions};

use super::context::DEFAULT_SOCKET;
use super::{Failure, Globals};
use crate::contexts::{DEFAULT, Store, TlsFiles};

/// Where TLS listens unless told otherwise.
const TLS_PORT: u16 = 2376;
const PORT: u16 = 2375;

/// An engine, and how to speak to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub host: Host,
    /// For hosts at a TCP port.
    tls: Option<TlsOptions>,
    /// Nobody has named it.
    pub is_default: bool,
}

/// What the command line and the environment say.
pub struct Outside<'a> {
    pub globals: &'a Globals,
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// The directory of the client's configuration.
    pub config: Option<PathBuf>,
    /// The context that `context use` has chosen.
    pub current: &'a dyn Fn() -> Option<String>,
}

impl Outside<'_> {
    fn set(&self, name: &str) -> Option<String> {
        (self.environment)(name).filter(|value| !value.is_empty())
    }

    fn store(&self) -> Option<Store> {
        self.config.clone().map(Store::new)
    }

    /// The name of the context in use.
    pub fn context_name(&self) -> String {
        if let Some(name) = &self.globals.context {
            return name.clone();
        }
        if !self.globals.host.is_empty() || self.host_of_environment().is_some() {
            return DEFAULT.to_owned();
        }
        self.set("CORTEN_CONTEXT")
            .or_else(|| self.set("DOCKER_CONTEXT"))
            .or_else(self.current)
            .unwrap_or(DEFAULT.to_owned())
    }

    /// The variable that names a host, and what it says.
    pub fn host_of_environment(&self) -> Option<(&'static str, String)> {
        ["CORTEN_HOST", "DOCKER_HOST"].into_iter().find_map(|name| Some((name, self.set(name)?)))
    }

    pub fn resolve(&self) -> Result<Endpoint, Failure> {
        if self.globals.context.is_some() && !self.globals.host.is_empty() {
            return Err(Failure::new("conflicting options: cannot specify both --host and --context"));
        }
        let name = self.context_name();
        if name != DEFAULT {
            return self.of_context(&name);
        }
        let named = self.globals.host.last().cloned();
        let named = named.or_else(|| self.host_of_environment().map(|(_, host)| host));
        let tls = self.tls()?;
        let port = if tls.is_some() { TLS_PORT } else { PORT };
        let host = match &named {
            None => Host::Unix(DEFAULT_SOCKET.into()),
            Some(text) => Host::parse_with_port(text, port)?,
        };
        let is_default = host == Host::Unix(DEFAULT_SOCKET.into());
        let tls = tls.filter(|_| matches!(host, Host::Tcp(_)));
        Ok(Endpoint { host, tls, is_default })
    }

    fn of_context(&self, name: &str) -> Result<Endpoint, Failure> {
        let hint = "`corten context ls` lists the contexts";
        let failed = |message: String| {
            Failure::new(format!("unable to resolve docker endpoint: {message}")).hint(hint)
        };
        let Some(store) = self.store() else {
            return Err(failed(format!("context \"{name}\": there is no home directory to find it in")));
        };
        let meta = store.get(name).map_err(|e| failed(e.to_string()))?;
        let files = store.tls(name).map_err(|e| failed(e.to_string()))?;
        let with_tls = !files.is_empty() || meta.skip_verify();
        let port = if with_tls { TLS_PORT } else { PORT };
        let host = Host::parse_with_port(meta.host(), port)?;
        let tls = (with_tls && matches!(host, Host::Tcp(_))).then(|| files.options(!meta.skip_verify()));
        Ok(Endpoint { host, tls, is_default: false })
    }

    /// What flags and environment say of TLS.
    fn tls(&self) -> Result<Option<TlsOptions>, Failure> {
        let globals = self.globals;
        let verify = globals.tlsverify || self.set("DOCKER_TLS_VERIFY").is_some();
        let named = [&globals.tlscacert, &globals.tlscert, &globals.tlskey];
        let wanted =
            verify || globals.tls || self.set("DOCKER_TLS").is_some() || named.iter().any(|f| f.is_some());
        if !wanted {
            return Ok(None);
        }
        let directory = self.set("DOCKER_CERT_PATH").map(PathBuf::from).or_else(|| self.config.clone());
        let mut files = match directory {
            Some(directory) => TlsFiles::read(&directory).map_err(|e| Failure::new(e.to_string()))?,
            None => TlsFiles::default(),
        };
        for (file, path) in files.files.iter_mut().zip(named) {
            if let Some(path) = path {
                let read = std::fs::read(path);
                *file = Some(read.map_err(|e| Failure::new(format!("{}: {e}", path.display())))?);
            }
        }
        Ok(Some(files.options(verify)))
    }
}

impl Endpoint {
    /// Opens nothing yet.
    pub fn client(&self) -> Result<Client, Failure> {
        match &self.tls {
            Some(tls) => Ok(Client::with_tls(self.host.clone(), tls)?),
            None => Ok(Client::new(self.host.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contexts::Meta;

    fn resolve(
        globals: &Globals,
        environment: &[(&str, &str)],
        config: &std::path::Path,
    ) -> Result<Endpoint, Failure> {
        let environment = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let current = || Store::new(config.to_owned()).current();
        Outside { globals, environment: &environment, config: Some(config.to_owned()), current: &current }
            .resolve()
    }

    #[test]
    fn flags_then_environment_then_context() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().to_owned());
        store.put(&Meta::new("one", "", "tcp://one:1", true), None).unwrap();
        store.put(&Meta::new("two", "", "unix:///two", false), None).unwrap();
        store.set_current("two").unwrap();
        let host = |globals: &Globals, environment: &[(&str, &str)]| {
            resolve(globals, environment, dir.path()).map(|endpoint| endpoint.host.to_string())
        };
        let flag = Globals { host: vec!["unix:///flag".into()], ..Globals::default() };
        let context = Globals { context: Some("one".into()), ..Globals::default() };
        let everything = [("DOCKER_HOST", "unix:///env"), ("DOCKER_CONTEXT", "one")];
        assert_eq!(host(&flag, &everything).unwrap(), "unix:///flag");
        assert_eq!(host(&context, &everything).unwrap(), "tcp://one:1");
        assert_eq!(host(&Globals::default(), &everything).unwrap(), "unix:///env");
        assert_eq!(host(&Globals::default(), &everything[1..]).unwrap(), "tcp://one:1");
        assert_eq!(host(&Globals::default(), &[]).unwrap(), "unix:///two");
        assert!(host(&Globals::default(), &[("DOCKER_CONTEXT", "no")]).is_err());
        assert!(host(&Globals { context: Some("one".into()), ..flag }, &[]).is_err());
        assert_eq!(
            host(&Globals { context: Some("default".into()), ..Globals::default() }, &[]).unwrap(),
            format!("unix://{DEFAULT_SOCKET}")
        );
        let one = resolve(&context, &[], dir.path()).unwrap();
        assert_eq!(one.tls, Some(TlsOptions::default()));
    }

    #[test]
    fn tls_comes_from_flags_and_environment() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), "CA").unwrap();
        let tls = |globals: &Globals, environment: &[(&str, &str)]| {
            let environment = [&[("DOCKER_HOST", "tcp://h")], environment].concat();
            resolve(globals, &environment, dir.path())
                .map(|endpoint| (endpoint.host.to_string(), endpoint.tls))
        };
        assert_eq!(tls(&Globals::default(), &[]).unwrap(), ("tcp://h:2375".into(), None));
        let verified = TlsOptions { ca: Some(b"CA".to_vec()), verify: true, ..TlsOptions::default() };
        assert_eq!(
            tls(&Globals::default(), &[("DOCKER_TLS_VERIFY", "1")]).unwrap(),
            ("tcp://h:2376".into(), Some(verified.clone()))
        );
        let flags = Globals { tls: true, ..Globals::default() };
        assert_eq!(tls(&flags, &[]).unwrap().1, Some(TlsOptions { verify: false, ..verified }));
        let missing = Globals { tlscert: Some("/nonexistent".into()), ..Globals::default() };
        assert!(tls(&missing, &[]).is_err());
    }
}
