//! Clients that may and may not: what they can do, and what they are told.

use super::*;

#[test]
fn only_those_who_may_push_and_pull() {
    let registry = TestRegistry::start(|_, _| ());
    registry.push(Some("alice:elephant"), "team/app:1").ok();
    registry.push(Some("root:whale"), "public/app:1").ok();
    registry.push(Some("bob:mouse"), "home/bob/app:1").ok();
    for (who, repository) in [
        (Some("bob:mouse"), "team/app:2"),
        (Some("alice:elephant"), "home/bob/app:2"),
        (Some("alice:elephant"), "public/app:2"),
        (None, "public/app:2"),
        (None, "team/app:2"),
        (Some("alice:mouse"), "team/app:2"),
    ] {
        registry.push(who, repository).fails(1);
    }
    let digest = registry.inspect(Some("alice:elephant"), "team/app:1").ok();
    assert_eq!(registry.inspect(None, "public/app:1").ok(), digest);
    for (who, repository) in
        [(None, "team/app:1"), (Some("bob:mouse"), "team/app:1"), (None, "home/bob/app:1")]
    {
        registry.inspect(who, repository).fails(1);
    }
    // What is not there and what one may not see can't be told apart.
    let refused = |path: &str| {
        let (status, head, body) = registry.curl(&["-u", "bob:mouse"], path);
        let challenge = head.lines().find(|line| line.starts_with("www-authenticate")).map(str::to_owned);
        (
            status,
            challenge.map(|text| text.replace("team/none", "team/app")),
            body.replace("team/none", "team/app"),
        )
    };
    assert_eq!(refused("/v2/team/app/manifests/1"), refused("/v2/team/none/manifests/1"));
    let delete = |who: &str, repository: &str| {
        registry.skopeo(&[
            "delete",
            "--cert-dir",
            "CERTIFICATES",
            "--creds",
            who,
            &registry.reference(repository),
        ])
    };
    delete("alice:elephant", "team/app:1").fails(1);
    delete("bob:mouse", "home/bob/app:1").ok();
    delete("root:whale", "team/app:1").ok();
    registry.push(Some("alice:elephant"), "team/app:1").ok();
    let catalogue = |arguments: &[&str]| {
        let (status, _, body) = registry.curl(arguments, "/v2/_catalog");
        assert_eq!(status, 200);
        serde_json::from_str::<Value>(&body).expect("a list")["repositories"].clone()
    };
    let stranger = registry.token(None, "registry:catalog:*");
    assert_eq!(catalogue(&["-H", &stranger]), json!(["public/app"]));
    assert_eq!(registry.status(&[], "/v2/_catalog"), 401);
    assert_eq!(catalogue(&["-u", "alice:elephant"]), json!(["public/app", "team/app"]));
    let (_, head, body) = registry.curl(&["-u", "root:whale"], "/v2/_catalog?n=1");
    assert!(head.contains("rel=\"next\"") && !body.contains(','), "{head}{body}");
    // A blob that one may not read can't be mounted from where it is.
    let blob = format!("{digest}&from=team/app");
    let path = format!("/v2/home/bob/mine/blobs/uploads/?mount={blob}");
    assert_eq!(registry.status(&["-u", "bob:mouse", "-X", "POST"], &path), 202);
    let log = registry.log();
    for secret in ["elephant", "mouse", "whale"] {
        assert!(
            !log.contains(secret)
                && !fs::read_to_string(registry.path("audit.log")).unwrap().contains(secret)
        );
    }
}

