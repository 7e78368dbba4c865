//! The child's side, between clone and exec: a loop over the plan's operations.
//!
//! Everything in this file and in `child/` is a flat sequence of system calls on what the parent has prepared. It must not allocate, lock, log or
//! panic: another thread of the parent may have held the allocator's lock when the child was made. A failure goes to the parent as a record that
//! names the operation, and ends the child.

mod copy_up;
mod init;
pub(super) mod mounts;
mod paths;
mod program;
pub(super) mod users;

use core::ffi::CStr;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use corten_sys::process::{self, Strings, namespace};
use corten_sys::seccomp::{Flags, Instruction};
use corten_sys::{fd, netns, sched};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pty::OpenptFlags;

pub(super) use users::{Identity, LINE_BYTES_MAX};

use super::record::{GO, HEADER_BYTES, Kind, Reason, Record};
use super::{Hold, Stdio};
use crate::plan::{Action, Operation};
use crate::spec::NamespaceKind;

/// All that the parent has prepared. The child's end of the channel is owned: the parent's copy of it closes when the parent drops this.
pub(crate) struct Given<'a> {
    pub operations: &'a [Operation],
    /// Prepared descriptors, by operation.
    pub prepared: &'a mut [Option<OwnedFd>],
    /// cgroup v1.
    pub tasks: &'a [OwnedFd],
    /// The host's, checked to be one.
    pub procfs: BorrowedFd<'a>,
    pub channel: OwnedFd,
    /// The parent's end, to be closed in the child.
    pub parent_channel: &'a mut Option<OwnedFd>,
    pub stdio: &'a Stdio,
    pub hold: &'a Hold,
    pub candidates: &'a [CString],
    pub searched: bool,
    pub wants_home: bool,
    pub arguments: &'a Strings,
    pub environment: &'a mut Strings,
    pub filter: Option<&'a ReadyFilter>,
    pub preserve_fds: u32,
    /// 0: none.
    pub death_signal: i32,
    pub user_namespace: bool,
    /// It has joined a process namespace, where others may be hostile.
    pub pid_shared: bool,
    pub identity: &'a mut Identity,
    pub lines: &'a mut [u8],
    pub detail: &'a mut [u8],
}

/// A filter as seccomp(2) takes it.
pub(crate) struct ReadyFilter {
    pub instructions: Vec<Instruction>,
    pub flags: Flags,
    /// Some rule asks a supervisor.
    pub listener: bool,
}

/// The child's state: what its operations leave to each other.
pub(crate) struct Child<'a> {
    given: Given<'a>,
    index: usize,
    root: Option<OwnedFd>,
    dev: Option<OwnedFd>,
    null: Option<OwnedFd>,
    null_used: bool,
    empty: Option<OwnedFd>,
    empty_used: bool,
    /// The terminal's slave.
    terminal: Option<OwnedFd>,
    /// A connection that lets a held container go, which then wants to know how that went.
    starter: Option<OwnedFd>,
    /// Only the program's user may enter the working directory.
    late_directory: Option<OwnedFd>,
}

/// Why an operation failed.
pub(super) struct Failure {
    errno: Errno,
    reason: Reason,
    /// How many bytes of `Given::detail` belong to it, behind the space for the header.
    detail: usize,
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self { errno, reason: Reason::Errno, detail: 0 }
    }
}

impl Failure {
    fn because(errno: Errno, reason: Reason) -> Self {
        Self { errno, reason, detail: 0 }
    }
}

/// Runs the plan. Returns only when it has failed and the parent knows.
pub(crate) fn run(given: Given<'_>) -> i32 {
    let mut child = Child {
        given,
        index: 0,
        root: None,
        dev: None,
        null: None,
        null_used: false,
        empty: None,
        empty_used: false,
        terminal: None,
        starter: None,
        late_directory: None,
    };
    // With the parent's end open here too, its end would never be seen.
    *child.given.parent_channel = None;
    rustix::process::umask(rustix::fs::Mode::empty());
    let operations = child.given.operations;
    for (index, operation) in operations.iter().enumerate() {
        child.index = index;
        if let Err(failure) = child.apply(&operation.action) {
            let kind = if operation.lenient { Kind::Warning } else { Kind::Failed };
            child.tell(kind, &failure);
            if !operation.lenient {
                return 1;
            }
        }
    }
    1
}

