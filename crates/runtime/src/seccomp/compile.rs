//! Decides what a profile answers to each system call, and has it written as a search tree over the numbers.
//!
//! Calls that are allowed whatever their arguments are answered without a look at the arguments: since Linux 5.11
//! the kernel finds those when the filter is installed and then skips the filter for them.

use corten_sys::seccomp::{Flags, INSTRUCTIONS_MAX, Instruction};

use super::arch::{Arch, Named, Syscall, X32_BIT};
use super::filter::{Assembler, Label};
use super::multiplex;
use crate::spec::{Seccomp, SeccompAction, SyscallArg, SyscallRule};

/// A finished filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub instructions: Vec<Instruction>,
    pub flags: Flags,
    /// Some rule asks a supervisor: the filter must be installed with a listener.
    pub notifies: bool,
}

/// Why a profile cannot become a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("seccomp: unknown architecture {0:?}")]
    Architecture(String),
    #[error("seccomp: unknown flag {0:?}")]
    Flag(String),
    #[error("seccomp: {0:?}: argument index {1} is not within 0 to 5")]
    ArgumentIndex(String, u32),
    #[error("seccomp: errno {0} does not fit into 16 bits")]
    Errno(u32),
    #[error("seccomp: action {0:?} takes no errnoRet")]
    ErrnoUnused(SeccompAction),
    #[error("seccomp: the default action cannot be NOTIFY")]
    DefaultNotify,
    #[error("seccomp: NOTIFY for `write` would stop the runtime before the program starts")]
    NotifyWrite,
    #[error("seccomp: the profile needs {0} instructions, the kernel takes {INSTRUCTIONS_MAX}")]
    TooLarge(usize),
}

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_KILL_THREAD: u32 = 0;
const RET_TRAP: u32 = 0x0003_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_NOTIFY: u32 = 0x7fc0_0000;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const RET_ALLOW: u32 = 0x7fff_0000;

/// Compiles a profile for the machine that this program runs on.
pub fn compile(profile: &Seccomp) -> Result<Program, Error> {
    compile_for(profile, Arch::NATIVE)
}

pub(super) fn compile_for(profile: &Seccomp, native: Arch) -> Result<Program, Error> {
    if profile.default_action == SeccompAction::Notify {
        return Err(Error::DefaultNotify);
    }
    let default = answer(profile.default_action, profile.default_errno_ret)?;
    let rules = resolve(profile, default)?;
    let newer = answer_to_newer(profile.default_action, default);
    let archs = architectures(profile, native)?;

    let mut asm = Assembler::with_capacity(512);
    // An interface that the profile does not name must not be a way around it.
    let mut entry = asm.give(RET_KILL_THREAD);
    for &arch in archs.iter().rev().filter(|arch| **arch != Arch::X32) {
        let mut ranges = Ranges::default();
        let mut checks = Vec::new();
        add_arch(&mut ranges, &mut checks, arch, &rules, default, newer);
        if arch == Arch::X86_64 && archs.contains(&Arch::X32) {
            add_arch(&mut ranges, &mut checks, Arch::X32, &rules, default, newer);
        } else if arch == Arch::X86_64 {
            ranges.push(X32_BIT, Outcome::Answer(RET_KILL_THREAD));
            // -1: what a tracer writes to skip a call; never an x32 call.
            ranges.push(u32::MAX, Outcome::Answer(newer.unwrap_or(default)));
        }
        let tree = write_tree(&mut asm, &ranges.0, &checks, default);
        let section = asm.load_number(tree);
        entry = asm.if_equal(arch.audit(), section, entry);
    }
    let entry = asm.load_arch(entry);
    let instructions = asm.finish(entry);
    if instructions.len() > INSTRUCTIONS_MAX {
        return Err(Error::TooLarge(instructions.len()));
    }
    let notifies = profile.syscalls.iter().any(|rule| rule.action == SeccompAction::Notify);
    Ok(Program { instructions, flags: flags(profile, notifies)?, notifies })
}

/// The value that the filter returns for an action.
fn answer(action: SeccompAction, errno: Option<u32>) -> Result<u32, Error> {
    let data = errno.unwrap_or(EPERM);
    if data > u32::from(u16::MAX) {
        return Err(Error::Errno(data));
    }
    let answer = match action {
        SeccompAction::Errno => return Ok(RET_ERRNO | data),
        SeccompAction::Trace => return Ok(RET_TRACE | data),
        SeccompAction::Kill | SeccompAction::KillThread => RET_KILL_THREAD,
        SeccompAction::KillProcess => RET_KILL_PROCESS,
        SeccompAction::Trap => RET_TRAP,
        SeccompAction::Allow => RET_ALLOW,
        SeccompAction::Log => RET_LOG,
        SeccompAction::Notify => RET_NOTIFY,
    };
    if errno.is_some() { Err(Error::ErrnoUnused(action)) } else { Ok(answer) }
}

