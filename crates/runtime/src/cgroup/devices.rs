//! The device rules of a configuration, as version 1's lists and as version 2's program.
//!
//! Rules are ordered and later ones win, per kind of access. A program says exactly that; the lists of version 1 know
//! one default and exceptions from it, so that some sequences of rules cannot be said there and are refused.

use std::fmt;

use corten_sys::bpf::Instruction;

use super::Error;
use crate::spec::DeviceRule;

const READ: u8 = 2;
const WRITE: u8 = 4;
const MKNOD: u8 = 1;
const ALL_ACCESS: u8 = READ | WRITE | MKNOD;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `BPF_DEVCG_DEV_BLOCK` is 1, `BPF_DEVCG_DEV_CHAR` 2.
    Block = 1,
    Char = 2,
}

/// A rule that was checked. `None` stands for any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) allow: bool,
    pub(super) kind: Option<Kind>,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    /// Bits as the kernel's programs see them (`BPF_DEVCG_ACC_…`).
    pub(super) access: u8,
}

impl Rule {
    /// Does it say something about every device and every access?
    fn is_total(&self) -> bool {
        self.kind.is_none() && self.major.is_none() && self.minor.is_none() && self.access == ALL_ACCESS
    }

    fn same_devices(&self, other: &Self) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }

    fn covers(&self, other: &Self) -> bool {
        fn wider<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
            one.is_none() || one == other
        }
        wider(self.kind, other.kind) && wider(self.major, other.major) && wider(self.minor, other.minor)
    }
}

/// What every container may use (OCI runtime specification, default devices; making nodes is not using them).
pub fn default_rules() -> Vec<DeviceRule> {
    let rule = |kind: &str, major: Option<i64>, minor: Option<i64>, access: &str| DeviceRule {
        allow: true,
        kind: Some(kind.into()),
        major,
        minor,
        access: Some(access.into()),
    };
    let mut rules = vec![rule("c", None, None, "m"), rule("b", None, None, "m")];
    // null, zero, full, random, urandom; tty, ptmx; the terminals of devpts
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)] {
        rules.push(rule("c", Some(major), Some(minor), "rwm"));
    }
    rules.push(rule("c", Some(136), None, "rwm"));
    rules
}

/// Checks the rules of a configuration.
pub(super) fn parse(rules: &[DeviceRule]) -> Result<Vec<Rule>, Error> {
    rules.iter().map(parse_one).collect()
}

fn parse_one(rule: &DeviceRule) -> Result<Rule, Error> {
    let refuse = |reason: String| Error::Value { field: "devices".into(), reason };
    let kind = match rule.kind.as_deref() {
        None | Some("a" | "") => None,
        Some("c" | "u") => Some(Kind::Char),
        Some("b") => Some(Kind::Block),
        Some(other) => return Err(refuse(format!("{other:?} is not one of a, c, b"))),
    };
    let number = |number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(number) => {
            u32::try_from(number).map(Some).map_err(|_| refuse(format!("{number} is not a device number")))
        }
    };
    let mut access = 0;
    for letter in rule.access.as_deref().unwrap_or("rwm").chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            other => return Err(refuse(format!("{other:?} is not one of r, w, m"))),
        };
    }
    let access = if access == 0 { ALL_ACCESS } else { access };
    Ok(Rule { allow: rule.allow, kind, major: number(rule.major)?, minor: number(rule.minor)?, access })
}

/// Does nothing deny anything?
pub(super) fn allows_everything(rules: &[Rule]) -> bool {
    match rules.iter().rposition(Rule::is_total) {
        Some(last) => rules[last..].iter().all(|rule| rule.allow),
        None => false,
    }
}

