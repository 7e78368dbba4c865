//! Webhooks: others hear of pushes, deletions and pulls. What is to be said is entered into the catalogue in the transaction of the deed itself
//! (`catalogue::deliveries`), so a crash loses none; `delivery` says it, in order, until somebody has heard it.
//!
//! A body is what Docker's registry notifies with (an envelope of events), so that what listens to that one understands this one.

mod delivery;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::Pattern;
use super::name::UploadId;
use super::quota;
use super::settings::{SettingsError, duration};

pub use delivery::{check, serve};

/// For how long what nobody hears is tried again, and how many wait for that.
const KEEP: Duration = Duration::from_secs(24 * 3600);
const QUEUE: u64 = 10_000;
const TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// A hook as it is written in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// What it is called in the log; what waits for it is kept by this name. The URL, if it isn't said.
    #[serde(default)]
    pub name: Option<String>,
    pub url: String,
    #[serde(default = "usual_events")]
    pub events: Vec<Event>,
    #[serde(default = "all_repositories")]
    pub repositories: Vec<String>,
    /// What bodies are signed with.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// Authorities beside those of the host.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    #[serde(default)]
    pub timeout: Option<String>,
    #[serde(default)]
    pub keep: Option<String>,
    #[serde(default)]
    pub queue: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// A manifest, with or without a tag.
    Push,
    /// A tag or a manifest.
    Delete,
    /// A manifest. Only said to who asks for it: there are many of them.
    Pull,
}

fn usual_events() -> Vec<Event> {
    vec![Event::Push, Event::Delete]
}

fn all_repositories() -> Vec<String> {
    vec!["**".to_owned()]
}

/// The same, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    pub name: String,
    url: Uri,
    host: String,
    port: u16,
    tls: bool,
    events: Vec<Event>,
    repositories: Vec<Pattern>,
    secret_file: Option<PathBuf>,
    ca: Option<PathBuf>,
    headers: Vec<(HeaderName, HeaderValue)>,
    timeout: Duration,
    keep: Duration,
    queue: u64,
}

impl Hook {
    /// Reads all of them; their names have to differ.
    pub fn read_all(configs: &[WebhookConfig]) -> Result<Vec<Hook>, SettingsError> {
        let hooks: Vec<Hook> = configs.iter().map(Hook::read).collect::<Result<_, _>>()?;
        for (at, hook) in hooks.iter().enumerate() {
            if hooks[..at].iter().any(|other| other.name == hook.name) {
                let why = "another webhook has this name; say \"name\"";
                return Err(SettingsError::Meaning { key: "webhooks", value: hook.name.clone(), why });
            }
        }
        Ok(hooks)
    }

    fn read(config: &WebhookConfig) -> Result<Hook, SettingsError> {
        let wrong = |key, value: &str, why| SettingsError::Meaning { key, value: value.to_owned(), why };
        let bad_url = |why| wrong("webhooks.url", &config.url, why);
        let url: Uri = config.url.parse().map_err(|_| bad_url("want a URL, as https://ci.example/hook"))?;
        let tls = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad_url("want a URL that begins with https:// or http://")),
        };
        let Some(authority) = url.authority() else { return Err(bad_url("there is no host in it")) };
        if authority.as_str().contains('@') {
            return Err(bad_url("names and passwords belong into \"headers\" or \"secret_file\""));
        }
        let mut headers = Vec::new();
        for (name, value) in &config.headers {
            let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) else {
                return Err(wrong("webhooks.headers", name, "want names and values of HTTP headers"));
            };
            headers.push((name, value));
        }
        let time = |key, text: &Option<String>, default| match text {
            Some(text) => duration(key, text),
            None => Ok(default),
        };
        let timeout = time("webhooks.timeout", &config.timeout, TIMEOUT)?;
        if timeout.is_zero() || timeout > TIMEOUT_MAX {
            return Err(wrong(
                "webhooks.timeout",
                config.timeout.as_deref().unwrap_or_default(),
                "want 1s to 5m",
            ));
        }
        let queue = config.queue.unwrap_or(QUEUE);
        if queue == 0 || queue > 1_000_000 {
            return Err(wrong("webhooks.queue", &queue.to_string(), "want 1 to 1000000"));
        }
        if config.events.is_empty() {
            return Err(wrong("webhooks.events", "[]", "want push, delete or pull"));
        }
        Ok(Hook {
            name: config.name.clone().unwrap_or_else(|| config.url.clone()),
            host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            url,
            tls,
            events: config.events.clone(),
            repositories: quota::repositories("webhooks.repositories", &config.repositories)?,
            secret_file: config.secret_file.clone(),
            ca: config.ca.clone(),
            headers,
            timeout,
            keep: time("webhooks.keep", &config.keep, KEEP)?,
            queue,
        })
    }

    fn wants(&self, event: Event, repository: &str) -> bool {
        self.events.contains(&event)
            && self.repositories.iter().any(|pattern| pattern.matches(repository, None))
    }
}

/// Something that was done, and how it came to that.
#[derive(Clone, Debug)]
pub struct Deed<'a> {
    pub event: Event,
    pub repository: &'a str,
    /// One event each; none is one without a tag.
    pub tags: &'a [String],
    pub digest: Option<String>,
    pub media_type: Option<&'a str>,
    pub size: Option<u64>,
    /// `http://host:port` as the client called it.
    pub base_url: Option<String>,
    pub actor: String,
    /// As Docker's registry describes one; null for what nobody has asked for.
    pub request: Value,
}

/// What a hook is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub hook: String,
    pub body: String,
}

