//! Mount options: words like `ro` or `rslave` to attributes, flags and parameters.

use corten_sys::mount::{MountAttr, attr, propagation};

/// What a mount's options mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// Of the mount itself.
    pub attributes: MountAttr,
    /// Of the mount and all below it.
    pub recursive: MountAttr,
    /// Propagation types in the order given, `true` for "and all below".
    pub propagation: Vec<(u64, bool)>,
    pub bind: Option<Bind>,
    pub remount: bool,
    pub idmap: Option<Bind>,
    pub copy_up: bool,
    /// Flags of the file system, not of the mount: `sync`, …
    pub superblock: Vec<&'static str>,
    /// The rest: parameters that only the file system understands.
    pub data: Vec<String>,
}

/// How far a bind mount or an id mapping goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    Mount,
    Tree,
}

/// What one word does to the attributes.
enum Effect {
    Set(u64),
    Clear(u64),
    Atime(u64),
}

impl MountOptions {
    pub fn parse(options: &[String]) -> Self {
        let mut parsed = Self::default();
        for word in options.iter().flat_map(|o| o.split(',')).filter(|w| !w.is_empty()) {
            parsed.word(word);
        }
        parsed
    }

    pub fn read_only(&self) -> bool {
        self.attributes.set & attr::RDONLY != 0
    }

    fn word(&mut self, word: &str) {
        if let Some(effect) = attribute(word) {
            effect.apply(&mut self.attributes);
        } else if let Some(effect) = word.strip_prefix('r').and_then(attribute) {
            effect.apply(&mut self.recursive);
        } else if let Some(kind) = propagation_type(word) {
            self.propagation.push((kind, false));
        } else if let Some(kind) = word.strip_prefix('r').and_then(propagation_type) {
            self.propagation.push((kind, true));
        } else {
            self.other(word);
        }
    }

    fn other(&mut self, word: &str) {
        match word {
            "bind" => self.bind = Some(Bind::Mount),
            "rbind" => self.bind = Some(Bind::Tree),
            "remount" => self.remount = true,
            "idmap" => self.idmap = Some(Bind::Mount),
            "ridmap" => self.idmap = Some(Bind::Tree),
            "tmpcopyup" => self.copy_up = true,
            "sync" => self.superblock.push("sync"),
            "dirsync" => self.superblock.push("dirsync"),
            "mand" => self.superblock.push("mand"),
            "lazytime" => self.superblock.push("lazytime"),
            "async" => self.superblock.retain(|f| *f != "sync"),
            "nomand" => self.superblock.retain(|f| *f != "mand"),
            "nolazytime" => self.superblock.retain(|f| *f != "lazytime"),
            // What mount(8) takes for itself and the kernel never sees.
            "defaults" | "silent" | "loud" | "auto" | "noauto" | "nofail" | "_netdev" | "iversion"
            | "noiversion" | "acl" | "noacl" => {}
            data => self.data.push(data.to_owned()),
        }
    }
}

impl Effect {
    fn apply(&self, attributes: &mut MountAttr) {
        match *self {
            Self::Set(bit) => {
                attributes.set |= bit;
                attributes.clear &= !bit;
            }
            Self::Clear(bit) => {
                attributes.clear |= bit;
                attributes.set &= !bit;
            }
            // The access time settings are one value under a mask: the kernel wants all of it cleared first.
            Self::Atime(value) => {
                attributes.clear |= attr::ATIME;
                attributes.set = attributes.set & !attr::ATIME | value;
            }
        }
    }
}

fn attribute(word: &str) -> Option<Effect> {
    Some(match word {
        "ro" => Effect::Set(attr::RDONLY),
        "rw" => Effect::Clear(attr::RDONLY),
        "nosuid" => Effect::Set(attr::NOSUID),
        "suid" => Effect::Clear(attr::NOSUID),
        "nodev" => Effect::Set(attr::NODEV),
        "dev" => Effect::Clear(attr::NODEV),
        "noexec" => Effect::Set(attr::NOEXEC),
        "exec" => Effect::Clear(attr::NOEXEC),
        "nosymfollow" => Effect::Set(attr::NOSYMFOLLOW),
        "symfollow" => Effect::Clear(attr::NOSYMFOLLOW),
        "nodiratime" => Effect::Set(attr::NODIRATIME),
        "diratime" => Effect::Clear(attr::NODIRATIME),
        "noatime" => Effect::Atime(attr::NOATIME),
        "strictatime" => Effect::Atime(attr::STRICTATIME),
        // relatime is what the kernel does unless told otherwise; the last three only take others back.
        "relatime" | "atime" | "nostrictatime" | "norelatime" => Effect::Atime(0),
        _ => return None,
    })
}

fn propagation_type(word: &str) -> Option<u64> {
    Some(match word {
        "private" => propagation::PRIVATE,
        "shared" => propagation::SHARED,
        "slave" => propagation::SLAVE,
        "unbindable" => propagation::UNBINDABLE,
        _ => return None,
    })
}
