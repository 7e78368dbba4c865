//! The tree of commands: which name means which structure. One file per command or small family below.

mod archive;
mod artifact;
mod build;
mod builder;
mod completion;
mod container;
mod context;
mod daemon;
mod doctor;
mod each;
mod filters;
mod image;
mod inspect;
mod login;
mod manifest;
mod natural;
mod network;
mod progress;
mod prune;
mod registry;
mod remote;
mod system;
mod volume;

#[cfg(test)]
mod tests;

use crate::cli::{Entry, group, planned, verb};

const NO_SWARM: &str = "this engine has no Swarm";
const ONE_BUILDER: &str = "the engine is the only builder; `corten info` tells of it";
const NEXT: &str = "it comes with one of the next versions";

/// Every command, the ones of Docker first.
pub const COMMANDS: &[Entry] = &[
    verb::<container::Run>("run"),
    verb::<container::Exec>("exec"),
    verb::<container::Ps>("ps"),
    verb::<image::Ls>("images"),
    verb::<system::Version>("version"),
    verb::<system::Info>("info"),
    group("artifact", "Manage files at registries", ARTIFACT),
    group("builder", "Manage the build cache", BUILDER),
    group("container", "Manage containers", CONTAINER),
    group("context", "Manage contexts", CONTEXT),
    group("image", "Manage images", IMAGE),
    group("manifest", "Manage images of several platforms at registries", MANIFEST),
    group("network", "Manage networks", NETWORK),
    group("registry", "Run a registry", REGISTRY),
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
    verb::<container::Stats>("stats"),
    verb::<container::Stop>("stop"),
    verb::<image::Tag>("tag"),
    verb::<container::Top>("top"),
    verb::<container::Unpause>("unpause"),
    verb::<container::Update>("update"),
    verb::<container::Wait>("wait"),
    verb::<daemon::Daemon>("daemon"),
    verb::<doctor::Doctor>("doctor"),
    verb::<completion::Completion>("completion"),
    verb::<build::Build>("build"),
    group("buildx", "Build images, by the names of Docker's plugin", BUILDX),
    planned("checkpoint", NEXT),
    verb::<container::Commit>("commit"),
    planned("compose", NEXT),
    planned("config", NO_SWARM),
    verb::<container::Cp>("cp"),
    verb::<container::Diff>("diff"),
    verb::<container::Export>("export"),
    verb::<login::Login>("login"),
    verb::<login::Logout>("logout"),
    planned("node", NO_SWARM),
    planned("plugin", NEXT),
    verb::<image::Pull>("pull"),
    verb::<image::Push>("push"),
    verb::<image::Search>("search"),
    planned("secret", NO_SWARM),
    planned("service", NO_SWARM),
    planned("stack", NO_SWARM),
    planned("swarm", NO_SWARM),
    planned("trust", NEXT),
];

const ARTIFACT: &[Entry] = &[
    verb::<artifact::Attach>("attach"),
    verb::<artifact::Ls>("ls").or(&["list"]),
    verb::<artifact::PullArtifact>("pull"),
    verb::<artifact::PushArtifact>("push"),
];

const BUILDER: &[Entry] = &[
    verb::<build::Build>("build"),
    verb::<builder::Du>("du"),
    group("history", "Look at builds that were", BUILDER_HISTORY),
    verb::<builder::Prune>("prune"),
];

/// The engine is the one builder: what makes and chooses others, and runs them, has no use here.
const BUILDX: &[Entry] = &[
    planned("bake", "build each target: `corten build --target NAME`"),
    verb::<build::Build>("build").or(&["b"]),
    planned("create", ONE_BUILDER),
    planned("dial-stdio", "`corten system dial-stdio` is a line to the engine"),
    verb::<builder::Du>("du"),
    group("history", "Look at builds that were", BUILDER_HISTORY),
    planned(
        "imagetools",
        "`corten manifest` looks into images at registries, and makes some of several platforms",
    ),
    planned("inspect", ONE_BUILDER),
    planned("install", "`corten build` is the same already"),
    planned("ls", ONE_BUILDER),
    verb::<builder::Prune>("prune"),
    planned("rm", ONE_BUILDER),
    planned("stop", ONE_BUILDER),
    planned("uninstall", "`corten build` is the same already"),
    planned("use", ONE_BUILDER),
    verb::<system::Version>("version"),
];

const BUILDER_HISTORY: &[Entry] = &[
    verb::<builder::history::Logs>("logs"),
    verb::<builder::history::Ls>("ls").or(&["list"]),
    verb::<builder::history::Pin>("pin"),
    verb::<builder::history::Rm>("rm").or(&["remove"]),
    verb::<builder::history::Unpin>("unpin"),
];

