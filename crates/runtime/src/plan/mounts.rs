//! The root file system and the mounts on it.

use std::ffi::CString;

use corten_sys::mount::{MountAttr, attr, propagation};

use super::options::Bind;
use super::{
    Action, Host, Mappings, MountOptions, Namespaces, Operation, OverlayRoot, below_root, c_string, invalid,
    root_name,
};
use crate::launch::Request;
use crate::monitor::protocol::{Rootfs, Step, StepError};
use crate::spec::{Linux, Mount, NamespaceKind};

const MS_REC: u64 = 0x4000;
/// fsconfig(2) takes no longer strings.
const PARAMETER_BYTES_MAX: usize = 255;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountAction {
    /// Relative to the root.
    pub target: CString,
    pub source: MountSource,
    pub attributes: MountAttr,
    pub recursive: MountAttr,
    /// `true`: and all below.
    pub propagation: Vec<(u64, bool)>,
    /// The target has to be a real directory: proc and sysfs must be where everybody looks for them.
    pub no_symlinks: bool,
    /// What the directory held before is copied into the new file system.
    pub copy_up: bool,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSource {
    FileSystem {
        kind: CString,
        parameters: Vec<Parameter>,
        inherit_mode: bool,
    },
    /// Through mount(2): a parameter is too long for fsconfig(2).
    Legacy {
        kind: CString,
        source: CString,
        flags: u64,
        data: CString,
    },
    Bind {
        path: CString,
        recursive: bool,
        /// The caller opens the tree, because the child's rights don't suffice.
        prepared: bool,
        /// With these mappings, `true` for all mounts of the tree.
        idmap: Option<(Mappings, bool)>,
    },
    /// A change to the mount that is there.
    Remount {
        parameters: Vec<Parameter>,
        superblock: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parameter {
    Flag(CString),
    String(CString, CString),
}

/// What a list of mounts is planned for.
struct Context<'a> {
    request: &'a Request<'a>,
    linux: &'a Linux,
    user_namespace: bool,
    host: &'a Host,
}

/// The root itself, and the propagation of what the new mount namespace has inherited.
pub(super) fn root(
    list: &mut Vec<Operation>,
    request: &Request<'_>,
    linux: &Linux,
    namespaces: &Namespaces,
) -> Result<(), StepError> {
    let root = root_name(request);
    let path = match request.rootfs {
        Rootfs::Directory if root.is_empty() => return Err(invalid("root.path", "is missing")),
        Rootfs::Directory => absolute(request, &root)?,
        Rootfs::Overlay { mount_point, .. } => {
            c_string("rootfs", mount_point.as_os_str().as_encoded_bytes())?
        }
    };
    let own_mounts = namespaces.has(NamespaceKind::Mount);
    if !own_mounts && !matches!(request.rootfs, Rootfs::Directory) {
        return Err(invalid("rootfs", "an overlay needs a mount namespace: it would stay on the host"));
    }
    if own_mounts {
        let flags = match linux.rootfs_propagation.as_deref() {
            None | Some("" | "slave" | "rslave") => propagation::SLAVE | MS_REC,
            Some("private" | "rprivate" | "unbindable" | "runbindable") => propagation::PRIVATE | MS_REC,
            // Mounts stay peers of the host's, so that what is mounted inside may reach it.
            Some("shared") => propagation::SHARED,
            Some("rshared") => propagation::SHARED | MS_REC,
            Some(other) => {
                return Err(invalid(
                    "linux.rootfsPropagation",
                    format!("{other:?} is no type of propagation"),
                ));
            }
        };
        list.push(Operation::new(Step::Mount, "/", Action::Propagation { flags }));
        if flags & propagation::SHARED != 0 {
            list.push(Operation::new(
                Step::Mount,
                root.as_str(),
                Action::ParentPrivate { path: path.clone() },
            ));
        }
    }
    let action = match request.rootfs {
        Rootfs::Directory => {
            let read_only = request.spec.root.as_ref().is_some_and(|r| r.readonly);
            let bind = own_mounts || read_only || !request.spec.mounts.is_empty();
            Action::BindRoot { path, bind, private: !own_mounts }
        }
        Rootfs::Overlay { lower, upper, work, volatile, .. } => {
            let texts = |p: &std::path::Path| c_string("rootfs", p.as_os_str().as_encoded_bytes());
            let lower = lower.iter().map(|p| texts(p)).collect::<Result<Vec<_>, _>>()?;
            if lower.is_empty() {
                return Err(invalid("rootfs", "has no layers"));
            }
            let (upper, work) = (texts(upper)?, texts(work)?);
            let legacy_options = overlay_options(&lower, &upper, &work, *volatile)?;
            Action::OverlayRoot(Box::new(OverlayRoot {
                lower,
                upper,
                work,
                volatile: *volatile,
                mount_point: path,
                legacy_options,
            }))
        }
    };
    list.push(Operation::new(Step::Rootfs, root, action));
    Ok(())
}

fn overlay_options(
    lower: &[CString],
    upper: &CString,
    work: &CString,
    volatile: bool,
) -> Result<CString, StepError> {
    // Commas end an option, colons a layer.
    let escape = |path: &CString, out: &mut Vec<u8>| {
        for byte in path.as_bytes() {
            if matches!(byte, b',' | b':' | b'\\') {
                out.push(b'\\');
            }
            out.push(*byte);
        }
    };
    let mut options = b"lowerdir=".to_vec();
    for (index, layer) in lower.iter().enumerate() {
        if index > 0 {
            options.push(b':');
        }
        escape(layer, &mut options);
    }
    options.extend_from_slice(b",upperdir=");
    escape(upper, &mut options);
    options.extend_from_slice(b",workdir=");
    escape(work, &mut options);
    options.extend_from_slice(b",redirect_dir=off,metacopy=off");
    if volatile {
        options.extend_from_slice(b",volatile");
    }
    c_string("rootfs", options)
}

/// `path`, a relative one below the bundle.
fn absolute(request: &Request<'_>, path: &str) -> Result<CString, StepError> {
    c_string("path", request.bundle.join(path).into_os_string().into_encoded_bytes())
}

/// All of `spec.mounts`.
pub(super) fn mounts(
    list: &mut Vec<Operation>,
    request: &Request<'_>,
    linux: &Linux,
    namespaces: &Namespaces,
    host: &Host,
    warnings: &mut Vec<String>,
) -> Result<(), StepError> {
    if !namespaces.has(NamespaceKind::Mount)
        && let Some(field) =
            [("linux.maskedPaths", &linux.masked_paths), ("linux.readonlyPaths", &linux.readonly_paths)]
                .iter()
                .find_map(|(field, paths)| (!paths.is_empty()).then_some(*field))
    {
        return Err(invalid(field, "needs a mount namespace: they would be hidden from the host"));
    }
    let context = Context { request, linux, user_namespace: namespaces.has(NamespaceKind::User), host };
    for mount in &request.spec.mounts {
        let target = below_root("mounts.destination", &mount.destination)?;
        if target.as_bytes() == b"." {
            return Err(invalid("mounts.destination", "/ would hide the root file system"));
        }
        let options = MountOptions::parse(&mount.options);
        if mount.kind.as_deref() == Some("cgroup") || mount.kind.as_deref() == Some("cgroup2") {
            cgroup(list, &context, mount, &options, warnings)?;
            continue;
        }
        let action = context.one(mount, target, &options)?;
        list.push(Operation::new(Step::Mount, &mount.destination, Action::Mount(Box::new(action))));
    }
    Ok(())
}

impl Context<'_> {
    fn one(&self, mount: &Mount, target: CString, options: &MountOptions) -> Result<MountAction, StepError> {
        let kind = mount.kind.as_deref().unwrap_or("");
        let bind = options.bind.or((kind == "bind").then_some(Bind::Mount));
        let mut action = MountAction {
            target,
            source: MountSource::Remount { parameters: Vec::new(), superblock: false },
            attributes: options.attributes,
            recursive: options.recursive,
            propagation: options.propagation.clone(),
            no_symlinks: matches!(kind, "proc" | "sysfs"),
            copy_up: options.copy_up,
        };
        if options.copy_up && kind != "tmpfs" {
            return Err(invalid(&mount.destination, "tmpcopyup needs a tmpfs"));
        }
        if options.remount {
            let superblock = bind.is_none() && !(options.data.is_empty() && options.superblock.is_empty());
            action.source = MountSource::Remount { parameters: self.parameters(None, options)?, superblock };
            return Ok(action);
        }
        if let Some(bind) = bind {
            action.source = self.bind(mount, options, bind)?;
            if let (MountSource::Bind { prepared: true, .. }, true) =
                (&action.source, action.propagation.is_empty())
            {
                // A tree that was opened outside is a peer of the host's still.
                action.propagation.push((propagation::SLAVE, bind == Bind::Tree));
            }
            return Ok(action);
        }
        if options.idmap.is_some() || !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
            return Err(invalid(&mount.destination, "only bind mounts can be id-mapped"));
        }
        if kind.is_empty() || kind == "none" {
            return Err(invalid(&mount.destination, "needs a type, or the option bind"));
        }
        if late_read_only(mount) {
            action.attributes.set &= !attr::RDONLY;
        }
        action.source = self.file_system(mount, kind, options)?;
        Ok(action)
    }

    fn bind(&self, mount: &Mount, options: &MountOptions, bind: Bind) -> Result<MountSource, StepError> {
        let source = mount
            .source
            .as_deref()
            .filter(|s| !s.is_empty())
            .ok_or_else(|| invalid(&mount.destination, "a bind mount needs a source"))?;
        check_proc(&mount.destination)?;
        let explicit = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
        let idmap = if explicit {
            if mount.uid_mappings.is_empty() || mount.gid_mappings.is_empty() {
                return Err(invalid(&mount.destination, "needs both uidMappings and gidMappings"));
            }
            let mappings = Mappings { uid: mount.uid_mappings.clone(), gid: mount.gid_mappings.clone() };
            Some((mappings, options.idmap == Some(Bind::Tree)))
        } else if let Some(depth) = options.idmap {
            if self.linux.uid_mappings.is_empty() || self.linux.gid_mappings.is_empty() {
                return Err(invalid(
                    &mount.destination,
                    "idmap needs mappings, of the mount or of the container",
                ));
            }
            let mappings =
                Mappings { uid: self.linux.uid_mappings.clone(), gid: self.linux.gid_mappings.clone() };
            Some((mappings, depth == Bind::Tree))
        } else {
            None
        };
        Ok(MountSource::Bind {
            path: absolute(self.request, source)?,
            recursive: bind == Bind::Tree,
            prepared: self.user_namespace || idmap.is_some(),
            idmap,
        })
    }

    fn file_system(
        &self,
        mount: &Mount,
        kind: &str,
        options: &MountOptions,
    ) -> Result<MountSource, StepError> {
        let source = mount.source.as_deref().filter(|s| !s.is_empty()).unwrap_or(kind);
        let parameters = self.parameters(Some(source), options)?;
        let too_long =
            |p: &Parameter| matches!(p, Parameter::String(_, v) if v.as_bytes().len() > PARAMETER_BYTES_MAX);
        if parameters.iter().any(too_long) {
            return Ok(MountSource::Legacy {
                kind: c_string("mounts.type", kind)?,
                source: c_string("mounts.source", source)?,
                flags: 0,
                data: c_string("mounts.options", options.data.join(","))?,
            });
        }
        let inherit_mode = kind == "tmpfs" && !options.data.iter().any(|d| d.starts_with("mode="));
        Ok(MountSource::FileSystem { kind: c_string("mounts.type", kind)?, parameters, inherit_mode })
    }

    fn parameters(&self, source: Option<&str>, options: &MountOptions) -> Result<Vec<Parameter>, StepError> {
        let mut parameters = Vec::new();
        if let Some(source) = source {
            parameters.push(Parameter::String(c"source".into(), c_string("mounts.source", source)?));
        }
        for flag in &options.superblock {
            parameters.push(Parameter::Flag(c_string("mounts.options", *flag)?));
        }
        for word in &options.data {
            parameters.push(match word.split_once('=') {
                Some((key, value)) => {
                    Parameter::String(c_string("mounts.options", key)?, c_string("mounts.options", value)?)
                }
                None => Parameter::Flag(c_string("mounts.options", word.as_str())?),
            });
        }
        if let Some(label) = self.linux.mount_label.as_deref().filter(|l| !l.is_empty() && self.host.selinux)
        {
            parameters.push(Parameter::String(c"context".into(), c_string("linux.mountLabel", label)?));
        }
        Ok(parameters)
    }
}

