//! Keeping a container away from the program that starts it.
//!
//! A process that enters a container is visible there as `/proc/<pid>/exe`, and `#!/proc/self/exe` makes the container run
//! it: who can open that file for writing owns the host (CVE-2019-5736). A program that enters containers therefore runs from a sealed copy.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};

use crate::process::{Strings, fexecve};

/// Whether the running program is a sealed copy already.
pub fn is_sealed() -> io::Result<bool> {
    let exe = rustix::fs::open("/proc/self/exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    match rustix::fs::fcntl_get_seals(&exe) {
        Ok(seals) => Ok(seals.contains(SealFlags::WRITE)),
        Err(rustix::io::Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Makes the calling program run from a sealed copy of itself: replaces the process, with the same arguments and environment,
/// unless it runs from one already. To be called first thing in `main`.
pub fn ensure_sealed() -> io::Result<()> {
    if is_sealed()? {
        return Ok(());
    }
    let copy = sealed_copy()?;
    let text = |s: std::ffi::OsString| CString::new(s.into_vec()).map_err(|_| io::ErrorKind::InvalidInput);
    let arguments = std::env::args_os().map(text).collect::<Result<Vec<_>, _>>()?;
    let environment = std::env::vars_os()
        .map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            text(name)
        })
        .collect::<Result<Vec<_>, _>>()?;
    Err(fexecve(copy.as_fd(), &Strings::new(arguments, 0), &Strings::new(environment, 0)).into())
}

/// A copy of the running program that nobody can change any more.
pub fn sealed_copy() -> io::Result<OwnedFd> {
    let mut program = std::fs::File::open("/proc/self/exe")?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // MFD_EXEC: since 6.3 kernels can be told to make memfds non-executable unless asked; older ones refuse the flag.
    let copy = rustix::fs::memfd_create("corten", flags | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create("corten", flags))?;
    let mut copy = std::fs::File::from(copy);
    io::copy(&mut program, &mut copy)?;
    rustix::fs::fcntl_add_seals(
        &copy,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(copy.into())
}
