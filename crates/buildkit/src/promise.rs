//! What a build will have made, for builds that go on from there and wait for it.

use corten_build::{Error, Input, Result};
use std::sync::Arc;
use tokio::sync::watch;

/// Kept or broken, once.
#[derive(Default)]
pub struct Promise(watch::Sender<State>);

#[derive(Clone, Default)]
enum State {
    #[default]
    Open,
    Kept(Arc<Input>),
    Broken(String),
}

impl Promise {
    /// It is made.
    pub fn keep(&self, input: Input) {
        self.settle(State::Kept(Arc::new(input)));
    }

    /// It will not be made; nothing happens when it is.
    pub fn give_up(&self, why: &str) {
        self.settle(State::Broken(why.to_owned()));
    }

    /// Waits for it.
    ///
    /// # Errors
    /// Why it will not be made.
    pub async fn kept(&self) -> Result<Arc<Input>> {
        let mut state = self.0.subscribe();
        // The sender lives as long as this does.
        let settled = state.wait_for(|state| !matches!(state, State::Open)).await;
        match settled.map(|state| state.clone()) {
            Ok(State::Kept(input)) => Ok(input),
            Ok(State::Broken(why)) => Err(Error::Invalid(why)),
            Ok(State::Open) | Err(_) => Err(Error::Canceled),
        }
    }

    fn settle(&self, outcome: State) {
        self.0.send_if_modified(|state| {
            let is_open = matches!(state, State::Open);
            if is_open {
                *state = outcome;
            }
            is_open
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_is_told() {
        let promise = Promise::default();
        promise.give_up("it rains");
        promise.give_up("it snows");
        assert_eq!(promise.kept().await.err().map(|error| error.to_string()), Some("it rains".to_owned()));
    }
}
