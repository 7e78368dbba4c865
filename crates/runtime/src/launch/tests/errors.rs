//! Each way in which a start can fail says what has failed, on what, and leaves nothing.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn failure(arguments: &[&str], prepare: impl FnOnce(&Bundle)) -> Option<StepError> {
    let mut bundle = bundle("")?;
    bundle.process().args = arguments.iter().map(|a| (*a).to_owned()).collect();
    prepare(&bundle);
    let error = bundle.run().unwrap_err();
    assert_eq!(error.step, Step::Exec, "{error}");
    assert_eq!(error.object, arguments[0]);
    Some(error)
}

fn program(bundle: &Bundle, content: &[u8], mode: u32) {
    let path = bundle.path("bin/program");
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn programs_that_are_not_there() {
    let Some(error) = failure(&["nothing"], |_| {}) else { return };
    assert_eq!((error.errno, error.message.as_str()), (2, "executable file not found in $PATH"));
    let error = failure(&["/bin/nothing"], |_| {}).unwrap();
    assert_eq!((error.errno, error.message.as_str()), (2, "no such file or directory"));
}

#[test]
fn programs_that_may_not_run() {
    let Some(error) = failure(&["program"], |b| program(b, b"#!/bin/sh\n", 0o644)) else { return };
    assert_eq!(error.errno, 13);
    assert!(error.message.starts_with("permission denied"), "{error}");
    let error = failure(&["/bin/program"], |b| program(b, b"#!/bin/sh\n", 0o644)).unwrap();
    assert_eq!(error.message, "permission denied: no permission to execute it");
    let error = failure(&["/bin"], |_| {}).unwrap();
    assert_eq!(error.message, "permission denied: it is a directory");
}

#[test]
fn programs_that_the_kernel_cannot_use() {
    let Some(error) = failure(&["program"], |b| program(b, b"echo hi\n", 0o755)) else { return };
    assert_eq!(
        (error.errno, error.message.as_str()),
        (8, "exec format error: the file is text without a #! line")
    );
    let error = failure(&["program"], |b| program(b, b"#!/bin/tcl -f\n", 0o755)).unwrap();
    assert_eq!(error.message, "no such file or directory: its interpreter /bin/tcl is not there");
    let error = failure(&["program"], |b| program(b, b"#!/bin/sh\r\necho hi\r\n", 0o755)).unwrap();
    assert!(error.message.contains("CRLF"), "{error}");
    let error = failure(&["program"], |b| {
        let mut file = std::fs::read("/bin/busybox").unwrap();
        file[18..20].copy_from_slice(&243u16.to_le_bytes());
        program(b, &file, 0o755);
    })
    .unwrap();
    assert!(
        error.message.starts_with("exec format error: the program is for riscv64, this host is "),
        "{error}"
    );
}

#[test]
fn mounts_that_fail_name_both_paths() {
    let Some(mut bundle) = bundle("true") else { return };
    let mount = |kind: &str, source: &str, destination: &str, options: &[&str]| Mount {
        destination: destination.into(),
        kind: Some(kind.into()),
        source: Some(source.into()),
        options: options.iter().map(|o| (*o).to_owned()).collect(),
        ..Mount::default()
    };
    let mut fails = |wish: Mount| {
        bundle.spec.mounts.push(wish);
        let error = bundle.run().unwrap_err();
        bundle.spec.mounts.pop();
        error
    };
    let error = fails(mount("bind", "/no/such/place", "/x", &["rbind"]));
    assert_eq!(error.to_string(), "mount: /x: source /no/such/place: no such file or directory");
    let error = fails(mount("nofs", "x", "/x", &[]));
    assert_eq!(error.message, "file system type nofs is unknown to the kernel");
    let error = fails(mount("tmpfs", "x", "/x", &["colour=red"]));
    assert!(error.message.to_lowercase().contains("unknown parameter 'colour'"), "{error}");
    let error = fails(mount("bind", "/etc/passwd", "/tmp", &["bind"]));
    assert!(error.message.contains("the other way round"), "{error}");
    let error = fails(mount("bind", "/tmp", "/proc/sys/kernel", &["bind"]));
    assert!(error.message.contains("inside /proc"), "{error}");
}

#[test]
fn a_missing_directory_is_an_error_or_made() {
    let Some(mut bundle) = bundle("pwd; stat -c %a .") else { return };
    bundle.process().cwd = "/new/deep/place".into();
    let error = bundle.run().unwrap_err();
    assert_eq!(
        (error.step, error.object.as_str(), error.errno),
        (Step::WorkingDirectory, "/new/deep/place", 2)
    );
    let outcome = bundle.run_with(|r| r.create_cwd = true).unwrap();
    assert_eq!(outcome.output, "/new/deep/place\n755\n");
    bundle.process().cwd = "/etc/passwd".into();
    assert_eq!(bundle.run().unwrap_err().errno, 20);
}

#[test]
fn nothing_is_left_of_a_failed_start() {
    let Some(mut bundle) = bundle("true") else { return };
    bundle.process().args = vec!["nothing".into()];
    let rootfs = Rootfs::Directory;
    let request = Request::new("test", bundle.dir.path(), &bundle.spec, &rootfs);
    let mut child = Prepared::new(request).unwrap().spawn().unwrap();
    child.wait().unwrap_err();
    assert_eq!(process::wait(child.pid, false), Err(rustix::io::Errno::CHILD));
}

#[test]
fn a_left_over_descriptor_is_no_way_out() {
    // CVE-2024-21626: the working directory leads through a descriptor to the host.
    let Some(mut bundle) = bundle("pwd; ls") else { return };
    let host = std::fs::File::open("/").unwrap();
    // Not close-on-exec, as a careless caller has them.
    rustix::io::fcntl_setfd(&host, rustix::io::FdFlags::empty()).unwrap();
    for number in 3..24 {
        bundle.process().cwd = format!("/proc/self/fd/{number}");
        let error = bundle.run().unwrap_err();
        assert_eq!(error.step, Step::WorkingDirectory, "{error}");
    }
}

#[test]
fn links_in_the_image_lead_nowhere_else() {
    let Some(mut bundle) = bundle("cat /run/deep/target; cat /proc/mounts") else { return };
    let secret = bundle.dir.path().join("secret");
    std::fs::write(&secret, "bound").unwrap();
    // A dangling link in the image: its target is made inside, whatever is there on the host.
    symlink("../../../../run/deep/target", bundle.path("etc/resolv.conf")).unwrap();
    symlink("/tmp/../etc", bundle.path("conf")).unwrap();
    bundle.spec.mounts.push(Mount {
        destination: "/conf/resolv.conf".into(),
        kind: Some("bind".into()),
        source: Some(secret.display().to_string()),
        options: vec!["bind".into(), "ro".into()],
        ..Mount::default()
    });
    let output = bundle.output();
    assert!(output.starts_with("bound"), "{output}");
    assert!(bundle.path("run/deep/target").exists());

    // proc must not be somewhere else than everybody thinks (CVE-2019-16884).
    std::fs::remove_dir(bundle.path("proc")).unwrap();
    symlink("tmp", bundle.path("proc")).unwrap();
    let error = bundle.run().unwrap_err();
    assert_eq!((error.step, error.object.as_str()), (Step::Mount, "/proc"));
}
