//! Git repositories as builds name them: where one is, which commit is meant, and what of it. In all forms that BuildKit takes.

use crate::error::{Error, Result};
use crate::pattern;

/// The protocols by which a repository may be reached: none of them shows files of the engine's host.
const SCHEMES: [&str; 4] = ["http", "https", "ssh", "git"];

/// The digits of a commit that tell it from others at least.
const CHECKSUM_DIGITS_MIN: usize = 7;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repository {
    /// As git is told: `https://host/a.git`, `git@host:a.git`. Without a name and a password where it is of http.
    pub url: String,
    /// The name, and the password behind a colon, of a URL of http; decoded.
    pub user: Option<String>,
    /// A branch, a tag, a commit or `refs/…`; the default branch when empty.
    pub reference: String,
    /// A directory, without slashes at its ends; empty for all of it.
    pub subdir: String,
    /// The commit's first digits, or all of them; in small letters.
    pub checksum: Option<String>,
    pub keep_git_dir: Option<bool>,
    pub skips_submodules: bool,
}

impl Repository {
    /// What an ADD names; none where it is something else.
    pub fn parse(text: &str) -> Option<Result<Repository>> {
        let (base, rest) = split(text);
        let is_repository = match scheme(base) {
            Some(scheme) if scheme.to_ascii_lowercase().starts_with("http") => {
                base[scheme.len() + 3..].contains('/') && base.ends_with(".git")
            }
            Some(_) => true,
            None => is_scp(base),
        };
        is_repository.then(|| Repository::read(base, &rest))
    }

    /// The same of a context, for which a host that everybody knows needs no scheme.
    pub fn parse_context(text: &str) -> Option<Result<Repository>> {
        match text.starts_with("github.com/") {
            true => {
                let whole = format!("https://{text}");
                let (base, rest) = split(&whole);
                Some(Repository::read(base, &rest))
            }
            false => Repository::parse(text),
        }
    }

