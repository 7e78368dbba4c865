//! Who may do what at the registry. The server asks [`Access::admit`] before it does anything, with what it knows of the request; it gets
//! an [`Admission`], or a [`Refusal`] ready to be sent. [`Access::token`] answers clients who want a token.
//!
//! `visitor` reads what is shown, `accounts` knows who there is (`htpasswd`, and `store` with robots, logins and keys), `passwords` and
//! `throttle` verify, `token` and `service` give tokens, `session` lets browsers in, `policy` decides, `audit` notes it; docs/registry-access.md. Knows nothing of
//! blobs, manifests and how they are stored.

mod accounts;
mod audit;
mod clock;
mod config;
mod form;
pub mod htpasswd;
mod passwords;
mod pattern;
mod policy;
mod refusal;
pub mod robot;
mod scope;
mod secret;
mod service;
mod session;
mod signature;
pub mod store;
mod subject;
mod throttle;
pub mod tls;
mod token;
mod visitor;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use audit::Entry;
pub use clock::now_s;
pub use config::{AccessConfig, AuditConfig, Challenge, ConfigError, RuleConfig, TokenConfig};
pub use pattern::{Pattern, is_like};
pub use policy::{Action, Actions, Identity};
pub use refusal::{Reason, Refusal};
pub use service::BODY_BYTES_MAX;
pub use session::{Account, LIFETIME_S as SESSION_LIFETIME_S};
pub use visitor::Visitor;

use accounts::{Accounts, Known};
use audit::Audit;
use config::TokenSettings;
use htpasswd::HtpasswdError;
use passwords::{Passwords, Verdict};
use policy::{Grant, Policy};
use refusal::Demand;
use robot::Robot;
use scope::Scope;
use secret::Fingerprint;
use store::StoreError;
use token::Verified;
use visitor::Shown;

/// As Docker's hub says it.
const WRONG: &str = "incorrect username or password";
/// How old what is known of files may be.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// `/v2/`: whether one is known.
    Ping,
    Catalogue,
    Repository {
        action: Action,
        name: &'a str,
    },
}

impl Wanted<'_> {
    /// As the scopes of tokens name it: what a token has to be for, and what of it is enough for the usual client (who pushes or
    /// deletes looks first).
    fn scope(self) -> Option<String> {
        match self {
            Self::Ping => None,
            Self::Catalogue => Some(format!("registry:catalog:{}", self.scope_actions())),
            Self::Repository { name, .. } => Some(format!("repository:{name}:{}", self.scope_actions())),
        }
    }

    fn scope_actions(self) -> &'static str {
        match self {
            Self::Ping => "",
            Self::Catalogue => "*",
            Self::Repository { action, .. } => match action {
                Action::Read => "pull",
                Action::Write => "pull,push",
                Action::Delete => "pull,delete",
                Action::Admin => "*",
            },
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Htpasswd(#[from] HtpasswdError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot write the audit log: {0}")]
    Audit(std::io::Error),
    #[error("the system gives no random numbers")]
    Randomness,
}

/// An error with all that it stems from.
pub fn explained(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        // What is transparent says its source's words.
        let words = error.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        source = error.source();
    }
    text
}

/// Who may do what.
pub struct Access {
    policy: Arc<Policy>,
    accounts: Arc<Accounts>,
    passwords: Arc<Passwords>,
    verified: Verified,
    /// Apart from `verified`: what is remembered there isn't asked again whom it is for.
    sessions: Verified,
    ended: Arc<session::Ended>,
    challenge: Challenge,
    token: TokenSettings,
    proxies: Vec<IpNet>,
    audit: Option<(AuditConfig, Arc<Audit>)>,
}

/// Somebody who was let in, and what they may do.
#[derive(Clone)]
pub struct Admission {
    asker: Asker,
    policy: Arc<Policy>,
}

/// What decides what somebody sees, as far as it can be compared.
#[derive(Clone)]
pub struct Standing {
    identity: Identity,
    policy: Arc<Policy>,
    robot: Option<Arc<Robot>>,
}

impl PartialEq for Standing {
    fn eq(&self, other: &Self) -> bool {
        let robot = match (&self.robot, &other.robot) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        self.identity == other.identity && Arc::ptr_eq(&self.policy, &other.policy) && robot
    }
}

