use super::*;
use crate::container::{
    ContainerConfig, ContainerCreateRequest, ContainerInspect, ContainerState, HostConfig,
};
use crate::image::ImageConfig;
use crate::network::PortMap;
use serde_json::{Value, json, to_value};

/// What the docker CLI 28 sends for `docker create -p 8080:80 busybox echo hi`, abridged where it repeats itself.
const CREATE: &str = r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":true,
"AttachStderr":true,"ExposedPorts":{"80/tcp":{}},"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,
"Cmd":["echo","hi"],"Image":"busybox","Volumes":{},"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":{},
"HostConfig":{"Binds":null,"ContainerIDFile":"","LogConfig":{"Type":"","Config":{}},"NetworkMode":"default",
"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}],"81/tcp":null},"RestartPolicy":{"Name":"no","MaximumRetryCount":0},
"ConsoleSize":[0,0],"CapAdd":null,"CapDrop":"ALL","Dns":[],"DnsOptions":[],"MemorySwappiness":-1,
"OomKillDisable":null,"Ulimits":null,"MaskedPaths":null,"ReadonlyPaths":[],"SomethingNew":{"a":[1]}},
"NetworkingConfig":{"EndpointsConfig":{"default":{"IPAMConfig":null,"Links":null,"MacAddress":"","GwPriority":0}}}}"#;

#[test]
fn reads_what_the_docker_cli_sends() {
    let request: ContainerCreateRequest = from_str(CREATE).unwrap();
    assert_eq!(*request.config.cmd, ["echo", "hi"]);
    assert!(
        request.config.entrypoint.is_nil() && request.config.env.is_nil() && !request.config.volumes.is_nil()
    );
    let host = &request.host_config;
    assert_eq!(*host.cap_drop, ["ALL"]);
    assert_eq!(host.memory_swappiness, Some(-1));
    assert_eq!(host.port_bindings["80/tcp"][0].host_port, "8080");
    assert!(host.port_bindings["81/tcp"].is_nil());
    assert!(host.masked_paths.is_nil() && !host.readonly_paths.is_nil());
    assert_eq!(request.networking_config.endpoints_config.len(), 1);
    let written = serde_json::to_string(&request).unwrap();
    assert_eq!(from_str::<ContainerCreateRequest>(&written).unwrap(), request);
}

#[test]
fn null_is_zero_everywhere() {
    let request: ContainerCreateRequest = from_str(
        r#"{"Hostname":null,"Tty":null,"Cmd":null,"StopTimeout":null,"HostConfig":{"Memory":null,"ConsoleSize":null,
        "RestartPolicy":null,"LogConfig":{"Type":null,"Config":null},"Ulimits":[null]},"NetworkingConfig":null}"#,
    )
    .unwrap();
    assert_eq!(request.host_config.ulimits.len(), 1);
    let empty = ContainerCreateRequest {
        host_config: HostConfig { ulimits: vec![Default::default()].into(), ..Default::default() },
        ..Default::default()
    };
    assert_eq!(request, empty);
}

#[test]
fn a_wrong_type_is_an_error() {
    assert!(from_str::<ContainerConfig>(r#"{"Tty":"yes"}"#).is_err());
    assert!(from_str::<ContainerConfig>(r#"{"Env":{}}"#).is_err());
    assert!(from_str::<ContainerConfig>(r#"{} trailing"#).is_err());
    let runtime = |text: &str| from_str::<ContainerCreateRequest>(text).unwrap().host_config.runtime;
    assert_eq!(runtime(r#"{"Runtime":"runc","HostConfig":{"Memory":1}}"#), "runc");
    assert_eq!(runtime(r#"{"Runtime":"runc","HostConfig":{"Runtime":"crun"}}"#), "crun");
    assert_eq!(runtime(r#"{"Runtime":null,"HostConfig":null}"#), "");
    assert!(from_str::<ContainerCreateRequest>(r#"{"HostConfig":{"Memory":"1g"}}"#).is_err());
}

#[test]
fn writes_nil_and_empty_as_go_does() {
    let config = to_value(ContainerConfig { cmd: List::empty(), ..Default::default() }).unwrap();
    assert_eq!(config["Env"], Value::Null);
    assert_eq!(config["Cmd"], json!([]));
    assert_eq!(config["Volumes"], Value::Null);
    for absent in ["ExposedPorts", "Healthcheck", "Shell", "StopSignal", "StopTimeout", "MacAddress"] {
        assert!(config.get(absent).is_none(), "{absent}");
    }
    let ports: PortMap = [("80/tcp", List::default()), ("81/tcp", List::empty())].into_iter().collect();
    assert_eq!(to_value(ports).unwrap(), json!({"80/tcp": null, "81/tcp": []}));
    assert_eq!(to_value(ImageConfig::default()).unwrap(), json!({}));
}

#[test]
fn names_are_spelt_as_docker_spells_them() {
    let host = to_value(HostConfig::default()).unwrap();
    let names = "Binds ContainerIDFile LogConfig NetworkMode PortBindings RestartPolicy AutoRemove VolumeDriver \
        VolumesFrom ConsoleSize CapAdd CapDrop CgroupnsMode Dns DnsOptions DnsSearch ExtraHosts GroupAdd IpcMode Cgroup \
        Links OomScoreAdj PidMode Privileged PublishAllPorts ReadonlyRootfs SecurityOpt UTSMode UsernsMode ShmSize \
        Isolation CpuShares Memory NanoCpus CgroupParent BlkioWeight BlkioWeightDevice BlkioDeviceReadBps \
        BlkioDeviceWriteBps BlkioDeviceReadIOps BlkioDeviceWriteIOps CpuPeriod CpuQuota CpuRealtimePeriod \
        CpuRealtimeRuntime CpusetCpus CpusetMems Devices DeviceCgroupRules DeviceRequests MemoryReservation MemorySwap \
        MemorySwappiness OomKillDisable PidsLimit Ulimits CpuCount CpuPercent IOMaximumIOps IOMaximumBandwidth \
        MaskedPaths ReadonlyPaths"
        .split_whitespace()
        .collect::<std::collections::BTreeSet<_>>();
    assert_eq!(
        host.as_object().unwrap().keys().map(String::as_str).collect::<std::collections::BTreeSet<_>>(),
        names
    );
    let inspect = to_value(ContainerInspect::default()).unwrap();
    for name in ["Id", "ExecIDs", "AppArmorProfile", "ResolvConfPath", "NetworkSettings", "GraphDriver"] {
        assert!(inspect.get(name).is_some(), "{name}");
    }
    assert_eq!(
        to_value(ContainerState::default()).unwrap(),
        json!({"Status": "", "Running": false, "Paused": false, "Restarting": false, "OOMKilled": false, "Dead": false,
            "Pid": 0, "ExitCode": 0, "Error": "", "StartedAt": "0001-01-01T00:00:00Z", "FinishedAt": "0001-01-01T00:00:00Z"})
    );
}
