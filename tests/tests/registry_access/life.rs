//! What changes while a registry runs: users, certificates, tokens, who guesses; what is written down, also on a full disk.

use super::*;

#[test]
fn users_come_and_go_while_it_runs() {
    let registry = TestRegistry::start(|_, _| ());
    let users = registry.path("users");
    let token = registry.token(Some("alice:elephant"), "repository:team/app:pull");
    assert_eq!(registry.status(&["-H", &token], "/v2/"), 200);
    add_user(&users, "carol", "newt");
    assert_eq!(registry.status(&["-u", "carol:newt"], "/v2/"), 200);
    add_user(&users, "alice", "other");
    eventually("the old password's token is worth nothing", || {
        registry.status(&["-H", &token], "/v2/") == 401
    });
    assert_eq!(registry.status(&["-u", "alice:other"], "/v2/"), 200);
    let file = users.display().to_string();
    assert_eq!(run(&mut registry_command(&["user", "ls", "--file", &file])).ok(), "alice\nbob\nroot\ncarol");
    assert_eq!(run(&mut registry_command(&["user", "rm", "--file", &file, "alice"])).ok(), "alice");
    eventually("alice is out", || registry.status(&["-u", "alice:other"], "/v2/") == 401);
    run(&mut registry_command(&["user", "rm", "--file", &file, "alice"])).fails(1);
    let odd = run_with_input(
        &mut registry_command(&["user", "add", "--file", &file, "--password-stdin", "a:b"]),
        "x",
    );
    assert!(odd.fails(1).contains("a name can't have a colon in it"));
    // What isn't bcrypt lets nobody in, and is told of by name.
    let text = fs::read_to_string(&users).expect("the users");
    fs::write(&users, format!("{text}dave:$apr1$6FIvMN3f$Mv9n9zHMAQuOkVjQM4nqd0\n")).expect("the users");
    eventually("it is told", || {
        // It looks when somebody comes.
        assert_eq!(registry.status(&[], "/v2/"), 401);
        registry.log().contains("user \"dave\" can't log in: its password is hashed by MD5")
    });
    assert_eq!(registry.status(&["-u", "root:whale"], "/v2/"), 200);
    fs::remove_file(&users).expect("remove the users");
    eventually("nobody gets in", || registry.status(&["-u", "root:whale"], "/v2/") == 401);
}

#[test]
fn certificates_are_renewed_while_it_runs() {
    let registry = TestRegistry::start(|_, _| ());
    let serial = || {
        let script = format!(
            "openssl s_client -connect {} </dev/null 2>/dev/null | openssl x509 -noout -serial",
            registry.address
        );
        run(Command::new("sh").args(["-c", &script])).ok()
    };
    let before = serial();
    // A key that is not the certificate's: the old pair goes on.
    let key = fs::read(registry.path("key.pem")).expect("the key");
    let spare = registry.path("spare");
    fs::create_dir(&spare).expect("a directory");
    certificate(&spare);
    fs::copy(spare.join("key.pem"), registry.path("key.pem")).expect("another key");
    eventually("it is told", || {
        assert_eq!(serial(), before);
        registry.log().contains("going on with what was there")
    });
    fs::write(registry.path("key.pem"), key).expect("the old key");
    certificate(registry.directory.path());
    eventually("the new one is shown", || serial() != before);
    assert_eq!(registry.status(&["-u", "alice:elephant"], "/v2/"), 200);
}

