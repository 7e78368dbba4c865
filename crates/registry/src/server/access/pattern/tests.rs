use proptest::prelude::*;

use super::*;

fn matches(pattern: &str, repository: &str) -> bool {
    Pattern::parse(pattern).unwrap().matches(repository, Some("alice"))
}

#[test]
fn segments_stand_for_what_is_written() {
    for (pattern, repository, expected) in [
        ("app", "app", true),
        ("app", "apps", false),
        ("team/*", "team/app", true),
        ("team/*", "team/app/sub", false),
        ("team/*", "team", false),
        ("team/**", "team/app/sub", true),
        ("team/**", "team", false),
        ("**", "a", true),
        ("**", "a/b/c", true),
        ("**/cache", "a/b/cache", true),
        ("**/cache", "cache", false),
        ("team/web-*", "team/web-front", true),
        ("team/*-web-*", "team/a-web-web-b", true),
        ("team/*-web", "team/a-web-b", false),
        ("home/{user}/**", "home/alice/app", true),
        ("home/{user}/**", "home/bob/app", false),
    ] {
        assert_eq!(matches(pattern, repository), expected, "{pattern} {repository}");
    }
    assert!(!Pattern::parse("{user}/x").unwrap().matches("alice/x", None));
    assert!(!Pattern::parse("{user}/x").unwrap().matches("/x", None));
}

#[test]
fn what_is_no_pattern_is_refused_with_the_reason() {
    for (text, expected) in [
        ("", PatternError::Empty),
        ("/a", PatternError::EmptySegment),
        ("a//b", PatternError::EmptySegment),
        ("Team", PatternError::Character('T')),
        ("a b", PatternError::Character(' ')),
        ("team**", PatternError::Mixed),
        ("x{user}", PatternError::Character('{')),
    ] {
        assert_eq!(Pattern::parse(text), Err(expected), "{text}");
    }
    assert_eq!(Pattern::parse(&["**"; 65].join("/")), Err(PatternError::TooLong));
}

/// What the definition says, without a care for time.
fn naive(pattern: &[&str], names: &[&str]) -> bool {
    fn like(text: &[u8], pattern: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|skip| like(&text[skip..], rest)),
            Some((byte, rest)) => text.first() == Some(byte) && like(&text[1..], rest),
        }
    }
    match (pattern.split_first(), names) {
        (None, names) => names.is_empty(),
        (Some((&"**", rest)), names) => (1..=names.len()).any(|count| naive(rest, &names[count..])),
        (Some((segment, rest)), [name, others @ ..]) => {
            like(name.as_bytes(), segment.as_bytes()) && naive(rest, others)
        }
        (Some(_), []) => false,
    }
}

proptest! {
    #[test]
    fn it_matches_what_the_definition_says(
        pattern in "(\\*\\*|[ab*]{1,4})(/(\\*\\*|[ab*]{1,4})){0,4}",
        name in "[ab]{1,4}(/[ab]{1,4}){0,4}",
    ) {
        if let Ok(parsed) = Pattern::parse(&pattern) {
            let (segments, names): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), name.split('/').collect());
            prop_assert_eq!(parsed.matches(&name, None), naive(&segments, &names));
        }
    }

    #[test]
    fn no_text_is_too_odd(pattern in ".{0,40}", name in ".{0,40}") {
        if let Ok(parsed) = Pattern::parse(&pattern) {
            parsed.matches(&name, Some(&name));
            prop_assert_eq!(parsed.to_string(), pattern);
        }
    }

    #[test]
    fn a_repository_s_own_name_means_it_alone(name in "[a-z0-9]{1,5}(/[a-z0-9]{1,5}){0,3}", other in "[a-z0-9]{1,5}") {
        let parsed = Pattern::parse(&name).unwrap();
        prop_assert!(parsed.matches(&name, None));
        prop_assert_eq!(parsed.matches(&other, None), name == other);
    }
}

/// Tried in every way, it would take longer than anybody lives.
#[test]
fn the_worst_pattern_takes_no_time() {
    let pattern = ["**"; 64].join("/").replace("**/**", "**/*a*a*a*a*a*b");
    let pattern = Pattern::parse(&pattern).unwrap();
    let name = ["aaaaaaaaaaaaaaaaaaaaaaaa"; 60].join("/");
    let begun = std::time::Instant::now();
    assert!(!pattern.matches(&name, None));
    assert!(begun.elapsed() < std::time::Duration::from_secs(20));
}
