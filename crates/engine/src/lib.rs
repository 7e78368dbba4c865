//! The use cases of Corten and their state: containers, images, volumes, networks, events.
//!
//! [`Engine`] is the façade; every use case is a method of it, in the module of its noun. The truth is in memory,
//! the database ([`store`]) is its journal, and the monitors know what runs. Knows nothing of HTTP; leaves system calls to
//! the runtime, the image store and the networks.

mod build;
mod collector;
mod container;
mod disk;
mod error;
mod event;
mod exec;
mod id;
mod image;
mod link;
mod logging;
mod metrics;
mod mounts;
mod network;
mod options;
mod registry;
mod runtimes;
mod spec;
mod stats;
mod store;
mod system;
mod volume;
mod volumes;
mod zygote;

use std::collections::HashMap;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use corten_api::Timestamp;
use corten_image::mounts::LayerMounts;
use corten_network::Networks;
use corten_sys::private;
use tokio::sync::watch;

pub use build::{
    BuildEnd, BuildWish, BuiltTree, CacheBounds, CacheEntry, CacheKind, CachePart, CachePrune, CacheRemoval,
    CacheRule, Callback, Recording, SentCache, build_event, check_referrers, check_split,
};
pub use container::{Archive, AttachTicket, Connection, Export, LogStream, Upload};
pub use corten_image::files::{Buffered, OthersWait, Output, STALLED, stalled};
pub use corten_registry::{Insecure as InsecureRegistries, Mirrors, Proxies, SignaturePolicy};
pub use error::{Error, ErrorKind, Result};
pub use exec::ExecTicket;
pub use id::random as random_id;
pub use image::{PullWish, PushWish};
pub use metrics::{Metrics, Noun, plain as plain_metrics};
pub use options::{ContainerDefaults, EngineOptions, NetworkOptions, RegistryOptions};
pub use runtimes::{RuntimeProgram, Runtimes};
pub use stats::{BatchFeed, StatsFeed};
pub use volumes::{OpenVolume, VolumeExport};

use collector::Collector;
use event::Events;
use store::StateStore;
use system::Host;
use volume::Volumes;
use zygote::ZygoteKeeper;

/// How long the end of an engine waits for monitors whose containers have ended.
const CLEARING_DEADLINE: Duration = Duration::from_secs(5);

/// One engine. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

pub struct Inner {
    pub(crate) options: EngineOptions,
    /// Eight hexadecimal digits in the name of everything this engine has in the kernel.
    pub(crate) instance: String,
    /// The host was started since the last engine.
    pub(crate) rebooted: bool,
    pub(crate) host: Host,
    pub(crate) store: Arc<StateStore>,
    pub(crate) images: Arc<corten_image::Store>,
    pub(crate) layers: Arc<LayerMounts>,
    pub(crate) zygote: ZygoteKeeper,
    pub(crate) networks: Networks,
    pub(crate) network_registry: network::NetworkRegistry,
    /// Names of networks are written one after the other.
    pub(crate) names_turn: Mutex<()>,
    /// Hosts files of running containers are edited one after the other.
    pub(crate) hosts_turn: Mutex<()>,
    /// Connections to registries.
    pub(crate) registries: corten_registry::Client,
    /// Which images have to be signed.
    pub(crate) signatures: RwLock<SignaturePolicy>,
    pub(crate) volumes: Volumes,
    /// Those of them that are mounted.
    pub(crate) mounted: volume::mounted::Mounted,
    pub(crate) containers: container::Registry,
    /// Exec id → container id.
    pub(crate) execs: Mutex<HashMap<String, String>>,
    pub(crate) events: Events,
    pub(crate) restarts: container::Restarts,
    pub(crate) sampler: stats::Sampler,
    pub(crate) builds: build::Builds,
    /// Metrics of what has happened.
    pub(crate) counted: Metrics,
    /// A prune is under way.
    pub(crate) pruning: AtomicBool,
    /// `EngineOptions::labels`, which a reload changes.
    labels: RwLock<Vec<String>>,
    /// How many monitors have a line to this engine.
    pub(crate) monitors: watch::Sender<usize>,
    collector: RwLock<Collector>,
}

