//! Who is at which cache mount's directory: any number of steps that use it, or one that reads it alone.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// By the directories' names.
#[derive(Clone, Default)]
pub struct Uses(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Somebody has gone.
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// How many steps use a directory.
    users: HashMap<String, usize>,
    /// Those that are read while nobody may change them.
    read: HashSet<String>,
    /// What a directory takes of the disk, as long as nobody has used it since.
    measured: HashMap<String, u64>,
}

impl State {
    fn is_used(&self, name: &str) -> bool {
        self.users.contains_key(name) || self.read.contains(name)
    }
}

/// A directory that a step uses.
pub struct Use {
    name: String,
    uses: Uses,
}

impl Use {
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut state = self.uses.lock();
        state.measured.remove(&self.name);
        if let Some(users) = state.users.get_mut(&self.name) {
            *users -= 1;
            if *users == 0 {
                state.users.remove(&self.name);
            }
        }
        drop(state);
        self.uses.0.changed.notify_waiters();
    }
}

/// A directory that nobody uses meanwhile.
pub struct Alone {
    name: String,
    uses: Uses,
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.uses.lock().read.remove(&self.name);
        self.uses.0.changed.notify_waiters();
    }
}

impl Uses {
    /// Uses a directory, when nobody reads it alone.
    pub async fn enter(&self, name: &str) -> Use {
        self.until(|state| (!state.read.contains(name)).then(|| state.enter(name.to_owned()))).await
    }

    /// Uses a directory that nobody else does: the first of a row of them.
    pub async fn enter_private(&self, name: &str) -> Use {
        self.until(|state| {
            let free = (0u32..).map(|number| private(name, number)).find(|name| !state.is_used(name));
            free.map(|name| state.enter(name))
        })
        .await
    }

    /// Reads a directory, when nobody uses it. Who wants to use it then waits.
    pub async fn alone(&self, name: &str) -> Alone {
        let is_free =
            |state: &mut State| (!state.is_used(name) && state.read.insert(name.to_owned())).then_some(());
        self.look(is_free).await;
        Alone { name: name.to_owned(), uses: self.clone() }
    }

    pub fn is_used(&self, name: &str) -> bool {
        self.lock().is_used(name)
    }

    /// Does something with a directory that nobody uses before it is done; none where somebody does.
    pub fn unless_used<T>(&self, name: &str, work: impl FnOnce() -> T) -> Option<T> {
        let mut state = self.lock();
        if state.is_used(name) {
            return None;
        }
        state.measured.remove(name);
        Some(work())
    }

    /// What `measure` says; not asked again as long as nobody uses the directory.
    pub fn bytes(&self, name: &str, measure: impl FnOnce() -> u64) -> u64 {
        if let Some(bytes) = self.lock().measured.get(name) {
            return *bytes;
        }
        let bytes = measure();
        let mut state = self.lock();
        if !state.users.contains_key(name) {
            state.measured.insert(name.to_owned(), bytes);
        }
        bytes
    }

    async fn until(&self, attempt: impl FnMut(&mut State) -> Option<String>) -> Use {
        let name = self.look(attempt).await;
        Use { name, uses: self.clone() }
    }

    /// Tries now, and whenever somebody has gone.
    async fn look<T>(&self, mut attempt: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            // Who goes after the look is not missed.
            changed.as_mut().enable();
            if let Some(found) = attempt(&mut self.lock()) {
                return found;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Before it is made: who prunes sees that it is wanted.
    fn enter(&mut self, name: String) -> String {
        *self.users.entry(name.clone()).or_default() += 1;
        name
    }
}

/// The name of a directory that only one step uses at a time.
pub fn private(name: &str, number: u32) -> String {
    format!("{name}-{number}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn who_reads_is_alone() {
        let uses = Uses::default();
        let (one, two) = (uses.enter("a").await, uses.enter("a").await);
        let reader = tokio::spawn({
            let uses = uses.clone();
            async move { uses.alone("a").await }
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
        // Who waits to read it keeps nobody else away.
        drop(uses.enter("a").await);
        drop(one);
        assert!(!reader.is_finished());
        drop(two);
        let alone = reader.await.unwrap();
        assert!(uses.is_used("a") && uses.unless_used("a", || ()).is_none());
        let user = tokio::spawn({
            let uses = uses.clone();
            async move { uses.enter("a").await }
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(!user.is_finished());
        drop(uses.enter("b").await);
        drop(alone);
        drop(user.await.unwrap());
        assert_eq!(uses.unless_used("a", || 7), Some(7));
    }

    #[tokio::test]
    async fn private_ones_are_nobody_elses() {
        let uses = Uses::default();
        let (one, two) = (uses.enter_private("a").await, uses.enter_private("a").await);
        assert_eq!((one.name(), two.name()), ("a-0", "a-1"));
        drop(one);
        let alone = uses.alone("a-0").await;
        assert_eq!(uses.enter_private("a").await.name(), "a-2");
        drop(alone);
        assert_eq!(uses.enter_private("a").await.name(), "a-0");
    }
}
