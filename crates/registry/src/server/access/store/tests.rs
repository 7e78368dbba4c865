use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::super::robot::RobotGrant;
use super::*;

fn alice() -> Identity {
    Identity::User("alice".to_owned())
}

fn print(text: &str) -> Fingerprint {
    Fingerprint::of(text.as_bytes())
}

#[test]
fn keys_are_made_once_and_can_be_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::open(directory.path()).unwrap();
    let token = store.keys(0).unwrap().sign(&json!({})).unwrap();
    drop(store);
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let mut store = Store::open(directory.path()).unwrap();
    let knows = |store: &mut Store, token: &str| store.keys(0).unwrap().verify::<Value>(token).is_some();
    assert!(knows(&mut store, &token));
    store.rotate_keys(1000, false).unwrap();
    assert!(knows(&mut store, &token));
    let newer = store.keys(0).unwrap().sign(&json!({})).unwrap();
    // The first key was used until 1000: it may go a day later, the second one not yet.
    store.rotate_keys(1000 + KEY_KEPT_S, false).unwrap();
    assert!(knows(&mut store, &token) && knows(&mut store, &newer));
    store.rotate_keys(1002 + KEY_KEPT_S, false).unwrap();
    assert!(!knows(&mut store, &token) && knows(&mut store, &newer));
    store.rotate_keys(1003 + KEY_KEPT_S, true).unwrap();
    assert!(!knows(&mut store, &newer));
}

#[test]
fn robots_come_and_go_with_their_logins() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::open(directory.path()).unwrap();
    let grant = || vec![RobotGrant::parse("team/*:write").unwrap()];
    let (robot, _) = Robot::make("ci", grant(), Some(100), 1).unwrap();
    store.add_robot(&robot).unwrap();
    assert!(matches!(store.add_robot(&robot), Err(StoreError::RobotExists(_))));
    store.add_robot(&Robot::make("cd", grant(), None, 1).unwrap().0).unwrap();
    let names: Vec<String> = store.robots().unwrap().into_iter().map(|robot| robot.name).collect();
    assert_eq!(names, ["cd", "ci"]);
    assert_eq!(store.robots().unwrap()[1], robot);
    store.add_login(&print("t"), &Identity::Robot("ci".into()), &robot.secret, "docker", 2, 0).unwrap();
    store.remove_robot("ci").unwrap();
    assert!(matches!(store.remove_robot("ci"), Err(StoreError::NoRobot(_))));
    assert_eq!(store.use_login(&print("t"), 3, 0).unwrap(), None);
}

#[test]
fn logins_last_while_they_are_used() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::open(directory.path()).unwrap();
    store.add_login(&print("t"), &alice(), &print("password"), "docker", 100, 0).unwrap();
    assert_eq!(store.use_login(&print("t"), 5000, 0).unwrap(), Some((alice(), print("password"))));
    assert_eq!(store.use_login(&print("other"), 5000, 0).unwrap(), None);
    // Used at 5000: known to those who forget what is older than that, not to those who forget more.
    assert!(store.use_login(&print("t"), 5000, 5000).unwrap().is_some());
    assert!(store.use_login(&print("t"), 5000, 5001).unwrap().is_none());
    store.add_login(&print("u"), &Identity::User("bob".into()), &print("p"), "podman", 6000, 5001).unwrap();
    let listed = store.logins().unwrap();
    assert_eq!(
        (listed.len(), listed[0].identity.as_str(), listed[0].client.as_str()),
        (1, "user:bob", "podman")
    );
    assert_eq!(store.remove_logins(Some(&alice())).unwrap(), 0);
    assert_eq!(store.remove_logins(Some(&Identity::User("bob".into()))).unwrap(), 1);
}

#[test]
fn logins_of_one_are_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::open(directory.path()).unwrap();
    store.add_login(&print("bob"), &Identity::User("bob".into()), &print("p"), "", 1, 0).unwrap();
    for n in 0..LOGINS_MAX + 5 {
        store.add_login(&print(&n.to_string()), &alice(), &print("p"), "", u64::from(n) + 1, 0).unwrap();
    }
    assert_eq!(store.logins().unwrap().len(), LOGINS_MAX as usize + 1);
    assert!(store.use_login(&print("4"), 1, 0).unwrap().is_none());
    assert!(store.use_login(&print("5"), 1, 0).unwrap().is_some());
    assert_eq!(store.remove_logins(None).unwrap(), LOGINS_MAX as usize + 1);
}

#[test]
fn others_changes_are_seen() {
    let directory = tempfile::tempdir().unwrap();
    let (mut one, mut other) =
        (Store::open(directory.path()).unwrap(), Store::open(directory.path()).unwrap());
    one.keys(0).unwrap();
    let before = one.version().unwrap();
    one.add_login(&print("t"), &alice(), &print("p"), "", 1, 0).unwrap();
    assert_eq!(one.version().unwrap(), before);
    other.rotate_keys(5, true).unwrap();
    assert_ne!(one.version().unwrap(), before);
}

#[test]
fn a_newer_store_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    Store::open(directory.path()).unwrap().connection.execute_batch("PRAGMA user_version = 2").unwrap();
    assert!(matches!(Store::open(directory.path()), Err(StoreError::TooNew { found: 2, .. })));
    let text = Store::open(&directory.path().join("none")).unwrap_err().to_string();
    assert!(text.starts_with("cannot make /"), "{text}");
}

#[test]
fn it_belongs_to_whom_the_directory_belongs() {
    let directory = tempfile::tempdir().unwrap();
    if !rustix::process::geteuid().is_root() {
        return;
    }
    std::os::unix::fs::chown(directory.path(), Some(1234), Some(1235)).unwrap();
    Store::open(directory.path()).unwrap().keys(0).unwrap();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let metadata = entry.unwrap().metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (1234, 1235));
    }
}

#[test]
fn ended_sessions_are_kept_as_long_as_they_matter() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::open(directory.path()).unwrap();
    for (name, ends_s) in [("old", 100), ("a", 200), ("b", 300), ("b", 400), ("c", 500)] {
        store.end_session(&print(name), ends_s, 50, 3).unwrap();
    }
    let mut kept = store.ended_sessions(50).unwrap();
    kept.sort_by_key(|(_, ends_s)| *ends_s);
    let expected = [(print("a"), 200), (print("b"), 300), (print("c"), 500)];
    assert!(kept == expected);
    store.end_session(&print("d"), 900, 300, 3).unwrap();
    drop(store);
    // One that was made before there were any.
    rusqlite::Connection::open(directory.path().join("access.db"))
        .unwrap()
        .execute("DROP TABLE ended", [])
        .unwrap();
    assert!(Store::open(directory.path()).unwrap().ended_sessions(0).unwrap().is_empty());
}
