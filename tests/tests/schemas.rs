//! Every OCI document that we write validates against the schemas of the runtime specification.
//!
//! The schemas are not part of this repository: they are looked for in `../shared/specs/runtime-spec-schema` beside it, or
//! where `CORTEN_RUNTIME_SCHEMAS` says. Without them, or without Debian's python3-jsonschema, the tests say so and pass.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use corten_tests::{TestEngine, binary, run};

/// The directory of the schemas, when there is something to validate with.
fn schemas() -> Option<PathBuf> {
    let directory = std::env::var_os("CORTEN_RUNTIME_SCHEMAS").map(PathBuf::from).unwrap_or_else(|| {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/specs/runtime-spec-schema")
    });
    if !directory.join("config-schema.json").exists() {
        eprintln!("skipped: no runtime-spec schemas in {}", directory.display());
        return None;
    }
    if run(Command::new("/usr/bin/python3").args(["-c", "import jsonschema"])).code != 0 {
        eprintln!("skipped: python3-jsonschema is not installed");
        return None;
    }
    Some(directory)
}

/// Validates files against one of the schemas.
fn validate(schema: &Path, files: &[PathBuf]) {
    assert!(!files.is_empty());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("validate.py");
    let output = run(Command::new("/usr/bin/python3").arg(script).arg(schema).args(files));
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
}

#[test]
fn configurations_of_containers() {
    let Some(schemas) = schemas() else { return };
    let engine = TestEngine::with_busybox();
    let directory = tempfile::tempdir().unwrap();
    let bind = format!("{}:/bound:ro,rslave", directory.path().display());
    let mount = format!("type=bind,src={},dst=/mounted,readonly", directory.path().display());
    let combinations: &[&[&str]] = &[
        &[],
        &["--network", "none", "-t", "--init", "--read-only", "--tmpfs", "/tmp:size=1m,mode=1777"],
        &["--network", "host", "--pid", "host", "--ipc", "host", "--uts", "host", "--cgroupns", "host"],
        &["--privileged"],
        &["-v", &bind, "--mount", &mount, "-v", "named:/named", "-v", "/anonymous"],
        &["--memory", "64m", "--memory-swap", "128m", "--memory-reservation", "32m", "--pids-limit", "20"],
        &["--cpus", "0.5", "--cpu-shares", "512", "--cpuset-cpus", "0", "--blkio-weight", "300"],
        &["--cpu-period", "50000", "--cpu-quota", "25000"],
        &["--ulimit", "nofile=100:200", "--sysctl", "net.ipv4.ip_forward=0", "--shm-size", "1m"],
        &["--cap-add", "SYS_PTRACE", "--cap-drop", "NET_RAW", "--security-opt", "no-new-privileges"],
        &["--cap-drop", "ALL", "--security-opt", "seccomp=unconfined", "--oom-score-adj", "100"],
        &["--device", "/dev/null:/dev/nix:rw", "-u", "1000:1000", "--group-add", "2000", "-w", "/home/app"],
        &["-h", "box", "--domainname", "example.org", "--add-host", "a:1.2.3.4", "--dns", "9.9.9.9"],
        &["-p", "127.0.0.1::80", "--expose", "90/udp", "--label", "a=b", "-e", "A=b", "--stop-signal", "INT"],
    ];
    let ids: Vec<String> = combinations
        .iter()
        .map(|options| {
            engine.corten(&[&["run", "-d"], *options, &["busybox", "sleep", "1000"]].concat()).ok()
        })
        .collect();
    let configurations: Vec<PathBuf> =
        ids.iter().map(|id| engine.exec_root().join("containers").join(id).join("config.json")).collect();
    validate(&schemas.join("config-schema.json"), &configurations);
}

#[test]
fn documents_of_the_oci_command() {
    let Some(schemas) = schemas() else { return };
    let directory = tempfile::tempdir().unwrap();
    let corten_oci = |arguments: &[&str]| {
        let mut command = Command::new(binary("corten-oci"));
        command.current_dir(directory.path()).arg("--root").arg(directory.path().join("state"));
        run(command.args(arguments))
    };
    let config = directory.path().join("config.json");
    corten_oci(&["spec"]).ok();
    validate(&schemas.join("config-schema.json"), std::slice::from_ref(&config));

    let features = directory.path().join("features.json");
    std::fs::write(&features, corten_oci(&["features"]).ok()).unwrap();
    validate(&schemas.join("features-schema.json"), &[features]);

    let mut spec: serde_json::Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    spec["process"]["terminal"] = false.into();
    std::fs::write(&config, spec.to_string()).unwrap();
    corten_tests::busybox_rootfs(&directory.path().join("rootfs"));
    let id = format!("corten-test-schema-{}", std::process::id());
    // The container would keep a pipe of ours open.
    let mut create = Command::new(binary("corten-oci"));
    create.current_dir(directory.path()).arg("--root").arg(directory.path().join("state"));
    create.args(["create", &id]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(create.status().unwrap().success());
    let state = directory.path().join("state.json");
    let printed = corten_oci(&["state", &id]);
    corten_oci(&["delete", "--force", &id]).ok();
    std::fs::write(&state, printed.ok()).unwrap();
    validate(&schemas.join("state-schema.json"), &[state]);

    std::fs::remove_file(&config).unwrap();
    corten_oci(&["spec", "--rootless"]).ok();
    validate(&schemas.join("config-schema.json"), &[config]);
}
