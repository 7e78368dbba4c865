//! Reads the configuration again while the registry runs (SIGHUP, `corten registry reload`). All of it counts from then on, or
//! nothing of it: a file with a mistake, or one that changes what only a start can change, leaves everything as it was.

use std::sync::Arc;

use super::access::{Access, AccessConfig};
use super::gate::Gate;
use super::live::Live;
use super::quota::Ledger;
use super::registry::Registry;
use super::run::{ServeError, exposure};
use super::settings::{Config, Settings, SettingsError};
use super::webhooks;

type Read = dyn Fn() -> Result<Config, SettingsError> + Send + Sync;

/// What a program that runs a registry has to do with its configuration.
pub struct Source {
    /// Reads it as at the start, with what flags say.
    pub read: Box<Read>,
    pub set_log_level: Box<dyn Fn(tracing::Level) + Send + Sync>,
}

/// Reloads, one at a time. Cheap to clone.
#[derive(Clone)]
pub struct Reloader(Arc<Parts>);

struct Parts {
    registry: Registry,
    source: Source,
    turn: tokio::sync::Mutex<()>,
}

impl Reloader {
    pub fn new(registry: Registry, source: Source) -> Reloader {
        Reloader(Arc::new(Parts { registry, source, turn: tokio::sync::Mutex::default() }))
    }

    /// The keys that have other values now. Both it and what is wrong are in the log, too.
    pub async fn reload(&self) -> Result<Vec<&'static str>, ServeError> {
        let reloaded = self.apply().await;
        match &reloaded {
            Ok(changed) if changed.is_empty() => {
                tracing::info!("read the configuration again: nothing has changed")
            }
            Ok(changed) => tracing::info!(changed = changed.join(", "), "read the configuration again"),
            Err(error) => tracing::error!("the configuration stays as it was: {error}"),
        }
        reloaded
    }

    async fn apply(&self) -> Result<Vec<&'static str>, ServeError> {
        let _turn = self.0.turn.lock().await;
        let parts = self.0.clone();
        // It reads files.
        let prepared = tokio::task::spawn_blocking(move || {
            let before = parts.registry.live();
            let settings = (parts.source.read)()?.settings()?;
            prepare(&before, settings)
        });
        let (live, changed) = prepared.await.map_err(|error| ServeError::Panic(error.to_string()))??;
        if changed.contains(&"quotas") {
            let ledger = Arc::new(Ledger::new(live.settings.quotas.clone()));
            let registry = &self.0.registry;
            registry
                .catalogue
                .set_quotas(ledger)
                .await
                .map_err(|error| ServeError::Quotas(error.explain()))?;
            registry.uploads.recount();
        }
        if changed.contains(&"log_level") {
            (self.0.source.set_log_level)(live.settings.log_level);
        }
        self.0.registry.replace(live);
        Ok(changed)
    }
}

/// What is to count, and the keys that differ. Opens what it needs, changes nothing.
fn prepare(before: &Live, settings: Settings) -> Result<(Live, Vec<&'static str>), ServeError> {
    let changes = before.settings.changes(&settings);
    if !changes.fixed.is_empty() {
        return Err(ServeError::Fixed(changes.fixed.join(", ")));
    }
    exposure(&settings)?;
    for hook in &settings.webhooks {
        webhooks::check(hook).map_err(ServeError::Webhook)?;
    }
    let gate = if changes.live.contains(&"access") {
        gate(&before.gate, settings.access.as_ref(), &settings)?
    } else {
        before.gate.clone()
    };
    Ok((Live { settings: Arc::new(settings), gate }, changes.live))
}

fn gate(before: &Gate, access: Option<&AccessConfig>, settings: &Settings) -> Result<Gate, ServeError> {
    Ok(match (access, before) {
        (None, _) => Gate::Open,
        (Some(access), Gate::Open) => Gate::Guarded(Arc::new(Access::open(access, &settings.data)?)),
        (Some(access), Gate::Guarded(before)) => {
            Gate::Guarded(Arc::new(Access::open_after(access, &settings.data, before)?))
        }
    })
}
