use corten_sys::bpf::Instruction;
use proptest::prelude::*;

use super::super::devices::{Kind, Lists, Rule, allows_everything, default_rules, parse, program};
use crate::spec::DeviceRule;

fn rule(allow: bool, kind: &str, major: Option<i64>, minor: Option<i64>, access: &str) -> DeviceRule {
    DeviceRule { allow, kind: Some(kind.into()), major, minor, access: Some(access.into()) }
}

fn deny_all() -> DeviceRule {
    rule(false, "a", None, None, "rwm")
}

fn lists(rules: &[DeviceRule]) -> Lists {
    Lists::from_rules(&parse(rules).unwrap()).unwrap()
}

fn text(lines: &[super::super::devices::Line]) -> Vec<String> {
    lines.iter().map(ToString::to_string).collect()
}

#[test]
fn new_groups_deny_first() {
    let rules = [deny_all(), rule(true, "c", Some(10), Some(229), "rw"), rule(true, "b", Some(8), None, "r")];
    let changes = lists(&rules).changes_from_scratch();
    assert_eq!(text(&changes.reset_deny), ["a"]);
    assert_eq!(text(&changes.allow), ["c 10:229 rw", "b 8:* r"]);
    assert!(changes.deny.is_empty());
}

#[test]
fn living_groups_keep_what_stays_allowed() {
    let current = Lists::parse("c 1:3 rwm\nc 10:229 rw\nb *:* m\n");
    let target = lists(&[
        deny_all(),
        rule(true, "c", Some(1), Some(3), "rwm"),
        rule(true, "c", Some(10), Some(229), "r"),
    ]);
    let changes = target.changes(&current);
    assert!(changes.reset_deny.is_empty());
    assert!(changes.allow.is_empty());
    assert_eq!(text(&changes.deny), ["c 10:229 w", "b *:* m"]);
    let open = lists(&[rule(true, "a", None, None, "rwm"), rule(false, "b", Some(8), Some(0), "w")]);
    let changes = open.changes(&current);
    assert_eq!((text(&changes.allow), text(&changes.deny)), (vec!["a".into()], vec!["b 8:0 w".into()]));
}

#[test]
fn what_version_1_cannot_say_is_refused() {
    let rules = [deny_all(), rule(true, "c", Some(1), None, "rwm"), rule(false, "c", Some(1), Some(3), "r")];
    let error = Lists::from_rules(&parse(&rules).unwrap()).unwrap_err();
    assert!(error.to_string().contains("`deny c 1:3 r` within the wider `c 1:* rwm`"), "{error}");
    assert!(parse(&[rule(true, "x", None, None, "r")]).is_err());
    assert!(parse(&[rule(true, "c", Some(-7), None, "r")]).is_err());
    assert!(parse(&[rule(true, "c", None, None, "q")]).is_err());
}

#[test]
fn privileged_containers_need_no_filter() {
    let all = rule(true, "a", None, None, "rwm");
    let mut rules = vec![deny_all(), all];
    rules.extend(default_rules());
    assert!(allows_everything(&parse(&rules).unwrap()));
    rules.push(rule(false, "c", Some(1), Some(3), "r"));
    assert!(!allows_everything(&parse(&rules).unwrap()));
    assert!(!allows_everything(&[]));
}

/// Runs a device program as the kernel would.
fn run(program: &[Instruction], kind: Kind, access: u8, major: u32, minor: u32) -> bool {
    let context = [(kind as u32) | u32::from(access) << 16, major, minor];
    let mut registers = [0_u64; 11];
    let mut at = 0;
    loop {
        let Instruction { code, registers: pair, offset, immediate } = program[at];
        let (to, from) = (usize::from(pair & 0xf), usize::from(pair >> 4));
        let (left, number) = (registers[to] as u32, immediate as u32);
        at += 1;
        let jump = match code {
            0x61 => {
                assert_eq!(from, 1);
                registers[to] = context[offset as usize / 4].into();
                false
            }
            0xb7 => {
                registers[to] = immediate as u64;
                false
            }
            0xbc => {
                registers[to] = u64::from(registers[from] as u32);
                false
            }
            0x54 => {
                registers[to] = (left & number).into();
                false
            }
            0x74 => {
                registers[to] = (left >> number).into();
                false
            }
            0x56 => left != number,
            0x16 => left == number,
            0x95 => return registers[0] == 1,
            other => panic!("instruction {other:#x}"),
        };
        if jump {
            at += offset as usize;
        }
    }
}

/// What the rules say, bit by bit: the last one that matches decides.
fn expected(rules: &[Rule], kind: Kind, access: u8, major: u32, minor: u32) -> bool {
    [1_u8, 2, 4].into_iter().filter(|bit| access & bit != 0).all(|bit| {
        let matching = rules.iter().rev().find(|rule| {
            rule.access & bit != 0
                && rule.kind.is_none_or(|known| known == kind)
                && rule.major.is_none_or(|known| known == major)
                && rule.minor.is_none_or(|known| known == minor)
        });
        matching.is_some_and(|rule| rule.allow)
    })
}

fn any_rule() -> impl Strategy<Value = DeviceRule> {
    let kind = prop::sample::select(vec!["a", "b", "c"]);
    let number = || prop::sample::select(vec![None, Some(-1), Some(0), Some(1), Some(8), Some(0xffff_ffff)]);
    let access = prop::sample::select(vec!["r", "w", "m", "rw", "rm", "rwm", ""]);
    (any::<bool>(), kind, number(), number(), access)
        .prop_map(|(allow, kind, major, minor, access)| rule(allow, kind, major, minor, access))
}

proptest! {
    #[test]
    fn programs_say_what_the_rules_say(
        rules in prop::collection::vec(any_rule(), 0..12),
        access in 1_u8..8,
        character in any::<bool>(),
        major in prop::sample::select(vec![0, 1, 8, 0xffff_ffff]),
        minor in prop::sample::select(vec![0, 1, 3, 0xffff_ffff]),
    ) {
        let rules = parse(&rules).unwrap();
        let kind = if character { Kind::Char } else { Kind::Block };
        prop_assert_eq!(
            run(&program(&rules), kind, access, major, minor),
            expected(&rules, kind, access, major, minor)
        );
    }
}
