//! What a child says to its parent over their channel: one packet per record.
//!
//! Bytes: kind, reason, 2 of zero, operation's index (u32), errno (i32), then details as the reason has them. Native
//! byte order: both ends are one program.

pub(crate) const HEADER_BYTES: usize = 12;
/// How much of a program's beginning is looked at to say why it cannot run.
pub(crate) const DETAIL_BYTES_MAX: usize = 4096;
/// What the parent answers when the child may go on.
pub(crate) const GO: u8 = b'G';

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Failed = 1,
    Warning,
    /// With the terminal's master.
    Console,
    /// The hooks before the change of root are due; waits.
    CreateHooks,
    /// All but the exec is done; waits.
    Held,
    /// The container's process has been made by an intermediate one: its pid is in the place of errno.
    Pid,
    /// The filter's listener is the child's descriptor whose number is in the place of errno; waits.
    Listener,
}

/// Why something failed, where errno does not say it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reason {
    Errno = 0,
    /// The details are the kernel's own words.
    Explained,
    UnknownUser,
    UnknownGroup,
    NotInPath,
    /// The details are the beginning of the program.
    Program,
    IsDirectory,
    NotExecutable,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub kind: Kind,
    pub reason: Reason,
    pub index: u32,
    pub errno: i32,
}

impl Record {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, reason: Reason::Errno, index: 0, errno: 0 }
    }

    pub(crate) fn write(&self, out: &mut [u8]) {
        out[0] = self.kind as u8;
        out[1] = self.reason as u8;
        out[2..4].fill(0);
        out[4..8].copy_from_slice(&self.index.to_ne_bytes());
        out[8..12].copy_from_slice(&self.errno.to_ne_bytes());
    }

    /// `None` for anything that is no record.
    pub(crate) fn read(packet: &[u8]) -> Option<(Self, &[u8])> {
        let (header, details) = packet.split_at_checked(HEADER_BYTES)?;
        let kind = match header[0] {
            1 => Kind::Failed,
            2 => Kind::Warning,
            3 => Kind::Console,
            4 => Kind::CreateHooks,
            5 => Kind::Held,
            6 => Kind::Pid,
            7 => Kind::Listener,
            _ => return None,
        };
        let reason = match header[1] {
            0 => Reason::Errno,
            1 => Reason::Explained,
            2 => Reason::UnknownUser,
            3 => Reason::UnknownGroup,
            4 => Reason::NotInPath,
            5 => Reason::Program,
            6 => Reason::IsDirectory,
            7 => Reason::NotExecutable,
            _ => return None,
        };
        let number = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
        let record =
            Self { kind, reason, index: u32::from_ne_bytes(number(4)), errno: i32::from_ne_bytes(number(8)) };
        Some((record, details))
    }
}
