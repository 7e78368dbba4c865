//! The tree of commands: which name means which structure. One file per command or small family below.

mod completion;
mod container;
mod daemon;
mod each;
mod filters;
mod image;
mod inspect;
mod natural;
mod network;
mod progress;
mod system;
mod volume;

#[cfg(test)]
mod tests;

use crate::cli::{Entry, group, planned, verb};

const IMAGES_FOR_NOW: &str =
    "images come by `corten load`, `corten import` or `corten image create-base` for now";
const NO_SWARM: &str = "this engine has no Swarm";
const NEXT: &str = "it comes with one of the next versions";

/// Every command, the ones of Docker first.
pub const COMMANDS: &[Entry] = &[
    verb::<container::Run>("run"),
    verb::<container::Exec>("exec"),
    verb::<container::Ps>("ps"),
    verb::<image::Ls>("images"),
    verb::<system::Version>("version"),
    verb::<system::Info>("info"),
    group("container", "Manage containers", CONTAINER),
    group("image", "Manage images", IMAGE),
    group("network", "Manage networks", NETWORK),
    group("system", "Manage the engine", SYSTEM),
    group("volume", "Manage volumes", VOLUME),
    verb::<container::Attach>("attach"),
    verb::<container::Create>("create"),
    verb::<system::Events>("events"),
    verb::<image::History>("history"),
    verb::<image::Import>("import"),
    verb::<inspect::Inspect>("inspect"),
    verb::<container::Kill>("kill"),
    verb::<image::Load>("load"),
    verb::<container::Logs>("logs"),
    verb::<container::Pause>("pause"),
    verb::<container::Port>("port"),
    verb::<container::Rename>("rename"),
    verb::<container::Restart>("restart"),
    verb::<container::Rm>("rm"),
    verb::<image::Rm>("rmi"),
    verb::<image::Save>("save"),
    verb::<container::Start>("start"),
    verb::<container::Stop>("stop"),
    verb::<image::Tag>("tag"),
    verb::<container::Top>("top"),
    verb::<container::Unpause>("unpause"),
    verb::<container::Wait>("wait"),
    verb::<daemon::Daemon>("daemon"),
    verb::<completion::Completion>("completion"),
    planned("build", IMAGES_FOR_NOW),
    planned("builder", IMAGES_FOR_NOW),
    planned("buildx", IMAGES_FOR_NOW),
    planned("checkpoint", NEXT),
    planned("commit", NEXT),
    planned("compose", NEXT),
    planned("config", NO_SWARM),
    planned("context", "name the engine with -H or CORTEN_HOST"),
    planned("cp", NEXT),
    planned("diff", NEXT),
    planned("export", NEXT),
    planned("login", "there is no registry client yet"),
    planned("logout", "there is no registry client yet"),
    planned("manifest", NEXT),
    planned("node", NO_SWARM),
    planned("plugin", NEXT),
    planned("pull", IMAGES_FOR_NOW),
    planned("push", "`corten save` writes an archive that other engines load"),
    planned("search", "there is no registry client yet"),
    planned("secret", NO_SWARM),
    planned("service", NO_SWARM),
    planned("stack", NO_SWARM),
    planned("stats", NEXT),
    planned("swarm", NO_SWARM),
    planned("trust", NEXT),
    planned("update", NEXT),
];

const CONTAINER: &[Entry] = &[
    verb::<container::Attach>("attach"),
    planned("commit", NEXT),
    planned("cp", NEXT),
    verb::<container::Create>("create"),
    planned("diff", NEXT),
    verb::<container::Exec>("exec"),
    planned("export", NEXT),
    verb::<container::InspectContainer>("inspect"),
    verb::<container::Kill>("kill"),
    verb::<container::Logs>("logs"),
    verb::<container::Ps>("ls").or(&["list", "ps"]),
    verb::<container::Pause>("pause"),
    verb::<container::Port>("port"),
    planned("prune", "`corten rm` removes containers by name"),
    verb::<container::Rename>("rename"),
    verb::<container::Restart>("restart"),
    verb::<container::Rm>("rm").or(&["remove"]),
    verb::<container::Run>("run"),
    verb::<container::Start>("start"),
    planned("stats", NEXT),
    verb::<container::Stop>("stop"),
    verb::<container::Top>("top"),
    verb::<container::Unpause>("unpause"),
    planned("update", NEXT),
    verb::<container::Wait>("wait"),
];

const IMAGE: &[Entry] = &[
    planned("build", IMAGES_FOR_NOW),
    verb::<image::CreateBase>("create-base"),
    verb::<image::History>("history"),
    verb::<image::Import>("import"),
    verb::<image::Inspect>("inspect"),
    verb::<image::Load>("load"),
    verb::<image::Ls>("ls").or(&["list"]),
    planned("prune", "`corten image rm` removes images by name"),
    planned("pull", IMAGES_FOR_NOW),
    planned("push", "`corten save` writes an archive that other engines load"),
    verb::<image::Rm>("rm").or(&["remove"]),
    verb::<image::Save>("save"),
    verb::<image::Tag>("tag"),
];

const NETWORK: &[Entry] = &[
    planned("connect", NEXT),
    planned("create", NEXT),
    planned("disconnect", NEXT),
    verb::<network::Inspect>("inspect"),
    verb::<network::Ls>("ls").or(&["list"]),
    planned("prune", NEXT),
    planned("rm", NEXT),
];

const SYSTEM: &[Entry] = &[
    planned("df", NEXT),
    verb::<system::Events>("events"),
    verb::<system::Info>("info"),
    planned("prune", NEXT),
];

const VOLUME: &[Entry] = &[
    verb::<volume::Create>("create"),
    verb::<volume::Inspect>("inspect"),
    verb::<volume::Ls>("ls").or(&["list"]),
    verb::<volume::Prune>("prune"),
    verb::<volume::Rm>("rm").or(&["remove"]),
];