#[test]
fn clients_certificates_are_identities() {
    let authorities = |path: &Path| {
        let script = r#"
            set -e
            for name in ours theirs; do
                openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$name" -keyout $name-key.pem -out $name-ca.pem
                openssl req -newkey rsa:2048 -nodes -subj "/O=Team/CN=builder" -keyout $name-client-key.pem -out $name.csr
                printf 'extendedKeyUsage=clientAuth' > $name.ext
                openssl x509 -req -days 2 -in $name.csr -CA $name-ca.pem -CAkey $name-key.pem -CAcreateserial \
                    -extfile $name.ext -out $name-client.pem
            done"#;
        run(Command::new("sh").args(["-c", script]).current_dir(path)).ok();
    };
    let registry = TestRegistry::start(|path, config| {
        authorities(path);
        config["tls"]["client_ca"] = json!(path.join("ours-ca.pem"));
    });
    let file = |name: &str| registry.path(name).display().to_string();
    let shown = |whose: &str| {
        [
            "--cert".into(),
            file(&format!("{whose}-client.pem")),
            "--key".into(),
            file(&format!("{whose}-client-key.pem")),
        ]
    };
    let ours = shown("ours");
    let ours: Vec<&str> = ours.iter().map(String::as_str).collect();
    assert_eq!(registry.status(&ours, "/v2/"), 200);
    assert_eq!(registry.status(&ours, "/v2/team/app/manifests/1"), 404);
    assert_eq!(registry.status(&ours, "/v2/home/bob/app/manifests/1"), 401);
    // Without one, as everywhere else; with a stranger's, not at all.
    assert_eq!(registry.status(&[], "/v2/"), 401);
    assert_eq!(registry.status(&["-u", "alice:elephant"], "/v2/"), 200);
    let theirs = run(Command::new("curl")
        .args(["-s", "--cacert", &file("cert.pem")])
        .args(shown("theirs"))
        .arg(format!("https://{}/v2/", registry.address)));
    assert_ne!(theirs.code, 0, "{}", theirs.stdout);
    // A password says more than a certificate.
    let both: Vec<&str> = ours.iter().copied().chain(["-u", "bob:mouse"]).collect();
    assert_eq!(registry.status(&both, "/v2/home/bob/app/manifests/1"), 404);
}

#[test]
fn tokens_expire() {
    let registry = TestRegistry::start(|_, config| config["access"]["token"] = json!({"lifetime": "1m"}));
    let data = registry.path("data").display().to_string();
    let token = registry.token(Some("alice:elephant"), "repository:team/app:pull");
    assert_eq!(registry.status(&["-H", &token], "/v2/"), 200);
    let claims = token.split('.').nth(1).expect("claims");
    let claims =
        run_with_input(Command::new("sh").args(["-c", "tr '_-' '/+' | base64 -d 2>/dev/null"]), claims)
            .stdout;
    let claims: Value = serde_json::from_str(&claims).expect("claims");
    assert_eq!(claims["exp"].as_u64().expect("an end") - claims["iat"].as_u64().expect("a beginning"), 60);
    assert_eq!(
        (&claims["aud"], &claims["access"][0]["actions"]),
        (&json!("corten-registry"), &json!(["pull"]))
    );
    // Another key: tokens of the old one are good, until it is forgotten.
    run(&mut registry_command(&["key", "rotate", "--data", &data])).ok();
    let newer = || registry.token(Some("alice:elephant"), "repository:team/app:pull");
    let kid = |token: &str| token.split('.').next().map(str::to_owned);
    eventually("the new key signs", || kid(&newer()) != kid(&token));
    assert_eq!(registry.status(&["-H", &token], "/v2/"), 200);
    run(&mut registry_command(&["key", "rotate", "--forget", "--data", &data])).ok();
    eventually("the old ones are worth nothing", || registry.status(&["-H", &token], "/v2/") == 401);
    assert_eq!(registry.status(&["-H", &newer()], "/v2/"), 200);
}

#[test]
fn who_guesses_has_to_wait() {
    let registry = TestRegistry::start(|_, _| ());
    let mut statuses = Vec::new();
    let mut waits = 0;
    for guess in 0..10 {
        let (status, head, _) =
            registry.curl(&["-u", &format!("alice:{guess}")], "/token?service=corten-registry");
        waits += usize::from(head.contains("retry-after: "));
        statuses.push(status);
    }
    assert_eq!(statuses[..6], [401; 6]);
    assert!(statuses[6..].iter().all(|status| *status == 429 || *status == 401), "{statuses:?}");
    assert!(statuses.contains(&429) && waits == statuses.iter().filter(|status| **status == 429).count());
    // Others are not kept out by it.
    assert_eq!(registry.status(&["-u", "bob:mouse"], "/v2/"), 200);
    eventually("it is noted", || {
        registry.audit().iter().any(|line| line["status"] == 429 && line["identity"] == "alice")
    });
}

