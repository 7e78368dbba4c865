//! Does what a plan says, step by step; takes everything back in reverse when a step fails.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use corten_sys::netlink::{self, Batch, Socket};
use tracing::warn;

use crate::error::{Error, Result};
use crate::plan::{Operation, Place, Step};
use crate::rtnl;

/// How long the kernel is waited for that does a thing by and by.
const KERNEL_PATIENCE: Duration = Duration::from_millis(500);
const KERNEL_POLL: Duration = Duration::from_micros(50);

/// The doors through which a plan is applied.
pub struct Kernel<'a> {
    pub host: &'a Socket,
    pub container: Option<Container<'a>>,
}

/// A container's namespace and a route socket that was opened in it.
#[derive(Clone, Copy)]
pub struct Container<'a> {
    pub netns: BorrowedFd<'a>,
    pub socket: &'a Socket,
}

impl Kernel<'_> {
    /// Applies all or nothing.
    pub fn apply(&self, plan: &[Step]) -> Result<()> {
        for (done, step) in plan.iter().enumerate() {
            if let Err(error) = self.step(step) {
                self.undo(&plan[..done]);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Goes on where a step fails: what remains is worth undoing, and the first error is what the caller needs to see.
    pub fn undo(&self, done: &[Step]) {
        for step in done.iter().rev() {
            let Some(operation) = step.operation.undo() else { continue };
            let step = Step { place: step.place, operation };
            if let Err(error) = self.step(&step) {
                warn!(%error, "undoing a network plan");
            }
        }
    }

    fn step(&self, step: &Step) -> Result<()> {
        if let Operation::WriteSysctl { key, value } = &step.operation {
            return write_sysctl(key, value);
        }
        let socket = match step.place {
            Place::Host => self.host,
            Place::Container => self.container()?.socket,
        };
        match &step.operation {
            Operation::AwaitCarrier { link } => return until(step, || has_carrier(socket, link)),
            Operation::AwaitAddress { address } => {
                let ours = || rtnl::is_local(socket, *address).map_err(Error::netlink(step.to_string()));
                return until(step, ours);
            }
            _ => {}
        }
        let mut batch = Batch::new();
        self.encode(&step.operation, socket, &mut batch)?;
        socket.transact(&mut batch).map_err(Error::netlink(step.operation.to_string()))
    }

    fn encode(&self, operation: &Operation, socket: &Socket, batch: &mut Batch) -> Result<()> {
        match operation {
            Operation::CreateBridge { name, mac, mtu, alias } => {
                rtnl::create_bridge(batch, name, *mac, *mtu, alias)
            }
            Operation::CreateVeth { host, container, mac, mtu } => {
                rtnl::create_veth(batch, host, container, *mac, *mtu, self.container()?.netns);
            }
            Operation::DeleteLink { name } => rtnl::delete_link(batch, name),
            Operation::Enslave { link, bridge, port } => {
                rtnl::enslave(batch, link, index(socket, bridge)?, *port);
            }
            Operation::AnnounceChanges { link } => rtnl::announce_changes(batch, link),
            Operation::SetUp { link } => rtnl::set_up(batch, link),
            Operation::SetMac { link, mac } => rtnl::set_mac(batch, link, *mac),
            Operation::AddAddress { link, address } => {
                rtnl::add_address(batch, index(socket, link)?, *address)
            }
            Operation::DeleteAddress { link, address } => {
                rtnl::delete_address(batch, index(socket, link)?, *address)
            }
            Operation::SetDefaultRoute { link, gateway, mtu } => {
                rtnl::default_route(batch, index(socket, link)?, *gateway, *mtu)
            }
            Operation::DeleteDefaultRoute { link, gateway } => {
                rtnl::delete_default_route(batch, index(socket, link)?, *gateway)
            }
            Operation::WriteSysctl { .. }
            | Operation::AwaitCarrier { .. }
            | Operation::AwaitAddress { .. } => {}
        }
        Ok(())
    }

    fn container(&self) -> Result<Container<'_>> {
        self.container.ok_or_else(|| Error::NoInterface("of the container".into()))
    }
}

/// When it isn't so in time it goes on: the first packets may then be lost, which is better than no network.
fn until(step: &Step, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + KERNEL_PATIENCE;
    while !is_so()? {
        if Instant::now() > deadline {
            warn!(%step, "the network is not ready in time");
            break;
        }
        std::thread::sleep(KERNEL_POLL);
    }
    Ok(())
}

fn has_carrier(socket: &Socket, name: &str) -> Result<bool> {
    let link = rtnl::link(socket, name).map_err(Error::netlink(format!("look up interface {name}")))?;
    Ok(link.ok_or_else(|| Error::NoInterface(name.to_owned()))?.operational)
}

fn index(socket: &Socket, name: &str) -> Result<u32> {
    let found = rtnl::link(socket, name).map_err(Error::netlink(format!("look up interface {name}")))?;
    found.map(|link| link.index).ok_or_else(|| Error::NoInterface(name.to_owned()))
}

/// Leaves alone what has the value already: a read-only /proc/sys is no error then.
fn write_sysctl(key: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/{key}");
    if std::fs::read_to_string(&path).is_ok_and(|found| found.split_whitespace().eq(value.split_whitespace()))
    {
        return Ok(());
    }
    std::fs::write(&path, value).map_err(|source| Error::Sysctl {
        key: key.to_owned(),
        value: value.to_owned(),
        source,
    })
}

/// Deletes a link that may be gone already.
pub fn delete_link_if_there(socket: &Socket, name: &str) -> std::result::Result<(), netlink::Error> {
    let mut batch = Batch::new();
    rtnl::delete_link(&mut batch, name);
    unless_gone(socket.transact(&mut batch))
}

/// Silences a link that may be gone already: much faster than deleting it.
pub fn set_link_down_if_there(socket: &Socket, name: &str) -> std::result::Result<(), netlink::Error> {
    let mut batch = Batch::new();
    rtnl::set_down(&mut batch, name);
    unless_gone(socket.transact(&mut batch))
}

fn unless_gone(result: std::result::Result<(), netlink::Error>) -> std::result::Result<(), netlink::Error> {
    const ENODEV: i32 = 19;
    match result {
        Err(error) if error.code() == Some(ENODEV) => Ok(()),
        other => other,
    }
}
