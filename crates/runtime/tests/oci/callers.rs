//! Programs that are written for runc work with this runtime.

use std::process::{Command, Stdio};

use crate::bundle::Bundle;

/// Everything of Podman's in one directory. It refuses hosts in hybrid cgroup mode while version 2 has a controller left: in a mount
/// namespace of its own it is shown none.
const PODMAN: &str = r#"
set -e
v2=/sys/fs/cgroup/unified/cgroup.controllers
if [ -e $v2 ]; then : > empty; mount --bind empty $v2; fi
printf '[containers]\ndefault_ulimits = ["nofile=%s:%s"]\n[engine]\ncgroup_manager="cgroupfs"\nevents_logger="file"\n' \
    $(ulimit -n) $(ulimit -n) > containers.conf
export CONTAINERS_CONF=$PWD/containers.conf
podman() { command podman --root $PWD/podman --runroot $PWD/podman-run --storage-driver vfs --runtime $RUNTIME "$@"; }
trap 'podman rm -f -t 0 -a > cleanup 2>&1; umount -R $PWD/podman 2> cleanup || true' EXIT
tar -C rootfs -c . | podman import -q - localhost/bb > import
run="--network none --cgroup-parent /$PARENT --name c localhost/bb"
podman run --rm $run echo hello
podman run --rm $run sh -c 'exit 7' || echo exit $?
podman run --rm $run missing 2> errors || echo missing $?
podman run -d $run sh -c 'trap "exit 3" TERM; echo logged; while :; do sleep 0.1; done' > id
podman exec -u 5:6 c id
podman exec c sh -c 'exit 9' || echo exec $?
podman pause c > paused
podman unpause c > unpaused
podman stop -t 5 c > stopped
podman logs c
podman inspect --format 'ended {{.State.ExitCode}}' c
podman rm c > removed
podman run -d $run sleep 1000 > id
podman kill c > killed
podman wait c
"#;

#[test]
fn podman_runs_containers() {
    let Some(bundle) = Bundle::new("true") else { return };
    if Command::new("podman").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: needs podman");
        return;
    }
    let parent = format!("{}-podman", bundle.id);
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "bash", "-c", PODMAN])
        .env("RUNTIME", env!("CARGO_BIN_EXE_corten-oci"))
        .env("PARENT", &parent)
        .current_dir(bundle.dir.path())
        .output()
        .unwrap();
    if let Ok(cgroup) = corten_runtime::cgroup::Cgroup::open(format!("/{parent}").as_ref()) {
        cgroup.remove().unwrap();
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let expected = "hello\nexit 7\nmissing 127\nuid=5 gid=6 groups=6\nexec 9\nlogged\nended 3\n137\n";
    assert_eq!(said.replace("uid=5 gid=6\n", "uid=5 gid=6 groups=6\n"), expected, "{output:?}");
}