/// Hides who may do what.
impl std::fmt::Debug for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Standing({})", self.identity)
    }
}

/// Who asks, proven.
#[derive(Clone)]
struct Asker {
    identity: Identity,
    /// What their password or secret was when they proved it: what is given to them holds as long as it does.
    account: Option<Fingerprint>,
    /// With what it was made for.
    robot: Option<Arc<Robot>>,
    /// What the token is for that they showed, if it is one.
    scope: Option<Arc<Scope>>,
}

impl Asker {
    fn new(identity: Identity) -> Self {
        Self { identity, account: None, robot: None, scope: None }
    }

    fn own(&self) -> &[Grant] {
        self.robot.as_ref().map_or(&[], |robot| robot.meaning())
    }
}

impl Admission {
    pub fn identity(&self) -> &Identity {
        &self.asker.identity
    }

    pub fn standing(&self) -> Standing {
        let Asker { identity, robot, .. } = self.asker.clone();
        Standing { identity, policy: self.policy.clone(), robot }
    }

    /// Whether they may do something else as well: read the repository that a blob is mounted from, see a repository in the catalogue.
    pub fn may(&self, action: Action, repository: &str) -> bool {
        let within = self.asker.scope.as_ref().is_none_or(|scope| scope.allows(action, repository));
        within && self.allowed(action, repository)
    }

    /// Whether a repository is in their catalogue. A token for the catalogue shows all that its owner may read.
    pub fn sees(&self, repository: &str) -> bool {
        self.allowed(Action::Read, repository)
    }

    fn allowed(&self, action: Action, repository: &str) -> bool {
        self.policy.allowed(&self.asker.identity, self.asker.own(), repository).contains(action)
    }
}

impl Access {
    /// Reads the files that a configuration names, and opens `access.db` in the registry's data directory.
    pub fn open(config: &AccessConfig, data: &Path) -> Result<Self, AccessError> {
        Self::open_looking(config, data, LOOK_EVERY, None)
    }

    /// As `open`, in place of an earlier one: goes on with what of that still holds, so that those who guess don't begin anew, and no
    /// file is written by two.
    pub fn open_after(config: &AccessConfig, data: &Path, earlier: &Access) -> Result<Self, AccessError> {
        Self::open_looking(config, data, LOOK_EVERY, Some(earlier))
    }

    fn open_looking(
        config: &AccessConfig,
        data: &Path,
        look_every: Duration,
        earlier: Option<&Access>,
    ) -> Result<Self, AccessError> {
        let (token, audit) = (config.token.settings()?, config.audit()?);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let (policy, proxies) = (Arc::new(config.policy()?), config.networks()?);
        let accounts =
            match earlier.filter(|earlier| earlier.accounts.htpasswd() == config.htpasswd.as_deref()) {
                Some(earlier) => earlier.accounts.clone(),
                None => Arc::new(Accounts::open(config.htpasswd.clone(), data, look_every)?),
            };
        Ok(Self {
            policy,
            passwords: match earlier {
                Some(earlier) => earlier.passwords.clone(),
                // Half of them stay for those who are in.
                None => {
                    Arc::new(Passwords::new((processors / 2).max(1)).map_err(|_| AccessError::Randomness)?)
                }
            },
            verified: Verified::new().ok_or(AccessError::Randomness)?,
            sessions: Verified::new().ok_or(AccessError::Randomness)?,
            ended: match earlier {
                Some(earlier) => earlier.ended.clone(),
                None => Arc::new(session::Ended::new(accounts.ended_sessions()?)),
            },
            accounts,
            challenge: config.challenge,
            token,
            proxies,
            audit: audit.map(|wanted| open_audit(wanted, earlier)).transpose().map_err(AccessError::Audit)?,
        })
    }

    /// Whether a request may go on.
    pub async fn admit(&self, visitor: &Visitor<'_>, wanted: Wanted<'_>) -> Result<Admission, Refusal> {
        let refused = |reason, who| Refusal::new(reason, who, &self.demand(visitor), wanted);
        let known = self.accounts.known().await;
        let asker = match self.authenticate(visitor, &known).await {
            Ok(asker) => asker,
            Err(reason) => return Err(refused(reason, Shown::read(visitor.headers).claimed())),
        };
        let admission = Admission { asker, policy: self.policy.clone() };
        match self.decide(&admission, wanted) {
            None => Ok(admission),
            Some(reason) => Err(refused(reason, admission.identity().to_string())),
        }
    }

