//! Why a program does not run, read off its first bytes.

/// What the kernel could not use.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// An ELF file for another kind of machine.
    Architecture(String),
    /// A script or ELF file whose interpreter is not there.
    Interpreter(String),
    /// The name of a script's interpreter ends with a carriage return: the file has the line ends of Windows.
    CarriageReturn(String),
    /// Neither ELF nor `#!`.
    Text,
    Empty,
    Unknown,
}

/// Names of `e_machine` (elf.h), as image configurations write them where they do.
fn machine(number: u16) -> Option<&'static str> {
    Some(match number {
        2 | 43 => "sparc",
        3 => "386",
        8 => "mips",
        20 => "ppc",
        21 => "ppc64",
        22 => "s390x",
        40 => "arm",
        62 => "amd64",
        183 => "arm64",
        243 => "riscv64",
        258 => "loong64",
        _ => return None,
    })
}

const HOST: &str = if cfg!(target_arch = "x86_64") {
    "amd64"
} else if cfg!(target_arch = "aarch64") {
    "arm64"
} else if cfg!(target_arch = "riscv64") {
    "riscv64"
} else {
    std::env::consts::ARCH
};

/// Reads the beginning of a program that the kernel has refused.
pub(super) fn examine(head: &[u8]) -> Problem {
    if head.is_empty() {
        return Problem::Empty;
    }
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|b| *b == b'\n').next().unwrap_or_default();
        let text = String::from_utf8_lossy(line);
        let interpreter = text.trim_matches([' ', '\t']).split([' ', '\t']).next().unwrap_or_default();
        return match interpreter.strip_suffix('\r') {
            Some(name) => Problem::CarriageReturn(name.to_owned()),
            None if line.ends_with(b"\r") => Problem::CarriageReturn(interpreter.to_owned()),
            None => Problem::Interpreter(interpreter.to_owned()),
        };
    }
    if !head.starts_with(b"\x7fELF") {
        return if head.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) {
            Problem::Text
        } else {
            Problem::Unknown
        };
    }
    elf(head).unwrap_or(Problem::Unknown)
}

fn elf(head: &[u8]) -> Option<Problem> {
    let big = *head.get(5)? == 2;
    let wide = *head.get(4)? == 2;
    let number = |at: usize, length: usize| -> Option<u64> {
        let bytes = head.get(at..at.checked_add(length)?)?;
        let fold = |n: u64, b: &u8| n << 8 | u64::from(*b);
        Some(if big { bytes.iter().fold(0, fold) } else { bytes.iter().rev().fold(0, fold) })
    };
    let kind = number(18, 2)? as u16;
    let name = machine(kind).map_or_else(|| format!("machine {kind}"), str::to_owned);
    let runs_here = name == HOST || HOST == "amd64" && name == "386" || HOST == "arm64" && name == "arm";
    if !runs_here {
        return Some(Problem::Architecture(name));
    }
    let (table, entry_size, entries) = if wide {
        (number(32, 8)?, number(54, 2)?, number(56, 2)?)
    } else {
        (number(28, 4)?, number(42, 2)?, number(44, 2)?)
    };
    const PT_INTERP: u64 = 3;
    for index in 0..entries {
        let at = usize::try_from(table.checked_add(index * entry_size)?).ok()?;
        if number(at, 4)? == PT_INTERP {
            let (offset, length) = if wide {
                (number(at + 8, 8)?, number(at + 32, 8)?)
            } else {
                (number(at + 4, 4)?, number(at + 16, 4)?)
            };
            let start = usize::try_from(offset).ok()?;
            let bytes = head.get(start..start.checked_add(usize::try_from(length).ok()?)?)?;
            let name = bytes.split(|b| *b == 0).next().unwrap_or_default();
            return Some(Problem::Interpreter(String::from_utf8_lossy(name).into_owned()));
        }
    }
    None
}

/// What is said to the user; `missing`: the kernel's answer was ENOENT, else it did not know the format.
pub(super) fn message(problem: &Problem, missing: bool) -> String {
    match problem {
        Problem::Architecture(name) => {
            format!("exec format error: the program is for {name}, this host is {HOST}")
        }
        Problem::Interpreter(name) if missing => {
            format!("no such file or directory: its interpreter {name} is not there")
        }
        Problem::CarriageReturn(name) => format!(
            "no such file or directory: its interpreter is given as {name:?} with a carriage return behind it: the file has \
             Windows line ends (CRLF)"
        ),
        Problem::Text => "exec format error: the file is text without a #! line".to_owned(),
        Problem::Empty => "exec format error: the file is empty".to_owned(),
        _ if missing => "no such file or directory".to_owned(),
        _ => "exec format error".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 64-bit little-endian ELF header with one program header, as the linkers write it.
    fn elf_file(machine: u8, interpreter: &[u8]) -> Vec<u8> {
        let mut file = vec![0u8; 120];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18] = machine;
        file[32] = 64;
        file[54] = 56;
        file[56] = 1;
        file[64] = 3;
        file[72] = 120;
        file[96] = interpreter.len() as u8;
        file.extend_from_slice(interpreter);
        file
    }

    #[test]
    fn scripts_name_their_interpreter() {
        assert_eq!(examine(b"#! /bin/dash -e\necho"), Problem::Interpreter("/bin/dash".into()));
        assert_eq!(examine(b"#!/bin/sh\r\necho\r\n"), Problem::CarriageReturn("/bin/sh".into()));
        assert_eq!(examine(b"#!/bin/sh -e\r\necho\r\n"), Problem::CarriageReturn("/bin/sh".into()));
    }

    #[test]
    fn elf_files_name_machine_and_interpreter() {
        let foreign = if HOST == "riscv64" { 62 } else { 243 };
        assert!(matches!(examine(&elf_file(foreign, b"/x\0")), Problem::Architecture(_)));
        let own = match HOST {
            "amd64" => 62,
            "arm64" => 183,
            _ => return,
        };
        assert_eq!(examine(&elf_file(own, b"/lib/ld.so\0")), Problem::Interpreter("/lib/ld.so".into()));
    }

    #[test]
    fn torn_headers_are_unknown_and_no_panic() {
        let file = elf_file(62, b"/lib/ld.so\0");
        for length in 1..file.len() {
            examine(&file[..length]);
        }
        assert_eq!(examine(b""), Problem::Empty);
        assert_eq!(examine(b"echo hi\n"), Problem::Text);
        assert_eq!(examine(b"\xff\xfe"), Problem::Unknown);
    }
}
