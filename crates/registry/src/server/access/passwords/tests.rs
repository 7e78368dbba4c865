use std::sync::Arc;

use super::super::htpasswd::Users;
use super::*;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn hash(password: &str, cost: u32) -> Hash {
    let text = bcrypt::hash_with_result(password, cost).unwrap().format_for_version(bcrypt::Version::TwoY);
    Users::parse(&format!("x:{text}")).0.get("x").unwrap().clone()
}

#[tokio::test]
async fn who_was_right_is_remembered_until_the_hash_changes() {
    let passwords = Passwords::new(1).unwrap();
    let (dear, other) = (hash("elephant", 11), hash("whale", 4));
    let begun = Instant::now();
    assert_eq!(passwords.verify(HERE, "a", dear.clone(), "elephant").await, Verdict::Right);
    let looked_at_once = begun.elapsed();
    let begun = Instant::now();
    for _ in 0..100 {
        assert_eq!(passwords.verify(HERE, "a", dear.clone(), "elephant").await, Verdict::Right);
    }
    assert!(begun.elapsed() < 20 * looked_at_once, "{:?}, {looked_at_once:?}", begun.elapsed());
    assert_eq!(passwords.verify(HERE, "a", dear.clone(), "mouse").await, Verdict::Wrong);
    assert_eq!(passwords.verify(HERE, "a", other.clone(), "elephant").await, Verdict::Wrong);
    assert_eq!(passwords.verify(HERE, "b", dear, "elephant").await, Verdict::Right);
    assert_eq!(passwords.verify(HERE, "a", other, "whale").await, Verdict::Right);
}

#[tokio::test]
async fn guessing_is_slowed_down_and_the_right_one_is_not() {
    let passwords = Passwords::new(2).unwrap();
    let stored = hash("elephant", 4);
    let mut later = 0;
    assert_eq!(passwords.verify(HERE, "a", stored.clone(), "elephant").await, Verdict::Right);
    for guess in 0..20 {
        match passwords.verify(HERE, "a", stored.clone(), &format!("guess{guess}")).await {
            Verdict::Right => panic!("a guess is right"),
            Verdict::Wrong => {}
            Verdict::Later { retry_after_s } => {
                assert!((1..=60).contains(&retry_after_s));
                later += 1;
            }
        }
    }
    assert!(later >= 14, "{later}");
    assert_eq!(passwords.verify(HERE, "a", stored.clone(), "elephant").await, Verdict::Right);
    // From elsewhere nobody is hindered.
    let elsewhere = "192.0.2.1".parse().unwrap();
    assert_eq!(passwords.verify(elsewhere, "a", stored, "mouse").await, Verdict::Wrong);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_takes_no_more_than_its_turns() {
    let passwords = Arc::new(Passwords::new(1).unwrap());
    let stored = hash("elephant", 4);
    let mut tasks = Vec::new();
    for n in 0..1000u32 {
        let (passwords, stored) = (passwords.clone(), stored.clone());
        let from = IpAddr::from(n.to_be_bytes());
        tasks.push(tokio::spawn(async move { passwords.verify(from, "a", stored, &n.to_string()).await }));
    }
    let mut later = 0;
    for task in tasks {
        later += usize::from(matches!(task.await.unwrap(), Verdict::Later { retry_after_s: 1 }));
    }
    // Most came while the queue was full, and were sent away.
    assert!((1..=1000 - WAITING_MAX).contains(&later), "{later}");
    assert_eq!(
        (passwords.waiting.available_permits(), passwords.running.available_permits()),
        (WAITING_MAX, 1)
    );
}

#[test]
fn what_is_remembered_is_bounded_and_no_password() {
    let passwords = Passwords::new(1).unwrap();
    let stored = hash("elephant", 4);
    for n in 0..REMEMBERED_MAX + 50 {
        let tag = passwords.tag("a", &stored, &n.to_string());
        passwords.remember(tag);
    }
    assert_eq!(passwords.remembered.lock().unwrap().len(), REMEMBERED_MAX);
    // Parts can't be moved from one to the other.
    assert_ne!(passwords.tag("ab", &stored, "c"), passwords.tag("a", &stored, "bc"));
    assert_ne!(passwords.tag("a", &stored, "x"), Passwords::new(1).unwrap().tag("a", &stored, "x"));
}
