//! Scheduling: policy, I/O priority, CPU affinity, memory policy.

use crate::raw::{Result, numbers, syscall};

/// `struct sched_attr`, version 1 (56 bytes; include/uapi/linux/sched/types.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedAttr {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
    pub util_min: u32,
    pub util_max: u32,
}

/// Sets the calling thread's scheduling policy; `size` is filled in.
pub fn set_scheduler(attr: &SchedAttr) -> Result<()> {
    let attr = SchedAttr { size: size_of::<SchedAttr>() as u32, ..*attr };
    // SAFETY: the structure is the kernel's and says its own size.
    unsafe { syscall(libc::SYS_sched_setattr, [0, &raw const attr as usize, 0, 0, 0, 0]).map(drop) }
}

/// Sets the calling thread's I/O priority: class 1 (real time), 2 (best effort) or 3 (idle), level 0..=7.
pub fn set_io_priority(class: u32, level: u32) -> Result<()> {
    const IOPRIO_WHO_PROCESS: usize = 1;
    let value = (class << 13 | level) as usize;
    numbers(libc::SYS_ioprio_set, [IOPRIO_WHO_PROCESS, 0, value, 0, 0, 0]).map(drop)
}

/// Binds the calling thread to the CPUs whose bits are set.
pub fn set_affinity(mask: &[u64]) -> Result<()> {
    // SAFETY: pointer and length in bytes describe the slice.
    unsafe {
        syscall(libc::SYS_sched_setaffinity, [0, size_of_val(mask), mask.as_ptr() as usize, 0, 0, 0])
            .map(drop)
    }
}

/// Sets the calling thread's memory policy: `MPOL_*` with its mode flags, and the nodes whose bits are set.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<()> {
    let (pointer, bits) =
        if nodes.is_empty() { (0, 0) } else { (nodes.as_ptr() as usize, nodes.len() * 64 + 1) };
    // SAFETY: the kernel reads `bits - 1` bits, which is what the slice has.
    unsafe { syscall(libc::SYS_set_mempolicy, [mode as usize, pointer, bits, 0, 0, 0]).map(drop) }
}
