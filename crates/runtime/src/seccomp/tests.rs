use std::collections::BTreeSet;

use corten_sys::seccomp::Flags;
use proptest::prelude::*;

use super::arch::{Arch, Syscall, X32_BIT};
use super::compile::{Error, Program, compile_for};
use super::default::profile_for;
use super::{ProfileError, from_docker_json};
use crate::spec::{Seccomp, SeccompAction, SeccompOperator, SyscallArg, SyscallRule};
use interpreter::{Call, run};

mod interpreter;
mod kernel;

const ALLOW: u32 = 0x7fff_0000;
const KILL_THREAD: u32 = 0;
const fn errno(number: u32) -> u32 {
    0x0005_0000 | number
}

fn number(name: &str, arch: Arch) -> u32 {
    Syscall::named(name).unwrap().number(arch).unwrap()
}

fn call(arch: Arch, number: u32, args: [u64; 6]) -> Call {
    let bit = if arch == Arch::X32 { X32_BIT } else { 0 };
    Call { arch: arch.audit(), number: number | bit, args }
}

fn answer(program: &Program, arch: Arch, name: &str, args: [u64; 6]) -> u32 {
    run(&program.instructions, &call(arch, number(name, arch), args)).answer
}

fn rule(
    names: &[&str],
    action: SeccompAction,
    args: &[(u32, SeccompOperator, u64, Option<u64>)],
) -> SyscallRule {
    SyscallRule {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        action,
        errno_ret: None,
        args: args
            .iter()
            .map(|&(index, op, value, value_two)| SyscallArg { index, value, value_two, op })
            .collect(),
    }
}

fn allowing(syscalls: Vec<SyscallRule>) -> Seccomp {
    Seccomp { default_action: SeccompAction::Errno, syscalls, ..Seccomp::default() }
}

fn denying(syscalls: Vec<SyscallRule>) -> Seccomp {
    Seccomp { default_action: SeccompAction::Allow, syscalls, ..Seccomp::default() }
}

#[test]
fn table_is_sorted_and_knows_every_architecture() {
    assert_eq!(number("read", Arch::X86_64), 0);
    assert_eq!(number("execve", Arch::X32), 520);
    assert_eq!(number("socketcall", Arch::X86), 102);
    assert_eq!(number("openat", Arch::Aarch64), 56);
    assert_eq!(number("set_tls", Arch::Arm), 0x000f_0005);
    assert_eq!(number("riscv_flush_icache", Arch::Riscv64), 259);
    for name in ["open", "mseal", "_llseek", "uretprobe", "writev", "listns"] {
        assert_eq!(Syscall::named(name).map(Syscall::name), Some(name));
    }
    assert!(Syscall::named("open_").is_none());
    assert!(Syscall::named("open").unwrap().number(Arch::Aarch64).is_none());
}

#[test]
fn default_policy_decides_as_documented() {
    let program = compile_for(&profile_for(&BTreeSet::new(), Arch::X86_64), Arch::X86_64).unwrap();
    let on = |name, first| answer(&program, Arch::X86_64, name, [first, 0, 0, 0, 0, 0]);
    assert_eq!(on("read", 0), ALLOW);
    assert_eq!(on("mount", 0), errno(1));
    assert_eq!(on("clone3", 0), errno(38));
    assert_eq!(on("clone", 0x11), ALLOW);
    assert_eq!(on("clone", 0x1000_0000), errno(1), "a user namespace");
    assert_eq!(on("socket", 1), ALLOW);
    assert_eq!(on("socket", 40), errno(1), "AF_VSOCK");
    assert_eq!(on("personality", 0xffff_ffff), ALLOW);
    assert_eq!(on("personality", 0x0004_0000), errno(1), "no address space randomisation");
    assert_eq!(on("io_uring_setup", 0), errno(1));
    assert_eq!(answer(&program, Arch::X86, "mmap2", [0; 6]), ALLOW);
    assert_eq!(answer(&program, Arch::X32, "execve", [0; 6]), ALLOW);
    assert_eq!(answer(&program, Arch::X32, "mount", [0; 6]), errno(1));
}

