//! The file of users and their passwords: `NAME:HASH` a line, as Apache's `htpasswd -B` writes it. Only bcrypt is taken: other
//! hashes are broken or too quick to guess. Reading and changing; verifying is `passwords`.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bcrypt::HashParts;

/// What a login may cost at most: some 4 s of a processor.
const COST_MAX: u32 = 16;
/// What new passwords cost: some 60 ms. The usual default of others, 12, is four times that for each login.
const COST_NEW: u32 = 10;
/// Larger files are a mistake, and are not read.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// bcrypt reads no more of a password.
const PASSWORD_BYTES_MAX: usize = 72;

/// A password's hash. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash {
    text: String,
    pub cost: u32,
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash(cost {})", self.cost)
    }
}

impl Hash {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if !["$2y$", "$2a$", "$2b$"].iter().any(|known| text.starts_with(known)) {
            return Err(kind_of(text));
        }
        let parts = HashParts::from_str(text).map_err(|_| "its bcrypt hash is damaged")?;
        match parts.get_cost() {
            4..=COST_MAX => Ok(Self { text: text.to_owned(), cost: parts.get_cost() }),
            0..=3 => Err("its bcrypt hash has a cost below 4"),
            _ => Err("its bcrypt hash has a cost above 16, which takes minutes"),
        }
    }

    /// One that no password has, for users who don't exist: finding that out takes as long.
    pub fn of_nobody(cost: u32) -> Self {
        Self { text: format!("$2y${cost:02}$......................{}", ".".repeat(31)), cost }
    }

    /// Whether a password has this hash. Takes as long as `cost` says; not for threads that others wait for.
    pub fn verify(&self, password: &str) -> bool {
        // A zero byte ends a password for other programs: "a" would be right where "a\0b" was meant.
        !password.contains('\0') && bcrypt::verify(password, &self.text).unwrap_or(false)
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

fn kind_of(hash: &str) -> &'static str {
    match hash {
        _ if hash.starts_with("$apr1$") || hash.starts_with("$1$") => {
            "its password is hashed by MD5; only bcrypt is taken"
        }
        _ if hash.starts_with("{SHA}") => "its password is hashed by SHA-1; only bcrypt is taken",
        _ if hash.starts_with("$5$") => "its password is hashed by SHA-256; only bcrypt is taken",
        _ if hash.starts_with("$6$") => "its password is hashed by SHA-512; only bcrypt is taken",
        _ if hash.starts_with("$2x$") => {
            "its password is hashed by a broken bcrypt ($2x$); only $2y$, $2a$ and $2b$ are taken"
        }
        _ if hash.starts_with("$2") => "its bcrypt hash is damaged",
        _ => "its password is hashed by no way that is known here, or not at all; only bcrypt is taken",
    }
}

/// Users by name.
#[derive(Clone, Debug, Default)]
pub struct Users {
    hashes: HashMap<String, Hash>,
    /// What finding out that there is no such user shall cost: what most users' passwords do.
    cost_usual: u32,
}

/// A line that can't be used: nobody can log in by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    pub line: usize,
    pub user: String,
    pub why: &'static str,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: user {:?} can't log in: {}", self.line, self.user, self.why)
    }
}

