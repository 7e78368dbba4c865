//! Version 2 against a directory with files of the right names: what is written where.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::{Cgroup, Error, Layout};
use crate::spec::{BlockIo, Cpu, DeviceRule, HugepageLimit, Memory, Pids, Resources, ThrottleDevice};

const CONTROLLERS: &str = "cpuset cpu io memory hugetlb pids rdma misc";

struct Tree(tempfile::TempDir);

impl Tree {
    /// A root, and the group `/a/b` with these files.
    fn new(files: &[&str]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for dir in [tree.root(), tree.root().join("a"), tree.group()] {
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("cgroup.controllers"), CONTROLLERS).unwrap();
            fs::write(dir.join("cgroup.subtree_control"), "").unwrap();
        }
        for file in files {
            fs::write(tree.group().join(file), "").unwrap();
        }
        tree
    }

    fn root(&self) -> PathBuf {
        self.0.path().to_owned()
    }

    fn group(&self) -> PathBuf {
        self.root().join("a/b")
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.group().join(file)).unwrap()
    }

    /// Creates with every device allowed, which needs no program.
    fn create(&self, mut resources: Resources) -> Result<Vec<String>, Error> {
        resources.devices = vec![DeviceRule { allow: true, ..DeviceRule::default() }];
        let layout = Layout::unified_at(self.0.path());
        let (_, warnings) = Cgroup::create_in(&layout, Path::new("/a/b"), &resources)?;
        Ok(warnings.into_iter().map(|warning| warning.field).collect())
    }

    fn update(&self, resources: &Resources) -> Result<(), Error> {
        let layout = Layout::unified_at(self.0.path());
        Cgroup::open_in(&layout, Path::new("/a/b"))?.apply(resources).map(drop)
    }
}

fn memory(limit: i64, swap: i64) -> Resources {
    let memory = Memory { limit: Some(limit), swap: Some(swap), ..Memory::default() };
    Resources { memory: Some(memory), ..Resources::default() }
}

fn cpu(cpu: Cpu) -> Resources {
    Resources { cpu: Some(cpu), ..Resources::default() }
}

#[test]
fn controllers_are_switched_on_from_the_top() {
    let tree = Tree::new(&[]);
    tree.create(Resources::default()).unwrap();
    for dir in [tree.root(), tree.root().join("a")] {
        // One write each; the directory keeps the last.
        assert_eq!(fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap(), "+rdma");
    }
    assert_eq!(tree.read("cgroup.subtree_control"), "", "the group itself holds processes");
}

#[test]
fn swap_is_what_exceeds_memory() {
    let tree = Tree::new(&["memory.max", "memory.swap.max"]);
    tree.create(memory(100 << 20, 150 << 20)).unwrap();
    assert_eq!(tree.read("memory.max"), (100 << 20).to_string());
    assert_eq!(tree.read("memory.swap.max"), (50 << 20).to_string());
    tree.update(&memory(1 << 20, -1)).unwrap();
    assert_eq!(
        (tree.read("memory.max"), tree.read("memory.swap.max")),
        ((1 << 20).to_string(), "max".into())
    );
    assert!(tree.update(&memory(2 << 20, 1 << 20)).is_err());
    tree.update(&memory(-1, -1)).unwrap();
    assert_eq!(tree.read("memory.max"), "max");
}

#[test]
fn without_swap_accounting_only_a_real_limit_is_an_error() {
    let tree = Tree::new(&["memory.max"]);
    tree.create(memory(1 << 20, 1 << 20)).unwrap();
    let error = tree.update(&memory(1 << 20, 2 << 20)).unwrap_err();
    assert_eq!(error.to_string(), "memory.swap: this kernel lacks memory.swap.max");
}

#[test]
fn a_limit_below_the_usage_is_refused_on_request() {
    let tree = Tree::new(&["memory.max"]);
    fs::write(tree.group().join("memory.current"), "5000\n").unwrap();
    let memory = Memory { limit: Some(4096), check_before_update: Some(true), ..Memory::default() };
    let resources = Resources { memory: Some(memory), ..Resources::default() };
    let error = tree.update(&resources).unwrap_err();
    assert_eq!(error.to_string(), "memory.limit: 4096 bytes are less than the 5000 bytes in use");
}

#[test]
fn quota_and_period_share_a_file() {
    let tree = Tree::new(&["cpu.weight", "cpu.max", "cpu.idle"]);
    tree.create(cpu(Cpu {
        shares: Some(1024),
        quota: Some(50_000),
        period: Some(100_000),
        ..Cpu::default()
    }))
    .unwrap();
    assert_eq!(tree.read("cpu.weight"), "100");
    assert_eq!(tree.read("cpu.max"), "50000 100000");
    tree.update(&cpu(Cpu { period: Some(20_000), ..Cpu::default() })).unwrap();
    assert_eq!(tree.read("cpu.max"), "50000 20000");
    tree.update(&cpu(Cpu { quota: Some(-1), ..Cpu::default() })).unwrap();
    assert_eq!(tree.read("cpu.max"), "max");
    let realtime = cpu(Cpu { realtime_runtime: Some(5), ..Cpu::default() });
    assert!(tree.update(&realtime).is_err());
}