/// A line for `devices.allow` or `devices.deny`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line(Option<Rule>);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(rule) = &self.0 else { return f.write_str("a") };
        f.write_str(if rule.kind == Some(Kind::Block) { "b " } else { "c " })?;
        for (number, end) in [(rule.major, ":"), (rule.minor, " ")] {
            match number {
                Some(number) => write!(f, "{number}{end}")?,
                None => write!(f, "*{end}")?,
            }
        }
        for (bit, letter) in [(READ, "r"), (WRITE, "w"), (MKNOD, "m")] {
            if rule.access & bit != 0 {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// What a group of version 1 knows: a default, and exceptions from it (of definite kind, none twice).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lists {
    default_allow: bool,
    exceptions: Vec<Rule>,
}

/// What to write, in this order: `reset_deny` and `deny` into `devices.deny`, `allow` between them into `devices.allow`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) reset_deny: Vec<Line>,
    pub(super) allow: Vec<Line>,
    pub(super) deny: Vec<Line>,
}

impl Lists {
    pub(super) fn from_rules(rules: &[Rule]) -> Result<Self, Error> {
        let mut lists = Self::default();
        for rule in rules {
            if rule.is_total() {
                lists = Self { default_allow: rule.allow, exceptions: Vec::new() };
                continue;
            }
            let kinds: &[Kind] = match rule.kind {
                Some(Kind::Char) => &[Kind::Char],
                Some(Kind::Block) => &[Kind::Block],
                None => &[Kind::Char, Kind::Block],
            };
            for kind in kinds {
                lists.add(Rule { kind: Some(*kind), ..*rule })?;
            }
        }
        Ok(lists)
    }

    /// Reads `devices.list`, which shows the exceptions or, where everything is allowed, `a *:* rwm`.
    pub(super) fn parse(text: &str) -> Self {
        let mut lists = Self::default();
        for line in text.lines() {
            let mut words = line.split([' ', ':']);
            let (kind, major, minor) = (words.next(), words.next(), words.next());
            let kind = match kind {
                Some("a") => return Self { default_allow: true, exceptions: Vec::new() },
                Some("b") => Some(Kind::Block),
                _ => Some(Kind::Char),
            };
            let number = |word: Option<&str>| word.and_then(|word| word.parse().ok());
            let bit = |letter| match letter {
                'r' => READ,
                'w' => WRITE,
                _ => MKNOD,
            };
            let access = words.next().unwrap_or_default().chars().map(bit).fold(0, |all, bit| all | bit);
            lists.exceptions.push(Rule {
                allow: true,
                kind,
                major: number(major),
                minor: number(minor),
                access,
            });
        }
        lists
    }

    fn add(&mut self, rule: Rule) -> Result<(), Error> {
        if rule.allow != self.default_allow {
            match self.exceptions.iter_mut().find(|known| known.same_devices(&rule)) {
                Some(known) => known.access |= rule.access,
                None => self.exceptions.push(rule),
            }
            return Ok(());
        }
        for known in &mut self.exceptions {
            if rule.covers(known) {
                known.access &= !rule.access;
            } else if known.access & rule.access != 0 && known.covers(&rule) {
                let reason = format!(
                    "cgroup v1 cannot say `{} {}` within the wider `{}`",
                    if rule.allow { "allow" } else { "deny" },
                    Line(Some(rule)),
                    Line(Some(*known))
                );
                return Err(Error::Value { field: "devices".into(), reason });
            }
        }
        self.exceptions.retain(|known| known.access != 0);
        Ok(())
    }

    /// For a new group, which has its parent's lists.
    pub(super) fn changes_from_scratch(&self) -> Changes {
        let lines: Vec<_> = self.exceptions.iter().map(|rule| Line(Some(*rule))).collect();
        if self.default_allow {
            // A new group below one that allows everything does so too; below another one nobody could.
            return Changes { deny: lines, ..Changes::default() };
        }
        Changes { reset_deny: vec![Line(None)], allow: lines, deny: Vec::new() }
    }

    /// From what a living group has. What stays allowed is never denied in between; a change of the default has to
    /// begin at the beginning.
    pub(super) fn changes(&self, current: &Self) -> Changes {
        if self.default_allow {
            let mut changes = self.changes_from_scratch();
            changes.allow.insert(0, Line(None));
            return changes;
        }
        if current.default_allow {
            return self.changes_from_scratch();
        }
        Changes { reset_deny: Vec::new(), allow: self.beyond(current), deny: current.beyond(self) }
    }

