//! Filters as containerd writes them: `type==regular,inuse`. The conditions of one filter all hold, of several filters one is enough.
//! What has a place in time is compared, too: `startedAt>=24h`.

mod fields;

use crate::csv;
use std::marker::PhantomData;

/// What filters choose from.
pub trait Filtered {
    /// Names of the fields that are texts, and of those that are numbers.
    const TEXTS: &'static [&'static str];
    const NUMBERS: &'static [&'static str] = &[];

    /// None: it has nothing there. A field that is only there or not has any text.
    fn text(&self, field: &str) -> Option<String>;

    fn number(&self, _field: &str) -> i64 {
        0
    }

    /// The number that a value stands for.
    fn bound(_field: &str, _value: &str) -> Option<i64> {
        None
    }
}

/// Which ones are meant; all of them without any filter.
#[derive(Debug)]
pub struct Filters<T>(Vec<Vec<Condition>>, PhantomData<fn(&T)>);

#[derive(Clone, Debug)]
struct Condition {
    field: String,
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
    AtLeast(i64),
    AtMost(i64),
    Above(i64),
    Below(i64),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid filter {0:?}")]
pub struct FilterError(String);

/// The longer one of those that begin at the same place comes first.
const OPERATORS: [&str; 7] = ["==", "!=", "~=", ">=", "<=", ">", "<"];

impl<T: Filtered> Filters<T> {
    pub fn parse(texts: &[String]) -> Result<Self, FilterError> {
        let filled = texts.iter().filter(|text| !text.is_empty());
        let conditions = |text: &String| {
            csv::fields(text).iter().map(|field| condition::<T>(field)).collect::<Option<Vec<_>>>()
        };
        let all = filled.map(|text| conditions(text).ok_or_else(|| FilterError(text.clone())));
        Ok(Self(all.collect::<Result<_, _>>()?, PhantomData))
    }

    pub fn take(&self, value: &T) -> bool {
        let holds = |condition: &Condition| condition.holds(value);
        self.0.is_empty() || self.0.iter().any(|conditions| conditions.iter().all(holds))
    }
}

impl<T> Default for Filters<T> {
    fn default() -> Self {
        Self(Vec::new(), PhantomData)
    }
}

impl<T> Clone for Filters<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

fn condition<T: Filtered>(text: &str) -> Option<Condition> {
    // The first operator: a value may have others in it.
    let found = OPERATORS.iter().filter_map(|operator| Some((text.find(operator)?, *operator)));
    let (name, operator, value) = match found.min_by_key(|(at, _)| *at) {
        Some((at, operator)) => (&text[..at], operator, text[at + operator.len()..].trim().trim_matches('"')),
        None => (text, "", ""),
    };
    let field = name.trim();
    let bound = || T::bound(field, value);
    let wanted = match operator {
        _ if !T::TEXTS.contains(&field) && !T::NUMBERS.contains(&field) => return None,
        "" | "==" | "!=" | "~=" if !T::TEXTS.contains(&field) => return None,
        "" => Wanted::There,
        "==" => Wanted::Is(value.to_owned()),
        "!=" => Wanted::IsNot(value.to_owned()),
        "~=" => Wanted::Like(regex_lite::Regex::new(value).ok()?),
        _ if !T::NUMBERS.contains(&field) => return None,
        ">=" => Wanted::AtLeast(bound()?),
        "<=" => Wanted::AtMost(bound()?),
        ">" => Wanted::Above(bound()?),
        _ => Wanted::Below(bound()?),
    };
    Some(Condition { field: field.to_owned(), wanted })
}

impl Condition {
    fn holds<T: Filtered>(&self, of: &T) -> bool {
        let text = || of.text(&self.field);
        let number = || of.number(&self.field);
        match &self.wanted {
            Wanted::There => text().is_some_and(|value| !value.is_empty()),
            Wanted::Is(wanted) => text().as_ref() == Some(wanted),
            Wanted::IsNot(unwanted) => text().as_ref() != Some(unwanted),
            Wanted::Like(pattern) => text().is_some_and(|value| pattern.is_match(&value)),
            Wanted::AtLeast(bound) => number() >= *bound,
            Wanted::AtMost(bound) => number() <= *bound,
            Wanted::Above(bound) => number() > *bound,
            Wanted::Below(bound) => number() < *bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::{Past, Usage};
    use std::time::{Duration, SystemTime};

    fn filters<T: Filtered>(texts: &[&str]) -> Result<Filters<T>, FilterError> {
        Filters::parse(&texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>())
    }

    fn takes(texts: &[&str]) -> bool {
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
        filters(texts).unwrap().take(&usage)
    }

    #[test]
    fn conditions_are_and_filters_are_or() {
        assert!(takes(&[]) && takes(&[""]));
        assert!(takes(&["type==regular,inuse"]) && takes(&["private"]) && takes(&["id!=b"]));
        assert!(!takes(&["type==regular,mutable"]) && !takes(&["id==b"]) && !takes(&["shared"]));
        assert!(takes(&["type~=^reg.*"]) && !takes(&["id~=b"]));
        assert!(takes(&["id==b", "description==\"RUN make\""]));
        for wrong in ["", "wings==2", "type~=(", "type>2"] {
            assert_eq!(filters::<Usage>(&[wrong]).is_err(), !wrong.is_empty(), "{wrong}");
        }
    }

    #[test]
    fn builds_that_were_have_a_status_and_times() {
        let started = SystemTime::now() - Duration::from_secs(7200);
        let past = Past {
            reference: "abc".into(),
            repository: "https://host/own.git".into(),
            started: Some(started),
            completed: Some(started + Duration::from_secs(90)),
            error: "exit code: 7".into(),
            ..Past::default()
        };
        let takes = |text: &str| filters(&[text]).unwrap().take(&past);
        for text in [
            "status==error",
            "ref~=b",
            "repository~=own",
            "startedAt<1h",
            "startedAt>=3h,completedAt>1999-01-01T00:00:00Z",
            "duration>=90s,duration<1m31s",
            "\"status==error\"",
        ] {
            assert!(takes(text), "{text}");
        }
        for text in
            ["status==completed", "status!=error", "ref==b", "startedAt>1h", "duration>2m", "completedAt<3h"]
        {
            assert!(!takes(text), "{text}");
        }
        for wrong in ["startedAt==1h", "status>1h", "duration>soon", "name==x", "startedAt>yesterday"] {
            assert!(filters::<Past>(&[wrong]).is_err(), "{wrong}");
        }
    }
}