#[test]
fn devices_without_bfq_get_the_other_weight() {
    let tree = Tree::new(&["io.weight", "io.max"]);
    let throttle = vec![ThrottleDevice { major: 8, minor: 0, rate: 4096 }];
    let block = BlockIo { weight: Some(500), throttle_read_bps_device: throttle, ..BlockIo::default() };
    tree.create(Resources { block_io: Some(block), ..Resources::default() }).unwrap();
    assert_eq!(tree.read("io.weight"), "default 4950");
    assert_eq!(tree.read("io.max"), "8:0 rbps=4096");
}

#[test]
fn the_rest_of_the_limits() {
    let tree = Tree::new(&["pids.max", "hugetlb.2MB.max", "cpuset.cpus", "cpuset.mems", "memory.high"]);
    let mut resources = cpu(Cpu { cpus: Some("0-1".into()), mems: Some("0".into()), ..Cpu::default() });
    resources.pids = Some(Pids { limit: 7 });
    resources.hugepage_limits = vec![HugepageLimit { page_size: "2MB".into(), limit: 2 << 20 }];
    resources.unified.insert("memory.high".into(), "4096".into());
    resources.memory = Some(Memory { swappiness: Some(10), kernel: Some(1), ..Memory::default() });
    assert_eq!(tree.create(resources).unwrap(), ["memory.kernel", "memory.swappiness"]);
    assert_eq!(tree.read("pids.max"), "7");
    assert_eq!(tree.read("hugetlb.2MB.max"), (2 << 20).to_string());
    assert_eq!(tree.read("cpuset.cpus"), "0-1");
    assert_eq!(tree.read("memory.high"), "4096");
    let mut resources = Resources { pids: Some(Pids { limit: -1 }), ..Resources::default() };
    tree.update(&resources).unwrap();
    assert_eq!(tree.read("pids.max"), "max");
    resources.unified.insert("../escape.max".into(), "1".into());
    assert!(tree.update(&resources).is_err());
}

#[test]
fn statistics_have_one_shape() {
    let tree = Tree::new(&[]);
    let put = |file: &str, text: &str| fs::write(tree.group().join(file), text).unwrap();
    put(
        "cpu.stat",
        "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 2\nthrottled_usec 5\n",
    );
    put("memory.current", "8192\n");
    put("memory.max", "max\n");
    put("memory.stat", "inactive_file 4096\nkernel 100\n");
    put("memory.events", "low 0\nmax 3\noom 1\noom_kill 2\n");
    put(
        "memory.pressure",
        "some avg10=1.50 avg60=0.00 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=5\n",
    );
    put("pids.current", "3\n");
    put("pids.max", "max\n");
    put("io.stat", "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n");
    let cgroup = Cgroup::open_in(&Layout::unified_at(tree.0.path()), Path::new("/a/b")).unwrap();
    let stats = cgroup.stats().unwrap();
    assert_eq!((stats.cpu.usage, stats.cpu.throttling.throttled_time_ns), (30_000, 5_000));
    assert_eq!(
        (stats.memory.working_set(), stats.memory.limit, stats.memory.limit_hits),
        (4096, u64::MAX, 3)
    );
    assert_eq!((stats.pids.current, stats.pids.limit), (3, 0));
    assert_eq!(stats.block.service_bytes[1].value, 20);
    let pressure = stats.memory.pressure.unwrap();
    assert_eq!((pressure.some.avg10, pressure.full.total_us), (1.5, 5));
    assert_eq!(cgroup.oom_kills().unwrap(), 2);
}

#[test]
fn only_processes_that_were_ended_are_a_want_of_memory() {
    let tree = Tree::new(&["memory.events"]);
    let events = |text: &str| fs::write(tree.group().join("memory.events"), text).unwrap();
    events("low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\noom_group_kill 0\n");
    let group = Cgroup::open_in(&Layout::unified_at(tree.0.path()), Path::new("/a/b")).unwrap();
    let mut watch = group.watch_memory().unwrap().unwrap();
    assert!(!watch.is_readable());
    assert_eq!(watch.take(), Ok(false), "it was ended before");
    events("max 4\noom 1\noom_kill 2\n");
    assert_eq!((watch.take(), watch.take()), (Ok(true), Ok(false)));
}