const CONTAINER: &[Entry] = &[
    verb::<container::Attach>("attach"),
    verb::<container::Commit>("commit"),
    verb::<container::Cp>("cp"),
    verb::<container::Create>("create"),
    verb::<container::Diff>("diff"),
    verb::<container::Exec>("exec"),
    verb::<container::Export>("export"),
    verb::<container::InspectContainer>("inspect"),
    verb::<container::Kill>("kill"),
    verb::<container::Logs>("logs"),
    verb::<container::Ps>("ls").or(&["list", "ps"]),
    verb::<container::Pause>("pause"),
    verb::<container::Port>("port"),
    verb::<container::Prune>("prune"),
    verb::<container::Rename>("rename"),
    verb::<container::Restart>("restart"),
    verb::<container::Rm>("rm").or(&["remove"]),
    verb::<container::Run>("run"),
    verb::<container::Start>("start"),
    verb::<container::Stats>("stats"),
    verb::<container::Stop>("stop"),
    verb::<container::Top>("top"),
    verb::<container::Unpause>("unpause"),
    verb::<container::Update>("update"),
    verb::<container::Wait>("wait"),
];

const CONTEXT: &[Entry] = &[
    verb::<context::Create>("create"),
    verb::<context::Export>("export"),
    verb::<context::Import>("import"),
    verb::<context::Inspect>("inspect"),
    verb::<context::Ls>("ls").or(&["list"]),
    verb::<context::Rm>("rm").or(&["remove"]),
    verb::<context::Show>("show"),
    verb::<context::Update>("update"),
    verb::<context::Use>("use"),
];

const IMAGE: &[Entry] = &[
    verb::<build::Build>("build"),
    verb::<image::CreateBase>("create-base"),
    verb::<image::History>("history"),
    verb::<image::Import>("import"),
    verb::<image::Inspect>("inspect"),
    verb::<image::Load>("load"),
    verb::<image::Ls>("ls").or(&["list"]),
    verb::<image::Provenance>("provenance"),
    verb::<image::Prune>("prune"),
    verb::<image::Pull>("pull"),
    verb::<image::Push>("push"),
    verb::<image::Rm>("rm").or(&["remove"]),
    verb::<image::Save>("save"),
    verb::<image::Sbom>("sbom"),
    verb::<image::Tag>("tag"),
];

const MANIFEST: &[Entry] = &[
    verb::<manifest::Annotate>("annotate"),
    verb::<manifest::Create>("create"),
    verb::<manifest::InspectManifest>("inspect"),
    verb::<manifest::PushManifest>("push"),
    verb::<manifest::Rm>("rm"),
];

const NETWORK: &[Entry] = &[
    verb::<network::Connect>("connect"),
    verb::<network::Create>("create"),
    verb::<network::Disconnect>("disconnect"),
    verb::<network::Inspect>("inspect"),
    verb::<network::Ls>("ls").or(&["list"]),
    verb::<network::Prune>("prune"),
    verb::<network::Rm>("rm").or(&["remove"]),
];

const REGISTRY: &[Entry] = &[
    verb::<registry::Gc>("gc"),
    group("key", "Manage the keys that a registry signs tokens with", REGISTRY_KEY),
    group("login", "Manage logins at a registry", REGISTRY_LOGIN),
    verb::<registry::Reload>("reload"),
    verb::<registry::Restore>("restore"),
    group("robot", "Manage a registry's accounts for programs", REGISTRY_ROBOT),
    verb::<registry::Serve>("serve"),
    verb::<registry::Usage>("usage"),
    group("user", "Manage a registry's users", REGISTRY_USER),
];

const REGISTRY_KEY: &[Entry] = &[verb::<registry::RotateKey>("rotate")];

const REGISTRY_LOGIN: &[Entry] = &[
    verb::<registry::LsLogins>("ls").or(&["list"]),
    verb::<registry::RevokeLogins>("revoke").or(&["rm", "remove"]),
];

const REGISTRY_ROBOT: &[Entry] = &[
    verb::<registry::CreateRobot>("create"),
    verb::<registry::LsRobots>("ls").or(&["list"]),
    verb::<registry::RevokeRobot>("revoke").or(&["rm", "remove"]),
];

const REGISTRY_USER: &[Entry] = &[
    verb::<registry::AddUser>("add"),
    verb::<registry::LsUsers>("ls").or(&["list"]),
    verb::<registry::RmUser>("rm").or(&["remove"]),
];

const SYSTEM: &[Entry] = &[
    verb::<system::Df>("df"),
    verb::<system::DialStdio>("dial-stdio"),
    verb::<system::Events>("events"),
    verb::<system::Info>("info"),
    verb::<system::Prune>("prune"),
];

const VOLUME: &[Entry] = &[
    verb::<volume::CloneVolume>("clone"),
    verb::<volume::Create>("create"),
    verb::<volume::Export>("export"),
    verb::<volume::Import>("import"),
    verb::<volume::Inspect>("inspect"),
    verb::<volume::Ls>("ls").or(&["list"]),
    verb::<volume::Prune>("prune"),
    verb::<volume::Rename>("rename"),
    verb::<volume::Rm>("rm").or(&["remove"]),
];