impl Deref for Engine {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl Engine {
    /// Opens the data root, starts what an engine needs, and finds running containers again.
    pub async fn open(options: EngineOptions) -> Result<Self> {
        let engine = image::blocking(move || Self::assemble(options)).await?;
        engine.restore().await?;
        engine.keep_to_build_budget();
        engine.collector().tidy();
        Ok(engine)
    }

    fn assemble(options: EngineOptions) -> Result<Self> {
        let root = &options.data_root;
        // Environments, logs and set-user-ID files of containers are nobody else's. The way to the socket stays open.
        for (directory, mode) in [
            (root.clone(), 0o710),
            (root.join("containers"), 0o700),
            (root.join("image"), 0o700),
            (root.join("snapshots"), 0o700),
            (root.join("volumes"), 0o700),
            (options.exec_root.join("containers"), 0o700),
            (options.exec_root.join("rootfs"), 0o755),
        ] {
            private::directory(&directory, mode).map_err(|e| Error::io("create", &directory, e))?;
        }
        let store = Arc::new(StateStore::open(&root.join("engine.db"))?);
        let (instance, created) = identity(&store)?;
        let rebooted = note_boot(&store)?;
        let driver = options
            .storage_driver
            .as_deref()
            .map(|name| name.parse().map_err(|e: String| Error::invalid(e)))
            .transpose()?;
        let images = Arc::new(store.with_room(|| {
            let options = corten_image::StoreOptions { driver, ..Default::default() };
            corten_image::Store::open(&root.join("image"), &root.join("snapshots"), options)
                .map_err(image::failed)
        })?);
        let layers = LayerMounts::start(&options.exec_root.join("layers"))
            .map_err(|e| Error::internal(format!("start the mount thread: {e}")))?;
        let layers = Arc::new(layers);
        images.use_mounts(&layers);
        let zygote = ZygoteKeeper::start(options.shim.clone(), layers.clone())?;
        let networks = network::open(&instance, &options.network)?;
        let network_registry = network::NetworkRegistry::default();
        for name in network::PREDEFINED {
            network_registry.insert(network::NetworkRecord::predefined(
                &instance,
                created,
                name,
                networks.nat(),
            ));
        }
        let volumes = Volumes::open(root.join("volumes"), store.clone())?;
        let journal = root.join("events");
        store.refill_reserve();
        images.refill_reserve();
        let events = Events::open(&journal).map_err(|e| Error::io("open", &journal, e))?;
        let places = collector::Places {
            containers: root.join("containers"),
            run: options.exec_root.join("containers"),
        };
        let collector = Collector::start(store.clone(), images.clone(), places)
            .map_err(|e| Error::internal(format!("start the collector: {e}")))?;
        let mounts = build::CacheMounts::new(root.join("build/caches"), store.clone());
        let history = build::History::new(root.join("build/history"), store.clone());
        let builds = build::Builds::new(mounts, images.clone(), history);
        Ok(Self {
            inner: Arc::new(Inner {
                instance,
                rebooted,
                host: Host::explore(),
                store,
                images,
                mounted: volume::mounted::Mounted::new(layers.clone()),
                layers,
                zygote,
                networks,
                network_registry,
                names_turn: Mutex::default(),
                hosts_turn: Mutex::default(),
                registries: registry::client(&options.registries),
                signatures: RwLock::new(options.registries.signatures.clone()),
                volumes,
                containers: container::Registry::default(),
                execs: Mutex::default(),
                restarts: container::Restarts::default(),
                sampler: stats::Sampler::default(),
                builds,
                counted: Metrics::default(),
                pruning: AtomicBool::new(false),
                events,
                labels: RwLock::new(options.labels.clone()),
                monitors: watch::Sender::new(0),
                collector: RwLock::new(collector),
                options,
            }),
        })
    }

