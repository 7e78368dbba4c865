//! The catalogue (`registry.db`): which repositories, blobs, manifests, tags and uploads there are, and what keeps what alive.
//!
//! SQLite in WAL mode. One thread writes, and puts changes that wait for it into one transaction, so that a crowd of pushes
//! shares its syncs; a few connections read. Whoever awaits an answer waits on no lock and no disk. Knows nothing of files.

mod blobs;
mod browse;
mod cached;
mod collection;
mod deliveries;
mod manifests;
mod readers;
mod retired;
mod schema;
mod uploads;
mod usage;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use corten_image::Reserve;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use super::digest::Digest;
use super::quota::{Exceeded, Ledger};
pub use blobs::Unlinked;
pub use browse::{
    ManifestDetails, ManifestSummary, ReferrerSummary, RepositoriesPage, RepositoryOrder, RepositorySummary,
    RepositoryUsage, Sees, TagOrder, TagSummary, TagsPage, Usage,
};
pub use collection::{Condemned, Excess, Why};
pub use deliveries::Delivery;
pub use manifests::{ManifestRow, NewManifest, Pushed, ReferrersPage};
use readers::Readers;
pub use retired::Restored;
use writer::{Kind, Writer};

#[derive(Clone, Debug, thiserror::Error)]
pub enum CatalogueError {
    #[error("cannot open the catalogue {path}: {why}")]
    Open { path: PathBuf, why: String },
    #[error(
        "the catalogue {path} has schema version {found}; this program knows up to {known}: use a newer one"
    )]
    TooNew { path: PathBuf, found: i64, known: i64 },
    #[error("the catalogue cannot {step}")]
    Statement { step: &'static str, source: Arc<rusqlite::Error> },
    #[error("the catalogue holds {0:?} where a digest should be")]
    Digest(String),
    #[error("{0}")]
    Quota(Exceeded),
    #[error("the catalogue is closed")]
    Closed,
}

impl CatalogueError {
    pub fn is_no_space(&self) -> bool {
        match self {
            CatalogueError::Statement { source, .. } => {
                let code = source.sqlite_error().map(|error| (error.code, error.extended_code));
                // A full disk also shows as an error of the write-ahead log's, or of its shared memory.
                matches!(code, Some((ErrorCode::DiskFull, _)))
                    || matches!(code, Some((_, extended)) if NO_ROOM.contains(&extended))
            }
            _ => false,
        }
    }

    /// With the cause, on one line.
    pub fn explain(&self) -> String {
        match self {
            CatalogueError::Statement { source, .. } => format!("{self}: {source}"),
            _ => self.to_string(),
        }
    }
}

/// What SQLite says when the shared memory of its log can't grow.
const NO_ROOM: [i32; 2] = [rusqlite::ffi::SQLITE_IOERR_SHMSIZE, rusqlite::ffi::SQLITE_IOERR_SHMMAP];

type Result<T> = std::result::Result<T, CatalogueError>;

/// Adds the step to a failed statement.
trait Step<T> {
    fn step(self, step: &'static str) -> Result<T>;
}

impl<T> Step<T> for rusqlite::Result<T> {
    fn step(self, step: &'static str) -> Result<T> {
        self.map_err(|source| CatalogueError::Statement { step, source: Arc::new(source) })
    }
}

/// An open catalogue. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Catalogue {
    readers: Arc<Readers>,
    writer: Arc<Writer>,
    /// What is taken of quotas, as of the last commit. Only the thread that writes replaces it.
    ledger: Arc<RwLock<Arc<Ledger>>>,
}

impl Catalogue {
    /// Opens or creates the catalogue and brings its schema up to date.
    pub fn open(path: &Path) -> Result<Catalogue> {
        let reserve = Reserve::at(path.with_extension("reserve"));
        // On a full disk there is no room for the log and its shared memory otherwise.
        let (connection, readers) = reserve.give(|| {
            let mut connection = connect(path)?;
            schema::migrate(&mut connection, path)?;
            usage::prepare(&connection)?;
            Ok::<_, CatalogueError>((connection, Readers::open(path)?))
        })?;
        let ledger: Arc<RwLock<Arc<Ledger>>> = Arc::default();
        let writer = Writer::start(connection, reserve, ledger.clone())?;
        Ok(Catalogue { readers: Arc::new(readers), writer: Arc::new(writer), ledger })
    }

