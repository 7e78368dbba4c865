//! The corpus of Dockerfiles in `tests/corpus`: each makes the image that BuildKit makes of it, or is refused as there. Where a case has
//! `deviations`, paths of facts or `refused`, it is not so, for the reason that is given.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use corten_tests::{TestEngine, busybox_archive, run};
use serde_json::{Map, Value};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn script(arguments: &[&str]) -> Value {
    let output = run(Command::new("python3").arg(corpus().join("corpus.py")).args(arguments)).ok();
    serde_json::from_str(&output).expect("facts")
}

fn cases() -> Vec<String> {
    let files = std::fs::read_dir(corpus()).expect("the corpus").map(|entry| entry.expect("a file").path());
    let cases = files.filter(|path| path.extension().is_some_and(|extension| extension == "case"));
    let mut names: Vec<_> = cases.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    names
}

/// What a case makes here: the facts of its image, or why there is none. With the deviations that are known.
fn made(engine: &TestEngine, case: &str) -> (Result<Value, String>, Map<String, Value>) {
    let place = tempfile::tempdir().expect("directory");
    let (context, archive) = (place.path().join("context"), place.path().join("image.tar"));
    std::fs::create_dir(&context).expect("directory");
    let (context, archive) = (context.display().to_string(), archive.display().to_string());
    let options = script(&["unpack", case, &context]);
    let mut arguments = vec!["build".to_owned(), "-t".to_owned(), "corpus".to_owned()];
    if let Some(target) = options["target"].as_str() {
        arguments.extend(["--target".to_owned(), target.to_owned()]);
    }
    for (name, value) in options["args"].as_object().unwrap_or(&Map::new()) {
        arguments.extend(["--build-arg".to_owned(), format!("{name}={}", value.as_str().expect("a text"))]);
    }
    arguments.push(context);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let output = engine.corten(&arguments);
    let deviations = options["deviations"].as_object().cloned().unwrap_or_default();
    if output.code != 0 {
        return (Err(output.stderr), deviations);
    }
    engine.corten(&["save", "-o", &archive, "corpus"]).ok();
    (Ok(script(&["facts", &archive])), deviations)
}

/// Where two documents differ: the path, and how.
fn differences(path: &str, wanted: &Value, found: &Value, told: &mut BTreeMap<String, String>) {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            let names: BTreeSet<_> = wanted.keys().chain(found.keys()).collect();
            for name in names {
                let of = |map: &Map<String, Value>| map.get(name).cloned().unwrap_or(Value::Null);
                differences(&format!("{path}/{name}"), &of(wanted), &of(found), told);
            }
        }
        (Value::Array(wanted), Value::Array(found)) if wanted.len() == found.len() => {
            for (number, (wanted, found)) in wanted.iter().zip(found).enumerate() {
                differences(&format!("{path}/{number}"), wanted, found, told);
            }
        }
        _ if wanted != found => {
            told.insert(path.to_owned(), format!("{wanted} there, {found} here"));
        }
        _ => {}
    }
}

#[test]
fn dockerfiles_make_the_images_that_they_make_elsewhere() {
    let engine = TestEngine::start();
    let place = tempfile::tempdir().expect("directory");
    let archive = busybox_archive(place.path()).display().to_string();
    engine.corten(&["import", "-m", "busybox base", "-c", "CMD [\"sh\"]", &archive, "busybox:latest"]).ok();
    let mut told = Vec::new();
    let cases = cases();
    assert!(!cases.is_empty());
    for case in &cases {
        let text = std::fs::read_to_string(corpus().join(format!("{case}.json"))).expect("recorded facts");
        let wanted: Value = serde_json::from_str(&text).expect("recorded facts");
        let (found, deviations) = made(&engine, case);
        let mut differ = BTreeMap::new();
        match (wanted["refused"].as_str(), found) {
            (Some(_), Err(_)) => {}
            (Some(why), Ok(_)) => drop(differ.insert("built".to_owned(), format!("refused there: {why}"))),
            (None, Err(why)) => drop(differ.insert("refused".to_owned(), format!("built there: {why}"))),
            (None, Ok(found)) => differences("", &wanted, &found, &mut differ),
        }
        let unknown = differ.iter().filter(|(path, _)| !deviations.contains_key(*path));
        told.extend(unknown.map(|(path, how)| format!("{case} {path}: {how}")));
        let gone = deviations.keys().filter(|path| !differ.contains_key(*path));
        told.extend(gone.map(|path| format!("{case} {path}: no deviation any more")));
    }
    assert!(told.is_empty(), "{} differences in {} cases:\n{}", told.len(), cases.len(), told.join("\n"));
}
