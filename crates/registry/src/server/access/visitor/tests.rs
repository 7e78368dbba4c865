use hyper::header::HeaderValue;

use super::*;

fn shown(value: &str) -> Shown {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    Shown::read(&headers)
}

#[test]
fn what_is_shown_is_read() {
    let password =
        |name: &str, password: &str| Shown::Password { name: name.into(), password: password.into() };
    assert_eq!(shown(&format!("Basic {}", base64::encode(b"a:b:c"))), password("a", "b:c"));
    assert_eq!(shown(&format!("basic  {}", base64::encode("é:ü".as_bytes()))), password("é", "ü"));
    assert_eq!(shown("BEARER abc.def"), Shown::Token("abc.def".into()));
    assert_eq!(Shown::read(&HeaderMap::new()), Shown::Nothing);
    let no_text = format!("Basic {}", base64::encode(b"\xff:\xff"));
    let long = format!("Bearer {}", "x".repeat(SHOWN_BYTES_MAX));
    for odd in [
        "",
        "Basic",
        "Basic ",
        "Bearer",
        "Bearer ",
        "Basic !!!",
        "Basic YQ==",
        "Digest a=b",
        "é",
        &no_text,
        &long,
    ] {
        assert!(matches!(shown(odd), Shown::Unreadable(_)), "{odd}");
    }
    let mut twice = HeaderMap::new();
    twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer a"));
    twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer b"));
    assert!(matches!(Shown::read(&twice), Shown::Unreadable(_)));
    let debug = format!("{:?}{:?}", password("alice", "elephant"), Shown::Token("abc".into()));
    assert!(!debug.contains("elephant") && !debug.contains("abc"));
}

#[test]
fn only_proxies_that_are_believed_speak_for_others() {
    let proxies: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
    let origin = |address: &str, told: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_str(told).unwrap());
        let visitor = Visitor {
            headers: &headers,
            host: None,
            address: address.parse().unwrap(),
            tls: false,
            certificate: None,
            request_id: "",
        };
        visitor.origin(&proxies).to_string()
    };
    assert_eq!(origin("192.0.2.1", "198.51.100.1"), "192.0.2.1");
    assert_eq!(origin("10.0.0.1", "198.51.100.1"), "198.51.100.1");
    assert_eq!(origin("::ffff:10.0.0.1", "1.2.3.4, 198.51.100.1, 10.0.0.2"), "198.51.100.1");
    assert_eq!(origin("10.0.0.1", "198.51.100.1, nonsense"), "10.0.0.1");
    assert_eq!(origin("10.0.0.1", ""), "10.0.0.1");
}

#[test]
fn the_url_is_what_the_client_asked() {
    let url = |host: &str, tls: bool, address: &str, told: Option<&str>| {
        let mut headers = HeaderMap::new();
        if let Some(told) = told {
            headers.insert("x-forwarded-proto", HeaderValue::from_str(told).unwrap());
        }
        let address = address.parse().unwrap();
        let visitor =
            Visitor { headers: &headers, host: Some(host), address, tls, certificate: None, request_id: "" };
        visitor.base_url(&["10.0.0.0/8".parse().unwrap()])
    };
    let here = "127.0.0.1";
    assert_eq!(url("hub:5000", true, here, None).unwrap(), "https://hub:5000");
    assert_eq!(url("[::1]:5000", false, here, Some("https")).unwrap(), "http://[::1]:5000");
    assert_eq!(url("hub", false, "10.1.2.3", Some("https")).unwrap(), "https://hub");
    for odd in ["", "a\"b", "a/b", "a b", "a@b", &"x".repeat(300)] {
        assert_eq!(url(odd, true, here, None), None, "{odd}");
    }
}
