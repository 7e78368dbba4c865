use super::*;

fn read(text: &str) -> AccessConfig {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_whole_section_is_understood() {
    let config = read(
        r#"{
            "htpasswd": "/etc/corten/registry.htpasswd",
            "groups": {"devs": ["user:alice", "robot:ci"]},
            "rules": [
                {"repositories": ["public/**"], "who": ["anonymous"], "may": ["read"]},
                {"repositories": ["team/**", "shared"], "who": ["group:devs"], "may": ["read", "write"]}
            ],
            "challenge": "basic",
            "token": {"service": "hub.example", "lifetime": "60s"},
            "audit": {"pulls": true},
            "proxies": ["10.0.0.0/8", "::1"]
        }"#,
    );
    let policy = config.policy().unwrap();
    assert_eq!((policy.rules.len(), policy.groups["devs"].len()), (2, 2));
    assert_eq!(config.networks().unwrap().len(), 2);
    assert_eq!((config.challenge, config.token.settings().unwrap().lifetime_s), (Challenge::Basic, 60));
    assert!(config.audit().unwrap().unwrap().pulls);
    // Nothing said: nobody may do anything.
    assert_eq!(read("{}").policy().unwrap(), Policy::default());
    assert_eq!((read("{}").audit(), read("{}").token.settings().unwrap().login_s), (Ok(None), 90 * 86_400));
}

#[test]
fn mistakes_are_told_with_key_and_value() {
    for (text, expected) in [
        (
            r#"{"rules": [{"repositories": ["**"], "who": ["alice"], "may": ["read"]}]}"#,
            r#"access.rules[0].who: "alice": want anonymous, authenticated, user:NAME, group:NAME, robot:NAME or certificate:NAME"#,
        ),
        (
            r#"{"rules": [{"repositories": ["**"], "who": ["group:x"], "may": ["read"]}]}"#,
            r#"access.rules[0].who: "group:x": there is no such group in access.groups"#,
        ),
        (
            r#"{"rules": [{"repositories": ["Team/*"], "who": ["anonymous"], "may": ["read"]}]}"#,
            r#"access.rules[0].repositories: "Team/*": it has 'T' in it, which no repository's name has; patterns know *, ** and {user}"#,
        ),
        (
            r#"{"rules": [{"repositories": ["**"], "who": ["anonymous"], "may": ["pull"]}]}"#,
            r#"access.rules[0].may: "pull": want read, write, delete or admin"#,
        ),
        (
            r#"{"rules": [{"repositories": ["**"], "who": [], "may": ["read"]}]}"#,
            r#"access.rules[0].who: "[]": the list is empty, so the rule means nothing"#,
        ),
        (
            r#"{"groups": {"devs": ["alice"]}}"#,
            r#"access.groups.devs: "alice": want user:NAME, robot:NAME or certificate:NAME"#,
        ),
        (
            r#"{"token": {"service": "a b"}}"#,
            r#"access.token.service: "a b": want letters, digits and signs, but no blanks or quotes"#,
        ),
        (
            r#"{"token": {"realm": "hub/token"}}"#,
            r#"access.token.realm: "hub/token": want a URL, as https://hub.example/token"#,
        ),
        (r#"{"token": {"lifetime": "5s"}}"#, r#"access.token.lifetime: "5s": want a time from 1m to 24h"#),
        (r#"{"token": {"login": "90"}}"#, r#"access.token.login: "90": want a time from 1d to 3650d"#),
        (r#"{"audit": {"files_max": 2000}}"#, r#"access.audit.files_max: "2000": want 1000 at most"#),
        (r#"{"proxies": ["hub"]}"#, r#"access.proxies: "hub": want an address or a network"#),
    ] {
        let config = read(text);
        let token = config.token.settings().map(|_| ());
        let error = config.policy().map(|_| ()).and(token).and(config.audit().map(|_| ()));
        let error = error.and(config.networks().map(|_| ()));
        assert_eq!(error.unwrap_err().to_string(), expected);
    }
    for (text, expected) in [
        (r#"{"htpaswd": "x"}"#, "unknown field `htpaswd`"),
        (r#"{"rules": [{"repositories": ["**"], "who": ["anonymous"]}]}"#, "missing field `may`"),
        (r#"{"challenge": "digest"}"#, "unknown variant `digest`, expected `bearer` or `basic`"),
    ] {
        let error = serde_json::from_str::<AccessConfig>(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