impl Users {
    /// Reads a file's text. The first line of a name counts, as with others.
    pub fn parse(text: &str) -> (Self, Vec<Unusable>) {
        let (mut hashes, mut unusable): (HashMap<String, Hash>, _) = (HashMap::new(), Vec::new());
        let mut costs = [0usize; COST_MAX as usize + 1];
        for (at, line) in text.lines().enumerate() {
            let line = line.trim_end_matches(['\r', ' ', '\t']);
            if line.trim_start().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            let (user, hash) = line.split_once(':').unwrap_or((line, ""));
            let why = match (check_name(user), Hash::parse(hash)) {
                (Err(why), _) | (_, Err(why)) => why,
                _ if hashes.contains_key(user) => "an earlier line is about the same user",
                (Ok(()), Ok(hash)) => {
                    costs[hash.cost as usize] += 1;
                    hashes.insert(user.to_owned(), hash);
                    continue;
                }
            };
            // A line without a colon may be anything, a password even.
            let user = if line.contains(':') { user.chars().take(128).collect() } else { String::new() };
            unusable.push(Unusable { line: at + 1, user, why });
        }
        let usual = (4..=COST_MAX).max_by_key(|cost| costs[*cost as usize]).filter(|_| !hashes.is_empty());
        (Self { hashes, cost_usual: usual.unwrap_or(COST_NEW) }, unusable)
    }

    pub fn get(&self, user: &str) -> Option<&Hash> {
        self.hashes.get(user)
    }

    /// A user's hash, or one as dear that nothing fits.
    pub fn get_or_nobody(&self, user: &str) -> Hash {
        self.get(user).cloned().unwrap_or_else(|| Hash::of_nobody(self.cost_usual.max(4)))
    }
}

/// The names of robots begin so, at a login.
pub const ROBOT: &str = "robot+";

/// Whether somebody can be called so. (With a colon nobody can: RFC 7617, section 2.)
pub fn check_name(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("the name is empty"),
        _ if name.len() > 128 => Err("the name has more than 128 characters"),
        _ if name.starts_with(ROBOT) => Err("names that begin with robot+ are those of robots"),
        _ if name.starts_with('#') => Err("a name can't begin with #"),
        _ if name.contains(':') => Err("a name can't have a colon in it"),
        _ if name.chars().any(|c| c.is_control() || c.is_whitespace()) => {
            Err("a name can't have blanks or control characters in it")
        }
        _ => Ok(()),
    }
}

#[derive(Debug, thiserror::Error)]
pub enum HtpasswdError {
    #[error("cannot {step} {path}")]
    Io { step: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} has more than 16 MiB: that is no file of passwords")]
    TooLarge { path: PathBuf },
    #[error("user {user:?}: {why}")]
    Name { user: String, why: &'static str },
    #[error("the password of {user:?}: {why}")]
    Password { user: String, why: &'static str },
    #[error("there is no user {user:?} in {path}")]
    NoUser { user: String, path: PathBuf },
}

/// What tells whether a file has changed: replaced files have another number, written ones another time or size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    bytes: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl Stamp {
    pub fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::from(&metadata))
    }

    fn from(metadata: &fs::Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Self {
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Reads the file.
pub fn read(path: &Path) -> Result<(Users, Vec<Unusable>), HtpasswdError> {
    Ok(Users::parse(&text_of(path)?))
}

fn text_of(path: &Path) -> Result<String, HtpasswdError> {
    let failed = |source| HtpasswdError::Io { step: "read", path: path.into(), source };
    if fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(HtpasswdError::TooLarge { path: path.into() });
    }
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).map_err(failed)
}

