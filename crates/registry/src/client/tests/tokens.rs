//! Who is shown what, and how often.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::hostile::{Asked, Hostile, client, reply};
use crate::{Action, Credentials, Error, Mounted};

const MANIFEST: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

fn challenge(port: u16, scope: &str) -> String {
    format!(
        "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"s\",scope=\"{scope}\"\r\n"
    )
}

/// Gives a manifest to those who show the token that is good now, and others a challenge.
fn guarded(asked: &Asked, good: &str, token: &str) -> Vec<super::hostile::Step> {
    match asked.path() {
        "/token" => reply("200 OK", "", token),
        _ if asked.header("authorization") == format!("Bearer {good}") => reply("200 OK", "", MANIFEST),
        _ => reply("401 Unauthorized", &challenge(asked.port, "repository:x:pull"), ""),
    }
}

fn somebody() -> Option<Credentials> {
    Some(Credentials::Password { name: "me".into(), password: "secret".into() })
}

#[tokio::test]
async fn many_tasks_ask_for_a_token_once() {
    let server = Hostile::start(|asked| guarded(asked, "t", r#"{"token":"t","expires_in":300}"#)).await;
    let repository = client().repository(&server.address, "x", somebody());
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let repository = repository.clone();
            tokio::spawn(async move { repository.manifest("latest").await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(server.count("/token"), 1);
    let asked = server.asked();
    let token = asked.iter().find(|asked| asked.path() == "/token").unwrap();
    assert_eq!(token.target, "/token?account=me&client_id=corten&service=s&scope=repository%3Ax%3Apull");
    assert_eq!(token.header("authorization"), "Basic bWU6c2VjcmV0");
    assert!(asked.iter().all(|a| a.path() == "/token" || !a.header("authorization").starts_with("Basic")));
}

#[tokio::test]
async fn a_token_that_was_got_elsewhere_is_shown_as_it_is() {
    let server = Hostile::start(|asked| guarded(asked, "mine", r#"{"token":"other"}"#)).await;
    let with =
        |token: &str| client().repository(&server.address, "x", Some(Credentials::Token(token.into())));
    with("mine").manifest("latest").await.unwrap();
    let refused = with("stale").manifest("latest").await.unwrap_err();
    assert!(matches!(refused, Error::NoCredentials { .. }), "{refused:?}");
    assert_eq!(server.count("/token"), 0, "no other is asked for");
    client().login(&server.address, &Credentials::Token("mine".into())).await.unwrap();
    client().login(&server.address, &Credentials::Token("stale".into())).await.unwrap_err();
}

#[tokio::test]
async fn a_token_is_renewed_when_it_is_old_and_when_it_is_refused() {
    // Good for four seconds, of which a quarter is left alone.
    let server = Hostile::start(|asked| guarded(asked, "t", r#"{"token":"t","expires_in":4}"#)).await;
    let repository = client().repository(&server.address, "x", None);
    for _ in 0..3 {
        repository.manifest("a").await.unwrap();
    }
    assert_eq!(server.count("/token"), 1);
    tokio::time::sleep(Duration::from_millis(3100)).await;
    repository.manifest("a").await.unwrap();
    assert_eq!((server.count("/token"), server.count("/v2/")), (2, 5), "it isn't shown when it is too old");

    // Every token is good for two requests, whatever it says itself.
    let shown = Arc::new(AtomicUsize::new(0));
    let server = Hostile::start(move |asked| {
        let number = shown.load(Ordering::SeqCst);
        if asked.path() != "/token" {
            shown.fetch_add(usize::from(!asked.header("authorization").is_empty()), Ordering::SeqCst);
        }
        let token = format!("t{}", number / 2);
        guarded(asked, &token, &format!(r#"{{"access_token":"{token}","expires_in":300}}"#))
    })
    .await;
    let repository = client().repository(&server.address, "x", None);
    for _ in 0..5 {
        repository.manifest("a").await.unwrap();
    }
    assert!(server.count("/token") >= 2);
}

#[tokio::test]
async fn a_refused_fresh_token_is_no_loop() {
    let server = Hostile::start(|asked| guarded(asked, "never", r#"{"token":"t"}"#)).await;
    let repository = client().repository(&server.address, "x", somebody());
    for number in 1..4 {
        let refused = repository.manifest("a").await.unwrap_err();
        assert_eq!(refused.to_string(), "unauthorized: authentication required");
        assert!(server.asked().len() <= 4 * number, "{} requests", server.asked().len());
    }
}

#[tokio::test]
async fn a_token_server_that_refuses_is_not_stormed() {
    let server = Hostile::start(|asked| match asked.path() {
        "/token" => reply("401 Unauthorized", "", r#"{"details":"incorrect username or password"}"#),
        _ => reply("401 Unauthorized", &challenge(asked.port, ""), ""),
    })
    .await;
    let of = |credentials| client().repository(&server.address, "x", credentials);
    let repository = of(somebody());
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let repository = repository.clone();
            tokio::spawn(async move { repository.manifest("a").await.unwrap_err().to_string() })
        })
        .collect();
    for task in tasks {
        let told = task.await.unwrap();
        assert_eq!(
            told,
            format!("Get \"http://{}/token\": unauthorized: incorrect username or password", server.address)
        );
    }
    assert_eq!(server.count("/token"), 1);
    assert!(matches!(of(None).manifest("a").await, Err(Error::NoCredentials { .. })));
}

#[tokio::test]
async fn denials_are_told_as_docker_tells_them() {
    let insufficient = "error=\"insufficient_scope\"";
    let server = Hostile::start(move |asked| match asked.path() {
        "/token" => reply("200 OK", "", r#"{"token":"t"}"#),
        path if path.starts_with("/v2/forbidden") => {
            reply("403 Forbidden", "", r#"{"errors":[{"code":"DENIED","message":"go away"}]}"#)
        }
        _ => {
            let challenge =
                challenge(asked.port, "repository:x:pull").replace("\r\n", &format!(",{insufficient}\r\n"));
            let body =
                r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":[]}]}"#;
            reply("401 Unauthorized", &challenge, body)
        }
    })
    .await;
    let of = |path: &str| client().repository(&server.address, path, None);
    let host = &server.address;
    assert_eq!(
        of("x").manifest("a").await.unwrap_err().to_string(),
        format!(
            "pull access denied for {host}/x, repository does not exist or may require 'docker login': denied: requested access to the resource is denied"
        )
    );
    assert_eq!(
        of("forbidden").manifest("a").await.unwrap_err().to_string(),
        format!(
            "pull access denied for {host}/forbidden, repository does not exist or may require 'docker login': denied: go away"
        )
    );
    match of("forbidden").upload().await.map(drop) {
        Err(Error::Denied { action: Action::Push, said, .. }) => assert_eq!(said, "denied: go away"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn identity_tokens_and_both_scopes_of_a_mount() {
    let server = Hostile::start(|asked| match asked.path() {
        "/token" => reply("200 OK", "", r#"{"access_token":"t"}"#),
        _ if asked.header("authorization") != "Bearer t" => {
            reply("401 Unauthorized", &challenge(asked.port, "repository:x:pull,push"), "")
        }
        _ => reply("201 Created", "", ""),
    })
    .await;
    let repository = client().repository(&server.address, "x", Some(Credentials::Identity("i/d".into())));
    let digest = corten_image::Digest::of(b"");
    assert!(matches!(repository.mount(&digest, "y/z").await, Ok(Mounted::Yes)));
    let asked = server.asked();
    let token = asked.iter().find(|asked| asked.path() == "/token").unwrap();
    assert_eq!((token.method.as_str(), token.header("authorization")), ("POST", ""));
    assert_eq!(
        String::from_utf8_lossy(&token.body),
        "grant_type=refresh_token&refresh_token=i%2Fd&client_id=corten&service=s&scope=repository%3Ax%3Apull%2Cpush%20repository%3Ay%2Fz%3Apull"
    );
    assert!(
        asked[0]
            .target
            .ends_with(&format!("/v2/x/blobs/uploads/?mount=sha256%3A{}&from=y%2Fz", digest.hex()))
    );
}

#[tokio::test]
async fn of_several_challenges_the_token_is_taken() {
    let server = Hostile::start(|asked| match asked.path() {
        "/token" => reply("200 OK", "", r#"{"token":"t"}"#),
        _ if asked.header("authorization") == "Bearer t" => reply("200 OK", "", MANIFEST),
        _ => {
            let both = format!("WWW-Authenticate: Basic realm=\"x\"\r\n{}", challenge(asked.port, ""));
            reply("401 Unauthorized", &both, "")
        }
    })
    .await;
    client().repository(&server.address, "x", somebody()).manifest("a").await.unwrap();
}

#[tokio::test]
async fn odd_tokens_are_refused() {
    let huge = format!(r#"{{"token":"{}"}}"#, "x".repeat(100_000));
    let endless = "x".repeat(2 << 20);
    for token in ["", "{}", "[]", r#"{"token":""}"#, r#"{"token":"a\nb"}"#, huge.as_str(), endless.as_str()] {
        let token = token.to_owned();
        let server = Hostile::start(move |asked| guarded(asked, "t", &token)).await;
        let refused = client().repository(&server.address, "x", None).manifest("a").await.unwrap_err();
        assert!(matches!(refused, Error::Protocol { .. }), "{refused}");
    }
}
