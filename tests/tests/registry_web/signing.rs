//! Who sees what, and signing in and out.

use super::*;

#[test]
fn everybody_sees_what_they_may_read() {
    let hub = Guarded::start();
    let registry = &hub.registry;
    let page = |path: &str, who: Option<&str>| {
        let headers =
            who.map(|who| format!("Authorization: Basic {}\r\n", corten_api::base64::encode(who.as_bytes())));
        get(registry, path, &headers.unwrap_or_default())
    };
    let everything = ["public/app", "team/app", "home/bob/app", "secret/app"];
    for (who, sees) in [
        (None, &["public/app"][..]),
        (Some("alice:elephant"), &["public/app", "team/app"]),
        (Some("bob:mouse"), &["public/app", "home/bob/app"]),
        (Some("root:whale"), &everything),
    ] {
        let lists = ["/", "/?q=app", "/?q=secret-tag", "/?q=app:v1", "/usage", "/?sort=size"]
            .map(|path| page(path, who).text());
        for name in everything {
            let link = format!("/r/{name}");
            let there = sees.contains(&name);
            for list in &lists {
                assert_eq!(list.contains(&link), there, "{who:?} {name}: {list}");
            }
            for path in [link.clone(), format!("{link}/-/v1-secret-tag"), format!("{link}?all=1")] {
                assert_eq!(page(&path, who).status, if there { 200 } else { 404 }, "{who:?} {path}");
            }
        }
        // Neither do sizes tell of what isn't there.
        let usage = words(&lists[4]);
        let stored = 200
            + [2, 3, 4, 5]
                .iter()
                .zip(everything)
                .filter(|(_, name)| sees.contains(name))
                .map(|(own, _)| own * 100)
                .sum::<u64>();
        let shown = if stored >= 1000 {
            format!("{}.{:02} MB", stored / 1000, stored % 1000 / 10)
        } else {
            format!("{stored} kB")
        };
        assert!(usage.contains(&format!("Stored {shown}")), "{who:?} {shown}: {usage}");
    }
    // What may not be seen looks like what isn't there.
    let [secret, none] =
        ["/r/secret/app", "/r/secret/nap"].map(|path| page(path, None).text().replace("nap", "app"));
    assert_eq!(secret, none);
    assert_eq!(page("/", Some("alice:cat")).status, 401);
    let token = get(registry, "/", "Authorization: Bearer x.y.z\r\n");
    assert_eq!(token.status, 401);
    let account = words(&page("/account", Some("root:whale")).text());
    assert!(account.contains("** read, write, delete, admin") && account.contains("Robots"), "{account}");
    let account = words(&page("/account", Some("alice:elephant")).text());
    assert!(account.contains("team/** read, write") && !account.contains("Robots"), "{account}");
    assert_eq!(page("/account", None).header("location"), "/sign-in?back=/account");
    assert_eq!(page("/", Some("alice:elephant")).header("cache-control"), "private, no-store");
}

#[test]
fn signing_in_and_out() {
    let hub = Guarded::start();
    let registry = &hub.registry;
    let form = get(registry, "/sign-in?back=/r/team/app", "").text();
    assert!(
        form.contains("value=\"/r/team/app\"") && form.contains("autocomplete=\"current-password\""),
        "{form}"
    );
    // Only from our own pages.
    for odd in [
        "",
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Origin: http://hub\r\nSec-Fetch-Site: cross-site\r\n",
    ] {
        let refused = hub.sign_in("alice", "elephant", odd, "/");
        assert!(
            refused.status == 401 && refused.header("set-cookie").is_empty(),
            "{odd}: {}",
            refused.status
        );
    }
    let wrong = hub.sign_in("alice", "cat", OURS, "/r/team/app");
    assert_eq!((wrong.status, wrong.header("set-cookie")), (403, ""));
    assert!(words(&wrong.text()).contains("Incorrect username or password."), "{}", wrong.text());
    assert!(wrong.text().contains("value=\"alice\"") && !wrong.text().contains("cat\""));
    let welcome = hub.sign_in("alice", "elephant", OURS, "/r/team/app");
    assert_eq!((welcome.status, welcome.header("location")), (303, "/r/team/app"));
    let set = welcome.header("set-cookie");
    assert!(
        set.starts_with("corten=") && set.ends_with("; Path=/; Max-Age=28800; HttpOnly; SameSite=Strict"),
        "{set}"
    );
    let session = cookie(&welcome);
    let page = get(registry, "/r/team/app", &session);
    assert!(page.status == 200 && words(&page.text()).contains("alice Sign out"), "{}", page.text());
    assert_eq!(get(registry, "/sign-in?back=/usage", &session).header("location"), "/usage");
    // A session is for pages, and for nothing else.
    assert_eq!(get(registry, "/v2/team/app/tags/list", &session).status, 401);
    let token = session.trim_start_matches("Cookie: corten=").trim_end();
    assert_eq!(get(registry, "/v2/", &format!("Authorization: Bearer {token}\r\n")).status, 401);
    // The way back stays here.
    for back in [
        "https://evil.example/",
        "//evil.example",
        "/%5Cevil.example",
        "/sign-out",
        "javascript:alert(1)",
        "/v2/",
    ] {
        assert_eq!(hub.sign_in("alice", "elephant", OURS, back).header("location"), "/", "{back}");
    }
    let foreign = registry
        .connect()
        .ask("POST", "/sign-out", &format!("{session}Origin: http://evil.example\r\n"), &[])
        .expect("sign out");
    assert_eq!(foreign.status, 401);
    assert_eq!(get(registry, "/r/team/app", &session).status, 200);
    let out =
        registry.connect().ask("POST", "/sign-out", &format!("{session}{OURS}"), &[]).expect("sign out");
    assert_eq!((out.status, out.header("location")), (303, "/"));
    assert!(
        out.header("set-cookie").starts_with("corten=; Path=/; Max-Age=0"),
        "{}",
        out.header("set-cookie")
    );
    // The cookie is worth nothing any more, whoever has kept it.
    assert_eq!(get(registry, "/r/team/app", &session).status, 404);
    let session = cookie(&hub.sign_in("bob", "mouse", OURS, "/"));
    assert_eq!(get(registry, "/r/home/bob/app", &session).status, 200);
    let users = hub._place.path().join("users").display().to_string();
    run(Command::new(binary("corten")).args(["registry", "user", "rm", "--file", &users, "bob"])).ok();
    corten_tests::eventually("bob is out", || get(registry, "/r/home/bob/app", &session).status == 404);
    corten_tests::eventually("who guesses has to wait", || {
        let answer = hub.sign_in("alice", "guess", OURS, "/");
        answer.status == 429 && !answer.header("retry-after").is_empty()
    });
    corten_tests::eventually("the audit log tells it", || {
        let audit = hub.audit();
        audit.contains(r#""identity":"user:alice","action":"login","status":200"#)
            && audit.contains(r#""identity":"alice","action":"login","status":401"#)
    });
}
