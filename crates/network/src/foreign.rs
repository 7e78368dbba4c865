//! Somebody else's firewall in our way: Docker sets the policy of `ip filter FORWARD` to drop, and an accept in our
//! own table cannot overrule that. Its chain DOCKER-USER is the place it offers for rules like ours.
//!
//! Adds two rules that bear the instance's tag, and removes exactly those.

use corten_sys::netlink::Socket;
use tracing::{info, warn};

use crate::error::{Error, Result};
use crate::firewall;
use crate::nft::{self, Transaction};

pub const TABLE: &str = "filter";
pub const CHAIN: &str = "DOCKER-USER";

/// Makes sure that the rules are there when the chain is.
pub fn open(socket: &Socket, bridge: &str, tag: &str) -> Result<()> {
    let step = || Error::netlink(format!("read the chain {TABLE} {CHAIN}"));
    if !nft::chain_exists(socket, TABLE, CHAIN).map_err(step())? {
        if nft::chain_policy_is_drop(socket, TABLE, "FORWARD").map_err(step())? {
            warn!(
                "the chain \"ip filter FORWARD\" drops by default: containers reach no other host until it accepts traffic of {bridge}"
            );
        }
        return Ok(());
    }
    let wanted = firewall::accept_rules(bridge, tag);
    let present = nft::rules(socket, TABLE, CHAIN).map_err(step())?;
    if present.iter().filter(|rule| rule.comment.as_deref() == Some(tag)).count() >= wanted.len() {
        return Ok(());
    }
    close(socket, tag)?;
    let mut transaction = Transaction::new();
    for rule in &wanted {
        transaction.insert_rule(TABLE, CHAIN, rule);
    }
    transaction
        .commit(socket)
        .map_err(Error::netlink(format!("accept traffic of {bridge} in {TABLE} {CHAIN}")))?;
    info!(
        "accepting traffic of {bridge} in Docker's chain {TABLE} {CHAIN}, because Docker drops what it does not know"
    );
    Ok(())
}

/// Removes our rules.
pub fn close(socket: &Socket, tag: &str) -> Result<()> {
    let step = || Error::netlink(format!("remove our rules from {TABLE} {CHAIN}"));
    if !nft::chain_exists(socket, TABLE, CHAIN).map_err(step())? {
        return Ok(());
    }
    let mut transaction = Transaction::new();
    for rule in nft::rules(socket, TABLE, CHAIN).map_err(step())? {
        if rule.comment.as_deref() == Some(tag) {
            transaction.delete_rule(TABLE, CHAIN, rule.handle);
        }
    }
    transaction.commit(socket).map_err(step())
}