#[test]
fn the_audit_log_says_who_did_what() {
    let registry = TestRegistry::start(|_, _| ());
    registry.push(Some("alice:elephant"), "team/app:1").ok();
    registry.inspect(Some("alice:elephant"), "team/app:1").ok();
    registry.push(Some("bob:mouse"), "team/app:2").fails(1);
    let (_, head, _) = registry.curl(&["-u", "root:whale", "-X", "DELETE"], "/v2/team/app/manifests/1");
    let id = head.lines().find_map(|line| line.strip_prefix("x-request-id: ")).expect("an id").to_owned();
    let has = |action: &str, who: &str, status: u16| {
        registry.audit().iter().any(|line| {
            line["action"] == action
                && line["identity"] == who
                && line["status"] == status
                && line["repository"] == "team/app"
        })
    };
    eventually("the deletion is noted", || has("delete", "user:root", 202));
    assert!(
        has("push", "user:alice", 201) && has("pull", "user:alice", 200) && has("blob", "user:alice", 201)
    );
    assert!(registry.audit().iter().any(|line| line["identity"] == "user:bob" && line["reason"].is_string()));
    let deletion = registry.audit().into_iter().find(|line| line["action"] == "delete").expect("it is there");
    assert_eq!(
        (deletion["request"].as_str(), deletion["address"].as_str()),
        (Some(id.as_str()), Some("127.0.0.1"))
    );
    assert_eq!(deletion["reference"], "1");
}

#[test]
fn what_was_given_outlives_a_kill() {
    let mut registry = TestRegistry::start(|_, _| ());
    let login = |registry: &TestRegistry| {
        let path = "/token?service=corten-registry&offline_token=true";
        let (_, _, body) = registry.curl(&["-u", "alice:elephant"], path);
        let answer: Value = serde_json::from_str(&body).expect("an answer");
        format!(
            "grant_type=refresh_token&refresh_token={}",
            answer["refresh_token"].as_str().expect("a login")
        )
    };
    let secret = registry.manage(&["robot", "create", "--allow", "team/*:write", "ci"]).ok();
    let token = registry.token(Some("alice:elephant"), "repository:team/app:pull");
    let (robot, login) = (format!("robot+ci:{secret}"), login(&registry));
    registry.kill_and_start_again();
    assert_eq!(registry.status(&["-H", &token], "/v2/team/app/manifests/1"), 404);
    assert_eq!(registry.status(&["-u", &robot], "/v2/team/app/manifests/1"), 404);
    assert_eq!(registry.status(&["-d", &login], "/token"), 200);
    registry.manage(&["robot", "revoke", "ci"]).ok();
    registry.manage(&["login", "revoke", "--all"]).ok();
    registry.kill_and_start_again();
    assert_eq!(registry.status(&["-u", &robot], "/v2/team/app/manifests/1"), 401);
    assert_eq!(registry.status(&["-d", &login], "/token"), 401);
}

#[test]
fn a_full_disk_keeps_nobody_out() {
    let disk = SmallDisk::mount();
    let registry = TestRegistry::start(|_, config| {
        config["data"] = json!(disk.0.path());
        config["access"]["audit"]["file"] = json!(disk.0.path().join("audit.log"));
    });
    let path = "/token?service=corten-registry&offline_token=true&scope=repository:team/app:pull";
    let token = || {
        let (status, _, body) = registry.curl(&["-u", "alice:elephant"], path);
        let answer: Value = serde_json::from_str(&body).expect("an answer");
        let header = format!("Authorization: Bearer {}", answer["token"].as_str().expect("a token"));
        (status, header, answer.get("refresh_token").is_some())
    };
    assert!(token().2);
    let filler = disk.0.path().join("filler");
    run(Command::new("dd").args(["if=/dev/zero", "bs=4k"]).arg(format!("of={}", filler.display()))).fails(1);
    let (status, header, kept) = token();
    assert_eq!((status, kept), (200, false));
    assert_eq!(registry.status(&["-H", &header], "/v2/team/app/manifests/1"), 404);
    let data = disk.0.path().display().to_string();
    let made = run(&mut registry_command(&["robot", "create", "--allow", "**:read", "--data", &data, "ci"]));
    assert!(made.stdout.is_empty() && made.clone().fails(1).contains("disk is full"), "{}", made.stderr);
    fs::remove_file(filler).expect("make room");
    assert!(token().2);
    run(&mut registry_command(&["robot", "create", "--allow", "**:read", "--data", &data, "ci"])).ok();
}

