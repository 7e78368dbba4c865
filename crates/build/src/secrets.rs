//! What everybody may see of a build, as what is said of an image goes where the image goes: not what has a name that speaks of
//! secrets, and not what opens URLs.

use crate::dockerfile::{self, Dockerfile, Escape, Instruction, Span};
use crate::repository::without_logins;

/// Stands where a value was left out.
const LEFT_OUT: &str = "***";

/// Stands for the name that an instruction sets which is not read.
const UNREAD: &str = "ONBUILD";

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

/// A value of an option that everybody may see. A proxy's login has no scheme before it at times, and may have what ends one elsewhere.
pub fn public_value(name: &str, value: &str) -> String {
    let is_proxy = name.to_ascii_lowercase().ends_with("_proxy");
    match value.rsplit_once('@').filter(|_| is_proxy) {
        Some((login, host)) => match login.split_once("://") {
            Some((scheme, _)) => format!("{scheme}://{host}"),
            None => host.to_owned(),
        },
        None => without_secrets(value),
    }
}

/// A Dockerfile without what `ARG` and `ENV` give to names that speak of secrets, and with public URLs. Takes time linear in its length.
pub fn public(text: &str, dockerfile: &Dockerfile) -> Public {
    let secrets = secrets(dockerfile);
    let mut left_out: Vec<String> = secrets.iter().map(Secret::place).collect();
    // Whether all is gone is the parser's to say: the same words may stand elsewhere in an instruction.
    let is_public = |bare: &String| {
        secrets.is_empty()
            || dockerfile::parse(bare)
                .is_ok_and(|again| self::secrets(&again).iter().all(Secret::is_left_out))
    };
    let text = hide(text, &secrets).filter(is_public).map(|text| {
        let bare = without_secrets(&text);
        if bare != text {
            left_out.push("what opens URLs".to_owned());
        }
        bare
    });
    Public { text, left_out }
}

/// What an instruction gives to a name that speaks of a secret.
struct Secret {
    span: Span,
    /// As they are written, with quotes and escapes.
    name: String,
    value: String,
    /// Blanks are between them, and no equals sign.
    has_blanks: bool,
}

impl Secret {
    fn place(&self) -> String {
        format!("{} in line {}", unquoted(&self.name), self.span.first_line)
    }

    fn is_left_out(&self) -> bool {
        self.value == LEFT_OUT
    }

    /// Where the value is in a text that begins before its name; none where it isn't what stands first behind that name.
    fn find(&self, text: &str) -> Option<usize> {
        let is_apart = |at: &usize| text[..*at].chars().next_back().is_none_or(char::is_whitespace);
        let begin = text.match_indices(&self.name).map(|(at, _)| at).filter(is_apart).find_map(|at| {
            let behind = &text[at + self.name.len()..];
            let begin = match self.has_blanks {
                true => behind.len() - behind.trim_start().len(),
                false => usize::from(behind.starts_with('=')),
            };
            (begin > 0).then_some(at + self.name.len() + begin)
        })?;
        text[begin..].starts_with(&self.value).then_some(begin)
    }
}

/// In the order in which they are written.
fn secrets(dockerfile: &Dockerfile) -> Vec<Secret> {
    let mut found = Vec::new();
    let mut add = |span, name: &str, value: &str, has_blanks| {
        if is_secret(name) && !value.is_empty() && !is_variable(value) {
            found.push(Secret { span, name: name.to_owned(), value: value.to_owned(), has_blanks });
        }
    };
    for arg in &dockerfile.global_args {
        for entry in &arg.value.entries {
            add(arg.span, &entry.name, entry.default.as_deref().unwrap_or_default(), false);
        }
    }
    for instruction in dockerfile.stages.iter().flat_map(|stage| &stage.instructions) {
        let span = instruction.span;
        let trigger;
        let value = match &instruction.value {
            Instruction::Onbuild(onbuild) => {
                let directive = match dockerfile.directives.escape {
                    Escape::Backslash => "",
                    Escape::Backtick => "# escape=`\n",
                };
                match dockerfile::parse_trigger(&format!("{directive}{}", onbuild.expression)) {
                    Ok(inner) => {
                        trigger = inner.value;
                        &trigger
                    }
                    // Who knows what it sets.
                    Err(_) => {
                        add(span, UNREAD, &onbuild.expression, true);
                        continue;
                    }
                }
            }
            other => other,
        };
        match value {
            Instruction::Arg(arg) => arg.entries.iter().for_each(|entry| {
                add(span, &entry.name, entry.default.as_deref().unwrap_or_default(), false);
            }),
            Instruction::Env(env) => {
                env.pairs.iter().for_each(|pair| add(span, &pair.key, &pair.value, pair.legacy));
            }
            _ => {}
        }
    }
    found
}

