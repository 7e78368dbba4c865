//! Writes classic BPF backwards: from the returns to the first load, so that every jump's target is known.
//!
//! Knows instructions, distances and how to compare arguments; what to compare is decided in [`super::compile`].
//! Instruction classes and the layout of `struct seccomp_data` are those of `linux/bpf_common.h` and `linux/seccomp.h`.

use corten_sys::seccomp::Instruction;

use crate::spec::{SeccompOperator, SyscallArg};

const LOAD_WORD: u16 = 0x20;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;

const NUMBER_OFFSET: u32 = 0;
const ARCH_OFFSET: u32 = 4;
const ARGS_OFFSET: u32 = 16;

/// A place in the program to go on at: how many instructions stand behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// A program under construction; the last instruction comes first.
#[derive(Default)]
pub(super) struct Assembler {
    backwards: Vec<Instruction>,
    returns: Vec<(u32, Label)>,
}

impl Assembler {
    pub(super) fn with_capacity(instructions: usize) -> Self {
        Self { backwards: Vec::with_capacity(instructions), returns: Vec::new() }
    }

    pub(super) fn finish(mut self, entry: Label) -> Vec<Instruction> {
        self.fall_through_to(entry);
        self.backwards.reverse();
        self.backwards
    }

    /// Ends the filter with this answer.
    pub(super) fn give(&mut self, answer: u32) -> Label {
        if let Some((_, label)) = self.returns.iter().find(|(known, _)| *known == answer) {
            return *label;
        }
        let label = self.push(RETURN, answer);
        self.returns.push((answer, label));
        label
    }

    pub(super) fn load_number(&mut self, next: Label) -> Label {
        self.fall_through_to(next);
        self.push(LOAD_WORD, NUMBER_OFFSET)
    }

    pub(super) fn load_arch(&mut self, next: Label) -> Label {
        self.fall_through_to(next);
        self.push(LOAD_WORD, ARCH_OFFSET)
    }

    pub(super) fn if_equal(&mut self, value: u32, yes: Label, no: Label) -> Label {
        self.branch(JUMP_EQUAL, value, yes, no)
    }

    pub(super) fn if_greater_or_equal(&mut self, value: u32, yes: Label, no: Label) -> Label {
        self.branch(JUMP_GREATER_OR_EQUAL, value, yes, no)
    }

    /// Compares one argument. A narrow architecture has only the argument's low half.
    pub(super) fn if_argument(&mut self, arg: &SyscallArg, narrow: bool, yes: Label, no: Label) -> Label {
        use SeccompOperator as Operator;
        match arg.op {
            Operator::Equal => self.masked_equal(arg.index, u64::MAX, arg.value, narrow, yes, no),
            Operator::NotEqual => self.masked_equal(arg.index, u64::MAX, arg.value, narrow, no, yes),
            Operator::MaskedEqual => {
                self.masked_equal(arg.index, arg.value, arg.value_two.unwrap_or(0), narrow, yes, no)
            }
            Operator::Greater => self.ordered(JUMP_GREATER, arg, narrow, yes, no),
            Operator::GreaterOrEqual => self.ordered(JUMP_GREATER_OR_EQUAL, arg, narrow, yes, no),
            Operator::Less => self.ordered(JUMP_GREATER_OR_EQUAL, arg, narrow, no, yes),
            Operator::LessOrEqual => self.ordered(JUMP_GREATER, arg, narrow, no, yes),
        }
    }

    /// `argument & mask == value`; a half whose mask is zero is not looked at.
    fn masked_equal(
        &mut self,
        index: u32,
        mask: u64,
        value: u64,
        narrow: bool,
        yes: Label,
        no: Label,
    ) -> Label {
        let mut next = yes;
        for (offset, mask, value) in halves(index, mask, value).into_iter().take(if narrow { 1 } else { 2 }) {
            if value & !mask != 0 {
                return no;
            }
            if mask == 0 {
                continue;
            }
            next = self.if_equal(value, next, no);
            if mask != u32::MAX {
                self.fall_through_to(next);
                next = self.push(AND, mask);
            }
            next = self.load(offset, next);
        }
        next
    }

    /// `argument > value` or `>=`: the high halves decide unless they are equal.
    fn ordered(&mut self, jump: u16, arg: &SyscallArg, narrow: bool, yes: Label, no: Label) -> Label {
        let [(low_offset, _, low), (high_offset, _, high)] = halves(arg.index, u64::MAX, arg.value);
        let next = self.branch(jump, low, yes, no);
        let next = self.load(low_offset, next);
        if narrow {
            return next;
        }
        let next = self.if_equal(high, next, no);
        let next = self.branch(JUMP_GREATER, high, yes, next);
        self.load(high_offset, next)
    }

    fn load(&mut self, offset: u32, next: Label) -> Label {
        self.fall_through_to(next);
        self.push(LOAD_WORD, offset)
    }

    fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        // The second bridge, if there is one, moves the first target one further away.
        let yes = self.within_reach(yes, 1);
        let no = self.within_reach(no, 0);
        let (jump_true, jump_false) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.backwards.push(Instruction { code, jump_true, jump_false, k });
        Label(self.backwards.len() - 1)
    }

    /// A conditional jump spans at most 255 instructions; a return is repeated, anything else gets a long jump.
    fn within_reach(&mut self, target: Label, slack: usize) -> Label {
        if self.distance(target) + slack <= usize::from(u8::MAX) {
            return target;
        }
        let Instruction { code, k, .. } = self.backwards[target.0];
        if code != RETURN {
            return self.push(JUMP, self.distance(target) as u32);
        }
        let copy = self.push(RETURN, k);
        if let Some((_, label)) = self.returns.iter_mut().find(|(answer, _)| *answer == k) {
            *label = copy;
        }
        copy
    }

    fn fall_through_to(&mut self, next: Label) {
        let distance = self.distance(next) as u32;
        if distance > 0 {
            self.push(JUMP, distance);
        }
    }

    fn distance(&self, target: Label) -> usize {
        self.backwards.len() - 1 - target.0
    }

    fn push(&mut self, code: u16, k: u32) -> Label {
        self.backwards.push(Instruction { code, jump_true: 0, jump_false: 0, k });
        Label(self.backwards.len() - 1)
    }
}

/// Offset, mask and value of an argument's low and high word (all our architectures are little-endian).
fn halves(index: u32, mask: u64, value: u64) -> [(u32, u32, u32); 2] {
    let offset = ARGS_OFFSET + 8 * index;
    [(offset, mask as u32, value as u32), (offset + 4, (mask >> 32) as u32, (value >> 32) as u32)]
}