impl Child<'_> {
    fn apply(&mut self, action: &Action) -> Result<(), Failure> {
        let index = self.index;
        match action {
            Action::EnterCgroups => self.enter_cgroups()?,
            Action::AwaitMappings => self.await_mappings()?,
            Action::JoinNamespace(kind) => {
                let namespace = self.take_prepared(index).ok_or(Errno::BADF)?;
                process::setns(namespace.as_fd(), crate::plan::namespace_flag(*kind))?;
            }
            Action::JoinProcess { flags } => self.join_process(*flags)?,
            Action::Chroot => {
                self.root = self.take_prepared(index);
                self.change_root()?;
            }
            Action::UnshareCgroup => process::unshare(namespace::CGROUP)?,
            Action::Loopback => netns::loopback_up()?,
            Action::NewSession => rustix::process::setsid().map(drop)?,
            Action::SessionKeyring { name } => process::join_session_keyring(name)?,
            Action::Propagation { flags } => self.propagation(*flags)?,
            Action::ParentPrivate { path } => self.parent_private(path)?,
            Action::BindRoot { path, bind, private } => self.bind_root(path, *bind, *private)?,
            Action::OverlayRoot(overlay) => self.overlay_root(index, overlay)?,
            Action::Mount(mount) => self.mount(index, mount)?,
            Action::Device(device) => self.device(device)?,
            Action::Link { path, target, replace } => self.link(path, target, *replace)?,
            Action::Console { rows, columns, mount } => self.console(*rows, *columns, *mount)?,
            Action::AwaitParent => self.ask(Kind::CreateHooks)?,
            Action::Pivot => self.pivot()?,
            Action::ChangeRoot => self.change_root()?,
            Action::RootPropagation { flags } => corten_sys::mount::mount(None, c"/", None, *flags, None)?,
            Action::ReadOnlyMount { path } => self.read_only_mount(path)?,
            Action::ReadOnlyRoot => self.read_only_mount(c".")?,
            Action::MaskPath { path } => self.mask(path)?,
            Action::ReadOnlyPath { path } => self.read_only_path(path)?,
            Action::HostName { name } => process::set_host_name(name.to_bytes())?,
            Action::DomainName { name } => process::set_domain_name(name.to_bytes())?,
            Action::Sysctl { path, value } => self.write_proc(path, value)?,
            Action::ResourceLimit { number, soft, hard } => {
                process::set_resource_limit(*number, *soft, *hard)?
            }
            Action::OomScore { value } => self.write_proc(c"self/oom_score_adj", value)?,
            Action::Scheduler(attributes) => sched::set_scheduler(attributes)?,
            Action::IoPriority { class, level } => sched::set_io_priority(*class, *level)?,
            Action::Affinity { mask } => sched::set_affinity(mask)?,
            Action::MemoryPolicy { mode, nodes } => sched::set_memory_policy(*mode, nodes)?,
            Action::Personality { persona } => process::set_personality(*persona)?,
            Action::User(user) => self.user(user)?,
            Action::WorkingDirectory { path, create } => self.working_directory(path, *create)?,
            Action::ExecLabel { file, label } => self.write_proc(file, label)?,
            Action::Streams { terminal } => self.streams(*terminal)?,
            Action::Identity { bounding, umask, keep } => self.identity(*bounding, *umask, *keep)?,
            Action::FindProgram => self.find_program()?,
            Action::Hold => self.hold()?,
            Action::Privileges(plan) => self.privileges(plan)?,
            Action::Init => self.init()?,
            Action::Exec => self.exec()?,
        }
        Ok(())
    }

    fn take_prepared(&mut self, index: usize) -> Option<OwnedFd> {
        self.given.prepared.get_mut(index)?.take()
    }

    /// A task that moves only itself needs no lock that waits for the whole machine.
    fn enter_cgroups(&self) -> Result<(), Errno> {
        for tasks in self.given.tasks {
            rustix::io::retry_on_intr(|| rustix::io::write(tasks, b"0"))?;
        }
        Ok(())
    }

    fn await_mappings(&mut self) -> Result<(), Errno> {
        self.await_go()?;
        process::set_gid(0)?;
        process::set_uid(0)?;
        // Where an unprivileged user made the mapping, setgroups(2) is forbidden and there is nothing to drop.
        match process::set_groups(&[]) {
            Ok(()) | Err(Errno::PERM) => {}
            Err(error) => return Err(error),
        }
        // The change of ids has made /proc/self root's, the host's root's. Among others' processes it has to stay so.
        process::set_dumpable(!self.given.pid_shared)
    }

    /// Nobody in the container may look into this process before it has become the program.
    fn join_process(&mut self, flags: u64) -> Result<(), Errno> {
        process::set_dumpable(false)?;
        let pidfd = self.take_prepared(self.index).ok_or(Errno::BADF)?;
        process::setns(pidfd.as_fd(), flags)?;
        if flags & namespace::USER != 0 {
            process::set_gid(0)?;
            process::set_uid(0)?;
        }
        if flags & namespace::MOUNT != 0 {
            self.root = Some(rustix::fs::open(
                c"/",
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                rustix::fs::Mode::empty(),
            )?);
        }
        Ok(())
    }

    /// A terminal of the container's own devpts. The slave is opened through the master, and by no path (CVE-2025-52565).
    fn console(&mut self, rows: u16, columns: u16, mount: bool) -> Result<(), Errno> {
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        let master = paths::open(self.root()?, c"dev/pts/ptmx", flags)?;
        rustix::pty::unlockpt(&master)?;
        let slave = rustix::pty::ioctl_tiocgptpeer(
            &master,
            OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
        )?;
        if rows != 0 || columns != 0 {
            let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            rustix::termios::tcsetwinsize(&slave, size)?;
        }
        if mount {
            let tree = corten_sys::mount::clone_tree(slave.as_fd(), c"", false)?;
            self.mount_on_file(tree.as_fd(), c"dev/console")?;
        }
        let mut packet = [0; HEADER_BYTES];
        Record::new(Kind::Console).write(&mut packet);
        fd::send(self.given.channel.as_fd(), &packet, &[master.as_fd()])?;
        self.terminal = Some(slave);
        Ok(())
    }

    fn write_proc(&self, path: &CStr, value: &CStr) -> Result<(), Errno> {
        let file = paths::open_proc(self.given.procfs, path)?;
        rustix::io::retry_on_intr(|| rustix::io::write(&file, value.to_bytes())).map(drop)
    }

    fn user(&mut self, wish: &crate::plan::UserAction) -> Result<(), Failure> {
        let root = self.root.as_ref().ok_or(Errno::BADF)?.as_fd();
        self.given.identity.resolve(root, wish, self.given.lines).map_err(|unknown| match unknown {
            users::Unknown::User => Failure::because(Errno::NOENT, Reason::UnknownUser),
            users::Unknown::Group => Failure::because(Errno::NOENT, Reason::UnknownGroup),
            users::Unknown::Failed(errno) => errno.into(),
        })
    }

    /// Inside the root by all means: a directory that was reached through a left-over descriptor is outside of it (CVE-2024-21626).
    fn working_directory(&mut self, path: &CStr, create: bool) -> Result<(), Errno> {
        let root = self.root()?;
        let directory = match paths::open(root, path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) if create => paths::create(root, path, paths::Missing::Directory)?,
            directory => directory?,
        };
        match rustix::process::fchdir(&directory) {
            Err(Errno::ACCESS) => {
                self.late_directory = Some(directory);
                Ok(())
            }
            answer => answer,
        }
    }

    fn streams(&mut self, terminal: bool) -> Result<(), Errno> {
        use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
        if let (true, Some(slave)) = (terminal, self.terminal.take()) {
            rustix::process::ioctl_tiocsctty(&slave)?;
            dup2_stdin(&slave)?;
            dup2_stdout(&slave)?;
            dup2_stderr(&slave)?;
        } else if let Stdio::Files { stdin, stdout, stderr } = self.given.stdio {
            dup2_stdin(stdin)?;
            dup2_stdout(stdout)?;
            dup2_stderr(stderr)?;
        }
        let uid = self.given.identity.uid;
        if uid != 0 || self.given.user_namespace {
            let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
            for stream in streams {
                own(stream, uid)?;
            }
        }
        Ok(())
    }

    /// Sends a record; what cannot be said is not said, the parent sees the end.
    fn tell(&mut self, kind: Kind, failure: &Failure) {
        let record = Record {
            kind,
            reason: failure.reason,
            index: self.index as u32,
            errno: failure.errno.raw_os_error(),
        };
        record.write(self.given.detail);
        let packet = &self.given.detail[..HEADER_BYTES + failure.detail];
        for to in [Some(&self.given.channel), self.starter.as_ref()].into_iter().flatten() {
            let _ = rustix::io::retry_on_intr(|| rustix::io::write(to, packet));
        }
    }

    /// Tells the parent where we are and waits for its answer.
    fn ask(&mut self, kind: Kind) -> Result<(), Errno> {
        let mut packet = [0; HEADER_BYTES];
        Record { index: self.index as u32, ..Record::new(kind) }.write(&mut packet);
        rustix::io::retry_on_intr(|| rustix::io::write(&self.given.channel, &packet))?;
        self.await_go()
    }

    fn await_go(&self) -> Result<(), Errno> {
        await_go(self.given.channel.as_fd())
    }
}

