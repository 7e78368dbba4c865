//! Whether two runs of a build made the same: layer by layer, and of the first that differs the first file that does.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use corten_build::{Built, Outcome, State};
use corten_image::build::{BuildSession, Stack, open_file};
use corten_image::files::describe;
use corten_image::tar::{Entry, Kind};

use crate::image::failed;
use crate::{Engine, Error, Result};

/// Bytes that are shown where contents differ.
const BYTES_SHOWN: usize = 16;
const PIECE: usize = 64 << 10;

impl Engine {
    /// Where two runs of the same build differ first, in words; none when they made the same.
    pub async fn build_difference(&self, first: &Built, second: &Built) -> Result<Option<String>> {
        let stages = |built: &Built| -> Vec<(String, Arc<State>)> {
            let platform = |outcome: &Outcome| match built.is_of_several {
                true => format!("{} ", outcome.platform),
                false => String::new(),
            };
            let named = |outcome: &Outcome| {
                let place = platform(outcome);
                outcome
                    .stages
                    .iter()
                    .map(move |(name, state)| (format!("{place}{name}"), state.clone()))
                    .collect::<Vec<_>>()
            };
            built.outcomes.iter().flat_map(named).collect()
        };
        let stages = stages(first).into_iter().zip(stages(second));
        // A stage needs none behind it: the first that differs is where it began.
        for ((name, one), (_, other)) in stages {
            let (ids, others) = (one.stack.ids(), other.stack.ids());
            let count = ids.len().max(others.len());
            let Some(at) = (0..count).find(|at| ids.get(*at) != others.get(*at)) else {
                if serde_json::to_string(&one.image).ok() != serde_json::to_string(&other.image).ok() {
                    return Ok(Some(format!("stage {name}: the image's configuration is another one")));
                }
                continue;
            };
            let step = step(&one, at);
            let place = format!("stage {name}, layer {}: {step}", at + 1);
            let (Some(one), Some(other)) = (one.stack.only(at), other.stack.only(at)) else {
                return Ok(Some(format!("{place}\n  only one of the runs made a layer")));
            };
            let (session, again) = (first.session.clone(), second.session.clone());
            let found = crate::image::blocking(move || layers((&session, &one), (&again, &other))).await?;
            return Ok(Some(format!("{place}\n  {found}")));
        }
        Ok(None)
    }
}

/// What the history says of the layer with that number.
fn step(state: &State, layer: usize) -> String {
    let made: Vec<_> = state.image.history.iter().filter(|entry| !entry.empty_layer).collect();
    // An image may know less of itself than it has layers; those of this build have an entry each.
    let known = layer.checked_sub(state.stack.ids().len().saturating_sub(made.len()));
    let entry = known.and_then(|known| made.get(known));
    entry.map_or_else(|| "an unknown step".to_owned(), |entry| entry.created_by.clone())
}

type Layer<'l> = (&'l BuildSession, &'l Stack);

/// How two layers differ.
fn layers(first: Layer<'_>, second: Layer<'_>) -> Result<String> {
    let open = |(session, stack): Layer<'_>| session.merged(stack).map_err(failed);
    let (one, other) = (open(first)?, open(second)?);
    let mut left: BTreeMap<Vec<u8>, Entry> = BTreeMap::new();
    let broken = |error: std::io::Error| Error::internal(format!("compare layers: {error}"));
    let mut take = |entry: Entry| {
        left.insert(entry.path.clone(), entry);
        Ok(())
    };
    describe(&other, &mut take).map_err(broken)?;
    let mut found = None;
    let mut compare = |entry: Entry| {
        let again = left.remove(&entry.path);
        if found.is_none() {
            found = difference(&entry, again.as_ref(), &one, &other)?;
        }
        Ok(())
    };
    describe(&one, &mut compare).map_err(broken)?;
    let extra = left.keys().next().map(|path| format!("{}: only in the second run", shown(path)));
    Ok(found.or(extra).unwrap_or_else(|| "the layers differ in what they remove".to_owned()))
}

