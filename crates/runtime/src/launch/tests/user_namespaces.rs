//! Containers whose root is nobody outside.

use super::*;
use crate::spec::IdMapping;

fn with_user_namespace(script: &str) -> Option<Bundle> {
    let mut bundle = bundle(script)?;
    bundle.linux().namespaces.push(Namespace { kind: NamespaceKind::User, path: None });
    let map = vec![IdMapping { container_id: 0, host_id: 200_000, size: 65_536 }];
    bundle.linux().uid_mappings = map.clone();
    bundle.linux().gid_mappings = map;
    // The path to the bundle has to be open to the mapped root.
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(bundle.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    Some(bundle)
}

#[test]
fn root_is_mapped_and_has_its_devices() {
    let Some(mut bundle) = with_user_namespace(
        "id -u; cat /proc/self/uid_map; echo x > /dev/null; cat /data/file; stat -c %u /data/file; cat /proc/self/oom_score_adj",
    ) else {
        return;
    };
    bundle.process().oom_score_adj = Some(300);
    let host = bundle.dir.path().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("file"), "data\n").unwrap();
    // The root directory is the host root's, in which a mapped one can make nothing.
    std::fs::create_dir(bundle.path("data")).unwrap();
    bundle.spec.mounts.push(Mount {
        destination: "/data".into(),
        kind: Some("bind".into()),
        source: Some(host.display().to_string()),
        options: vec!["rbind".into(), "idmap".into()],
        ..Mount::default()
    });
    let outcome = bundle.run().unwrap();
    let words: Vec<&str> = outcome.output.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "200000", "65536", "data", "0", "300"], "{outcome:?}");
}

#[test]
fn an_overlay_keeps_owners_on_disk() {
    let Some(bundle) = with_user_namespace("stat -c %u /bin/busybox; touch /new; stat -c %u /new") else {
        return;
    };
    let base = bundle.dir.path();
    for dir in ["snap/upper", "snap/work", "place"] {
        std::fs::create_dir_all(base.join(dir)).unwrap();
    }
    let rootfs = Rootfs::Overlay {
        lower: vec![base.join("rootfs")],
        upper: base.join("snap/upper"),
        work: base.join("snap/work"),
        volatile: false,
        mount_point: base.join("place"),
    };
    let mut request = Request::new("test", base, &bundle.spec, &rootfs);
    let (stdio, reader) = streams();
    request.stdio = stdio;
    let mut child = Prepared::new(request).unwrap().spawn().unwrap();
    child.wait().unwrap();
    assert_eq!(read_all(reader), "0\n0\n");
    process::wait(child.pid, true).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(base.join("snap/upper/new")).unwrap().uid(), 0);
}

#[test]
fn a_joined_user_namespace_makes_a_mapped_root() {
    let Some(mut bundle) = with_user_namespace("sleep 1000") else { return };
    let first = bundle.start();
    let path = |name: &str| Some(format!("/proc/{}/ns/{name}", first.0.pid));
    bundle.process().args =
        ["sh", "-c", "id -u; cat /proc/self/uid_map; hostname"].map(String::from).to_vec();
    bundle.linux().uid_mappings.clear();
    bundle.linux().gid_mappings.clear();
    for namespace in &mut bundle.linux().namespaces {
        match namespace.kind {
            NamespaceKind::User => namespace.path = path("user"),
            NamespaceKind::Network => namespace.path = path("net"),
            _ => {}
        }
    }
    let outcome = bundle.run().unwrap();
    let words: Vec<&str> = outcome.output.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "200000", "65536", "box"], "{outcome:?}");

    let process = crate::spec::Process {
        args: ["id", "-u"].map(String::from).to_vec(),
        ..bundle.spec.process.clone().unwrap()
    };
    let mut request = crate::exec::Request::new(first.0.pid, first.0.pidfd.as_fd(), &process);
    let (stdio, reader) = streams();
    request.stdio = stdio;
    let mut child = crate::exec::Prepared::new(request).unwrap().spawn().unwrap();
    child.wait().unwrap();
    assert_eq!(read_all(reader), "0\n");
    process::wait(child.pid, true).unwrap();
}