#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    let program = compile_for(&profile_for(&BTreeSet::new(), Arch::X86_64), Arch::X86_64).unwrap();
    let on = |arch, number| run(&program.instructions, &call(arch, number, [0; 6])).answer;
    let newest = number("removexattrat", Arch::X86_64);
    assert_eq!(on(Arch::X86_64, newest), ALLOW);
    for newer in [newest + 1, 511, 0x3fff_ffff] {
        assert_eq!(on(Arch::X86_64, newer), errno(38), "{newer}");
        assert_eq!(on(Arch::X86, newer), errno(38), "{newer}");
    }
    assert_eq!(on(Arch::X32, 547), ALLOW);
    assert_eq!(on(Arch::X32, 548), errno(38));
    assert_eq!(on(Arch::X32, newest + 1), errno(38));
    assert_eq!(on(Arch::X32, 528), errno(1), "kexec_load, as old as x32");
    // Who lets unknown calls through is not asked the question.
    let open = compile_for(&denying(vec![rule(&["read"], SeccompAction::Errno, &[])]), Arch::X86_64).unwrap();
    assert_eq!(run(&open.instructions, &call(Arch::X86_64, 9999, [0; 6])).answer, ALLOW);
}

#[test]
fn arm_has_a_second_range() {
    let program = compile_for(&profile_for(&BTreeSet::new(), Arch::Aarch64), Arch::Aarch64).unwrap();
    let on = |number| run(&program.instructions, &call(Arch::Arm, number, [0; 6])).answer;
    assert_eq!(answer(&program, Arch::Arm, "set_tls", [0; 6]), ALLOW);
    assert_eq!(on(0x000f_0003), errno(1), "usr26");
    assert_eq!(on(0x000e_ffff), errno(38));
    assert_eq!(on(0x000f_1000), errno(38));
    assert_eq!(answer(&program, Arch::Aarch64, "openat", [0; 6]), ALLOW);
}

#[test]
fn foreign_architectures_are_no_way_around() {
    let program =
        compile_for(&allowing(vec![rule(&["getpid"], SeccompAction::Allow, &[])]), Arch::X86_64).unwrap();
    assert_eq!(answer(&program, Arch::X86_64, "getpid", [0; 6]), ALLOW);
    assert_eq!(answer(&program, Arch::X86, "getpid", [0; 6]), KILL_THREAD);
    assert_eq!(answer(&program, Arch::X32, "getpid", [0; 6]), KILL_THREAD);
    assert_eq!(answer(&program, Arch::Aarch64, "getpid", [0; 6]), KILL_THREAD);
    // A tracer skips a call by making it -1.
    assert_eq!(run(&program.instructions, &call(Arch::X86_64, u32::MAX, [0; 6])).answer, errno(38));
}

#[test]
fn constant_answers_need_no_arguments_and_few_steps() {
    let program = compile_for(&profile_for(&BTreeSet::new(), Arch::X86_64), Arch::X86_64).unwrap();
    for number in 0..600 {
        let run = run(&program.instructions, &call(Arch::X86_64, number, [0; 6]));
        let conditional =
            ["clone", "socket", "personality"].map(|name| super::tests::number(name, Arch::X86_64));
        assert_eq!(run.saw_arguments, conditional.contains(&number), "{number}");
        assert!(run.saw_arguments || run.steps <= 14, "{number}: {}", run.steps);
    }
    assert!(program.instructions.len() < 400, "{}", program.instructions.len());
}

#[test]
fn a_rule_holds_behind_the_multiplexer_too() {
    let mut profile = denying(vec![
        rule(&["socket", "shmget"], SeccompAction::Errno, &[]),
        rule(&["bind"], SeccompAction::Errno, &[(0, SeccompOperator::Equal, 7, None)]),
    ]);
    profile.architectures = vec!["SCMP_ARCH_X86".into()];
    let program = compile_for(&profile, Arch::X86_64).unwrap();
    let on = |name, first| answer(&program, Arch::X86, name, [first, 0, 0, 0, 0, 0]);
    assert_eq!(on("socket", 0), errno(1));
    assert_eq!(on("socketcall", 1), errno(1));
    assert_eq!(on("socketcall", 2), ALLOW);
    assert_eq!(on("ipc", 0x0001_0017), errno(1), "a version above the function");
    assert_eq!(on("ipc", 24), ALLOW);
}

#[test]
fn arguments_that_are_named_twice_are_alternatives() {
    let args = [(1, SeccompOperator::Equal, 5, None), (1, SeccompOperator::Equal, 6, None)];
    let program =
        compile_for(&allowing(vec![rule(&["ioctl"], SeccompAction::Allow, &args)]), Arch::X86_64).unwrap();
    let on = |second| answer(&program, Arch::X86_64, "ioctl", [0, second, 0, 0, 0, 0]);
    assert_eq!([on(5), on(6), on(7)], [ALLOW, ALLOW, errno(1)]);
}

