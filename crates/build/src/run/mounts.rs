//! What a RUN step has mounted.

use std::sync::Arc;

use corten_image::build::{Stack, TakeAll};

use crate::context::CONTEXT;
use crate::dockerfile::{Mount, MountType, Sharing};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::pattern;
use crate::stage::Running;
use crate::worker::{CacheWish, MountSource, StepMount};

/// The build argument that parts the cache mounts of some builds from those of others.
const NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";

/// What is known of a mount before the step is done.
pub(super) enum Prepared {
    Source(MountSource),
    Cache(CacheWish),
    /// The asker is asked for it when the step is done.
    Later,
}

impl Running<'_> {
    /// What a mount brings, as far as the key depends on it.
    pub(super) async fn source(&self, mount: &Mount, key: &mut Key) -> Result<Prepared> {
        let target = self.target_of(mount)?;
        key.text(mount.kind.name()).text(&target).number(mount.read_only.into());
        let path = pattern::relative(mount.source.as_deref().unwrap_or(""));
        match mount.kind {
            MountType::Bind => {
                let (stack, path) = match &mount.from {
                    None => {
                        let (tree, filter) = (self.build.tree(CONTEXT).await?, self.build.context.filter());
                        self.build.mounted_tree(tree, filter, &path, key).await?
                    }
                    Some(name) => self.mounted_from(name, path, key).await?,
                };
                Ok(Prepared::Source(MountSource::Layers { stack, path }))
            }
            MountType::Cache => {
                key.text(&self.cache_id(mount));
                let origin = match &mount.from {
                    Some(name) => Some(self.mounted_from(name, path, key).await?),
                    None if path.is_empty() => None,
                    None => {
                        return Err(Error::Invalid(format!(
                            "RUN --mount=type=cache,source=/{path}: a cache begins empty; say by from= what it is a copy of"
                        )));
                    }
                };
                let private = mount.sharing == Sharing::Private;
                let owner = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
                let wish = CacheWish {
                    id: self.cache_id(mount),
                    mode: mount.mode.unwrap_or(0o755),
                    owner,
                    is_private: private,
                    origin,
                };
                Ok(Prepared::Cache(wish))
            }
            MountType::Tmpfs => {
                let bytes = mount.size_bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
                Ok(Prepared::Source(MountSource::Tmpfs { bytes }))
            }
            // What they hold is no part of any key.
            MountType::Secret | MountType::Ssh => {
                key.text(mount.id.as_deref().unwrap_or("")).text(mount.env.as_deref().unwrap_or(""));
                Ok(Prepared::Later)
            }
        }
    }

    async fn mounted_from(&self, name: &str, path: String, key: &mut Key) -> Result<(Stack, String)> {
        let state = match self.stage_named(name)? {
            Some(stage) => self.build.stage(stage).await?,
            None => match self.build.named_tree(name).await? {
                Some(tree) => return self.build.mounted_tree(tree, Arc::new(TakeAll), &path, key).await,
                None => Arc::new(self.build.outside(name, &self.build.platform).await?),
            },
        };
        key.stack(&state.stack).text(&path);
        Ok((state.stack.clone(), path))
    }

    pub(super) async fn add_mount(
        &self,
        mount: Mount,
        source: Option<MountSource>,
        env: &mut Vec<String>,
        secret_env: &mut Vec<String>,
        mounts: &mut Vec<StepMount>,
    ) -> Result<()> {
        let target = self.target_of(&mount)?;
        let (uid, gid) = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        let source = match (mount.kind, source) {
            (_, Some(source)) => source,
            (MountType::Secret, _) => {
                let id = secret_id(&mount)?;
                let Some(bytes) = self.build.asker.secret(&id).await? else {
                    return match mount.required {
                        true => Err(Error::Invalid(format!(
                            "secret {id}: not found: give it by --secret id={id},src=FILE"
                        ))),
                        false => Ok(()),
                    };
                };
                if let Some(name) = &mount.env {
                    let text = String::from_utf8(bytes).map_err(|_| {
                        Error::Invalid(format!("secret {id} is no text and can't be an environment variable"))
                    })?;
                    env.retain(|entry| crate::state::name_of(entry) != name);
                    secret_env.push(format!("{name}={text}"));
                    if mount.target.is_none() {
                        return Ok(());
                    }
                    let bytes = text.into_bytes();
                    MountSource::Secret { bytes, mode: mount.mode.unwrap_or(0o400), uid, gid }
                } else {
                    MountSource::Secret { bytes, mode: mount.mode.unwrap_or(0o400), uid, gid }
                }
            }
            (MountType::Ssh, _) => {
                let id = mount.id.clone().unwrap_or_else(|| "default".to_owned());
                let is_there = self.build.asker.ssh(&id).await?;
                let Some(agent) = is_there else {
                    return match mount.required {
                        true => {
                            Err(Error::Invalid(format!("unset ssh forward key {id}: give it by --ssh {id}")))
                        }
                        false => Ok(()),
                    };
                };
                // The first one's; what the Dockerfile sets stays.
                if !env.iter().any(|entry| crate::state::name_of(entry) == "SSH_AUTH_SOCK") {
                    env.push(format!("SSH_AUTH_SOCK={target}"));
                }
                MountSource::Agent { agent, mode: mount.mode.unwrap_or(0o600), uid, gid }
            }
            _ => return Err(Error::Internal("a mount without a source".to_owned())),
        };
        mounts.push(StepMount { target, is_read_only: mount.read_only, source });
        Ok(())
    }

    /// A cache is known by its id, else by its target.
    pub(super) fn cache_id(&self, mount: &Mount) -> String {
        let id = mount.id.clone().or_else(|| mount.target.clone()).unwrap_or_default();
        match self.build.options.build_args.get(NAMESPACE).map(|name| name.trim_matches('/')) {
            None | Some("") => id,
            Some(namespace) => format!("{namespace}/{}", id.trim_start_matches('/')),
        }
    }

    fn target_of(&self, mount: &Mount) -> Result<String> {
        let target = match (&mount.target, mount.kind) {
            (Some(target), _) => target.clone(),
            (None, MountType::Secret) => format!("/run/secrets/{}", base_name(&secret_id(mount)?)),
            (None, kind) => {
                return Err(Error::Invalid(format!("RUN --mount=type={}: target is required", kind.name())));
            }
        };
        Ok(pattern::clean(&self.absolute(&target)))
    }
}

pub(super) fn secret_id(mount: &Mount) -> Result<String> {
    let named = mount.id.clone().or_else(|| mount.source.clone());
    named
        .or_else(|| mount.target.as_deref().map(|target| base_name(target).to_owned()))
        .ok_or_else(|| Error::Invalid("RUN --mount=type=secret: id or target is required".to_owned()))
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Sockets of agents that have no place are numbered.
pub(super) fn place_agents(mounts: &mut [Mount]) {
    let agents = mounts.iter_mut().filter(|mount| mount.kind == MountType::Ssh);
    for (number, mount) in agents.enumerate() {
        mount.target.get_or_insert_with(|| format!("/run/buildkit/ssh_agent.{number}"));
    }
}

/// The places that are made to mount on, and the directories above them.
pub(super) fn stubs(mounts: &[StepMount]) -> Vec<Vec<u8>> {
    let mut stubs = Vec::new();
    for mount in mounts {
        let mut path = mount.target.trim_start_matches('/');
        while !path.is_empty() {
            stubs.push(path.as_bytes().to_vec());
            path = path.rfind('/').map_or("", |at| &path[..at]);
        }
    }
    stubs
}
