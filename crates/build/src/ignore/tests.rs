use super::*;

#[test]
fn rules_of_the_file() {
    let ignore = Ignore::parse("\u{feff}# comment\n #not\n\n  /a/./b/ \r\n!  keep\n*.o\n").unwrap();
    let patterns: Vec<_> = ignore.patterns().collect();
    assert_eq!(patterns, [("#not", false), ("a/b", false), ("keep", true), ("*.o", false)]);
    assert_eq!(Ignore::parse("a\n!\n").unwrap_err(), IgnoreError::Nothing { line: 2 });
    assert_eq!(Ignore::parse("a\n[").unwrap_err().line(), 2);
    assert!(Ignore::parse(&"x".repeat(70_000)).is_err());
}

#[test]
fn what_is_excluded() {
    for (file, path, excluded) in [
        ("a", "a", true),
        ("a", "a/b/c", true),
        ("a", "b/a", false),
        ("/a", "a", true),
        ("*/a", "x/a", true),
        ("*/a", "x/y/a", false),
        ("**/a", "a", true),
        ("**/a", "x/y/a", true),
        ("**/a", "x/ya", false),
        ("**a", "x/ya", true),
        ("a/**", "a", false),
        ("a/**", "a/b", true),
        ("**/*.go", "x/y.go", true),
        ("a/**/b", "a/b", true),
        ("a/**/b", "a/x/y/b/z", true),
        ("*.md\n!README.md", "README.md", false),
        ("*.md\n!README.md", "x.md", true),
        ("!README.md\n*.md", "README.md", true),
        ("*\n!src\n", "src/x.c", false),
        ("*\n!src\nsrc/*.o", "src/x.o", true),
        ("a?c", "abc", true),
        ("a?c", "a/c", false),
        ("[a-c]x", "bx", true),
        ("[^a-c]x", "bx", false),
        ("a\\*", "a*", true),
        ("a\\*", "ab", false),
        (".", "a", false),
        ("..", "a", false),
        // A directory that was not excluded when it was taken back stays below what excludes it.
        ("a/b\n!a", "a/b/c", true),
    ] {
        assert_eq!(Ignore::parse(file).unwrap().excludes(path), excluded, "{file:?} {path:?}");
    }
}

#[test]
fn directories_that_need_not_be_entered() {
    let ignore = Ignore::parse("**\n!src/lib\n!docs/*/index.md").unwrap();
    let descend = |ignore: &Ignore, path: &str| {
        let mut matches = Matches::default();
        for (end, _) in path.match_indices('/') {
            matches = ignore.below(&matches, &path[..end]);
        }
        ignore.may_include_below(&ignore.below(&matches, path), path)
    };
    assert!(descend(&ignore, "src") && descend(&ignore, "docs") && descend(&ignore, "docs/x"));
    assert!(!descend(&ignore, "other") && !descend(&ignore, "src/other") && !descend(&ignore, "docs/x/y"));
    let ordered = Ignore::parse("!**.txt\nbuild\n!tmp/a\ntmp").unwrap();
    assert!(!descend(&ordered, "build") && !descend(&ordered, "tmp") && descend(&ordered, "free"));
}

#[test]
fn globs() {
    for (pattern, path, expected) in [
        ("*.go", "a.go", true),
        ("*", "a/b", false),
        ("a**b", "axb", true),
        ("[a-c][^x]", "by", true),
        ("\\[", "[", true),
        ("", "", true),
    ] {
        assert_eq!(Glob::compile(pattern).unwrap().matches(path), expected, "{pattern} {path}");
    }
    for pattern in ["[", "[]a]", "[a-]", "[-a]", "a\\", "[a", "[^]"] {
        assert!(Glob::compile(pattern).is_err(), "{pattern}");
    }
}

#[test]
fn many_stars_take_no_time() {
    let glob = Glob::compile(&"*a".repeat(200)).unwrap();
    assert!(!glob.matches(&"a".repeat(199)) && !glob.matches(&format!("{}b", "a".repeat(4000))));
}
