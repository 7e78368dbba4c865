use http_body_util::BodyExt;
use hyper::header::HeaderMap;
use serde_json::Value;

use super::super::robot::{Robot, RobotGrant};
use super::super::tests::{RULES, Request, ask, basic, open, repository, users};
use super::super::{Action, Wanted, htpasswd};
use super::*;

async fn answer(response: Response<Full<Bytes>>) -> (u16, HeaderMap, Value) {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), parts.headers, serde_json::from_slice(&body).unwrap())
}

async fn get(access: &Access, authorization: Option<&str>, query: &str) -> (u16, HeaderMap, Value) {
    let request = Request::by(authorization);
    answer(access.token(&request.visitor(), &Method::GET, Some(query), b"").await).await
}

async fn post(access: &Access, body: &str) -> (u16, HeaderMap, Value) {
    let mut request = Request::by(None);
    request
        .headers
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8"));
    answer(access.token(&request.visitor(), &Method::POST, None, body.as_bytes()).await).await
}

fn bearer(answer: &Value) -> String {
    format!("Bearer {}", answer["access_token"].as_str().expect("a token"))
}

const SERVICE: &str = "service=corten-registry";

#[tokio::test]
async fn a_token_does_what_it_is_for_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let access = open(directory.path(), &format!("{{{RULES}}}"));
    let alice = basic("alice", "elephant");
    let query = format!(
        "account=alice&client_id=docker&{SERVICE}&scope=repository:team/app:pull&scope=repository%3Aother%3Apull%2Cpush"
    );
    let (status, headers, body) = get(&access, Some(&alice), &query).await;
    assert_eq!((status, headers[CACHE_CONTROL].to_str().unwrap()), (200, "no-store"));
    assert_eq!((&body["expires_in"], &body["token"]), (&300.into(), &body["access_token"]));
    assert!(body["issued_at"].as_str().unwrap().ends_with('Z') && body.get("refresh_token").is_none());
    let token = bearer(&body);
    let challenge = |scope: &str, error: &str| {
        format!("Bearer realm=\"https://hub:5000/token\",service=\"corten-registry\"{scope}{error}")
    };
    let insufficient = ",error=\"insufficient_scope\"";
    for (wanted, status, expected) in [
        (Wanted::Ping, 200, String::new()),
        (repository(Action::Read, "team/app"), 200, String::new()),
        (
            repository(Action::Write, "team/app"),
            401,
            challenge(",scope=\"repository:team/app:pull,push\"", insufficient),
        ),
        (
            repository(Action::Read, "team/other"),
            401,
            challenge(",scope=\"repository:team/other:pull\"", insufficient),
        ),
        (
            repository(Action::Delete, "team/app"),
            401,
            challenge(",scope=\"repository:team/app:pull,delete\"", insufficient),
        ),
        (repository(Action::Read, "other"), 401, challenge(",scope=\"repository:other:pull\"", insufficient)),
        (Wanted::Catalogue, 401, challenge(",scope=\"registry:catalog:*\"", insufficient)),
    ] {
        assert_eq!(ask(&access, Some(&token), wanted).await, (status, expected), "{wanted:?}");
    }
    let request = Request::by(Some(&token));
    let refusal = access.admit(&request.visitor(), repository(Action::Write, "other")).await.err().unwrap();
    let (_, _, body) = answer(refusal.into_response(false)).await;
    let error = &body["errors"][0];
    assert_eq!(
        (error["code"].as_str(), error["detail"][1]["Action"].as_str()),
        (Some("DENIED"), Some("push"))
    );
    let body = get(&access, Some(&alice), &format!("{SERVICE}&scope=registry:catalog:*")).await.2;
    assert_eq!(ask(&access, Some(&bearer(&body)), Wanted::Catalogue).await.0, 200);
}

