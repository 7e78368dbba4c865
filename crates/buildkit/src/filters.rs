//! Filters of the cache, as containerd writes them: `type==regular,inuse`. The conditions of one filter all hold, of several filters one
//! is enough.

use crate::builder::Usage;

/// Which things of the cache are meant; all of them without any filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(Vec<Vec<Condition>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    field: Field,
    /// None: the field is to be there.
    wanted: Option<(Comparison, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
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
    let (name, wanted) = match (text.split_once("=="), text.split_once("!=")) {
        (Some((name, value)), _) => (name, Some((Comparison::Equal, value))),
        (None, Some((name, value))) => (name, Some((Comparison::NotEqual, value))),
        (None, None) => (text, None),
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
    let unquoted = |value: &str| value.trim().trim_matches('"').to_owned();
    Some(Condition { field, wanted: wanted.map(|(how, value)| (how, unquoted(value))) })
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
            None => value.is_some_and(|value| !value.is_empty()),
            Some((Comparison::Equal, wanted)) => value.as_ref() == Some(wanted),
            Some((Comparison::NotEqual, unwanted)) => value.as_ref() != Some(unwanted),
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
        assert!(takes(&["id==b", "description==\"RUN make\""]));
        for wrong in ["", "wings==2", "type~=reg.*"].map(str::to_owned) {
            assert_eq!(Filters::parse(std::slice::from_ref(&wrong)).is_err(), !wrong.is_empty(), "{wrong}");
        }
    }
}