    fn decide(&self, admission: &Admission, wanted: Wanted<'_>) -> Option<Reason> {
        let asker = &admission.asker;
        let stranger = asker.identity == Identity::Anonymous;
        // What rules allow, and whether the token is for it.
        let (allowed, within) = match (wanted, &asker.scope) {
            // Clients learn here what they have to show, even if strangers may do what they are after: a stranger's token is enough.
            (Wanted::Ping, scope) => (!stranger || scope.is_some(), true),
            // A list of what strangers may see would be the wrong answer for somebody who waits to be asked who they are.
            (Wanted::Catalogue, None) if stranger && self.challenge == Challenge::Bearer => (false, true),
            (Wanted::Catalogue, scope) => {
                let within = scope.as_ref().is_none_or(|scope| scope.catalogue);
                (self.policy.knows(&asker.identity, asker.own()), within)
            }
            (Wanted::Repository { action, name }, scope) => {
                let within = scope.as_ref().is_none_or(|scope| scope.allows(action, name));
                (admission.allowed(action, name), within)
            }
        };
        match (allowed, within, stranger) {
            (true, true, _) => None,
            (true, false, _) => Some(Reason::Scope),
            (false, _, true) => Some(Reason::Stranger),
            (false, _, false) => Some(Reason::Denied),
        }
    }

    async fn authenticate(&self, visitor: &Visitor<'_>, known: &Arc<Known>) -> Result<Asker, Reason> {
        match Shown::read(visitor.headers) {
            Shown::Nothing => Ok(Asker::new(match visitor.certificate {
                Some(name) => Identity::Certificate(name.to_owned()),
                None => Identity::Anonymous,
            })),
            Shown::Password { name, password } => self.by_password(visitor, known, &name, &password).await,
            Shown::Token(token) => self.by_token(visitor, known, &token),
            Shown::Unreadable(why) => Err(Reason::Wrong(why.to_owned())),
        }
    }

    async fn by_password(
        &self,
        visitor: &Visitor<'_>,
        known: &Arc<Known>,
        name: &str,
        password: &str,
    ) -> Result<Asker, Reason> {
        if htpasswd::check_name(name).is_err() && !name.starts_with(htpasswd::ROBOT) {
            // Nobody is called so, which is no secret.
            return Err(self.wrong(visitor, "", WRONG));
        }
        match name.strip_prefix(htpasswd::ROBOT) {
            Some(robot) => {
                let identity = Identity::Robot(robot.to_owned());
                let secret = |known: &Known| {
                    known.robots.get(robot).map(|robot| robot.secret).filter(|secret| secret.is_of(password))
                };
                if let Some(secret) = secret(known) {
                    return self.standing(known, identity, secret, now_s());
                }
                let newer = self.accounts.newer(known).await;
                match newer.and_then(|known| Some((secret(&known)?, known))) {
                    Some((secret, known)) => self.standing(&known, identity, secret, now_s()),
                    None => Err(self.wrong(visitor, name, WRONG)),
                }
            }
            None => {
                let mut known = known.clone();
                let remembered = |known: &Known| {
                    self.passwords.remembers(name, &known.users.get_or_nobody(name), password)
                };
                // Whoever was added just before is known, too. It is looked for everybody, so that nobody can tell by the time that
                // it takes who there is.
                if !remembered(&known)
                    && let Some(newer) = self.accounts.newer(&known).await
                {
                    known = newer;
                }
                let hash = known.users.get_or_nobody(name);
                let account = Fingerprint::of(hash.as_bytes());
                match self.passwords.verify(visitor.origin(&self.proxies), name, hash, password).await {
                    Verdict::Right => {
                        self.standing(&known, Identity::User(name.to_owned()), account, now_s())
                    }
                    Verdict::Wrong => Err(Reason::Wrong(WRONG.to_owned())),
                    Verdict::Later { retry_after_s } => Err(Reason::Later { retry_after_s }),
                }
            }
        }
    }