/// Programs probe for new system calls and fall back on ENOSYS only, so that a profile older than the call has to
/// say that. Profiles that let unknown calls through (or to a tracer) do not meet the question.
fn answer_to_newer(action: SeccompAction, default: u32) -> Option<u32> {
    let open = matches!(action, SeccompAction::Allow | SeccompAction::Log | SeccompAction::Trace);
    (!open && default != RET_ERRNO | ENOSYS).then_some(RET_ERRNO | ENOSYS)
}

/// The native architecture first, then the others in the profile's order.
fn architectures(profile: &Seccomp, native: Arch) -> Result<Vec<Arch>, Error> {
    let mut archs = vec![native];
    for name in &profile.architectures {
        match Arch::named(name) {
            Named::Known(arch) if !archs.contains(&arch) => archs.push(arch),
            Named::Known(_) | Named::Foreign => {}
            Named::Unknown => return Err(Error::Architecture(name.clone())),
        }
    }
    // x32 calls come under x86_64's name.
    if archs.contains(&Arch::X32) && !archs.contains(&Arch::X86_64) {
        archs.push(Arch::X86_64);
    }
    Ok(archs)
}

fn flags(profile: &Seccomp, notifies: bool) -> Result<Flags, Error> {
    if profile.flags.is_empty() {
        return Ok(Flags::SPEC_ALLOW);
    }
    let mut flags = Flags::default();
    for name in &profile.flags {
        flags = flags.with(match name.as_str() {
            "SECCOMP_FILTER_FLAG_TSYNC" => Flags::TSYNC,
            "SECCOMP_FILTER_FLAG_LOG" => Flags::LOG,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Flags::SPEC_ALLOW,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" if notifies => Flags::WAIT_KILLABLE_RECV,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => Flags::default(),
            _ => return Err(Error::Flag(name.clone())),
        });
    }
    Ok(flags)
}

/// One name of one rule.
struct Resolved<'a> {
    syscall: Syscall,
    args: &'a [SyscallArg],
    answer: u32,
    /// Says what happens anyway: counts only for which calls the profile knows.
    idle: bool,
}

/// Looks all names up. A name that no architecture has is a call that this machine cannot make.
fn resolve(profile: &Seccomp, default: u32) -> Result<Vec<Resolved<'_>>, Error> {
    let count = profile.syscalls.iter().map(|rule| rule.names.len()).sum();
    let mut resolved = Vec::with_capacity(count);
    for rule in &profile.syscalls {
        check(rule)?;
        let answer = answer(rule.action, rule.errno_ret)?;
        for syscall in rule.names.iter().filter_map(|name| Syscall::named(name)) {
            resolved.push(Resolved { syscall, args: &rule.args, answer, idle: answer == default });
        }
    }
    Ok(resolved)
}

fn check(rule: &SyscallRule) -> Result<(), Error> {
    if rule.action == SeccompAction::Notify && rule.names.iter().any(|name| name == "write") {
        return Err(Error::NotifyWrite);
    }
    match rule.args.iter().find(|arg| arg.index > 5) {
        Some(arg) => Err(Error::ArgumentIndex(rule.names.join(", "), arg.index)),
        None => Ok(()),
    }
}

/// What happens to a system call number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Answer(u32),
    /// Depends on the arguments: an index into the list of checks.
    Check(usize),
}

/// Conditions (all must hold) and the answer then.
struct Check<'a> {
    conditions: &'a [SyscallArg],
    answer: u32,
}

/// The rules of one call in the profile's order; the first that matches decides.
struct Checks<'a> {
    narrow: bool,
    list: Vec<Check<'a>>,
}

/// Outcomes by first number, without gaps, neighbours different.
#[derive(Default)]
struct Ranges(Vec<(u32, Outcome)>);

impl Ranges {
    fn push(&mut self, first: u32, outcome: Outcome) {
        if self.0.last().is_none_or(|(_, last)| *last != outcome) {
            self.0.push((first, outcome));
        }
    }

    fn push_all(&mut self, base: u32, outcomes: &[Option<Outcome>], gap: Outcome) {
        for (number, outcome) in (base..).zip(outcomes) {
            self.push(number, outcome.unwrap_or(gap));
        }
    }
}

