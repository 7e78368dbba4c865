//! An instruction's text, cut into keyword, flags and arguments; what they mean is `instruction`'s affair.

use super::ast::{Document, Escape, Pair};
use super::diagnostic::Problem;
use super::{flags, words};

/// Instructions by their upper-case names, and how their arguments are cut.
const KEYWORDS: [(&str, Keyword); 18] = [
    ("ADD", Keyword::Add),
    ("ARG", Keyword::Arg),
    ("CMD", Keyword::Cmd),
    ("COPY", Keyword::Copy),
    ("ENTRYPOINT", Keyword::Entrypoint),
    ("ENV", Keyword::Env),
    ("EXPOSE", Keyword::Expose),
    ("FROM", Keyword::From),
    ("HEALTHCHECK", Keyword::Healthcheck),
    ("LABEL", Keyword::Label),
    ("MAINTAINER", Keyword::Maintainer),
    ("ONBUILD", Keyword::Onbuild),
    ("RUN", Keyword::Run),
    ("SHELL", Keyword::Shell),
    ("STOPSIGNAL", Keyword::Stopsignal),
    ("USER", Keyword::User),
    ("VOLUME", Keyword::Volume),
    ("WORKDIR", Keyword::Workdir),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
}

impl Keyword {
    pub fn parse(text: &str) -> Option<Keyword> {
        KEYWORDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, keyword)| *keyword)
    }

    pub fn name(self) -> &'static str {
        KEYWORDS.iter().find(|(_, keyword)| *keyword == self).map_or("", |(name, _)| name)
    }

    pub fn names() -> impl Iterator<Item = &'static str> {
        KEYWORDS.iter().map(|(name, _)| *name)
    }
}

#[derive(Debug)]
pub(super) struct Statement<'t> {
    /// As written.
    pub word: &'t str,
    /// `None`: no instruction has this name.
    pub keyword: Option<Keyword>,
    pub flags: Vec<String>,
    pub arguments: Arguments<'t>,
    /// Filled by who reads the lines below.
    pub documents: Vec<Document>,
}

#[derive(Debug)]
pub(super) enum Arguments<'t> {
    /// Nothing, or of an instruction that nobody knows.
    None,
    /// All of it, as it is.
    Text(&'t str),
    Words(Vec<String>),
    Json(Vec<String>),
    Pairs(Vec<Pair>),
    /// HEALTHCHECK: the kind of check and what it starts.
    Check(&'t str, Box<Arguments<'t>>),
    /// ONBUILD: an instruction of its own.
    Trigger(Box<Statement<'t>>),
}

impl<'t> Statement<'t> {
    /// Cuts up the text of one instruction. Chains of ONBUILD are refused later, but not followed here either.
    pub fn split(text: &'t str, escape: Escape) -> Result<Statement<'t>, Problem> {
        let mut chain = Vec::new();
        let mut text = text;
        loop {
            let (word, flags, rest) = head(text, escape);
            let keyword = Keyword::parse(word);
            if keyword == Some(Keyword::Onbuild) && !rest.is_empty() {
                chain.push((word, flags));
                text = rest;
                continue;
            }
            let arguments = arguments(keyword, rest, escape)?;
            let mut statement = Statement { word, keyword, flags, arguments, documents: Vec::new() };
            // Only the two outermost matter: a second ONBUILD is an error.
            chain.truncate(2);
            while let Some((word, flags)) = chain.pop() {
                let arguments = Arguments::Trigger(Box::new(statement));
                let keyword = Some(Keyword::Onbuild);
                statement = Statement { word, keyword, flags, arguments, documents: Vec::new() };
            }
            return Ok(statement);
        }
    }

    /// Whether `<<` in it can open a here-document.
    pub fn takes_documents(&self) -> bool {
        let inner = match (self.keyword, &self.arguments) {
            (Some(Keyword::Onbuild), Arguments::Trigger(inner)) => inner,
            _ => self,
        };
        matches!(inner.keyword, Some(Keyword::Add | Keyword::Copy | Keyword::Run))
            && !matches!(inner.arguments, Arguments::Json(_))
    }
}

fn head(text: &str, escape: Escape) -> (&str, Vec<String>, &str) {
    match words::split_first(text.trim()) {
        Some((word, rest)) => {
            let (flags, rest) = flags::split(rest, escape);
            (word, flags, rest.trim())
        }
        None => (text.trim(), Vec::new(), ""),
    }
}

fn arguments<'t>(keyword: Option<Keyword>, text: &'t str, escape: Escape) -> Result<Arguments<'t>, Problem> {
    let Some(keyword) = keyword else { return Ok(Arguments::None) };
    if text.is_empty() {
        return Ok(Arguments::None);
    }
    Ok(match keyword {
        Keyword::Add | Keyword::Copy | Keyword::Volume => match words::json(text)? {
            Some(words) => Arguments::Json(words),
            None => Arguments::Words(words::at_blanks(text)),
        },
        Keyword::Cmd | Keyword::Entrypoint | Keyword::Run | Keyword::Shell => match words::json(text)? {
            Some(words) => Arguments::Json(words),
            None => Arguments::Text(text),
        },
        Keyword::Arg => Arguments::Words(words::quoted(text, escape)),
        Keyword::Env => Arguments::Pairs(words::pairs(text, "ENV", escape)?),
        Keyword::Label => Arguments::Pairs(words::pairs(text, "LABEL", escape)?),
        Keyword::Expose | Keyword::From => Arguments::Words(words::at_blanks(text)),
        Keyword::Healthcheck => {
            let (kind, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
            let rest = rest.trim_start();
            let inner = match words::json(rest)? {
                Some(words) => Arguments::Json(words),
                None if rest.is_empty() => Arguments::None,
                None => Arguments::Text(rest),
            };
            Arguments::Check(kind, Box::new(inner))
        }
        // Only reached without an instruction behind it.
        Keyword::Onbuild => Arguments::None,
        Keyword::Maintainer | Keyword::Stopsignal | Keyword::User | Keyword::Workdir => Arguments::Text(text),
    })
}
