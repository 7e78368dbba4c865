//! Signals by name and number, as people write them.

/// In the order of their numbers, from 1: x86, arm, riscv and most others agree on them (signal(7)).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
const ALIASES: [(&str, i32); 3] = [("IOT", 6), ("CLD", 17), ("POLL", 29)];
/// As C libraries number them: the kernel's first two are their own.
const REAL_TIME: i32 = 34;
const LAST: i32 = 64;

/// `SIGKILL`, `SIGRTMIN+3`; the number itself where it has no name.
pub fn name(number: i32) -> String {
    let known = usize::try_from(number - 1).ok().and_then(|index| NAMES.get(index));
    match known {
        Some(name) => format!("SIG{name}"),
        None if (REAL_TIME..=LAST).contains(&number) => format!("SIGRTMIN+{}", number - REAL_TIME),
        None => format!("signal {number}"),
    }
}

/// `9`, `KILL`, `SIGKILL`, `sigkill`, `RTMIN+3`, `RTMAX-1` → the number, from 1 to 64.
pub fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=LAST).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(index) = NAMES.iter().position(|known| *known == name) {
        return Some(index as i32 + 1);
    }
    let real_time = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(above), _) => offset(above, '+').map(|offset| REAL_TIME.saturating_add(offset)),
        (_, Some(below)) => offset(below, '-').map(|offset| LAST.saturating_sub(offset)),
        _ => ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, number)| *number),
    };
    real_time.filter(|number| (1..=LAST).contains(number))
}

/// Whether a container may be given it as the signal that it is stopped by. Docker takes any number but 0, also one that no kernel has.
pub fn is_stop_signal(text: &str) -> bool {
    text.parse::<i64>().map_or_else(|_| number(text).is_some(), |number| number != 0)
}

/// Nothing, or a sign and a number.
fn offset(text: &str, sign: char) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    text.strip_prefix(sign)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for text in ["9", "KILL", "SIGKILL", "sigkill"] {
            assert_eq!(number(text), Some(9));
        }
        for (text, wanted) in
            [("SIGSYS", 31), ("RTMIN", 34), ("RTMIN+3", 37), ("SIGRTMAX-1", 63), ("CLD", 17)]
        {
            assert_eq!(number(text), Some(wanted), "{text}");
        }
        for text in ["0", "65", "-1", "NOPE", "", "RTMIN+99", "RTMIN-3", "RTMAX+1", "RTMIN+2147483647"] {
            assert_eq!(number(text), None, "{text}");
        }
        for (text, taken) in
            [("99", true), ("-1", true), ("0", false), ("TERM", true), ("NOPE", false), ("", false)]
        {
            assert_eq!(is_stop_signal(text), taken, "{text}");
        }
        assert_eq!(
            [9, 37, 65, 0, i32::MIN + 1].map(name),
            ["SIGKILL", "SIGRTMIN+3", "signal 65", "signal 0", "signal -2147483647"]
        );
    }
}
