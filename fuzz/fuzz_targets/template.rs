//! Any text as a template, rendered with data of every kind.
#![no_main]
use corten_template::{Template, Value};
use libfuzzer_sys::fuzz_target;

const DATA: &[u8] = br#"{"Name": "web", "Count": 3, "Size": 1.5, "On": true, "None": null, "List": [1, "two", [3]],
    "Map": {"a": {"b": "c"}, "d": []}}"#;

fuzz_target!(|source: &str| {
    let Ok(template) = Template::parse(source) else { return };
    let data = Value::from_json(DATA).expect("it is JSON");
    let _ = template.render(&data);
    let _ = template.render_header(&data);
});
