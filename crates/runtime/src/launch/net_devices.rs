//! `linux.netDevices`: moves interfaces of the caller's network namespace into the container's.
//!
//! An interface loses its addresses on the way; those that were set by hand and are global are set again inside, and the interface is
//! switched on (config-linux.md, "Network Devices"). Physical ones return to the host's first namespace when the container's ends.

use std::os::fd::{AsRawFd, BorrowedFd};

use corten_sys::netlink::{Batch, Error, Protocol, Received, Socket, attribute, attributes};
use corten_sys::netns;

use super::prepare::errno_error;
use crate::monitor::protocol::{Step, StepError};
use crate::plan::{NetDevicePlan, invalid};

const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE: u16 = 0x400;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_PERMANENT: u32 = 0x80;
const SCOPE_GLOBAL: u8 = 0;
const IFF_UP: u32 = 1;
const ADDRESS_HEADER_BYTES: usize = 8;

/// Moves `devices` into `namespace`, one after the other.
pub(super) fn move_all(devices: &[NetDevicePlan], namespace: BorrowedFd<'_>) -> Result<(), StepError> {
    if devices.is_empty() {
        return Ok(());
    }
    let outside = Socket::open(Protocol::Route).map_err(|e| failed("netlink", &e))?;
    let inside = open_inside(namespace)?;
    for device in devices {
        relocate(device, &outside, &inside, namespace).map_err(|e| failed(&device.outside, &e))?;
    }
    Ok(())
}

/// A socket stays in the namespace in which it was opened.
fn open_inside(namespace: BorrowedFd<'_>) -> Result<Socket, StepError> {
    let error = |e: std::io::Error| invalid("linux.netDevices", format!("network namespace: {e}"));
    let own = netns::current().map_err(error)?;
    netns::enter(namespace).map_err(error)?;
    let socket = Socket::open(Protocol::Route);
    netns::enter(std::os::fd::AsFd::as_fd(&own)).map_err(error)?;
    socket.map_err(|e| failed("netlink", &e))
}

fn relocate(
    device: &NetDevicePlan,
    outside: &Socket,
    inside: &Socket,
    namespace: BorrowedFd<'_>,
) -> Result<(), Error> {
    let index = index_of(outside, &device.outside)?;
    let addresses = addresses(outside, index)?;
    let mut batch = Batch::new();
    batch
        .message(RTM_SETLINK, 0, &link_header(index, 0))
        .u32(IFLA_NET_NS_FD, namespace.as_raw_fd() as u32)
        .string(IFLA_IFNAME, &device.inside);
    outside.transact(&mut batch)?;

    let index = index_of(inside, &device.inside)?;
    let mut batch = Batch::new();
    for address in &addresses {
        let mut header = address.payload[..ADDRESS_HEADER_BYTES].to_vec();
        header[4..].copy_from_slice(&index.to_ne_bytes());
        let mut message = batch.message(RTM_NEWADDR, NLM_F_CREATE, &header);
        for (kind, value) in attributes(&address.payload[ADDRESS_HEADER_BYTES..]) {
            if matches!(kind, IFA_ADDRESS | IFA_LOCAL | IFA_BROADCAST) {
                message.bytes(kind, value);
            }
        }
    }
    batch.message(RTM_SETLINK, 0, &link_header(index, IFF_UP));
    inside.transact(&mut batch)
}

fn index_of(socket: &Socket, name: &str) -> Result<u32, Error> {
    let mut batch = Batch::new();
    batch.message(RTM_GETLINK, 0, &link_header(0, 0)).string(IFLA_IFNAME, name);
    let answers = socket.request(&mut batch)?;
    let index = answers.first().and_then(|a| a.payload.get(4..8)).and_then(|b| b.try_into().ok());
    index.map(u32::from_ne_bytes).ok_or(Error::Malformed)
}

/// The addresses of interface `index` that are worth keeping.
fn addresses(socket: &Socket, index: u32) -> Result<Vec<Received>, Error> {
    let mut batch = Batch::new();
    batch.message(RTM_GETADDR, NLM_F_DUMP, &[0; ADDRESS_HEADER_BYTES]);
    let mut all = socket.request(&mut batch)?;
    all.retain(|address| {
        let Some(header) = address.payload.get(..ADDRESS_HEADER_BYTES) else { return false };
        let flags = attribute(&address.payload[ADDRESS_HEADER_BYTES..], IFA_FLAGS)
            .and_then(|value| value.try_into().ok())
            .map_or(u32::from(header[2]), u32::from_ne_bytes);
        header[4..] == index.to_ne_bytes() && header[3] == SCOPE_GLOBAL && flags & IFA_F_PERMANENT != 0
    });
    Ok(all)
}

/// `struct ifinfomsg`.
fn link_header(index: u32, flags: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&flags.to_ne_bytes());
    header
}

fn failed(device: &str, error: &Error) -> StepError {
    let object = format!("network device {device}");
    let Error::Refused { code, detail, .. } = error else {
        return StepError { step: Step::Namespace, object, errno: 0, message: error.to_string() };
    };
    let mut failure = errno_error(Step::Namespace, object, rustix::io::Errno::from_raw_os_error(*code));
    if let Some(detail) = detail {
        failure.message += &format!(": {detail}");
    }
    failure
}
