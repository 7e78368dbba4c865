use super::*;
use crate::shape::event::Framing;
use corten_api::container::{ContainerCreateRequest, ContainerInspect, ContainerSummary, HealthSummary};
use corten_api::disk::{DiskUsage, KindUsage};
use corten_api::event::EventMessage;
use corten_api::image::{Descriptor, ImageInspect, ImageSummary};
use corten_api::json;
use corten_api::mount::{BindOptions, Mount, VolumeOptions};
use corten_api::network::{EndpointSettings, NetworkInspect, NetworkStatus};
use corten_api::system::{Runtime, SystemInfo};
use serde_json::json;

fn v(minor: u32) -> ApiVersion {
    ApiVersion::new(1, minor)
}

fn request(text: &str) -> ContainerCreateRequest {
    json::from_str(text).unwrap()
}

/// People read them, and so do scripts that should not.
#[test]
fn answers_have_their_fields_in_docker_s_order() {
    for minor in [24, 50, 55] {
        let text = container::inspect(ContainerInspect::default(), v(minor)).to_string();
        assert!(text.starts_with(r#"{"Id":"","Created":"#), "{text}");
        let order =
            ["\"State\":{\"Status\"", "\"HostConfig\":", "\"Config\":{\"Hostname\"", "\"NetworkSettings\":"];
        let places: Vec<_> = order.iter().map(|part| text.find(part)).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} {text}");
    }
}

#[test]
fn a_list_of_containers_has_what_its_version_knows() {
    let full = || {
        let mut container = ContainerSummary {
            health: Some(HealthSummary::default()),
            image_manifest_descriptor: Some(Descriptor::default()),
            ..Default::default()
        };
        container.host_config.annotations.insert("a".into(), "b".into());
        [container]
    };
    for (minor, annotations, descriptor, health) in
        [(45, false, false, false), (46, true, false, false), (48, true, true, false), (52, true, true, true)]
    {
        let mut list = full();
        container::list(&mut list, v(minor));
        let [c] = list;
        let has = (
            !c.host_config.annotations.is_empty(),
            c.image_manifest_descriptor.is_some(),
            c.health.is_some(),
        );
        assert_eq!(has, (annotations, descriptor, health), "1.{minor}");
    }
}

#[test]
fn old_fields_of_inspect_end_with_1_52() {
    let full = || {
        let mut container = ContainerInspect { id: "0123456789abcdef".into(), ..Default::default() };
        container.config.hostname = "host".into();
        container.config.mac_address = "02:00:00:00:00:01".into();
        let endpoint = EndpointSettings { aliases: vec!["web".to_owned()].into(), ..Default::default() };
        container.network_settings.networks =
            [("mine", endpoint.clone()), ("bridge", endpoint)].into_iter().collect();
        container
    };
    let old = container::inspect(full(), v(51));
    assert_eq!(old["NetworkSettings"]["IPAddress"], "");
    assert_eq!(old["Config"]["OnBuild"], Value::Null);
    assert_eq!(old["Config"]["MacAddress"], "02:00:00:00:00:01");
    let new = container::inspect(full(), v(52));
    assert!(
        new["NetworkSettings"].get("IPAddress").is_none() && new["NetworkSettings"].get("Bridge").is_none()
    );
    assert!(new["NetworkSettings"]["Networks"]["bridge"].get("IPAddress").is_some());
    assert!(new["Config"].get("OnBuild").is_none() && new["Config"].get("MacAddress").is_none());
    let aliases = |minor: u32, network: &str| {
        container::inspect(full(), v(minor))["NetworkSettings"]["Networks"][network]["Aliases"].clone()
    };
    assert_eq!(aliases(44, "mine"), json!(["web", "0123456789ab", "host"]));
    assert_eq!(aliases(44, "bridge"), json!(["web"]));
    assert_eq!(aliases(45, "mine"), json!(["web"]));
}

#[test]
fn an_images_empty_fields_come_and_go() {
    let bare = || ImageInspect { config: Some(Default::default()), size: 7, ..Default::default() };
    let of = |minor: u32| image::inspect(bare(), v(minor));
    assert_eq!(of(52)["Config"], json!({}));
    assert!(of(52).get("Author").is_none() && of(51)["Author"] == "");
    assert_eq!(of(51)["Config"]["Env"], Value::Null);
    assert!(of(51)["Config"].get("Hostname").is_none());
    assert!(of(49)["Config"]["Hostname"] == "" && of(49)["Config"]["Tty"] == false);
    assert!(of(45).get("ContainerConfig").is_none() && of(44)["ContainerConfig"]["Cmd"] == Value::Null);
    assert!(of(44).get("VirtualSize").is_none() && of(44).get("Created").is_none());
    assert!(of(43)["VirtualSize"] == 7 && of(43)["Created"] == "0001-01-01T00:00:00Z");
    let kept = image::inspect(ImageInspect { author: "me".into(), ..bare() }, v(55));
    assert_eq!(kept["Author"], "me");
}

#[test]
fn a_list_of_images_counts_and_names_by_version() {
    let of = |minor: u32| {
        let mut list = [ImageSummary { containers: 3, size: 9, ..Default::default() }];
        image::list(&mut list, v(minor));
        let [image] = list;
        (image.containers, image.virtual_size, image.repo_tags.into_vec())
    };
    assert_eq!(of(42), (-1, 9, vec!["<none>:<none>".to_owned()]));
    assert_eq!(of(43), (-1, 9, vec![]));
    assert_eq!(of(50), (-1, 0, vec![]));
    assert_eq!(of(51), (3, 0, vec![]));
}

#[test]
fn networks_tell_their_use_since_1_52() {
    let network = || NetworkInspect { status: Some(NetworkStatus::default()), ..Default::default() };
    assert!(network::inspect(network(), v(51)).status.is_none());
    assert!(network::inspect(network(), v(52)).status.is_some());
    let list = |minor: u32| network::list(vec![network()], v(minor))[0].clone();
    assert!(list(51).get("Containers").is_some() && list(52).get("Containers").is_none());
    assert!(list(51).get("Status").is_none() && list(52).get("Status").is_none());
}

#[test]
fn info_has_the_fields_of_its_version() {
    let info = || {
        let runtime = Runtime { status: [("k", "v".to_owned())].into_iter().collect(), ..Default::default() };
        SystemInfo {
            runtimes: [("corten", runtime)].into_iter().collect(),
            firewall_backend: Some(Default::default()),
            security_options: vec!["name=seccomp,profile=builtin".to_owned()].into(),
            ..Default::default()
        }
    };
    let of = |minor: u32| system::info(info(), v(minor));
    assert_eq!(of(24)["SecurityOptions"], json!(["seccomp"]));
    assert_eq!(of(24)["ExecutionDriver"], "<not supported>");
    assert_eq!(of(25)["SecurityOptions"], json!(["name=seccomp,profile=builtin"]));
    assert!(of(43)["Runtimes"]["corten"].get("status").is_none());
    assert!(of(44)["Runtimes"]["corten"].get("status").is_some());
    assert!(of(46)["RegistryConfig"].get("AllowNondistributableArtifactsCIDRs").is_some());
    assert!(of(47)["RegistryConfig"].get("AllowNondistributableArtifactsCIDRs").is_none());
    assert!(of(48)["RuncCommit"].get("Expected").is_some() && of(49)["RuncCommit"].get("Expected").is_none());
    assert!(of(48).get("FirewallBackend").is_none() && of(49).get("FirewallBackend").is_some());
    assert!(of(49).get("BridgeNfIptables").is_some() && of(50).get("BridgeNfIptables").is_none());
}

#[test]
fn events_are_framed_as_accepted() {
    let of = |accept: &str, minor: u32| event::content_type(accept, v(minor));
    assert_eq!(of("", 51), ("application/json", Framing::Lines));
    assert_eq!(of("*/*", 52), ("application/jsonl", Framing::Lines));
    assert_eq!(of("application/json-seq", 24), ("application/json-seq", Framing::Sequence));
    assert_eq!(of("application/json-seq;q=0.5, application/x-ndjson", 52).0, "application/x-ndjson");
    assert_eq!(of("application/json-seq;q=0, text/plain", 52).0, "application/jsonl");

    let start = EventMessage { kind: "container".into(), action: "start".into(), ..Default::default() };
    let text = |event: &EventMessage, framing, minor| {
        event::line(event.clone(), framing, v(minor)).map(|line| String::from_utf8(line.unwrap()).unwrap())
    };
    assert!(text(&start, Framing::Lines, 51).unwrap().contains(r#""status":"start""#));
    assert!(!text(&start, Framing::Lines, 52).unwrap().contains("status"));
    assert!(text(&start, Framing::Sequence, 52).unwrap().starts_with("\u{1e}{"));
    let created = EventMessage { kind: "image".into(), action: "create".into(), ..Default::default() };
    assert!(text(&created, Framing::Lines, 45).is_none() && text(&created, Framing::Lines, 46).is_some());
}

#[test]
fn requests_of_older_clients_lose_what_they_could_not_say() {
    let full = r#"{"HostConfig": {"AutoRemove": true, "ConsoleSize": [24, 80], "Annotations": {"a": "b"},
        "KernelMemoryTCP": 1}, "Healthcheck": {"StartInterval": 5}}"#;
    let of = |minor: u32| {
        let mut asked = request(full);
        request::create(&mut asked, v(minor)).unwrap();
        asked
    };
    assert!(!of(24).host_config.auto_remove && of(25).host_config.auto_remove);
    assert!(of(39).host_config.ipc_mode == "shareable" && of(40).host_config.ipc_mode.is_empty());
    assert!(of(41).host_config.console_size == [0, 0] && of(42).host_config.console_size == [24, 80]);
    assert!(of(42).host_config.annotations.is_empty() && !of(43).host_config.annotations.is_empty());
    assert!(of(43).config.healthcheck.unwrap().start_interval == 0);
    assert!(of(43).read_only_non_recursive && !of(44).read_only_non_recursive);
    assert!(of(51).host_config.kernel_memory_tcp == 1 && of(52).host_config.kernel_memory_tcp == 0);
    let set = r#"{"HostConfig": {"Capabilities": ["CHOWN"]}}"#;
    assert!(request::create(&mut request(set), v(40)).is_err());
    assert!(request::create(&mut request(set), v(41)).is_ok());
}

#[test]
fn mounts_need_the_version_that_brought_them() {
    let refused = |mount: &Mount, minor: u32| {
        let mut asked = ContainerCreateRequest::default();
        asked.host_config.mounts = vec![mount.clone()].into();
        request::create(&mut asked, v(minor)).err().map(|e| e.message)
    };
    let image = Mount { kind: "image".into(), ..Default::default() };
    assert_eq!(refused(&image, 47).unwrap(), "Mount type \"Image\" needs API v1.48 or newer");
    assert!(refused(&image, 48).is_none());
    let options = VolumeOptions { subpath: "x".into(), ..Default::default() };
    let subpath = Mount { kind: "volume".into(), volume_options: Some(options), ..Default::default() };
    assert!(refused(&subpath, 44).is_some() && refused(&subpath, 45).is_none());
    let strange =
        Mount { kind: "tmpfs".into(), bind_options: Some(BindOptions::default()), ..Default::default() };
    assert_eq!(refused(&strange, 42).unwrap(), "BindOptions must not be specified on mount type \"tmpfs\"");
    assert!(refused(&strange, 41).is_none());
}

#[test]
fn the_mac_address_moves_from_the_container_to_its_endpoints() {
    let both = r#"{"MacAddress": "02:00:00:00:00:01", "HostConfig": {"NetworkMode": "mine"},
        "NetworkingConfig": {"EndpointsConfig": {"mine": {"MacAddress": "02:00:00:00:00:02", "GwPriority": 3}}}}"#;
    let of = |minor: u32| {
        let mut asked = request(both);
        request::create(&mut asked, v(minor)).map(|warnings| (asked, warnings))
    };
    let (old, warnings) = of(43).unwrap();
    let endpoint = &old.networking_config.endpoints_config["mine"];
    assert!(endpoint.mac_address.is_empty() && endpoint.gw_priority == 0 && warnings.is_empty());
    assert_eq!(old.config.mac_address, "02:00:00:00:00:01");
    assert!(of(44).unwrap_err().message.contains("must match"));
    let (new, warnings) = of(52).unwrap();
    assert!(new.config.mac_address.is_empty() && warnings.len() == 1);
    assert_eq!(new.networking_config.endpoints_config["mine"].gw_priority, 3);

    let two = r#"{"NetworkingConfig": {"EndpointsConfig": {"a": {}, "b": {}}}}"#;
    assert!(request::create(&mut request(two), v(43)).is_err());
    assert!(request::create(&mut request(two), v(44)).is_ok());
}

