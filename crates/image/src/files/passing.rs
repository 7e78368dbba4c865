//! An archive from one process of this host to another, over a unix socket: what is large in it goes by descriptor, so that its
//! bytes are copied once, by the kernel, from file to file.
//!
//! The archive is sent in spans. Each begins with [`HEAD`] bytes: its length and the offset of its data in a file, both 64 bits,
//! little-endian. A span with offset [`INLINE`] has its bytes behind it; with any other the file's descriptor comes along with the
//! head (unix(7), `SCM_RIGHTS`), open for reading; what the file lacks by then counts as zeros. A span without length is the end.
//!
//! The receiver begins with one byte, zero: before it has the socket to itself, somebody might read descriptors away.

use std::fs::File;
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::net::{RecvFlags, sockopt};

use super::pack::Output;
use super::unpack::Input;

const HEAD: usize = 16;
const INLINE: u64 = u64::MAX;
const READY: u8 = 0;
/// What is shorter is not worth a descriptor.
const LARGE: usize = 256 * 1024;
/// Inline bytes go in spans of this size, at most.
const PIECE: usize = 256 * 1024;
/// So much the kernel copies in one call, that the progress can be seen.
const COPIED_AT_ONCE: usize = 16 << 20;

/// The end that has the files.
pub struct Sender {
    socket: OwnedFd,
    /// The span that is being filled, behind room for its head.
    span: Vec<u8>,
}

impl Sender {
    /// Waits for the receiver. The socket is to be blocking; `begun` is what was read from it already. One that says something else
    /// than that it is there has refused (`ConnectionRefused`), and its words are still to be read.
    pub fn new(socket: OwnedFd, begun: &[u8]) -> io::Result<Sender> {
        let mut first = [0; 1];
        let first = match begun.first() {
            Some(&first) => first,
            None => match rustix::net::recv(&socket, &mut first, RecvFlags::PEEK)?.0 {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => first[0],
            },
        };
        if first != READY {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        if begun.is_empty() {
            corten_sys::fd::receive(socket.as_fd(), &mut [0], &mut Vec::new())?;
        }
        Ok(Sender { socket, span: vec![0; HEAD] })
    }

    /// Says that nothing follows. Without it the archive has broken off.
    pub fn finish(mut self) -> io::Result<OwnedFd> {
        self.flush()?;
        self.send(&[0; HEAD], None)?;
        Ok(self.socket)
    }

    fn send(&self, mut bytes: &[u8], file: Option<&File>) -> io::Result<()> {
        let mut fds = file.map(AsFd::as_fd);
        while !bytes.is_empty() {
            // The descriptor goes with the first byte, once.
            let sent = corten_sys::fd::send(self.socket.as_fd(), bytes, fds.take().as_slice())?;
            bytes = &bytes[sent..];
        }
        Ok(())
    }

    fn room(&self) -> usize {
        HEAD + PIECE - self.span.len()
    }
}

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.room());
        self.span.extend_from_slice(&bytes[..count]);
        if self.room() == 0 {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.span.len() == HEAD {
            return Ok(());
        }
        let length = self.span.len() - HEAD;
        self.span[..HEAD].copy_from_slice(&head(length as u64, INLINE));
        self.send(&self.span, None)?;
        self.span.truncate(HEAD);
        Ok(())
    }
}

impl Output for Sender {
    fn write_from(&mut self, file: &mut File, bytes: usize) -> io::Result<usize> {
        if bytes < LARGE {
            let count = Read::by_ref(file).take(bytes.min(self.room()) as u64).read_to_end(&mut self.span)?;
            if self.room() == 0 {
                self.flush()?;
            }
            return Ok(count);
        }
        self.flush()?;
        let offset = file.stream_position()?;
        self.send(&head(bytes as u64, offset), Some(file))?;
        file.seek(SeekFrom::Start(offset + bytes as u64))?;
        Ok(bytes)
    }
}

/// Tells whether somebody waits for an archive to end.
pub type OthersWait = Box<dyn Fn() -> bool + Send>;

/// A client that sends nothing for so long while others wait for the end of its archive is given up.
pub const STALLED: Duration = Duration::from_secs(10);

/// Why it was given up.
pub fn stalled() -> io::Error {
    let seconds = STALLED.as_secs();
    let why = format!("nothing was sent for {seconds} s, while others waited for it to end");
    io::Error::new(io::ErrorKind::TimedOut, why)
}

/// The end that takes the archive in.
pub struct Receiver {
    socket: OwnedFd,
    others_wait: Option<OthersWait>,
    span: Span,
    buffer: Vec<u8>,
    position: usize,
}

