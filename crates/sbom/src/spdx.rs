//! An inventory as an SPDX 2.3 document (spdx.github.io/spdx-spec/v2.3).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{About, Inventory, Package};

/// Licences by the identifiers of SPDX's list; others are kept as they are told.
const LICENCES: [&str; 35] = [
    "0BSD",
    "AGPL-3.0-only",
    "AGPL-3.0-or-later",
    "Apache-2.0",
    "Artistic-1.0",
    "Artistic-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSD-4-Clause",
    "BSL-1.0",
    "BlueOak-1.0.0",
    "CC-BY-4.0",
    "CC0-1.0",
    "EPL-2.0",
    "GPL-2.0-only",
    "GPL-2.0-or-later",
    "GPL-3.0-only",
    "GPL-3.0-or-later",
    "ISC",
    "LGPL-2.0-or-later",
    "LGPL-2.1-only",
    "LGPL-2.1-or-later",
    "LGPL-3.0-only",
    "LGPL-3.0-or-later",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "OpenSSL",
    "PSF-2.0",
    "Python-2.0",
    "Ruby",
    "Unlicense",
    "X11",
    "Zlib",
    "curl",
];

pub fn document(inventory: &Inventory, about: &About) -> Value {
    let mut extracted: BTreeMap<String, String> = BTreeMap::new();
    let mut packages = vec![json!({
        "SPDXID": "SPDXRef-Image",
        "name": about.name,
        "versionInfo": format!("sha256:{}", about.digest),
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "primaryPackagePurpose": "CONTAINER",
    })];
    let relationship = |from: &str, kind: &str, to: &str| json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to});
    let mut relationships = vec![relationship("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-Image")];
    for (number, package) in inventory.packages.iter().enumerate() {
        let id = format!("SPDXRef-Package-{}", number + 1);
        relationships.push(relationship("SPDXRef-Image", "CONTAINS", &id));
        packages.push(described(package, &id, &mut extracted));
    }
    let extracted: Vec<Value> = extracted
        .iter()
        .map(|(text, id)| json!({"licenseId": id, "extractedText": text, "name": text}))
        .collect();
    let mut document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": about.name,
        "documentNamespace": format!("https://github.com/corten-containers/corten/spdx/{}", about.digest),
        "creationInfo": {"created": time(about.created), "creators": [format!("Tool: {}", about.tool)]},
        "packages": packages,
        "relationships": relationships,
    });
    if !extracted.is_empty() {
        document["hasExtractedLicensingInfos"] = extracted.into();
    }
    if !inventory.notes.is_empty() {
        document["comment"] = format!("Not read:\n{}", inventory.notes.join("\n")).into();
    }
    document
}

fn described(package: &Package, id: &str, extracted: &mut BTreeMap<String, String>) -> Value {
    let places: Vec<&str> = package.found_at.iter().map(String::as_str).collect();
    let licence = match package.licence.as_str() {
        "" => "NOASSERTION".to_owned(),
        known if LICENCES.contains(&known) => known.to_owned(),
        other => {
            let next = format!("LicenseRef-{}", extracted.len() + 1);
            extracted.entry(other.to_owned()).or_insert(next).clone()
        }
    };
    let mut described = json!({
        "SPDXID": id,
        "name": package.name,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": licence,
        "copyrightText": "NOASSERTION",
        "sourceInfo": format!("told of by {}", places.join(", ")),
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": package.purl,
        }],
    });
    if !package.version.is_empty() {
        described["versionInfo"] = package.version.as_str().into();
    }
    if !package.supplier.is_empty() {
        described["supplier"] = format!("Organization: {}", package.supplier).into();
    }
    described
}

/// As SPDX wants times: without fractions, in UTC.
pub fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}
