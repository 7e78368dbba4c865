//! Mounts, devices and protected paths, as the container sees them.

use super::*;
use crate::spec::{Device, DeviceKind, IdMapping};

fn mount(kind: &str, source: &Path, destination: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: Some(kind.into()),
        source: Some(source.display().to_string()),
        options: options.iter().map(|o| (*o).to_owned()).collect(),
        ..Mount::default()
    }
}

#[test]
fn devices_and_links_are_there() {
    let Some(mut bundle) = bundle(
        "stat -c '%n %F %t %T %a %u' /dev/null /dev/tty /dev/urandom /dev/own; readlink /dev/ptmx; readlink /dev/fd; echo x >/dev/null; ls /dev/pts",
    ) else {
        return;
    };
    bundle.linux().devices.push(Device {
        path: "/dev/own".into(),
        kind: DeviceKind::Character,
        major: 10,
        minor: 229,
        file_mode: Some(0o640),
        uid: Some(5),
        gid: Some(6),
    });
    assert_eq!(
        bundle.output(),
        "/dev/null character special file 1 3 666 0\n/dev/tty character special file 5 0 666 0\n\
         /dev/urandom character special file 1 9 666 0\n/dev/own character special file a e5 640 5\npts/ptmx\n/proc/self/fd\nptmx\n"
    );
}

#[test]
fn masked_paths_are_empty_and_read_only_ones_are() {
    let Some(mut bundle) = bundle(
        "cat /secret/file; ls /dir; cat /file; touch /dir/x || echo ro; touch /fixed/x || echo fixed; echo 1 > /proc/sys/kernel/msgmax || echo sys",
    ) else {
        return;
    };
    for dir in ["secret", "dir/sub", "fixed"] {
        std::fs::create_dir_all(bundle.path(dir)).unwrap();
    }
    std::fs::write(bundle.path("file"), "hidden").unwrap();
    std::fs::write(bundle.path("secret/file"), "hidden").unwrap();
    bundle.linux().masked_paths = ["/dir", "/file", "/secret/file", "/nothing"].map(String::from).to_vec();
    bundle.linux().readonly_paths.push("/fixed".into());
    let output = bundle.output();
    let words: Vec<&str> = output.lines().filter(|l| !l.contains(':')).collect();
    assert_eq!(words, ["ro", "fixed", "sys"], "{output}");
}

#[test]
fn bind_mounts_obey_their_options() {
    let Some(mut bundle) = bundle(
        "cat /one; echo x >/one || echo ro; touch /tree/sub/x || echo rro; touch /flat/sub/y && echo rw; cat /proc/self/mountinfo",
    ) else {
        return;
    };
    let host = bundle.dir.path().join("host");
    std::fs::create_dir_all(host.join("sub")).unwrap();
    std::fs::write(host.join("one"), "content\n").unwrap();
    bundle.spec.mounts.push(mount("bind", &host.join("one"), "/one", &["rbind", "rprivate", "ro", "nosuid"]));
    bundle.spec.mounts.push(mount("none", &host, "/tree", &["rbind", "rro", "rprivate"]));
    bundle.spec.mounts.push(mount("none", &host, "/flat", &["bind", "noexec", "nosymfollow", "slave"]));
    let output = bundle.output();
    let plain: Vec<&str> =
        output.lines().take_while(|l| !l.contains(" - ")).filter(|l| !l.contains(':')).collect();
    assert_eq!(plain, ["content", "ro", "rro", "rw"], "{output}");
    let line = |place: &str| output.lines().find(|l| l.split(' ').nth(4) == Some(place)).unwrap().to_owned();
    assert!(line("/one").contains(" ro,nosuid"), "{output}");
    assert!(line("/flat").contains("noexec") && line("/flat").contains("nosymfollow"), "{output}");
}