#[test]
fn clients_are_told_what_to_show() {
    let registry = TestRegistry::start(|_, _| ());
    let challenge = |path: &str, arguments: &[&str]| {
        let (status, head, _) = registry.curl(arguments, path);
        let challenge =
            head.lines().find_map(|line| line.strip_prefix("www-authenticate: ")).map(str::to_owned);
        (status, challenge.unwrap_or_default())
    };
    let bearer = format!("bearer realm=\"https://{}/token\",service=\"corten-registry\"", registry.address);
    assert_eq!(challenge("/v2/", &[]), (401, bearer.clone()));
    let scope = ",scope=\"repository:team/app:pull\"";
    assert_eq!(challenge("/v2/team/app/manifests/1", &[]), (401, format!("{bearer}{scope}")));
    let token = registry.token(Some("alice:elephant"), "repository:team/app:pull");
    assert_eq!(challenge("/v2/", &["-H", &token]), (200, String::new()));
    assert_eq!(registry.status(&["-H", &token], "/v2/team/app/manifests/1"), 404);
    let insufficient = ",error=\"insufficient_scope\"";
    let push = ",scope=\"repository:team/app:pull,push\"";
    assert_eq!(
        challenge("/v2/team/app/blobs/uploads/", &["-H", &token, "-X", "POST"]),
        (401, format!("{bearer}{push}{insufficient}"))
    );
    let (_, invalid) = challenge("/v2/", &["-H", "Authorization: Bearer a.b.c"]);
    assert_eq!(invalid, format!("{bearer},error=\"invalid_token\""));
    // Hostile input costs an error each, and the registry goes on.
    let long = format!("scope={}", "x".repeat(100_000));
    let many = "grant_type=password&".repeat(1000);
    for (arguments, path, expected) in [
        (vec!["-d", long.as_str()], "/token", vec![400, 413]),
        (vec!["-d", many.as_str()], "/token", vec![400]),
        (vec!["-X", "DELETE"], "/token", vec![405]),
        (vec![], "/token?scope=%ff", vec![400]),
        (vec![], "/token?service=elsewhere", vec![400]),
        (vec!["-H", "Authorization: Basic !!!!"], "/token", vec![401]),
        (vec!["-H", "Authorization: Bearer x", "-H", "Authorization: Bearer y"], "/v2/", vec![401]),
    ] {
        let status = registry.status(&arguments, path);
        assert!(expected.contains(&status), "{path}: {status}");
    }
    assert_eq!(registry.status(&["-u", "alice:elephant"], "/v2/"), 200);
}

#[test]
fn passwords_alone_do_where_that_is_configured() {
    let registry = TestRegistry::start(|_, config| config["access"]["challenge"] = "basic".into());
    let (status, head, _) = registry.curl(&[], "/v2/");
    assert!(status == 401 && head.contains("www-authenticate: basic realm=\"corten-registry\""), "{head}");
    registry.push(Some("alice:elephant"), "team/app:1").ok();
    registry.push(Some("bob:mouse"), "team/app:2").fails(1);
    registry.inspect(None, "team/app:1").fails(1);
    assert_eq!(registry.status(&["-u", "bob:mouse"], "/v2/team/app/manifests/1"), 403);
    assert_eq!(registry.status(&["-u", "bob:mouse", "-I"], "/v2/team/app/manifests/1"), 401);
}

#[test]
fn both_docker_s_client_and_ours_log_in_and_pull() {
    let registry = TestRegistry::start(|_, _| ());
    registry.push(Some("alice:elephant"), "team/app:1").ok();
    // Registries on this host need no proof.
    let engine = TestEngine::start();
    for ours in [false, true] {
        let make = if ours { TestEngine::command } else { TestEngine::docker_command };
        let home = TempDir::new().expect("a directory");
        let client = |arguments: &[&str]| {
            let mut command = make(&engine, arguments);
            command.env("DOCKER_CONFIG", home.path());
            command
        };
        let login = ["login", "-u", "alice", "--password-stdin", &registry.address];
        let refused = run_with_input(&mut client(&login), "mouse").fails(1);
        assert!(refused.contains("unauthorized: incorrect username or password"), "{refused}");
        assert_eq!(run_with_input(&mut client(&login), "elephant").ok(), "Login Succeeded");
        let kept = fs::read_to_string(home.path().join("config.json")).expect("the settings");
        assert!(kept.contains("corten_login_"), "{kept}");
        let image = format!("{}/team/app:1", registry.address);
        let pull = || run(&mut client(&["pull", "-q", &image]));
        pull().ok();
        let logins = registry.manage(&["login", "ls"]).ok();
        assert_eq!(logins.matches("user:alice").count(), 1, "{logins}");
        assert_eq!(registry.manage(&["login", "revoke", "user:alice"]).ok(), "1 logins ended");
        if ours {
            // Docker's client never shows it at a login.
            let refused = run(&mut client(&["login", &registry.address]));
            assert!(
                refused.code != 0 && refused.stderr.contains("the login has ended"),
                "{}",
                refused.stderr
            );
        }
    }
}