    /// The repository at a URL, as `.gitmodules` has it.
    pub fn at(url: &str) -> Result<Repository> {
        let odd = |why: &str| {
            Error::Invalid(format!("invalid URL of a repository {:?}: {why}", without_logins(url)))
        };
        if url.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(odd("it has blanks or control characters"));
        }
        let Some(scheme) = scheme(url) else {
            return match is_scp(url) {
                true => Ok(Repository { url: url.to_owned(), ..Repository::default() }),
                false => Err(odd("write https://, ssh:// or git:// in front, or user@host:path")),
            };
        };
        let rest = &url[scheme.len() + 3..];
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if host.is_empty() || host.starts_with('-') || path.len() < 2 {
            return Err(odd("it needs a host and a path"));
        }
        let scheme = scheme.to_ascii_lowercase();
        match (scheme.as_str(), user) {
            ("http" | "https", user) => Ok(Repository {
                url: format!("{scheme}://{host}{path}"),
                user: user.map(|user| decoded(user, false)),
                ..Repository::default()
            }),
            (_, Some(user)) if user.contains(':') || user.starts_with('-') => {
                Err(odd("a password has no place in it: give an agent by --ssh default"))
            }
            _ => Ok(Repository { url: format!("{scheme}://{rest}"), ..Repository::default() }),
        }
    }

    fn read(base: &str, rest: &Rest) -> Result<Repository> {
        let mut read = Repository::at(base)?;
        if let Some((reference, subdir)) = &rest.fragment {
            (read.reference, read.subdir) = (reference.clone(), pattern::relative(subdir));
        }
        let invalid = |why: String| Error::Invalid(format!("{}: {why}", read.url));
        let mut by_commit = false;
        let (mut reference, mut subdir) = (read.reference.clone(), read.subdir.clone());
        let set = |known: &mut String, name: &str, value: String| match known.as_str() {
            "" => {
                *known = value;
                Ok(())
            }
            known if known == value => Ok(()),
            known => Err(invalid(format!("{name} is given twice: {known:?} and {value:?}"))),
        };
        let (mut checksum, mut keep_git_dir, mut skips_submodules) = (None, None, false);
        for (name, value) in &rest.query {
            let flag = || match value.as_str() {
                "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
                other => Err(invalid(format!("invalid {name}={other}: it is true or false"))),
            };
            let is_flag = matches!(name.as_str(), "keep-git-dir" | "submodules" | "fetch-by-commit");
            if value.is_empty() && !is_flag {
                return Err(invalid(format!("query {name:?} has no value")));
            }
            let below = |above: &str| match value.starts_with(above) {
                true => value.clone(),
                false => format!("{above}{value}"),
            };
            match name.as_str() {
                "ref" => set(&mut reference, name, value.clone())?,
                "tag" => set(&mut reference, name, below("refs/tags/"))?,
                "branch" => set(&mut reference, name, below("refs/heads/"))?,
                "subdir" => set(&mut subdir, name, pattern::relative(value))?,
                "checksum" | "commit" => checksum = Some(value.clone()),
                "keep-git-dir" => keep_git_dir = Some(flag()?),
                "submodules" => skips_submodules = !flag()?,
                "fetch-by-commit" => by_commit = flag()?,
                // All files have the commit's time here.
                "mtime" if value == "commit" => {}
                "mtime" => {
                    return Err(invalid(format!(
                        "mtime={value} is not supported: files have the time of their commit (mtime=commit)"
                    )));
                }
                _ => return Err(invalid(format!("unexpected query {name:?}"))),
            }
        }
        if by_commit {
            reference = checksum
                .clone()
                .filter(|checksum| is_commit(checksum))
                .ok_or_else(|| invalid("fetch-by-commit needs a whole commit as checksum".to_owned()))?;
        }
        (read.reference, read.subdir) = (reference, subdir);
        (read.keep_git_dir, read.skips_submodules) = (keep_git_dir, skips_submodules);
        if let Some(text) = checksum {
            read.expect(&text)?;
        }
        if !is_reference(&read.reference) {
            return Err(Error::Invalid(format!("{}: invalid git ref {:?}", read.url, read.reference)));
        }
        match read.subdir.chars().any(char::is_control) {
            true => Err(Error::Invalid(format!("{}: invalid directory {:?}", read.url, read.subdir))),
            false => Ok(read),
        }
    }

    /// The commit has to begin with these digits.
    pub fn expect(&mut self, text: &str) -> Result<()> {
        let digits = text.to_ascii_lowercase();
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex || !(CHECKSUM_DIGITS_MIN..=64).contains(&digits.len()) {
            return Err(Error::Invalid(format!(
                "invalid checksum {text} of {}: write the commit, at least its first {CHECKSUM_DIGITS_MIN} hexadecimal digits",
                self.url
            )));
        }
        match &self.checksum {
            Some(known) if *known != digits => Err(Error::Invalid(format!(
                "{}: checksum mismatch: both {known} and {digits} are expected",
                self.url
            ))),
            _ => {
                self.checksum = Some(digits);
                Ok(())
            }
        }
    }

    pub fn keeps_git_dir(&self) -> bool {
        self.keep_git_dir == Some(true)
    }

    pub fn is_ssh(&self) -> bool {
        self.url.starts_with("ssh://") || !self.url.contains("://")
    }

    pub fn is_http(&self) -> bool {
        self.url.starts_with("http://") || self.url.starts_with("https://")
    }

    /// The host with its port.
    pub fn host(&self) -> &str {
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        let authority = match self.url.contains("://") {
            true => rest.split('/').next().unwrap_or_default(),
            false => rest.split(':').next().unwrap_or_default(),
        };
        authority.rsplit('@').next().unwrap_or_default()
    }

    /// For people: no password is in it.
    pub fn shown(&self) -> String {
        match (self.reference.as_str(), self.subdir.as_str()) {
            ("", "") => self.url.clone(),
            (reference, "") => format!("{}#{reference}", self.url),
            (reference, subdir) => format!("{}#{reference}:{subdir}", self.url),
        }
    }
}

/// What is behind a repository's URL.
struct Rest {
    query: Vec<(String, String)>,
    fragment: Option<(String, String)>,
}

fn split(text: &str) -> (&str, Rest) {
    let (text, fragment) = text.split_once('#').map_or((text, None), |(text, rest)| (text, Some(rest)));
    let (text, query) = text.split_once('?').unwrap_or((text, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let query = pairs.map(|(name, value)| (decoded(name, true), decoded(value, true))).collect();
    let fragment = fragment.map(|fragment| {
        let fragment = decoded(fragment, false);
        let (reference, subdir) = fragment.split_once(':').unwrap_or((&fragment, ""));
        (reference.to_owned(), subdir.to_owned())
    });
    (text, Rest { query, fragment })
}

/// One that is known, as it is written.
fn scheme(url: &str) -> Option<&str> {
    let (scheme, _) = url.split_once("://")?;
    SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known)).then_some(scheme)
}

/// `git@host:path`, as scp(1) names files.
fn is_scp(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else { return false };
    let Some((host, path)) = rest.split_once(':') else { return false };
    let is_name = |text: &str, more: &[u8]| {
        !text.is_empty()
            && !text.starts_with('-')
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    is_name(user, b"-_") && is_name(host, b"-.") && !path.is_empty() && !path.starts_with('-')
}

/// All digits of a commit, by SHA-1 or SHA-256.
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What git-check-ref-format(1) lets a reference be called.
fn is_reference(text: &str) -> bool {
    !text.starts_with('-')
        && !text.contains("..")
        && !text.contains("@{")
        && !text.chars().any(|c| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c))
}

