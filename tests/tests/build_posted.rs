//! `POST /build?version=2`: BuildKit's builds as Docker's clients before buildx ask for them, without a session of their own.

use std::fs;
use std::process::{Command, Stdio};

use corten_api::base64;
use corten_tests::{TestEngine, eventually, run, tar_of};
use serde_json::Value;
use tempfile::TempDir;

/// A directory for a context and its archive.
struct Place(TempDir);

impl Place {
    fn new(dockerfile: &str) -> Place {
        let place = TempDir::new().unwrap();
        fs::create_dir(place.path().join("context")).unwrap();
        fs::write(place.path().join("context/Dockerfile"), dockerfile).unwrap();
        fs::write(place.path().join("context/file"), "text").unwrap();
        tar_of(&place.path().join("context"), &place.path().join("archive"));
        Place(place)
    }

    /// curl's words for a call that sends the archive.
    fn call(&self, engine: &TestEngine, query: &str) -> Command {
        let mut curl = Command::new("curl");
        curl.args([
            "-sg",
            "--max-time",
            "300",
            "-X",
            "POST",
            "-H",
            "Content-Type: application/x-tar",
            "-H",
            "Expect:",
        ]);
        curl.arg("--data-binary").arg(format!("@{}", self.0.path().join("archive").display()));
        curl.arg("--unix-socket").arg(engine.socket());
        curl.arg(format!("http://localhost/v1.43/build?{query}&version=2"));
        curl
    }

    fn build(&self, engine: &TestEngine, query: &str) -> Vec<Value> {
        lines(&run(&mut self.call(engine, query)).ok())
    }
}

fn lines(answer: &str) -> Vec<Value> {
    answer.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

/// What is told of the progress, its texts among other bytes.
fn trace(lines: &[Value]) -> String {
    let traces = lines.iter().filter(|line| line["id"] == "moby.buildkit.trace");
    let bytes = traces.flat_map(|line| base64::decode(line["aux"].as_str().unwrap()).unwrap());
    String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
}

fn steps(engine: &TestEngine) -> usize {
    fs::read_dir(engine.exec_root().join("containers")).map_or(0, Iterator::count)
}

#[test]
fn an_archive_becomes_an_image() {
    let engine = TestEngine::with_busybox();
    let place = Place::new(
        "FROM busybox AS first\nARG V=1\nCOPY file /\nRUN echo said $V; ip addr > /net; grep given /etc/hosts > /hosts\nFROM busybox\n",
    );
    let query = "t=one&t=two:2&target=first&buildargs=%7B%22V%22%3A%22seven%22%2C%22W%22%3Anull%7D&labels=%7B%22a.b%22%3A%22c%22%7D\
                 &networkmode=none&extrahosts=given:10.9.8.7&shmsize=0&memory=0";
    let told = place.build(&engine, query);
    let trace = trace(&told);
    assert!(trace.contains("said seven") && trace.contains("RUN echo said seven;"), "{trace}");
    let last = told.last().unwrap();
    assert_eq!(last["id"], "moby.image.id", "{last}");
    let inspect =
        |name: &str| engine.corten(&["inspect", "-f", "{{.Id}} {{index .Config.Labels \"a.b\"}}", name]).ok();
    let expected = format!("{} c", last["aux"]["ID"].as_str().unwrap());
    assert_eq!((inspect("one"), inspect("two:2")), (expected.clone(), expected));
    let made =
        engine.corten(&["run", "--rm", "one", "sh", "-c", "cat /file; grep -c mtu /net; cat /hosts"]).ok();
    assert!(made.starts_with("text1\n10.9.8.7"), "{made}");
    let told = place.build(&engine, &format!("{query}&q=1"));
    assert_eq!(told.last().unwrap()["stream"], format!("{}\n", last["aux"]["ID"].as_str().unwrap()));
}

#[test]
fn what_is_wrong_is_told() {
    let engine = TestEngine::with_busybox();
    let failing = Place::new("FROM busybox\nRUN echo last words; exit 7\n");
    let told = failing.build(&engine, "t=x");
    let error = told.last().unwrap()["errorDetail"]["message"].as_str().unwrap_or_default();
    assert!(error.contains("exit code: 7") && trace(&told).contains("last words"), "{told:?}");
    let status = |query: &str| {
        let mut call = failing.call(&engine, query);
        run(call.args(["-w", " %{http_code}"])).ok()
    };
    for (query, wanted) in [
        ("memory=1000000", "memory is not supported"),
        ("squash=1", "squash is not supported"),
        ("networkmode=own", "network mode \\\"own\\\" not supported"),
        (
            "outputs=[%7B%22Type%22:%22tar%22%7D,%7B%22Type%22:%22local%22%7D]",
            "multiple outputs not supported",
        ),
        (
            "outputs=[%7B%22Type%22:%22moby%22,%22Attrs%22:%7B%22compression%22:%22estargz%22%7D%7D]",
            "estargz",
        ),
        ("buildid=upload-request:nobody-waits", "no such job"),
        ("outputs=[%7B%22Type%22:%22local%22%7D]", "\\\"local\\\" goes to the client's session"),
        ("version=3", "builder version \\\"3\\\" is none"),
    ] {
        let told = status(query);
        assert!(told.contains(wanted) && told.ends_with(" 400"), "{query}: {told}");
    }
}

#[test]
fn files_may_come_with_another_call() {
    let engine = TestEngine::with_busybox();
    let place = Place::new("FROM busybox\nCOPY file /\n");
    let mut first = place.call(&engine, "t=x&remote=upload-request&buildid=one");
    let first = first.stdout(Stdio::piped()).spawn().unwrap();
    run(&mut place.call(&engine, "buildid=upload-request:one")).ok();
    let told = first.wait_with_output().unwrap();
    let told = lines(&String::from_utf8_lossy(&told.stdout));
    assert_eq!(told.last().unwrap()["id"], "moby.image.id", "{told:?}");
    assert_eq!(engine.corten(&["run", "--rm", "x", "cat", "/file"]).ok(), "text");
}

#[test]
fn it_ends_when_it_is_cancelled_and_with_its_client() {
    let engine = TestEngine::with_busybox();
    let place = Place::new("FROM busybox\nRUN echo begun; sleep 600\n");
    let begin = |query: &str| place.call(&engine, query).stdout(Stdio::piped()).spawn().unwrap();
    let first = begin("buildid=one");
    eventually("the step runs", || steps(&engine) > 0);
    let again = run(&mut place.call(&engine, "buildid=one")).ok();
    assert!(again.contains("job ID one exists"), "{again}");
    assert_eq!(engine.curl(&["-X", "POST", "-w", "%{http_code}"], "/build/cancel?id=one").ok(), "204");
    let told = lines(&String::from_utf8_lossy(&first.wait_with_output().unwrap().stdout));
    assert!(told.last().unwrap()["error"].as_str().unwrap_or_default().contains("cancel"), "{told:?}");
    eventually("the step is gone", || steps(&engine) == 0);
    let mut second = begin("");
    eventually("the step runs", || steps(&engine) > 0);
    second.kill().unwrap();
    second.wait().unwrap();
    eventually("the step is gone", || steps(&engine) == 0);
}

#[test]
fn a_session_that_nobody_opens_is_told_of() {
    let engine = TestEngine::with_busybox();
    let fine = Place::new("FROM busybox\nCOPY file /\n");
    let told = fine.build(&engine, "session=nobodys&remote=client-session");
    assert!(
        told.last().unwrap()["message"].as_str().is_some() || told.last().unwrap()["error"].is_string(),
        "{told:?}"
    );
}