#[test]
fn a_full_disk_keeps_those_out_who_are_revoked() {
    let disk = SmallDisk::mount();
    let registry = TestRegistry::start(|_, config| {
        let users = disk.0.path().join("users");
        fs::copy(config["access"]["htpasswd"].as_str().expect("a file of users"), &users).expect("users");
        config["access"]["htpasswd"] = json!(users);
        config["data"] = json!(disk.0.path());
    });
    let data = disk.0.path().display().to_string();
    let make = |name: &str| {
        let made = ["robot", "create", "--allow", "**:read", "--data", &data, name];
        let secret = run(&mut registry_command(&made)).ok();
        format!("robot+{name}:{}", secret.lines().last().expect("a secret"))
    };
    let (one, other) = (make("one"), make("other"));
    let users = disk.0.path().join("users").display().to_string();
    let status = |who: &str| registry.status(&["-u", who], "/v2/team/app/manifests/1");
    let token = "/token?service=corten-registry&offline_token=true&scope=repository:team/app:pull";
    let (_, _, body) = registry.curl(&["-u", "alice:elephant"], token);
    let answer: Value = serde_json::from_str(&body).expect("an answer");
    let login = answer["refresh_token"].as_str().expect("a login").to_owned();
    let login = format!("grant_type=refresh_token&service=corten-registry&refresh_token={login}");
    let known = |who: &str| registry.status(&["-u", who], "/v2/");
    assert_eq!(
        (status(&one), status(&other), status("alice:elephant"), known("bob:mouse")),
        (404, 404, 404, 200)
    );
    let filler = disk.0.path().join("filler");
    for size in ["bs=64k", "bs=4k"] {
        let of = format!("of={}", filler.display());
        run(Command::new("dd").args(["if=/dev/zero", size, "oflag=append", "conv=notrunc"]).arg(of)).fails(1);
    }
    run(&mut registry_command(&["robot", "revoke", "--data", &data, "one"])).ok();
    run(&mut registry_command(&["robot", "revoke", "--data", &data, "other"])).ok();
    run(&mut registry_command(&["login", "revoke", "--data", &data, "user:alice"])).ok();
    run(&mut registry_command(&["user", "rm", "--file", &users, "bob"])).ok();
    eventually("robots are out", || (status(&one), status(&other)) == (401, 401));
    assert_eq!(registry.status(&["-d", &login], "/token"), 401);
    eventually("a user is out", || known("bob:mouse") == 401);
    assert_eq!(status("alice:elephant"), 404);
    // Also by a command that has to make the database's shared memory itself.
    drop(registry);
    run(&mut registry_command(&["key", "rotate", "--forget", "--data", &data])).ok();
    let listed = run(&mut registry_command(&["user", "ls", "--file", &users])).ok();
    assert_eq!(
        listed,
        "alice
root"
    );
}

#[test]
fn what_can_t_be_is_refused_at_the_start() {
    let directory = TempDir::new().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    certificate(directory.path());
    let refused = |config: Value, flags: &[&str]| {
        fs::write(path("registry.json"), config.to_string()).expect("the configuration");
        let file = path("registry.json").display().to_string();
        run(registry_command(&["serve", "--config", &file]).args(flags)).fails(1)
    };
    let data = path("data");
    let listen = json!(["192.0.2.1:0"]);
    let access = json!({"rules": [{"repositories": ["**"], "who": ["anonymous"], "may": ["read"]}]});
    for (config, expected) in [
        (json!({"data": data, "access": {"rulez": []}}), "unknown field `rulez`"),
        (
            json!({"data": data, "access": {"rules": [{"repositories": ["**"], "who": ["alice"], "may": ["read"]}]}}),
            "access.rules[0].who: \"alice\": want anonymous",
        ),
        (json!({"data": data, "access": {"htpasswd": path("none")}}), "none: No such file or directory"),
        (json!({"data": data, "listen": listen}), "--insecure-anonymous"),
        (json!({"data": data, "listen": listen, "access": access}), "--insecure-plain"),
        (
            json!({"data": data, "tls": {"certificate": path("cert.pem"), "key": path("none")}}),
            "none: I/O error: No such file or directory",
        ),
        (
            json!({"data": data, "tls": {"certificate": path("cert.pem"), "key": path("key.pem"), "clients": "required"}}),
            "there is no tls.client_ca",
        ),
    ] {
        let told = refused(config.clone(), &[]);
        assert!(told.contains(expected), "{config}: {told}");
    }
}
