//! One door for system calls that rustix does not know: errno without the thread-local, so it works between clone and exec.

use rustix::io::Errno;

/// A system call's answer.
pub type Result<T> = core::result::Result<T, Errno>;

/// Makes a system call.
///
/// # Safety
/// The arguments have to be what the kernel expects of this call: pointers valid for the access it makes, lengths true.
pub(crate) unsafe fn syscall(number: libc::c_long, args: [usize; 6]) -> Result<usize> {
    // SAFETY: the caller vouches for the arguments; libc's syscall() itself touches nothing but errno.
    let answer = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if answer == -1 {
        // SAFETY: errno's location is valid for the calling thread, also in a freshly cloned child.
        Err(Errno::from_raw_os_error(unsafe { *libc::__errno_location() }))
    } else {
        Ok(answer as usize)
    }
}

/// Makes a system call whose arguments are numbers only.
pub(crate) fn numbers(number: libc::c_long, args: [usize; 6]) -> Result<usize> {
    // SAFETY: used in this crate only for calls that take no pointers.
    unsafe { syscall(number, args) }
}