/// Waits for the word to go on; the other side's end means that nobody wants the container any more.
fn await_go(channel: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut answer = [0u8; 1];
    match rustix::io::retry_on_intr(|| rustix::io::read(channel, &mut answer))? {
        1 if answer[0] == GO => Ok(()),
        _ => Err(Errno::CANCELED),
    }
}

/// Gives a stream to the program's user, so that `/dev/stdout` can be opened again. The null device stays what it is for everybody.
fn own(stream: BorrowedFd<'_>, uid: u32) -> Result<(), Errno> {
    let Ok(stat) = rustix::fs::fstat(stream) else { return Ok(()) };
    if stat.st_uid == uid || stat.st_rdev == rustix::fs::makedev(1, 3) {
        return Ok(());
    }
    match rustix::fs::fchown(stream, Some(rustix::fs::Uid::from_raw(uid)), None) {
        // Unmapped owners, sockets of others, read-only file systems: it stays usable through the descriptor.
        Ok(()) | Err(Errno::PERM | Errno::INVAL | Errno::ROFS | Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Like [`run`], for the child of an intermediate process: the parent has to know it first.
pub(crate) fn run_after_word(given: Given<'_>) -> i32 {
    // Closed here already, or the parent's end would never be seen.
    *given.parent_channel = None;
    if await_go(given.channel.as_fd()).is_err() {
        return 1;
    }
    run(given)
}

/// What an intermediate process does before it makes the container's: control groups, namespaces, clocks. An error names the join that failed.
pub(crate) fn enter(
    given: &Given<'_>,
    joins: &[(NamespaceKind, OwnedFd)],
    time_offsets: Option<&str>,
    procfs: BorrowedFd<'_>,
) -> Result<(), (usize, Errno)> {
    let none = |errno| (usize::MAX, errno);
    for tasks in given.tasks {
        rustix::io::retry_on_intr(|| rustix::io::write(tasks, b"0")).map_err(none)?;
    }
    if let Some(offsets) = time_offsets {
        process::unshare(namespace::TIME).map_err(none)?;
        if !offsets.is_empty() {
            let file = paths::open_proc(procfs, c"self/timens_offsets").map_err(none)?;
            rustix::io::write(&file, offsets.as_bytes()).map_err(none)?;
        }
    }
    let pid = joins.iter().any(|(kind, _)| *kind == NamespaceKind::Pid);
    if pid {
        // The child inherits it: it has all rights and the host's descriptors, among processes that must not look into it.
        process::set_dumpable(false).map_err(none)?;
    }
    for (index, (kind, fd)) in joins.iter().enumerate() {
        let failed = |errno| (index, errno);
        process::setns(fd.as_fd(), crate::plan::namespace_flag(*kind)).map_err(failed)?;
        if *kind == NamespaceKind::User {
            process::set_gid(0).map_err(failed)?;
            process::set_uid(0).map_err(failed)?;
            // As after a mapping; but not where others in the pid namespace could look in.
            process::set_dumpable(!pid).map_err(failed)?;
        }
    }
    Ok(())
}

/// Sends a record that is but a number.
pub(crate) fn say_number(channel: BorrowedFd<'_>, kind: Kind, index: u32, number: i32) {
    let mut packet = [0; HEADER_BYTES];
    Record { index, errno: number, ..Record::new(kind) }.write(&mut packet);
    let _ = rustix::io::retry_on_intr(|| rustix::io::write(channel, &packet));
}
