//! What becomes of the permissions of files that are put: octal ones, or the clauses of chmod(1) (POSIX.1-2024, "chmod", Extended
//! Description, with GNU's `X` and several operators in a clause).

/// Who is not named is not given more than these leave (as BuildKit has it).
const UMASK: u32 = 0o022;

/// What becomes of the permissions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ModeChange {
    #[default]
    Keep,
    Set(u32),
    /// One after the other.
    Edit(Vec<ModeEdit>),
}

/// `go-w`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModeEdit {
    /// The bits of those that are named; none: everybody, but for what [`UMASK`] withholds.
    who: u32,
    operator: Operator,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// `is_conditional`: to be run, too, by whom they concern, where it is a directory or somebody may run it by now (`X`).
    Bits { bits: u32, is_conditional: bool },
    /// What these may do now: how far their bits are from those of others.
    Copy { shift: u32 },
}

impl ModeChange {
    /// Reads `644`, `u=rwX,go-w`; none when it is neither.
    pub fn parse(text: &str) -> Option<ModeChange> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        if digits.starts_with(|first: char| first.is_ascii_digit()) {
            let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o7777);
            return mode.map(ModeChange::Set);
        }
        let mut edits = Vec::new();
        for clause in text.split(',') {
            clause_of(clause, &mut edits)?;
        }
        Some(ModeChange::Edit(edits))
    }

    /// The permissions of a file that has `mode` by now.
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            ModeChange::Keep => mode,
            ModeChange::Set(mode) => *mode,
            ModeChange::Edit(edits) => edits.iter().fold(mode, |mode, edit| edit.apply(mode, is_directory)),
        }
    }
}

impl ModeEdit {
    fn apply(self, mode: u32, is_directory: bool) -> u32 {
        let bits = match self.what {
            What::Bits { bits, is_conditional } if is_conditional && (is_directory || mode & 0o111 != 0) => {
                bits | 0o111
            }
            What::Bits { bits, .. } => bits,
            What::Copy { shift } => ((mode >> shift) & 0o7) * 0o111,
        };
        let (affected, bits) = match self.who {
            0 => (0o7777, bits & !UMASK),
            who => (who, bits & who),
        };
        match self.operator {
            Operator::Add => mode | bits,
            Operator::Remove => mode & !bits,
            Operator::Set => (mode & !affected) | bits,
        }
    }
}

/// One or more edits with the same subject: `ug+r-w`.
fn clause_of(clause: &str, edits: &mut Vec<ModeEdit>) -> Option<()> {
    let end = clause.find(['+', '-', '='])?;
    let (subject, mut rest) = clause.split_at(end);
    let mut who = 0;
    for letter in subject.chars() {
        who |= match letter {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    while let Some(letter) = rest.chars().next() {
        let operator = match letter {
            '+' => Operator::Add,
            '-' => Operator::Remove,
            _ => Operator::Set,
        };
        let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |at| at + 1);
        edits.push(ModeEdit { who, operator, what: what(&rest[1..end])? });
        rest = &rest[end..];
    }
    Some(())
}

fn what(text: &str) -> Option<What> {
    let shift = match text {
        "u" => Some(6),
        "g" => Some(3),
        "o" => Some(0),
        _ => None,
    };
    if let Some(shift) = shift {
        return Some(What::Copy { shift });
    }
    let (mut bits, mut is_conditional) = (0, false);
    for letter in text.chars() {
        match letter {
            'r' => bits |= 0o444,
            'w' => bits |= 0o222,
            'x' => bits |= 0o111,
            'X' => is_conditional = true,
            's' => bits |= 0o6000,
            't' => bits |= 0o1000,
            _ => return None,
        }
    }
    Some(What::Bits { bits, is_conditional })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_are_those_of_chmod() {
        for (text, before, file, directory) in [
            ("644", 0o755, 0o644, 0o644),
            ("0o1777", 0, 0o1777, 0o1777),
            ("u=rwX,go=rX", 0o600, 0o644, 0o755),
            ("u=rwX,go=rX", 0o700, 0o755, 0o755),
            ("go-w", 0o666, 0o644, 0o644),
            ("+x", 0o644, 0o755, 0o755),
            ("+w", 0o444, 0o644, 0o644),
            ("a+w", 0o444, 0o666, 0o666),
            ("=r", 0o777, 0o444, 0o444),
            ("g=u", 0o740, 0o770, 0o770),
            ("u+s,g+s,+t", 0o755, 0o7755, 0o7755),
            ("ug+rw-x", 0o111, 0o661, 0o661),
            ("o=", 0o777, 0o770, 0o770),
            ("u-x+X", 0o700, 0o600, 0o700),
        ] {
            let change = ModeChange::parse(text).unwrap();
            assert_eq!(
                (change.apply(before, false), change.apply(before, true)),
                (file, directory),
                "{text} of {before:o}"
            );
        }
        for wrong in ["", "8", "77777", "u", "u=rwz", "x+r", "u=r,", ",", "u=rg", "-1+"] {
            assert_eq!(ModeChange::parse(wrong), None, "{wrong}");
        }
    }
}
