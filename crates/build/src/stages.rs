//! The stages of a build, side by side: who needs one waits for it and never does it itself, so that no chain of them is too long for a
//! stack.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{Notify, SetOnce};

use crate::error::{Error, Result};
use crate::state::State;

pub struct Stages {
    done: Vec<SetOnce<Arc<State>>>,
    wanted: Mutex<Vec<usize>>,
    /// Somebody wants another one.
    more: Notify,
}

impl Stages {
    pub fn new(count: usize) -> Stages {
        let done = (0..count).map(|_| SetOnce::new()).collect();
        Stages { done, wanted: Mutex::default(), more: Notify::new() }
    }

    /// What a stage has become, if it is done.
    pub fn done(&self, index: usize) -> Option<&Arc<State>> {
        self.done.get(index)?.get()
    }

    /// Has a stage begun that is needed later.
    pub fn want(&self, index: usize) {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).push(index);
        self.more.notify_one();
    }

    /// What a stage becomes. Waits for ever where [`Stages::run`] is not on its way.
    pub async fn get(&self, index: usize) -> Result<Arc<State>> {
        let stage = self.done.get(index);
        let stage = stage.ok_or_else(|| Error::Invalid(format!("invalid stage index {index}")))?;
        if stage.get().is_none() {
            self.want(index);
        }
        Ok(stage.wait().await.clone())
    }

    /// Does a stage and all that are wanted meanwhile, each once. The first that fails ends it.
    pub async fn run<F: Future<Output = Result<State>>>(
        &self,
        target: usize,
        begin: impl Fn(usize) -> F,
    ) -> Result<Arc<State>> {
        let mut is_begun = vec![false; self.done.len()];
        let mut running = FuturesUnordered::new();
        self.want(target);
        loop {
            let wanted = std::mem::take(&mut *self.wanted.lock().unwrap_or_else(PoisonError::into_inner));
            for index in wanted {
                if !std::mem::replace(&mut is_begun[index], true) {
                    let stage = begin(index);
                    running.push(async move { (index, stage.await) });
                }
            }
            tokio::select! {
                Some((index, state)) = running.next() => {
                    let state = Arc::new(state?);
                    // Nobody else sets it.
                    let _ = self.done[index].set(state.clone());
                    if index == target {
                        return Ok(state);
                    }
                }
                () = self.more.notified() => {}
            }
        }
    }
}
