//! Filters of the cache, as containerd writes them: `type==regular,inuse`. The conditions of one filter all hold, of several filters one
//! is enough.

use crate::builder::Usage;

/// Which things of the cache are meant; all of them without any filter.
#[derive(Clone, Debug, Default)]
pub struct Filters(Vec<Vec<Condition>>);

#[derive(Clone, Debug)]
struct Condition {
    field: Field,
    wanted: Wanted,
}

/// What is wanted of a field.
#[derive(Clone, Debug)]
enum Wanted {
    There,
    Is(String),
    IsNot(String),
    /// Somewhere in it.
    Like(regex_lite::Regex),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Id,
    Kind,
    Description,
    InUse,
    Mutable,
    Immutable,
    Shared,
    Private,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid filter {0:?}")]
pub struct FilterError(String);

impl Filters {
    pub fn parse(texts: &[String]) -> Result<Self, FilterError> {
        let filled = texts.iter().filter(|text| !text.is_empty());
        let all = filled.map(|text| text.split(',').map(condition).collect::<Option<_>>().ok_or(text));
        Ok(Self(all.collect::<Result<_, _>>().map_err(|text| FilterError(text.clone()))?))
    }

    pub fn take(&self, usage: &Usage) -> bool {
        let holds = |condition: &Condition| condition.holds(usage);
        self.0.is_empty() || self.0.iter().any(|conditions| conditions.iter().all(holds))
    }
}

fn condition(text: &str) -> Option<Condition> {
    // The first operator: a value may have others in it.
    let at = ["==", "!=", "~="].iter().filter_map(|operator| text.find(operator)).min();
    let (name, operator, value) = match at {
        Some(at) => (&text[..at], &text[at..at + 2], text[at + 2..].trim().trim_matches('"')),
        None => (text, "", ""),
    };
    let field = match name.trim() {
        "id" => Field::Id,
        "type" => Field::Kind,
        "description" => Field::Description,
        "inuse" => Field::InUse,
        "mutable" => Field::Mutable,
        "immutable" => Field::Immutable,
        "shared" => Field::Shared,
        "private" => Field::Private,
        _ => return None,
    };
    let wanted = match operator {
        "==" => Wanted::Is(value.to_owned()),
        "!=" => Wanted::IsNot(value.to_owned()),
        "~=" => Wanted::Like(regex_lite::Regex::new(value).ok()?),
        _ => Wanted::There,
    };
    Some(Condition { field, wanted })
}

impl Condition {
    fn holds(&self, usage: &Usage) -> bool {
        let flag = |is_set: bool| is_set.then(|| "true".to_owned());
        let value = match self.field {
            Field::Id => Some(usage.id.clone()),
            Field::Kind => Some(usage.kind.clone()),
            Field::Description => Some(usage.description.clone()),
            Field::InUse => flag(usage.is_in_use),
            Field::Mutable => flag(usage.is_mutable),
            Field::Immutable => flag(!usage.is_mutable),
            Field::Shared => flag(usage.is_shared),
            Field::Private => flag(!usage.is_shared),
        };
        match &self.wanted {
            Wanted::There => value.is_some_and(|value| !value.is_empty()),
            Wanted::Is(wanted) => value.as_ref() == Some(wanted),
            Wanted::IsNot(unwanted) => value.as_ref() != Some(unwanted),
            Wanted::Like(pattern) => value.is_some_and(|value| pattern.is_match(&value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(texts: &[&str]) -> bool {
        let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        let usage = Usage {
            id: "a".into(),
            description: "RUN make".into(),
            kind: "regular".into(),
            bytes: 1,
            created: None,
            last_used: None,
            use_count: 1,
            is_mutable: false,
            is_in_use: true,
            is_shared: false,
            parents: Vec::new(),
        };
        Filters::parse(&texts).unwrap().take(&usage)
    }

    #[test]
    fn conditions_are_and_filters_are_or() {
        assert!(takes(&[]) && takes(&[""]));
        assert!(takes(&["type==regular,inuse"]) && takes(&["private"]) && takes(&["id!=b"]));
        assert!(!takes(&["type==regular,mutable"]) && !takes(&["id==b"]) && !takes(&["shared"]));
        assert!(takes(&["type~=^reg.*"]) && !takes(&["id~=b"]));
        assert!(takes(&["id==b", "description==\"RUN make\""]));
        for wrong in ["", "wings==2", "type~=("].map(str::to_owned) {
            assert_eq!(Filters::parse(std::slice::from_ref(&wrong)).is_err(), !wrong.is_empty(), "{wrong}");
        }
    }
}
