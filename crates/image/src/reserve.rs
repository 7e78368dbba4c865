//! Room on the disk that is kept for removals: on a full one they are what makes room, and a database needs some to note them.
//!
//! Owns one file of zeros. Knows nothing of what is removed.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

const BYTES: usize = 1 << 20;
/// Less of it helps nobody: a database's shared memory alone takes as much.
const PIECE: u64 = 32 << 10;

/// A file that is given up piece by piece to what fails, most often for want of room.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
}

impl Reserve {
    /// Takes no room yet.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Tries again with less in the file what has failed. Half of it goes each time: what is done next needs some, too, and others
    /// are there to take what is free.
    pub fn give<T, E>(&self, mut work: impl FnMut() -> Result<T, E>) -> Result<T, E> {
        loop {
            match work() {
                Err(error) => self.halve().map_err(|_| error)?,
                done => return done,
            }
        }
    }

    /// Makes a removal, with the room if that is wanted. What is left of it is taken back at once: whoever else waits for room would
    /// have it before the next removal.
    pub fn spend<T, E>(&self, removal: impl FnMut() -> Result<T, E>) -> Result<T, E> {
        let removed = self.give(removal);
        self.refill();
        removed
    }

    fn halve(&self) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(&self.path)?;
        match file.metadata()?.len() / 2 {
            half if half < PIECE => fs::remove_file(&self.path),
            half => file.set_len(half),
        }
    }

    /// Adds what is missing. Best effort: a part of it is worth having, and the next removal adds the rest.
    pub fn refill(&self) {
        let held = fs::metadata(&self.path).map_or(0, |file| usize::try_from(file.len()).unwrap_or(BYTES));
        if let Some(missing) = BYTES.checked_sub(held).filter(|missing| *missing > 0) {
            let file = OpenOptions::new().append(true).create(true).open(&self.path);
            let _ = file.and_then(|mut file| file.write_all(&vec![0; missing]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_given_up_and_taken_back() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("reserve");
        let reserve = Reserve::at(path.clone());
        let held = || fs::metadata(&path).map_or(0, |file| file.len());
        assert_eq!(held(), 0);
        reserve.refill();
        assert_eq!(held(), BYTES as u64);
        let mut seen = Vec::new();
        let removed = reserve.spend(|| {
            seen.push(held());
            if seen.len() == 3 { Ok(()) } else { Err("no room") }
        });
        assert_eq!((removed, &seen[..]), (Ok(()), &[1 << 20, 1 << 19, 1 << 18][..]));
        assert_eq!(held(), BYTES as u64);
        // A part of it is filled up; an engine's start leaves what it has given.
        fs::write(&path, b"part").unwrap();
        assert_eq!(reserve.spend(|| Ok::<_, ()>(1)), Ok(1));
        assert_eq!(held(), BYTES as u64);
        let mut tries = 0;
        assert_eq!(
            reserve.give(|| {
                tries += 1;
                Err::<(), _>("no room")
            }),
            Err("no room")
        );
        assert_eq!((tries, held()), (7, 0));
    }
}
