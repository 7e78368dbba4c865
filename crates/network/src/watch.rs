//! Notices when somebody else changes our table (`nft flush ruleset`, a firewall that reloads) or makes Docker's chain,
//! and has everything put back.

use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use corten_sys::netlink::{Protocol, Received, Socket};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::os::fd::OwnedFd;
use tracing::{debug, warn};

use crate::error::{Error, Result};
use crate::foreign;
use crate::nft;

const NFNLGRP_NFTABLES: u32 = 7;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
/// A reload comes as many messages; and whoever fights over the table with us must not keep a processor busy.
const SETTLE: Duration = Duration::from_millis(50);

/// What the watcher calls.
pub trait Reconcile: Send + Sync {
    fn reconcile(&self) -> Result<()>;
}

/// The watching thread; it ends when this is dropped.
pub struct Watch {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// `own_port`: of the socket through which we change the table ourselves.
    pub fn start(table: String, own_port: u32, target: Weak<dyn Reconcile>) -> Result<Watch> {
        let socket = Socket::open(Protocol::Netfilter).map_err(Error::netlink("open a netfilter socket"))?;
        socket.subscribe(NFNLGRP_NFTABLES).map_err(Error::netlink("subscribe to changes of nf_tables"))?;
        let failed = |source| Error::Namespace { step: "start the firewall's watcher", source };
        let stop = eventfd(0, EventfdFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
        let stop = Arc::new(stop);
        let thread = std::thread::Builder::new()
            .name("net-watch".into())
            .spawn({
                let stop = stop.clone();
                move || run(&socket, &stop, &table, own_port, &target)
            })
            .map_err(failed)?;
        Ok(Watch { stop, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
        let Some(thread) = self.thread.take() else { return };
        // The last owner of the networks may be the watcher itself, in the middle of a reconciliation.
        if thread.thread().id() != std::thread::current().id() {
            let _ = thread.join();
        }
    }
}

fn run(socket: &Socket, stop: &OwnedFd, table: &str, own_port: u32, target: &Weak<dyn Reconcile>) {
    while !stopped(Some(socket), stop, None) {
        let relevant = match socket.notifications() {
            Ok(Some(messages)) => messages.iter().any(|message| is_relevant(message, table, own_port)),
            Ok(None) => true,
            Err(error) => return warn!(%error, "no longer watching the firewall"),
        };
        if !relevant {
            continue;
        }
        if stopped(None, stop, Some(SETTLE)) {
            return;
        }
        let Some(target) = target.upgrade() else { return };
        debug!(table, "the firewall was changed by somebody else; putting our rules back");
        if let Err(error) = target.reconcile() {
            warn!(%error, "putting our firewall rules back");
        }
    }
}

/// Waits for the socket, the end, or the time; tells whether it is the end.
fn stopped(socket: Option<&Socket>, stop: &OwnedFd, patience: Option<Duration>) -> bool {
    let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
    let mut descriptors = vec![PollFd::new(stop, PollFlags::IN)];
    descriptors.extend(socket.map(|socket| PollFd::new(socket, PollFlags::IN)));
    match poll(&mut descriptors, patience.as_ref()) {
        Ok(_) => !descriptors[0].revents().is_empty(),
        Err(rustix::io::Errno::INTR) => false,
        Err(_) => true,
    }
}

fn is_relevant(message: &Received, table: &str, own_port: u32) -> bool {
    if message.kind >> 8 != NFNL_SUBSYS_NFTABLES || message.port == own_port {
        return false;
    }
    match nft::subject(message) {
        Some((found, _)) if found == table => true,
        Some((found, Some(chain))) => found == foreign::TABLE && chain == foreign::CHAIN,
        _ => false,
    }
}