#[tokio::test]
async fn strangers_get_tokens_for_what_strangers_may() {
    let directory = tempfile::tempdir().unwrap();
    let access = open(directory.path(), &format!("{{{RULES}}}"));
    let query = format!(
        "{SERVICE}&offline_token=true&scope=repository:public/a:pull,push&scope=repository:team/app:pull"
    );
    let (status, _, body) = get(&access, None, &query).await;
    assert_eq!((status, body.get("refresh_token")), (200, None));
    let token = bearer(&body);
    for (wanted, status) in [
        (Wanted::Ping, 200),
        (repository(Action::Read, "public/a"), 200),
        (repository(Action::Read, "public/b"), 401),
        (repository(Action::Write, "public/a"), 401),
        (repository(Action::Read, "team/app"), 401),
    ] {
        assert_eq!(ask(&access, Some(&token), wanted).await.0, status, "{wanted:?}");
    }
    let body = get(&access, None, &format!("{SERVICE}&scope=registry:catalog:*")).await.2;
    assert_eq!(ask(&access, Some(&bearer(&body)), Wanted::Catalogue).await.0, 200);
    // Who shows something wrong is no stranger.
    let (status, headers, body) = get(&access, Some(&basic("alice", "mouse")), &query).await;
    assert_eq!((status, body["errors"][0]["code"].as_str()), (401, Some("UNAUTHORIZED")));
    assert_eq!(headers[WWW_AUTHENTICATE], "Basic realm=\"corten-registry\"");
    assert_eq!(get(&access, Some(&token), &query).await.0, 401);
}

#[tokio::test]
async fn a_login_is_kept_instead_of_the_password() {
    let directory = tempfile::tempdir().unwrap();
    let access = open(directory.path(), &format!("{{{RULES}}}"));
    let query = format!("{SERVICE}&account=alice&client_id=docker&offline_token=true");
    let body = get(&access, Some(&basic("alice", "elephant")), &query).await.2;
    let login = body["refresh_token"].as_str().unwrap().to_owned();
    let grant = format!(
        "grant_type=refresh_token&{SERVICE}&client_id=docker&refresh_token={login}&scope=repository:team/app:push,pull&access_type=offline"
    );
    let (status, _, body) = post(&access, &grant).await;
    assert_eq!(
        (status, body["scope"].as_str(), body.get("refresh_token")),
        (200, Some("repository:team/app:pull,push"), None)
    );
    assert_eq!((body["token_type"].as_str(), body.get("token")), (Some("Bearer"), None));
    assert_eq!(ask(&access, Some(&bearer(&body)), repository(Action::Write, "team/app")).await.0, 200);
    // It is no password, and no token for the registry.
    assert_eq!(ask(&access, Some(&basic("alice", &login)), Wanted::Ping).await.0, 401);
    assert_eq!(ask(&access, Some(&format!("Bearer {login}")), Wanted::Ping).await.0, 401);
    // Its hash is all that is kept.
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let secret = login.trim_start_matches(MARK).as_bytes();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
    let ended = access.accounts.with_store(|store| store.remove_logins(None)).await.unwrap();
    assert_eq!(ended, 1);
    let (status, _, body) = post(&access, &grant).await;
    assert_eq!((status, body["error"].as_str()), (401, Some("invalid_grant")));
}

#[tokio::test]
async fn passwords_by_form_are_as_good_and_end_with_the_password() {
    let directory = tempfile::tempdir().unwrap();
    let access = open(directory.path(), &format!("{{{RULES}}}"));
    let form = format!(
        "grant_type=password&{SERVICE}&client_id=containerd&access_type=offline&username=alice&scope=repository:team/app:*"
    );
    let (status, _, body) = post(&access, &format!("{form}&password=elephant")).await;
    assert_eq!((status, body["scope"].as_str()), (200, Some("repository:team/app:pull,push")));
    assert_eq!(post(&access, &format!("{form}&password=mouse")).await.0, 401);
    let token = bearer(&body);
    let login = format!(
        "grant_type=refresh_token&{SERVICE}&refresh_token={}",
        body["refresh_token"].as_str().unwrap()
    );
    assert_eq!(ask(&access, Some(&token), Wanted::Ping).await.0, 200);
    assert_eq!(post(&access, &login).await.0, 200);
    htpasswd::set(&directory.path().join("users"), "alice", "whale").unwrap();
    assert_eq!(ask(&access, Some(&token), Wanted::Ping).await.0, 401);
    assert_eq!(post(&access, &login).await.0, 401);
    let (_, _, body) = post(&access, &format!("{form}&password=whale")).await;
    htpasswd::remove(&directory.path().join("users"), "alice").unwrap();
    assert_eq!(ask(&access, Some(&bearer(&body)), Wanted::Ping).await.0, 401);
}

