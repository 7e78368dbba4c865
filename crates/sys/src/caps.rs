//! Capabilities of the calling thread, as 64-bit masks.

use crate::raw::{Result, numbers, syscall};

/// The three sets that capget and capset speak of; bit n is capability n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilitySets {
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
}

const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Reads the caller's sets.
pub fn get() -> Result<CapabilitySets> {
    let header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 fills two data elements.
    unsafe {
        syscall(libc::SYS_capget, [&raw const header as usize, data.as_mut_ptr() as usize, 0, 0, 0, 0])?;
    }
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok(CapabilitySets {
        effective: join(data[0].effective, data[1].effective),
        permitted: join(data[0].permitted, data[1].permitted),
        inheritable: join(data[0].inheritable, data[1].inheritable),
    })
}

/// Sets the caller's sets.
pub fn set(sets: CapabilitySets) -> Result<()> {
    let header = Header { version: VERSION_3, pid: 0 };
    let half = |shift: u32| Data {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads two data elements.
    unsafe {
        syscall(libc::SYS_capset, [&raw const header as usize, data.as_ptr() as usize, 0, 0, 0, 0]).map(drop)
    }
}

/// Takes capability `number` out of the bounding set.
pub fn drop_bounding(number: u32) -> Result<()> {
    numbers(libc::SYS_prctl, [libc::PR_CAPBSET_DROP as usize, number as usize, 0, 0, 0, 0]).map(drop)
}

/// Whether capability `number` is in the bounding set; an error beyond the kernel's last one.
pub fn in_bounding(number: u32) -> Result<bool> {
    numbers(libc::SYS_prctl, [libc::PR_CAPBSET_READ as usize, number as usize, 0, 0, 0, 0]).map(|v| v == 1)
}

/// Empties the ambient set.
pub fn clear_ambient() -> Result<()> {
    let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL as usize;
    numbers(libc::SYS_prctl, [libc::PR_CAP_AMBIENT as usize, clear, 0, 0, 0, 0]).map(drop)
}

/// Adds capability `number`, which has to be permitted and inheritable, to the ambient set.
pub fn raise_ambient(number: u32) -> Result<()> {
    let raise = libc::PR_CAP_AMBIENT_RAISE as usize;
    numbers(libc::SYS_prctl, [libc::PR_CAP_AMBIENT as usize, raise, number as usize, 0, 0, 0]).map(drop)
}

/// The kernel's highest capability.
pub fn last() -> u32 {
    (0..64).take_while(|number| in_bounding(*number).is_ok()).last().unwrap_or(0)
}

/// Names without `CAP_`; the index is the number (include/uapi/linux/capability.h).
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The number behind `CAP_CHOWN` (any case).
pub fn number(name: &str) -> Option<u32> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_")?;
    NAMES.iter().position(|n| *n == short).map(|n| n as u32)
}
