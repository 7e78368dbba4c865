//! Runs a filter as the kernel would, and tells what it looked at.

use corten_sys::seccomp::Instruction;

/// `struct seccomp_data`, without the instruction pointer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) arch: u32,
    pub(super) number: u32,
    pub(super) args: [u64; 6],
}

pub(super) struct Run {
    pub(super) answer: u32,
    pub(super) saw_arguments: bool,
    pub(super) steps: usize,
}

/// Panics where the kernel would refuse the program: unknown instructions, jumps out of it, no return.
pub(super) fn run(program: &[Instruction], call: &Call) -> Run {
    let (mut at, mut accumulator, mut saw_arguments, mut steps) = (0, 0, false, 0);
    loop {
        let Instruction { code, jump_true, jump_false, k } = program[at];
        at += 1;
        steps += 1;
        let compared = match code {
            0x20 => {
                saw_arguments |= k >= 16;
                accumulator = load(call, k);
                continue;
            }
            0x54 => {
                accumulator &= k;
                continue;
            }
            0x05 => {
                at += k as usize;
                continue;
            }
            0x06 => return Run { answer: k, saw_arguments, steps },
            0x15 => accumulator == k,
            0x25 => accumulator > k,
            0x35 => accumulator >= k,
            other => panic!("instruction {other:#x}"),
        };
        at += usize::from(if compared { jump_true } else { jump_false });
    }
}

fn load(call: &Call, offset: u32) -> u32 {
    match offset {
        0 => call.number,
        4 => call.arch,
        16..64 if offset.is_multiple_of(4) => {
            let word = call.args[(offset as usize - 16) / 8];
            (if offset.is_multiple_of(8) { word } else { word >> 32 }) as u32
        }
        other => panic!("load from {other}"),
    }
}
