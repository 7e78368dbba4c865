use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use corten_api::base64;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

use super::*;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Users alice and bob, whose passwords are elephant and mouse.
pub(super) fn users(directory: &Path) -> std::path::PathBuf {
    let path = directory.join("users");
    let line = |user: &str, password: &str| {
        let hash = bcrypt::hash_with_result(password, 4).unwrap().format_for_version(bcrypt::Version::TwoY);
        format!("{user}:{hash}\n")
    };
    std::fs::write(&path, line("alice", "elephant") + &line("bob", "mouse")).unwrap();
    path
}

pub(super) fn open(directory: &Path, section: &str) -> Access {
    let mut config: AccessConfig = serde_json::from_str(section).unwrap();
    config.htpasswd = Some(users(directory));
    Access::open_looking(&config, directory, Duration::ZERO, None).unwrap()
}

pub(super) const RULES: &str = r#"
    "groups": {"devs": ["user:alice"]},
    "rules": [
        {"repositories": ["public/**"], "who": ["anonymous"], "may": ["read"]},
        {"repositories": ["team/**"], "who": ["group:devs"], "may": ["write"]}
    ]"#;

pub(super) struct Request {
    pub headers: HeaderMap,
    pub certificate: Option<String>,
    pub tls: bool,
}

impl Request {
    pub fn by(authorization: Option<&str>) -> Self {
        let mut headers = HeaderMap::new();
        if let Some(text) = authorization {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(text).unwrap());
        }
        Self { headers, certificate: None, tls: true }
    }

    pub fn visitor(&self) -> Visitor<'_> {
        Visitor {
            headers: &self.headers,
            host: Some("hub:5000"),
            address: HERE,
            tls: self.tls,
            certificate: self.certificate.as_deref(),
            request_id: "1",
        }
    }
}

pub(super) fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", base64::encode(format!("{name}:{password}").as_bytes()))
}

pub(super) fn repository(action: Action, name: &str) -> Wanted<'_> {
    Wanted::Repository { action, name }
}

/// Status and challenge; 200 for who is let in.
pub(super) async fn ask(access: &Access, authorization: Option<&str>, wanted: Wanted<'_>) -> (u16, String) {
    let request = Request::by(authorization);
    match access.admit(&request.visitor(), wanted).await {
        Ok(_) => (200, String::new()),
        Err(refusal) => {
            let response = refusal.into_response(false);
            let challenge =
                response.headers().get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap().to_owned());
            (response.status().as_u16(), challenge.unwrap_or_default())
        }
    }
}

#[tokio::test]
async fn strangers_are_told_what_to_show() {
    let directory = tempfile::tempdir().unwrap();
    let access = open(directory.path(), &format!("{{{RULES}}}"));
    let bearer = "Bearer realm=\"https://hub:5000/token\",service=\"corten-registry\"";
    for (wanted, status, scope) in [
        (Wanted::Ping, 401, ""),
        (repository(Action::Read, "public/app"), 200, ""),
        (repository(Action::Write, "public/app"), 401, ",scope=\"repository:public/app:pull,push\""),
        (repository(Action::Read, "team/app"), 401, ",scope=\"repository:team/app:pull\""),
        (repository(Action::Delete, "team/app"), 401, ",scope=\"repository:team/app:pull,delete\""),
        (Wanted::Catalogue, 401, ",scope=\"registry:catalog:*\""),
    ] {
        let expected = if status == 401 { format!("{bearer}{scope}") } else { String::new() };
        assert_eq!(ask(&access, None, wanted).await, (status, expected), "{wanted:?}");
    }
    let access = open(directory.path(), r#"{"challenge": "basic", "rules": []}"#);
    let basic = "Basic realm=\"corten-registry\"".to_owned();
    assert_eq!(ask(&access, None, Wanted::Ping).await, (401, basic.clone()));
    assert_eq!(ask(&access, None, Wanted::Catalogue).await, (401, basic));
    let access = open(directory.path(), &format!("{{\"challenge\": \"basic\", {RULES}}}"));
    assert_eq!(ask(&access, None, Wanted::Catalogue).await.0, 200);
}

#[tokio::test]
async fn passwords_let_in_where_rules_allow() {
    let directory = tempfile::tempdir().unwrap();
    let access = open(directory.path(), &format!("{{\"challenge\": \"basic\", {RULES}}}"));
    let (alice, bob) = (basic("alice", "elephant"), basic("bob", "mouse"));
    let challenge = "Basic realm=\"corten-registry\"".to_owned();
    for (who, wanted, status) in [
        (&alice, Wanted::Ping, 200),
        (&alice, repository(Action::Write, "team/app"), 200),
        (&alice, repository(Action::Read, "team/app"), 200),
        (&alice, repository(Action::Delete, "team/app"), 403),
        (&bob, Wanted::Ping, 200),
        (&bob, repository(Action::Read, "team/app"), 403),
        (&bob, repository(Action::Read, "public/app"), 200),
    ] {
        assert_eq!(ask(&access, Some(who), wanted).await, (status, String::new()), "{wanted:?}");
    }
    // A bare 403 would be tried again and again.
    let request = Request::by(Some(&bob));
    let refusal = access.admit(&request.visitor(), repository(Action::Read, "team/app")).await.err().unwrap();
    assert_eq!(refusal.into_response(true).status(), 401);
    // Who shows something wrong is not let in as a stranger.
    for wrong in [basic("alice", "mouse"), basic("carol", "x"), basic("", ""), "Digest x".to_owned()] {
        let answer = ask(&access, Some(&wrong), repository(Action::Read, "public/app")).await;
        assert_eq!(answer, (401, challenge.clone()), "{wrong}");
    }
}

#[tokio::test]
async fn a_certificate_is_an_identity_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let rules =
        r#"{"rules": [{"repositories": ["team/**"], "who": ["certificate:build"], "may": ["write"]}]}"#;
    let access = open(directory.path(), rules);
    let mut request = Request::by(None);
    for (name, allowed) in [("build", true), ("alice", false)] {
        request.certificate = Some(name.to_owned());
        let admitted = access.admit(&request.visitor(), repository(Action::Write, "team/app")).await;
        assert_eq!(admitted.is_ok(), allowed, "{name}");
        access.admit(&request.visitor(), Wanted::Ping).await.unwrap();
    }
}