    /// Asks something.
    async fn read<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.readers.read(ask).await
    }

    /// Asks something for a page that people look at: others don't wait for it.
    async fn look<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.readers.look(ask).await
    }

    /// Changes something, and answers when it is on the disk.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnMut(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.writer.change(Kind::Kept, change).await
    }

    /// As `change`, for what makes room: on a full disk with the room that is kept for it.
    async fn remove<T: Send + 'static>(
        &self,
        change: impl FnMut(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.writer.change(Kind::Removal, change).await
    }

    /// As `change`, for what a power failure may undo.
    async fn note<T: Send + 'static>(
        &self,
        change: impl FnMut(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.writer.change(Kind::Note, change).await
    }

    /// What is taken of quotas.
    pub fn ledger(&self) -> Arc<Ledger> {
        self.ledger.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Names of repositories after `last`, in order; no more than `count`.
    pub async fn repositories(&self, last: String, count: usize) -> Result<Vec<String>> {
        self.read(move |connection| {
            let step = "list repositories";
            let mut statement = connection
                .prepare_cached("SELECT name FROM repositories WHERE name > ?1 ORDER BY name LIMIT ?2")
                .step(step)?;
            let rows = statement.query_map(params![last, count as i64], |row| row.get(0)).step(step)?;
            rows.collect::<rusqlite::Result<_>>().step(step)
        })
        .await
    }

    /// By which name this registry's blobs are marked in an object store, if they are in one.
    pub async fn object_store(&self) -> Result<Option<String>> {
        self.read(|connection| {
            let found = connection.query_row("SELECT registry FROM object_store", [], |row| row.get(0));
            found.optional().step("find out where the blobs are")
        })
        .await
    }

    /// Notes that blobs are in an object store, where they are marked by that name.
    pub async fn set_object_store(&self, registry: String) -> Result<()> {
        self.change(move |connection| {
            let set =
                connection.execute("INSERT INTO object_store (only, registry) VALUES (1, ?1)", [&registry]);
            set.map(drop).step("note where the blobs are")
        })
        .await
    }

    /// How many repositories and blobs there are, and how many bytes these have.
    pub async fn totals(&self) -> Result<(u64, u64, u64)> {
        self.read(|connection| {
            let query =
                "SELECT (SELECT count(*) FROM repositories), count(*), coalesce(sum(size), 0) FROM blobs";
            let count = |row: &rusqlite::Row<'_>, at| row.get::<_, i64>(at).map(|count| count as u64);
            let totals =
                connection.query_row(query, [], |row| Ok((count(row, 0)?, count(row, 1)?, count(row, 2)?)));
            totals.step("count what there is")
        })
        .await
    }

    /// Tags of a repository after `last`, in order; no more than `count`. None when there is no such repository.
    pub async fn tags(&self, repository: String, last: String, count: usize) -> Result<Option<Vec<String>>> {
        self.read(move |connection| {
            let Some(repository) = repository_id(connection, &repository)? else { return Ok(None) };
            let step = "list tags";
            let mut statement = connection
                .prepare_cached(
                    "SELECT name FROM tags WHERE repository = ?1 AND name > ?2 ORDER BY name LIMIT ?3",
                )
                .step(step)?;
            let rows =
                statement.query_map(params![repository, last, count as i64], |row| row.get(0)).step(step)?;
            rows.collect::<rusqlite::Result<_>>().step(step).map(Some)
        })
        .await
    }
}

fn connect(path: &Path) -> Result<Connection> {
    let failed =
        |error: rusqlite::Error| CatalogueError::Open { path: path.to_owned(), why: error.to_string() };
    let connection = Connection::open(path).map_err(failed)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update(None, "foreign_keys", "ON").map_err(failed)?;
    // What a large change has left of the log is cut off again.
    connection.pragma_update(None, "journal_size_limit", 16 << 20).map_err(failed)?;
    // Pages that a connection keeps for itself; the kernel has them all anyway.
    connection.pragma_update(None, "cache_size", -1024).map_err(failed)?;
    Ok(connection)
}

fn repository_id(connection: &Connection, name: &str) -> Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM repositories WHERE name = ?1")
        .and_then(|mut statement| statement.query_row([name], |row| row.get(0)).optional())
        .step("find a repository")
}

/// The repository of that name, which is made when there is none yet.
fn repository_to_change(connection: &Connection, name: &str) -> Result<i64> {
    if let Some(id) = repository_id(connection, name)? {
        return Ok(id);
    }
    let step = "add a repository";
    let id = connection
        .prepare_cached("INSERT INTO repositories (name, created_at) VALUES (?1, ?2)")
        .and_then(|mut statement| statement.insert(params![name, now()]))
        .step(step)?;
    usage::enroll(connection, id, name)?;
    Ok(id)
}

fn digest(text: String) -> Result<Digest> {
    text.parse().map_err(|_| CatalogueError::Digest(text))
}

/// Seconds since 1970: how all times are kept.
pub fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Now, as times are kept.
pub fn now() -> i64 {
    seconds(SystemTime::now())
}
