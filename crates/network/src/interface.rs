//! Interfaces of ours that are on the host: which belong to nobody any more, and their removal.

use std::collections::HashSet;

use corten_sys::netlink::Socket;

use crate::apply::delete_link_if_there;
use crate::error::{Error, Result};
use crate::prepare::name_number;
use crate::rtnl;
use crate::settings::Instance;

/// The first number that no interface of this instance bears.
pub fn first_free_number(socket: &Socket, instance: &Instance) -> Result<u32> {
    let numbers = ours(socket, instance)?.into_iter().map(|(number, _)| number + 1);
    Ok(numbers.max().unwrap_or(0))
}

/// Removes every interface of this instance with a number below `limit` (the later ones are this process's own) that is not in `keep`.
pub fn sweep(socket: &Socket, instance: &Instance, keep: &HashSet<&str>, limit: u32) -> Result<()> {
    for (number, name) in ours(socket, instance)? {
        if number < limit && !keep.contains(name.as_str()) {
            delete_link_if_there(socket, &name)
                .map_err(Error::netlink(format!("delete the stale interface {name}")))?;
        }
    }
    Ok(())
}

/// Removes every bridge that bears this instance's note and belongs to no network that is known.
pub fn sweep_bridges(socket: &Socket, instance: &Instance, networks: &HashSet<&str>) -> Result<()> {
    let prefix = instance.alias("");
    let links = rtnl::links(socket).map_err(Error::netlink("list the host's interfaces"))?;
    for link in links {
        if link.alias.strip_prefix(&prefix).is_some_and(|network| !networks.contains(network)) {
            delete_link_if_there(socket, &link.name)
                .map_err(Error::netlink(format!("delete the stale bridge {}", link.name)))?;
        }
    }
    Ok(())
}

fn ours(socket: &Socket, instance: &Instance) -> Result<Vec<(u32, String)>> {
    let links = rtnl::links(socket).map_err(Error::netlink("list the host's interfaces"))?;
    let prefix = instance.interface_prefix();
    Ok(links.into_iter().filter_map(|link| Some((name_number(&prefix, &link.name)?, link.name))).collect())
}