/// Names in the file, in its order.
pub fn names(path: &Path) -> Result<Vec<String>, HtpasswdError> {
    let text = text_of(path)?;
    let users = Users::parse(&text).0;
    let mut names: Vec<String> = Vec::new();
    for (name, _) in text.lines().filter_map(|line| line.split_once(':')) {
        if users.get(name).is_some() && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Gives a user a password; makes user and file if need be. Tells whether the user is new.
pub fn set(path: &Path, user: &str, password: &str) -> Result<bool, HtpasswdError> {
    check_name(user).map_err(|why| HtpasswdError::Name { user: user.to_owned(), why })?;
    let refused = |why| HtpasswdError::Password { user: user.to_owned(), why };
    match password {
        "" => return Err(refused("it is empty")),
        _ if password.len() > PASSWORD_BYTES_MAX => {
            return Err(refused("it has more than 72 bytes, and bcrypt would pass over the rest"));
        }
        _ if password.contains('\0') => return Err(refused("it has a zero byte in it")),
        _ => {}
    }
    let parts =
        bcrypt::hash_with_result(password, COST_NEW).map_err(|_| refused("there is no randomness"))?;
    // As htpasswd -B writes it: what else reads the file knows it.
    let line = format!("{user}:{}", parts.format_for_version(bcrypt::Version::TwoY));
    let mut new = true;
    change(path, true, |lines| {
        new = !lines.iter().any(|line| is_of(line, user));
        match lines.iter().position(|line| is_of(line, user)) {
            Some(at) => lines[at] = line,
            None => lines.push(line),
        }
        Ok(())
    })?;
    Ok(new)
}

/// Forgets a user.
pub fn remove(path: &Path, user: &str) -> Result<(), HtpasswdError> {
    let removed = change(path, false, |lines| {
        let before = lines.len();
        lines.retain(|line| !is_of(line, user));
        match lines.len() < before {
            true => Ok(()),
            false => Err(HtpasswdError::NoUser { user: user.to_owned(), path: path.into() }),
        }
    });
    match removed {
        Err(HtpasswdError::Io { source, .. }) if is_full(&source) => blot_out(path, user),
        removed => removed,
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Makes a comment of a user's lines where they stand: on a full disk there is no room for another file, and whoever is to be kept
/// out has to be. From the line's beginning, so that a half of it lets nobody in, either.
fn blot_out(path: &Path, user: &str) -> Result<(), HtpasswdError> {
    use std::os::unix::fs::FileExt;
    let failed = |step: &'static str| move |source| HtpasswdError::Io { step, path: path.to_owned(), source };
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let _lock = lock_beside(path)?;
    let text = text_of(path)?;
    let file = OpenOptions::new().write(true).open(path).map_err(failed("write"))?;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if is_of(line, user) {
            let signs = "#".repeat(line.trim_end_matches(['\n', '\r']).len());
            file.write_all_at(signs.as_bytes(), at).map_err(failed("write"))?;
        }
        at += line.len() as u64;
    }
    file.sync_all().map_err(failed("write"))
}

fn is_of(line: &str, user: &str) -> bool {
    line.split_once(':').is_some_and(|(name, _)| name == user)
}

/// The directory is what is locked: the file itself is replaced.
fn lock_beside(path: &Path) -> Result<File, HtpasswdError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed =
        |step: &'static str| move |source| HtpasswdError::Io { step, path: directory.to_owned(), source };
    let lock = File::open(directory).map_err(failed("open"))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
        .map_err(|error| failed("lock")(error.into()))?;
    Ok(lock)
}

/// Changes the file's lines: all of the change is there or nothing of it, whatever happens. Who changes it at the same time waits.
fn change(
    path: &Path,
    make: bool,
    edit: impl FnOnce(&mut Vec<String>) -> Result<(), HtpasswdError>,
) -> Result<(), HtpasswdError> {
    let failed = |step: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| HtpasswdError::Io { step, path, source }
    };
    // A link stays one: what it leads to is replaced.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let lock = lock_beside(path)?;
    let (text, old) = match fs::metadata(path) {
        Ok(metadata) => (text_of(path)?, Some(metadata)),
        Err(error) if make && error.kind() == io::ErrorKind::NotFound => (String::new(), None),
        Err(error) => return Err(failed("read", path)(error)),
    };
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    edit(&mut lines)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    // What a crash has left there is nobody's.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &new)(error)),
        _ => {}
    }
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        if let Some(old) = &old {
            // The registry may run as somebody else, by whose rights it reads the file: they stay as they are.
            std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
            file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o660))?;
        }
        file.write_all((lines.join("\n") + "\n").as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        lock.sync_all()
    })();
    written.map_err(|error| {
        let _ = fs::remove_file(&new);
        failed("write", path)(error)
    })
}

#[cfg(test)]
mod tests;
