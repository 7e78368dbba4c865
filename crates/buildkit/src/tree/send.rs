//! One walk of fsutil's protocol, the sending side: we tell of all files in order, the client asks for the contents of those that it
//! wants, we send them in pieces, it says that it is done. Synchronous, for a thread that may block on the disk.

use super::entry::go_mode;
use crate::wire::fsutil::{Packet, PacketType, Stat};
use bytes::Bytes;
use corten_image::build::open_file;
use corten_image::files::describe;
use corten_image::tar::{Entry, Kind};
use std::collections::HashMap;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use tokio::sync::mpsc::{Sender, UnboundedReceiver};

/// What fsutil itself sends at once.
const PIECE: usize = 32 << 10;

#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("the client broke off in the middle of the files")]
    BrokenOff,
    #[error("from the client: {0}")]
    Client(String),
    #[error("the client asked for file {0}, which it was not told of")]
    Unknown(u32),
    #[error("{path}: {source}")]
    Disk { path: String, source: io::Error },
}

/// Sends what is in a directory as what is in one with the name `below`, or at the top; none is an empty one.
pub fn send(
    below: &str,
    root: Option<&OwnedFd>,
    packets: &Sender<Packet>,
    requests: &mut UnboundedReceiver<Packet>,
) -> Result<(), SendError> {
    let mut sending = Sending { packets, files: HashMap::new(), told: 0 };
    let outcome = sending.run(below, root, requests);
    if let Err(error @ (SendError::Disk { .. } | SendError::Unknown(_))) = &outcome {
        // It must not take the part that it has for the whole.
        let data = Bytes::from(error.to_string());
        let _ = sending.tell(Packet { r#type: PacketType::Err as i32, data, ..Packet::default() });
    }
    outcome
}

struct Sending<'s> {
    packets: &'s Sender<Packet>,
    /// Paths of files with contents, by the number under which the client asks for them.
    files: HashMap<u32, String>,
    told: u32,
}

impl Sending<'_> {
    fn run(
        &mut self,
        below: &str,
        root: Option<&OwnedFd>,
        requests: &mut UnboundedReceiver<Packet>,
    ) -> Result<(), SendError> {
        if !below.is_empty() {
            self.take(
                "",
                stat(Entry::new(Kind::Directory, below, 0o755))
                    .map_err(|source| SendError::Disk { path: below.to_owned(), source })?,
            )?;
        }
        if let Some(root) = root {
            let mut broken_off = false;
            let mut last = String::from("/");
            let described = describe(root, &mut |entry| {
                last = format!("/{}", String::from_utf8_lossy(&entry.path));
                let is_link = entry.kind == Kind::HardLink;
                let mut stat = stat(entry)?;
                let path = stat.path.clone();
                if !below.is_empty() {
                    stat.path = format!("{below}/{path}");
                    if is_link {
                        stat.linkname = format!("{below}/{}", stat.linkname);
                    }
                }
                self.take(&path, stat).map_err(|_| {
                    broken_off = true;
                    io::ErrorKind::BrokenPipe.into()
                })
            });
            match described {
                Err(_) if broken_off => return Err(SendError::BrokenOff),
                described => described.map_err(|source| SendError::Disk { path: last, source })?,
            }
        }
        self.tell(Packet { r#type: PacketType::Stat as i32, ..Packet::default() })?;
        loop {
            let request = requests.blocking_recv().ok_or(SendError::BrokenOff)?;
            match PacketType::try_from(request.r#type) {
                Ok(PacketType::Req) => self.contents(root, request.id)?,
                Ok(PacketType::Fin) => {
                    return self.tell(Packet { r#type: PacketType::Fin as i32, ..Packet::default() });
                }
                Ok(PacketType::Err) => {
                    return Err(SendError::Client(String::from_utf8_lossy(&request.data).into_owned()));
                }
                Ok(PacketType::Stat | PacketType::Data) | Err(_) => return Err(SendError::BrokenOff),
            }
        }
    }

    /// Tells of a file; `path` is its own below the root.
    fn take(&mut self, path: &str, stat: Stat) -> Result<(), SendError> {
        // Of the kinds only regular files have no bit above.
        if stat.mode & super::entry::GO_KINDS == 0 && stat.linkname.is_empty() {
            self.files.insert(self.told, path.to_owned());
        }
        self.told += 1;
        self.tell(Packet { r#type: PacketType::Stat as i32, stat: Some(stat), ..Packet::default() })
    }

    fn contents(&self, root: Option<&OwnedFd>, id: u32) -> Result<(), SendError> {
        let (Some(path), Some(root)) = (self.files.get(&id), root) else {
            return Err(SendError::Unknown(id));
        };
        let failed = |source| SendError::Disk { path: format!("/{path}"), source };
        let mut file = open_file(root, path.as_bytes()).map_err(failed)?;
        let data = |data| Packet { r#type: PacketType::Data as i32, id, data, ..Packet::default() };
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            file.by_ref().take(PIECE as u64).read_to_end(&mut piece).map_err(failed)?;
            // An empty piece is the end.
            let is_end = piece.is_empty();
            self.tell(data(piece.into()))?;
            if is_end {
                return Ok(());
            }
        }
    }

    fn tell(&self, packet: Packet) -> Result<(), SendError> {
        self.packets.blocking_send(packet).map_err(|_| SendError::BrokenOff)
    }
}

/// What the client is told of a file.
fn stat(entry: Entry) -> io::Result<Stat> {
    let text = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes.strip_suffix(b"/").unwrap_or(bytes));
        text.map(str::to_owned).map_err(|_| {
            io::Error::other("its name or target is not UTF-8, which this way can't carry: use type=tar")
        })
    };
    let xattrs = entry.xattrs.iter().map(|(name, value)| Ok::<_, io::Error>((text(name)?, value.clone())));
    Ok(Stat {
        mode: go_mode(entry.kind, entry.mode),
        uid: entry.uid,
        gid: entry.gid,
        size: i64::try_from(entry.size).unwrap_or(i64::MAX),
        mod_time: entry.mtime.seconds.saturating_mul(1_000_000_000) + i64::from(entry.mtime.nanoseconds),
        linkname: match entry.kind {
            Kind::Symlink | Kind::HardLink => text(&entry.link)?,
            _ => String::new(),
        },
        devmajor: entry.device.major.into(),
        devminor: entry.device.minor.into(),
        xattrs: xattrs.collect::<Result<_, _>>()?,
        path: text(&entry.path)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Limits, Store, receive};
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use tokio::sync::mpsc::{channel, unbounded_channel};

    /// Both sides of the protocol, each on a thread.
    fn exchange(below: &'static str, from: &std::path::Path) -> tempfile::TempDir {
        let root: OwnedFd = fs::File::open(from).unwrap().into();
        let scratch = tempfile::tempdir().unwrap();
        let mut place = Store::new(scratch.path().to_owned()).hold(None).unwrap();
        let (packets, mut incoming) = channel(4);
        let (asked, mut asking) = channel::<Packet>(128);
        let (requests, mut heard) = unbounded_channel();
        let sender = std::thread::spawn(move || send(below, Some(&root), &packets, &mut heard));
        let relay = std::thread::spawn(move || {
            while let Some(request) = asking.blocking_recv() {
                requests.send(request).unwrap();
            }
        });
        let mut packets = std::iter::from_fn(|| incoming.blocking_recv());
        receive(&mut place, &mut packets, &asked, Limits::default(), &mut |_| {}).unwrap();
        drop(asked);
        sender.join().unwrap().unwrap();
        relay.join().unwrap();
        let copied = tempfile::tempdir().unwrap();
        let status =
            std::process::Command::new("cp").arg("-a").arg(place.files()).arg(copied.path()).status();
        assert!(status.unwrap().success());
        copied
    }

    #[test]
    fn a_tree_arrives_as_it_is() {
        let from = tempfile::tempdir().unwrap();
        let at = |name: &str| from.path().join(name);
        fs::create_dir_all(at("deep/er")).unwrap();
        fs::write(at("deep/er/large"), vec![7; 3 * PIECE + 1]).unwrap();
        fs::write(at("empty"), "").unwrap();
        fs::write(at("deep.txt"), "beside").unwrap();
        fs::set_permissions(at("empty"), fs::Permissions::from_mode(0o4750)).unwrap();
        fs::hard_link(at("deep.txt"), at("linked")).unwrap();
        symlink("/etc/passwd", at("link")).unwrap();
        for below in ["", "linux_arm64"] {
            let copied = exchange(below, from.path());
            let at = |name: &str| copied.path().join("files").join(below).join(name);
            assert_eq!(fs::read(at("deep/er/large")).unwrap(), vec![7; 3 * PIECE + 1]);
            assert_eq!(fs::read_to_string(at("linked")).unwrap(), "beside");
            assert_eq!(fs::read_link(at("link")).unwrap(), std::path::Path::new("/etc/passwd"));
            assert_eq!(fs::metadata(at("empty")).unwrap().permissions().mode() & 0o7777, 0o4750);
        }
    }

    #[test]
    fn what_was_not_told_of_is_not_sent() {
        let from = tempfile::tempdir().unwrap();
        fs::create_dir(from.path().join("directory")).unwrap();
        let root: OwnedFd = fs::File::open(from.path()).unwrap().into();
        for id in [0, 7] {
            let (packets, mut incoming) = channel(16);
            let (requests, mut heard) = unbounded_channel();
            requests.send(Packet { r#type: PacketType::Req as i32, id, ..Packet::default() }).unwrap();
            assert!(matches!(send("", Some(&root), &packets, &mut heard), Err(SendError::Unknown(_))));
            drop(packets);
            let mut last = None;
            while let Some(packet) = incoming.blocking_recv() {
                last = Some(packet.r#type);
            }
            assert_eq!(last, Some(PacketType::Err as i32));
        }
    }
}