#[test]
fn empty_port_bindings_mean_any_port() {
    let mut asked = request(r#"{"HostConfig": {"PortBindings": {"80/tcp": []}}}"#);
    assert!(request::create(&mut asked.clone(), v(51)).unwrap().is_empty());
    let warnings = request::create(&mut asked, v(52)).unwrap();
    assert!(warnings[0].contains("empty list of port-bindings: 80/tcp"), "{warnings:?}");
    assert_eq!(asked.host_config.port_bindings["80/tcp"].len(), 1);
}

#[test]
fn disk_usage_has_two_shapes_and_one_version_both() {
    let full = || {
        let items = vec![ImageSummary { size: 9, containers: 2, ..Default::default() }].into();
        let images = KindUsage { total_count: 1, total_size: 9, items, ..Default::default() };
        DiskUsage {
            image_usage: Some(images),
            volume_usage: Some(KindUsage::default()),
            ..Default::default()
        }
    };
    let of = |verbose: bool, minor: u32| disk::usage(full(), verbose, v(minor));
    let old = of(false, 51);
    assert!(old["LayersSize"] == 9 && old["Images"][0]["Size"] == 9 && old["Volumes"] == json!([]));
    assert!(old.get("ImageUsage").is_none() && old.get("Containers").is_none());
    assert!(of(true, 51).get("Images").is_some(), "nobody knew the word");
    assert_eq!(of(false, 43)["Images"][0]["VirtualSize"], 9);
    assert_eq!(of(false, 43)["Images"][0]["Containers"], 2);
    let both = of(false, 52);
    assert!(both["ImageUsage"] == json!({"TotalCount": 1, "TotalSize": 9}) && both["Images"][0]["Size"] == 9);
    let new = of(true, 55);
    assert!(new["ImageUsage"]["Items"][0]["Size"] == 9 && new["VolumeUsage"] == json!({}));
    assert!(new.get("Images").is_none() && new.get("LayersSize").is_none());
}
