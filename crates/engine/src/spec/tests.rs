use corten_api::container::{ContainerConfig, HostConfig};

use super::*;

fn record() -> Record {
    Record {
        id: "ab".repeat(32),
        config: ContainerConfig {
            cmd: vec!["sh".to_owned()].into(),
            env: vec!["A=1".to_owned()].into(),
            ..ContainerConfig::default()
        },
        ..Record::default()
    }
}

fn built(record: &Record) -> Result<Spec> {
    let defaults = ContainerDefaults::default();
    build(
        record,
        &Context {
            defaults: &defaults,
            directory: Path::new("/data/containers/x"),
            root: Path::new("/run/rootfs"),
            hostname: "abababababab",
            cgroups_path: "/corten/x".into(),
            unified: true,
            network: None,
            shares_host_network: false,
            pid_of: &|_| Ok(42),
            shm_of: &|_| Ok("/proc/42/root/dev/shm".into()),
            capabilities_available: u64::MAX,
        },
    )
}

#[test]
fn a_plain_container_has_what_docker_gives() {
    let spec = built(&record()).unwrap();
    let process = spec.process.unwrap();
    assert_eq!(process.env[1], "HOSTNAME=abababababab");
    assert_eq!(process.capabilities.unwrap().effective.len(), 14);
    let linux = spec.linux.unwrap();
    assert_eq!(linux.namespaces.len(), 5);
    assert!(linux.seccomp.is_some() && linux.masked_paths.contains(&"/proc/kcore".to_owned()));
    let shm = spec.mounts.iter().find(|m| m.destination == "/dev/shm").unwrap();
    assert!(shm.options.contains(&"size=67108864".to_owned()));
}

#[test]
fn privileged_opens_everything() {
    let mut record = record();
    record.host_config.privileged = true;
    let spec = built(&record).unwrap();
    let linux = spec.linux.unwrap();
    assert!(linux.seccomp.is_none() && linux.masked_paths.is_empty() && linux.readonly_paths.is_empty());
    assert!(linux.devices.iter().any(|device| device.path == "/dev/null"));
    assert!(linux.resources.unwrap().devices[0].allow);
    let sys = spec.mounts.iter().find(|m| m.destination == "/sys").unwrap();
    assert!(!sys.options.contains(&"ro".to_owned()));
}

#[test]
fn a_users_mount_replaces_ours_and_tmpfs_options_are_kept() {
    let mut record = record();
    record.mounts = crate::mounts::resolve(
        &record.config,
        &HostConfig {
            binds: vec!["/srv/hosts:/etc/hosts:ro".to_owned()].into(),
            tmpfs: [("/scratch", "exec,size=1m".to_owned())].into_iter().collect(),
            ..HostConfig::default()
        },
        Vec::new(),
    )
    .unwrap();
    let spec = built(&record).unwrap();
    let hosts: Vec<_> = spec.mounts.iter().filter(|m| m.destination == "/etc/hosts").collect();
    assert_eq!(hosts.len(), 1);
    assert_eq!(hosts[0].source.as_deref(), Some("/srv/hosts"));
    let scratch = spec.mounts.iter().find(|m| m.destination == "/scratch").unwrap();
    assert_eq!(scratch.options, ["nosuid", "nodev", "exec", "size=1m"]);
}

#[test]
fn sysctls_of_the_host_are_refused() {
    let mut record = record();
    record.host_config.sysctls = [("net.core.somaxconn", "10".to_owned())].into_iter().collect();
    assert_eq!(built(&record).unwrap().linux.unwrap().sysctl["net.core.somaxconn"], "10");
    record.host_config.sysctls = [("kernel.pid_max", "10".to_owned())].into_iter().collect();
    assert!(built(&record).unwrap_err().message.contains("kernel.pid_max"));
}

#[test]
fn another_containers_namespaces_are_joined_by_path() {
    let mut record = record();
    record.host_config.pid_mode = "container:web".into();
    record.host_config.ipc_mode = "container:web".into();
    let spec = built(&record).unwrap();
    let namespaces = spec.linux.unwrap().namespaces;
    assert!(namespaces.iter().any(|n| n.path.as_deref() == Some("/proc/42/ns/pid")));
    let shm = spec.mounts.iter().find(|m| m.destination == "/dev/shm").unwrap();
    assert_eq!(shm.source.as_deref(), Some("/proc/42/root/dev/shm"));
}

#[test]
fn the_environment_of_the_image_wins_over_ours() {
    let mut record = record();
    record.config.env = vec!["PATH=/x".to_owned(), "HOSTNAME=me".to_owned()].into();
    record.config.tty = true;
    assert_eq!(built(&record).unwrap().process.unwrap().env, ["TERM=xterm", "PATH=/x", "HOSTNAME=me"]);
}
