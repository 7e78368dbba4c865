//! Memory that is given back: page buffers, the part of the stack that is no longer used, what the allocator keeps, and code.

use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::path::Path;
use std::ptr::NonNull;

use crate::raw::{Result, syscall};

/// Gives the pages back that the allocator keeps for later, of all its arenas (malloc_trim(3)); takes some milliseconds at most.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointers, and locks what it looks at.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A buffer of whole pages, zeroed, which takes memory only where it was written to.
pub struct Pages {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is private memory that only this value refers to.
unsafe impl Send for Pages {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Pages {}

impl Pages {
    /// Maps `len` bytes; fails only for want of address space.
    pub fn new(len: usize) -> io::Result<Self> {
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        match NonNull::new(start.cast::<u8>()) {
            Some(address) if start != libc::MAP_FAILED => Ok(Self { start: address, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Returns the memory to the kernel; the content is zero again.
    pub fn give_back(&mut self) {
        // SAFETY: the range is this mapping, private and anonymous: it reads as zeros afterwards, which are valid bytes.
        let _ = unsafe {
            syscall(
                libc::SYS_madvise,
                [self.start.as_ptr() as usize, self.len, libc::MADV_DONTNEED as usize, 0, 0, 0],
            )
        };
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping has `len` readable, initialised (zeroed) bytes and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`, and `&mut self` is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the range is this mapping, and nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Gives the unused part of the caller's stack back to the kernel: what deep calls have left behind.
#[inline(never)]
pub fn release_stack() -> Result<()> {
    let here = 0u8;
    let here = &raw const here as usize;
    let maps = std::fs::read_to_string(MAPS).map_err(|_| rustix::io::Errno::IO)?;
    let mapping =
        maps.lines().filter_map(Mapping::parse).map(|m| m.range).find(|range| range.contains(&here));
    drop(maps);
    mapping.map_or(Ok(()), |mapping| release_below(mapping.start))
}

/// Gives back the stack from `start` up to just below this call; a function of its own, so that its frame is small and nothing else
/// lies between it and what is given back.
#[inline(never)]
fn release_below(start: usize) -> Result<()> {
    const PAGE: usize = 4096;
    /// What this function and the one it calls may still use.
    const MARGIN: usize = PAGE;
    let here = 0u8;
    let here = core::hint::black_box(&raw const here) as usize;
    let end = here.saturating_sub(MARGIN) & !(PAGE - 1);
    if end <= start {
        return Ok(());
    }
    // SAFETY: the range lies within the mapping of the running stack and wholly below its pointer (which grows downwards) and the
    // margin that covers this call's own frames: no live value is there.
    unsafe {
        syscall(libc::SYS_madvise, [start, end - start, libc::MADV_DONTNEED as usize, 0, 0, 0]).map(drop)
    }
}

/// Maps all pages of the program's own file, so that processes forked from here find them shared: a page of a file that only one
/// process has touched counts as its own. Does nothing on kernels before 5.14.
pub fn populate_program() -> io::Result<()> {
    const MADV_POPULATE_READ: usize = 22;
    for Range { start, end } in of_this_program(|_| true)? {
        // SAFETY: reading pages in changes no content; a range that is gone by now gives an error.
        match unsafe { syscall(libc::SYS_madvise, [start, end - start, MADV_POPULATE_READ, 0, 0, 0]) } {
            Ok(_) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Unmaps the pages of the program's code; those that are still needed are mapped again from the page cache, when they are. What only
/// the start needed, or an import, counts no longer.
pub fn release_code() -> io::Result<()> {
    for Range { start, end } in of_this_program(|rights| rights == "r-xp")? {
        // SAFETY: a mapping of a file that nothing has ever written to, as it is executable and was never writable: a page that is
        // read again has the same content.
        unsafe { syscall(libc::SYS_madvise, [start, end - start, libc::MADV_DONTNEED as usize, 0, 0, 0]) }?;
    }
    Ok(())
}

/// Where the program's own file is mapped with such rights.
fn of_this_program(rights: impl Fn(&str) -> bool) -> io::Result<Vec<Range<usize>>> {
    let program = std::fs::read_link("/proc/self/exe")?;
    let maps = std::fs::read_to_string(MAPS)?;
    let mappings = maps.lines().filter_map(Mapping::parse);
    let own = mappings.filter(|mapping| Path::new(mapping.path) == program && rights(mapping.rights));
    Ok(own.map(|mapping| mapping.range).collect())
}

const MAPS: &str = "/proc/self/maps";

/// A line of [`MAPS`] (proc_pid_maps(5)).
struct Mapping<'a> {
    range: Range<usize>,
    /// `r-xp`
    rights: &'a str,
    path: &'a str,
}

impl Mapping<'_> {
    fn parse(line: &str) -> Option<Mapping<'_>> {
        // Range, rights, offset, device and inode by one blank each, then blanks up to the path.
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
        Some(Mapping { range, rights: fields.next()?, path: fields.nth(3)?.trim_start() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_runs_on_after_its_pages_were_given_back() {
        let mapped = of_this_program(|rights| rights == "r-xp").unwrap();
        assert!(!mapped.is_empty());
        release_code().unwrap();
        assert_eq!(format!("{}", 6 * 7), "42");
        trim_heap();
    }

    #[test]
    fn lines_of_the_kernel_are_parsed() {
        let line = "55cb-55cc r-xp 00202000 fe:00 1196071                    /opt/a program (deleted)";
        let mapping = Mapping::parse(line).unwrap();
        assert_eq!(
            (mapping.range, mapping.rights, mapping.path),
            (0x55cb..0x55cc, "r-xp", "/opt/a program (deleted)")
        );
    }

    #[test]
    fn pages_are_zero_before_and_after() {
        let mut pages = Pages::new(64 * 1024).unwrap();
        assert!(pages.iter().all(|b| *b == 0));
        pages[40_000] = 7;
        pages.give_back();
        assert_eq!(pages.len(), 64 * 1024);
        assert_eq!(pages[40_000], 0);
    }

    #[test]
    fn values_survive_the_release_of_the_stack() {
        fn deep(n: u32) -> u32 {
            let block = std::hint::black_box([n; 256]);
            if n == 0 { block[0] } else { deep(n - 1) + block[255] }
        }
        let kept = std::hint::black_box([42u8; 512]);
        assert_eq!(deep(200), 20_100);
        release_stack().unwrap();
        assert!(kept.iter().all(|b| *b == 42));
        assert_eq!(deep(200), 20_100);
    }
}