/// A text in which `%41` is `A` (RFC 3986, section 2.1), and a plus a blank in a form.
pub fn decoded(text: &str, is_form: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|byte| *byte != 0) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(if first == b'+' && is_form { b' ' } else { first });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A text without the names and passwords of URLs in it.
pub fn without_logins(text: &str) -> String {
    let mut bare = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        bare.push_str(before);
        bare.push_str("://");
        let ends = |c: char| matches!(c, '/' | '?' | '#' | '"' | ',') || c.is_whitespace();
        let authority = &after[..after.find(ends).unwrap_or(after.len())];
        rest = authority.rfind('@').map_or(after, |at| &after[at + 1..]);
    }
    bare + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Repository {
        Repository::parse(text).unwrap_or_else(|| panic!("{text}: none")).unwrap()
    }

    #[test]
    fn repositories_are_told_from_files() {
        for git in [
            "git@host:a/b",
            "https://host/a.git",
            "HTTPS://host/a.git#main:dir",
            "https://host/a.git?ref=v1",
            "ssh://git@host/a",
            "git://host/a",
        ] {
            assert!(Repository::parse(git).is_some(), "{git}");
        }
        for file in [
            "https://host/a.tar.gz",
            "https://host/a.git/b",
            "https://host/a?x=.git",
            "a.git",
            "./git@host:a",
            "github.com/a/b",
            "file:///a.git",
            "ext::sh -c a",
            "a b@host:c",
        ] {
            assert!(Repository::parse(file).is_none(), "{file}");
        }
        let context = Repository::parse_context("github.com/a/b#v1").unwrap().unwrap();
        assert_eq!((context.url.as_str(), context.reference.as_str()), ("https://github.com/a/b", "v1"));
    }

    #[test]
    fn names_and_passwords_are_left_out() {
        for (text, bare) in [
            ("ADD https://a:b@host/x@y git://c@d /z", "ADD https://host/x@y git://d /z"),
            ("ADD [\"http://a@b@host\", \"/\"]", "ADD [\"http://host\", \"/\"]"),
            ("git@host:a http://host?x=@y", "git@host:a http://host?x=@y"),
        ] {
            assert_eq!(without_logins(text), bare);
        }
    }

    #[test]
    fn all_forms_say_the_same() {
        let read = parse("https://joe:p%40ss@host:8/a.git#v1:/x/../y/");
        assert_eq!((read.url.as_str(), read.user.as_deref()), ("https://host:8/a.git", Some("joe:p@ss")));
        assert_eq!((read.reference.as_str(), read.subdir.as_str(), read.host()), ("v1", "y", "host:8"));
        let read = parse("git@host:a/b.git#:deep");
        assert_eq!(
            (read.url.as_str(), read.reference.as_str(), read.subdir.as_str()),
            ("git@host:a/b.git", "", "deep")
        );
        assert!(read.is_ssh() && read.host() == "host");
        let read = parse(
            "https://host/a.git?tag=v1&subdir=x&checksum=ABCDEF0&keep-git-dir=1&submodules=false&mtime=commit",
        );
        assert_eq!((read.reference.as_str(), read.subdir.as_str()), ("refs/tags/v1", "x"));
        assert_eq!(read.checksum.as_deref(), Some("abcdef0"));
        assert!(read.keeps_git_dir() && read.skips_submodules);
        assert_eq!(parse("https://host/a.git?branch=main#refs/heads/main").reference, "refs/heads/main");
        assert_eq!(parse("https://h/a.git#%6dain").shown(), "https://h/a.git#main");
        let commit = "0123456789012345678901234567890123456789";
        assert_eq!(
            parse(&format!("https://h/a.git?ref=x&checksum={commit}&fetch-by-commit")).reference,
            commit
        );
    }

    #[test]
    fn what_is_wrong_or_would_be_an_option_is_refused() {
        for text in [
            "https://host/a.git#-upload-pack=x",
            "https://host/a.git#a b",
            "https://host/a.git#a:b%0Ac",
            "https://host/a.git#x..y",
            "https://host/a.git?checksum=abc",
            "https://host/a.git?checksum=main-is-not",
            "https://host/a.git?ref=a&tag=b",
            "https://host/a.git?ref=a#b",
            "https://host/a.git?wings=2",
            "https://host/a.git?ref",
            "https://host/a.git?mtime=checkout",
            "https://host/a.git?fetch-by-commit=true&checksum=abcdef0",
            "ssh://-oProxyCommand=x/a",
            "ssh://git:secret@host/a",
            "https:///a.git",
            "git://host",
        ] {
            let refused = Repository::parse(text).unwrap_or_else(|| panic!("{text}: none"));
            let told = refused.map(|read| panic!("{text}: {read:?}")).unwrap_err().to_string();
            assert!(!told.contains("secret@"), "{told}");
        }
        for url in
            ["file:///etc", "/etc", "../x", "ext::sh", "-u", "--upload-pack=x", "git@-host:x", "git@host:-x"]
        {
            assert!(Repository::at(url).is_err(), "{url}");
        }
    }
}
