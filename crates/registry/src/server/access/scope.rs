//! What a token is for: scopes as clients ask for them (`repository:NAME:pull,push`, `registry:catalog:*`), cut to what policy grants, and
//! as they stand in tokens. Docker's "Token Scope Documentation". Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::policy::{Action, Actions};

/// What one request may ask for; more is passed over.
const SCOPES_MAX: usize = 32;
const NAME_MAX: usize = 255;

/// What somebody asks for, or is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    pub repositories: BTreeMap<String, Actions>,
    /// The list of repositories.
    pub catalogue: bool,
}

/// An entry of the claim `access`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessEntry {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

impl Scope {
    /// Reads scopes, several in a text or not. What can't be read, or isn't known here, isn't given either: that is no error.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut scope = Self::default();
        let scopes = texts.into_iter().flat_map(|text| text.split(' ')).filter(|text| !text.is_empty());
        for text in scopes.take(SCOPES_MAX) {
            scope.add(text);
        }
        scope
    }

    fn add(&mut self, text: &str) -> Option<()> {
        let (kind, rest) = text.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        // `repository(plugin)`: what kind of thing is in it. Here it makes no difference.
        let kind = kind.split_once('(').map_or(kind, |(kind, _)| kind);
        match kind {
            "repository" if is_name(name) => {
                let asked = actions
                    .split(',')
                    .filter_map(|action| Action::ALL.into_iter().find(|known| known.scope_name() == action));
                let asked = Actions::of(asked);
                let before = self.repositories.entry(name.to_owned()).or_default();
                *before = before.or(asked);
            }
            "registry" if name == "catalog" => {
                self.catalogue |= actions.split(',').any(|action| action == "*")
            }
            _ => {}
        }
        Some(())
    }

    /// What of it is allowed. Who asks for everything (`*`) gets what there is.
    pub fn cut(&self, catalogue: bool, allowed: impl Fn(&str) -> Actions) -> Self {
        let repositories = self.repositories.iter().filter_map(|(name, asked)| {
            let asked = if asked.contains(Action::Admin) { Actions::of(Action::ALL) } else { *asked };
            let given = asked.and(allowed(name));
            (!given.is_empty()).then(|| (name.clone(), given))
        });
        Self { repositories: repositories.collect(), catalogue: self.catalogue && catalogue }
    }

    pub fn allows(&self, action: Action, repository: &str) -> bool {
        self.repositories.get(repository).is_some_and(|actions| actions.contains(action))
    }

    pub fn entries(&self) -> Vec<AccessEntry> {
        let entry = |kind: &str, name: &str, actions| AccessEntry {
            kind: kind.to_owned(),
            name: name.to_owned(),
            actions,
        };
        let repositories = self.repositories.iter().map(|(name, actions)| {
            entry("repository", name, actions.iter().map(|action| action.scope_name().to_owned()).collect())
        });
        let catalogue = self.catalogue.then(|| entry("registry", "catalog", vec!["*".to_owned()]));
        repositories.chain(catalogue).collect()
    }

    pub fn of(entries: &[AccessEntry]) -> Self {
        let texts: Vec<String> = entries
            .iter()
            .map(|entry| format!("{}:{}:{}", entry.kind, entry.name, entry.actions.join(",")))
            .collect();
        let mut scope = Self::default();
        for text in &texts {
            scope.add(text);
        }
        scope
    }

    /// As OAuth's answer has it.
    pub fn text(&self) -> String {
        let texts: Vec<String> = self
            .entries()
            .iter()
            .map(|entry| format!("{}:{}:{}", entry.kind, entry.name, entry.actions.join(",")))
            .collect();
        texts.join(" ")
    }
}

/// Whether it can be a repository's name. Looser than the distribution specification's grammar: it only has to keep its place in a scope.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'/');
    !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn scopes_are_read_as_clients_write_them() {
        let scope = Scope::parse(["repository:team/app:pull,push repository:b:pull", "registry:catalog:*"]);
        assert_eq!(scope.text(), "repository:b:pull repository:team/app:pull,push registry:catalog:*");
        let scope = Scope::parse(["repository(plugin):a:pull", "repository:a:push", "repository:a:*"]);
        assert_eq!(scope.text(), "repository:a:pull,push,*");
        for nothing in [
            "",
            " ",
            "repository",
            "repository:a",
            ":::",
            "repository::pull",
            "repository:A:pull",
            "repository:a b:pull",
            "registry:catalog:pull",
            "registry:other:*",
            "image:a:pull",
        ] {
            let scope = Scope::parse([nothing]);
            assert!(scope.entries().iter().all(|entry| entry.actions.is_empty()), "{nothing}");
        }
        let many: Vec<String> = (0..1000).map(|n| format!("repository:r{n}:pull")).collect();
        assert_eq!(Scope::parse(many.iter().map(String::as_str)).repositories.len(), SCOPES_MAX);
    }

    #[test]
    fn scopes_are_cut_to_what_is_allowed() {
        let allowed = |name: &str| match name {
            "mine" => Actions::of(Action::ALL),
            "team" => Actions::of([Action::Read, Action::Write]),
            _ => Actions::NONE,
        };
        let cut = |text: &str| Scope::parse([text]).cut(false, allowed).text();
        assert_eq!(cut("repository:team:pull,push,delete"), "repository:team:pull,push");
        assert_eq!(cut("repository:team:*"), "repository:team:pull,push");
        assert_eq!(cut("repository:mine:*"), "repository:mine:pull,push,delete,*");
        assert_eq!(
            cut("repository:mine:pull repository:other:pull registry:catalog:*"),
            "repository:mine:pull"
        );
        assert_eq!(Scope::parse(["registry:catalog:*"]).cut(true, allowed).text(), "registry:catalog:*");
    }

    proptest! {
        #[test]
        fn cutting_never_gives_more(texts in prop::collection::vec("repository:[ab]:(pull|push|delete|\\*)(,(pull|push|delete|\\*)){0,2}", 0..4), bits in 0u8..16) {
            let allowed = Actions::of(Action::ALL.into_iter().filter(|action| bits & 1 << *action as u8 != 0));
            let asked = Scope::parse(texts.iter().map(String::as_str));
            let cut = asked.cut(false, |_| allowed);
            for (name, given) in &cut.repositories {
                prop_assert_eq!(given.and(allowed), *given);
                prop_assert!(asked.repositories.contains_key(name));
            }
            // What is written into a token is read out of it.
            prop_assert_eq!(Scope::of(&cut.entries()), cut);
        }

        #[test]
        fn no_text_is_too_odd(text in ".{0,60}") {
            let scope = Scope::parse([text.as_str()]);
            prop_assert_eq!(Scope::of(&scope.entries()), scope);
        }
    }
}
