//! The end of the child's way: its user, its rights, and the exec.

use core::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use corten_sys::caps::{self, CapabilitySets};
use corten_sys::{fd, process, seccomp, signal};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::SocketFlags;

use super::{Child, Failure, HEADER_BYTES, Hold, Kind, Reason, Record, await_go, paths};
use crate::plan::CapabilityPlan;

const DEFAULT_UMASK: u32 = 0o022;
const CAPABILITIES_MAX: u32 = 63;

impl Child<'_> {
    /// From here on the process is the user's, but for the capabilities that the last steps need.
    pub(super) fn identity(&mut self, bounding: u64, umask: Option<u32>, keep: u64) -> Result<(), Errno> {
        // From here on its rights are the container's, its descriptors still the host's: nobody in a process namespace that it
        // shares may look into it. The exec makes it like any other process again.
        process::set_dumpable(false)?;
        rustix::process::umask(Mode::from_raw_mode(umask.unwrap_or(DEFAULT_UMASK)));
        for number in 0..=CAPABILITIES_MAX {
            if bounding & 1 << number == 0 {
                match caps::drop_bounding(number) {
                    Ok(()) => {}
                    // Beyond the kernel's last one.
                    Err(Errno::INVAL) => break,
                    // Somebody without rights, in a namespace without any.
                    Err(Errno::PERM) if caps::in_bounding(number) == Ok(false) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let identity = &*self.given.identity;
        match process::set_groups(identity.groups()) {
            // setgroups(2) is forbidden where an unprivileged user made the mapping: fine when nothing was asked for.
            Err(Errno::PERM) if identity.groups().iter().all(|g| *g == identity.gid) => {}
            answer => answer?,
        }
        process::set_gid(identity.gid)?;
        process::set_keep_capabilities(true)?;
        process::set_uid(identity.uid)?;
        process::set_keep_capabilities(false)?;
        let held = caps::get()?.permitted & keep;
        caps::set(CapabilitySets { effective: held, permitted: held, inheritable: 0 })?;
        if let Some(directory) = self.late_directory.take() {
            rustix::process::fchdir(&directory)?;
        }
        if self.given.death_signal != 0 {
            // A change of ids clears it, so it cannot be set earlier.
            process::set_parent_death_signal(self.given.death_signal)?;
            // A parent that has died before sends none any more. In a process namespace it has no number to be asked for, but
            // with it the channel's other end has gone.
            if has_hung_up(self.given.channel.as_fd())? {
                return Err(Errno::CANCELED);
            }
        }
        Ok(())
    }

    /// Whether the exec has a chance; what is found is not kept, as the exec looks for itself.
    pub(super) fn find_program(&mut self) -> Result<(), Failure> {
        let mut worst = Errno::NOENT;
        for candidate in self.given.candidates {
            match paths::is_program(CWD, candidate) {
                Ok(()) => return Ok(()),
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) if self.given.searched => worst = error,
                Err(error) => return Err(self.why(candidate, error)),
            }
        }
        Err(self.not_found(worst))
    }

    pub(super) fn hold(&mut self) -> Result<(), Errno> {
        let Hold::Socket(listener) = self.given.hold else { return self.ask(Kind::Held) };
        let mut packet = [0; HEADER_BYTES];
        Record { index: self.index as u32, ..Record::new(Kind::Held) }.write(&mut packet);
        rustix::io::retry_on_intr(|| rustix::io::write(&self.given.channel, &packet))?;
        loop {
            let starter =
                rustix::io::retry_on_intr(|| rustix::net::accept_with(listener, SocketFlags::CLOEXEC))?;
            // Who goes away without a word has not started anything.
            if await_go(starter.as_fd()).is_ok() {
                self.starter = Some(starter);
                return Ok(());
            }
        }
    }

    /// Capabilities, ambient ones, no_new_privs and the filter: the filter as late as its needs allow, so that it has to permit as
    /// little as possible.
    pub(super) fn privileges(&mut self, plan: &CapabilityPlan) -> Result<(), Errno> {
        let held = caps::get()?.permitted;
        caps::clear_ambient()?;
        caps::set(CapabilitySets { effective: held, permitted: held, inheritable: plan.sets.inheritable })?;
        for number in 0..=CAPABILITIES_MAX {
            if plan.ambient & 1 << number != 0 {
                caps::raise_ambient(number)?;
            }
        }
        let last = CapabilitySets {
            effective: plan.sets.effective & held,
            permitted: plan.sets.permitted & held,
            ..plan.sets
        };
        fd::close_on_exec_from(3 + self.given.preserve_fds as i32)?;
        signal::reset_all()?;
        if plan.no_new_privileges {
            process::set_no_new_privs()?;
            caps::set(last)?;
            self.filter()
        } else {
            self.filter()?;
            caps::set(last)
        }
    }

    fn filter(&mut self) -> Result<(), Errno> {
        let Some(filter) = self.given.filter else { return Ok(()) };
        if !filter.listener {
            return seccomp::install(&filter.instructions, filter.flags);
        }
        let listener = seccomp::install_with_listener(&filter.instructions, filter.flags)?;
        // The parent takes the descriptor out of this process: write(2) is the one call that the filter surely lets through.
        let mut packet = [0; HEADER_BYTES];
        let record =
            Record { index: self.index as u32, errno: listener.as_raw_fd(), ..Record::new(Kind::Listener) };
        record.write(&mut packet);
        rustix::io::retry_on_intr(|| rustix::io::write(&self.given.channel, &packet))?;
        self.await_go()
    }

    /// Tries every place; an error that another place might not have is kept for the end, as execvp(3) does.
    pub(super) fn exec(&mut self) -> Result<(), Failure> {
        let mut worst = Errno::NOENT;
        for candidate in self.given.candidates {
            let home = CStr::from_bytes_until_nul(&self.given.identity.home).unwrap_or(c"HOME=/");
            let errno = if self.given.wants_home {
                process::execve_with(candidate, self.given.arguments, self.given.environment, home)
            } else {
                process::execve(candidate, self.given.arguments, self.given.environment)
            };
            match errno {
                // Also what a missing interpreter gives: then the file itself is there.
                Errno::NOENT
                    if rustix::fs::accessat(
                        CWD,
                        candidate.as_c_str(),
                        rustix::fs::Access::EXISTS,
                        AtFlags::empty(),
                    )
                    .is_ok() =>
                {
                    return Err(self.why(candidate, errno));
                }
                Errno::NOENT | Errno::NOTDIR if self.given.searched => {}
                Errno::ACCESS if self.given.searched => worst = errno,
                errno => return Err(self.why(candidate, errno)),
            }
        }
        Err(self.not_found(worst))
    }

    fn not_found(&self, worst: Errno) -> Failure {
        match worst {
            Errno::NOENT if self.given.searched => Failure::because(worst, Reason::NotInPath),
            Errno::ACCESS if self.given.searched => Failure::because(worst, Reason::NotExecutable),
            errno => errno.into(),
        }
    }

    /// Looks at the program once more: what it is tells why it does not run.
    fn why(&mut self, path: &CStr, errno: Errno) -> Failure {
        let Ok(stat) = rustix::fs::statat(CWD, path, AtFlags::empty()) else { return errno.into() };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return Failure::because(errno, Reason::IsDirectory),
            FileType::RegularFile if stat.st_mode & 0o111 == 0 => {
                return Failure::because(errno, Reason::NotExecutable);
            }
            _ => {}
        }
        let mut failure = Failure::from(errno);
        if matches!(errno, Errno::NOENT | Errno::NOEXEC | Errno::ACCESS)
            && let Ok(file) =
                rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
            && let Ok(length) = rustix::io::read(&file, &mut self.given.detail[HEADER_BYTES..])
        {
            failure.reason = Reason::Program;
            failure.detail = length;
        }
        failure
    }
}

fn has_hung_up(channel: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut fds = [PollFd::from_borrowed_fd(channel, PollFlags::empty())];
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&Timespec::default())))?;
    Ok(fds[0].revents().contains(PollFlags::HUP))
}
