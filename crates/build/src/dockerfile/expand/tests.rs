use super::*;

fn variables(name: &str) -> Option<String> {
    match name {
        "A" => Some("apple".to_owned()),
        "E" => Some(String::new()),
        "S" => Some("two words".to_owned()),
        "P" => Some("/usr/lib/x.tar.gz".to_owned()),
        _ => None,
    }
}

fn word(text: &str) -> Result<String, String> {
    Expander::new(Escape::Backslash)
        .word(text, &variables)
        .map(|expansion| expansion.text)
        .map_err(|error| error.reason)
}

#[test]
fn modifiers() {
    for (text, expected) in [
        ("$A ${A}x $Ax", "apple applex "),
        ("${U:-d} ${U-d} ${E:-d} ${E-d} ${A:-d}", "d d d  apple"),
        ("${U:+d} ${U+d} ${E:+d} ${E+d} ${A:+d}", "   d d"),
        ("${A:?no} ${E?no}", "apple "),
        ("${P#*/} ${P##*/} ${P%.*} ${P%%.*}", "usr/lib/x.tar.gz x.tar.gz /usr/lib/x.tar /usr/lib/x"),
        ("${A/p/P} ${A//p/P} ${A//?/.}", "aPple aPPle ....."),
        ("'$A' \"$A\" \\$A a\\b \"\\a\"", "$A apple $A ab \\a"),
        ("${U:-${V:-$A}} $", "apple $"),
    ] {
        assert_eq!(word(text).as_deref(), Ok(expected), "{text:?}");
    }
}

#[test]
fn refusals() {
    for (text, reason) in [
        ("${A", "unsupported modifier (\u{fffd}) in substitution"),
        ("${", "syntax error: missing '}'"),
        ("${}", "syntax error: bad substitution"),
        ("${U?}", "U: is not allowed to be unset"),
        ("${E:?why}", "E: why"),
        ("'a", "unexpected end of statement while looking for matching single-quote"),
        ("${A:#x}", "unsupported modifier (:#) in substitution"),
    ] {
        assert_eq!(word(text).unwrap_err(), reason, "{text:?}");
    }
}

#[test]
fn words_are_cut_after_expansion() {
    let expander = Expander::new(Escape::Backslash);
    let words = expander.words("$S \"$S\" a$S b", &variables).unwrap();
    assert_eq!(words.words, ["two", "words", "two words", "atwo", "words", "b"]);
    assert!(words.used.contains("S"));
    assert!(expander.words("$X", &variables).unwrap().undefined.contains("X"));
}

#[test]
fn depth_and_length_are_bounded() {
    let nested = |depth: usize| format!("{}x{}", "${U:-".repeat(depth), "}".repeat(depth));
    assert_eq!(word(&nested(100)).as_deref(), Ok("x"));
    assert!(word(&nested(100_000)).unwrap_err().contains("nested"));
    let long = "y".repeat(1 << 20);
    let twenty = "$L".repeat(20);
    let error = Expander::new(Escape::Backslash).word(&twenty, &|_| Some(long.clone())).unwrap_err();
    assert!(error.reason.contains("longer than"));
}
