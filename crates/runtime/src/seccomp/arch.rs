//! The architectures that a filter can tell apart, and their system call numbers.

use std::ops::Range;

use super::table::{ABSENT, COUNT, NAMES, NUMBERS, OFFSETS};

/// An application binary interface, as `seccomp_data.arch` and the x32 bit tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arch {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
    Riscv64,
}

/// What a name from a configuration stands for.
pub(super) enum Named {
    Known(Arch),
    /// An architecture of the specification that none of our machines can run.
    Foreign,
    Unknown,
}

/// Set in the number of every x32 call; the kernel reports such calls as `AUDIT_ARCH_X86_64`.
pub(super) const X32_BIT: u32 = 0x4000_0000;
/// Where ARM's private calls begin.
const ARM_PRIVATE: u32 = 0x000f_0000;

impl Arch {
    /// What this program was built for.
    pub const NATIVE: Self = if cfg!(target_arch = "x86_64") {
        Self::X86_64
    } else if cfg!(target_arch = "aarch64") {
        Self::Aarch64
    } else if cfg!(target_arch = "riscv64") {
        Self::Riscv64
    } else if cfg!(target_arch = "arm") {
        Self::Arm
    } else if cfg!(target_arch = "x86") {
        Self::X86
    } else {
        panic!("no system call table for this architecture")
    };

    pub(super) const ALL: [Self; 6] =
        [Self::X86_64, Self::X86, Self::X32, Self::Aarch64, Self::Arm, Self::Riscv64];

    /// Reads a `SCMP_ARCH_…` name.
    pub(super) fn named(name: &str) -> Named {
        const FOREIGN: [&str; 18] = [
            "SCMP_ARCH_MIPS",
            "SCMP_ARCH_MIPS64",
            "SCMP_ARCH_MIPS64N32",
            "SCMP_ARCH_MIPSEL",
            "SCMP_ARCH_MIPSEL64",
            "SCMP_ARCH_MIPSEL64N32",
            "SCMP_ARCH_PPC",
            "SCMP_ARCH_PPC64",
            "SCMP_ARCH_PPC64LE",
            "SCMP_ARCH_S390",
            "SCMP_ARCH_S390X",
            "SCMP_ARCH_PARISC",
            "SCMP_ARCH_PARISC64",
            "SCMP_ARCH_LOONGARCH64",
            "SCMP_ARCH_M68K",
            "SCMP_ARCH_SH",
            "SCMP_ARCH_SHEB",
            "SCMP_ARCH_RISCV32",
        ];
        if name == "SCMP_ARCH_NATIVE" {
            return Named::Known(Self::NATIVE);
        }
        match Self::ALL.into_iter().find(|arch| arch.oci_name() == name) {
            Some(arch) => Named::Known(arch),
            None if FOREIGN.contains(&name) => Named::Foreign,
            None => Named::Unknown,
        }
    }

    /// The name in an OCI configuration.
    pub const fn oci_name(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::X86 => "SCMP_ARCH_X86",
            Self::X32 => "SCMP_ARCH_X32",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
            Self::Arm => "SCMP_ARCH_ARM",
            Self::Riscv64 => "SCMP_ARCH_RISCV64",
        }
    }

    /// The name in Docker's `includes` and `excludes`.
    pub(super) const fn docker_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::X86 => "x86",
            Self::X32 => "x32",
            Self::Aarch64 => "arm64",
            Self::Arm => "arm",
            Self::Riscv64 => "riscv64",
        }
    }

    /// The other interfaces that a kernel of this architecture serves and that Docker's policy covers.
    pub(super) const fn companions(self) -> &'static [Self] {
        match self {
            Self::X86_64 => &[Self::X86, Self::X32],
            Self::Aarch64 => &[Self::Arm],
            Self::X86 | Self::X32 | Self::Arm | Self::Riscv64 => &[],
        }
    }

    /// `AUDIT_ARCH_…`: ELF machine, little-endian bit, 64-bit bit.
    pub(super) const fn audit(self) -> u32 {
        const LITTLE: u32 = 0x4000_0000;
        const WIDE: u32 = 0x8000_0000;
        match self {
            Self::X86_64 | Self::X32 => 62 | LITTLE | WIDE,
            Self::X86 => 3 | LITTLE,
            Self::Aarch64 => 183 | LITTLE | WIDE,
            Self::Arm => 40 | LITTLE,
            Self::Riscv64 => 243 | LITTLE | WIDE,
        }
    }

    /// Are arguments 32 bits wide? Then only their low half means anything.
    pub(super) const fn is_narrow(self) -> bool {
        matches!(self, Self::X86 | Self::X32 | Self::Arm)
    }

    /// Numbers that say nothing about a call's age: ARM's private calls, and x32's own variants of old ones.
    pub(super) fn numbers_apart(self) -> Option<Range<u32>> {
        match self {
            Self::Arm => Some(ARM_PRIVATE..ARM_PRIVATE + 0x10),
            Self::X32 => Some(512..548),
            Self::X86_64 | Self::X86 | Self::Aarch64 | Self::Riscv64 => None,
        }
    }

    const fn column(self) -> usize {
        match self {
            Self::X86_64 => 0,
            Self::X86 => 1,
            Self::X32 => 2,
            Self::Aarch64 => 3,
            Self::Arm => 4,
            Self::Riscv64 => 5,
        }
    }
}

/// A system call that at least one architecture has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Syscall(usize);

impl Syscall {
    pub(super) fn named(name: &str) -> Option<Self> {
        let (mut low, mut high) = (0, COUNT);
        while low < high {
            let middle = usize::midpoint(low, high);
            match Self(middle).name().cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(Self(middle)),
            }
        }
        None
    }

    pub(super) fn name(self) -> &'static str {
        &NAMES[usize::from(OFFSETS[self.0])..usize::from(OFFSETS[self.0 + 1])]
    }

    /// The number on `arch`, without the x32 bit.
    pub(super) fn number(self, arch: Arch) -> Option<u32> {
        match NUMBERS[arch.column()][self.0] {
            ABSENT => None,
            private @ 0xf000.. => Some(ARM_PRIVATE + u32::from(private & 0xfff)),
            number => Some(number.into()),
        }
    }
}
