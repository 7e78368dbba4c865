//! What the container sees of files: volumes, binds, tmpfs, its own root.

use corten_api::Map;
use corten_api::container::ContainerCreateRequest;
use corten_api::json::Empty;

use super::mount::mount;
use super::process::non_empty;
use super::values::bytes_of;
use super::{OptionError, Outside};

#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Files")]
pub struct StorageFlags {
    /// Bind mount a volume
    #[arg(short, long, value_name = "[SOURCE:]TARGET[:OPTIONS]")]
    pub volume: Vec<String>,
    /// Attach a filesystem mount to the container
    #[arg(long, value_name = "type=TYPE,KEY=VALUE,…")]
    pub mount: Vec<String>,
    /// Mount a tmpfs directory
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    pub tmpfs: Vec<String>,
    /// Mount volumes from the specified container(s)
    #[arg(long, value_name = "CONTAINER[:ro]")]
    pub volumes_from: Vec<String>,
    /// Optional volume driver for the container
    #[arg(long, value_name = "DRIVER", hide = true)]
    pub volume_driver: Option<String>,
    /// Mount the container's root filesystem as read only
    #[arg(long)]
    pub read_only: bool,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    pub shm_size: Option<String>,
    /// Bind mount the engine's API socket
    #[arg(long, hide = true)]
    pub use_api_socket: bool,
}

impl StorageFlags {
    pub fn apply(&self, request: &mut ContainerCreateRequest, outside: &Outside) -> Result<(), OptionError> {
        if self.use_api_socket {
            let why = "mount the socket with -v if the container may control the engine";
            return Err(OptionError::Unsupported { flag: "--use-api-socket", why });
        }
        let host = &mut request.host_config;
        request.config.volumes = Map::empty();
        for word in &self.volume {
            match volume(word, outside)? {
                Wish::Anonymous(target) => {
                    request.config.volumes.insert(target, Empty::default());
                }
                Wish::Bind(bind) => host.binds.push(bind),
            }
        }
        for word in &self.mount {
            host.mounts.push(mount(word).map_err(|why| OptionError::invalid("--mount", word, why))?);
        }
        for word in &self.tmpfs {
            let (target, options) = word.split_once(':').unwrap_or((word, ""));
            if !target.starts_with('/') {
                return Err(OptionError::invalid("--tmpfs", word, "the path must be absolute"));
            }
            host.tmpfs.insert(target.to_owned(), options.to_owned());
        }
        host.volumes_from = non_empty(&self.volumes_from);
        host.volume_driver = self.volume_driver.clone().unwrap_or_default();
        host.readonly_rootfs = self.read_only;
        host.shm_size = bytes_of("--shm-size", self.shm_size.as_deref())?;
        Ok(())
    }
}

/// What one `--volume` asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Anonymous(String),
    Bind(String),
}

fn volume(word: &str, outside: &Outside) -> Result<Wish, OptionError> {
    let bad = |why: &str| OptionError::invalid("--volume", word, why);
    let parts: Vec<&str> = word.split(':').collect();
    match parts.as_slice() {
        [""] => Err(bad("the path is empty")),
        ["/"] | [_, "/"] | [_, "/", _] => Err(bad("a volume can't be mounted on /")),
        [target] if target.starts_with('/') => Ok(Wish::Anonymous((*target).to_owned())),
        [_] => Err(bad("the path in the container must be absolute")),
        [source, target] | [source, target, _] => {
            if source.is_empty() || target.is_empty() {
                return Err(bad("an empty part between the colons"));
            }
            if !target.starts_with('/') {
                return Err(bad("the path in the container must be absolute"));
            }
            let rest = &word[source.len()..];
            if source.starts_with('.') {
                return Ok(Wish::Bind(format!("{}{rest}", absolute(source, outside))));
            }
            Ok(Wish::Bind(word.to_owned()))
        }
        _ => Err(bad("expected [SOURCE:]TARGET[:OPTIONS]")),
    }
}

/// A path below the working directory, without `.` and `..`.
fn absolute(path: &str, outside: &Outside) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let base = outside.current_dir.to_string_lossy();
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
