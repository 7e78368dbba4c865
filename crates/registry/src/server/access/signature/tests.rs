use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn keys() -> Keys {
    Keys::new(vec![SigningKey::generate().unwrap().0, SigningKey::generate().unwrap().0]).unwrap()
}

#[test]
fn what_is_signed_is_believed_and_nothing_else() {
    let (ours, others) = (keys(), keys());
    let claims = json!({"sub": "alice", "access": ["x"]});
    let token = ours.sign(&claims).unwrap();
    assert_eq!(ours.verify::<Value>(&token), Some((claims.clone(), ours.current.id.clone())));
    assert!(ours.has(&ours.current.id) && !others.has(&ours.current.id));
    assert_eq!(others.verify::<Value>(&token), None);
    // Any other byte anywhere makes it worthless.
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert_eq!(ours.verify::<Value>(&changed).filter(|_| token != changed), None, "{at}");
    }
    let parts: Vec<&str> = token.split('.').collect();
    let none = encode_url(br#"{"alg":"none","typ":"JWT","kid":""}"#);
    let mac = encode_url(format!(r#"{{"alg":"HS256","typ":"JWT","kid":"{}"}}"#, ours.current.id).as_bytes());
    for odd in [
        format!("{}.{}.", parts[0], parts[1]),
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{mac}.{}.{}", parts[1], parts[2]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{token}.{}", parts[2]),
        format!("{token}="),
        format!(" {token}"),
        "..".to_owned(),
        String::new(),
    ] {
        assert_eq!(ours.verify::<Value>(&odd), None, "{odd}");
    }
    assert_eq!(ours.verify::<Value>(&format!("{token}{}", "A".repeat(TOKEN_BYTES_MAX))), None);
}

#[test]
fn older_keys_are_believed_while_they_are_kept() {
    let (first, pkcs8) = SigningKey::generate().unwrap();
    let old = Keys::new(vec![first]).unwrap();
    let token = old.sign(&json!({})).unwrap();
    let second = || SigningKey::generate().unwrap().0;
    let both = Keys::new(vec![SigningKey::read(&pkcs8).unwrap(), second()]).unwrap();
    assert!(both.verify::<Value>(&token).is_some());
    assert_eq!(old.verify::<Value>(&both.sign(&json!({})).unwrap()), None);
    assert_eq!(Keys::new(vec![second()]).unwrap().verify::<Value>(&token), None);
    assert!(Keys::new(vec![]).is_none());
    assert!(SigningKey::read(b"").is_none());
}

proptest! {
    #[test]
    fn no_token_is_too_odd(token in "[A-Za-z0-9_.=-]{0,200}", text in ".{0,40}") {
        let keys = keys();
        prop_assert_eq!(keys.verify::<Value>(&token), None);
        prop_assert_eq!(keys.verify::<Value>(&text), None);
    }
}
