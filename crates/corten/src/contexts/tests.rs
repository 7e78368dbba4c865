use super::*;

#[test]
fn files_are_where_docker_looks_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path().to_owned());
    let meta = Meta::new("one", "", "unix:///x", false);
    store.check_new("one").unwrap();
    store.put(&meta, None).unwrap();
    let path = "contexts/meta/7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed/meta.json";
    let text = std::fs::read_to_string(dir.path().join(path)).unwrap();
    assert_eq!(
        text,
        r#"{"Name":"one","Metadata":{},"Endpoints":{"docker":{"Host":"unix:///x","SkipTLSVerify":false}}}"#
    );
    assert_eq!(store.get("one").unwrap(), meta);
    assert!(matches!(store.check_new("one"), Err(StoreError::Exists(_))));
    assert!(matches!(store.check_new("b!d"), Err(StoreError::Name(_))));
    assert!(matches!(store.check_new("default"), Err(StoreError::Reserved(_))));
    assert!(matches!(store.get("two"), Err(StoreError::NotFound { .. })));
    store.remove("one").unwrap();
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn the_current_one_is_a_line_in_a_file_that_keeps_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path().to_owned());
    assert_eq!(store.current(), None);
    std::fs::write(dir.path().join("config.json"), r#"{"psFormat":"x","auths":{}}"#).unwrap();
    store.set_current("one").unwrap();
    assert_eq!(store.current().as_deref(), Some("one"));
    store.set_current(DEFAULT).unwrap();
    let text = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
    assert_eq!(text, "{\n\t\"psFormat\": \"x\",\n\t\"auths\": {}\n}");
}

#[test]
fn a_linked_configuration_stays_where_it_is() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (link, real) = (dir.path().join("config.json"), dir.path().join("dotfiles.json"));
    std::os::unix::fs::symlink("dotfiles.json", &link).unwrap();
    let store = Store::new(dir.path().to_owned());
    store.set_current("one").unwrap();
    assert!(link.is_symlink() && real.is_file());
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
    store.set_current("two").unwrap();
    assert!(link.is_symlink());
    assert_eq!(store.current().as_deref(), Some("two"));
    assert_eq!(std::fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn archives_bring_everything_along_and_nothing_else() {
    let mut meta = Meta::new("one", "the one", "tcp://h:1", true);
    meta.metadata.others.insert("Extra".into(), "kept".into());
    let files = TlsFiles { files: [Some(b"ca".to_vec()), None, Some(vec![7; 1000])] };
    let archive = archive::export(&meta, &files).unwrap();
    let (read, read_files) = archive::import("two", &archive).unwrap();
    assert_eq!((read, read_files), (Meta { name: "two".into(), ..meta }, files));
    for broken in [&archive[..520], b"PK\x03\x04", b"no archive", b""] {
        assert!(matches!(archive::import("x", broken), Err(StoreError::Archive(_))));
    }
}
