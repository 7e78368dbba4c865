//! Credentials of registries, where Docker's client keeps them: in `config.json` below `auths`, or with the helper that the file
//! names (`credHelpers` for one registry, `credsStore` for all; the protocol is that of docker-credential-helpers).

use std::io::Write;
use std::process::{Command, Stdio};

use corten_api::base64;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::cli::Failure;
use crate::contexts::Store;

/// What helpers call the user of an identity token.
const TOKEN_USER: &str = "<token>";

/// Who somebody is to a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub name: String,
    pub secret: Secret,
}

#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    Password(String),
    Identity(String),
}

/// What helpers are told, and tell.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Told {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    username: String,
    secret: String,
}

/// The credentials of one registry, by the key that Docker's client has for it.
pub struct Place<'a> {
    pub store: &'a Store,
    pub registry: &'a str,
}

impl Place<'_> {
    pub fn find(&self) -> Result<Option<Credentials>, Failure> {
        let config = self.config()?;
        if let Some(helper) = self.helper(&config) {
            let (told, output) = run(&helper, "get", self.registry.as_bytes())?;
            if !told {
                return Ok(None);
            }
            let Ok(told) = serde_json::from_slice::<Told>(&output) else { return Ok(None) };
            let secret = match told.username.as_str() {
                TOKEN_USER => Secret::Identity(told.secret),
                _ => Secret::Password(told.secret),
            };
            return Ok(Some(Credentials { name: told.username, secret }));
        }
        let entry = config.get("auths").and_then(|auths| auths.get(self.registry));
        let text =
            |name: &str| entry.and_then(|entry| entry.get(name)).and_then(Value::as_str).unwrap_or_default();
        let decoded = base64::decode(text("auth")).and_then(|bytes| String::from_utf8(bytes).ok());
        let Some((name, password)) = decoded.as_deref().and_then(|pair| pair.split_once(':')) else {
            return Ok(None);
        };
        let secret = match text("identitytoken") {
            "" => Secret::Password(password.trim_end_matches('\0').to_owned()),
            token => Secret::Identity(token.to_owned()),
        };
        Ok(Some(Credentials { name: name.to_owned(), secret }))
    }

    /// Keeps them; says whether they are encrypted, as a helper may do.
    pub fn keep(&self, credentials: &Credentials) -> Result<bool, Failure> {
        let helper = self.helper(&self.config()?);
        let entry = match (&helper, &credentials.secret) {
            (None, Secret::Password(password)) => json!({"auth": pair(&credentials.name, password)}),
            (None, Secret::Identity(token)) => {
                json!({"auth": pair(&credentials.name, ""), "identitytoken": token})
            }
            (Some(helper), secret) => {
                let (username, secret) = match secret {
                    Secret::Password(password) => (credentials.name.as_str(), password),
                    Secret::Identity(token) => (TOKEN_USER, token),
                };
                let told = Told {
                    server_url: self.registry.to_owned(),
                    username: username.to_owned(),
                    secret: secret.clone(),
                };
                let (kept, output) = run(helper, "store", json!(told).to_string().as_bytes())?;
                if !kept {
                    let why = String::from_utf8_lossy(&output).trim().to_owned();
                    return Err(Failure::new(format!(
                        "docker-credential-{helper} did not keep the credentials: {why}"
                    )));
                }
                json!({})
            }
        };
        self.store.change_config(|config| {
            let auths = config.entry("auths").or_insert_with(|| json!({}));
            if !auths.is_object() {
                *auths = json!({});
            }
            auths[self.registry] = entry;
        })?;
        Ok(helper.is_some())
    }

    /// Removes them, if there are any.
    pub fn forget(&self) -> Result<(), Failure> {
        let config = self.config()?;
        if let Some(helper) = self.helper(&config) {
            // A helper that knows nothing of them fails, too.
            run(&helper, "erase", self.registry.as_bytes())?;
        }
        if config.get("auths").is_some_and(|auths| auths.get(self.registry).is_some()) {
            self.store.change_config(|config| {
                if let Some(auths) = config.get_mut("auths").and_then(Value::as_object_mut) {
                    auths.shift_remove(self.registry);
                }
            })?;
        }
        Ok(())
    }

    fn config(&self) -> Result<Map<String, Value>, Failure> {
        Ok(self.store.config()?)
    }

    fn helper(&self, config: &Map<String, Value>) -> Option<String> {
        let own = config.get("credHelpers").and_then(|helpers| helpers.get(self.registry));
        let name = own.or_else(|| config.get("credsStore"))?.as_str()?;
        (!name.is_empty()).then(|| name.to_owned())
    }
}

/// The keys of the registries of which something is kept; none where that can't be read.
pub fn registries(store: &Store) -> Vec<String> {
    let Ok(config) = store.config() else { return Vec::new() };
    let tables = ["auths", "credHelpers"].into_iter().filter_map(|name| config.get(name)?.as_object());
    let mut keys: Vec<String> = tables.flat_map(|table| table.keys().cloned()).collect();
    keys.sort();
    keys.dedup();
    keys
}

/// RFC 7617.
fn pair(name: &str, password: &str) -> String {
    base64::encode(format!("{name}:{password}").as_bytes())
}

/// Runs a helper: whether it did it, and what it says.
fn run(helper: &str, action: &str, input: &[u8]) -> Result<(bool, Vec<u8>), Failure> {
    let program = format!("docker-credential-{helper}");
    let failed = |error: std::io::Error| {
        Failure::new(format!("run {program}: {error}"))
            .hint("config.json names it under credsStore or credHelpers; install it, or remove it there")
    };
    let mut child = Command::new(&program)
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that reads nothing says in the end what it thinks of it.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output().map_err(failed)?;
    Ok((output.status.success(), output.stdout))
}
