//! An inventory as a CycloneDX 1.6 document (cyclonedx.org/docs/1.6/json).

use serde_json::{Value, json};

use crate::{About, Inventory, Package};

pub fn document(inventory: &Inventory, about: &About) -> Value {
    let components: Vec<Value> = inventory.packages.iter().map(component).collect();
    let mut document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": crate::spdx::time(about.created),
            "tools": {"components": [{"type": "application", "name": about.tool}]},
            "component": {
                "type": "container",
                "bom-ref": format!("sha256:{}", about.digest),
                "name": about.name,
                "hashes": [{"alg": "SHA-256", "content": about.digest}],
            },
        },
        "components": components,
    });
    if !inventory.notes.is_empty() {
        let note = |note: &String| json!({"name": "not read", "value": note});
        document["properties"] = inventory.notes.iter().map(note).collect();
    }
    document
}

fn component(package: &Package) -> Value {
    let places: Vec<Value> = package.found_at.iter().map(|path| json!({"location": path})).collect();
    let mut component = json!({
        "type": "library",
        "bom-ref": package.purl,
        "name": package.name,
        "purl": package.purl,
        "evidence": {"occurrences": places},
    });
    if !package.version.is_empty() {
        component["version"] = package.version.as_str().into();
    }
    if !package.licence.is_empty() {
        component["licenses"] = json!([{"license": {"name": package.licence}}]);
    }
    if !package.supplier.is_empty() {
        component["supplier"] = json!({"name": package.supplier});
    }
    component
}
