//! The API by curl: statuses, and answers that our types describe completely.

use corten_api::container::{
    ContainerCreateResponse, ContainerInspect, ContainerSummary, TopResponse, WaitResponse,
};
use corten_api::error::ErrorResponse;
use corten_api::event::EventMessage;
use corten_api::exec::{ExecCreateResponse, ExecInspect};
use corten_api::image::{ImageHistory, ImageInspect, ImageSummary};
use corten_api::network::NetworkInspect;
use corten_api::system::{SystemInfo, SystemVersion};
use corten_api::volume::{Volume, VolumeList, VolumesPruneReport};
use corten_tests::TestEngine;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Status and body.
fn call(engine: &TestEngine, method: &str, path: &str, body: Option<&Value>) -> (u16, String) {
    let text = body.map(Value::to_string).unwrap_or_default();
    let mut arguments = vec!["-X", method, "-w", "\n%{http_code}"];
    if body.is_some() {
        arguments.extend(["-H", "Content-Type: application/json", "-d", &text]);
    }
    let output = engine.curl(&arguments, path).ok();
    let (body, status) = output.rsplit_once('\n').expect("body and status");
    (status.parse().expect("a status"), body.to_owned())
}

fn get(engine: &TestEngine, path: &str) -> Value {
    let (status, body) = call(engine, "GET", path, None);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
}

/// The answer is what our type says, without a rest.
fn is<T: DeserializeOwned + Serialize>(answer: &Value) -> T {
    let typed: T = corten_api::json::from_str(&answer.to_string()).expect("the type reads the answer");
    assert_eq!(&serde_json::to_value(&typed).expect("JSON"), answer);
    typed
}

fn created(engine: &TestEngine, name: &str, command: &[&str]) -> String {
    let body = json!({"Image": "busybox", "Cmd": command, "HostConfig": {"NetworkMode": "none"}});
    let (status, answer) =
        call(engine, "POST", &format!("/v1.41/containers/create?name={name}"), Some(&body));
    assert_eq!(status, 201, "{answer}");
    is::<ContainerCreateResponse>(&serde_json::from_str(&answer).expect("JSON")).id
}

