//! The default policy as the running kernel enforces it. A filter binds the thread that installs it, so that a thread
//! of its own is all that a test needs.

use std::collections::BTreeSet;
use std::os::fd::AsFd;

use corten_sys::process::{set_no_new_privs, unshare};
use corten_sys::seccomp::{install, install_with_listener, notify_sizes};
use rustix::io::Errno;

use super::super::{compile, default_profile};
use crate::spec::{Seccomp, SeccompAction, SyscallRule};

fn under<T: Send>(profile: &Seccomp, test: impl FnOnce() -> T + Send) -> T {
    let program = compile(profile).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            set_no_new_privs().unwrap();
            install(&program.instructions, program.flags).unwrap();
            test()
        });
        thread.join().unwrap()
    })
}

const CLONE_NEWUTS: u64 = 0x0400_0000;

#[test]
fn common_calls_work() {
    let text = under(&default_profile(&BTreeSet::new()), || {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "steel").unwrap();
        std::fs::rename(dir.path().join("file"), dir.path().join("other")).unwrap();
        std::fs::read_to_string(dir.path().join("other")).unwrap()
    });
    assert_eq!(text, "steel");
}

#[test]
fn namespaces_and_mounts_are_refused_without_their_capability() {
    let (namespace, mount, keyring) = under(&default_profile(&BTreeSet::new()), || {
        let keyring = corten_sys::process::join_session_keyring(c"corten-test");
        (
            unshare(CLONE_NEWUTS),
            rustix::mount::unmount("/nowhere", rustix::mount::UnmountFlags::empty()),
            keyring,
        )
    });
    assert_eq!(namespace, Err(Errno::PERM));
    // Without the filter root would learn that there is no such directory.
    assert_eq!(mount, Err(Errno::PERM));
    assert_eq!(keyring.err(), Some(Errno::PERM));
}

#[test]
fn a_capability_opens_its_calls() {
    let caps = BTreeSet::from(["CAP_SYS_ADMIN".to_owned()]);
    let answer = under(&default_profile(&caps), || {
        rustix::mount::unmount("/nowhere", rustix::mount::UnmountFlags::empty())
    });
    // Past the filter; the kernel then looks for permission (as anybody) or for the directory (as root).
    let expected = if rustix::process::geteuid().is_root() { Errno::NOENT } else { Errno::PERM };
    assert_eq!(answer, Err(expected));
}

#[test]
fn socket_families_that_leave_the_container_are_refused() {
    use rustix::net::{AddressFamily, SocketType, socket};
    let (unix, vsock) = under(&default_profile(&BTreeSet::new()), || {
        let open = |family| socket(AddressFamily::from_raw(family), SocketType::STREAM, None).map(drop);
        (open(1), open(40))
    });
    assert_eq!(unix, Ok(()));
    assert_eq!(vsock, Err(Errno::PERM));
}

#[test]
fn the_error_number_is_the_configured_one() {
    let rule = SyscallRule {
        names: vec!["getcwd".into()],
        action: SeccompAction::Errno,
        errno_ret: Some(95),
        args: vec![],
    };
    let profile =
        Seccomp { default_action: SeccompAction::Allow, syscalls: vec![rule], ..Seccomp::default() };
    let answer = under(&profile, || rustix::process::getcwd(Vec::new()));
    assert_eq!(answer.err(), Some(Errno::OPNOTSUPP));
}

#[test]
fn a_profile_that_notifies_gives_a_listener() {
    let rule = SyscallRule {
        names: vec!["mkdir".into(), "mkdirat".into()],
        action: SeccompAction::Notify,
        ..SyscallRule::default()
    };
    let profile =
        Seccomp { default_action: SeccompAction::Allow, syscalls: vec![rule], ..Seccomp::default() };
    let program = compile(&profile).unwrap();
    assert!(program.notifies);
    let answer = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            set_no_new_privs().unwrap();
            let listener = install_with_listener(&program.instructions, program.flags).unwrap();
            assert!(
                rustix::io::fcntl_getfd(listener.as_fd()).unwrap().contains(rustix::io::FdFlags::CLOEXEC)
            );
            // With nobody left to ask, the kernel answers that there is no such call.
            drop(listener);
            rustix::fs::mkdir("/nowhere/at/all", rustix::fs::Mode::RWXU)
        });
        thread.join().unwrap()
    });
    assert_eq!(answer, Err(Errno::NOSYS));
    assert!(notify_sizes().unwrap().notification >= 80);
}
