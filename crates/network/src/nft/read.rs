//! What of nf_tables is read back: whether a table or chain is there, a chain's rules with their comments, and
//! which object a notification is about.

use corten_sys::netlink::{Batch, Error, Received, Socket, attribute, text};

use super::Family;

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const GETTABLE: u16 = 1;
const GETCHAIN: u16 = 4;
const GETRULE: u16 = 7;
const NLM_F_DUMP: u16 = 0x300;
const NFGENMSG_LEN: usize = 4;
const ENOENT: i32 = 2;
const NF_DROP: u32 = 0;
const NFTNL_UDATA_COMMENT: u8 = 0;

/// A rule that stands in a chain, ours or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignRule {
    pub handle: u64,
    pub comment: Option<String>,
}

pub fn table_exists(socket: &Socket, family: Family, table: &str) -> Result<bool, Error> {
    Ok(get(socket, GETTABLE, family, table, None)?.is_some())
}

pub fn chain_exists(socket: &Socket, family: Family, table: &str, chain: &str) -> Result<bool, Error> {
    Ok(get(socket, GETCHAIN, family, table, Some(chain))?.is_some())
}

/// Whether that base chain drops what none of its rules accepts.
pub fn chain_policy_is_drop(
    socket: &Socket,
    family: Family,
    table: &str,
    chain: &str,
) -> Result<bool, Error> {
    let Some(answer) = get(socket, GETCHAIN, family, table, Some(chain))? else { return Ok(false) };
    let policy =
        attribute(attributes_of(&answer), 5).and_then(|value| value.try_into().ok()).map(u32::from_be_bytes);
    Ok(policy == Some(NF_DROP))
}

/// The rules of a chain.
pub fn rules(socket: &Socket, family: Family, table: &str, chain: &str) -> Result<Vec<ForeignRule>, Error> {
    let mut batch = Batch::new();
    batch
        .message(NFNL_SUBSYS_NFTABLES << 8 | GETRULE, NLM_F_DUMP, &[family as u8, 0, 0, 0])
        .string(1, table)
        .string(2, chain);
    let answers = socket.request(&mut batch)?;
    Ok(answers.iter().filter_map(|answer| rule(attributes_of(answer), table, chain)).collect())
}

/// The table and, for a chain's or rule's message, the chain that a notification is about.
pub fn subject(message: &Received) -> Option<(&str, Option<&str>)> {
    let attributes = attributes_of(message);
    let table = text(attribute(attributes, 1)?);
    let chain = match message.kind & 0xff {
        3 | 5 => attribute(attributes, 3),
        6 | 8 => attribute(attributes, 2),
        _ => None,
    };
    Some((table, chain.map(text)))
}

fn rule(attributes: &[u8], table: &str, chain: &str) -> Option<ForeignRule> {
    // A kernel without filters in dumps sends every rule.
    if text(attribute(attributes, 1)?) != table || text(attribute(attributes, 2)?) != chain {
        return None;
    }
    let handle = u64::from_be_bytes(attribute(attributes, 3)?.try_into().ok()?);
    Some(ForeignRule { handle, comment: attribute(attributes, 7).and_then(comment) })
}

/// User data is a row of (type, length, value).
fn comment(mut data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = data {
        let value = rest.get(..usize::from(*length))?;
        if *kind == NFTNL_UDATA_COMMENT {
            return Some(text(value).to_owned());
        }
        data = &rest[value.len()..];
    }
    None
}

fn get(
    socket: &Socket,
    kind: u16,
    family: Family,
    table: &str,
    chain: Option<&str>,
) -> Result<Option<Received>, Error> {
    let mut batch = Batch::new();
    let mut message = batch.message(NFNL_SUBSYS_NFTABLES << 8 | kind, 0, &[family as u8, 0, 0, 0]);
    message.string(1, table);
    if let Some(chain) = chain {
        message.string(3, chain);
    }
    drop(message);
    match socket.request(&mut batch) {
        Ok(answers) => Ok(answers.into_iter().next()),
        Err(error) if error.code() == Some(ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn attributes_of(message: &Received) -> &[u8] {
    message.payload.get(NFGENMSG_LEN..).unwrap_or_default()
}
