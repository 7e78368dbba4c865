//! What the configuration asks of the kernel arrives; what is not supported is refused by name.

use std::process::Command;

use serde_json::json;

use crate::bundle::Bundle;

#[test]
fn a_new_network_has_its_loopback_on() {
    let Some(bundle) = Bundle::new("cat /proc/net/dev /proc/net/fib_trie") else { return };
    assert!(bundle.ok(&["run", "%"]).contains("127.0.0.1"));
}

#[test]
fn a_network_device_moves_in_with_its_addresses() {
    let Some(mut bundle) = Bundle::new("cat /proc/net/dev /proc/net/fib_trie") else { return };
    // A pair in a network of the test's own: what fails leaves nothing on the host.
    bundle.config["linux"]["netDevices"] = json!({"out0": {"name": "in0"}});
    let own = bundle.command(&["run", "%"]);
    let script = "ip link add out0 type veth peer name peer0 && ip addr add 10.91.0.7/24 dev out0 && \"$@\" && ! ip link show out0";
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "sh", "-c", script, "sh"]).arg(own.get_program()).args(own.get_args());
    let output = unshare.current_dir(bundle.dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("in0:") && said.contains("10.91.0.7"), "{output:?}");

    bundle.config["linux"]["netDevices"] = json!({"missing0": {}});
    assert!(bundle.fails(&["run", "%"]).contains("network device missing0: no such device"));
}

#[test]
fn what_is_not_supported_is_refused() {
    let Some(mut bundle) = Bundle::new("true") else { return };
    bundle.config["linux"]["intelRdt"] = json!({"closID": "a"});
    assert!(bundle.fails(&["run", "%"]).contains("linux.intelRdt: is not supported"));
    bundle.config["linux"].as_object_mut().unwrap().remove("intelRdt");

    if !std::path::Path::new("/sys/kernel/security/apparmor").exists() {
        bundle.config["process"]["apparmorProfile"] = json!("strict");
        assert!(bundle.fails(&["run", "%"]).contains("AppArmor is not enabled"));
        bundle.config["process"].as_object_mut().unwrap().remove("apparmorProfile");
    }
    bundle.config["ociVersion"] = json!("2.0.0");
    assert!(bundle.fails(&["run", "%"]).contains("ociVersion \"2.0.0\" is not supported"));
}

#[test]
fn unknown_capabilities_do_not_keep_a_container_from_running() {
    let Some(mut bundle) = Bundle::new("echo runs") else { return };
    bundle.config["process"]["capabilities"]["bounding"] = json!(["CAP_FLY"]);
    let output = bundle.run(&["run", "%"]);
    assert_eq!(output.stdout, b"runs\n", "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("CAP_FLY"));
}

#[test]
fn mounts_without_a_mount_namespace_go_with_the_container() {
    let Some(mut bundle) = Bundle::new("exec sleep 1000") else { return };
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "mount");
    let root = bundle.path("rootfs").canonicalize().unwrap();
    let mounts = || {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.lines().filter(|line| line.contains(root.to_str().unwrap())).count()
    };
    bundle.start();
    assert_eq!(mounts(), 4, "the root, /proc, /dev and /dev/pts");
    bundle.ok(&["delete", "--force", "%"]);
    assert_eq!(mounts(), 0);

    bundle.config["process"]["args"] = json!(["/missing"]);
    bundle.fails(&["run", "%"]);
    assert_eq!(mounts(), 0);
}

#[test]
fn an_exec_runs_on_the_cpus_it_is_given() {
    let Some(mut bundle) = Bundle::new("exec sleep 1000") else { return };
    bundle.config["process"]["execCPUAffinity"] = json!({"final": "0"});
    bundle.start();
    let status = bundle.ok(&["exec", "%", "cat", "/proc/self/status"]);
    assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
}
