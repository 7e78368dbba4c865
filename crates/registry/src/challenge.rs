//! What a server wants to be shown: `WWW-Authenticate` (RFC 9110, section 11.6.1).

use std::collections::BTreeMap;

/// One scheme with its parameters; names are in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub scheme: String,
    parameters: BTreeMap<String, String>,
}

impl Challenge {
    /// Reads what a header holds: several challenges may stand in one, each with several parameters, all set off by commas. What
    /// can't be read is passed over.
    pub fn parse(header: &str) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        let mut rest = header;
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            if word.is_empty() {
                // No token: past this sign, to what comes.
                let mut signs = rest.chars();
                if signs.next().is_none() {
                    return found;
                }
                rest = signs.as_str();
                continue;
            }
            let name = word.to_ascii_lowercase();
            match (after.trim_start_matches([' ', '\t']).strip_prefix('='), found.last_mut()) {
                (Some(value), Some(challenge)) => {
                    let (value, after) = value_of(value.trim_start_matches([' ', '\t']));
                    challenge.parameters.entry(name).or_insert(value);
                    rest = after;
                }
                (Some(value), None) => rest = value,
                (None, _) => {
                    found.push(Self { scheme: name, parameters: BTreeMap::new() });
                    rest = after;
                }
            }
        }
    }

    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }
}

/// RFC 9110, section 5.6.2.
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// A token, or what stands in quotes; and what follows.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !is_token(c)).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut signs = quoted.chars();
    while let Some(sign) = signs.next() {
        match sign {
            '"' => break,
            '\\' => value.extend(signs.next()),
            _ => value.push(sign),
        }
    }
    (value, signs.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_of_real_registries_and_of_none() {
        let hub = r#"Bearer realm="https://auth.example.com/token",service="registry.example.com",scope="a:b:pull,push""#;
        let parsed = Challenge::parse(hub);
        assert_eq!(parsed.len(), 1);
        assert_eq!(parsed[0].scheme, "bearer");
        assert_eq!(parsed[0].parameter("realm"), Some("https://auth.example.com/token"));
        assert_eq!(parsed[0].parameter("scope"), Some("a:b:pull,push"));
        let both = Challenge::parse(r#"Basic Realm = "a \"quoted\" one" , Negotiate, BEARER service=x"#);
        let schemes: Vec<&str> = both.iter().map(|c| c.scheme.as_str()).collect();
        assert_eq!(schemes, ["basic", "negotiate", "bearer"]);
        assert_eq!(both[0].parameter("realm"), Some(r#"a "quoted" one"#));
        assert_eq!(both[2].parameter("service"), Some("x"));
        for odd in ["", ",,,", "=", "a=b", "\"", "Basic realm=\"open", "Bearer \u{e9}=1", "Basic \\"] {
            Challenge::parse(odd);
        }
    }
}
