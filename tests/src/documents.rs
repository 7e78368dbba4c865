//! Whether documents about images are what their formats say: SPDX 2.3, CycloneDX 1.6, and in-toto statements with SLSA's provenance.
//! What a document has to have, and what its parts say of each other, is checked here; every sentence that comes out is something wrong.

use std::collections::BTreeSet;

use serde_json::Value;

/// Sentences about what is wrong.
pub type Wrong = Vec<String>;

struct Check(Wrong);

impl Check {
    fn that(&mut self, is_right: bool, what: impl Into<String>) {
        if !is_right {
            self.0.push(what.into());
        }
    }

    /// A text that is there and not empty.
    fn text<'v>(&mut self, of: &'v Value, key: &str) -> &'v str {
        let text = of[key].as_str().unwrap_or_default();
        self.that(!text.is_empty(), format!("{key} is not a text, or empty"));
        text
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn is_uri(text: &str) -> bool {
    let scheme = text.split(':').next().unwrap_or_default();
    text.len() > scheme.len() + 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        && text.chars().all(|c| c.is_ascii_graphic() && !"<>\"{}|\\^`".contains(c))
}

/// RFC 3339 in UTC; of some formats without a fraction of the second.
fn is_time(text: &str, has_fraction: bool) -> bool {
    let Some((whole, rest)) = text.split_at_checked(19) else { return false };
    let shape = "0000-00-00T00:00:00";
    let fits =
        whole.chars().zip(shape.chars()).all(|(c, s)| if s == '0' { c.is_ascii_digit() } else { c == s });
    let fraction = rest.strip_suffix('Z').and_then(|rest| match rest.strip_prefix('.') {
        Some(digits) => (has_fraction && digits.chars().all(|c| c.is_ascii_digit())).then_some(()),
        None => rest.is_empty().then_some(()),
    });
    fits && fraction.is_some()
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// `pkg:type/namespace/name@version?qualifiers` (github.com/package-url/purl-spec).
fn is_purl(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("pkg:") else { return false };
    let bare = rest.split(['?', '#']).next().unwrap_or_default();
    bare.split('/').count() >= 2 && bare.split('/').all(|part| !part.is_empty()) && is_uri(text)
}

/// An SPDX 2.3 document (spdx.github.io/spdx-spec/v2.3).
pub fn spdx(document: &Value) -> Wrong {
    let mut check = Check(Vec::new());
    check.that(document["spdxVersion"] == "SPDX-2.3", "spdxVersion");
    check.that(document["dataLicense"] == "CC0-1.0", "dataLicense");
    check.that(document["SPDXID"] == "SPDXRef-DOCUMENT", "SPDXID");
    check.text(document, "name");
    let namespace = check.text(document, "documentNamespace");
    check.that(
        is_uri(namespace) && !namespace.contains('#'),
        "documentNamespace is no URI without a fragment",
    );
    let creation = &document["creationInfo"];
    check.that(is_time(creation["created"].as_str().unwrap_or_default(), false), "created");
    check.that(!list(&creation["creators"]).is_empty(), "there is no creator");
    for creator in list(&creation["creators"]) {
        let creator = creator.as_str().unwrap_or_default();
        let kinds = ["Tool: ", "Person: ", "Organization: "];
        check.that(
            kinds.iter().any(|kind| creator.len() > kind.len() && creator.starts_with(kind)),
            "creator",
        );
    }
    let mut extracted = BTreeSet::new();
    for licence in list(&document["hasExtractedLicensingInfos"]) {
        let id = check.text(licence, "licenseId");
        check.text(licence, "extractedText");
        check.that(id.starts_with("LicenseRef-") && extracted.insert(id), format!("licence {id}"));
    }
    let mut ids = BTreeSet::from(["SPDXRef-DOCUMENT"]);
    for package in list(&document["packages"]) {
        let id = check.text(package, "SPDXID");
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
        let is_id =
            id.strip_prefix("SPDXRef-").is_some_and(|rest| !rest.is_empty() && rest.chars().all(letters));
        check.that(is_id && ids.insert(id), format!("the id {id:?} is invalid, or there twice"));
        check.text(package, "name");
        check.text(package, "downloadLocation");
        check
            .that(package["filesAnalyzed"] == false, format!("{id}: files that are not listed are analysed"));
        check.that(package["packageVerificationCode"].is_null(), format!("{id}: a code of no files"));
        for key in ["licenseConcluded", "licenseDeclared"] {
            let licence = package[key].as_str().unwrap_or("NOASSERTION");
            let is_known = !licence.starts_with("LicenseRef-") || extracted.contains(licence);
            check.that(
                is_known && !licence.is_empty() && !licence.contains('\n'),
                format!("{id}: {key} {licence}"),
            );
        }
        if let Some(supplier) = package["supplier"].as_str() {
            let kinds = ["Person: ", "Organization: "];
            let is_one = kinds.iter().any(|kind| supplier.len() > kind.len() && supplier.starts_with(kind));
            check.that(is_one || supplier == "NOASSERTION", format!("{id}: supplier {supplier}"));
        }
        for reference in list(&package["externalRefs"]) {
            check.that(reference["referenceCategory"] == "PACKAGE-MANAGER", format!("{id}: category"));
            check.that(reference["referenceType"] == "purl", format!("{id}: type of a reference"));
            let purl = reference["referenceLocator"].as_str().unwrap_or_default();
            check.that(is_purl(purl), format!("{id}: {purl} is no package URL"));
        }
    }
    let mut described = 0;
    for relationship in list(&document["relationships"]) {
        for key in ["spdxElementId", "relatedSpdxElement"] {
            let id = relationship[key].as_str().unwrap_or_default();
            check.that(ids.contains(id), format!("{key} {id:?} is nothing of the document"));
        }
        let kind = relationship["relationshipType"].as_str().unwrap_or_default();
        check.that(["DESCRIBES", "CONTAINS"].contains(&kind), format!("relationship {kind:?}"));
        described += usize::from(kind == "DESCRIBES" && relationship["spdxElementId"] == "SPDXRef-DOCUMENT");
    }
    check.that(described == 1, format!("it describes {described} things"));
    check.0
}

/// A CycloneDX 1.6 document (cyclonedx.org/docs/1.6/json).
pub fn cyclonedx(document: &Value) -> Wrong {
    let mut check = Check(Vec::new());
    check.that(document["bomFormat"] == "CycloneDX", "bomFormat");
    check.that(document["specVersion"] == "1.6", "specVersion");
    check.that(document["version"].as_u64().is_some_and(|version| version >= 1), "version");
    let known =
        ["bomFormat", "specVersion", "version", "serialNumber", "metadata", "components", "properties"];
    for key in document.as_object().into_iter().flat_map(|object| object.keys()) {
        check.that(known.contains(&key.as_str()), format!("{key} is not looked at here"));
    }
    let metadata = &document["metadata"];
    check.that(is_time(metadata["timestamp"].as_str().unwrap_or_default(), true), "timestamp");
    let mut references = BTreeSet::new();
    let about = [&metadata["component"]];
    for component in about.into_iter().chain(list(&document["components"])) {
        let name = check.text(component, "name");
        let kind = component["type"].as_str().unwrap_or_default();
        check.that(["container", "library", "application"].contains(&kind), format!("{name}: type {kind:?}"));
        let reference = check.text(component, "bom-ref");
        check.that(references.insert(reference), format!("the reference {reference} is there twice"));
        for hash in list(&component["hashes"]) {
            let is_one = hash["alg"] == "SHA-256" && is_hex(hash["content"].as_str().unwrap_or_default(), 64);
            check.that(is_one, format!("{name}: hash {hash}"));
        }
        for licence in list(&component["licenses"]) {
            let (id, name) = (&licence["license"]["id"], &licence["license"]["name"]);
            check.that(
                id.is_string() != name.is_string(),
                format!("a licence has an id or a name: {licence}"),
            );
        }
        if let Some(purl) = component["purl"].as_str() {
            check.that(is_purl(purl), format!("{purl} is no package URL"));
        }
        for place in list(&component["evidence"]["occurrences"]) {
            check.text(place, "location");
        }
        if !component["supplier"].is_null() {
            check.text(&component["supplier"], "name");
        }
    }
    for property in list(&document["properties"]) {
        check.text(property, "name");
        check.that(property["value"].is_string(), "the value of a property is a text");
    }
    check.0
}

/// An in-toto statement of version 0.1, with SLSA's provenance of version 0.2 or 1, or a list of packages.
pub fn statement(statement: &Value) -> Wrong {
    let mut check = Check(Vec::new());
    check.that(statement["_type"] == "https://in-toto.io/Statement/v0.1", "_type");
    check.that(!list(&statement["subject"]).is_empty(), "it is about nothing");
    for subject in list(&statement["subject"]) {
        check.text(subject, "name");
        digests(&mut check, &subject["digest"]);
    }
    let predicate = &statement["predicate"];
    match statement["predicateType"].as_str().unwrap_or_default() {
        "https://spdx.dev/Document" => check.0.extend(spdx(predicate)),
        "https://cyclonedx.org/bom" => check.0.extend(cyclonedx(predicate)),
        "https://slsa.dev/provenance/v0.2" => provenance_v02(&mut check, predicate),
        "https://slsa.dev/provenance/v1" => provenance_v1(&mut check, predicate),
        other => check.that(false, format!("the predicate {other:?} is not known")),
    }
    check.0
}

fn digests(check: &mut Check, digests: &Value) {
    let known = digests.as_object().into_iter().flatten();
    let mut count = 0;
    for (algorithm, digest) in known {
        count += 1;
        let digits = match algorithm.as_str() {
            "sha1" => 40,
            "sha256" => 64,
            _ => 0,
        };
        check.that(
            is_hex(digest.as_str().unwrap_or_default(), digits),
            format!("digest {algorithm}:{digest}"),
        );
    }
    check.that(count > 0, "there is no digest");
}

fn materials(check: &mut Check, materials: &Value) {
    check.that(materials.is_array(), "there is no list of what went in");
    for material in list(materials) {
        let uri = check.text(material, "uri");
        check.that(is_uri(uri) || uri.contains('@'), format!("{uri:?} is no URI"));
        digests(check, &material["digest"]);
    }
}

fn times(check: &mut Check, metadata: &Value, keys: [&str; 2]) {
    let [started, finished] = keys.map(|key| metadata[key].as_str());
    check.that(started.is_some() == finished.is_some(), "it began and didn't end");
    for time in [started, finished].into_iter().flatten() {
        check.that(is_time(time, true), format!("time {time}"));
    }
}

/// slsa.dev/spec/v0.2/provenance
fn provenance_v02(check: &mut Check, predicate: &Value) {
    check.that(predicate["builder"]["id"].is_string(), "builder");
    let kind = check.text(predicate, "buildType");
    check.that(is_uri(kind), "buildType is no URI");
    let source = &predicate["invocation"]["configSource"];
    check.text(source, "entryPoint");
    if !source["uri"].is_null() {
        check.text(source, "uri");
        digests(check, &source["digest"]);
    }
    check.that(predicate["invocation"]["parameters"].is_object(), "parameters");
    let metadata = &predicate["metadata"];
    for key in ["parameters", "environment", "materials"] {
        check.that(metadata["completeness"][key].is_boolean(), format!("completeness of {key}"));
    }
    check.that(metadata["reproducible"].is_boolean(), "reproducible");
    times(check, metadata, ["buildStartedOn", "buildFinishedOn"]);
    materials(check, &predicate["materials"]);
}

/// slsa.dev/spec/v1.0/provenance
fn provenance_v1(check: &mut Check, predicate: &Value) {
    let definition = &predicate["buildDefinition"];
    let kind = check.text(definition, "buildType");
    check.that(is_uri(kind), "buildType is no URI");
    check.text(&definition["externalParameters"]["configSource"], "path");
    check.that(definition["internalParameters"].is_object(), "internalParameters");
    materials(check, &definition["resolvedDependencies"]);
    check.that(predicate["runDetails"]["builder"]["id"].is_string(), "builder");
    times(check, &predicate["runDetails"]["metadata"], ["startedOn", "finishedOn"]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Each change of a document that is right makes it wrong.
    fn notices(document: &Value, check: fn(&Value) -> Wrong, changes: &[(&str, Value)]) {
        assert_eq!(check(document), [] as [String; 0]);
        for (pointer, value) in changes {
            let mut broken = document.clone();
            *broken.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value.clone();
            assert!(!check(&broken).is_empty(), "{pointer} = {value}");
        }
    }

    #[test]
    fn what_is_wrong_is_noticed() {
        let document = json!({
            "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": "n",
            "documentNamespace": "https://a/b",
            "creationInfo": {"created": "2026-01-01T00:00:00Z", "creators": ["Tool: t"]},
            "packages": [
                {"SPDXID": "SPDXRef-a", "name": "a", "downloadLocation": "NOASSERTION", "filesAnalyzed": false,
                 "licenseDeclared": "LicenseRef-1", "supplier": "Organization: o",
                 "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
                                   "referenceLocator": "pkg:deb/debian/a@1"}]},
                {"SPDXID": "SPDXRef-b", "name": "b", "downloadLocation": "NONE", "filesAnalyzed": false},
            ],
            "hasExtractedLicensingInfos": [{"licenseId": "LicenseRef-1", "extractedText": "x"}],
            "relationships": [{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES",
                               "relatedSpdxElement": "SPDXRef-a"}],
        });
        let changes = [
            ("/spdxVersion", json!("2.3")),
            ("/documentNamespace", json!("https://a#b")),
            ("/creationInfo/created", json!("2026-01-01T00:00:00.5Z")),
            ("/creationInfo/creators/0", json!("me")),
            ("/packages/1/SPDXID", json!("SPDXRef-a")),
            ("/packages/1/SPDXID", json!("SPDXRef-a_b")),
            ("/packages/0/filesAnalyzed", json!(true)),
            ("/packages/0/licenseDeclared", json!("LicenseRef-2")),
            ("/packages/0/supplier", json!("o")),
            ("/packages/0/externalRefs/0/referenceLocator", json!("pkg:deb")),
            ("/relationships/0/relatedSpdxElement", json!("SPDXRef-c")),
            ("/relationships", json!([])),
        ];
        notices(&document, spdx, &changes);
        let component = json!({"type": "library", "name": "a", "bom-ref": "a", "purl": "pkg:npm/a@1",
            "licenses": [{"license": {"name": "x"}}], "evidence": {"occurrences": [{"location": "/a"}]}});
        let document = json!({
            "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
            "metadata": {"timestamp": "2026-01-01T00:00:00Z", "component": {
                "type": "container", "name": "n", "bom-ref": "n",
                "hashes": [{"alg": "SHA-256", "content": "0".repeat(64)}]}},
            "components": [component],
        });
        let changes = [
            ("/specVersion", json!("1")),
            ("/version", json!(0)),
            ("/metadata/timestamp", json!("today")),
            ("/metadata/component/hashes/0/content", json!("00")),
            ("/components/0/bom-ref", json!("n")),
            ("/components/0/type", json!("thing")),
            ("/components/0/purl", json!("npm/a")),
            ("/components/0/licenses/0/license", json!({"id": "MIT", "name": "x"})),
            ("/components/0/evidence/occurrences/0", json!({})),
        ];
        notices(&document, cyclonedx, &changes);
        let digest = json!({"sha256": "0".repeat(64)});
        let of = |kind: &str, predicate: Value| {
            json!({"_type": "https://in-toto.io/Statement/v0.1", "predicateType": kind, "predicate": predicate,
                   "subject": [{"name": "n", "digest": digest}]})
        };
        let v02 = json!({
            "builder": {"id": ""}, "buildType": "https://a/b",
            "invocation": {"configSource": {"uri": "https://a", "digest": digest, "entryPoint": "D"}, "parameters": {}},
            "metadata": {"completeness": {"parameters": true, "environment": true, "materials": true},
                         "reproducible": false, "buildStartedOn": "2026-01-01T00:00:00Z",
                         "buildFinishedOn": "2026-01-01T00:00:00.123Z"},
            "materials": [{"uri": "pkg:docker/a@1", "digest": digest}],
        });
        let changes = [
            ("/_type", json!("x")),
            ("/subject", json!([])),
            ("/subject/0/digest", json!({})),
            ("/predicateType", json!("x")),
            ("/predicate/buildType", json!("b")),
            ("/predicate/invocation/configSource/digest", json!({"sha1": "00"})),
            ("/predicate/invocation/configSource/entryPoint", json!("")),
            ("/predicate/metadata/completeness/materials", json!("yes")),
            ("/predicate/metadata/buildFinishedOn", Value::Null),
            ("/predicate/metadata/buildStartedOn", json!("now")),
            ("/predicate/materials/0/uri", json!("a b")),
        ];
        notices(&of("https://slsa.dev/provenance/v0.2", v02), statement, &changes);
        let v1 = json!({
            "buildDefinition": {"buildType": "https://a/b", "externalParameters": {"configSource": {"path": "D"}},
                                "internalParameters": {}, "resolvedDependencies": []},
            "runDetails": {"builder": {"id": "https://b"}, "metadata": {}},
        });
        let changes = [
            ("/predicate/buildDefinition/externalParameters/configSource/path", json!("")),
            ("/predicate/buildDefinition/resolvedDependencies", Value::Null),
            ("/predicate/runDetails/builder", json!({})),
        ];
        notices(&of("https://slsa.dev/provenance/v1", v1), statement, &changes);
    }
}
