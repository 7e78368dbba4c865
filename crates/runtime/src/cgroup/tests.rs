use std::path::Path;

use super::layout::{Controller, Layout};
use super::settings::Need;
use super::{Error, systemd_group_path, v1, v2};
use crate::spec::{BlockIo, Cpu, Memory, Resources, ThrottleDevice, WeightDevice};

mod devices;
mod host;
mod unified;

const HYBRID: &str = "\
23 1 8:1 / / rw - ext4 /dev/vda rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
34 31 0:31 / /sys/fs/cgroup/net_cls,net_prio rw,relatime - cgroup cgroup rw,net_cls,net_prio
35 31 0:32 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
36 31 0:33 / /no/such/unified rw,relatime - cgroup2 cgroup2 rw
37 31 0:30 /elsewhere /second/memory rw,relatime - cgroup cgroup rw,memory
";

fn paths(mountinfo: &str, path: &str) -> Vec<(String, String)> {
    let groups = Layout::parse(mountinfo).groups(Path::new(path)).unwrap();
    groups.iter().map(|group| (group.label(), group.path.to_str().unwrap().to_owned())).collect()
}

#[test]
fn hierarchies_are_found_in_mountinfo() {
    let expected = [
        ("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/corten/c1"),
        ("memory", "/sys/fs/cgroup/memory/corten/c1"),
        ("net_cls,net_prio", "/sys/fs/cgroup/net_cls,net_prio/corten/c1"),
        ("name=systemd", "/sys/fs/cgroup/systemd/corten/c1"),
        ("", "/no/such/unified/corten/c1"),
    ];
    assert_eq!(paths(HYBRID, "/corten//./c1"), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    let layout = Layout::parse(HYBRID);
    assert!(layout.has(Controller::Cpuacct) && !layout.has(Controller::Pids) && !layout.is_unified());
}

#[test]
fn a_mount_of_the_whole_hierarchy_is_preferred() {
    let mounts = "\
33 31 0:30 /part /a\\040part rw - cgroup cgroup rw,memory
37 31 0:30 / /whole rw - cgroup cgroup rw,memory
";
    assert_eq!(paths(mounts, "/c"), [("memory".to_owned(), "/whole/c".to_owned())]);
    assert_eq!(paths(mounts.lines().next().unwrap(), "/c")[0].1, "/a part/c");
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    let layout = Layout::parse(HYBRID);
    for path in ["/a/../../b", "/", "", "."] {
        assert!(matches!(layout.groups(Path::new(path)), Err(Error::Path { .. })), "{path}");
    }
}

#[test]
fn systemd_names_become_paths() {
    let path = |text: &str| systemd_group_path(text).map(|path| path.to_str().unwrap().to_owned());
    assert_eq!(path("system.slice:corten:abc").unwrap(), "/system.slice/corten-abc.scope");
    assert_eq!(path(":crio:abc").unwrap(), "/system.slice/crio-abc.scope");
    assert_eq!(path("a-b-c.slice::x").unwrap(), "/a.slice/a-b.slice/a-b-c.slice/x.scope");
    assert_eq!(path("-.slice:p:x.slice").unwrap(), "/x.slice");
    for wrong in [
        "/plain/path",
        "a:b",
        "a.slice:b:c:d",
        "nosuffix:b:c",
        "a.slice:b:",
        "a--b.slice:c:d",
        "a.slice:../b:c",
    ] {
        assert!(path(wrong).is_err(), "{wrong}");
    }
}

fn plan(controller: Controller, resources: &Resources) -> Vec<(String, String)> {
    let settings = v1::settings(controller, resources).unwrap();
    settings.into_iter().map(|setting| (setting.file.into_owned(), setting.value)).collect()
}

#[test]
fn version_1_memory() {
    let memory = |memory| Resources { memory: Some(memory), ..Resources::default() };
    let resources = memory(Memory {
        limit: Some(10),
        swap: Some(20),
        reservation: Some(5),
        swappiness: Some(0),
        disable_oom_killer: Some(true),
        kernel_tcp: Some(7),
        ..Memory::default()
    });
    let expected = [
        ("memory.limit_in_bytes", "10"),
        ("memory.memsw.limit_in_bytes", "20"),
        ("memory.soft_limit_in_bytes", "5"),
        ("memory.kmem.tcp.limit_in_bytes", "7"),
        ("memory.swappiness", "0"),
        ("memory.oom_control", "1"),
    ];
    assert_eq!(plan(Controller::Memory, &resources), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    // No limit of memory: none of the sum either, unless that was asked for.
    let resources = memory(Memory { limit: Some(-1), ..Memory::default() });
    let settings = v1::settings(Controller::Memory, &resources).unwrap();
    assert_eq!((settings[1].value.as_str(), settings[1].need), ("-1", Need::Silent));
    let resources = memory(Memory { swappiness: Some(101), ..Memory::default() });
    assert!(v1::settings(Controller::Memory, &resources).is_err());
}

#[test]
fn version_1_processor_and_disks() {
    let cpu = Cpu {
        shares: Some(0),
        quota: Some(-1),
        period: Some(1000),
        burst: Some(5),
        idle: Some(1),
        ..Cpu::default()
    };
    let weight_device = vec![WeightDevice { major: 8, minor: 16, weight: Some(300), leaf_weight: None }];
    let throttle_write_iops_device = vec![ThrottleDevice { major: 8, minor: 0, rate: 9 }];
    let block =
        BlockIo { weight: Some(400), weight_device, throttle_write_iops_device, ..BlockIo::default() };
    let resources = Resources { cpu: Some(cpu), block_io: Some(block), ..Resources::default() };
    let expected = [
        ("cpu.cfs_period_us", "1000"),
        ("cpu.cfs_quota_us", "-1"),
        ("cpu.cfs_burst_us", "5"),
        ("cpu.idle", "1"),
    ];
    assert_eq!(plan(Controller::Cpu, &resources), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    let expected = [
        ("blkio.weight", "400"),
        ("blkio.weight_device", "8:16 300"),
        ("blkio.throttle.write_iops_device", "8:0 9"),
    ];
    assert_eq!(plan(Controller::Block, &resources), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
}

#[test]
fn weights_keep_their_ends_and_their_default() {
    assert_eq!([2, 1024, 262_144].map(v2::weight_from_shares), [1, 100, 10_000]);
    assert!((3..2000).all(|shares| v2::weight_from_shares(shares) <= v2::weight_from_shares(shares + 1)));
    assert_eq!([10, 1000].map(v2::weight_from_blkio), [1, 10_000]);
}