    /// The exceptions, or parts of their access, that the other lacks.
    fn beyond(&self, other: &Self) -> Vec<Line> {
        let rest = |rule: &Rule| {
            let known = other.exceptions.iter().find(|known| known.same_devices(rule));
            let access = rule.access & !known.map_or(0, |known| known.access);
            (access != 0).then_some(Line(Some(Rule { access, ..*rule })))
        };
        self.exceptions.iter().filter_map(rest).collect()
    }
}

// Registers of the program: the context comes in 1, the answer goes out in 0.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

// Operations (linux/bpf.h): class, operation, and whether the operand is a number (K) or a register (X).
const LOAD_WORD: u8 = 0x61;
const MOVE_K: u8 = 0xb7;
const MOVE32_X: u8 = 0xbc;
const AND32_K: u8 = 0x54;
const SHIFT_RIGHT32_K: u8 = 0x74;
const JUMP_NOT_EQUAL32_K: u8 = 0x56;
const JUMP_EQUAL32_K: u8 = 0x16;
const EXIT: u8 = 0x95;

/// A program for `struct bpf_cgroup_dev_ctx`: goes through the rules from the last to the first. A rule that allows
/// takes its kinds of access off what is still asked for, one that denies any of it ends with no. 1 is yes.
///
/// The comparisons are 32-bit ones (Linux 5.1), so that large device numbers are not taken as negative.
pub(super) fn program(rules: &[Rule]) -> Vec<Instruction> {
    let load = |to, offset| op(LOAD_WORD, to, CONTEXT, offset, 0);
    let mut program = vec![
        // Low half of the first word: kind; high half: access.
        load(KIND, 0),
        op(MOVE32_X, ACCESS, KIND, 0, 0),
        op(AND32_K, KIND, 0, 0, 0xffff),
        op(SHIFT_RIGHT32_K, ACCESS, 0, 0, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    // Nothing before the last rule about everything can still matter.
    let first = rules.iter().rposition(Rule::is_total).unwrap_or(0);
    let mut ended = false;
    for rule in rules[first.min(rules.len())..].iter().rev() {
        if rule.is_total() {
            program.extend(answer(rule.allow));
            ended = true;
            break;
        }
        program.extend(block(rule));
    }
    if !ended {
        program.extend(answer(false));
    }
    program
}

/// The instructions of one rule.
fn block(rule: &Rule) -> Vec<Instruction> {
    let body = if rule.allow {
        let mut body = vec![
            op(AND32_K, ACCESS, 0, 0, i32::from(!rule.access & ALL_ACCESS)),
            // Something is left to ask the earlier rules.
            op(JUMP_NOT_EQUAL32_K, ACCESS, 0, 2, 0),
        ];
        body.extend(answer(true));
        body
    } else {
        let mut body = vec![
            op(MOVE32_X, SCRATCH, ACCESS, 0, 0),
            op(AND32_K, SCRATCH, 0, 0, i32::from(rule.access)),
            op(JUMP_EQUAL32_K, SCRATCH, 0, 2, 0),
        ];
        body.extend(answer(false));
        body
    };
    let conditions = [
        rule.kind.map(|kind| (KIND, kind as u32)),
        rule.major.map(|major| (MAJOR, major)),
        rule.minor.map(|minor| (MINOR, minor)),
    ];
    let conditions: Vec<_> = conditions.into_iter().flatten().collect();
    let mut block = Vec::with_capacity(conditions.len() + body.len());
    for (at, (register, value)) in conditions.iter().enumerate() {
        let past_the_rule = conditions.len() - 1 - at + body.len();
        block.push(op(JUMP_NOT_EQUAL32_K, *register, 0, past_the_rule as i16, *value as i32));
    }
    block.extend(body);
    block
}

fn answer(allow: bool) -> [Instruction; 2] {
    [op(MOVE_K, ANSWER, 0, 0, i32::from(allow)), op(EXIT, 0, 0, 0, 0)]
}

const fn op(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: to | from << 4, offset, immediate }
}