#[tokio::test]
async fn a_changed_file_of_users_counts_at_the_next_look() {
    let directory = tempfile::tempdir().unwrap();
    let access = open(directory.path(), "{}");
    let (path, alice, carol) = (users(directory.path()), basic("alice", "elephant"), basic("carol", "whale"));
    assert_eq!(ask(&access, Some(&alice), Wanted::Ping).await.0, 200);
    htpasswd::set(&path, "carol", "whale").unwrap();
    htpasswd::remove(&path, "alice").unwrap();
    assert_eq!(ask(&access, Some(&carol), Wanted::Ping).await.0, 200);
    assert_eq!(ask(&access, Some(&alice), Wanted::Ping).await.0, 401);
    // What can't be read lets nobody in.
    std::fs::remove_file(&path).unwrap();
    assert_eq!(ask(&access, Some(&carol), Wanted::Ping).await.0, 401);
}

#[tokio::test]
async fn who_guesses_is_told_to_wait() {
    let directory = tempfile::tempdir().unwrap();
    let access = open(directory.path(), "{}");
    for guess in 0..6 {
        assert_eq!(ask(&access, Some(&basic("alice", &guess.to_string())), Wanted::Ping).await.0, 401);
    }
    let request = Request::by(Some(&basic("alice", "elephant")));
    let refusal = access.admit(&request.visitor(), Wanted::Ping).await.err().unwrap();
    let response = refusal.into_response(false);
    assert_eq!((response.status().as_u16(), response.headers()[RETRY_AFTER].to_str().unwrap()), (429, "1"));
}

#[tokio::test]
async fn users_who_are_not_there_cost_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users");
    htpasswd::set(&path, "alice", "elephant").unwrap();
    let config = AccessConfig { htpasswd: Some(path), ..AccessConfig::default() };
    let access = Access::open(&config, directory.path()).unwrap();
    // The least of several: other work of the machine only adds to it.
    let mut times = [f64::MAX; 2];
    for guess in 0..3 {
        for (user, least) in ["alice", "nobody"].iter().zip(&mut times) {
            let begun = std::time::Instant::now();
            assert_eq!(ask(&access, Some(&basic(user, &guess.to_string())), Wanted::Ping).await.0, 401);
            *least = least.min(begun.elapsed().as_secs_f64());
        }
    }
    assert!(times[0] / times[1] < 3.0 && times[1] / times[0] < 3.0, "{times:?}");
}

#[tokio::test]
async fn what_is_noted_is_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("audit.log");
    let section = format!(r#"{{"audit": {{"file": "{}"}}}}"#, log.display());
    let access = open(directory.path(), &section);
    let request = Request::by(Some(&basic("alice", "mouse")));
    access.token(&request.visitor(), &hyper::Method::GET, None, b"").await;
    let entry =
        Entry { action: "push", who: "user:bob", repository: Some("a"), status: 201, ..Entry::default() };
    access.note(&request.visitor(), &entry);
    drop(access);
    let text = std::fs::read_to_string(log).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["identity"], &lines[0]["status"]), (&"alice".into(), &401.into()));
    assert_eq!((&lines[1]["action"], &lines[1]["address"]), (&"push".into(), &"127.0.0.1".into()));
    assert!(!text.contains("mouse"));
}
