use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::settle(Path::new("daemon.json"), text, Directives::new())
}

#[test]
fn dockers_keys_are_applied() {
    let config = parse(
        r#"{"data-root": "/srv/corten", "hosts": ["unix:///run/a.sock", "fd://"], "debug": true, "mtu": 1400,
        "log-driver": "json-file", "log-opts": {"max-size": "10m"}, "default-shm-size": "128M", "ip": "127.0.0.1",
        "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1024, "Hard": 2048}}, "dns": ["10.0.0.1"], "init": true,
        "live-restore": true, "iptables": true, "labels": ["a=b"], "userns-remap": "", "tls": false}"#,
    )
    .unwrap();
    assert_eq!(config.data_root.as_deref(), Some(Path::new("/srv/corten")));
    assert_eq!(config.default_ulimits, [("nofile".to_owned(), 1024, 2048)]);
    assert_eq!(config.default_shm_size, Some(128 << 20));
    assert!(config.debug && config.init && config.insecure_tcp && config.warnings.is_empty());
}

#[test]
fn unknown_keys_are_named_all_of_them() {
    let error = parse(r#"{"data-rot": "/x", "debug": true, "zap": 1}"#).unwrap_err().to_string();
    assert!(error.contains("daemon.json") && error.contains("data-rot, zap"), "{error}");
}

#[test]
fn what_cannot_be_done_is_refused_with_its_key() {
    for (text, key) in [
        (r#"{"userns-remap": "default"}"#, "userns-remap"),
        (r#"{"iptables": false}"#, "iptables"),
        (r#"{"storage-driver": "zfs"}"#, "storage-driver"),
        (r#"{"runtimes": {"kata": {"path": "/nosuch/kata"}}}"#, "runtimes"),
        (r#"{"runtimes": {"corten": {"path": "/bin/sh"}}}"#, "runtimes"),
        (r#"{"runtimes": {"kata": {"runtimeType": "x"}}}"#, "runtimes"),
        (r#"{"log-level": "loud"}"#, "log-level"),
        (r#"{"debug": "yes"}"#, "debug"),
        (r#"{"default-shm-size": "64q"}"#, "default-shm-size"),
        (r#"{"default-ulimits": {"nofile": {"Soft": 2, "Hard": 1}}}"#, "default-ulimits"),
        (r#"{"exec-opts": ["native.cgroupdriver=systemd"]}"#, "exec-opts"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(matches!(&error, ConfigError::Value { key: named, .. } if named == key), "{text}: {error}");
    }
}

#[test]
fn registries_have_mirrors_and_proxies() {
    let config = parse(
        r#"{"registry-mirrors": ["https://m.example.com"], "mirrors": {"docker.io": ["http://n.example.com/x"], "ghcr.example.com": ["https://o.example.com"]},
            "proxies": {"http-proxy": "http://p:1", "https-proxy": "", "no-proxy": "q"}}"#,
    )
    .unwrap();
    let mut expected = corten_engine::Mirrors::default();
    for (registry, url) in [
        ("docker.io", "http://n.example.com/x"),
        ("ghcr.example.com", "https://o.example.com"),
        ("docker.io", "https://m.example.com"),
    ] {
        expected.add(registry, url).unwrap();
    }
    assert_eq!(config.mirrors, expected);
    assert_eq!((config.http_proxy.as_deref(), config.no_proxy.as_deref()), (Some("http://p:1"), Some("q")));
    for (text, key) in [
        (r#"{"registry-mirrors": ["m.example.com"]}"#, "registry-mirrors"),
        (r#"{"mirrors": {"a b": ["https://m.example.com"]}}"#, "mirrors"),
        (r#"{"proxies": {"http-proxy": "socks5://p"}}"#, "proxies"),
        (r#"{"proxies": {"ftp-proxy": "http://p"}}"#, "proxies"),
        (r#"{"bridge": "none"}"#, "bridge"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(matches!(&error, ConfigError::Value { key: named, .. } if named == key), "{text}: {error}");
    }
}

#[test]
fn what_has_no_effect_is_said() {
    let config =
        parse(r#"{"live-restore": false, "max-concurrent-uploads": 3, "features": {"buildkit": true}}"#);
    let warnings = config.unwrap().warnings;
    assert_eq!(warnings.len(), 3);
    assert!(warnings.iter().any(|w| w.starts_with("features.buildkit has no effect")), "{warnings:?}");
}

#[test]
fn an_absent_file_matters_only_when_it_was_named() {
    let path = Path::new("/nonexistent/daemon.json");
    assert_eq!(Config::load(path, false, Directives::new()).unwrap(), Config::default());
    assert!(matches!(Config::load(path, true, Directives::new()), Err(ConfigError::Read { .. })));
    assert!(matches!(parse("{"), Err(ConfigError::Syntax { .. })));
    assert_eq!(parse(" \n").unwrap(), Config::default());
}

#[test]
fn no_key_stands_twice() {
    let mut names: Vec<_> = keys::KEYS.iter().map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), keys::KEYS.len());
}
