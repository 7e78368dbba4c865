use corten_api::Empty;

use super::*;

fn config(volumes: &[&str]) -> ContainerConfig {
    ContainerConfig {
        volumes: volumes.iter().map(|v| (*v, Empty {})).collect(),
        ..ContainerConfig::default()
    }
}

fn host(binds: &[&str]) -> HostConfig {
    HostConfig { binds: binds.iter().map(|b| (*b).to_owned()).collect(), ..HostConfig::default() }
}

#[test]
fn an_image_volume_gives_way_to_what_was_asked() {
    let mounts = resolve(&config(&["/data", "/cache"]), &host(&["/srv:/data:ro"]), Vec::new()).unwrap();
    assert_eq!(mounts.len(), 2);
    assert!(mounts[0].destination == "/cache" && mounts[0].anonymous && mounts[0].copy_up);
    assert!(mounts[1].kind == MountKind::Bind && mounts[1].read_only);
}

#[test]
fn outer_mounts_come_first_and_duplicates_are_refused() {
    let mounts = resolve(&config(&[]), &host(&["v:/a/b", "/srv:/a"]), Vec::new()).unwrap();
    assert_eq!(mounts[0].destination, "/a");
    let error = resolve(&config(&[]), &host(&["v:/a", "/srv:/a/"]), Vec::new()).unwrap_err();
    assert!(error.message.contains("Duplicate mount point: /a"));
}

#[test]
fn a_bind_mount_needs_its_source() {
    let mount = Mount {
        kind: "bind".into(),
        source: "/no/such/thing".into(),
        target: "/x".into(),
        ..Mount::default()
    };
    let error = from_mount(&mount).unwrap_err();
    assert!(error.message.contains("bind source path does not exist: /no/such/thing"));
}

#[test]
fn tmpfs_options_become_mount_options() {
    let mount = Mount {
        kind: "tmpfs".into(),
        target: "/scratch".into(),
        tmpfs_options: Some(corten_api::mount::TmpfsOptions {
            size_bytes: 1024,
            mode: 0o700,
            ..Default::default()
        }),
        ..Mount::default()
    };
    assert_eq!(from_mount(&mount).unwrap().options, ["size=1024", "mode=700"]);
}
