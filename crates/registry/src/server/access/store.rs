//! What the registry has made itself to know people by: keys that tokens are signed with, logins (refresh tokens), sessions that were ended, robots. One SQLite
//! file, `access.db` in the data directory, which commands change while the server runs; secrets are in it as hashes only, but for
//! the signing keys, so nobody else may read it. Blocks; knows nothing of policy.

use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_image::Reserve;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::policy::Identity;
use super::robot::Robot;
use super::secret::Fingerprint;
use super::signature::{Keys, SigningKey};

const SCHEMA_VERSION: i64 = 1;
const SCHEMA: &str = "
CREATE TABLE keys (id TEXT PRIMARY KEY, made_s INTEGER NOT NULL, pkcs8 BLOB NOT NULL) STRICT;
CREATE TABLE robots (name TEXT PRIMARY KEY, secret BLOB NOT NULL, made_s INTEGER NOT NULL, expires_s INTEGER, grants TEXT NOT NULL) STRICT;
CREATE TABLE logins (
    token BLOB PRIMARY KEY, identity TEXT NOT NULL, account BLOB NOT NULL, client TEXT NOT NULL,
    made_s INTEGER NOT NULL, used_s INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX logins_of ON logins (identity, used_s);
CREATE INDEX logins_used ON logins (used_s);
PRAGMA user_version = 1;";

/// Came later; a program that doesn't know it passes it over.
const ENDED_SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS ended (session BLOB PRIMARY KEY, ends_s INTEGER NOT NULL) STRICT, WITHOUT ROWID;";

/// Of one identity; who logs in more often loses the login that wasn't used for longest.
const LOGINS_MAX: u32 = 64;
/// When a use is written down again: not with every token.
const USE_NOTED_EVERY_S: u64 = 3600;
/// For how long a key is kept when another one is there: no token lives longer.
const KEY_KEPT_S: u64 = 86_400;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot make {path}")]
    Make { path: PathBuf, source: std::io::Error },
    #[error("cannot open {path}")]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error("{path} has schema version {found}; this program knows {SCHEMA_VERSION}: use a newer one")]
    TooNew { path: PathBuf, found: i64 },
    #[error("cannot {step} in access.db")]
    Statement { step: &'static str, source: rusqlite::Error },
    #[error("access.db holds a key that can't be used: {0}")]
    Key(String),
    #[error("access.db: robot {robot:?}: {why}")]
    Robot { robot: String, why: String },
    #[error("there is a robot {0:?} already; revoke it first, or take another name")]
    RobotExists(String),
    #[error("there is no robot {0:?}")]
    NoRobot(String),
    #[error("too many wait for access.db")]
    Busy,
    #[error("the system gives no random numbers")]
    Randomness,
}

impl StoreError {
    /// A full disk, which also shows as an error of the write-ahead log's shared memory.
    fn is_no_space(&self) -> bool {
        use rusqlite::ffi::{SQLITE_IOERR_SHMMAP, SQLITE_IOERR_SHMSIZE};
        match self {
            Self::Make { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            Self::Open { source, .. } | Self::Statement { source, .. } => {
                source.sqlite_error().is_some_and(|error| {
                    error.code == rusqlite::ErrorCode::DiskFull
                        || [SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_SHMMAP].contains(&error.extended_code)
                })
            }
            _ => false,
        }
    }
}

trait Step<T> {
    fn step(self, step: &'static str) -> Result<T, StoreError>;
}

impl<T> Step<T> for rusqlite::Result<T> {
    fn step(self, step: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Statement { step, source })
    }
}

/// A login as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub identity: String,
    /// What the client called itself.
    pub client: String,
    pub made_s: u64,
    pub used_s: u64,
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    reserve: Reserve,
}

impl Store {
    /// Opens the store in a data directory; makes it if need be.
    pub fn open(data: &Path) -> Result<Self, StoreError> {
        let path = data.join("access.db");
        let place = path.with_extension("reserve");
        let reserve = Reserve::at(place.clone());
        let connection = match connect(data, &path) {
            // On a full disk there is no room for the log and its shared memory otherwise.
            Err(error) if error.is_no_space() => reserve.give(|| connect(data, &path))?,
            connected => connected?,
        };
        // As with the store itself: whose it is, and for nobody else. Without it, removals need a disk that has room.
        if make(data, &place).is_ok() {
            reserve.refill();
        }
        Ok(Self { connection, reserve })
    }

    /// Changes when somebody else changes the store.
    pub fn version(&self) -> Result<i64, StoreError> {
        self.connection.query_row("PRAGMA data_version", [], |row| row.get(0)).step("see what has changed")
    }

    fn change<T>(
        &mut self,
        step: &'static str,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        transact(&mut self.connection, step, change)
    }

    /// As `change`, for what takes something from somebody: on a full disk with the room that is kept for it.
    fn removal<T>(
        &mut self,
        step: &'static str,
        mut change: impl FnMut(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Self { connection, reserve } = self;
        match transact(connection, step, &mut change) {
            Err(error) if error.is_no_space() => reserve.spend(|| transact(connection, step, &mut change)),
            changed => changed,
        }
    }

    /// All keys; makes the first one.
    pub fn keys(&mut self, now_s: u64) -> Result<Keys, StoreError> {
        let keys = self.read_keys()?;
        if keys.is_empty() {
            self.change("keep a key", |transaction| match count_keys(transaction)? {
                0 => insert_key(transaction, now_s),
                _ => Ok(()),
            })?;
        }
        let keys = if keys.is_empty() { self.read_keys()? } else { keys };
        Keys::new(keys).ok_or_else(|| StoreError::Key("there is none".to_owned()))
    }

    fn read_keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        const STEP: &str = "read keys";
        // By row for those of the same second.
        let mut statement =
            self.connection.prepare("SELECT id, pkcs8 FROM keys ORDER BY made_s, rowid").step(STEP)?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)));
        let rows = rows.step(STEP)?.collect::<Result<Vec<_>, _>>().step(STEP)?;
        let read = |(id, pkcs8): (String, Vec<u8>)| {
            SigningKey::read(&pkcs8).filter(|key| key.id() == id).ok_or(StoreError::Key(id))
        };
        rows.into_iter().map(read).collect()
    }

    /// Makes a new key to sign with. Tokens signed with the others are good to their end, or not any more if `forget`.
    pub fn rotate_keys(&mut self, now_s: u64, forget: bool) -> Result<(), StoreError> {
        let rotate = |transaction: &Transaction<'_>| {
            // The last one was signed with until now. Older ones were replaced when the next was made.
            let kept = transaction.execute(
                "DELETE FROM keys WHERE ?1 OR (rowid < (SELECT max(rowid) FROM keys) AND
                    (SELECT min(next.made_s) FROM keys AS next WHERE next.rowid > keys.rowid) < ?2)",
                params![forget, signed(now_s.saturating_sub(KEY_KEPT_S))],
            );
            kept.step("forget keys")?;
            insert_key(transaction, now_s)
        };
        if forget { self.removal("keep a key", rotate) } else { self.change("keep a key", rotate) }
    }

    pub fn robots(&self) -> Result<Vec<Robot>, StoreError> {
        const STEP: &str = "read robots";
        let mut statement = self
            .connection
            .prepare("SELECT name, secret, made_s, expires_s, grants FROM robots ORDER BY name")
            .step(STEP)?;
        let rows = statement.query_map([], |row| {
            let expires: Option<i64> = row.get(3)?;
            Ok((
                row.get(0)?,
                row.get(1)?,
                unsigned(row.get(2)?),
                expires.map(unsigned),
                row.get::<_, String>(4)?,
            ))
        });
        let rows = rows.step(STEP)?.collect::<Result<Vec<_>, _>>().step(STEP)?;
        let read = |(name, secret, made_s, expires_s, grants): (String, [u8; 32], _, _, String)| {
            Robot::read(name.clone(), Fingerprint(secret), made_s, expires_s, &grants)
                .map_err(|why| StoreError::Robot { robot: name, why })
        };
        rows.into_iter().map(read).collect()
    }

    pub fn add_robot(&mut self, robot: &Robot) -> Result<(), StoreError> {
        const STEP: &str = "keep a robot";
        self.change(STEP, |transaction| {
            let added = transaction.execute(
                "INSERT INTO robots (name, secret, made_s, expires_s, grants) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                params![robot.name, robot.secret.0, signed(robot.made_s), robot.expires_s.map(signed), robot.grants_text()],
            );
            match added.step(STEP)? {
                0 => Err(StoreError::RobotExists(robot.name.clone())),
                _ => Ok(()),
            }
        })
    }

    /// Forgets a robot and its logins.
    pub fn remove_robot(&mut self, name: &str) -> Result<(), StoreError> {
        const STEP: &str = "forget a robot";
        self.removal(STEP, |transaction| {
            let identity = Identity::Robot(name.to_owned()).to_string();
            transaction.execute("DELETE FROM logins WHERE identity = ?", [identity]).step(STEP)?;
            match transaction.execute("DELETE FROM robots WHERE name = ?", [name]).step(STEP)? {
                0 => Err(StoreError::NoRobot(name.to_owned())),
                _ => Ok(()),
            }
        })
    }

    /// Keeps a login by its token's hash. `account` is what the identity's password was at the time: another one ends the login.
    /// Those not used since `oldest_s` go.
    pub fn add_login(
        &mut self,
        token: &Fingerprint,
        identity: &Identity,
        account: &Fingerprint,
        client: &str,
        now_s: u64,
        oldest_s: u64,
    ) -> Result<(), StoreError> {
        const STEP: &str = "keep a login";
        let identity = identity.to_string();
        self.change(STEP, |transaction| {
            transaction.execute("DELETE FROM logins WHERE used_s < ?", [signed(oldest_s)]).step(STEP)?;
            let surplus = "DELETE FROM logins WHERE token IN (SELECT token FROM logins WHERE identity = ?1 ORDER BY used_s DESC
                    LIMIT -1 OFFSET ?2)";
            transaction.execute(surplus, params![identity, LOGINS_MAX - 1]).step(STEP)?;
            let now = signed(now_s);
            let added = transaction.execute(
                "INSERT INTO logins (token, identity, account, client, made_s, used_s) VALUES (?, ?, ?, ?, ?, ?)",
                params![token.0, identity, account.0, client, now, now],
            );
            added.step(STEP).map(|_| ())
        })
    }

    /// Whose login a token is, with what their password was then; and notes the use.
    pub fn use_login(
        &mut self,
        token: &Fingerprint,
        now_s: u64,
        oldest_s: u64,
    ) -> Result<Option<(Identity, Fingerprint)>, StoreError> {
        const STEP: &str = "look for a login";
        let found = self.connection.query_row(
            "SELECT identity, account, used_s FROM logins WHERE token = ? AND used_s >= ?",
            params![token.0, signed(oldest_s)],
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, [u8; 32]>(1)?, unsigned(row.get(2)?))),
        );
        let Some((identity, account, used_s)) = found.optional().step(STEP)? else { return Ok(None) };
        if now_s.saturating_sub(used_s) > USE_NOTED_EVERY_S {
            let update = "UPDATE logins SET used_s = ? WHERE token = ?";
            // On a full disk people still get in.
            if let Err(error) = self.connection.execute(update, params![signed(now_s), token.0]) {
                tracing::warn!(%error, "note the use of a login");
            }
        }
        Ok(Identity::parse(&identity).map(|identity| (identity, Fingerprint(account))))
    }

    pub fn logins(&self) -> Result<Vec<Login>, StoreError> {
        const STEP: &str = "read logins";
        let mut statement = self
            .connection
            .prepare("SELECT identity, client, made_s, used_s FROM logins ORDER BY identity, made_s")
            .step(STEP)?;
        let rows = statement.query_map([], |row| {
            let (made_s, used_s) = (unsigned(row.get(2)?), unsigned(row.get(3)?));
            Ok(Login { identity: row.get(0)?, client: row.get(1)?, made_s, used_s })
        });
        rows.step(STEP)?.collect::<Result<_, _>>().step(STEP)
    }

    /// Ends the logins of one, or of all. Tells how many there were.
    pub fn remove_logins(&mut self, identity: Option<&Identity>) -> Result<usize, StoreError> {
        const STEP: &str = "forget logins";
        let identity = identity.map(ToString::to_string);
        self.removal(STEP, |transaction| {
            let forget = "DELETE FROM logins WHERE ?1 IS NULL OR identity = ?1";
            transaction.execute(forget, [&identity]).step(STEP)
        })
    }

    /// Keeps that a session has ended before its time. Of more than `count` the ones go that would have ended first.
    pub fn end_session(
        &mut self,
        session: &Fingerprint,
        ends_s: u64,
        now_s: u64,
        count: usize,
    ) -> Result<(), StoreError> {
        const STEP: &str = "keep that a session has ended";
        self.removal(STEP, |transaction| {
            transaction.execute("DELETE FROM ended WHERE ends_s <= ?", [signed(now_s)]).step(STEP)?;
            let keep = "INSERT INTO ended (session, ends_s) VALUES (?, ?) ON CONFLICT DO NOTHING";
            transaction.execute(keep, params![session.0, signed(ends_s)]).step(STEP)?;
            let surplus = "DELETE FROM ended WHERE session IN
                (SELECT session FROM ended ORDER BY ends_s DESC LIMIT -1 OFFSET ?)";
            transaction.execute(surplus, [i64::try_from(count).unwrap_or(i64::MAX)]).step(STEP).map(|_| ())
        })
    }

    /// Sessions that were ended before their time, and when that will have come.
    pub fn ended_sessions(&self, now_s: u64) -> Result<Vec<(Fingerprint, u64)>, StoreError> {
        const STEP: &str = "read which sessions have ended";
        let mut statement =
            self.connection.prepare("SELECT session, ends_s FROM ended WHERE ends_s > ?").step(STEP)?;
        let rows =
            statement.query_map([signed(now_s)], |row| Ok((Fingerprint(row.get(0)?), unsigned(row.get(1)?))));
        rows.step(STEP)?.collect::<Result<_, _>>().step(STEP)
    }
}