    /// Ends the engine; running containers go on.
    pub async fn shutdown(&self) {
        self.restarts.close().await;
        // What nobody waits for any more.
        self.end_build_steps().await;
        let running = self.containers.all().iter().filter(|container| container.phase().is_alive()).count();
        // Those that have just ended still remove their control groups, without which the parent can't go.
        let mut monitors = self.monitors.subscribe();
        let _ = tokio::time::timeout(CLEARING_DEADLINE, monitors.wait_for(|count| *count <= running)).await;
        let running = running > 0;
        let engine = self.clone();
        let _ = image::blocking(move || {
            engine.collector.write().unwrap_or_else(PoisonError::into_inner).stop();
            engine.images.sync();
            engine.events.close();
            if !running {
                engine.remove_parent_group();
                engine.remove_run_directories();
            }
            // The bridge and the rules stay as long as somebody needs them.
            if let Err(error) = engine.networks.close(!running) {
                tracing::warn!(%error, "network");
            }
            Ok(())
        })
        .await;
    }

    /// The directories of the exec root, which are empty once nothing runs; one with something in it stays. Only without containers:
    /// removing a directory unmounts in every namespace what is mounted on it.
    fn remove_run_directories(&self) {
        let root = &self.options.exec_root;
        let containers = root.join("containers");
        for entry in std::fs::read_dir(&containers).into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(entry.path());
        }
        let _ = std::fs::remove_dir(root.join("networks"));
        if std::fs::remove_dir(&containers).is_ok() {
            for name in ["layers", "rootfs"] {
                let _ = std::fs::remove_dir(root.join(name));
            }
        }
    }

    /// The group above the containers' groups, when it is ours and empty.
    fn remove_parent_group(&self) {
        let path = format!("/corten-{}", self.instance);
        let removed = match corten_runtime::cgroup::Cgroup::open(std::path::Path::new(&path)) {
            Ok(group) => group.remove(),
            Err(_) => return,
        };
        if let Err(error) = removed {
            tracing::debug!(path, %error, "parent control group");
        }
    }

    pub(crate) fn collector(&self) -> RwLockReadGuard<'_, Collector> {
        self.collector.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a container's child mounts its root, in its own mount namespace.
    pub(crate) fn root_mount_point(&self) -> PathBuf {
        self.options.exec_root.join("rootfs")
    }

    /// The control group of a running container.
    pub(crate) fn cgroup(&self, container: &container::Container) -> Result<corten_runtime::cgroup::Cgroup> {
        let path = self.cgroups_path(&container.read());
        corten_runtime::cgroup::Cgroup::open(std::path::Path::new(&path))
            .map_err(|e| Error::internal(format!("control group {path}: {e}")))
    }
}

/// Whether this is another boot of the host than the last engine's. The first engine knows of none.
fn note_boot(store: &StateStore) -> Result<bool> {
    const BOOT: &str = "/proc/sys/kernel/random/boot_id";
    let now = std::fs::read_to_string(BOOT).map_err(|e| Error::io("read", BOOT.as_ref(), e))?;
    let last = store.setting("boot")?;
    if last.as_deref() == Some(now.trim()) {
        return Ok(false);
    }
    store.put_setting("boot", now.trim())?;
    Ok(last.is_some())
}

/// The instance's name and when it was made; both are made up at the first start.
fn identity(store: &StateStore) -> Result<(String, Timestamp)> {
    if let (Some(instance), Some(created)) = (store.setting("instance")?, store.setting("created")?) {
        let created =
            created.parse().map_err(|_| Error::internal("the state database has no valid creation time"))?;
        return Ok((instance, created));
    }
    let (instance, created) = (id::random()[..8].to_owned(), Timestamp::now());
    store.put_setting("instance", &instance)?;
    store.put_setting("created", &created.to_string())?;
    Ok((instance, created))
}
