//! What a monitor waits for: epoll, with a token that says whose descriptor is ready.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::log::Stream;

pub(super) use epoll::EventFlags as Ready;

/// Number of a session, a client or a control connection; never used twice, so that a late event finds nobody.
pub(super) type Id = u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Listener,
    Control(Id),
    /// A process has ended.
    Process(Id),
    /// A process on its way to exec has something to say.
    Starting(Id),
    Output(Id, Stream),
    Input(Id),
    Client(Id),
    Resolver,
    /// The receiver of the log.
    Log,
    /// A process that compresses has ended.
    Packing,
    /// A process that looks a name up has ended.
    Lookup,
    /// The control group lacks memory.
    Memory,
}

impl Token {
    fn encode(self) -> u64 {
        let (kind, id) = match self {
            Self::Listener => (0, 0),
            Self::Control(id) => (1, id),
            Self::Process(id) => (2, id),
            Self::Starting(id) => (3, id),
            Self::Output(id, Stream::Stdout) => (4, id),
            Self::Output(id, Stream::Stderr) => (5, id),
            Self::Input(id) => (6, id),
            Self::Client(id) => (7, id),
            Self::Resolver => (8, 0),
            Self::Log => (9, 0),
            Self::Packing => (10, 0),
            Self::Lookup => (11, 0),
            Self::Memory => (12, 0),
        };
        kind << 32 | u64::from(id)
    }

    fn decode(data: u64) -> Self {
        let id = data as u32;
        match data >> 32 {
            1 => Self::Control(id),
            2 => Self::Process(id),
            3 => Self::Starting(id),
            4 => Self::Output(id, Stream::Stdout),
            5 => Self::Output(id, Stream::Stderr),
            6 => Self::Input(id),
            7 => Self::Client(id),
            8 => Self::Resolver,
            9 => Self::Log,
            10 => Self::Packing,
            11 => Self::Lookup,
            12 => Self::Memory,
            _ => Self::Listener,
        }
    }
}

pub(super) struct Poll {
    epoll: OwnedFd,
}

/// Events taken from the kernel at a time.
pub(super) const BATCH: usize = 16;

impl Poll {
    pub(super) fn new() -> Result<Self, Errno> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    pub(super) fn add(&self, fd: impl AsFd, token: Token, ready: Ready) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token.encode()), ready)
    }

    /// Changes what is waited for; a descriptor that is not (or no longer) watched is added.
    pub(super) fn set(&self, fd: impl AsFd, token: Token, ready: Ready) -> Result<(), Errno> {
        match epoll::modify(&self.epoll, &fd, epoll::EventData::new_u64(token.encode()), ready) {
            Err(Errno::NOENT) => self.add(fd, token, ready),
            other => other,
        }
    }

    /// To be called before a descriptor is closed of which others may hold copies.
    pub(super) fn remove(&self, fd: impl AsFd) {
        // Not being watched is what is wanted.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits for events; none when the time is over or a signal came.
    pub(super) fn wait(
        &self,
        timeout: Option<Duration>,
        found: &mut [Option<(Token, Ready)>; BATCH],
    ) -> Result<(), Errno> {
        let timeout = timeout.map(|t| Timespec {
            tv_sec: t.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: t.subsec_nanos().into(),
        });
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); BATCH];
        found.fill(None);
        match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok((events, _)) => {
                for (slot, event) in found.iter_mut().zip(events) {
                    *slot = Some((Token::decode({ event.data }.u64()), { event.flags }));
                }
                Ok(())
            }
            Err(Errno::INTR) => Ok(()),
            Err(e) => Err(e),
        }
    }
}