/// Opens the file, and brings its tables.
fn connect(data: &Path, path: &Path) -> Result<Connection, StoreError> {
    // Before SQLite makes it: it is never there for others to read. Its companions get the same mode.
    make(data, path).map_err(|source| StoreError::Make { path: path.to_owned(), source })?;
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    let mut connection = Connection::open(path).map_err(failed)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    // What is revoked stays so after a loss of power: `FULL`.
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;")
        .map_err(failed)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    match found {
        SCHEMA_VERSION => {}
        0 => transaction.execute_batch(SCHEMA).map_err(failed)?,
        _ => return Err(StoreError::TooNew { path: path.to_owned(), found }),
    }
    transaction.execute_batch(ENDED_SCHEMA).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    Ok(connection)
}

fn transact<T>(
    connection: &mut Connection,
    step: &'static str,
    change: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).step(step)?;
    let changed = change(&transaction)?;
    transaction.commit().step(step)?;
    Ok(changed)
}

/// Makes the file if it isn't there. Its owner is the directory's: root may make the first robot of a registry that runs as somebody else.
fn make(data: &Path, path: &Path) -> std::io::Result<()> {
    match OpenOptions::new().append(true).create_new(true).mode(0o600).open(path) {
        Ok(file) if rustix::process::geteuid().is_root() => {
            let directory = std::fs::metadata(data)?;
            std::os::unix::fs::fchown(&file, Some(directory.uid()), Some(directory.gid()))
        }
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn count_keys(transaction: &Transaction<'_>) -> Result<i64, StoreError> {
    transaction.query_row("SELECT count(*) FROM keys", [], |row| row.get(0)).step("read keys")
}

fn insert_key(transaction: &Transaction<'_>, now_s: u64) -> Result<(), StoreError> {
    let (key, pkcs8) = SigningKey::generate().ok_or(StoreError::Randomness)?;
    let insert = "INSERT INTO keys (id, made_s, pkcs8) VALUES (?, ?, ?)";
    transaction.execute(insert, params![key.id(), signed(now_s), pkcs8]).step("keep a key").map(|_| ())
}

/// SQLite's numbers have a sign.
fn signed(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn unsigned(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0)
}

#[cfg(test)]
mod tests;