/// A Dockerfile with other values; none where one is not found.
fn hide(text: &str, secrets: &[Secret]) -> Option<String> {
    let begin: Vec<usize> = [0].into_iter().chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let mut bare = String::with_capacity(text.len());
    let mut done = 0;
    for secret in secrets {
        let from = done.max(*begin.get(secret.span.first_line.max(1) as usize - 1)?);
        let to = begin.get(secret.span.last_line as usize).copied().unwrap_or(text.len());
        let at = from + secret.find(text.get(from..to)?)?;
        bare.extend([&text[done..at], LEFT_OUT]);
        done = at + secret.value.len();
    }
    bare.push_str(&text[done..]);
    Some(bare)
}

/// The same of a name as it is written in a Dockerfile. What a variable makes of it nobody knows.
fn is_secret(name: &str) -> bool {
    let parts = |c: char| if c.is_alphanumeric() { c } else { '_' };
    name.contains('$')
        || name == UNREAD
        || is_secret_name(&unquoted(name).chars().map(parts).collect::<String>())
}

fn unquoted(name: &str) -> String {
    name.replace(['"', '\'', '\\', '`'], "")
}

/// `$NAME` or `${NAME}` and nothing else: another's value is none of its own.
fn is_variable(value: &str) -> bool {
    let Some(name) = value.trim_matches('"').strip_prefix('$') else { return false };
    let name = name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap_or(name);
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
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
        for odd in ["TOKEN=hu\\\nsh", "A=\"x TOKEN=no\" TOKEN=no", "A=\"x TOKEN=no\" TOKEN=n\\\no"] {
            let odd = format!("FROM scratch\nARG {odd}\n");
            let found = public(&odd, &dockerfile::parse(&odd).unwrap());
            assert_eq!((found.text, found.left_out.len()), (None, 1), "{odd}");
        }
        let plain = "FROM scratch\n";
        let found = public(plain, &dockerfile::parse(plain).unwrap());
        assert_eq!((found.text.as_deref(), found.left_out.len()), (Some(plain), 0));
    }

    #[test]
    fn no_way_to_write_a_secret_keeps_it() {
        for (written, kept) in [
            ("ARG DB_PASSWORD=${CI_PW:-hunter2}", "ARG DB_PASSWORD=***"),
            (
                "ENV B_SECRET=$X-hunter7 C_SECRET=${X} D_KEY=\"$X\"",
                "ENV B_SECRET=*** C_SECRET=${X} D_KEY=\"$X\"",
            ),
            ("ENV B_SECRET='$X'", "ENV B_SECRET=***"),
            ("ENV AUTHTOKEN=abcdef TOKEN=abc", "ENV AUTHTOKEN=abcdef TOKEN=***"),
            ("ENV TOKEN=abc AUTHTOKEN=abcdef", "ENV TOKEN=*** AUTHTOKEN=abcdef"),
            ("ENV TOKEN=a A_TOKEN=a", "ENV TOKEN=*** A_TOKEN=***"),
            ("ONBUILD ENV SECRET=hunter2", "ONBUILD ENV SECRET=***"),
            ("onbuild  arg TOKEN=$X A_KEY=b", "onbuild  arg TOKEN=$X A_KEY=***"),
            ("ONBUILD RUM SECRET=x", "ONBUILD ***"),
            ("ENV $K=x", "ENV $K=***"),
            ("ENV \"C_SECRET\"=x D=1", "ENV \"C_SECRET\"=*** D=1"),
            ("ENV 'C'_TO\\KEN=x", "ENV 'C'_TO\\KEN=***"),
            ("ENV my.db-password=x", "ENV my.db-password=***"),
        ] {
            let text = format!("FROM scratch\n{written}\n");
            let found = public(&text, &dockerfile::parse(&text).unwrap());
            assert_eq!(found.text, Some(format!("FROM scratch\n{kept}\n")));
            assert!(!found.left_out.is_empty(), "{written}");
        }
        let text = "# escape=`\nFROM scratch\nONBUILD ENV SECRET=a` b=c X=1\n";
        let found = public(text, &dockerfile::parse(text).unwrap());
        assert_eq!(found.text.as_deref(), Some("# escape=`\nFROM scratch\nONBUILD ENV SECRET=*** X=1\n"));
    }

    #[test]
    fn options_open_nothing() {
        for (name, value, public) in [
            ("build-arg:HTTP_PROXY", "http://u:p/w#@h:3128", "http://h:3128"),
            ("build-arg:https_proxy", "u:pw@h:3128", "h:3128"),
            ("build-arg:no_proxy", "localhost,10.0.0.0/8", "localhost,10.0.0.0/8"),
            ("build-arg:FROM_URL", "https://u:pw@h/?token=x", "https://h/?token=***"),
            ("label:mail", "me@example.org", "me@example.org"),
        ] {
            assert_eq!(public_value(name, value), public);
        }
    }

    #[test]
    fn many_secrets_take_one_pass() {
        let count = 30_000;
        let lines: String = (0..count).map(|number| format!("ARG A{number}_TOKEN=x\n")).collect();
        let text = format!("FROM scratch\n{lines}");
        let found = public(&text, &dockerfile::parse(&text).unwrap());
        assert_eq!(found.text, Some(text.replace("=x", "=***")));
        assert_eq!(found.left_out.len(), count);
    }
}