/// As people write it by hand: `curl -g …?filters={"status":["exited"]}`.
#[test]
fn filters_need_no_escaping() {
    let engine = TestEngine::with_busybox();
    created(&engine, "made", &["true"]);
    for (status, found) in [("created", 1), ("running", 0)] {
        let path = format!(r#"/v1.41/containers/json?all=1&filters={{"status":["{status}"]}}"#);
        let output = engine.curl(&["-g", "--fail-with-body"], &path).ok();
        let list: Vec<ContainerSummary> = serde_json::from_str(&output).expect("a list");
        assert_eq!(list.len(), found, "{status}");
    }
}

#[test]
fn answers_are_what_the_types_say() {
    let engine = TestEngine::with_busybox();
    is::<SystemVersion>(&get(&engine, "/version"));
    is::<SystemInfo>(&get(&engine, "/v1.50/info"));
    is::<Vec<ImageSummary>>(&get(&engine, "/images/json"));
    is::<ImageInspect>(&get(&engine, "/images/busybox/json"));
    is::<Vec<ImageHistory>>(&get(&engine, "/images/busybox/history"));
    for network in is::<Vec<NetworkInspect>>(&get(&engine, "/v1.51/networks")) {
        is::<NetworkInspect>(&get(&engine, &format!("/v1.51/networks/{}", network.name)));
    }
    let id = created(&engine, "typed", &["sleep", "1000"]);
    is::<ContainerInspect>(&get(&engine, "/v1.51/containers/typed/json?size=1"));
    assert_eq!(call(&engine, "POST", "/containers/typed/start", None).0, 204);
    let inspect: ContainerInspect = is(&get(&engine, "/v1.51/containers/typed/json"));
    assert!(inspect.state.running && inspect.id == id);
    is::<Vec<ContainerSummary>>(&get(&engine, "/containers/json?all=1&size=1"));
    is::<TopResponse>(&get(&engine, "/containers/typed/top"));
    let (_, exec) = call(&engine, "POST", "/containers/typed/exec", Some(&json!({"Cmd": ["true"]})));
    let exec: ExecCreateResponse = is(&serde_json::from_str(&exec).expect("JSON"));
    is::<ExecInspect>(&get(&engine, &format!("/exec/{}/json", exec.id)));
    let (status, volume) = call(&engine, "POST", "/volumes/create", Some(&json!({"Name": "typed"})));
    assert_eq!(status, 201);
    is::<Volume>(&serde_json::from_str(&volume).expect("JSON"));
    is::<VolumeList>(&get(&engine, "/volumes"));
    let (_, pruned) = call(&engine, "POST", "/v1.41/volumes/prune", None);
    let pruned: VolumesPruneReport = is(&serde_json::from_str(&pruned).expect("JSON"));
    assert_eq!(pruned.volumes_deleted.as_slice(), ["typed"]);
    let events = engine.curl(&[], "/events?since=1&until=1").ok();
    assert_eq!(events, "");
    let events = engine.curl(
        &["--max-time", "1"],
        "/events?since=1&until=9999999999.5&filters=%7B%22type%22:%5B%22volume%22%5D%7D",
    );
    assert_eq!(events.code, 28, "a stream that goes on until curl has enough");
    for line in events.stdout.lines() {
        is::<EventMessage>(&serde_json::from_str(line).expect("JSON"));
    }
    assert_eq!(events.stdout.lines().count(), 3, "{}", events.stdout);
}

#[test]
fn statuses_are_dockers() {
    let engine = TestEngine::with_busybox();
    created(&engine, "one", &["sleep", "1000"]);
    created(&engine, "two", &["true"]);
    let image = |name: &str| Some(json!({"Image": name, "Cmd": ["true"]}));
    let host = |host: Value| Some(json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": host}));
    let table: Vec<(&str, &str, Option<Value>, u16, &str)> = vec![
        ("GET", "/_ping", None, 200, "OK"),
        ("GET", "/v1.24/version", None, 200, "ApiVersion"),
        ("GET", "/v1.23/version", None, 400, "client version 1.23 is too old"),
        ("GET", "/v1.99/version", None, 400, "client version 1.99 is too new"),
        ("GET", "/nonsense", None, 404, "page not found"),
        ("GET", "/containers/nosuch/json", None, 404, "No such container: nosuch"),
        ("GET", "/containers/json?filters=x", None, 400, ""),
        ("GET", "/containers/json?filters=%7B%22foo%22:%5B%22x%22%5D%7D", None, 400, "filter"),
        ("POST", "/containers/create", None, 400, ""),
        ("POST", "/containers/create", image("nosuch:1"), 404, "No such image: nosuch:1"),
        ("POST", "/containers/create?name=one", image("busybox"), 409, "already in use"),
        ("POST", "/containers/create?name=-", image("busybox"), 400, "Invalid container name"),
        (
            "POST",
            "/containers/create",
            host(json!({"CapAdd": ["NO"]})),
            400,
            "invalid CapAdd: unknown capability",
        ),
        (
            "POST",
            "/containers/create",
            host(json!({"CapDrop": ["NO"]})),
            400,
            "invalid CapDrop: unknown capability",
        ),
        (
            "POST",
            "/containers/create",
            host(json!({"Binds": ["data!:/x"]})),
            400,
            "If you intended to pass a host directory, use absolute path",
        ),
        (
            "POST",
            "/containers/create",
            host(json!({"NetworkMode": "container:nosuch"})),
            400,
            "No such container: nosuch",
        ),
        (
            "POST",
            "/containers/create",
            // A network need not exist before the start.
            host(json!({"NetworkMode": "nosuch"})),
            201,
            "",
        ),
        ("POST", "/containers/create", host(json!({"VolumesFrom": ["nosuch"]})), 400, "No such container"),
        ("POST", "/containers/create", host(json!({"Memory": 4096})), 400, "Minimum memory limit"),
        (
            "POST",
            "/containers/create",
            host(json!({"CpusetCpus": "4000"})),
            400,
            "Requested CPUs are not available",
        ),
        (
            "POST",
            "/containers/create",
            host(json!({"LogConfig": {"Type": "no"}})),
            400,
            "no log driver named 'no'",
        ),
        ("POST", "/containers/one/start", None, 204, ""),
        ("POST", "/containers/one/start", None, 304, ""),
        ("POST", "/containers/one/rename?name=one", None, 400, "same name"),
        ("POST", "/containers/one/rename?name=-", None, 400, "Error when allocating new name: Invalid"),
        ("POST", "/containers/two/rename?name=one", None, 409, "Error when allocating new name: Conflict"),
        ("POST", "/containers/one/kill?signal=NO", None, 400, "invalid signal"),
        ("POST", "/containers/one/resize?h=x&w=1", None, 400, "invalid resize height"),
        ("POST", "/containers/one/unpause", None, 409, "is not paused"),
        ("POST", "/containers/one/pause", None, 204, ""),
        ("POST", "/containers/one/pause", None, 409, "already paused"),
        ("POST", "/containers/one/exec", Some(json!({"Cmd": ["true"]})), 409, "is paused"),
        ("POST", "/containers/one/attach?stream=1", None, 409, "is paused"),
        ("POST", "/containers/one/unpause", None, 204, ""),
        ("POST", "/containers/one/exec", Some(json!({"Cmd": []})), 400, "o exec command specified"),
        ("POST", "/containers/one/wait?condition=x", None, 400, "invalid condition"),
        ("GET", "/containers/one/logs", None, 400, "you must choose at least one stream"),
        ("DELETE", "/containers/one", None, 409, "stop the container before removing"),
        ("POST", "/grpc", None, 400, "no upgrade proto in request"),
        ("POST", "/containers/one/stop?t=0", None, 204, ""),
        ("POST", "/containers/one/stop", None, 304, ""),
        ("POST", "/containers/one/kill", None, 409, "cannot kill container: one: container "),
        ("POST", "/containers/one/wait", None, 200, "137"),
        ("GET", "/containers/one/top", None, 409, "is not running"),
        ("DELETE", "/containers/one", None, 204, ""),
        ("DELETE", "/containers/one", None, 404, "No such container"),
        ("POST", "/exec/nosuch/start", Some(json!({})), 404, "No such exec instance"),
        ("GET", "/exec/nosuch/json", None, 404, "No such exec instance"),
        ("GET", "/images/nosuch/json", None, 404, "No such image"),
        ("POST", "/images/busybox/tag?repo=BAD", None, 400, "invalid reference format"),
        ("POST", "/images/busybox/tag?repo=good", None, 201, ""),
        ("DELETE", "/images/good", None, 200, "Untagged"),
        ("DELETE", "/images/good", None, 404, "No such image"),
        ("POST", "/images/create?fromImage=127.0.0.1:1/x&tag=y", None, 500, "connection refused"),
        ("GET", "/volumes/nosuch", None, 404, "no such volume"),
        ("POST", "/volumes/create", Some(json!({"Name": "-"})), 400, ""),
        ("POST", "/volumes/create", Some(json!({"Driver": "no"})), 404, "error looking up volume plugin no"),
        ("DELETE", "/volumes/nosuch", None, 404, "no such volume"),
        ("DELETE", "/volumes/nosuch?force=1", None, 204, ""),
        ("GET", "/networks/nosuch", None, 404, "network nosuch not found"),
        ("GET", "/swarm", None, 503, "not a swarm manager"),
        ("GET", "/plugins", None, 200, "[]"),
    ];
    for (method, path, body, status, words) in table {
        let (got, answer) = call(&engine, method, path, body.as_ref());
        assert_eq!(got, status, "{method} {path} {body:?}: {answer}");
        assert!(answer.contains(words), "{method} {path} {body:?}: {answer}");
        if status >= 400 {
            is::<ErrorResponse>(&serde_json::from_str(&answer).expect("JSON"));
        }
    }
    let (_, answer) = call(&engine, "POST", "/images/load", Some(&json!("rubbish")));
    assert!(answer.contains("errorDetail"), "{answer}");
}

#[test]
fn a_partner_stays_the_same_under_another_name() {
    let engine = TestEngine::with_busybox();
    let partner = created(&engine, "partner", &["sleep", "1000"]);
    let body = json!({
        "Image": "busybox", "Cmd": ["true"], "Volumes": {}, "HostConfig": {"NetworkMode": "container:partner"}
    });
    let (status, answer) = call(&engine, "POST", "/containers/create?name=guest", Some(&body));
    assert_eq!(status, 201, "{answer}");
    let guest = get(&engine, "/containers/guest/json");
    assert_eq!(guest["HostConfig"]["NetworkMode"], format!("container:{partner}"));
    assert_eq!(guest["Config"]["Volumes"], Value::Null);
    call(&engine, "POST", "/containers/partner/rename?name=other", None);
    assert_eq!(call(&engine, "POST", "/containers/other/start", None).0, 204);
    assert_eq!(call(&engine, "POST", "/containers/guest/start", None).0, 204);
}

#[test]
fn the_wait_for_what_has_ended_is_short() {
    let engine = TestEngine::with_busybox();
    created(&engine, "brief", &["sh", "-c", "exit 3"]);
    call(&engine, "POST", "/containers/brief/start", None);
    let (status, answer) = call(&engine, "POST", "/containers/brief/wait", None);
    assert_eq!(status, 200);
    let answer: WaitResponse = is(&serde_json::from_str(&answer).expect("JSON"));
    assert_eq!(answer.status_code, 3);
}
