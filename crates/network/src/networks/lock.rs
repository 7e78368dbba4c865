//! One engine at a time chooses its subnet. An abstract socket's name belongs to the network namespace, as subnets do,
//! and is free again when its holder dies. Anybody may take the name, so it is waited for only so long.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use tracing::warn;

const NAME: &str = "corten-network-bring-up";
const PATIENCE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(2);

pub struct Lock {
    _socket: UnixDatagram,
}

/// `None`: somebody keeps the name; two subnets may then clash, which is no reason not to start.
pub fn acquire() -> Option<Lock> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match SocketAddr::from_abstract_name(NAME).and_then(|address| UnixDatagram::bind_addr(&address)) {
            Ok(socket) => return Some(Lock { _socket: socket }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(POLL)
            }
            Err(error) => {
                warn!(%error, "bringing up the network without the lock against other engines");
                return None;
            }
        }
    }
}