#[tokio::test]
async fn robots_do_what_they_were_made_for_until_their_end() {
    let directory = tempfile::tempdir().unwrap();
    let access = open(directory.path(), "{}");
    let grants = || vec![RobotGrant::parse("team/*:write").unwrap()];
    let now = now_s();
    let (robot, secret) = Robot::make("ci", grants(), Some(now + 1000), now).unwrap();
    let (mut old, old_secret) = Robot::make("old", grants(), Some(now + 1000), now).unwrap();
    old.expires_s = Some(now - 1);
    // By another process, as the command does it.
    let mut store = super::super::store::Store::open(directory.path()).unwrap();
    store.add_robot(&robot).unwrap();
    store.add_robot(&old).unwrap();
    let ci = basic("robot+ci", &secret);
    for (wanted, status) in [
        (Wanted::Ping, 200),
        (repository(Action::Write, "team/app"), 200),
        (repository(Action::Delete, "team/app"), 401),
        (repository(Action::Read, "other"), 401),
    ] {
        assert_eq!(ask(&access, Some(&ci), wanted).await.0, status, "{wanted:?}");
    }
    let query = format!("{SERVICE}&offline_token=1&scope=repository:team/app:pull,push,delete");
    let (_, _, body) = get(&access, Some(&ci), &query).await;
    let token = bearer(&body);
    assert_eq!(ask(&access, Some(&token), repository(Action::Write, "team/app")).await.0, 200);
    let (status, _, body) = get(&access, Some(&basic("robot+old", &old_secret)), &query).await;
    let told = body["errors"][0]["message"].as_str().unwrap();
    assert!(status == 401 && told.starts_with("the robot account old has expired on 20"), "{told}");
    // Only whoever has the secret is told.
    let (_, _, body) = get(&access, Some(&basic("robot+old", &secret)), &query).await;
    assert_eq!(body["errors"][0]["message"], "incorrect username or password");
    store.remove_robot("ci").unwrap();
    assert_eq!(ask(&access, Some(&token), Wanted::Ping).await.0, 401);
    assert_eq!(ask(&access, Some(&ci), Wanted::Ping).await.0, 401);
}

#[tokio::test]
async fn keys_can_be_replaced_while_it_runs() {
    let directory = tempfile::tempdir().unwrap();
    let access = open(directory.path(), "{}");
    let alice = basic("alice", "elephant");
    let token = bearer(&get(&access, Some(&alice), SERVICE).await.2);
    let mut store = super::super::store::Store::open(directory.path()).unwrap();
    store.rotate_keys(now_s(), false).unwrap();
    assert_eq!(ask(&access, Some(&token), Wanted::Ping).await.0, 200);
    let newer = bearer(&get(&access, Some(&alice), SERVICE).await.2);
    store.rotate_keys(now_s(), true).unwrap();
    for token in [token, newer] {
        assert_eq!(ask(&access, Some(&token), Wanted::Ping).await.0, 401);
    }
    // They are the registry's: another one has others.
    let elsewhere = tempfile::tempdir().unwrap();
    let other = open(elsewhere.path(), "{}");
    let token = bearer(&get(&other, Some(&alice), SERVICE).await.2);
    assert_eq!(ask(&other, Some(&token), Wanted::Ping).await.0, 200);
    assert_eq!(ask(&access, Some(&token), Wanted::Ping).await.0, 401);
    users(directory.path());
}

