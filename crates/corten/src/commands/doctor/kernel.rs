//! What the kernel has to have: file systems, namespaces, seccomp. Asking for a file system loads its module, as a mount would.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::FsOpenFlags;

use super::{Finding, Verdict, number};

const AREA: &str = "kernel";

pub fn findings() -> Vec<Finding> {
    let mut findings = vec![
        file_system("overlay", Verdict::Fatal, "containers' file systems"),
        file_system("tmpfs", Verdict::Fatal, "/dev and --tmpfs"),
        file_system("proc", Verdict::Fatal, "/proc in containers"),
        file_system("mqueue", Verdict::Warning, "/dev/mqueue in containers"),
        erofs(),
    ];
    findings.extend(namespaces());
    findings.push(seccomp());
    findings
}

fn file_system(name: &str, without: Verdict, what_for: &str) -> Finding {
    let what = format!("file system {name}");
    match rustix::mount::fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(_) => Finding::ok(AREA, what, "there"),
        Err(Errno::NOSYS) => match std::fs::read_to_string("/proc/filesystems") {
            Ok(list) if list.split_whitespace().any(|known| known == name) => {
                Finding::ok(AREA, what, "there")
            }
            _ => missing(&what, without, name, what_for),
        },
        Err(Errno::NODEV) => missing(&what, without, name, what_for),
        Err(error) => Finding::bad(
            Verdict::Warning,
            AREA,
            what,
            error.to_string(),
            "run the doctor as root, outside of containers",
        ),
    }
}

fn missing(what: &str, without: Verdict, name: &str, what_for: &str) -> Finding {
    let mend = format!("modprobe {name}, or a kernel with it: it is needed for {what_for}");
    Finding::bad(without, AREA, what, "not there", mend)
}

/// An empty file is no EROFS; how the kernel refuses it tells whether it takes files at all.
fn erofs() -> Finding {
    let what = "EROFS from a file";
    let loops = || match Path::new("/dev/loop-control").exists() {
        true => Finding::ok(AREA, what, "not from a file; by loop device"),
        false => Finding::bad(
            Verdict::Warning,
            AREA,
            what,
            "neither from a file nor by loop device",
            "modprobe loop; until then layers are kept as directories, which is slower",
        ),
    };
    let Ok(context) = rustix::mount::fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC) else {
        return Finding::bad(
            Verdict::Warning,
            AREA,
            what,
            "no EROFS",
            "modprobe erofs; until then layers are kept as directories, which is slower",
        );
    };
    let Ok(file) = empty_file() else { return loops() };
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    let tried = rustix::mount::fsconfig_set_string(&context, "source", source.as_str())
        .and_then(|()| rustix::mount::fsconfig_set_flag(&context, "ro"))
        .and_then(|()| rustix::mount::fsconfig_create(&context));
    match tried {
        Err(Errno::NOTBLK) => loops(),
        _ => Finding::ok(AREA, what, "there"),
    }
}

/// On a disk, as EROFS takes none from tmpfs; gone with its descriptor.
fn empty_file() -> std::io::Result<std::fs::File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mut file: std::fs::File = rustix::fs::open("/var/tmp", flags, Mode::RUSR | Mode::WUSR)?.into();
    file.write_all(&[0; 8192])?;
    Ok(file)
}

fn namespaces() -> Vec<Finding> {
    let all = [
        ("mnt", Verdict::Fatal),
        ("pid", Verdict::Fatal),
        ("net", Verdict::Fatal),
        ("ipc", Verdict::Fatal),
        ("uts", Verdict::Fatal),
        ("user", Verdict::Warning),
        ("cgroup", Verdict::Warning),
    ];
    let look = |(name, without): (&str, Verdict)| {
        let what = format!("{name} namespaces");
        if !Path::new("/proc/self/ns").join(name).exists() {
            return Finding::bad(without, AREA, what, "not there", "a kernel with them (CONFIG_NAMESPACES)");
        }
        let limit = format!("user.max_{name}_namespaces");
        match number(&format!("/proc/sys/{}", limit.replace('.', "/"))) {
            Some(0) => {
                Finding::bad(without, AREA, what, format!("{limit} is 0"), format!("sysctl -w {limit}=15000"))
            }
            Some(count) => Finding::ok(AREA, what, format!("up to {count}")),
            None => Finding::ok(AREA, what, "there"),
        }
    };
    all.into_iter().map(look).collect()
}

fn seccomp() -> Finding {
    let actions = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    match actions.split_whitespace().any(|action| action == "errno") {
        true => Finding::ok(AREA, "seccomp filters", "there"),
        false => Finding::bad(
            Verdict::Fatal,
            AREA,
            "seccomp filters",
            "not there",
            "a kernel with CONFIG_SECCOMP_FILTER; or run containers with --security-opt seccomp=unconfined",
        ),
    }
}
