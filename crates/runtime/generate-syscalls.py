#!/usr/bin/env python3
"""Writes src/seccomp/table.rs: the name and the numbers of every Linux system call on the architectures we filter for.

The numbers come from the kernel's user-space headers as the C preprocessor sees them. On Debian:

    apt-get install gcc linux-libc-dev linux-libc-dev-{arm64,armhf,riscv64}-cross

LATER lists what kernels newer than those headers have added; since 424 a new call has one number everywhere.
"""

import pathlib
import re
import subprocess
import sys

X32_BIT = 0x40000000
ARM_PRIVATE = 0x0F0000  # calls that only the ARM kernel has, above the common range
ABSENT = 0xFFFF

# column -> (include directory, preprocessor flags)
ARCHITECTURES = {
    "x86_64": ("/usr/include/x86_64-linux-gnu", ["-include", "asm/unistd_64.h"]),
    "x86": ("/usr/include/x86_64-linux-gnu", ["-include", "asm/unistd_32.h"]),
    "x32": ("/usr/include/x86_64-linux-gnu", ["-D__X32_SYSCALL_BIT=0x40000000", "-include", "asm/unistd_x32.h"]),
    "aarch64": ("/usr/aarch64-linux-gnu/include", ["-include", "asm/unistd.h"]),
    "arm": ("/usr/arm-linux-gnueabihf/include", ["-D__ARM_EABI__", "-include", "asm/unistd.h"]),
    "riscv64": ("/usr/riscv64-linux-gnu/include", ["-D__riscv_xlen=64", "-D__LP64__", "-include", "asm/unistd.h"]),
}
ALL = list(ARCHITECTURES)

# name -> (number, architectures)
LATER = {
    "memfd_secret": (447, ["x86_64", "x86", "x32", "aarch64", "riscv64"]),
    "set_mempolicy_home_node": (450, ALL),
    "cachestat": (451, ALL),
    "fchmodat2": (452, ALL),
    "map_shadow_stack": (453, ALL),
    "futex_wake": (454, ALL),
    "futex_wait": (455, ALL),
    "futex_requeue": (456, ALL),
    "statmount": (457, ALL),
    "listmount": (458, ALL),
    "lsm_get_self_attr": (459, ALL),
    "lsm_set_self_attr": (460, ALL),
    "lsm_list_modules": (461, ALL),
    "mseal": (462, ALL),
    "setxattrat": (463, ALL),
    "getxattrat": (464, ALL),
    "listxattrat": (465, ALL),
    "removexattrat": (466, ALL),
    "open_tree_attr": (467, ALL),
    "file_getattr": (468, ALL),
    "file_setattr": (469, ALL),
    "listns": (470, ALL),
    "uretprobe": (335, ["x86_64"]),
    "uprobe": (336, ["x86_64"]),
    "riscv_hwprobe": (258, ["riscv64"]),
}


def numbers(include, flags):
    """The header's names with their numbers."""
    run = subprocess.run(
        ["gcc", "-nostdinc", "-E", "-dM", f"-I{include}", *flags, "-x", "c", "/dev/null"],
        check=True, capture_output=True, text=True,
    )
    macros = dict(re.findall(r"^#define (\w+) (.+)$", run.stdout, re.M))
    found = {}
    for macro in macros:
        match = re.fullmatch(r"__(?:ARM_)?NR_([a-z0-9_]+)", macro)
        if not match or match[1] in ("syscalls", "arch_specific_syscall"):
            continue
        value = macros[macro]
        while re.search(r"[A-Za-z_]\w*", re.sub(r"0x[0-9a-fA-F]+", "", value)):
            value = re.sub(r"\b[A-Za-z_]\w*\b", lambda name: f"({macros[name[0]]})", value)
        found[match[1]] = eval(value, {"__builtins__": {}})  # sums of numbers only, see the loop above
    return found


def encode(number):
    """Fits a number into 16 bits; `seccomp::arch` undoes it."""
    if number is None:
        return ABSENT
    number &= ~X32_BIT
    if number >= ARM_PRIVATE:
        assert number - ARM_PRIVATE < 0x100, number
        return 0xF000 | (number - ARM_PRIVATE)
    assert number < 0x1000, number
    return number


def rows(items, width=110):
    line, lines = "   ", []
    for item in items:
        if len(line) + len(item) + 2 > width:
            lines.append(line)
            line = "   "
        line += f" {item},"
    return "\n".join([*lines, line])


def main():
    tables = {name: numbers(*where) for name, where in ARCHITECTURES.items()}
    for call, (number, places) in LATER.items():
        for place in places:
            assert tables[place].setdefault(call, number) & ~X32_BIT == number, (call, place)
    names = sorted(set().union(*tables.values()))
    offsets = [0]
    for name in names:
        offsets.append(offsets[-1] + len(name))

    out = [
        "//! The system calls of Linux and their numbers: written by `generate-syscalls.py`, not by hand.",
        "//!",
        "//! One string and plain numbers, so that the table needs no relocation and stays shared between processes.",
        "",
        "/// How many names there are.",
        f"pub(super) const COUNT: usize = {len(names)};",
        "",
        "/// What a column of [`NUMBERS`] holds where the architecture lacks the call.",
        f"pub(super) const ABSENT: u16 = {ABSENT:#x};",
        "",
        "/// All names in alphabetical order, one behind the other.",
        'pub(super) static NAMES: &str = "\\',
    ]
    text = "".join(names)
    out += [text[i : i + 106] + "\\" for i in range(0, len(text), 106)]
    out += [
        '";',
        "",
        "/// Where each name begins in [`NAMES`]; the last entry is its length.",
        "#[rustfmt::skip]",
        "pub(super) static OFFSETS: [u16; COUNT + 1] = [",
        rows(str(offset) for offset in offsets),
        "];",
        "",
        f"/// Per architecture ({', '.join(ALL)}) the number of each name, without the x32 bit;",
        "/// `0xf000 + n` stands for ARM's private call `0xf0000 + n`.",
        "#[rustfmt::skip]",
        f"pub(super) static NUMBERS: [[u16; COUNT]; {len(ALL)}] = [",
    ]
    for architecture in ALL:
        column = (encode(tables[architecture].get(name)) for name in names)
        out += ["    [", rows("!0" if n == ABSENT else str(n) for n in column), "    ],"]
    out += ["];", ""]
    path = pathlib.Path(__file__).parent / "src/seccomp/table.rs"
    path.write_text("\n".join(out))
    print({name: len(table) for name, table in tables.items()}, len(names), "names", file=sys.stderr)


main()
