use std::os::unix::fs::PermissionsExt;

use super::*;

/// `htpasswd -nbBC 4 alice elephant`, and with the other marks that mean the same.
const ELEPHANT: &str = "$2y$04$";

fn hash(password: &str) -> String {
    bcrypt::hash_with_result(password, 4).unwrap().format_for_version(bcrypt::Version::TwoY)
}

#[test]
fn bcrypt_is_taken_and_others_are_refused_by_name() {
    let good = hash("elephant");
    assert!(good.starts_with(ELEPHANT));
    let text = format!(
        "# people\n\nalice:{good}\r\nbob:$apr1$abc$def\ncarol:{{SHA}}xyz\ndave:{}\nerin:plain\nfrank\nrobot+x:{good}\nalice:{good}\n\
         gina:{}\nhugo:{}\nidunn:$6$x$y\njohn:{}",
        good.replacen("$2y$", "$2x$", 1),
        good.replacen("$2y$", "$2a$", 1),
        &good[..50],
        good.replacen("$04$", "$31$", 1),
    );
    let (users, unusable) = Users::parse(&text);
    assert!(users.get("alice").unwrap().verify("elephant"));
    assert!(!users.get("alice").unwrap().verify("mouse"));
    assert!(users.get("gina").unwrap().verify("elephant"));
    let told: Vec<String> = unusable.iter().map(ToString::to_string).collect();
    for (at, expected) in [
        "line 4: user \"bob\" can't log in: its password is hashed by MD5",
        "line 5: user \"carol\" can't log in: its password is hashed by SHA-1",
        "line 6: user \"dave\" can't log in: its password is hashed by a broken bcrypt",
        "line 7: user \"erin\" can't log in: its password is hashed by no way",
        "line 8: user \"\" can't log in",
        "line 9: user \"robot+x\" can't log in: names that begin with robot+",
        "line 10: user \"alice\" can't log in: an earlier line",
        "line 12: user \"hugo\" can't log in: its bcrypt hash is damaged",
        "line 13: user \"idunn\" can't log in: its password is hashed by SHA-512",
        "line 14: user \"john\" can't log in: its bcrypt hash has a cost above 16",
    ]
    .iter()
    .enumerate()
    {
        assert!(told[at].starts_with(expected), "{} {expected}", told[at]);
    }
    assert_eq!(told.len(), 10);
    for name in ["bob", "carol", "dave", "erin", "frank", "robot+x", "john", ""] {
        assert!(users.get(name).is_none(), "{name}");
    }
    assert!(!format!("{users:?}{unusable:?}").contains(&good[7..]), "a hash is shown");
}

#[test]
fn nobody_costs_what_users_do() {
    let (users, _) = Users::parse(&format!("a:{}\nb:{}", hash("x"), hash("y")));
    assert_eq!(users.get_or_nobody("c").cost, 4);
    for cost in [4, 10] {
        let nobody = Hash::of_nobody(cost);
        assert!(HashParts::from_str(&nobody.text).is_ok_and(|parts| parts.get_cost() == cost));
    }
    assert!(!Hash::of_nobody(4).verify(""));
    assert_eq!(Users::parse("").0.get_or_nobody("c").cost, COST_NEW);
}

#[test]
fn odd_passwords_are_wrong_or_cut_as_others_cut_them() {
    let (users, _) = Users::parse(&format!("a:{}\nlong:{}", hash("a"), hash(&"x".repeat(80))));
    assert!(!users.get("a").unwrap().verify("a\0b"));
    assert!(!users.get("a").unwrap().verify(""));
    assert!(users.get("long").unwrap().verify(&"x".repeat(80)));
}

#[test]
fn users_come_change_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users");
    assert!(set(&path, "alice", "elephant").unwrap());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(&path, format!("# kept\n{}", fs::read_to_string(&path).unwrap())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(set(&path, "bob", "mouse").unwrap());
    let stamp = Stamp::of(&path).unwrap();
    assert!(!set(&path, "alice", "whale").unwrap());
    assert_ne!(Stamp::of(&path).unwrap(), stamp);
    let (users, unusable) = read(&path).unwrap();
    assert!(users.get("alice").unwrap().verify("whale") && users.get("bob").unwrap().verify("mouse"));
    assert_eq!((unusable, names(&path).unwrap()), (vec![], vec!["alice".to_owned(), "bob".to_owned()]));
    remove(&path, "alice").unwrap();
    assert!(matches!(remove(&path, "alice"), Err(HtpasswdError::NoUser { .. })));
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.starts_with("# kept\nbob:$2y$10$") && text.ends_with('\n') && !text.contains("alice"),
        "{text}"
    );
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    assert!(matches!(
        remove(&directory.path().join("none"), "x"),
        Err(HtpasswdError::Io { step: "read", .. })
    ));
}

#[test]
fn a_link_stays_one() {
    let directory = tempfile::tempdir().unwrap();
    let (link, real) = (directory.path().join("link"), directory.path().join("real"));
    set(&real, "a", "b").unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    set(&link, "c", "d").unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(names(&real).unwrap(), ["a", "c"]);
}

#[test]
fn what_can_t_be_a_user_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users");
    for name in ["", "a:b", "a b", "robot+ci", "#x", "a\n", &"x".repeat(129)] {
        assert!(matches!(set(&path, name, "x"), Err(HtpasswdError::Name { .. })), "{name:?}");
    }
    for password in ["", "a\0b", &"x".repeat(73)] {
        let error = set(&path, "a", password).unwrap_err();
        assert!(matches!(error, HtpasswdError::Password { .. }), "{error}");
    }
    assert!(!path.exists());
}

#[test]
fn those_who_change_it_at_once_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users");
    std::thread::scope(|scope| {
        for n in 0..4 {
            let path = &path;
            scope.spawn(move || set(path, &format!("user{n}"), "x").unwrap());
        }
    });
    assert_eq!(names(&path).unwrap().len(), 4);
}

proptest::proptest! {
    #[test]
    fn no_file_is_too_odd(text in "(?s).{0,200}") {
        Users::parse(&text);
    }
}