#[tokio::test]
async fn a_certificate_s_token_needs_the_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let rules = r#"{"rules": [{"repositories": ["**"], "who": ["certificate:build"], "may": ["read"]}]}"#;
    let access = open(directory.path(), rules);
    let mut request = Request::by(None);
    request.certificate = Some("build".to_owned());
    let query = format!("{SERVICE}&scope=repository:a:pull");
    let body = answer(access.token(&request.visitor(), &Method::GET, Some(&query), b"").await).await.2;
    let token = bearer(&body);
    assert_eq!(ask(&access, Some(&token), repository(Action::Read, "a")).await.0, 401);
    let mut request = Request::by(Some(&token));
    request.certificate = Some("build".to_owned());
    assert!(access.admit(&request.visitor(), repository(Action::Read, "a")).await.is_ok());
    request.certificate = Some("other".to_owned());
    assert!(access.admit(&request.visitor(), repository(Action::Read, "a")).await.is_err());
}

#[tokio::test]
async fn what_no_client_asks_is_an_error_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let access = open(directory.path(), "{}");
    for query in ["service=other", "service=%", &"a&".repeat(200)] {
        let (status, _, body) = get(&access, None, query).await;
        assert_eq!((status, body["error"].as_str()), (400, Some("invalid_request")), "{query}");
    }
    let large = format!("grant_type=password&x={}", "x".repeat(BODY_BYTES_MAX));
    for (body, error) in [
        ("", "invalid_request"),
        ("grant_type=authorization_code", "unsupported_grant_type"),
        ("grant_type=password&username=alice", "invalid_request"),
        ("grant_type=refresh_token", "invalid_request"),
        ("grant_type=password&username=a&password=%ff", "invalid_request"),
        (&large, "invalid_request"),
    ] {
        let (status, _, answer) = post(&access, body).await;
        assert_eq!((status, answer["error"].as_str()), (400, Some(error)), "{}", &body[..body.len().min(80)]);
    }
    let request = Request::by(None);
    let (status, ..) =
        answer(access.token(&request.visitor(), &Method::POST, None, b"grant_type=password").await).await;
    assert_eq!(status, 400);
    let (status, headers, _) = answer(access.token(&request.visitor(), &Method::PUT, None, b"").await).await;
    assert_eq!((status, headers[ALLOW].to_str().unwrap()), (405, "GET, POST"));
    // Many scopes: cut, and what comes of it is still taken.
    let rules = r#"{"rules": [{"repositories": ["**"], "who": ["user:alice"], "may": ["admin"]}]}"#;
    let access = open(directory.path(), rules);
    let many: String = (100..200).map(|n| format!("&scope=repository:{}{n}:*", "r".repeat(252))).collect();
    let (status, _, body) =
        get(&access, Some(&basic("alice", "elephant")), &format!("{SERVICE}{many}")).await;
    assert_eq!(status, 200);
    let last = format!("{}131", "r".repeat(252));
    assert_eq!(ask(&access, Some(&bearer(&body)), repository(Action::Delete, &last)).await.0, 200);
}

#[tokio::test]
async fn guessing_at_logins_and_robots_is_slowed_down_too() {
    let directory = tempfile::tempdir().unwrap();
    let access = open(directory.path(), "{}");
    for make in [
        |n: u32| format!("grant_type=refresh_token&refresh_token=corten_login_{n}"),
        |n: u32| format!("grant_type=password&username=robot%2Bci&password={n}"),
    ] {
        let mut statuses = Vec::new();
        for n in 0..8 {
            let (status, headers, _) = post(&access, &make(n)).await;
            assert_eq!(status == 429, headers.contains_key(RETRY_AFTER));
            statuses.push(status);
        }
        assert_eq!(statuses, [401, 401, 401, 401, 401, 401, 429, 429]);
    }
}
