//! A build that its client drives: it asks for front ends to be run, gets references to what they would yield, and returns one of them
//! as the outcome. A reference is a wish here; it is built when the outcome is asked for.

use crate::attributes::Attributes;
use crate::promise::Promise;
use crate::wire::gateway::{Outcome, Ref, RefMap, Refs, ReturnRequest};
use crate::wire::ops::Definition;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tonic::Status;

/// Wishes of one build: a client asks for one per platform.
const WISHES_MAX: usize = 64;

/// What other builds make that one goes on from, by the client's names for it.
pub type Inputs = BTreeMap<String, Arc<Promise>>;

/// A build that a client may want.
#[derive(Clone)]
pub struct Wish {
    pub attributes: Attributes,
    pub inputs: Inputs,
    /// What others wait for of it.
    pub promise: Arc<Promise>,
}

impl Wish {
    pub fn new(attributes: Attributes, inputs: Inputs) -> Self {
        Self { attributes, inputs, promise: Arc::default() }
    }
}

/// What a client may do while its build waits for the outcome.
pub struct Bridge {
    state: Mutex<State>,
    changed: watch::Sender<Phase>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Returned,
    Closed,
}

#[derive(Default)]
struct State {
    wishes: HashMap<String, Wish>,
    returned: Option<ReturnRequest>,
}

impl Default for Bridge {
    fn default() -> Self {
        Self { state: Mutex::default(), changed: watch::channel(Phase::Open).0 }
    }
}

impl Bridge {
    /// Keeps what was asked for; its reference.
    pub fn wish(&self, wish: Wish) -> Result<String, Status> {
        let mut state = self.state();
        if state.wishes.len() >= WISHES_MAX {
            return Err(Status::resource_exhausted(format!("a build may solve {WISHES_MAX} times")));
        }
        let reference = format!("wish-{}", state.wishes.len());
        state.wishes.insert(reference.clone(), wish);
        Ok(reference)
    }

    pub fn find(&self, reference: &str) -> Result<Wish, Status> {
        let known = self.state().wishes.get(reference).cloned();
        known.ok_or_else(|| Status::not_found(format!("no such ref: {reference}")))
    }

    /// The wish that is to come true; nobody need wait for the others.
    pub fn choose(&self, reference: &str) -> Result<Wish, Status> {
        let chosen = self.find(reference)?;
        let state = self.state();
        let others = state.wishes.iter().filter(|(other, _)| *other != reference);
        others.for_each(|(_, other)| other.promise.give_up("its client has had something else built"));
        Ok(chosen)
    }

    /// The client has chosen.
    pub fn finish(&self, request: ReturnRequest) -> Result<(), Status> {
        if *self.changed.borrow() != Phase::Open {
            return Err(Status::failed_precondition("the build has an outcome already"));
        }
        self.state().returned = Some(request);
        self.changed.send_replace(Phase::Returned);
        Ok(())
    }

    /// What the client chose, when it has.
    pub async fn outcome(&self) -> Result<ReturnRequest, Status> {
        let mut changed = self.changed.subscribe();
        // An error can't be: this holds the other end.
        let _ = changed.wait_for(|phase| *phase != Phase::Open).await;
        self.state().returned.take().ok_or_else(|| Status::cancelled("the build has ended"))
    }

    /// Whether the build has ended.
    pub fn is_closed(&self) -> bool {
        *self.changed.borrow() == Phase::Closed
    }

    /// What was made stays with those alone who wait for it.
    pub fn close(&self) {
        for wish in std::mem::take(&mut self.state().wishes).into_values() {
            wish.promise.give_up("its build has ended before");
        }
        self.changed.send_replace(Phase::Closed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reference as an outcome, and what other builds may know it by.
pub fn outcome(reference: String, def: Option<Definition>) -> Outcome {
    Outcome { refs: Some(Refs::One(Ref { id: reference, def })), metadata: BTreeMap::new() }
}

/// The one reference in an outcome; none when there is nothing to build.
pub fn reference(outcome: &Outcome) -> Result<Option<&str>, Status> {
    let several = || Status::unimplemented("an outcome for several platforms is not supported");
    let reference = match &outcome.refs {
        None => return Ok(None),
        Some(Refs::One(Ref { id, .. }) | Refs::OneDeprecated(id)) => id,
        Some(Refs::Many(RefMap { refs })) if refs.len() > 1 => return Err(several()),
        Some(Refs::ManyDeprecated(map)) if map.refs.len() > 1 => return Err(several()),
        Some(Refs::Many(RefMap { refs })) => match refs.values().next() {
            Some(Ref { id, .. }) => id,
            None => return Ok(None),
        },
        Some(Refs::ManyDeprecated(map)) => match map.refs.values().next() {
            Some(id) => id,
            None => return Ok(None),
        },
    };
    Ok((!reference.is_empty()).then_some(reference.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish() -> Wish {
        Wish::new(Attributes::parse("dockerfile.v0", &BTreeMap::new()).unwrap(), Inputs::new())
    }

    #[tokio::test]
    async fn one_outcome_is_taken_and_an_end_is_one_too() {
        let bridge = Bridge::default();
        bridge.finish(ReturnRequest::default()).unwrap();
        assert!(bridge.finish(ReturnRequest::default()).is_err());
        bridge.outcome().await.unwrap();
        let bridge = Bridge::default();
        bridge.close();
        assert!(bridge.outcome().await.is_err());
        assert!(bridge.is_closed());
    }

    #[test]
    fn wishes_are_bounded_and_found() {
        let bridge = Bridge::default();
        let first = bridge.wish(wish()).unwrap();
        assert!(bridge.find(&first).is_ok());
        assert!(bridge.find("other").is_err());
        for _ in 1..WISHES_MAX {
            bridge.wish(wish()).unwrap();
        }
        assert!(bridge.wish(wish()).is_err());
    }

    #[tokio::test]
    async fn nobody_waits_for_what_will_never_be() {
        let bridge = Bridge::default();
        let [first, second] = [wish(), wish()];
        let [first_name, second_name] = [&first, &second].map(|wish| bridge.wish(wish.clone()).unwrap());
        let reason = async |wish: &Wish| wish.promise.kept().await.err().map(|error| error.to_string());
        assert!(bridge.choose(&second_name).is_ok());
        assert_eq!(reason(&first).await.unwrap(), "its client has had something else built");
        bridge.close();
        assert_eq!(reason(&second).await.unwrap(), "its build has ended before");
        assert!(bridge.find(&first_name).is_err());
    }
}
