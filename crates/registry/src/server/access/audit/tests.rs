use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::*;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn config(path: &Path) -> AuditConfig {
    AuditConfig { file: Some(path.to_owned()), ..AuditConfig::default() }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_line_says_who_did_what() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    // A crash has left half a line.
    fs::write(&path, "{\"time\":1}\n{}").unwrap();
    let audit = Audit::open(&config(&path)).unwrap();
    let long = "x".repeat(1000);
    audit.note(
        "r1",
        HERE,
        &Entry {
            action: "push",
            who: "user:alice\n{\"injected\"",
            repository: Some("team/app"),
            reference: Some(&long),
            status: 201,
            why: None,
        },
    );
    audit.note(
        "r2",
        HERE,
        &Entry { action: "delete", who: "user:bob", status: 403, why: Some("denied"), ..Entry::default() },
    );
    drop(audit);
    let lines = lines(&path);
    assert_eq!(lines.len(), 4);
    let push = &lines[2];
    assert_eq!(push["identity"], "user:alice\n{\"injected\"");
    assert_eq!(
        (&push["request"], &push["address"], &push["status"]),
        (&"r1".into(), &"127.0.0.1".into(), &201.into())
    );
    assert_eq!(push["reference"].as_str().unwrap().len(), TEXT_MAX);
    assert!(push["time"].as_str().unwrap().ends_with('Z') && push.get("reason").is_none());
    assert_eq!(lines[3]["reason"], "denied");
}

#[test]
fn files_are_bounded_in_size_and_number() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let mut file = Rotated::open(&path, 100, 2).unwrap();
    for n in 0..20 {
        file.write(format!("line {n:02} of forty bytes or so ..........\n").as_bytes()).unwrap();
    }
    let mut names: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert_eq!(names.len(), 3);
    for name in &names {
        let metadata = fs::metadata(name).unwrap();
        assert!(metadata.len() <= 100 && metadata.permissions().mode() & 0o777 == 0o600);
    }
    assert!(fs::read_to_string(&path).unwrap().contains("line 19"));
    assert!(fs::read_to_string(&names[1]).unwrap().contains("line 17"));
    assert!(fs::read_to_string(&names[2]).unwrap().contains("line 15"));
    let mut none = Rotated::open(&directory.path().join("one"), 10, 0).unwrap();
    none.write(b"123456789\n").unwrap();
    none.write(b"abc\n").unwrap();
    assert_eq!(fs::read(directory.path().join("one")).unwrap(), b"abc\n");
}

#[test]
fn what_is_lost_is_counted_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let (sender, receiver) = sync_channel(4);
    let lost = AtomicU64::new(3);
    sender.send("{}".to_owned()).unwrap();
    drop(sender);
    write_all(&receiver, Place::File(Rotated::open(&path, 1000, 1).unwrap()), &lost);
    assert_eq!(
        (lines(&path)[0]["action"].as_str(), lines(&path)[0]["count"].as_u64()),
        (Some("lost"), Some(3))
    );
    // A disk that is full takes nothing.
    let (sender, receiver) = sync_channel(4);
    for _ in 0..3 {
        sender.send("{}".to_owned()).unwrap();
    }
    drop(sender);
    let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
    let place = Rotated { path: path.clone(), file: full, bytes: 0, bytes_max: 1000, files_max: 1 };
    write_all(&receiver, Place::File(place), &lost);
    assert_eq!(lost.load(Ordering::Relaxed), 3);
    let error = Audit::open(&config(&directory.path().join("none/audit.log"))).err().unwrap().to_string();
    assert!(error.contains("none/audit.log"), "{error}");
}

#[test]
fn who_is_refused_often_can_t_fill_the_files() {
    let mut refusals = Refusals::default();
    let written =
        |refusals: &mut Refusals, now_s| (0..1000).filter_map(|_| refusals.take(now_s)).collect::<Vec<_>>();
    assert_eq!(written(&mut refusals, 1), [0; REFUSALS_MAX as usize]);
    let next = written(&mut refusals, 2);
    assert_eq!((next.len(), next[0], next[1]), (REFUSALS_MAX as usize, 1000 - u64::from(REFUSALS_MAX), 0));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let audit = Audit::open(&config(&path)).unwrap();
    let entry = Entry { action: "pull", who: "a token", status: 401, ..Entry::default() };
    for _ in 0..500 {
        audit.note_refusal("r", HERE, &entry, false);
    }
    audit.note_refusal("r", HERE, &Entry { who: "user:bob", ..entry }, true);
    audit.note("r", HERE, &Entry { action: "push", ..entry });
    drop(audit);
    let lines = lines(&path);
    // The second may have changed meanwhile.
    assert!(lines.len() <= 3 * REFUSALS_MAX as usize, "{}", lines.len());
    assert!(
        lines.iter().any(|line| line["identity"] == "user:bob")
            && lines.iter().any(|line| line["action"] == "push")
    );
}