/// What of the span at hand is still to be read.
enum Span {
    Inline(u64),
    File { file: File, offset: u64, left: u64 },
    End,
}

impl Receiver {
    /// Lets the sender begin. The socket is to be blocking.
    pub fn new(socket: OwnedFd) -> io::Result<Receiver> {
        corten_sys::fd::send(socket.as_fd(), &[READY], &[])?;
        Ok(Receiver { socket, others_wait: None, span: Span::Inline(0), buffer: Vec::new(), position: 0 })
    }

    /// From now on a sender that stands still is given up, if others wait.
    pub fn give_up_when(&mut self, others_wait: OthersWait) -> io::Result<()> {
        self.give_up_after(STALLED, others_wait)
    }

    fn give_up_after(&mut self, patience: Duration, others_wait: OthersWait) -> io::Result<()> {
        sockopt::set_socket_timeout(&self.socket, sockopt::Timeout::Recv, Some(patience))?;
        self.others_wait = Some(others_wait);
        Ok(())
    }

    /// The socket, for an answer.
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }

    fn next_span(&mut self) -> io::Result<()> {
        let (mut head, mut fds) = ([0; HEAD], Vec::new());
        let mut have = 0;
        while have < HEAD {
            match receive(&self.socket, self.others_wait.as_ref(), &mut head[have..], &mut fds)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => have += count,
            }
        }
        let [length, offset] = [0, 8].map(|at| u64::from_le_bytes(std::array::from_fn(|i| head[at + i])));
        let invalid =
            |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("a span of the archive {what}"));
        self.span = match (length, offset, fds.pop()) {
            (0, _, _) => Span::End,
            (left, INLINE, _) => Span::Inline(left),
            (left, offset, Some(fd)) => {
                // Reading from anything else could last for ever.
                if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) != FileType::RegularFile {
                    return Err(invalid("is no regular file"));
                }
                if offset.checked_add(left).is_none_or(|end| i64::try_from(end).is_err()) {
                    return Err(invalid("ends beyond what a file can have"));
                }
                Span::File { file: fd.into(), offset, left }
            }
            (_, _, None) => return Err(invalid("has no descriptor")),
        };
        Ok(())
    }
}

/// Waits for the sender, as long as nobody else waits.
fn receive(
    socket: &OwnedFd,
    others_wait: Option<&OthersWait>,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    loop {
        match corten_sys::fd::receive(socket.as_fd(), buffer, fds) {
            Err(Errno::AGAIN) if others_wait.is_some_and(|others_wait| others_wait()) => {
                return Err(stalled());
            }
            Err(Errno::AGAIN) => {}
            received => return Ok(received?),
        }
    }
}

impl BufRead for Receiver {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.position == self.buffer.len() {
            (self.position, self.buffer) = (0, std::mem::take(&mut self.buffer));
            self.buffer.clear();
            match &mut self.span {
                Span::End => break,
                Span::Inline(0) | Span::File { left: 0, .. } => self.next_span()?,
                Span::Inline(left) => {
                    self.buffer.resize(PIECE.min(usize::try_from(*left).unwrap_or(PIECE)), 0);
                    let others_wait = self.others_wait.as_ref();
                    let count = receive(&self.socket, others_wait, &mut self.buffer, &mut Vec::new())?;
                    if count == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    self.buffer.truncate(count);
                    *left -= count as u64;
                }
                Span::File { file, offset, left } => {
                    let wanted = PIECE.min(usize::try_from(*left).unwrap_or(PIECE));
                    self.buffer.resize(wanted, 0);
                    let count = file.read_at(&mut self.buffer, *offset)?;
                    // Behind its end: what was cut off since is zeros.
                    let count = if count == 0 { wanted } else { count };
                    self.buffer.truncate(count);
                    (*offset, *left) = (*offset + count as u64, *left - count as u64);
                }
            }
        }
        Ok(&self.buffer[self.position..])
    }

    fn consume(&mut self, bytes: usize) {
        self.position += bytes;
    }
}

