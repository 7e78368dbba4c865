//! Which questions about a Dockerfile there are: the answer to `frontend.subrequests.describe`, version 1.0.0.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

pub const DESCRIBE: &str = "frontend.subrequests.describe";
const VERSION: &str = "1.0.0";

/// A question: its name without `frontend.`, what it is about, the attributes that count, what is answered.
struct Subrequest {
    name: &'static str,
    description: &'static str,
    opts: &'static [(&'static str, &'static str)],
    metadata: &'static [&'static str],
}

const SUBREQUESTS: [Subrequest; 4] = [
    Subrequest {
        name: "lint",
        description: "Check a Dockerfile",
        opts: &[],
        metadata: &["result.json", "result.txt", "result.statuscode"],
    },
    Subrequest {
        name: "outline",
        description: "List what the target takes: arguments, secrets, SSH agents, cache mounts",
        opts: &[("target", "Stage that is asked about")],
        metadata: &["result.json", "result.txt"],
    },
    Subrequest {
        name: "targets",
        description: "List the targets that can be built",
        opts: &[],
        metadata: &["result.json", "result.txt"],
    },
    Subrequest {
        name: "subrequests.describe",
        description: "List these subrequests",
        opts: &[],
        metadata: &["result.json", "result.txt"],
    },
];

impl Subrequest {
    fn document(&self) -> Value {
        let opts: Vec<Value> =
            self.opts.iter().map(|(name, about)| json!({"name": name, "description": about})).collect();
        let metadata: Vec<Value> =
            self.metadata.iter().map(|name| json!({"name": name, "description": ""})).collect();
        json!({
            "name": format!("frontend.{}", self.name),
            "version": VERSION,
            "type": "rpc",
            "description": self.description,
            "opts": opts,
            "inputs": null,
            "metadata": metadata,
            "refs": null,
        })
    }
}

/// As a result's metadata.
pub fn describe() -> BTreeMap<String, Vec<u8>> {
    let documents: Vec<Value> = SUBREQUESTS.iter().map(Subrequest::document).collect();
    let width = SUBREQUESTS.iter().map(|own| own.name.len()).max().unwrap_or(0);
    let mut text = format!("{:width$}  VERSION  DESCRIPTION\n", "NAME");
    for Subrequest { name, description, .. } in &SUBREQUESTS {
        // Writing into a string never fails.
        let _ = writeln!(text, "{name:width$}  {VERSION:7}  {description}");
    }
    BTreeMap::from([
        ("result.json".to_owned(), Value::Array(documents).to_string().into_bytes()),
        ("result.txt".to_owned(), text.into_bytes()),
        ("version".to_owned(), VERSION.into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_build::Question;

    #[test]
    fn what_is_described_is_answered() {
        let answer = describe();
        let documents: Vec<Value> = serde_json::from_slice(&answer["result.json"]).unwrap();
        let names: Vec<&str> = documents.iter().filter_map(|document| document["name"].as_str()).collect();
        assert!(names.contains(&DESCRIBE), "{names:?}");
        for name in names.iter().filter(|name| **name != DESCRIBE) {
            assert!(name.strip_prefix("frontend.").and_then(Question::parse).is_some(), "{name}");
        }
        let text = String::from_utf8(answer["result.txt"].clone()).unwrap();
        assert!(text.lines().count() == names.len() + 1 && text.contains("targets"), "{text}");
    }
}
