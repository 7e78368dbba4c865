//! Who may do what: deciding, and nothing else. Knows neither how somebody has proven who they are nor where rules are written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::pattern::Pattern;

/// What can be done with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    Read,
    Write,
    Delete,
    /// What concerns a repository as a whole; tokens call it `*`.
    Admin,
}

impl Action {
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Delete, Self::Admin];

    /// As rules have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Admin => "admin",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    /// As the scopes of tokens have it.
    pub fn scope_name(self) -> &'static str {
        match self {
            Self::Read => "pull",
            Self::Write => "push",
            Self::Delete => "delete",
            Self::Admin => "*",
        }
    }
}

/// Several of them.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Actions(u8);

impl Actions {
    pub const NONE: Self = Self(0);

    pub fn of(actions: impl IntoIterator<Item = Action>) -> Self {
        Self(actions.into_iter().fold(0, |bits, action| bits | 1 << action as u8))
    }

    pub fn contains(self, action: Action) -> bool {
        self.0 & 1 << action as u8 != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL.into_iter().filter(move |action| self.contains(*action))
    }

    pub fn and(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    pub fn or(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// With what is of no use without: who pushes or deletes looks first at what is there (clients ask for `pull` with either), and `admin` is all.
    pub fn with_implied(self) -> Self {
        let mut all = self;
        if self.contains(Action::Admin) {
            all = Self::of(Action::ALL);
        }
        if self.contains(Action::Write) || self.contains(Action::Delete) {
            all = all.or(Self::of([Action::Read]));
        }
        all
    }
}

impl fmt::Debug for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Who asks, proven.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Identity {
    Anonymous,
    /// By a password.
    User(String),
    Robot(String),
    /// By a client's certificate: its common name.
    Certificate(String),
}

impl Identity {
    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "anonymous" {
            return Some(Self::Anonymous);
        }
        let (kind, name) = text.split_once(':')?;
        match kind {
            _ if name.is_empty() => None,
            "user" => Some(Self::User(name.to_owned())),
            "robot" => Some(Self::Robot(name.to_owned())),
            "certificate" => Some(Self::Certificate(name.to_owned())),
            _ => None,
        }
    }

    fn user(&self) -> Option<&str> {
        match self {
            Self::User(name) => Some(name),
            _ => None,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::User(name) => write!(f, "user:{name}"),
            Self::Robot(name) => write!(f, "robot:{name}"),
            Self::Certificate(name) => write!(f, "certificate:{name}"),
        }
    }
}

/// Whom a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Everybody, known or not.
    Anonymous,
    /// Users and certificates. Not robots, which do what they were made for.
    Authenticated,
    Group(String),
    One(Identity),
}

impl Who {
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "anonymous" => Some(Self::Anonymous),
            None if text == "authenticated" => Some(Self::Authenticated),
            Some(("group", name)) if !name.is_empty() => Some(Self::Group(name.to_owned())),
            _ => Identity::parse(text).map(Self::One),
        }
    }
}

/// What may be done with which repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub repositories: Vec<Pattern>,
    pub may: Actions,
}

/// A grant, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub who: Vec<Who>,
    pub grant: Grant,
}

/// All rules. They only ever allow, so their order means nothing; what none allows is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub groups: BTreeMap<String, BTreeSet<Identity>>,
    pub rules: Vec<Rule>,
}

impl Policy {
    /// What somebody may do with a repository; `own` is what a robot was made for.
    pub fn allowed(&self, identity: &Identity, own: &[Grant], repository: &str) -> Actions {
        let user = identity.user();
        self.grants(identity, own)
            .filter(|grant| grant.repositories.iter().any(|pattern| pattern.matches(repository, user)))
            .fold(Actions::NONE, |all, grant| all.or(grant.may.with_implied()))
    }

    /// All that somebody may do, whatever the repository.
    pub fn grants<'a>(&'a self, identity: &'a Identity, own: &'a [Grant]) -> impl Iterator<Item = &'a Grant> {
        let rules = self.rules.iter().filter(|rule| self.concerns(rule, identity));
        rules.map(|rule| &rule.grant).chain(own)
    }

    /// Whether there is anything at all that somebody may do.
    pub fn knows(&self, identity: &Identity, own: &[Grant]) -> bool {
        !own.is_empty() || self.rules.iter().any(|rule| self.concerns(rule, identity))
    }

    fn concerns(&self, rule: &Rule, identity: &Identity) -> bool {
        rule.who.iter().any(|who| match who {
            Who::Anonymous => true,
            Who::Authenticated => matches!(identity, Identity::User(_) | Identity::Certificate(_)),
            Who::Group(name) => self.groups.get(name).is_some_and(|members| members.contains(identity)),
            Who::One(one) => one == identity,
        })
    }
}

#[cfg(test)]
mod tests;
