//! Signing in with a browser: a session is a token of our own that only pages take, kept in a cookie. It ends after some hours, when
//! its owner signs out, is removed or has another password, and when the keys are forgotten that it was signed with. Knows nothing of
//! pages and cookies.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::audit::Entry;
use super::clock::now_s;
use super::policy::{Action, Actions, Grant, Identity};
use super::refusal::Reason;
use super::robot::Robot;
use super::scope::Scope;
use super::secret::Fingerprint;
use super::token::Token;
use super::visitor::{Shown, Visitor};
use super::{Access, Admission, Asker};

/// A working day.
pub const LIFETIME_S: u64 = 8 * 3600;
/// Sessions that were ended before their time. Beyond these, the ones that would have ended first are forgotten.
const ENDED_MAX: usize = 4096;

/// Sessions whose owners have signed out, until they would have ended anyway. The store has them, too, for after a restart.
#[derive(Default)]
pub struct Ended(Mutex<HashMap<[u8; 32], u64>>);

impl Ended {
    pub(super) fn new(ended: Vec<(Fingerprint, u64)>) -> Ended {
        Ended(Mutex::new(ended.into_iter().map(|(session, ends_s)| (session.0, ends_s)).collect()))
    }

    fn add(&self, session: Fingerprint, now_s: u64) {
        let mut ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.len() >= ENDED_MAX {
            ended.retain(|_, end| *end > now_s);
        }
        if ended.len() >= ENDED_MAX
            && let Some(first) = ended.iter().min_by_key(|(_, end)| **end).map(|(print, _)| *print)
        {
            ended.remove(&first);
        }
        ended.insert(session.0, now_s + LIFETIME_S);
    }

    fn has(&self, session: &str) -> bool {
        let ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !ended.is_empty() && ended.contains_key(&Fingerprint::of(session.as_bytes()).0)
    }
}

/// What somebody is told of themselves.
pub struct Account {
    pub identity: Identity,
    /// Patterns of repositories, and what they may do there.
    pub grants: Vec<(Vec<String>, Actions)>,
    /// The robot that they are.
    pub robot: Option<Arc<Robot>>,
    /// All robots, for who may do anything with any repository.
    pub robots: Option<Vec<Arc<Robot>>>,
}

impl Access {
    /// Lets somebody look at pages, by what their request shows or by a session; refuses what is wrong, but for a session that has
    /// ended: then they are strangers.
    pub async fn visit(&self, visitor: &Visitor<'_>, session: Option<&str>) -> Result<Admission, Reason> {
        let known = self.accounts.known().await;
        let asker = match (Shown::read(visitor.headers), session) {
            (Shown::Token(_), _) => Err(Reason::Token("pages take a password, and no token")),
            (Shown::Nothing, Some(session)) => match self.by_session(&known, session) {
                Some(asker) => Ok(asker),
                None => self.authenticate(visitor, &known).await,
            },
            _ => self.authenticate(visitor, &known).await,
        };
        match asker {
            Ok(asker) => Ok(Admission { asker, policy: self.policy.clone() }),
            Err(reason) => {
                self.note_failed_login(visitor, &Shown::read(visitor.headers).claimed(), &reason);
                Err(reason)
            }
        }
    }

    fn by_session(&self, known: &super::Known, session: &str) -> Option<Asker> {
        let now = now_s();
        let token = self.sessions.verify(session, &known.keys, &self.pages(), now).ok()?;
        let account = token.account?;
        if self.ended.has(session) || known.account(&token.identity) != Some(account) {
            return None;
        }
        self.standing(known, token.identity, account, now).ok()
    }

    /// A session for who has the password.
    pub async fn sign_in(&self, visitor: &Visitor<'_>, name: &str, password: &str) -> Result<String, Reason> {
        let known = self.accounts.known().await;
        let signed = match self.by_password(visitor, &known, name, password).await {
            Ok(asker) => {
                let (identity, account) = (asker.identity, asker.account);
                let token = Token { identity, account, scope: Arc::new(Scope::default()) };
                let signed = token.sign(&known.keys, &self.pages(), now_s(), LIFETIME_S);
                signed.map(|session| (session, token.identity)).ok_or(Reason::Unavailable)
            }
            Err(reason) => Err(reason),
        };
        match signed {
            Ok((session, identity)) => {
                let who = identity.to_string();
                self.note(visitor, &Entry { action: "login", who: &who, status: 200, ..Entry::default() });
                Ok(session)
            }
            Err(reason) => {
                self.note_failed_login(visitor, name, &reason);
                Err(reason)
            }
        }
    }

    /// Ends a session. What is none isn't remembered, so that nobody can make others' ends be forgotten.
    pub async fn sign_out(&self, session: &str) {
        let known = self.accounts.known().await;
        if self.by_session(&known, session).is_none() {
            return;
        }
        let (session, now) = (Fingerprint::of(session.as_bytes()), now_s());
        self.ended.add(session, now);
        let kept = self
            .accounts
            .with_store(move |store| store.end_session(&session, now + LIFETIME_S, now, ENDED_MAX));
        if let Err(error) = kept.await {
            tracing::error!("{}; a restart would let who has signed out in again", super::explained(&error));
        }
    }

    /// The URL under which a visitor knows us; it also says whether their own connection is encrypted.
    pub fn base_url(&self, visitor: &Visitor<'_>) -> Option<String> {
        visitor.base_url(&self.proxies)
    }

    pub async fn account(&self, admission: &Admission) -> Account {
        let asker = &admission.asker;
        let own = asker.own();
        let grants: Vec<&Grant> = admission.policy.grants(&asker.identity, own).collect();
        let everything = |grant: &&Grant| {
            grant.may.contains(Action::Admin)
                && grant.repositories.iter().any(|pattern| pattern.to_string() == "**")
        };
        let robots = match grants.iter().any(everything) {
            true => {
                let mut robots: Vec<_> = self.accounts.known().await.robots.values().cloned().collect();
                robots.sort_by(|a, b| a.name.cmp(&b.name));
                Some(robots)
            }
            false => None,
        };
        let told = grants.iter().map(|grant| {
            let patterns = grant.repositories.iter().map(ToString::to_string).collect();
            (patterns, grant.may.with_implied())
        });
        let (identity, robot) = (asker.identity.clone(), asker.robot.clone());
        Account { identity, grants: told.collect(), robot, robots }
    }

    /// Whom sessions are for: no service is called so, as it has a blank in it. So no session is taken for a token of the API's, nor
    /// the reverse.
    fn pages(&self) -> String {
        format!("{} pages", self.token.service)
    }

    fn note_failed_login(&self, visitor: &Visitor<'_>, who: &str, reason: &Reason) {
        let (status, why) = (reason.status().as_u16(), Some(reason.message()));
        self.note_refusal(visitor, &Entry { action: "login", who, status, why, ..Entry::default() }, false);
    }
}

#[cfg(test)]
mod tests;
