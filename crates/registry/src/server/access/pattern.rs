//! Patterns of repository names. Knows nothing of who asks, but for the one name that `{user}` stands for.

use std::fmt;

/// Longer ones say nothing that shorter ones can't, as names have 255 characters at most.
const SEGMENTS_MAX: usize = 64;

/// A repository pattern, segment by segment: `*` stands for any text within one segment, `**` for one or more whole segments, `{user}` for
/// the name of the user who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// With `*` in it, perhaps.
    Like(String),
    OneOrMore,
    User,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("is empty")]
    Empty,
    #[error("has an empty segment; repositories are named like team/app")]
    EmptySegment,
    #[error("has {0:?} in it, which no repository's name has; patterns know *, ** and {{user}}")]
    Character(char),
    #[error("has ** beside other text; ** stands for whole segments, as in team/**")]
    Mixed,
    #[error("has more than {SEGMENTS_MAX} segments")]
    TooLong,
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        let segments = text.split('/').map(Segment::parse).collect::<Result<Vec<_>, _>>()?;
        if segments.len() > SEGMENTS_MAX {
            return Err(PatternError::TooLong);
        }
        Ok(Self { text: text.to_owned(), segments })
    }

    /// Whether a repository's name is meant. `user` is who `{user}` stands for; nobody: such a pattern means nothing.
    pub fn matches(&self, repository: &str, user: Option<&str>) -> bool {
        // reached[n]: the segments so far can stand for the first n of the name. One pass for each: no pattern makes it explode.
        let names: Vec<&str> = repository.split('/').collect();
        let mut reached = vec![false; names.len() + 1];
        reached[0] = true;
        for segment in &self.segments {
            let mut next = vec![false; names.len() + 1];
            for (at, name) in names.iter().enumerate() {
                next[at + 1] = match segment {
                    Segment::OneOrMore => reached[at] || next[at],
                    Segment::Like(like) => reached[at] && is_like(name, like),
                    Segment::User => reached[at] && user == Some(*name),
                };
            }
            reached = next;
        }
        reached[names.len()]
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, PatternError> {
        match text {
            "" => Err(PatternError::EmptySegment),
            "**" => Ok(Self::OneOrMore),
            "{user}" => Ok(Self::User),
            _ if text.contains("**") => Err(PatternError::Mixed),
            _ => match text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-' | '*')) {
                Some(odd) => Err(PatternError::Character(odd)),
                None => Ok(Self::Like(text.to_owned())),
            },
        }
    }
}

/// Whether a text is like one with `*` for anything. Only the last `*` is ever taken back, so the time is bounded by the lengths' product.
pub fn is_like(text: &str, like: &str) -> bool {
    let (text, like) = (text.as_bytes(), like.as_bytes());
    let (mut at, mut like_at) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        match like.get(like_at) {
            Some(b'*') => {
                star = Some((at, like_at));
                like_at += 1;
            }
            Some(byte) if *byte == text[at] => {
                at += 1;
                like_at += 1;
            }
            _ => match &mut star {
                Some((from, star_at)) => {
                    *from += 1;
                    (at, like_at) = (*from, *star_at + 1);
                }
                None => return false,
            },
        }
    }
    like[like_at..].iter().all(|byte| *byte == b'*')
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests;