/// Whether anybody wants to hear of such a thing.
pub fn are_wanted(hooks: &[Hook], event: Event, repository: &str) -> bool {
    hooks.iter().any(|hook| hook.wants(event, repository))
}

/// What each hook is to be told of a deed.
pub fn notices(hooks: &[Hook], deed: &Deed<'_>) -> Vec<Notice> {
    let concerned: Vec<&Hook> = hooks.iter().filter(|hook| hook.wants(deed.event, deed.repository)).collect();
    if concerned.is_empty() {
        return Vec::new();
    }
    let body = deed.envelope(jiff::Timestamp::now()).to_string();
    concerned.into_iter().map(|hook| Notice { hook: hook.name.clone(), body: body.clone() }).collect()
}

/// Tells events of this process from those of others.
static INSTANCE: LazyLock<String> = LazyLock::new(unique);

fn unique() -> String {
    // Without random numbers no TLS and no upload would work, either.
    UploadId::random().map(|id| id.to_string()).unwrap_or_default()
}

impl Deed<'_> {
    fn envelope(&self, time: jiff::Timestamp) -> Value {
        let untagged = [String::new()];
        let tags = if self.tags.is_empty() { &untagged[..] } else { self.tags };
        let events: Vec<Value> = tags.iter().map(|tag| self.event(tag, time)).collect();
        json!({"events": events})
    }

    fn event(&self, tag: &str, time: jiff::Timestamp) -> Value {
        let mut target = json!({"repository": self.repository});
        if let Some(digest) = &self.digest {
            target["digest"] = digest.as_str().into();
            if let Some(base) = &self.base_url {
                target["url"] = format!("{base}/v2/{}/manifests/{digest}", self.repository).into();
            }
        }
        if let Some(media_type) = self.media_type {
            target["mediaType"] = media_type.into();
        }
        if let Some(size) = self.size {
            target["size"] = size.into();
            target["length"] = size.into();
        }
        if !tag.is_empty() {
            target["tag"] = tag.into();
        }
        let action = match self.event {
            Event::Push => "push",
            Event::Delete => "delete",
            Event::Pull => "pull",
        };
        let mut event = json!({
            "id": unique(),
            "timestamp": time.to_string(),
            "action": action,
            "target": target,
            "actor": {"name": self.actor},
            "source": {"instanceID": *INSTANCE},
        });
        if !self.request.is_null() {
            event["request"] = self.request.clone();
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(text: &str) -> Result<Vec<Hook>, String> {
        let configs: Vec<WebhookConfig> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        Hook::read_all(&configs).map_err(|error| error.to_string())
    }

    #[test]
    fn mistakes_are_named() {
        for (text, why) in [
            (r#"[{"url": "ci.example"}]"#, "begins with https://"),
            (r#"[{"url": "ftp://ci.example"}]"#, "begins with https://"),
            (r#"[{"url": "https://me:pw@ci.example"}]"#, "headers"),
            (
                r#"[{"url": "http://a", "events": ["mount"]}]"#,
                "unknown variant `mount`, expected one of `push`, `delete`, `pull`",
            ),
            (r#"[{"url": "http://a", "events": []}]"#, "webhooks.events"),
            (r#"[{"url": "http://a", "timeout": "1h"}]"#, "webhooks.timeout"),
            (r#"[{"url": "http://a", "headers": {"a b": "c"}}]"#, "webhooks.headers"),
            (r#"[{"url": "http://a", "repositories": ["A"]}]"#, "webhooks.repositories"),
            (r#"[{"url": "http://a"}, {"url": "http://a"}]"#, "another webhook"),
            (r#"[{"url": "http://a", "queue": 0}]"#, "webhooks.queue"),
            (r#"[{"urls": "http://a"}]"#, "urls"),
        ] {
            let error = hooks(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn each_is_told_what_it_wants_to_hear() {
        let hooks = hooks(
            r#"[{"url": "http://all"}, {"name": "team", "url": "https://[::1]/hook", "events": ["push"], "repositories": ["team/**"]}]"#,
        )
        .unwrap();
        assert_eq!((hooks[1].host.as_str(), hooks[1].port), ("::1", 443));
        let told = |event, repository: &str| {
            let tags = ["a".to_owned(), "b".to_owned()];
            let deed = Deed {
                event,
                repository,
                tags: &tags,
                digest: Some("sha256:00".to_owned()),
                media_type: Some("application/x"),
                size: Some(3),
                base_url: Some("https://hub".to_owned()),
                actor: "user:alice".to_owned(),
                request: Value::Null,
            };
            notices(&hooks, &deed)
        };
        let names = |notices: &[Notice]| notices.iter().map(|notice| notice.hook.clone()).collect::<Vec<_>>();
        assert_eq!(names(&told(Event::Push, "team/app")), ["http://all", "team"]);
        assert_eq!(names(&told(Event::Delete, "team/app")), ["http://all"]);
        assert_eq!(names(&told(Event::Push, "team")), ["http://all"]);
        assert!(told(Event::Pull, "team/app").is_empty(), "nobody has asked for it");
        let body: Value = serde_json::from_str(&told(Event::Push, "team/app")[0].body).unwrap();
        let event = &body["events"][1];
        assert_eq!((&event["action"], &event["target"]["tag"]), (&"push".into(), &"b".into()));
        assert_eq!(event["target"]["url"], "https://hub/v2/team/app/manifests/sha256:00");
        assert_eq!(event["actor"]["name"], "user:alice");
        assert!(event.get("request").is_none());
        assert_ne!(body["events"][0]["id"], event["id"]);
    }
}