/// A tmpfs becomes read-only when everything on it is there: devices, and the targets of further mounts.
pub(super) fn late_read_only(mount: &Mount) -> bool {
    mount.kind.as_deref() == Some("tmpfs") && MountOptions::parse(&mount.options).read_only()
}

/// Over the files of a proc mount only what programs like lxcfs serve may be bound: anything else could fake what tools
/// (and we) read there.
fn check_proc(destination: &str) -> Result<(), StepError> {
    const ALLOWED: [&str; 11] = [
        "cpuinfo",
        "diskstats",
        "meminfo",
        "stat",
        "swaps",
        "uptime",
        "loadavg",
        "slabinfo",
        "net/dev",
        "sys/kernel/ns_last_pid",
        "sys/crypto/fips_enabled",
    ];
    let target = below_root("mounts.destination", destination)?;
    match target.to_str().ok().and_then(|t| t.strip_prefix("proc/")) {
        Some(inside) if !ALLOWED.contains(&inside) => {
            Err(invalid(destination, "nothing may be mounted there: it is inside /proc"))
        }
        _ => Ok(()),
    }
}

/// The container's own groups: a bind mount of each, which looks like a cgroup mount of its namespace does, at a tenth of the cost.
fn cgroup(
    list: &mut Vec<Operation>,
    context: &Context<'_>,
    mount: &Mount,
    options: &MountOptions,
    warnings: &mut Vec<String>,
) -> Result<(), StepError> {
    let views = context.request.cgroup.as_ref().map_or(&[][..], |c| &c.view);
    let mut push = |mount: Mount| -> Result<(), StepError> {
        let target = below_root("mounts.destination", &mount.destination)?;
        let action = context.one(&mount, target, &MountOptions::parse(&mount.options))?;
        list.push(Operation::new(Step::Mount, &mount.destination, Action::Mount(Box::new(action))));
        Ok(())
    };
    let bind = |group: &std::path::Path, destination: String| Mount {
        destination,
        kind: Some("bind".into()),
        source: Some(group.to_string_lossy().into_owned()),
        options: mount.options.iter().filter(|o| !options.data.contains(o)).cloned().collect(),
        ..Mount::default()
    };
    if let [view] = views
        && view.name.is_empty()
    {
        return push(bind(&view.group, mount.destination.clone()));
    }
    if views.is_empty() && context.host.cgroup_unified {
        return push(Mount { kind: Some("cgroup2".into()), ..mount.clone() });
    }
    if views.is_empty() {
        warnings.push(format!("{}: no control groups to show", mount.destination));
    }
    let mut base = mount.clone();
    base.kind = Some("tmpfs".into());
    base.source = Some("tmpfs".into());
    base.options.retain(|o| !options.data.contains(o));
    base.options.push("mode=755".into());
    push(base)?;
    for view in views {
        push(bind(&view.group, format!("{}/{}", mount.destination, view.name)))?;
    }
    for view in views.iter().filter(|v| v.name.contains(',')) {
        for alias in view.name.split(',') {
            let path = below_root("mounts.destination", &format!("{}/{alias}", mount.destination))?;
            let target = c_string("mounts.destination", view.name.as_str())?;
            let object = format!("{}/{alias}", mount.destination);
            list.push(Operation::new(Step::Mount, object, Action::Link { path, target, replace: false }));
        }
    }
    Ok(())
}
