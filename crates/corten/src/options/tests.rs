//! Every form of every flag, as the engine gets it.

use std::io;
use std::path::PathBuf;

use clap::{Args, Command, FromArgMatches};
use serde_json::{Value, json};

use super::*;

fn outside() -> Outside {
    Outside {
        variable: |name| (name == "HOME").then(|| "/root".to_owned()),
        read: |path| match path.to_str() {
            Some("vars") => Ok("\u{feff}# comment\nA=1\n  B=2 x \nHOME\nNOTSET\n\n".to_owned()),
            Some("labels") => Ok("k=v\n#c\nsolo\n".to_owned()),
            Some("spaced") => Ok("A B=1\n".to_owned()),
            Some("profile") => Ok("{\n \"defaultAction\": \"A B\" }".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        },
        current_dir: PathBuf::from("/work/dir"),
        proxies: Vec::new(),
    }
}

fn request(line: &str) -> Result<ContainerCreateRequest, String> {
    let words = shlex::split(line).unwrap();
    let command =
        ContainerFlags::augment_args(Command::new("create").no_binary_name(true).disable_help_flag(true));
    let command = command.mut_args(|arg| match arg.get_action().takes_values() {
        true => arg.allow_hyphen_values(true),
        false => arg,
    });
    let matches = command.try_get_matches_from(words).map_err(|error| error.to_string())?;
    let flags = ContainerFlags::from_arg_matches(&matches).map_err(|error| error.to_string())?;
    flags.request("busybox", &[], &outside()).map_err(|error| error.to_string())
}

/// The parts of the request at `pointers`, in one list.
fn sent(line: &str, pointers: &[&str]) -> Value {
    let request = serde_json::to_value(request(line).unwrap()).unwrap();
    pointers.iter().map(|pointer| request.pointer(pointer).cloned().unwrap_or(Value::Null)).collect()
}

fn host(line: &str, field: &str) -> Value {
    sent(line, &[&format!("/HostConfig/{field}")])[0].clone()
}

fn config(line: &str, field: &str) -> Value {
    sent(line, &[&format!("/{field}")])[0].clone()
}

fn refusal(line: &str) -> String {
    request(line).unwrap_err()
}

#[test]
fn nothing_but_an_image() {
    let expected = ["/Image", "/AttachStdin", "/AttachStdout", "/Env", "/Cmd", "/Entrypoint", "/OpenStdin"];
    assert_eq!(sent("", &expected), json!(["busybox", false, true, null, null, null, false]));
    assert_eq!(sent("", &["/Volumes", "/Labels"]), json!([{}, {}]));
    let host = ["/HostConfig/NetworkMode", "/HostConfig/RestartPolicy/Name", "/HostConfig/MemorySwappiness"];
    assert_eq!(sent("", &host), json!(["default", "no", -1]));
}

#[test]
fn streams_and_terminals() {
    let all = ["/AttachStdin", "/AttachStdout", "/AttachStderr", "/OpenStdin", "/StdinOnce", "/Tty"];
    assert_eq!(sent("-i -t", &all), json!([true, true, true, true, true, true]));
    assert_eq!(sent("-a STDOUT", &all), json!([false, true, false, false, false, false]));
    assert_eq!(sent("-a stdin -a stderr -i", &all), json!([true, false, true, true, true, false]));
    assert!(refusal("-a foo").contains("STDIN, STDOUT and STDERR"));
}

#[test]
fn process() {
    assert_eq!(config("--entrypoint /bin/sh", "Entrypoint"), json!(["/bin/sh"]));
    assert_eq!(config("--entrypoint=", "Entrypoint"), json!([""]));
    let all = ["/Hostname", "/Domainname", "/User", "/WorkingDir", "/StopSignal", "/StopTimeout"];
    assert_eq!(
        sent("-h box --domainname lan -u 1:2 -w /w --stop-signal INT --stop-timeout 5", &all),
        json!(["box", "lan", "1:2", "/w", "INT", 5])
    );
    assert_eq!(host("--group-add a --group-add 3", "GroupAdd"), json!(["a", "3"]));
    assert_eq!(sent("--init", &["/HostConfig/Init"]), json!([true]));
    assert_eq!(sent("--init=false", &["/HostConfig/Init"]), json!([false]));
}

#[test]
fn variables_and_labels() {
    assert_eq!(config("-e A=1 -e HOME -e NOTSET -e B=", "Env"), json!(["A=1", "HOME=/root", "NOTSET", "B="]));
    assert_eq!(config("--env-file vars -e A=9", "Env"), json!(["A=1", "B=2 x ", "HOME=/root", "A=9"]));
    assert_eq!(config("--label-file labels -l k=w -l x", "Labels"), json!({"k": "w", "solo": "", "x": ""}));
    assert_eq!(host("--annotation a=b", "Annotations"), json!({"a": "b"}));
    assert!(refusal("-e =x").contains("the name is empty"));
    assert!(refusal("--env-file spaced").contains("the name has spaces in spaced"));
    assert!(refusal("--env-file gone").contains("can't read gone"));
}

#[test]
fn proxies_are_given_unless_something_is_said_of_them() {
    let proxy = |name: &str| (name.to_owned(), "http://p".to_owned());
    let outside = Outside { proxies: vec![proxy("HTTP_PROXY"), proxy("http_proxy")], ..outside() };
    let env = |words: &[&str]| {
        let env = words.iter().map(|word| (*word).to_owned()).collect();
        let flags = EnvironmentFlags { env, ..EnvironmentFlags::default() };
        let mut request = ContainerCreateRequest::default();
        flags.apply(&mut request, &outside).unwrap();
        request.config.env.into_vec()
    };
    assert_eq!(env(&[]), ["HTTP_PROXY=http://p", "http_proxy=http://p"]);
    assert_eq!(env(&["HTTP_PROXY=x", "http_proxy"]), ["HTTP_PROXY=x", "http_proxy"]);
}

#[test]
fn volumes() {
    assert_eq!(host("-v /a:/b -v data:/c:ro,nocopy", "Binds"), json!(["/a:/b", "data:/c:ro,nocopy"]));
    assert_eq!(
        host("-v ./x:/b -v ../y:/c:ro -v .:/d", "Binds"),
        json!(["/work/dir/x:/b", "/work/y:/c:ro", "/work/dir:/d"])
    );
    assert_eq!(sent("-v /data", &["/Volumes", "/HostConfig/Binds"]), json!([{"/data": {}}, null]));
    assert_eq!(host("--tmpfs /t --tmpfs /u:rw,size=1m", "Tmpfs"), json!({"/t": "", "/u": "rw,size=1m"}));
    assert_eq!(host("--volumes-from a --volumes-from b:ro", "VolumesFrom"), json!(["a", "b:ro"]));
    assert_eq!(host("--read-only", "ReadonlyRootfs"), json!(true));
    assert_eq!(host("--shm-size 64m", "ShmSize"), json!(67_108_864));
    for (line, why) in [
        ("-v a:b", "must be absolute"),
        ("-v a:/", "can't be mounted on /"),
        ("-v :/x", "empty part"),
        ("-v /a:/b:c:d", "expected [SOURCE:]TARGET"),
        ("-v ''", "empty"),
        ("--tmpfs t", "must be absolute"),
    ] {
        assert!(refusal(line).contains(why), "{line}: {}", refusal(line));
    }
}

#[test]
fn mounts() {
    let one = |line: &str| host(&format!("--mount {line}"), "Mounts")[0].clone();
    assert_eq!(
        one("type=bind,src=/a,dst=/b,readonly,bind-propagation=rshared"),
        json!({"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true,
            "BindOptions": {"Propagation": "rshared"}})
    );
    assert_eq!(
        one("source=v,target=/b,ro=0,volume-nocopy,volume-label=a=b,volume-driver=local,volume-opt=o=x"),
        json!({"Type": "volume", "Source": "v", "Target": "/b", "VolumeOptions": {"NoCopy": true,
            "Labels": {"a": "b"}, "DriverConfig": {"Name": "local", "Options": {"o": "x"}}}})
    );
    assert_eq!(
        one("'type=volume,dst=/b,\"volume-opt=o=addr=1,rw\"'"),
        json!({"Type": "volume", "Target": "/b",
            "VolumeOptions": {"DriverConfig": {"Options": {"o": "addr=1,rw"}}}})
    );
    assert_eq!(
        one("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770"),
        json!({"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1_048_576, "Mode": 0o1770}})
    );
    assert_eq!(
        one("type=image,src=busybox,dst=/i,image-subpath=bin"),
        json!({"Type": "image", "Source": "busybox", "Target": "/i", "ImageOptions": {"Subpath": "bin"}})
    );
    assert_eq!(
        one("type=bind,src=/a,dst=/b,ro,bind-recursive=writable")["BindOptions"],
        json!({"ReadOnlyNonRecursive": true})
    );
    for (line, why) in [
        ("type=bind,src=/a", "target is required"),
        ("type=floppy,dst=/a", "no mount type"),
        ("type=bind,src=/a,dst=/b,volume-nocopy", "volume-* doesn't go with type=bind"),
        ("type=bind,src=/a,dst=/b,colour=red", "no key \"colour\""),
        ("type=bind,src=/a,dst=/b,source", "needs a value"),
        ("type=tmpfs,dst=/t,tmpfs-mode=9", "octal"),
        ("type=bind,src=/a,dst=/b,bind-recursive=readonly", "needs readonly"),
    ] {
        assert!(refusal(&format!("--mount {line}")).contains(why), "{line}");
    }
}

#[test]
fn published_ports() {
    let ports = |line: &str| sent(line, &["/ExposedPorts", "/HostConfig/PortBindings"]);
    assert_eq!(ports("-p 80"), json!([{"80/tcp": {}}, {"80/tcp": [{"HostIp": "", "HostPort": ""}]}]));
    assert_eq!(
        ports("-p 127.0.0.1:8080:80/udp"),
        json!([{"80/udp": {}}, {"80/udp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}])
    );
    assert_eq!(
        ports("-p 127.0.0.1::80 -p [::1]:81:80"),
        json!([{"80/tcp": {}}, {"80/tcp": [
            {"HostIp": "127.0.0.1", "HostPort": ""}, {"HostIp": "::1", "HostPort": "81"}]}])
    );
    assert_eq!(
        ports("-p 8000-8001:80-81")[1],
        json!({"80/tcp": [{"HostIp": "", "HostPort": "8000"}], "81/tcp": [{"HostIp": "", "HostPort": "8001"}]})
    );
    assert_eq!(ports("-p 8000-8010:80")[1], json!({"80/tcp": [{"HostIp": "", "HostPort": "8000-8010"}]}));
    assert_eq!(
        ports("-p published=8080,target=80,protocol=udp")[1],
        json!({"80/udp": [{"HostIp": "", "HostPort": "8080"}]})
    );
    assert_eq!(ports("--expose 80 --expose 90-91/UDP")[0], json!({"80/tcp": {}, "90/udp": {}, "91/udp": {}}));
    assert_eq!(host("-P", "PublishAllPorts"), json!(true));
    for line in [
        "-p 99999:80",
        "-p 80-82:80-81",
        "-p x:80",
        "-p 1.2.3:80:80",
        "-p 80/foo",
        "-p 8080:",
        "-p [::1:80",
        "--expose a",
        "--expose 80:90",
        "-p 82-80:1-3",
        "-p +80:80",
    ] {
        assert!(request(line).is_err(), "{line}");
    }
}

#[test]
fn networks() {
    let all = ["/HostConfig/NetworkMode", "/NetworkingConfig/EndpointsConfig"];
    assert_eq!(sent("--network host", &all), json!(["host", {}]));
    assert_eq!(sent("--net container:abc", &all), json!(["container:abc", {}]));
    let endpoint = |line: &str, name: &str, field: &str| {
        sent(line, &[&format!("/NetworkingConfig/EndpointsConfig/{name}/{field}")])[0].clone()
    };
    assert_eq!(
        endpoint("--network lan --network-alias a --network-alias b", "lan", "Aliases"),
        json!(["a", "b"])
    );
    let long =
        "--network name=lan,alias=x,ip=10.0.0.1,driver-opt=a=b,mac-address=02-42-AC-11-00-02,gw-priority=5";
    assert_eq!(endpoint(long, "lan", "Aliases"), json!(["x"]));
    assert_eq!(endpoint(long, "lan", "IPAMConfig"), json!({"IPv4Address": "10.0.0.1"}));
    assert_eq!(endpoint(long, "lan", "MacAddress"), json!("02:42:ac:11:00:02"));
    assert_eq!(endpoint(long, "lan", "DriverOpts"), json!({"a": "b"}));
    assert_eq!(endpoint(long, "lan", "GwPriority"), json!(5));
    assert_eq!(
        endpoint("--mac-address 02:42:ac:11:00:02", "default", "MacAddress"),
        json!("02:42:ac:11:00:02")
    );
    assert_eq!(
        endpoint("--ip 10.0.0.2 --ip6 2001:db8::1 --network lan", "lan", "IPAMConfig"),
        json!({"IPv4Address": "10.0.0.2", "IPv6Address": "2001:db8::1"})
    );
    assert_eq!(
        endpoint("--link db:store --link web --network lan", "lan", "Links"),
        json!(["db:store", "web"])
    );
    assert_eq!(host("--link db:store", "Links"), json!(["db:store"]));
    for (line, why) in [
        ("--network a --network host", "doesn't go with"),
        ("--network a --network a", "given twice"),
        ("--network name=a,alias=x --network-alias y", "exclude each other"),
        ("--network name=a,ip=1.2", "no IP address"),
        ("--network ip=1.2.3.4", "name=… is required"),
        ("--mac-address foo", "no MAC address"),
    ] {
        assert!(refusal(line).contains(why), "{line}: {}", refusal(line));
    }
}

#[test]
fn name_resolution() {
    assert_eq!(
        host(
            "--add-host a:1.2.3.4 --add-host b=::1 --add-host c:host-gateway --add-host d:[::2]",
            "ExtraHosts"
        ),
        json!(["a:1.2.3.4", "b:::1", "c:host-gateway", "d:::2"])
    );
    let all = ["/HostConfig/Dns", "/HostConfig/DnsSearch", "/HostConfig/DnsOptions"];
    assert_eq!(
        sent("--dns 1.1.1.1 --dns-search lan --dns-option ndots:1", &all),
        json!([["1.1.1.1"], ["lan"], ["ndots:1"]])
    );
    for line in ["--add-host a", "--add-host a:b", "--add-host :1.2.3.4", "--dns x"] {
        assert!(request(line).is_err(), "{line}");
    }
}

#[test]
fn memory_and_cpus() {
    let memory = [
        "/HostConfig/Memory",
        "/HostConfig/MemorySwap",
        "/HostConfig/MemoryReservation",
        "/HostConfig/MemorySwappiness",
    ];
    assert_eq!(
        sent("-m 512m --memory-swap 1g --memory-reservation 100m --memory-swappiness 10", &memory),
        json!([536_870_912, 1_073_741_824, 104_857_600, 10])
    );
    assert_eq!(host("--memory-swap -1", "MemorySwap"), json!(-1));
    assert_eq!(host("--cpus 1.5", "NanoCpus"), json!(1_500_000_000));
    assert_eq!(host("-c 10", "CpuShares"), json!(10));
    assert_eq!(
        sent("--cpuset-cpus 0-1 --cpuset-mems 0", &["/HostConfig/CpusetCpus", "/HostConfig/CpusetMems"]),
        json!(["0-1", "0"])
    );
    assert_eq!(host("--pids-limit -1", "PidsLimit"), json!(-1));
    assert_eq!(host("--oom-score-adj -500", "OomScoreAdj"), json!(-500));
    assert_eq!(host("--oom-kill-disable", "OomKillDisable"), json!(true));
    for line in ["-m abc", "--cpus x", "--memory-swappiness 101", "--pids-limit x"] {
        assert!(request(line).is_err(), "{line}");
    }
}

#[test]
fn limits_and_block_devices() {
    assert_eq!(
        host("--ulimit nofile=1024:2048 --ulimit core=-1 --ulimit nproc=5", "Ulimits"),
        json!([
            {"Name": "core", "Hard": -1, "Soft": -1},
            {"Name": "nofile", "Hard": 2048, "Soft": 1024},
            {"Name": "nproc", "Hard": 5, "Soft": 5}
        ])
    );
    assert_eq!(host("--blkio-weight 300", "BlkioWeight"), json!(300));
    assert_eq!(
        host("--blkio-weight-device /dev/sda:200", "BlkioWeightDevice"),
        json!([{"Path": "/dev/sda", "Weight": 200}])
    );
    assert_eq!(
        host("--device-read-bps /dev/sda:1mb", "BlkioDeviceReadBps"),
        json!([{"Path": "/dev/sda", "Rate": 1_048_576}])
    );
    assert_eq!(
        host("--device-write-iops /dev/sda:10", "BlkioDeviceWriteIOps"),
        json!([{"Path": "/dev/sda", "Rate": 10}])
    );
    for line in [
        "--ulimit foo=1",
        "--ulimit nofile=5:2",
        "--ulimit nofile=-1:5",
        "--blkio-weight-device x",
        "--blkio-weight-device /dev/a:5",
        "--device-read-bps sda:1",
    ] {
        assert!(request(line).is_err(), "{line}");
    }
}

#[test]
fn devices() {
    let device = |host: &str, container: &str, access: &str| json!({"PathOnHost": host, "PathInContainer": container, "CgroupPermissions": access});
    assert_eq!(
        host("--device /dev/a --device /dev/b:/dev/c --device /dev/d:r --device /dev/e:/dev/f:rw", "Devices"),
        json!([
            device("/dev/a", "/dev/a", "rwm"),
            device("/dev/b", "/dev/c", "rwm"),
            device("/dev/d", "/dev/d", "r"),
            device("/dev/e", "/dev/f", "rw")
        ])
    );
    assert_eq!(host("--device-cgroup-rule 'c 1:* rwm'", "DeviceCgroupRules"), json!(["c 1:* rwm"]));
    assert_eq!(host("--device vendor.com/class=dev", "DeviceRequests")[0]["Driver"], json!("cdi"));
    for line in
        ["--device /dev/a:/dev/b:x", "--device-cgroup-rule 'd 1:1 r'", "--device-cgroup-rule x", "--gpus all"]
    {
        assert!(request(line).is_err(), "{line}");
    }
}

#[test]
fn security() {
    let all = ["/HostConfig/CapAdd", "/HostConfig/CapDrop", "/HostConfig/Privileged"];
    assert_eq!(
        sent("--cap-add net_admin --cap-add CAP_SYS_TIME --cap-drop all --privileged", &all),
        json!([["CAP_NET_ADMIN", "CAP_SYS_TIME"], ["ALL"], true])
    );
    assert_eq!(
        host(
            "--security-opt no-new-privileges --security-opt seccomp=unconfined --security-opt label:disable",
            "SecurityOpt"
        ),
        json!(["no-new-privileges", "seccomp=unconfined", "label:disable"])
    );
    assert_eq!(
        host("--security-opt seccomp=profile", "SecurityOpt"),
        json!(["seccomp={\"defaultAction\":\"A B\"}"])
    );
    assert_eq!(sent("", &["/HostConfig/MaskedPaths"]), json!([null]));
    assert_eq!(
        sent(
            "--security-opt systempaths=unconfined",
            &["/HostConfig/MaskedPaths", "/HostConfig/ReadonlyPaths"]
        ),
        json!([[], []])
    );
    let modes = [
        "/HostConfig/IpcMode",
        "/HostConfig/PidMode",
        "/HostConfig/UTSMode",
        "/HostConfig/UsernsMode",
        "/HostConfig/CgroupnsMode",
    ];
    assert_eq!(
        sent("--ipc shareable --pid container:x --uts host --userns host --cgroupns private", &modes),
        json!(["shareable", "container:x", "host", "host", "private"])
    );
    assert_eq!(host("--sysctl net.core.somaxconn=5", "Sysctls"), json!({"net.core.somaxconn": "5"}));
    for line in [
        "--security-opt foo",
        "--security-opt seccomp=gone",
        "--security-opt seccomp=vars",
        "--pid foo",
        "--pid container:",
        "--uts foo",
        "--cgroupns foo",
        "--sysctl a",
    ] {
        assert!(request(line).is_err(), "{line}");
    }
}

#[test]
fn lifecycle() {
    assert_eq!(
        host("--restart on-failure:3", "RestartPolicy"),
        json!({"Name": "on-failure", "MaximumRetryCount": 3})
    );
    assert_eq!(host("--restart always", "RestartPolicy"), json!({"Name": "always", "MaximumRetryCount": 0}));
    assert_eq!(host("--rm", "AutoRemove"), json!(true));
    assert_eq!(host("--isolation hyperv", "Isolation"), json!("hyperv"));
    assert_eq!(host("--isolation kernel", "Isolation"), json!("process"));
    assert_eq!(host("--storage-opt size=10G", "StorageOpt"), json!({"size": "10G"}));
    assert_eq!(host("--runtime x --cgroup-parent /y", "Runtime"), json!("x"));
    for line in [
        "--rm --restart always",
        "--restart foo",
        "--restart always:3",
        "--restart on-failure:x",
        "--isolation jail",
        "--pull sometimes",
    ] {
        assert!(request(line).is_err(), "{line}");
    }
}

#[test]
fn logs_and_health() {
    assert_eq!(
        host("--log-driver json-file --log-opt max-size=1m", "LogConfig"),
        json!({"Type": "json-file", "Config": {"max-size": "1m"}})
    );
    assert_eq!(
        config(
            "--health-cmd 'curl x' --health-interval 30s --health-timeout 1m30s --health-retries 3 --health-start-period 5s",
            "Healthcheck"
        ),
        json!({"Test": ["CMD-SHELL", "curl x"], "Interval": 30_000_000_000i64, "Timeout": 90_000_000_000i64,
            "StartPeriod": 5_000_000_000i64, "Retries": 3})
    );
    assert_eq!(config("--health-on-failure kill", "Labels"), json!({"com.corten.health-on-failure": "kill"}));
    assert_eq!(config("--no-healthcheck", "Healthcheck"), json!({"Test": ["NONE"]}));
    assert_eq!(config("", "Healthcheck"), Value::Null);
    for line in [
        "--no-healthcheck --health-cmd x",
        "--health-on-failure explode",
        "--health-interval -1s",
        "--health-timeout 5",
        "--log-driver none --log-opt a=b",
    ] {
        assert!(request(line).is_err(), "{line}");
    }
}