    fn by_token(&self, visitor: &Visitor<'_>, known: &Known, text: &str) -> Result<Asker, Reason> {
        let now = now_s();
        let token =
            self.verified.verify(text, &known.keys, &self.token.service, now).map_err(Reason::Token)?;
        let asker = match token.identity {
            Identity::Anonymous => Asker::new(Identity::Anonymous),
            // It is worth nothing without the certificate that it was given for.
            Identity::Certificate(name) if visitor.certificate == Some(name.as_str()) => {
                Asker::new(Identity::Certificate(name))
            }
            Identity::Certificate(_) => {
                return Err(Reason::Token("the token is for the owner of a certificate"));
            }
            // Whoever was removed, or has another password, is out at once.
            identity => match token.account {
                Some(account) if known.account(&identity) == Some(account) => {
                    self.standing(known, identity, account, now)?
                }
                _ => return Err(Reason::Token("the token's owner is not known any more; log in again")),
            },
        };
        Ok(Asker { scope: Some(token.scope), ..asker })
    }

    /// Who is known by name; a robot only before its end.
    fn standing(
        &self,
        known: &Known,
        identity: Identity,
        account: Fingerprint,
        now_s: u64,
    ) -> Result<Asker, Reason> {
        let robot = match &identity {
            Identity::Robot(name) => known.robots.get(name).cloned(),
            _ => None,
        };
        if let Some(robot) = robot.as_ref().filter(|robot| robot.is_expired(now_s)) {
            let end = robot.expires_s.and_then(|end| i64::try_from(end).ok());
            let end = end.and_then(|end| jiff::Timestamp::from_second(end).ok()).unwrap_or_default();
            let name = &robot.name;
            return Err(Reason::Wrong(format!(
                "the robot account {name} has expired on {end}; make a new one"
            )));
        }
        Ok(Asker { account: Some(account), robot, ..Asker::new(identity) })
    }

    /// Refuses a secret that nobody can guess, unless they try too often.
    fn wrong(&self, visitor: &Visitor<'_>, name: &str, why: &str) -> Reason {
        match self.passwords.count_failure(visitor.origin(&self.proxies), name) {
            Verdict::Later { retry_after_s } => Reason::Later { retry_after_s },
            _ => Reason::Wrong(why.to_owned()),
        }
    }

    /// What this visitor is asked to show.
    fn demand(&self, visitor: &Visitor<'_>) -> Demand<'_> {
        let service = &self.token.service;
        let realm = self.token.realm.clone();
        let realm = realm.or_else(|| visitor.base_url(&self.proxies).map(|url| format!("{url}/token")));
        match (self.challenge, realm) {
            (Challenge::Bearer, Some(realm)) => Demand::Bearer { realm, service },
            // Without a host in the request there is no telling where tokens are.
            (Challenge::Basic, _) | (_, None) => Demand::Basic { realm: service },
        }
    }

    /// Writes something into the audit log, if there is one.
    pub fn note(&self, visitor: &Visitor<'_>, entry: &Entry<'_>) {
        if let Some((_, audit)) = &self.audit {
            audit.note(visitor.request_id, visitor.origin(&self.proxies), entry);
        }
    }

    /// Writes down something that the registry does of itself.
    pub fn note_own(&self, entry: &Entry<'_>) {
        if let Some((_, audit)) = &self.audit {
            audit.note_own(entry);
        }
    }

    /// The same for who was refused; `proven`: they are who they say.
    pub fn note_refusal(&self, visitor: &Visitor<'_>, entry: &Entry<'_>, proven: bool) {
        if let Some((_, audit)) = &self.audit {
            audit.note_refusal(visitor.request_id, visitor.origin(&self.proxies), entry, proven);
        }
    }

    /// Whether pulls are to be noted.
    pub fn notes_pulls(&self) -> bool {
        self.audit.as_ref().is_some_and(|(config, _)| config.pulls)
    }
}

/// The audit log, which goes on where it is written in the same way.
fn open_audit(wanted: &AuditConfig, earlier: Option<&Access>) -> std::io::Result<(AuditConfig, Arc<Audit>)> {
    let earlier = earlier.and_then(|earlier| earlier.audit.as_ref());
    let audit = match earlier
        .filter(|(config, _)| AuditConfig { pulls: wanted.pulls, ..config.clone() } == *wanted)
    {
        Some((_, audit)) => audit.clone(),
        None => Arc::new(Audit::open(wanted)?),
    };
    Ok((wanted.clone(), audit))
}

#[cfg(test)]
mod tests;
