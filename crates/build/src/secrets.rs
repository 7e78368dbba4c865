//! What everybody may see of a build, as what is said of an image goes where the image goes: not what has a name that speaks of
//! secrets, and not what opens URLs.

use crate::dockerfile::{Dockerfile, Instruction, Span};
use crate::repository::without_logins;

/// Stands where a value was left out.
const LEFT_OUT: &str = "***";

/// Whether a name speaks of a secret, and not of something public as well; BuildKit's check `SecretsUsedInArgOrEnv` has the same words.
pub fn is_secret_name(name: &str) -> bool {
    const SECRET: [&str; 10] = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    const HARMLESS: [&str; 3] = ["public", "file", "version"];
    let lower = name.to_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    has(&SECRET) && !has(&HARMLESS)
}

/// A text whose URLs have no names, no passwords and no tokens.
pub fn without_secrets(text: &str) -> String {
    let text = without_logins(text);
    let mut bare = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("://") {
        let end = after.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '#'));
        let (url, behind) = after.split_at(end.unwrap_or(after.len()));
        bare.extend([before, "://"]);
        match url.split_once('?') {
            None => bare.push_str(url),
            Some((place, query)) => {
                let pairs: Vec<String> = query.split('&').map(public_pair).collect();
                bare.extend([place, "?", &pairs.join("&")]);
            }
        }
        rest = behind;
    }
    bare + rest
}

/// `name=value` of a query; clouds call what opens a URL a signature.
fn public_pair(pair: &str) -> String {
    match pair.split_once('=') {
        Some((name, _)) if is_secret_name(&name.replace('-', "_")) || is_signature(name) => {
            format!("{name}={LEFT_OUT}")
        }
        _ => pair.to_owned(),
    }
}

fn is_signature(name: &str) -> bool {
    name.split('-').any(|part| part.eq_ignore_ascii_case("sig") || part.eq_ignore_ascii_case("signature"))
}

/// A Dockerfile that everybody may see.
#[derive(Debug, PartialEq, Eq)]
pub struct Public {
    /// With the same lines; none where what is secret could not be told from the rest.
    pub text: Option<String>,
    /// What was left out and where, for people.
    pub left_out: Vec<String>,
}

/// A Dockerfile without what `ARG` and `ENV` give to names that speak of secrets, and with public URLs.
pub fn public(text: &str, dockerfile: &Dockerfile) -> Public {
    let mut public = Public { text: Some(text.to_owned()), left_out: Vec::new() };
    let stages = dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
    for arg in &dockerfile.global_args {
        arg.value
            .entries
            .iter()
            .for_each(|entry| public.hide(arg.span, &entry.name, entry.default.as_deref()));
    }
    for instruction in stages {
        match &instruction.value {
            Instruction::Arg(arg) => {
                for entry in &arg.entries {
                    public.hide(instruction.span, &entry.name, entry.default.as_deref());
                }
            }
            Instruction::Env(env) => {
                env.pairs.iter().for_each(|pair| public.hide(instruction.span, &pair.key, Some(&pair.value)));
            }
            _ => {}
        }
    }
    if let Some(text) = &mut public.text {
        let bare = without_secrets(text);
        if bare != *text {
            *text = bare;
            public.left_out.push("what opens URLs".to_owned());
        }
    }
    public
}

impl Public {
    /// Leaves out a value, as it is written in these lines, of a name that speaks of a secret. Another variable's is none of its own.
    fn hide(&mut self, span: Span, name: &str, value: Option<&str>) {
        let Some(value) = value.filter(|value| !value.is_empty() && !value.starts_with('$')) else { return };
        if !is_secret_name(name) {
            return;
        }
        self.left_out.push(format!("{name} in line {}", span.first_line));
        self.text = self.text.take().and_then(|text| {
            let mut lines: Vec<&str> = text.split('\n').collect();
            let (first, last) = (span.first_line.max(1) as usize - 1, span.last_line as usize);
            let own = lines.get(first..last)?.join("\n");
            let at = own.match_indices(name).find_map(|(at, _)| {
                let behind = at + name.len();
                let blanks = own[behind..].find(|c: char| c != '=' && !c.is_whitespace())?;
                let begin = behind + blanks;
                (blanks > 0 && own[begin..].starts_with(value)).then_some(begin)
            })?;
            let bare = format!("{}{LEFT_OUT}{}", &own[..at], &own[at + value.len()..]);
            lines.splice(first..last, [bare.as_str()]);
            Some(lines.join("\n"))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile;

    #[test]
    fn urls_open_nothing() {
        for (text, bare) in [
            ("https://a:b@host/x?token=c&x=1#d", "https://host/x?token=***&x=1#d"),
            (
                "ADD https://s3/x?X-Amz-Signature=a&X-Amz-Date=2&X-Amz-Security-Token=c /y",
                "ADD https://s3/x?X-Amz-Signature=***&X-Amz-Date=2&X-Amz-Security-Token=*** /y",
            ),
            (
                r#"["https://az/?sv=1&sig=x", "http://h/?q"]"#,
                r#"["https://az/?sv=1&sig=***", "http://h/?q"]"#,
            ),
            ("a?token=b", "a?token=b"),
            ("https://", "https://"),
        ] {
            assert_eq!(without_secrets(text), bare);
        }
    }

    #[test]
    fn a_dockerfile_keeps_its_lines_and_not_its_secrets() {
        let text = "ARG TOP_TOKEN=a TOP=b\nFROM scratch\nARG MY_PASSWORD=\"hush hush\"\nARG \\\n  NPM_TOKEN=c\\\n  X=1\n\
                    ENV API_KEY d e\nENV A=1 AUTH='f' B=2\nARG OTHER_TOKEN OTHER_KEY=$TOP\nENV KEY_FILE=/k\nARG TOKEN\n\
                    RUN x\nADD http://me:g@h/?token=i /\n";
        let found = public(text, &dockerfile::parse(text).unwrap());
        assert_eq!(
            found.text.as_deref().unwrap(),
            "ARG TOP_TOKEN=*** TOP=b\nFROM scratch\nARG MY_PASSWORD=***\nARG \\\n  NPM_TOKEN=***\\\n  X=1\n\
             ENV API_KEY ***\nENV A=1 AUTH=*** B=2\nARG OTHER_TOKEN OTHER_KEY=$TOP\nENV KEY_FILE=/k\nARG TOKEN\n\
             RUN x\nADD http://h/?token=*** /\n"
        );
        assert_eq!(
            found.left_out,
            [
                "TOP_TOKEN in line 1",
                "MY_PASSWORD in line 3",
                "NPM_TOKEN in line 4",
                "API_KEY in line 7",
                "AUTH in line 8",
                "what opens URLs"
            ]
        );
        // A value that goes over lines is not found as it is written.
        let odd = "FROM scratch\nARG TOKEN=hu\\\nsh\n";
        let found = public(odd, &dockerfile::parse(odd).unwrap());
        assert_eq!((found.text, found.left_out), (None, vec!["TOKEN in line 2".to_owned()]));
        let plain = "FROM scratch\n";
        let found = public(plain, &dockerfile::parse(plain).unwrap());
        assert_eq!((found.text.as_deref(), found.left_out.len()), (Some(plain), 0));
    }
}
