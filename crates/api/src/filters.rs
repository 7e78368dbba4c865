//! The `filters` parameter: a map of names to sets of values, in Docker's two spellings.

use std::collections::{BTreeMap, BTreeSet};

/// Filters as given: values of one name are alternatives, except for labels, which must all match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

/// Why a `filters` parameter was refused; the texts are Docker's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FilterError {
    #[error("invalid filters: {0}")]
    Malformed(String),
    #[error("invalid filter '{0}'")]
    Unknown(String),
    #[error("invalid filter '{name}={values:?}'")]
    NotBoolean { name: String, values: Vec<String> },
}

impl Filters {
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads `{"label":["a=b"]}` or, in use since API 1.22, `{"label":{"a=b":true}}`; nothing is no filter.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Values {
            List(Vec<String>),
            Set(BTreeMap<String, bool>),
        }
        if text.is_empty() {
            return Ok(Self::default());
        }
        let given: Option<BTreeMap<String, Values>> =
            serde_json::from_str(text).map_err(|e| FilterError::Malformed(e.to_string()))?;
        let mut filters = Self::default();
        for (name, values) in given.unwrap_or_default() {
            let values: BTreeSet<String> = match values {
                Values::List(values) => values.into_iter().collect(),
                Values::Set(values) => {
                    values.into_iter().filter_map(|(value, on)| on.then_some(value)).collect()
                }
            };
            filters.0.entry(name).or_default().extend(values);
        }
        Ok(filters)
    }

    /// The newer spelling, for a query.
    pub fn to_json(&self) -> String {
        let sets: BTreeMap<&String, BTreeMap<&String, bool>> =
            self.0.iter().map(|(name, values)| (name, values.iter().map(|v| (v, true)).collect())).collect();
        serde_json::json!(sets).to_string()
    }

    pub fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.entry(name.into()).or_default().insert(value.into());
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The values given for a name; none when it was not given.
    pub fn get(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.get(name).into_iter().flatten().map(String::as_str)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Refuses the first name that is not in `accepted`.
    pub fn validate(&self, accepted: &[&str]) -> Result<(), FilterError> {
        match self.names().find(|name| !accepted.contains(name)) {
            Some(name) => Err(FilterError::Unknown(name.to_owned())),
            None => Ok(()),
        }
    }

    /// Whether the name was not given, or one of its values is `value`.
    pub fn exact(&self, name: &str, value: &str) -> bool {
        self.0.get(name).is_none_or(|values| values.is_empty() || values.contains(value))
    }

    /// Whether the name was not given, or one of its values fulfils the test.
    pub fn any(&self, name: &str, test: impl FnMut(&str) -> bool) -> bool {
        self.0.get(name).is_none_or(|values| values.is_empty() || values.iter().map(String::as_str).any(test))
    }

    /// A filter with a truth value: none when it was not given.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, FilterError> {
        let Some(values) = self.0.get(name).filter(|values| !values.is_empty()) else { return Ok(None) };
        let truth = |value: &String| matches!(value.as_str(), "1" | "true" | "True" | "TRUE" | "t" | "T");
        let falsity =
            |value: &String| matches!(value.as_str(), "0" | "false" | "False" | "FALSE" | "f" | "F");
        match (values.iter().any(truth), values.iter().any(falsity)) {
            (true, false) => Ok(Some(true)),
            (false, true) => Ok(Some(false)),
            _ => Err(FilterError::NotBoolean {
                name: name.to_owned(),
                values: values.iter().cloned().collect(),
            }),
        }
    }

    /// Whether all wishes of `label` (`key` or `key=value`) are fulfilled and none of `label!` is.
    pub fn labels<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        let fulfilled = |wish: &str| match wish.split_once('=') {
            Some((key, value)) => label(key) == Some(value),
            None => label(wish).is_some(),
        };
        self.get("label").all(fulfilled) && (!self.contains("label!") || !self.get("label!").all(fulfilled))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Filters {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(items: I) -> Self {
        let mut filters = Self::default();
        for (name, value) in items {
            filters.add(name, value);
        }
        filters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_read_the_same() {
        let list = Filters::parse(r#"{"label":["a=b","c"],"status":["running"]}"#).unwrap();
        let set =
            Filters::parse(r#"{"label":{"a=b":true,"c":true,"d":false},"status":{"running":true}}"#).unwrap();
        assert_eq!(list, set);
        assert_eq!(Filters::parse(&set.to_json()).unwrap(), set);
        assert!(Filters::parse("").unwrap().is_empty() && Filters::parse("null").unwrap().is_empty());
        assert!(matches!(Filters::parse("{\"a\":1}"), Err(FilterError::Malformed(_))));
    }

    #[test]
    fn labels_must_all_match() {
        let labels = BTreeMap::from([("a", "b"), ("c", "")]);
        let get = |key: &str| labels.get(key).copied();
        assert!(Filters::from_iter([("label", "a=b"), ("label", "c")]).labels(get));
        assert!(!Filters::from_iter([("label", "a=b"), ("label", "x")]).labels(get));
        assert!(!Filters::from_iter([("label!", "a")]).labels(get));
        assert!(Filters::from_iter([("label!", "x")]).labels(get));
    }

    #[test]
    fn names_and_booleans_are_checked() {
        let filters = Filters::from_iter([("dangling", "1"), ("nonsense", "x")]);
        assert_eq!(filters.boolean("dangling"), Ok(Some(true)));
        assert_eq!(filters.boolean("absent"), Ok(None));
        assert!(Filters::from_iter([("dangling", "maybe")]).boolean("dangling").is_err());
        assert_eq!(filters.validate(&["dangling"]), Err(FilterError::Unknown("nonsense".into())));
    }
}
