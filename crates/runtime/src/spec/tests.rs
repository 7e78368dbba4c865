//! The types read what other tools write and write what the schemas allow.

use super::*;

const SAMPLE: &str = r#"{
  "ociVersion": "1.2.0",
  "process": {"terminal": true, "consoleSize": {"height": 24, "width": 80},
    "user": {"uid": 1, "gid": 2, "umask": 18, "additionalGids": [5, 6]},
    "args": ["sh"], "env": ["PATH=/bin"], "cwd": "/",
    "capabilities": {"bounding": ["CAP_CHOWN"], "ambient": ["CAP_CHOWN"]},
    "rlimits": [{"type": "RLIMIT_CORE", "hard": 1024, "soft": 1024}],
    "apparmorProfile": "p", "oomScoreAdj": 100, "noNewPrivileges": true,
    "scheduler": {"policy": "SCHED_BATCH", "nice": 1, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
    "ioPriority": {"class": "IOPRIO_CLASS_IDLE"}, "execCPUAffinity": {"initial": "0", "final": "0-1"}},
  "root": {"path": "rootfs", "readonly": true},
  "hostname": "h", "domainname": "d",
  "mounts": [{"destination": "/proc", "type": "proc", "source": "proc",
    "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}]}],
  "hooks": {"createRuntime": [{"path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 3}]},
  "annotations": {"a": "b"},
  "linux": {
    "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0}],
    "netDevices": {"eth1": {"name": "eth0"}},
    "namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/netns/a"}],
    "resources": {"devices": [{"allow": false, "access": "rwm"}],
      "memory": {"limit": 536870912, "disableOOMKiller": false, "kernelTCP": -1},
      "blockIO": {"weight": 10, "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 600}]},
      "hugepageLimits": [{"pageSize": "2MB", "limit": 9223372036854772000}],
      "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]},
      "rdma": {"mlx5_1": {"hcaHandles": 3}}, "unified": {"memory.high": "1"}},
    "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
      "syscalls": [{"names": ["getcwd"], "action": "SCMP_ACT_ERRNO",
        "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]}]},
    "timeOffsets": {"monotonic": {"secs": -5, "nanosecs": 7}},
    "intelRdt": {"closID": "g", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20"},
    "personality": {"domain": "LINUX32"}, "rootfsPropagation": "slave",
    "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"], "mountLabel": "l"}
}"#;

#[test]
fn nothing_of_a_full_configuration_is_lost() {
    let spec: Spec = serde_json::from_str(SAMPLE).unwrap();
    let before: serde_json::Value = serde_json::from_str(SAMPLE).unwrap();
    assert_eq!(serde_json::to_value(&spec).unwrap(), before);
}

#[test]
fn what_is_absent_stays_absent() {
    let spec = Spec { oci_version: OCI_VERSION.into(), ..Spec::default() };
    assert_eq!(serde_json::to_string(&spec).unwrap(), r#"{"ociVersion":"1.2.1"}"#);
}

#[test]
fn an_unknown_namespace_is_refused() {
    let error = serde_json::from_str::<Namespace>(r#"{"type": "dream"}"#).unwrap_err();
    assert!(error.to_string().contains("unknown variant `dream`"), "{error}");
}
