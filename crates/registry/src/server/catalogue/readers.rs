//! Connections that read: a few, so that readers of a crowd wait for each other and not for the writer.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::{CatalogueError, Result, connect};

const CONNECTIONS: usize = 4;
/// How many of them people who look at pages may have at once. What they ask for is long, and pulls don't wait for it.
const LOOKING_MAX: usize = 2;

#[derive(Debug)]
pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    /// As many permits as there are connections. One goes with each connection, also when nobody waits for the answer any more.
    turns: Arc<Semaphore>,
    looking: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn open(path: &Path) -> Result<Readers> {
        let connections = (0..CONNECTIONS).map(|_| {
            let connection = connect(path)?;
            let locked = connection.pragma_update(None, "query_only", "ON");
            locked.map_err(|error| CatalogueError::Open { path: path.to_owned(), why: error.to_string() })?;
            Ok(connection)
        });
        let idle = Arc::new(Mutex::new(connections.collect::<Result<_>>()?));
        Ok(Readers {
            idle,
            turns: Arc::new(Semaphore::new(CONNECTIONS)),
            looking: Arc::new(Semaphore::new(LOOKING_MAX)),
        })
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| CatalogueError::Closed)?;
        let idle = self.idle.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let taken = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = taken.ok_or(CatalogueError::Closed)?;
            let answer = ask(&connection);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            drop(turn);
            answer
        });
        asked.await.unwrap_or(Err(CatalogueError::Closed))
    }

    /// As `read`, for a page.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let looking = self.looking.clone().acquire_owned().await.map_err(|_| CatalogueError::Closed)?;
        self.read(move |connection| {
            let answer = ask(connection);
            drop(looking);
            answer
        })
        .await
    }
}
