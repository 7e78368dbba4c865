//! `create`: everything but the program's exec.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use corten_runtime::cgroup::{Cgroup, systemd_group_path};
use corten_runtime::launch::{Child, Hold, Prepared, Request, Stdio, hold_socket};
use corten_runtime::monitor::protocol::{Rootfs, Timestamp};
use corten_runtime::monitor::{control_group, filter, group_entry, remove_group, start_ticks};
use corten_runtime::spec::{Resources, Spec};

use crate::Global;
use crate::arguments::Arguments;
use crate::console;
use crate::failure::{Failure, Outcome};
use crate::host_mounts;
use crate::store::{Container, Record, Reservation};

pub fn create(global: &Global, arguments: &Arguments) -> Outcome<u8> {
    seal()?;
    let bundle = Bundle::read(arguments)?;
    console::check(bundle.terminal(), true, arguments)?;
    let Begun { child, .. } = begin(global, arguments, &bundle, true)?;
    if let Some(master) = &child.console {
        console::send(arguments.value("console-socket").unwrap_or_default(), master.as_fd())?;
    }
    Ok(0)
}

/// Containers could reach the program's file through /proc; see `corten_sys::exe`.
pub fn seal() -> Outcome<()> {
    corten_sys::exe::ensure_sealed().map_err(Failure::during("run from a sealed copy"))
}

/// A directory with a configuration.
pub struct Bundle {
    pub path: PathBuf,
    pub spec: Spec,
}

impl Bundle {
    pub fn read(arguments: &Arguments) -> Outcome<Self> {
        let path = Path::new(arguments.value("bundle").filter(|p| !p.is_empty()).unwrap_or("."));
        let path = fs::canonicalize(path).map_err(Failure::during(path.display()))?;
        let file = path.join("config.json");
        let text = fs::read(&file).map_err(Failure::during(file.display()))?;
        let mut spec: Spec = serde_json::from_slice(&text).map_err(Failure::during(file.display()))?;
        // Other major versions may mean anything; development versions of Podman and Docker end with `-dev`.
        if !spec.oci_version.is_empty() && !spec.oci_version.starts_with("1.") {
            let message = format!("{}: ociVersion {:?} is not supported", file.display(), spec.oci_version);
            return Err(Failure::new(message));
        }
        if let Some(process) = &mut spec.process
            && let Ok(count) = std::env::var("LISTEN_FDS")
        {
            process.env.extend([format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()]);
        }
        Ok(Self { path, spec })
    }

    /// The root file system's absolute path.
    pub fn rootfs(&self) -> PathBuf {
        rootfs(&self.path, &self.spec)
    }

    pub fn terminal(&self) -> bool {
        self.spec.process.as_ref().is_some_and(|p| p.terminal)
    }
}

/// The root file system of a bundle at `path`.
pub fn rootfs(path: &Path, spec: &Spec) -> PathBuf {
    path.join(spec.root.as_ref().map_or("", |r| r.path.as_str()))
}

/// A container that holds or runs.
pub struct Begun {
    pub child: Child,
    pub container: Container,
}

/// Creates the container of a bundle; after an error nothing is left of it.
pub fn begin(global: &Global, arguments: &Arguments, bundle: &Bundle, hold: bool) -> Outcome<Begun> {
    if arguments.has("no-pivot") {
        return Err(Failure::new("--no-pivot is not supported: the root is always changed by pivot_root"));
    }
    let reservation = Reservation::new(global, arguments.id())?;
    let root_mounts = host_mounts::before(bundle)?;
    let path = group_path(global, arguments.id(), &bundle.spec)?;
    let resources = bundle.spec.linux.as_ref().and_then(|l| l.resources.as_ref());
    let (cgroup, warnings) = control_group(&path, resources.unwrap_or(&Resources::default()))?;
    warnings.iter().for_each(|w| global.journal.warn(w));
    let begun = spawn(arguments, bundle, &reservation, &cgroup, hold).and_then(|child| {
        let record = Record {
            id: arguments.id().to_owned(),
            pid: child.pid,
            start_ticks: start_ticks(child.pid).unwrap_or(0),
            bundle: bundle.path.clone(),
            created: Timestamp::now(),
            cgroup: path,
            owner: rustix::process::getuid().as_raw(),
            root_mounts,
            config: bundle.spec.clone(),
        };
        write_pid(arguments, child.pid)?;
        console::send_pidfd(arguments, &child.pidfd)?;
        Ok(Begun { container: reservation.keep(record)?, child })
    });
    match begun {
        Ok(begun) => {
            begun.child.warnings.iter().for_each(|w| global.journal.warn(w));
            Ok(begun)
        }
        Err(failure) => {
            // The first error is the one to report.
            let _ = host_mounts::remove(&bundle.rootfs(), root_mounts);
            let _ = remove_group(&cgroup);
            Err(failure)
        }
    }
}

fn spawn(
    arguments: &Arguments,
    bundle: &Bundle,
    reservation: &Reservation,
    cgroup: &Cgroup,
    hold: bool,
) -> Outcome<Child> {
    let rootfs = Rootfs::Directory;
    let mut request = Request::new(arguments.id(), &bundle.path, &bundle.spec, &rootfs);
    request.cgroup = Some(group_entry(cgroup)?);
    request.seccomp = filter(&bundle.spec)?;
    request.preserve_fds = preserved(arguments)?;
    request.keyring = !arguments.has("no-new-keyring");
    if bundle.terminal() {
        let size = bundle.spec.process.as_ref().and_then(|p| p.console_size).unwrap_or_default();
        request.stdio = Stdio::Terminal { rows: size.height as u16, columns: size.width as u16 };
    }
    if hold {
        request.hold = Hold::Socket(hold_socket(&reservation.start_socket())?);
    }
    let mut child = Prepared::new(request)?.spawn()?;
    child.wait()?;
    Ok(child)
}

/// How many descriptors from 3 on the process inherits: those asked for, and those of socket activation.
pub fn preserved(arguments: &Arguments) -> Outcome<u32> {
    let activated = std::env::var("LISTEN_FDS").ok().and_then(|n| n.parse::<u32>().ok()).unwrap_or(0);
    Ok(arguments.number::<u32>("preserve-fds")?.unwrap_or(0) + activated)
}

pub fn write_pid(arguments: &Arguments, pid: i32) -> Outcome<()> {
    let Some(path) = arguments.value("pid-file").filter(|p| !p.is_empty()) else { return Ok(()) };
    let path = Path::new(path);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Whoever waits for the file must not find it empty.
    let temporary = path.with_file_name(format!(".{name}"));
    fs::write(&temporary, pid.to_string())
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(Failure::during(path.display()))
}

fn group_path(global: &Global, id: &str, spec: &Spec) -> Outcome<PathBuf> {
    let given = spec.linux.as_ref().and_then(|l| l.cgroups_path.as_deref()).unwrap_or("");
    if global.systemd_cgroup {
        let text = if given.is_empty() { format!("system.slice:corten-oci:{id}") } else { given.to_owned() };
        return Ok(systemd_group_path(&text)?);
    }
    Ok(if given.is_empty() { id.into() } else { given.into() })
}