/// Appends the outcomes of an architecture's numbers; x32's follow those of x86_64.
fn add_arch<'a>(
    ranges: &mut Ranges,
    checks: &mut Vec<Checks<'a>>,
    arch: Arch,
    rules: &[Resolved<'a>],
    default: u32,
    newer: Option<u32>,
) {
    let mut common: Vec<Option<Outcome>> = Vec::with_capacity(640);
    let apart = arch.numbers_apart();
    let mut special = vec![None; apart.as_ref().map_or(0, |numbers| numbers.len())];
    for rule in rules {
        let Some(number) = rule.syscall.number(arch) else { continue };
        let slot = match &apart {
            Some(numbers) if number >= numbers.start => slot(&mut special, number - numbers.start),
            _ => slot(&mut common, number),
        };
        if !rule.idle {
            merge(slot, checks, rule.args, rule.answer, arch.is_narrow());
        }
    }
    if arch == Arch::X86 {
        add_hidden(&mut common, checks, rules);
    }
    let gap = Outcome::Answer(default);
    let known = !common.is_empty() || special.iter().any(Option::is_some);
    let newer = newer.filter(|_| known).map_or(gap, Outcome::Answer);
    let base = if arch == Arch::X32 { X32_BIT } else { 0 };
    ranges.push_all(base, &common, gap);
    ranges.push(base + common.len() as u32, newer);
    if let Some(numbers) = apart {
        ranges.push_all(base + numbers.start, &special, gap);
        ranges.push(base + numbers.end, newer);
    }
}

/// i386: a rule without arguments also holds behind the multiplexer. Arguments are in memory there, out of sight.
fn add_hidden<'a>(outcomes: &mut Vec<Option<Outcome>>, checks: &mut Vec<Checks<'a>>, rules: &[Resolved<'a>]) {
    for hidden in multiplex::hidden() {
        let open =
            |rule: &&Resolved<'_>| rule.syscall == hidden.function && rule.args.is_empty() && !rule.idle;
        for rule in rules.iter().filter(open) {
            let slot = slot(outcomes, hidden.entry);
            merge(slot, checks, std::slice::from_ref(hidden.condition), rule.answer, true);
        }
    }
}

fn slot(outcomes: &mut Vec<Option<Outcome>>, number: u32) -> &mut Option<Outcome> {
    let index = number as usize;
    if outcomes.len() <= index {
        outcomes.resize(index + 1, None);
    }
    &mut outcomes[index]
}

/// Adds a rule to what is known of a call: one without conditions beats those with, and the first of its kind stays.
fn merge<'a>(
    slot: &mut Option<Outcome>,
    checks: &mut Vec<Checks<'a>>,
    args: &'a [SyscallArg],
    answer: u32,
    narrow: bool,
) {
    if let Some(Outcome::Answer(_)) = slot {
        return;
    }
    if args.is_empty() {
        *slot = Some(Outcome::Answer(answer));
        return;
    }
    let index = match slot {
        Some(Outcome::Check(index)) => *index,
        _ => {
            checks.push(Checks { narrow, list: Vec::new() });
            *slot = Some(Outcome::Check(checks.len() - 1));
            checks.len() - 1
        }
    };
    let list = &mut checks[index].list;
    if has_repeated_index(args) {
        // As all runtimes do: an argument that is named twice means alternatives.
        list.extend(args.chunks(1).map(|conditions| Check { conditions, answer }));
    } else {
        list.push(Check { conditions: args, answer });
    }
}

fn has_repeated_index(args: &[SyscallArg]) -> bool {
    args.iter().enumerate().any(|(at, arg)| args[..at].iter().any(|earlier| earlier.index == arg.index))
}

fn write_tree(asm: &mut Assembler, ranges: &[(u32, Outcome)], checks: &[Checks<'_>], default: u32) -> Label {
    match ranges {
        [] => asm.give(default),
        [(_, Outcome::Answer(answer))] => asm.give(*answer),
        [(_, Outcome::Check(index))] => write_checks(asm, &checks[*index], default),
        _ => {
            let (left, right) = ranges.split_at(ranges.len() / 2);
            let above = write_tree(asm, right, checks, default);
            let below = write_tree(asm, left, checks, default);
            asm.if_greater_or_equal(right[0].0, above, below)
        }
    }
}

fn write_checks(asm: &mut Assembler, checks: &Checks<'_>, default: u32) -> Label {
    let mut otherwise = asm.give(default);
    for check in checks.list.iter().rev() {
        let mut next = asm.give(check.answer);
        for condition in check.conditions.iter().rev() {
            next = asm.if_argument(condition, checks.narrow, next, otherwise);
        }
        otherwise = next;
    }
    otherwise
}
