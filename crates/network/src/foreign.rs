//! Somebody else's firewall in our way: Docker sets the policy of `FORWARD` in `ip filter` and `ip6 filter` to drop, and an
//! accept in our own table cannot overrule that. Its chain DOCKER-USER is the place it offers for rules like ours.
//!
//! Adds two rules per bridge that bear the instance's tag and the bridge's name, and removes exactly those.

use corten_sys::netlink::Socket;
use tracing::{info, warn};

use crate::error::{Error, Result};
use crate::firewall;
use crate::nft::{self, Family, Transaction};

pub const TABLE: &str = "filter";
pub const CHAIN: &str = "DOCKER-USER";
const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// Makes sure that the rules of these bridges, and no others of ours, are there when the chain is.
pub fn open(socket: &Socket, family: Family, bridges: &[&str], tag: &str) -> Result<()> {
    let step = || Error::netlink(format!("read the chain {family} {TABLE} {CHAIN}"));
    if !nft::chain_exists(socket, family, TABLE, CHAIN).map_err(step())? {
        if !bridges.is_empty()
            && nft::chain_policy_is_drop(socket, family, TABLE, "FORWARD").map_err(step())?
        {
            warn!(
                "the chain \"{family} {TABLE} FORWARD\" drops by default: containers reach no other host until it accepts traffic of {}",
                bridges.join(", ")
            );
        }
        return Ok(());
    }
    let wanted: Vec<_> = bridges.iter().flat_map(|bridge| firewall::accept_rules(bridge, tag)).collect();
    let present = nft::rules(socket, family, TABLE, CHAIN).map_err(step())?;
    let mut there: Vec<&str> =
        present.iter().filter_map(|rule| rule.comment.as_deref()).filter(|c| is_ours(c, tag)).collect();
    let mut due: Vec<&str> = wanted.iter().filter_map(|rule| rule.comment.as_deref()).collect();
    there.sort_unstable();
    due.sort_unstable();
    if there == due {
        return Ok(());
    }
    let mut transaction = Transaction::new(family);
    for rule in present.iter().filter(|rule| rule.comment.as_deref().is_some_and(|c| is_ours(c, tag))) {
        transaction.delete_rule(TABLE, CHAIN, rule.handle);
    }
    for rule in &wanted {
        transaction.insert_rule(TABLE, CHAIN, rule);
    }
    transaction
        .commit(socket)
        .map_err(Error::netlink(format!("accept traffic of our bridges in {family} {TABLE} {CHAIN}")))?;
    info!(
        "accepting traffic of {} in Docker's chain {family} {TABLE} {CHAIN}, because Docker drops what it does not know",
        bridges.join(", ")
    );
    Ok(())
}

/// Removes our rules.
pub fn close(socket: &Socket, tag: &str) -> Result<()> {
    FAMILIES.iter().try_for_each(|family| close_family(socket, *family, tag))
}

fn close_family(socket: &Socket, family: Family, tag: &str) -> Result<()> {
    let step = || Error::netlink(format!("remove our rules from {family} {TABLE} {CHAIN}"));
    if !nft::chain_exists(socket, family, TABLE, CHAIN).map_err(step())? {
        return Ok(());
    }
    let mut transaction = Transaction::new(family);
    for rule in nft::rules(socket, family, TABLE, CHAIN).map_err(step())? {
        if rule.comment.as_deref().is_some_and(|comment| is_ours(comment, tag)) {
            transaction.delete_rule(TABLE, CHAIN, rule.handle);
        }
    }
    transaction.commit(socket).map_err(step())
}

fn is_ours(comment: &str, tag: &str) -> bool {
    comment.strip_prefix(tag).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}
