//! `search`: a registry of one's own is searched by its list of repositories.

use corten_tests::TestEngine;
use corten_tests::registry::TestRegistry;

#[test]
fn both_clients_find_what_was_pushed() {
    let directory = tempfile::tempdir().expect("a directory");
    let registry = TestRegistry::start(&directory.path().join("data"), &[]);
    let engine = TestEngine::with_busybox();
    let host = registry.address().to_string();
    for name in ["tools/busybox", "tools/other"] {
        engine.corten(&["tag", "busybox", &format!("{host}/{name}:1")]).ok();
        engine.corten(&["push", &format!("{host}/{name}:1")]).ok();
    }
    let found = format!("{host}/tools/busybox");
    let term = format!("{host}/BUSY");
    for search in [TestEngine::corten, TestEngine::docker] {
        let table = search(&engine, &["search", &term]).ok();
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines.len() == 2 && lines[0].starts_with("NAME "), "{table}");
        assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), [found.as_str(), "0"], "{table}");
        assert_eq!(search(&engine, &["search", "--format", "{{.Name}}", &term]).ok(), found);
        assert_eq!(
            search(&engine, &["search", "--filter", "stars=1", "--format", "{{.Name}}", &term]).ok(),
            ""
        );
        let both =
            search(&engine, &["search", "--limit", "1", "--format", "{{.Name}}", &format!("{host}/tools")]);
        assert_eq!(both.ok().lines().count(), 1);
        let refused = search(&engine, &["search", "--limit", "101", &term]).fails(1);
        assert!(refused.contains("101") && refused.contains("[1, 100]"), "{refused}");
        let refused = search(&engine, &["search", "--filter", "colour=red", &term]).fails(1);
        assert!(refused.contains("invalid filter 'colour'"), "{refused}");
    }
    let json = engine.corten(&["search", "--format", "json", &term]).ok();
    assert_eq!(json, engine.docker(&["search", "--format", "json", &term]).ok());
}