#[test]
fn podman_pushes_and_pulls_with_a_robot_s_secret() {
    let registry = TestRegistry::start(|_, _| ());
    let made = registry.manage(&["robot", "create", "--allow", "team/*:read,write", "--expires", "1h", "ci"]);
    assert!(made.stderr.contains("robot+ci until"), "{}", made.stderr);
    let secret = made.ok();
    registry.manage(&["robot", "create", "--allow", "**:read", "ci"]).fails(1);
    registry.push(Some(&format!("robot+ci:{secret}")), "team/app:1").ok();
    registry.push(Some(&format!("robot+ci:{secret}")), "other/app:1").fails(1);
    let storage = |name: &str| registry.path(name).display().to_string();
    let (root, run_root, certificates, auth) =
        (storage("podman"), storage("podman-run"), storage("certificates"), storage("podman.json"));
    let podman = |arguments: &[&str]| {
        let mut command = Command::new("podman");
        command.args(["--root", &root, "--runroot", &run_root, "--storage-driver", "vfs"]).args(arguments);
        command.args(["--cert-dir", &certificates, "--authfile", &auth]);
        command
    };
    let login = ["login", "-u", "robot+ci", "--password-stdin", &registry.address];
    run_with_input(&mut podman(&login), "wrong").fails(125);
    run_with_input(&mut podman(&login), &secret).ok();
    let image = format!("{}/team/app:1", registry.address);
    run(&mut podman(&["pull", "-q", &image])).ok();
    run(&mut podman(&["push", "-q", &image, &format!("docker://{}/team/copy:1", registry.address)])).ok();
    run(&mut podman(&["push", "-q", &image, &format!("docker://{}/other/copy:1", registry.address)]))
        .fails(125);
    let listed = registry.manage(&["robot", "ls"]).ok();
    assert!(listed.contains("team/*:read,write") && !listed.contains(&secret), "{listed}");
    let token = registry.token(Some(&format!("robot+ci:{secret}")), "repository:team/app:pull");
    assert_eq!(registry.status(&["-H", &token], "/v2/team/app/manifests/1"), 200);
    registry.manage(&["robot", "revoke", "ci"]).ok();
    eventually("the robot is out", || registry.status(&["-H", &token], "/v2/team/app/manifests/1") == 401);
    run(&mut podman(&["pull", "-q", &image])).fails(125);
    registry.manage(&["robot", "revoke", "ci"]).fails(1);
    // One that ends soon says so when it has.
    let soon =
        registry.manage(&["robot", "create", "--allow", "team/*:read", "--expires", "2s", "soon"]).ok();
    let who = format!("robot+soon:{soon}");
    let mut answer = String::new();
    eventually("the robot has expired", || {
        answer = registry.curl(&["-u", &who], "/v2/").2;
        answer.contains("has expired on")
    });
    assert!(answer.contains("the robot account soon has expired on 20"), "{answer}");
    run(Command::new("podman")
        .args(["--root", &root, "--runroot", &run_root, "--storage-driver", "vfs"])
        .args(["system", "reset", "-f"]));
}