#[test]
fn unconditional_rules_beat_conditional_ones() {
    let conditional = rule(&["ioctl"], SeccompAction::Trap, &[(0, SeccompOperator::Equal, 1, None)]);
    let always = rule(&["ioctl"], SeccompAction::Allow, &[]);
    for rules in [vec![conditional.clone(), always.clone()], vec![always, conditional]] {
        let program = compile_for(&allowing(rules), Arch::X86_64).unwrap();
        assert_eq!(answer(&program, Arch::X86_64, "ioctl", [1, 0, 0, 0, 0, 0]), ALLOW);
    }
}

#[test]
fn what_cannot_be_compiled_says_why() {
    let refused = |profile: &Seccomp| compile_for(profile, Arch::X86_64).unwrap_err();
    let with = |change: &dyn Fn(&mut Seccomp)| {
        let mut profile = allowing(vec![rule(&["read"], SeccompAction::Allow, &[])]);
        change(&mut profile);
        refused(&profile)
    };
    assert_eq!(with(&|p| p.default_action = SeccompAction::Notify), Error::DefaultNotify);
    assert_eq!(with(&|p| p.architectures = vec!["PDP11".into()]), Error::Architecture("PDP11".into()));
    assert_eq!(with(&|p| p.flags = vec!["FAST".into()]), Error::Flag("FAST".into()));
    assert_eq!(with(&|p| p.default_errno_ret = Some(70_000)), Error::Errno(70_000));
    assert_eq!(with(&|p| p.syscalls[0].errno_ret = Some(1)), Error::ErrnoUnused(SeccompAction::Allow));
    assert_eq!(
        with(&|p| p.syscalls[0].args = vec![SyscallArg { index: 6, ..SyscallArg::default() }]),
        Error::ArgumentIndex("read".into(), 6)
    );
    let notify = rule(&["write"], SeccompAction::Notify, &[]);
    assert_eq!(refused(&denying(vec![notify])), Error::NotifyWrite);
    // Names that no kernel knows are calls that nobody can make.
    assert!(
        compile_for(&allowing(vec![rule(&["frobnicate"], SeccompAction::Allow, &[])]), Arch::X86_64).is_ok()
    );
}

#[test]
fn flags_are_passed_on() {
    let mut profile = denying(vec![rule(&["mkdir"], SeccompAction::Notify, &[])]);
    assert_eq!(compile_for(&profile, Arch::X86_64).unwrap().flags, Flags::SPEC_ALLOW);
    profile.flags = ["TSYNC", "LOG", "WAIT_KILLABLE_RECV"].map(|f| format!("SECCOMP_FILTER_FLAG_{f}")).into();
    let wanted = Flags::TSYNC.with(Flags::LOG).with(Flags::WAIT_KILLABLE_RECV);
    assert_eq!(compile_for(&profile, Arch::X86_64).unwrap().flags, wanted);
}

const DOCKER: &str = r#"{
    "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
    "archMap": [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": null}],
    "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": null},
        {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF"]}},
        {"name": "clone3", "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64"]}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["acct"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "999.0"}}]}"#;

#[test]
fn docker_conditions_are_decided() {
    let names = |caps: &[&str], arch| {
        let caps = caps.iter().map(|cap| (*cap).to_owned()).collect();
        let profile = from_docker_json(DOCKER, &caps, arch).unwrap();
        let names = profile.syscalls.into_iter().flat_map(|rule| rule.names).collect::<Vec<_>>().join(" ");
        (names, profile.architectures.join(" "))
    };
    let (calls, archs) = names(&[], Arch::X86_64);
    assert_eq!(calls, "read clone3 arch_prctl ptrace");
    assert_eq!(archs, "SCMP_ARCH_X86_64 SCMP_ARCH_X86");
    let (calls, archs) = names(&["CAP_BPF", "CAP_SYS_ADMIN"], Arch::Aarch64);
    assert_eq!(calls, "read bpf ptrace");
    assert_eq!(archs, "SCMP_ARCH_AARCH64");
}