fn difference(
    entry: &Entry,
    again: Option<&Entry>,
    one: &OwnedFd,
    other: &OwnedFd,
) -> std::io::Result<Option<String>> {
    let path = shown(&entry.path);
    let Some(again) = again else { return Ok(Some(format!("{path}: only in the first run"))) };
    // What a file holds says more than how much that is.
    if (entry.kind, again.kind) == (Kind::File, Kind::File) {
        let open = |root: &OwnedFd| open_file(root, &entry.path);
        if let Some(found) = contents(open(one)?, open(other)?)? {
            return Ok(Some(format!("{path}: {found}")));
        }
    }
    Ok(attribute(entry, again).map(|found| format!("{path}: {found}")))
}

/// The first attribute that differs.
fn attribute(one: &Entry, other: &Entry) -> Option<String> {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let facts = |entry: &Entry| {
        [
            ("kind", format!("{:?}", entry.kind).to_lowercase()),
            ("mode", format!("{:o}", entry.mode)),
            ("owner", format!("{}:{}", entry.uid, entry.gid)),
            ("time", format!("{}.{:09}", entry.mtime.seconds, entry.mtime.nanoseconds)),
            ("size", entry.size.to_string()),
            ("link", lossy(&entry.link)),
            ("device", format!("{}:{}", entry.device.major, entry.device.minor)),
            ("attributes", {
                let pairs = entry.xattrs.iter().map(|(name, value)| format!("{}={value:02x?}", lossy(name)));
                pairs.collect::<Vec<_>>().join(" ")
            }),
        ]
    };
    let pairs = facts(one).into_iter().zip(facts(other));
    let mut differing = pairs.filter(|((_, one), (_, other))| one != other);
    differing.next().map(|((name, one), (_, other))| format!("its {name} is {one} and {other}"))
}

/// From where on contents differ.
fn contents(mut one: File, mut other: File) -> std::io::Result<Option<String>> {
    let read = |file: &mut File| {
        let mut piece = Vec::with_capacity(PIECE);
        file.take(PIECE as u64).read_to_end(&mut piece)?;
        std::io::Result::Ok(piece)
    };
    let mut before = 0;
    loop {
        let (here, there) = (read(&mut one)?, read(&mut other)?);
        if here != there {
            let same = here.iter().zip(&there).take_while(|(here, there)| here == there).count();
            let bytes = |piece: &[u8]| match &piece[same.min(piece.len())..] {
                [] => "its end".to_owned(),
                rest => format!("{:02x?}", &rest[..rest.len().min(BYTES_SHOWN)]),
            };
            let (at, here, there) = (before + same, bytes(&here), bytes(&there));
            return Ok(Some(format!("its contents differ from byte {at} on: {here} and {there}")));
        }
        if here.is_empty() {
            return Ok(None);
        }
        before += here.len();
    }
}

fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path).trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &[u8]) -> File {
        use std::io::{Seek, Write};
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn the_first_differing_byte_is_found() {
        assert_eq!(contents(file(b"same"), file(b"same")).unwrap(), None);
        let found = contents(file(b"same one"), file(b"same two")).unwrap().unwrap();
        assert_eq!(found, "its contents differ from byte 5 on: [6f, 6e, 65] and [74, 77, 6f]");
        let long = [vec![0; PIECE], vec![1]].concat();
        let found = contents(file(&long), file(&long[..PIECE])).unwrap().unwrap();
        assert_eq!(found, format!("its contents differ from byte {PIECE} on: [01] and its end"));
    }

    #[test]
    fn the_first_differing_attribute_is_named() {
        let one = Entry::new(Kind::File, b"a".to_vec(), 0o644);
        assert_eq!(attribute(&one, &one.clone()), None);
        let other = Entry { mode: 0o600, uid: 7, ..one.clone() };
        assert_eq!(attribute(&one, &other).unwrap(), "its mode is 644 and 600");
        let other = Entry { xattrs: vec![(b"user.a".to_vec(), vec![1])], ..one.clone() };
        assert_eq!(attribute(&one, &other).unwrap(), "its attributes is  and user.a=[01]");
    }
}
