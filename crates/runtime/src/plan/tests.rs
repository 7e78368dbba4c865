//! What is decided, checked without root.

use std::path::{Path, PathBuf};

use corten_sys::mount::{attr, propagation};
use proptest::prelude::*;

use super::options::Bind;
use super::*;
use crate::spec::{
    Linux, Mount, Namespace, NetDevice, Rlimit, Root, Scheduler, Spec, TimeOffset, TimeOffsets,
};

fn host() -> Host {
    Host {
        permitted: u64::MAX,
        last_capability: 40,
        limits: [(1024, 4096); 16],
        files_max: 1 << 20,
        apparmor: false,
        selinux: false,
        cgroup_unified: false,
    }
}

fn spec() -> Spec {
    let kinds = [NamespaceKind::Mount, NamespaceKind::Pid, NamespaceKind::Uts, NamespaceKind::Cgroup];
    Spec {
        oci_version: "1.2.0".into(),
        process: Some(Process { args: vec!["true".into()], cwd: "/".into(), ..Process::default() }),
        root: Some(Root { path: "rootfs".into(), readonly: false }),
        linux: Some(Linux {
            namespaces: kinds.map(|kind| Namespace { kind, path: None }).to_vec(),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}

fn plan(spec: &Spec) -> Result<Plan, StepError> {
    Plan::container(&Request::new("id", Path::new("/bundle"), spec, &Rootfs::Directory), &host())
}

fn options(text: &str) -> MountOptions {
    MountOptions::parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
}

/// The error's object and message, where there has to be one.
fn refused(change: impl FnOnce(&mut Spec)) -> String {
    let mut spec = spec();
    change(&mut spec);
    plan(&spec).unwrap_err().to_string()
}

#[test]
fn a_plan_reads_like_what_is_done() {
    let text = plan(&spec()).unwrap().to_string();
    let steps: Vec<&str> = text.lines().filter_map(|l| l.split(": ").nth(1)).collect();
    let order =
        ["cgroup", "session", "/", "rootfs", "/dev/null", "/dev/ptmx", "0", "stdio", "capabilities", "true"];
    let places: Vec<usize> = order.iter().map(|o| steps.iter().position(|s| s == o).unwrap()).collect();
    assert!(places.is_sorted(), "{text}");
    assert!(text.ends_with("run true"), "{text}");
}

#[test]
fn options_become_attributes() {
    let parsed = options("ro nosuid rw nodev relatime rbind rslave size=1 rnoexec,rro");
    assert_eq!(
        (parsed.attributes.set, parsed.attributes.clear),
        (attr::NOSUID | attr::NODEV, attr::RDONLY | attr::ATIME)
    );
    assert_eq!(parsed.recursive.set, attr::NOEXEC | attr::RDONLY);
    assert_eq!(parsed.propagation, [(propagation::SLAVE, true)]);
    assert_eq!(parsed.bind, Some(Bind::Tree));
    assert_eq!(parsed.data, ["size=1"]);
    let parsed = options("strictatime noatime sync nodiratime async dirsync private runbindable ridmap");
    assert_eq!(parsed.attributes.set, attr::NOATIME | attr::NODIRATIME);
    assert_eq!(parsed.superblock, ["dirsync"]);
    assert_eq!(parsed.propagation, [(propagation::PRIVATE, false), (propagation::UNBINDABLE, true)]);
    assert_eq!(parsed.idmap, Some(Bind::Tree));
}

#[test]
fn unknown_capabilities_are_left_out_with_a_warning() {
    let mut spec = spec();
    spec.process.as_mut().unwrap().capabilities = Some(crate::spec::Capabilities {
        bounding: vec!["CAP_FLY".into(), "CAP_KILL".into()],
        ..Default::default()
    });
    let plan = plan(&spec).unwrap();
    assert!(plan.warnings.iter().any(|w| w.contains("left out: CAP_FLY")), "{:?}", plan.warnings);
}

#[test]
fn every_word_of_the_specification_is_known() {
    for word in "async atime bind defaults dev diratime dirsync exec idmap iversion lazytime loud mand noatime nodev nodiratime \
                 noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev \
                 rdiratime relatime remount rexec ridmap rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid \
                 rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared \
                 silent slave strictatime suid symfollow sync tmpcopyup unbindable"
        .split_whitespace()
    {
        assert_eq!(options(word).data, Vec::<String>::new(), "{word}");
    }
}

#[test]
fn nonsense_is_refused_in_words() {
    let process = |change: fn(&mut Process)| move |spec: &mut Spec| change(spec.process.as_mut().unwrap());
    let linux = |change: fn(&mut Linux)| move |spec: &mut Spec| change(spec.linux.as_mut().unwrap());
    for (error, said) in [
        (refused(|s| s.process = None), "configuration: process: is missing"),
        (refused(process(|p| p.args.clear())), "configuration: process.args: is empty"),
        (refused(process(|p| p.cwd = "tmp".into())), "\"tmp\" is not an absolute path"),
        (refused(process(|p| p.env.push("A=\0".into()))), "process.env: contains a NUL byte"),
        (
            refused(process(|p| p.rlimits.push(Rlimit { kind: "RLIMIT_X".into(), ..Rlimit::default() }))),
            "\"RLIMIT_X\" is no resource limit",
        ),
        (refused(process(|p| p.apparmor_profile = Some("strict".into()))), "AppArmor is not enabled"),
        (refused(process(|p| p.selinux_label = Some("a:b:c:d".into()))), "SELinux is not enabled"),
        (refused(linux(|l| l.intel_rdt = Some(Default::default()))), "linux.intelRdt: is not supported"),
        (
            refused(linux(|l| {
                l.namespaces.push(Namespace { kind: NamespaceKind::Network, path: None });
                let wish = NetDevice { name: Some("eth 0".into()) };
                l.net_devices.insert("eth1".into(), wish);
            })),
            "\"eth 0\" is no name of a network device",
        ),
        (
            refused(process(|p| {
                p.scheduler = Some(Scheduler { policy: "FAST".into(), ..Scheduler::default() })
            })),
            "\"FAST\" is unknown",
        ),
        (
            refused(|s| {
                s.mounts.push(Mount {
                    destination: "/".into(),
                    kind: Some("tmpfs".into()),
                    ..Mount::default()
                })
            }),
            "/ would hide the root file system",
        ),
        (
            refused(|s| s.mounts.push(Mount { destination: "/x".into(), ..Mount::default() })),
            "/x: needs a type, or the option bind",
        ),
        (
            refused(linux(|l| l.namespaces.push(Namespace { kind: NamespaceKind::Pid, path: None }))),
            "pid is there twice",
        ),
        (
            refused(linux(|l| l.namespaces.push(Namespace { kind: NamespaceKind::User, path: None }))),
            "linux.uidMappings: is missing beside a new user namespace",
        ),
        (
            refused(linux(|l| {
                l.time_offsets = Some(TimeOffsets { monotonic: Some(TimeOffset::default()), boottime: None });
            })),
            "need a new time namespace",
        ),
        (
            refused(|s| {
                s.hostname = Some("x".into());
                s.linux.as_mut().unwrap().namespaces.retain(|n| n.kind != NamespaceKind::Uts);
            }),
            "hostname: needs a uts namespace",
        ),
        (
            refused(linux(|l| l.sysctl = [("net.ipv4.ip_forward".into(), "1".into())].into())),
            "needs a network namespace",
        ),
    ] {
        assert!(error.contains(said), "{error:?} does not say {said:?}");
    }
}

#[test]
fn limits_are_clamped_only_without_the_right_to_raise_them() {
    let mut spec = spec();
    let limit = |hard| Rlimit { kind: "RLIMIT_MEMLOCK".into(), soft: hard, hard };
    spec.process.as_mut().unwrap().rlimits = vec![limit(10_000)];
    let value = |plan: &Plan| {
        plan.operations
            .iter()
            .find_map(|o| {
                if let Action::ResourceLimit { soft, hard, .. } = o.action {
                    Some((soft, hard))
                } else {
                    None
                }
            })
            .unwrap()
    };
    assert_eq!(value(&plan(&spec).unwrap()), (10_000, 10_000));
    let weak = Host { permitted: !(1 << 24), ..host() };
    let strict = vec!["RLIMIT_MEMLOCK".to_owned()];
    let mut request = Request::new("id", Path::new("/bundle"), &spec, &Rootfs::Directory);
    let clamped = Plan::container(&request, &weak).unwrap();
    assert_eq!(value(&clamped), (4096, 4096));
    assert_eq!(clamped.warnings.len(), 1);
    request.strict = &strict;
    assert_eq!(value(&Plan::container(&request, &weak).unwrap()), (10_000, 10_000));
}

#[test]
fn an_intermediate_process_only_where_one_clone_cannot_do() {
    let mut spec = spec();
    assert!(!plan(&spec).unwrap().namespaces.intermediate);
    let join = |kind| Namespace { kind, path: Some("/proc/1/ns/x".into()) };
    spec.linux.as_mut().unwrap().namespaces.push(join(NamespaceKind::Network));
    assert!(!plan(&spec).unwrap().namespaces.intermediate);
    spec.linux.as_mut().unwrap().namespaces[1] = join(NamespaceKind::Pid);
    assert!(plan(&spec).unwrap().namespaces.intermediate);
}

#[test]
fn layers_with_odd_names_are_escaped_for_old_kernels() {
    let rootfs = Rootfs::Overlay {
        lower: vec!["/a:b".into(), "/c,d".into()],
        upper: "/up".into(),
        work: "/work".into(),
        volatile: true,
        mount_point: PathBuf::from("/m"),
    };
    let spec = spec();
    let plan = Plan::container(&Request::new("id", Path::new("/b"), &spec, &rootfs), &host()).unwrap();
    let options = plan.operations.iter().find_map(|o| match &o.action {
        Action::OverlayRoot(overlay) => Some(overlay.legacy_options.to_str().unwrap().to_owned()),
        _ => None,
    });
    assert_eq!(
        options.unwrap(),
        r"lowerdir=/a\:b:/c\,d,upperdir=/up,workdir=/work,redirect_dir=off,metacopy=off,volatile"
    );
}

#[test]
fn the_last_value_of_a_variable_counts() {
    let mut spec = spec();
    let process = spec.process.as_mut().unwrap();
    process.env = ["PATH=/a:/b/", "X=1", "PATH=/c", "X=2", "HOME="].map(String::from).to_vec();
    let program = plan(&spec).unwrap().program;
    assert_eq!(program.environment, [c"PATH=/c".into(), CString::from(c"X=2")]);
    assert_eq!(program.candidates, [CString::from(c"/c/true")]);
    assert!(program.wants_home);
}

proptest! {
    #[test]
    fn no_path_leads_out_of_the_root(path in "[a./]{0,24}") {
        let inside = below_root("x", &path).unwrap().into_string().unwrap();
        prop_assert!(!inside.is_empty() && !inside.starts_with('/'));
        prop_assert!(inside.split('/').all(|part| part != ".." && !part.is_empty()));
    }

    #[test]
    fn lists_of_numbers_never_panic(list in "[0-9,\\- ]{0,16}") {
        let _ = parse_list("x", &list);
    }

    #[test]
    fn options_never_panic(words in proptest::collection::vec("[a-z=,]{0,12}", 0..8)) {
        MountOptions::parse(&words);
    }
}
