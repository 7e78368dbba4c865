//! Wildcards: `*`, `?`, `[a-z]` and backslashes within a name, `**` across directories.
//!
//! A pattern is a list of states that are followed all at once, so that no pattern takes more than its length times the
//! path's.

/// A bracket that isn't closed, a backslash at the end, an empty range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// Whether a source is a pattern and not just a name.
pub fn has_wildcards(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

/// A pattern as Go's `filepath.Match` knows it: no `**`, and it matches the whole path.
#[derive(Clone, Debug)]
pub struct Glob {
    states: Vec<State>,
}

impl Glob {
    pub fn compile(pattern: &str) -> Result<Glob, BadPattern> {
        Ok(Glob { states: compile(pattern, false)? })
    }

    pub fn matches(&self, path: &str) -> bool {
        run(&self.states, path).matched
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Letter(char),
    /// Anything but a slash.
    AnyLetter,
    Class(Class),
    /// Any number of letters that aren't slashes.
    Star,
    /// Any number of letters.
    All,
    /// Nothing, or letters up to a slash. The state behind it must be `DirectoriesWithin`.
    Directories,
    DirectoriesWithin,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Class {
    fn contains(&self, letter: char) -> bool {
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&letter)) != self.negated
    }
}

/// With `directories`, `**` means any number of them; a slash behind it belongs to it.
pub(super) fn compile(pattern: &str, directories: bool) -> Result<Vec<State>, BadPattern> {
    let mut states = Vec::new();
    // Docker doesn't look at brackets behind a star that closely.
    let mut lenient = false;
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        lenient |= directories && letter == '*';
        match letter {
            '*' if directories && letters.next_if_eq(&'*').is_some() => {
                letters.next_if_eq(&'/');
                match letters.peek() {
                    None => states.push(State::All),
                    Some(_) => states.extend([State::Directories, State::DirectoriesWithin]),
                }
            }
            '*' => states.push(State::Star),
            '?' => states.push(State::AnyLetter),
            '[' => states.push(State::Class(class(&mut letters, lenient)?)),
            '\\' => states.push(State::Letter(letters.next().ok_or(BadPattern)?)),
            letter => states.push(State::Letter(letter)),
        }
    }
    Ok(states)
}

fn class(letters: &mut std::iter::Peekable<std::str::Chars>, lenient: bool) -> Result<Class, BadPattern> {
    let negated = letters.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && letters.next_if_eq(&']').is_some() {
            return Ok(Class { negated, ranges });
        }
        let first = class_letter(letters, lenient)?;
        match letters.next_if_eq(&'-') {
            Some(_) if lenient && letters.peek() == Some(&']') => ranges.extend([(first, first), ('-', '-')]),
            Some(_) => ranges.push((first, class_letter(letters, lenient)?)),
            None => ranges.push((first, first)),
        }
    }
}

fn class_letter(
    letters: &mut std::iter::Peekable<std::str::Chars>,
    lenient: bool,
) -> Result<char, BadPattern> {
    match letters.next() {
        None => Err(BadPattern),
        Some('-' | ']') if !lenient => Err(BadPattern),
        Some('\\') => letters.next().ok_or(BadPattern),
        Some(letter) => Ok(letter),
    }
}

pub(super) struct Outcome {
    pub matched: bool,
    /// Some longer text may match.
    pub open: bool,
}

/// Patterns up to this many words of states need no memory of their own.
const WORDS: usize = 4;

pub(super) fn run(states: &[State], text: &str) -> Outcome {
    let words = states.len() / 64 + 1;
    if words <= WORDS {
        let (mut now, mut next) = ([0; WORDS], [0; WORDS]);
        follow(states, text, &mut now[..words], &mut next[..words])
    } else {
        follow(states, text, &mut vec![0; words], &mut vec![0; words])
    }
}

/// `now` and `next` hold a bit per state, and one for the end.
fn follow<'b>(states: &[State], text: &str, mut now: &'b mut [u64], mut next: &'b mut [u64]) -> Outcome {
    let end = states.len();
    enter(states, now, 0);
    for letter in text.chars() {
        let slash = letter == '/';
        let mut alive = false;
        for (word, bits) in now.iter_mut().enumerate() {
            let mut bits = std::mem::take(bits);
            while bits != 0 {
                let at = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let mut step = |to| {
                    alive = true;
                    enter(states, next, to);
                };
                match states.get(at) {
                    Some(State::Letter(wanted)) if *wanted == letter => step(at + 1),
                    Some(State::AnyLetter) if !slash => step(at + 1),
                    Some(State::Class(class)) if class.contains(letter) => step(at + 1),
                    Some(State::Star) if !slash => step(at),
                    Some(State::All) => step(at),
                    Some(State::Directories) => {
                        step(at + 1);
                        if slash {
                            step(at + 2);
                        }
                    }
                    Some(State::DirectoriesWithin) => {
                        step(at);
                        if slash {
                            step(at + 1);
                        }
                    }
                    _ => {}
                }
            }
        }
        if !alive {
            return Outcome { matched: false, open: false };
        }
        std::mem::swap(&mut now, &mut next);
    }
    let matched = now[end / 64] >> (end % 64) & 1 == 1;
    now[end / 64] &= !(1 << (end % 64));
    Outcome { matched, open: now.iter().any(|word| *word != 0) }
}

/// Enters a state and those that are reached from it without a letter.
fn enter(states: &[State], set: &mut [u64], state: usize) {
    let mut at = state;
    loop {
        let (word, bit) = (&mut set[at / 64], 1 << (at % 64));
        if *word & bit != 0 {
            return;
        }
        *word |= bit;
        match states.get(at) {
            Some(State::Star | State::All) => at += 1,
            Some(State::Directories) => at += 2,
            _ => return,
        }
    }
}
