//! The answer to a question, as the files of the container's networks have it.

use std::net::IpAddr;

use rustix::rand::{GetRandomFlags, getrandom};

use super::message::{A, AAAA, ANY, Answer, IN, PTR, Query, Rcode};
use super::names::{Found, Names};
use super::settings::{NetworkNames, Resolver};

/// Who of several is named first: each in turn. The kinds have counts of their own, as resolvers ask for both at once.
#[derive(Debug)]
pub(super) struct Turns {
    v4: usize,
    v6: usize,
}

impl Turns {
    /// Begins anywhere, so that not every container has the same first choice.
    pub(super) fn new() -> Self {
        let start = usize::from(random());
        Self { v4: start, v6: start }
    }
}

/// A number that nobody can guess.
pub(super) fn random() -> u16 {
    let mut bytes = [0; 2];
    // Two bytes always come whole (getrandom(2)).
    let _ = getrandom(&mut bytes, GetRandomFlags::empty());
    u16::from_ne_bytes(bytes)
}

/// The answer to `query` of at most `bytes_max` bytes; `None` when none of the networks knows the name.
pub(super) fn answer(
    resolver: &Resolver,
    query: &Query<'_>,
    bytes_max: usize,
    turns: &mut Turns,
) -> Option<Vec<u8>> {
    if query.class != IN {
        return None;
    }
    let name = query.name().filter(|name| !name.is_empty())?;
    let Some(mut found) = find(resolver, &name, query.kind) else {
        let stays = resolver.single_labels_stay && matches!(query.kind, A | AAAA) && !name.contains(&b'.');
        return stays.then(|| Answer::new(query, Rcode::NoError, bytes_max).finish());
    };
    // A name that is ours has nothing else than this, whatever is asked for: other servers know it as none.
    let mut answer = Answer::new(query, Rcode::NoError, bytes_max);
    if matches!(query.kind, A | ANY) {
        rotate(&mut found.v4, &mut turns.v4);
        found.v4.into_iter().for_each(|address| answer.address(IpAddr::V4(address)));
    }
    if matches!(query.kind, AAAA | ANY) {
        rotate(&mut found.v6, &mut turns.v6);
        found.v6.into_iter().for_each(|address| answer.address(IpAddr::V6(address)));
    }
    if matches!(query.kind, PTR | ANY) {
        found.pointers.iter().for_each(|pointer| answer.pointer(pointer));
    }
    Some(answer.finish())
}

fn rotate<T>(list: &mut [T], turn: &mut usize) {
    if list.len() > 1 {
        list.rotate_left(*turn % list.len());
        *turn = turn.wrapping_add(1);
    }
}

/// What the first network says that has what is wanted; else what the first one says that has the name at all.
fn find(resolver: &Resolver, name: &[u8], kind: u16) -> Option<Found> {
    let mut second_choice = None;
    for network in &resolver.networks {
        // Without its file a network has no names; the engine puts it back.
        let Ok(names) = Names::open(&network.file) else { continue };
        let Some(found) = find_in(&names, network, name) else { continue };
        let wanted = match kind {
            A => !found.v4.is_empty(),
            AAAA => !found.v6.is_empty(),
            PTR => !found.pointers.is_empty(),
            _ => true,
        };
        if wanted {
            return Some(found);
        }
        second_choice.get_or_insert(found);
    }
    second_choice
}

/// A link of the container goes before a name of the network, and that before `name.network`.
fn find_in(names: &Names, network: &NetworkNames, name: &[u8]) -> Option<Found> {
    let find = |name: &[u8]| names.find(name).ok().filter(|found| !found.is_empty());
    let linked = network.links.iter().filter(|link| link.alias.as_bytes().eq_ignore_ascii_case(name));
    let short = name
        .strip_suffix(names.network.as_slice())
        .and_then(|rest| rest.strip_suffix(b"."))
        .filter(|_| !names.network.is_empty());
    linked
        .map(|link| link.name.to_ascii_lowercase())
        .find_map(|name| find(name.as_bytes()))
        .or_else(|| find(name))
        .or_else(|| short.and_then(find))
}
