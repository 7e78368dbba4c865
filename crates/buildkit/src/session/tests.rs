use super::*;
use hyper::header::HeaderValue;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

#[test]
fn a_hello_is_read() {
    let hello = Hello::read(&headers(&[
        (ID, "abc"),
        (SHARED_KEY, "key"),
        (METHOD, "/moby.filesync.v1.FileSync/DiffCopy"),
        (METHOD, "/grpc.health.v1.Health/Check"),
    ]))
    .unwrap();
    assert_eq!((hello.id.as_str(), hello.shared_key.as_str()), ("abc", "key"));
    assert!(hello.methods.contains("/moby.filesync.v1.filesync/diffcopy"));
}

#[test]
fn a_hello_without_an_id_or_without_end_is_refused() {
    assert!(matches!(Hello::read(&headers(&[])), Err(SessionError::NoId)));
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    assert!(matches!(Hello::read(&headers(&[(ID, &long)])), Err(SessionError::TooLong(_))));
    let names: Vec<String> = (0..=METHODS_MAX).map(|number| format!("/a/{number}")).collect();
    let mut many = vec![(ID, "abc")];
    many.extend(names.iter().map(|name| (METHOD, name.as_str())));
    assert!(matches!(Hello::read(&headers(&many)), Err(SessionError::TooLong(_))));
}

#[tokio::test]
async fn an_id_belongs_to_one_session_and_is_free_after_it() {
    let sessions = Arc::new(Sessions::default());
    let hello = Hello::read(&headers(&[(ID, "abc")])).unwrap();
    let first = sessions.reserve(hello.clone()).unwrap();
    assert!(matches!(sessions.reserve(hello.clone()), Err(SessionError::Exists(_))));
    drop(first);
    sessions.reserve(hello).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_session_that_never_comes_is_not_waited_for_without_end() {
    let sessions = Sessions::default();
    assert!(matches!(sessions.find("abc").await, Err(SessionError::Unknown(_))));
}
