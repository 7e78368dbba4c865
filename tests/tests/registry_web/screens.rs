//! Pages as headless Chromium shows them.

use super::*;

fn screenshots() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"));
    target.join("screenshots")
}

/// What was pushed is said to have been pushed at different times, as in a hub that people use. The registry is stopped meanwhile.
fn spread_in_time(hub: &mut TestRegistry) {
    hub.stop();
    let script = r#"
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1]); now = int(time.time())
rows = db.execute("SELECT m.id, m.repository FROM manifests m ORDER BY m.id DESC").fetchall()
for at, (id, repository) in enumerate(rows):
    then = now - int(90 * (1 + at) ** 2.1) - repository * 3600 * 7
    db.execute("UPDATE manifests SET pushed_at = ?, pulled_at = ? WHERE id = ?", (then, now - (now - then) // 9 if repository % 4 else None, id))
    db.execute("UPDATE tags SET tagged_at = ? WHERE manifest = ?", (then, id))
db.execute("UPDATE repositories SET pushed_at = (SELECT max(pushed_at) FROM manifests WHERE repository = repositories.id), "
           "pulled_at = (SELECT max(pulled_at) FROM manifests WHERE repository = repositories.id)")
db.commit()
"#;
    run(Command::new("python3").args(["-c", script]).arg(hub.data().join("registry.db"))).ok();
    hub.restart();
}

/// Without what the script adds, and what depends on when it was made.
fn plain(seen: &Seen) -> String {
    let mut html = seen.html.replace(" class=\"live\"", "");
    while let Some(at) = html.find("<button type=\"button\"") {
        let end = html[at..].find("</button>").expect("its end") + "</button>".len();
        html.replace_range(at..at + end, "");
    }
    html.split("<time")
        .enumerate()
        .map(
            |(at, piece)| {
                if at == 0 { piece } else { piece.split_once("</time>").map_or(piece, |(_, rest)| rest) }
            },
        )
        .collect()
}

fn assert_quiet(seen: &Seen, address: &str, path: &str) {
    assert!(seen.complaints.is_empty(), "{path}: {:?}", seen.complaints);
    let elsewhere: Vec<_> =
        seen.requests.iter().filter(|url| !url.starts_with(&format!("http://{address}/"))).collect();
    assert!(elsewhere.is_empty(), "{path}: {elsewhere:?}");
}

#[test]
fn pages_as_chromium_shows_them() {
    let Some(mut browser) = Browser::start() else {
        println!("skipped: there is no chromium here; scripts/setup installs it");
        return;
    };
    let place = place();
    let mut hub = registry(place.path());
    let mut push = Hub::new(&hub);
    push.fill();
    push.hostile("evil/image");
    drop(push);
    spread_in_time(&mut hub);
    let address = hub.address().to_string();
    let directory = screenshots();
    let mut too_wide = Vec::new();
    for (name, path) in [
        ("repositories", "/"),
        ("search", "/?q=shop&sort=size"),
        ("search-tags", "/?q=1.29"),
        ("repository", "/r/library/nginx"),
        ("repository-signed", "/r/team/shop/api"),
        ("index", "/r/library/nginx/-/1.29"),
        ("image", "/r/team/shop/api/-/2.1.0"),
        ("chart", "/r/charts/shop/-/0.14.2"),
        ("windows", "/r/mirror/windows/nanoserver/-/ltsc2025"),
        ("model", "/r/data/models/embedding/-/2026-11"),
        ("hostile", "/r/evil/image/-/evil"),
        ("hostile-tags", "/r/evil/image"),
        ("usage", "/usage"),
    ] {
        let url = format!("http://{address}{path}");
        let views = [
            ("light", DESKTOP),
            ("dark", View { dark: true, ..DESKTOP }),
            ("phone", View { width: 390, ..DESKTOP }),
        ];
        for (kind, view) in views {
            let seen = browser.look(&url, &view);
            keep(&directory, &format!("{name}-{kind}"), &seen.png);
            assert_quiet(&seen, &address, path);
            if seen.overflow > 0.0 {
                too_wide.push(format!("{path} ({kind}) by {} pixels", seen.overflow));
            }
        }
        let with = browser.look(&url, &DESKTOP);
        let without = browser.look(&url, &View { script: false, ..DESKTOP });
        assert_quiet(&without, &address, path);
        assert_eq!(plain(&with), plain(&without), "{path}");
    }
    assert!(too_wide.is_empty(), "too wide: {too_wide:?}");
    let missing = browser.look(&format!("http://{address}/r/none"), &DESKTOP);
    keep(&directory, "nothing-light", &missing.png);
    // What the script does: a list that follows, and a button that copies.
    let type_shop = "(async () => { const field = document.querySelector('input[type=search]'); field.value = 'shop/wo';
        field.dispatchEvent(new Event('input')); for (let n = 0; n < 2000 && document.querySelectorAll('tbody tr').length > 1; n++)
        await new Promise(done => setTimeout(done, 25)); return [document.querySelectorAll('tbody tr').length, location.search].join(); })()";
    let typed = browser.look(&format!("http://{address}/"), &View { then: Some(type_shop), ..DESKTOP });
    assert_eq!(typed.outcome, "1,?q=shop%2Fwo");
    let copy = "(async () => { const button = document.querySelector('.panel .copy button'); button.click();
        for (let n = 0; n < 2000 && button.textContent == 'Copy'; n++) await new Promise(done => setTimeout(done, 25)); return button.textContent; })()";
    let copied =
        browser.look(&format!("http://{address}/r/library/nginx"), &View { then: Some(copy), ..DESKTOP });
    assert_ne!(copied.outcome, "Copy");
}

#[test]
fn signing_in_with_chromium() {
    let Some(mut browser) = Browser::start() else {
        println!("skipped: there is no chromium here; scripts/setup installs it");
        return;
    };
    let hub = Guarded::start();
    let address = hub.registry.address().to_string();
    let directory = screenshots();
    for (kind, view) in [
        ("light", DESKTOP),
        ("dark", View { dark: true, ..DESKTOP }),
        ("phone", View { width: 390, ..DESKTOP }),
    ] {
        let form = browser.look(&format!("http://{address}/sign-in"), &view);
        keep(&directory, &format!("sign-in-{kind}"), &form.png);
        assert_quiet(&form, &address, "/sign-in");
    }
    let url = format!("http://{address}/sign-in?back=/r/team/app");
    // The form is sent by the browser, with what it says of where it comes from.
    let fill = "(() => { const [name, password] = document.querySelectorAll('.entrance input');
        name.value = 'alice'; password.value = 'elephant'; setTimeout(() => document.querySelector('.entrance').requestSubmit()); })()";
    let signed = browser.look(&url, &View { then: Some(fill), leaves: true, ..DESKTOP });
    assert_quiet(&signed, &address, "/sign-in");
    assert!(signed.html.contains("Sign out") && signed.html.contains("v1-secret-tag"), "{}", signed.html);
    let account = browser.look(&format!("http://{address}/account"), &DESKTOP);
    keep(&directory, "account-light", &account.png);
    assert!(account.html.contains("team/**"), "{}", account.html);
    let cookies =
        browser.look(&format!("http://{address}/"), &View { then: Some("document.cookie"), ..DESKTOP });
    assert_eq!(cookies.outcome, "");
}