impl Read for Receiver {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut bytes = self.fill_buf()?;
        let count = bytes.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl Input for Receiver {
    fn copy_to(&mut self, target: &File, at: u64, bytes: u64) -> io::Result<u64> {
        if self.position < self.buffer.len() {
            return Ok(0);
        }
        if matches!(self.span, Span::Inline(0) | Span::File { left: 0, .. }) {
            self.next_span()?;
        }
        let Span::File { file, offset, left } = &mut self.span else { return Ok(0) };
        let count = usize::try_from(bytes.min(*left)).unwrap_or(usize::MAX).min(COPIED_AT_ONCE);
        (&*target).seek(SeekFrom::Start(at))?;
        match rustix::fs::sendfile(target, &*file, Some(offset), count) {
            Ok(copied) => {
                *left -= copied as u64;
                Ok(copied as u64)
            }
            // One of the two file systems can't.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

fn head(length: u64, offset: u64) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(&length.to_le_bytes());
    head[8..].copy_from_slice(&offset.to_le_bytes());
    head
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixStream;
    use std::path::Path;
    use std::thread;

    use rustix::fs::{Mode, OFlags};

    use super::super::{Source, UnpackError, UnpackOptions, pack, unpack};
    use super::*;

    fn root(path: &Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    fn into(directory: &Path, receiver: Receiver) -> Result<(), UnpackError> {
        unpack(&root(directory), b"/", receiver, &UnpackOptions::default())
    }

    /// Bytes that are not the same at any two places near each other.
    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at / 7) as u8 ^ (at >> 11) as u8).collect()
    }

    #[test]
    fn a_tree_arrives_whole_by_descriptors_and_without() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let sizes = [0, 1, 511, 4096, LARGE - 1, LARGE, LARGE + 1, PIECE * 3 + 17, COPIED_AT_ONCE + 100_000];
        for (number, size) in sizes.into_iter().enumerate() {
            fs::write(from.path().join(number.to_string()), content(size)).unwrap();
        }
        let (ours, theirs) = UnixStream::pair().unwrap();
        thread::scope(|scope| {
            let sending = scope.spawn(|| {
                let mut sender = Sender::new(ours.into(), b"").unwrap();
                pack(Source::find(&root(from.path()), "/").unwrap().0, &mut sender).unwrap();
                sender.finish().unwrap();
            });
            into(to.path(), Receiver::new(theirs.into()).unwrap()).unwrap();
            sending.join().unwrap();
        });
        for (number, size) in sizes.into_iter().enumerate() {
            assert_eq!(fs::read(to.path().join(number.to_string())).unwrap(), content(size), "{size} bytes");
        }
    }

    /// What a receiver makes of spans that somebody has written by hand: everything it reads, and everything it copies.
    fn taken(spans: &[([u8; HEAD], Option<&File>)]) -> [io::Result<Vec<u8>>; 2] {
        [false, true].map(|copies| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let mut receiver = Receiver::new(theirs.into())?;
            let sender = Sender::new(ours.into(), b"")?;
            for (head, file) in spans {
                sender.send(head, *file)?;
            }
            drop(sender);
            let target = tempfile::tempfile()?;
            let mut read = Vec::new();
            if copies {
                while receiver.copy_to(&target, read.len() as u64, 1 << 20)? > 0 {
                    read.resize(target.metadata()?.len() as usize, 0);
                }
                target.read_exact_at(&mut read, 0)?;
            }
            receiver.read_to_end(&mut read).map(|_| read)
        })
    }

    #[test]
    fn a_sender_that_stands_still_is_given_up_when_others_wait() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut receiver = Receiver::new(theirs.into()).unwrap();
        let sender = Sender::new(ours.into(), b"").unwrap();
        let asked = std::sync::atomic::AtomicUsize::new(0);
        let others_wait = move || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 2;
        receiver.give_up_after(Duration::from_millis(20), Box::new(others_wait)).unwrap();
        let error = receiver.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        drop(sender);
    }

    #[test]
    fn what_a_file_has_lost_counts_as_zeros() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abcdef").unwrap();
        for read in taken(&[(head(10, 2), Some(&file)), (head(0, 0), None)]) {
            assert_eq!(read.unwrap(), b"cdef\0\0\0\0\0\0");
        }
    }

    #[test]
    fn what_makes_no_sense_or_could_last_for_ever_is_refused() {
        let (pipe, _other) = rustix::pipe::pipe().unwrap();
        let (pipe, file) = (File::from(pipe), tempfile::tempfile().unwrap());
        for (spans, kind) in [
            (vec![(head(5, 0), Some(&pipe))], io::ErrorKind::InvalidData),
            (vec![(head(5, 0), None)], io::ErrorKind::InvalidData),
            (vec![(head(u64::MAX, 7), Some(&file))], io::ErrorKind::InvalidData),
            // Broken off: in a span, and between two.
            (vec![(head(5, INLINE), None)], io::ErrorKind::UnexpectedEof),
            (vec![], io::ErrorKind::UnexpectedEof),
        ] {
            for read in taken(&spans) {
                assert_eq!(read.unwrap_err().kind(), kind, "{spans:?}");
            }
        }
        for read in taken(&[(head(0, 0), None)]) {
            assert_eq!(read.unwrap(), b"");
        }
    }
}