#[test]
fn a_tmpfs_takes_over_mode_and_content() {
    let Some(mut bundle) = bundle(
        "stat -c %a /work; cat /work/deep/file; readlink /work/link; touch /work/new || echo ro; stat -c %a /fresh; stat -c %s /work/deep/file",
    ) else {
        return;
    };
    std::fs::create_dir_all(bundle.path("work/deep")).unwrap();
    std::fs::write(bundle.path("work/deep/file"), "kept\n").unwrap();
    symlink("deep/file", bundle.path("work/link")).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(bundle.path("work"), std::fs::Permissions::from_mode(0o751)).unwrap();
    bundle.spec.mounts.push(mount("tmpfs", Path::new("tmpfs"), "/work", &["tmpcopyup", "ro"]));
    bundle.spec.mounts.push(mount("tmpfs", Path::new("tmpfs"), "/fresh", &[]));
    let output = bundle.output();
    let words: Vec<&str> = output.lines().filter(|l| !l.contains(':')).collect();
    assert_eq!(words, ["751", "kept", "deep/file", "ro", "1777", "5"], "{output}");
}

#[test]
fn a_read_only_root_still_has_its_devices() {
    let Some(mut bundle) = bundle("touch /x || echo ro; echo x > /dev/null && touch /dev/shm/x && echo fine")
    else {
        return;
    };
    bundle.spec.root.as_mut().unwrap().readonly = true;
    assert!(bundle.output().ends_with("ro\nfine\n"));
}

#[test]
fn owners_are_shifted_by_an_idmapped_mount() {
    let Some(mut bundle) = bundle("stat -c '%u %g' /data/file") else { return };
    let host = bundle.dir.path().join("host");
    std::fs::create_dir_all(&host).unwrap();
    std::fs::write(host.join("file"), "").unwrap();
    std::os::unix::fs::chown(host.join("file"), Some(3), Some(4)).unwrap();
    let map = |host_id| vec![IdMapping { container_id: 0, host_id, size: 100 }];
    let mut wish = mount("bind", &host, "/data", &["bind"]);
    wish.uid_mappings = map(1000);
    wish.gid_mappings = map(2000);
    bundle.spec.mounts.push(wish);
    assert_eq!(bundle.output(), "1003 2004\n");
}

#[test]
fn an_overlay_is_the_root_and_stays_off_the_host() {
    let Some(bundle) = bundle("cat /top /bottom; echo new > /bottom; cat /proc/mounts") else { return };
    let base = bundle.dir.path();
    for dir in ["top", "upper", "work", "place"] {
        std::fs::create_dir_all(base.join(dir)).unwrap();
    }
    std::fs::write(base.join("top/top"), "top\n").unwrap();
    std::fs::write(bundle.path("top"), "hidden\n").unwrap();
    std::fs::write(bundle.path("bottom"), "bottom\n").unwrap();
    let rootfs = Rootfs::Overlay {
        lower: vec![base.join("top"), base.join("rootfs")],
        upper: base.join("upper"),
        work: base.join("work"),
        volatile: true,
        mount_point: base.join("place"),
    };
    let mut request = Request::new("test", base, &bundle.spec, &rootfs);
    let (stdio, reader) = streams();
    request.stdio = stdio;
    let mut child = Prepared::new(request).unwrap().spawn().unwrap();
    child.wait().unwrap();
    let output = read_all(reader);
    process::wait(child.pid, true).unwrap();
    assert!(output.starts_with("top\nbottom\noverlay / overlay "), "{output}");
    assert_eq!(std::fs::read_to_string(base.join("upper/bottom")).unwrap(), "new\n");
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(&base.display().to_string()), "{mounts}");
}

#[test]
fn control_groups_are_shown_one_by_one() {
    let Some(mut bundle) =
        bundle("ls /sys/fs/cgroup; cat /sys/fs/cgroup/memory/x; touch /sys/fs/cgroup/y || echo ro")
    else {
        return;
    };
    let group = bundle.dir.path().join("group");
    std::fs::create_dir(&group).unwrap();
    std::fs::write(group.join("x"), "limit\n").unwrap();
    bundle.spec.mounts.push(mount(
        "cgroup",
        Path::new("cgroup"),
        "/sys/fs/cgroup",
        &["nosuid", "noexec", "nodev", "relatime", "ro"],
    ));
    let view = |name: &str| CgroupView { name: name.into(), group: group.clone() };
    let entry = CgroupEntry { view: vec![view("memory"), view("cpu,cpuacct")], ..CgroupEntry::default() };
    let outcome = bundle.run_with(|r| r.cgroup = Some(entry)).unwrap();
    let words: Vec<&str> = outcome.output.lines().filter(|l| !l.contains(':')).collect();
    assert_eq!(words, ["cpu", "cpu,cpuacct", "cpuacct", "memory", "limit", "ro"], "{outcome:?}");
}
