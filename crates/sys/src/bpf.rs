//! bpf(2), as far as cgroup v2 needs it: device filter programs, loaded and attached to a group.
//!
//! Knows instructions and the attach protocol. Which devices a program lets through is decided in `corten-runtime`.

use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::{Errno, Result};

/// One eBPF instruction (`struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instruction {
    pub code: u8,
    /// Destination register in the low, source register in the high four bits.
    pub registers: u8,
    pub offset: i16,
    pub immediate: i32,
}

const PROG_LOAD: u32 = 5;
const PROG_ATTACH: u32 = 8;
const PROG_DETACH: u32 = 9;
const PROG_GET_FD_BY_ID: u32 = 13;
const PROG_QUERY: u32 = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const F_ALLOW_MULTI: u32 = 1 << 1;
const F_REPLACE: u32 = 1 << 2;

/// How many programs of one kind the kernel lets a group have (`BPF_CGROUP_MAX_PROGS`).
const PROGRAMS_MAX: usize = 64;

/// The start of `union bpf_attr` for BPF_PROG_LOAD; the kernel takes the rest as zero.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

/// For BPF_PROG_ATTACH and BPF_PROG_DETACH.
#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target_fd: u32,
    program_fd: u32,
    attach_type: u32,
    flags: u32,
    replace_fd: u32,
}

#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    id_count: u32,
    reserved: u32,
}

#[repr(C)]
#[derive(Default)]
struct GetFdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Loads a device filter; the kernel's verifier must be content with it. Needs CAP_BPF or CAP_SYS_ADMIN.
pub fn load_device_program(instructions: &[Instruction]) -> Result<OwnedFd> {
    let attr = LoadAttr {
        program_type: PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(instructions.len()).map_err(|_| Errno::TOOBIG)?,
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..LoadAttr::default()
    };
    // SAFETY: the attribute points to instructions and a string that live through the call.
    let fd = unsafe { bpf(PROG_LOAD, &raw const attr, size_of::<LoadAttr>()) }?;
    // SAFETY: BPF_PROG_LOAD returns a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes `program` the group's only device filter. A filter that is there already is replaced in one step, so that
/// at no moment every device is allowed.
pub fn attach_device_program(group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let old = attached_device_programs(group)?;
    let mut attr = AttachAttr {
        target_fd: group.as_raw_fd() as u32,
        program_fd: program.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        flags: F_ALLOW_MULTI,
        replace_fd: 0,
    };
    if let [only] = old.as_slice() {
        attr.flags |= F_REPLACE;
        attr.replace_fd = only.as_raw_fd() as u32;
    }
    // SAFETY: the attribute holds descriptors that are open for the call.
    unsafe { bpf(PROG_ATTACH, &raw const attr, size_of::<AttachAttr>()) }?;
    if old.len() > 1 {
        for program in &old {
            detach_device_program(group, program)?;
        }
    }
    Ok(())
}

/// The device filters that are attached to the group itself.
pub fn attached_device_programs(group: BorrowedFd<'_>) -> Result<Vec<OwnedFd>> {
    let mut ids = [0_u32; PROGRAMS_MAX];
    let mut attr = QueryAttr {
        target_fd: group.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        id_count: PROGRAMS_MAX as u32,
        ..QueryAttr::default()
    };
    // SAFETY: the kernel writes at most `id_count` ids and the counters in the attribute.
    unsafe { bpf(PROG_QUERY, &raw mut attr, size_of::<QueryAttr>()) }?;
    let count = (attr.id_count as usize).min(PROGRAMS_MAX);
    ids[..count].iter().map(|&id| program_by_id(id)).collect()
}

fn program_by_id(id: u32) -> Result<OwnedFd> {
    let attr = GetFdAttr { id, ..GetFdAttr::default() };
    // SAFETY: the attribute is plain data.
    let fd = unsafe { bpf(PROG_GET_FD_BY_ID, &raw const attr, size_of::<GetFdAttr>()) }?;
    // SAFETY: BPF_PROG_GET_FD_BY_ID returns a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn detach_device_program(group: BorrowedFd<'_>, program: &OwnedFd) -> Result<()> {
    let attr = AttachAttr {
        target_fd: group.as_raw_fd() as u32,
        program_fd: program.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        ..AttachAttr::default()
    };
    // SAFETY: the attribute holds descriptors that are open for the call.
    unsafe { bpf(PROG_DETACH, &raw const attr, size_of::<AttachAttr>()) }.map(drop)
}

/// # Safety
/// `attr` must be `size` bytes of what `command` expects; every pointer in it must be valid for the call, and
/// writable where the command writes.
unsafe fn bpf<T>(command: u32, attr: *const T, size: usize) -> Result<i32> {
    // SAFETY: passed on to the caller.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_ulong, attr, size) };
    if result >= 0 {
        return Ok(result as i32);
    }
    // SAFETY: the address of the thread's own errno is always valid.
    Err(Errno::from_raw_os_error(unsafe { *libc::__errno_location() }))
}

// The kernel reads these by position: a shift would mean another program or group.
const _: () = assert!(
    size_of::<Instruction>() == 8
        && offset_of!(LoadAttr, license) == 16
        && offset_of!(LoadAttr, flags) == 44
        && offset_of!(AttachAttr, replace_fd) == 16
        && offset_of!(QueryAttr, id_count) == 24
);
