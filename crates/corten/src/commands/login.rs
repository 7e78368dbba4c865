//! `login` and `logout`: the engine shows credentials to a registry, and they are kept for later.

use std::io::Read;

use corten_api::auth::{AuthConfig, AuthReply};

use crate::cli::{Context, Failure, Outcome, Verb};
use crate::credentials::{Credentials, Place, Secret, registries};
use crate::output;
use crate::stream::{ask, ask_hidden, is_terminal};

/// How Docker's client calls Docker's hub.
const HUB: &str = "https://index.docker.io/v1/";

#[derive(Clone, Debug, clap::Args)]
pub struct Login {
    /// Password
    #[arg(short, long, conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Take the password from stdin
    #[arg(long)]
    password_stdin: bool,
    /// Username
    #[arg(short, long)]
    username: Option<String>,
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

impl Verb for Login {
    const ABOUT: &'static str = "Authenticate to a registry";
    const USAGE: &'static str = "[OPTIONS] [SERVER]";

    fn run(self, context: &Context) -> Outcome {
        if self.password_stdin && self.username.is_none() {
            return Err(Failure::new("Must provide --username with --password-stdin"));
        }
        let registry = key(self.server.as_deref());
        let store = context.contexts()?;
        let place = Place { store: &store, registry: &registry };
        // Before anything is read: the command is begun anew with an engine that had to be started.
        let client = context.probed_client()?;
        let show = |credentials: &Credentials| -> Result<AuthReply, Failure> {
            Ok(context.block_on(client.auth(&shown(&registry, credentials)))??)
        };
        let known = match (&self.username, &self.password) {
            (None, None) => place.find()?,
            _ => None,
        };
        if let Some(known) = known {
            output::talk("Authenticating with existing credentials...\n");
            match show(&known) {
                Ok(reply) => return done(&place, known, reply),
                Err(refused) => output::talk(&format!("Login did not succeed, error: {}\n", refused.message)),
            }
        }
        let credentials = self.ask(context)?;
        let reply = show(&credentials)?;
        done(&place, credentials, reply)
    }
}

impl Login {
    fn ask(self, context: &Context) -> Result<Credentials, Failure> {
        let interactive = |given: bool| match given || is_terminal() {
            true => Ok(()),
            false => Err(Failure::new("Cannot perform an interactive login from a non TTY device")
                .hint("give --username, and --password-stdin with the password on standard input")),
        };
        if self.password.is_some() {
            output::talk("WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n");
        }
        interactive(self.username.is_some())?;
        let name = match self.username {
            Some(name) => name,
            None => ask("Username: ")?,
        };
        let password = match self.password {
            Some(password) => password,
            None if self.password_stdin => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text)?;
                text.trim_end_matches(['\r', '\n']).to_owned()
            }
            None => {
                interactive(false)?;
                context.block_on(ask_hidden("Password: "))??
            }
        };
        for (what, text) in [("username", &name), ("password", &password)] {
            if text.is_empty() {
                return Err(Failure::new(format!("{what} is empty")));
            }
        }
        Ok(Credentials { name, secret: Secret::Password(password) })
    }
}

fn done(place: &Place<'_>, mut credentials: Credentials, reply: AuthReply) -> Outcome {
    if !reply.identity_token.is_empty() {
        credentials.secret = Secret::Identity(reply.identity_token);
    }
    if !place.keep(&credentials)? {
        output::talk(&format!(
            "WARNING! Your credentials are stored unencrypted in '{}'. A credential helper (credsStore) keeps them safe.\n",
            place.store.config_path().display()
        ));
    }
    output::line(&reply.status)?;
    Ok(0)
}

#[derive(Clone, Debug, clap::Args)]
pub struct Logout {
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

impl Verb for Logout {
    const ABOUT: &'static str = "Log out from a registry";
    const USAGE: &'static str = "[SERVER]";

    fn run(self, context: &Context) -> Outcome {
        let registry = key(self.server.as_deref());
        let store = context.contexts()?;
        output::line(&format!("Removing login credentials for {registry}"))?;
        Place { store: &store, registry: &registry }.forget()?;
        Ok(0)
    }
}

/// Who the user is to the registry of a name, by what is kept.
pub fn auth_for(context: &Context, domain: &str) -> Result<Option<AuthConfig>, Failure> {
    let known = credentials_for(context, domain)?;
    Ok(known.map(|known| shown(&key(Some(domain)), &known)))
}

/// The registries of which something is kept, by their domains.
pub fn known_registries(context: &Context) -> Vec<String> {
    let Ok(store) = context.contexts() else { return Vec::new() };
    let domain = |key: String| if key == HUB { "docker.io".to_owned() } else { key };
    registries(&store).into_iter().map(domain).collect()
}

/// The same for those who ask a registry themselves.
pub fn credentials_for(context: &Context, domain: &str) -> Result<Option<Credentials>, Failure> {
    // Without a home there are no credentials either.
    let Ok(store) = context.contexts() else { return Ok(None) };
    Place { store: &store, registry: &key(Some(domain)) }.find()
}

/// As the engine is told.
fn shown(registry: &str, credentials: &Credentials) -> AuthConfig {
    let mut auth = AuthConfig { serveraddress: registry.to_owned(), ..AuthConfig::default() };
    auth.username.clone_from(&credentials.name);
    match &credentials.secret {
        Secret::Password(password) => auth.password.clone_from(password),
        Secret::Identity(token) => auth.identitytoken.clone_from(token),
    }
    auth
}

/// What credentials are kept under: Docker's hub by a URL of old, others by host and port.
fn key(server: Option<&str>) -> String {
    let server = server.unwrap_or_default();
    let rest = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    match rest.split('/').next().unwrap_or_default() {
        "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
        host => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_docker_s_client() {
        assert_eq!(key(None), HUB);
        assert_eq!(key(Some("docker.io")), HUB);
        assert_eq!(key(Some("https://hub.example.com:5000/v2/")), "hub.example.com:5000");
        assert_eq!(key(Some("localhost")), "localhost");
    }
}
