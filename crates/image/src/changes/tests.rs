use super::*;

fn changed(changes: &[&str]) -> Result<RunConfig, ChangeError> {
    let mut config = RunConfig::default();
    let changes: Vec<String> = changes.iter().map(|text| (*text).to_owned()).collect();
    apply(&mut config, &changes)?;
    Ok(config)
}

#[test]
fn applies_every_instruction() {
    let config = changed(&[
        "ENTRYPOINT [\"/init\", \"-v\"]\nCMD echo hello $X",
        "ENV A=1 B=\"two words\" C='$A'",
        "ENV D=${A}-$B E=${Z:-none}",
        "env OLD style value",
        "LABEL a=b \"c d\"=e",
        "EXPOSE 80 53/udp 8000-8002",
        "VOLUME [\"/data\", \"/logs\"]",
        "VOLUME /more",
        "USER 1000:1000",
        "WORKDIR /srv",
        "WORKDIR app",
        "STOPSIGNAL SIGINT",
        "HEALTHCHECK --interval=1m30s --timeout=500ms --retries=3 CMD curl -f localhost",
        "ONBUILD RUN make",
    ])
    .unwrap();
    assert_eq!(config.entrypoint.unwrap(), ["/init", "-v"]);
    assert_eq!(config.cmd.unwrap(), ["/bin/sh", "-c", "echo hello $X"]);
    assert_eq!(config.env, ["A=1", "B=two words", "C=$A", "D=1-two words", "E=none", "OLD=style value"]);
    assert_eq!(config.labels["a"], "b");
    assert_eq!(config.labels["c d"], "e");
    let ports: Vec<&str> = config.exposed_ports.keys().map(String::as_str).collect();
    assert_eq!(ports, ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"]);
    assert_eq!(config.volumes.len(), 3);
    assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("1000:1000", "/srv/app"));
    assert_eq!(config.stop_signal, "SIGINT");
    let check = config.healthcheck.unwrap();
    assert_eq!((check.interval, check.timeout, check.retries), (90_000_000_000, 500_000_000, 3));
    assert_eq!(check.test, ["CMD-SHELL", "curl -f localhost"]);
    assert_eq!(config.on_build, ["RUN make"]);
}

#[test]
fn refuses_what_docker_refuses() {
    for (change, message) in [
        ("RUN true", "RUN is not a valid change command"),
        ("FROM x", "FROM is not a valid change command"),
        ("EXPOSE http", "invalid containerPort: http"),
        ("EXPOSE 80/icmp", "invalid containerPort: 80/icmp"),
        ("EXPOSE 70000", "invalid containerPort: 70000"),
        ("STOPSIGNAL NOPE", "invalid signal: NOPE"),
        ("HEALTHCHECK --foo=1 CMD x", "Unknown flag: foo=1"),
        (
            "ONBUILD ONBUILD RUN x",
            "ONBUILD: cannot read \"ONBUILD RUN x\": chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        ),
        ("USER", "USER requires exactly one argument"),
        ("CMD", "CMD requires at least one argument"),
    ] {
        assert_eq!(changed(&[change]).unwrap_err().to_string(), message);
    }
    assert!(changed(&["ENV A=\"open"]).is_err());
    assert!(changed(&["LABEL a"]).is_err());
}

#[test]
fn an_entrypoint_resets_the_command_beneath() {
    let mut config = RunConfig { cmd: Some(vec!["bash".to_owned()]), ..RunConfig::default() };
    apply(&mut config, &["ENTRYPOINT [\"x\"]".to_owned()]).unwrap();
    assert_eq!(config.cmd, None);
}
