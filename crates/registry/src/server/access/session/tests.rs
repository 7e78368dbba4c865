use super::super::tests::{RULES, Request, ask, basic, open, repository, users};
use super::super::{AccessConfig, Action, htpasswd};
use super::*;

fn access(directory: &std::path::Path) -> Access {
    open(directory, &format!("{{{RULES}}}"))
}

async fn sign_in(access: &Access, name: &str, password: &str) -> Result<String, Reason> {
    access.sign_in(&Request::by(None).visitor(), name, password).await
}

async fn identity(access: &Access, authorization: Option<&str>, session: Option<&str>) -> Identity {
    let request = Request::by(authorization);
    access.visit(&request.visitor(), session).await.unwrap().identity().clone()
}

fn user(name: &str) -> Identity {
    Identity::User(name.into())
}

#[tokio::test]
async fn a_session_lasts_until_its_owner_signs_out() {
    let directory = tempfile::tempdir().unwrap();
    let access = access(directory.path());
    let session = sign_in(&access, "alice", "elephant").await.unwrap();
    let other = sign_in(&access, "alice", "elephant").await.unwrap();
    let visitor = Request::by(None);
    let admission = access.visit(&visitor.visitor(), Some(&session)).await.unwrap();
    assert_eq!(admission.identity(), &user("alice"));
    assert!(admission.sees("team/app") && !admission.sees("other"));
    access.sign_out(&session).await;
    assert_eq!(identity(&access, None, Some(&session)).await, Identity::Anonymous);
    assert_eq!(identity(&access, None, Some(&other)).await, user("alice"));
    // What is none is passed over, and not remembered.
    for odd in ["", "x", "a.b.c", &session[..session.len() - 2]] {
        access.sign_out(odd).await;
        assert_eq!(identity(&access, None, Some(odd)).await, Identity::Anonymous);
    }
    assert_eq!(access.ended.0.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn who_has_signed_out_is_out_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let before = access(directory.path());
    let session = sign_in(&before, "alice", "elephant").await.unwrap();
    let other = sign_in(&before, "alice", "elephant").await.unwrap();
    before.sign_out(&session).await;
    drop(before);
    let users = Some(directory.path().join("users"));
    let config = AccessConfig { htpasswd: users, ..serde_json::from_str(&format!("{{{RULES}}}")).unwrap() };
    let after = Access::open(&config, directory.path()).unwrap();
    assert_eq!(identity(&after, None, Some(&session)).await, Identity::Anonymous);
    assert_eq!(identity(&after, None, Some(&other)).await, user("alice"));
}

#[tokio::test]
async fn a_session_ends_with_the_password() {
    let directory = tempfile::tempdir().unwrap();
    let access = access(directory.path());
    let session = sign_in(&access, "bob", "mouse").await.unwrap();
    assert_eq!(identity(&access, None, Some(&session)).await, user("bob"));
    // The same password, with another salt: it was set again.
    users(directory.path());
    assert_eq!(identity(&access, None, Some(&session)).await, Identity::Anonymous);
    let session = sign_in(&access, "bob", "mouse").await.unwrap();
    htpasswd::remove(&directory.path().join("users"), "bob").unwrap();
    assert_eq!(identity(&access, None, Some(&session)).await, Identity::Anonymous);
    assert!(matches!(sign_in(&access, "bob", "mouse").await, Err(Reason::Wrong(_))));
}

#[tokio::test]
async fn sessions_and_tokens_are_not_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let access = access(directory.path());
    let session = sign_in(&access, "alice", "elephant").await.unwrap();
    assert_eq!(identity(&access, None, Some(&session)).await, user("alice"));
    // Also after it was remembered as a session.
    let bearer = format!("Bearer {session}");
    let (status, challenge) = ask(&access, Some(&bearer), repository(Action::Read, "team/app")).await;
    assert!(status == 401 && challenge.contains("invalid_token"), "{challenge}");
    let token = Token {
        identity: user("alice"),
        account: access.accounts.known().await.account(&user("alice")),
        scope: Arc::default(),
    };
    let keys = access.accounts.known().await.keys.clone();
    let token = token.sign(&keys, "corten-registry", now_s(), 300).unwrap();
    assert_eq!(ask(&access, Some(&format!("Bearer {token}")), super::super::Wanted::Ping).await.0, 200);
    assert_eq!(identity(&access, None, Some(&token)).await, Identity::Anonymous);
    let request = Request::by(Some(&bearer));
    assert!(matches!(access.visit(&request.visitor(), None).await, Err(Reason::Token(_))));
}

#[tokio::test]
async fn who_shows_a_password_is_who_that_says() {
    let directory = tempfile::tempdir().unwrap();
    let access = access(directory.path());
    let session = sign_in(&access, "alice", "elephant").await.unwrap();
    let bob = basic("bob", "mouse");
    assert_eq!(identity(&access, Some(&bob), Some(&session)).await, user("bob"));
    let wrong = Request::by(Some(&basic("bob", "cat")));
    assert!(matches!(access.visit(&wrong.visitor(), Some(&session)).await, Err(Reason::Wrong(_))));
    for _ in 0..10 {
        let _ = sign_in(&access, "bob", "guess").await;
    }
    assert!(matches!(sign_in(&access, "bob", "guess").await, Err(Reason::Later { .. })));
}

#[tokio::test]
async fn an_account_is_told_what_it_may() {
    let directory = tempfile::tempdir().unwrap();
    let rules = r#"{"rules": [{"repositories": ["**"], "who": ["user:bob"], "may": ["admin"]},
        {"repositories": ["home/{user}/**"], "who": ["authenticated"], "may": ["write"]}]}"#;
    let access = open(directory.path(), rules);
    let of = async |name, password| {
        let request = Request::by(Some(&basic(name, password)));
        let admission = access.visit(&request.visitor(), None).await.unwrap();
        access.account(&admission).await
    };
    let alice = of("alice", "elephant").await;
    assert_eq!(
        alice.grants,
        [(vec!["home/{user}/**".to_owned()], Actions::of([Action::Read, Action::Write]))]
    );
    assert!(alice.robots.is_none());
    let bob = of("bob", "mouse").await;
    assert_eq!((bob.grants.len(), bob.robots.map(|robots| robots.len())), (2, Some(0)));
}

#[test]
fn what_has_ended_is_bounded() {
    let ended = Ended::default();
    for number in 0..ENDED_MAX as u64 + 10 {
        ended.add(Fingerprint::of(number.to_string().as_bytes()), number);
    }
    assert_eq!(ended.0.lock().unwrap().len(), ENDED_MAX);
    assert!(ended.has(&(ENDED_MAX + 9).to_string()) && !ended.has("0") && !ended.has("x"));
}