#[test]
fn broken_profiles_are_refused() {
    let read = |json| from_docker_json(json, &BTreeSet::new(), Arch::X86_64).unwrap_err();
    assert!(matches!(read("{"), ProfileError::Json(_)));
    assert!(matches!(read("{}"), ProfileError::Json(_)), "no default action");
    let with = |rest| format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", {rest}}}"#);
    let both = with(r#""architectures": ["SCMP_ARCH_X86"], "archMap": [{"architecture": "SCMP_ARCH_X86"}]"#);
    assert!(matches!(read(&both), ProfileError::TwoArchitectureLists));
    let both = with(r#""syscalls": [{"name": "a", "names": ["b"], "action": "SCMP_ACT_KILL"}]"#);
    assert!(matches!(read(&both), ProfileError::TwoNames(0)));
    let none = with(r#""syscalls": [{"action": "SCMP_ACT_KILL"}]"#);
    assert!(matches!(read(&none), ProfileError::NoName(0)));
}

/// What the rules say, read slowly.
fn expected(profile: &Seccomp, name: &str, arch: Arch, args: [u64; 6]) -> u32 {
    let code = |action| match action {
        SeccompAction::Allow => ALLOW,
        SeccompAction::Trap => 0x0003_0000,
        SeccompAction::Log => 0x7ffc_0000,
        _ => errno(1),
    };
    let width = if arch.is_narrow() { u64::from(u32::MAX) } else { u64::MAX };
    let holds = |arg: &SyscallArg| {
        let (actual, value) = (args[arg.index as usize] & width, arg.value & width);
        match arg.op {
            SeccompOperator::Equal => actual == value,
            SeccompOperator::NotEqual => actual != value,
            SeccompOperator::Less => actual < value,
            SeccompOperator::LessOrEqual => actual <= value,
            SeccompOperator::Greater => actual > value,
            SeccompOperator::GreaterOrEqual => actual >= value,
            SeccompOperator::MaskedEqual => actual & value == arg.value_two.unwrap_or(0) & width,
        }
    };
    let meant = || {
        profile.syscalls.iter().filter(|rule| {
            rule.action != profile.default_action && rule.names.iter().any(|known| known == name)
        })
    };
    if let Some(always) = meant().find(|rule| rule.args.is_empty()) {
        return code(always.action);
    }
    for rule in meant() {
        let alternatives = rule.args.len() == 2 && rule.args[0].index == rule.args[1].index;
        if if alternatives { rule.args.iter().any(holds) } else { rule.args.iter().all(holds) } {
            return code(rule.action);
        }
    }
    code(profile.default_action)
}

const NAMES: [&str; 8] = ["read", "ioctl", "getpid", "futex", "close", "fchmodat2", "mmap", "mseal"];

fn interesting() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..4_u64,
        Just(0x7fff_ffff),
        Just(0x8000_0000),
        Just(0xffff_ffff),
        Just(0x1_0000_0000),
        Just(0x1_0000_0001),
        Just(u64::MAX),
        any::<u64>(),
    ]
}

fn argument() -> impl Strategy<Value = SyscallArg> {
    let op = prop::sample::select(vec![
        SeccompOperator::Equal,
        SeccompOperator::NotEqual,
        SeccompOperator::Less,
        SeccompOperator::LessOrEqual,
        SeccompOperator::Greater,
        SeccompOperator::GreaterOrEqual,
        SeccompOperator::MaskedEqual,
    ]);
    (0..3_u32, interesting(), prop::option::of(interesting()), op)
        .prop_map(|(index, value, value_two, op)| SyscallArg { index, value, value_two, op })
}

fn any_rule() -> impl Strategy<Value = SyscallRule> {
    let action = prop::sample::select(vec![
        SeccompAction::Allow,
        SeccompAction::Trap,
        SeccompAction::Log,
        SeccompAction::Errno,
    ]);
    let names = prop::collection::vec(prop::sample::select(NAMES.to_vec()), 1..4);
    (names, action, prop::collection::vec(argument(), 0..3)).prop_map(|(names, action, args)| SyscallRule {
        names: names.into_iter().map(str::to_owned).collect(),
        action,
        errno_ret: None,
        args,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn programs_say_what_the_rules_say(
        rules in prop::collection::vec(any_rule(), 0..40),
        open in any::<bool>(),
        calls in prop::collection::vec((prop::sample::select(NAMES.to_vec()), prop::array::uniform6(interesting())), 1..40),
    ) {
        let mut profile = if open { denying(rules) } else { allowing(rules) };
        // So that every name is known, and none is newer than the profile.
        profile.syscalls.push(rule(&["removexattrat"], SeccompAction::Allow, &[]));
        profile.architectures = ["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_RISCV64", "SCMP_ARCH_ARM"]
            .map(str::to_owned)
            .into();
        let program = compile_for(&profile, Arch::X86_64).unwrap();
        for (name, args) in calls {
            for arch in Arch::ALL {
                let Some(_) = Syscall::named(name).unwrap().number(arch) else { continue };
                prop_assert_eq!(answer(&program, arch, name, args), expected(&profile, name, arch, args), "{} {:?}", name, arch);
            }
        }
    }

    #[test]
    fn no_profile_text_makes_the_reader_panic(text in "\\PC*") {
        let _ = from_docker_json(&text, &BTreeSet::new(), Arch::X86_64);
    }
}
