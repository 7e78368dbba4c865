//! What is to be said of images: `--attest`, `--provenance` and `--sbom`, as buildx has them.

use std::collections::BTreeMap;

use crate::cli::Failure;

/// By their kinds; later ones go before earlier ones, and shorthands before all.
pub fn wishes(
    attest: &[String],
    provenance: Option<&str>,
    sbom: Option<&str>,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut wishes = BTreeMap::new();
    for text in attest {
        let wrong = |why: &str| Failure::new(format!("invalid attestation {text:?}: {why}"));
        let (kinds, fields): (Vec<&str>, Vec<&str>) =
            text.split(',').partition(|field| field.starts_with("type="));
        let [kind] = kinds[..] else { return Err(wrong("write type=provenance or type=sbom")) };
        wishes.insert(kind["type=".len()..].to_owned(), fields.join(","));
    }
    for (kind, text) in [("provenance", provenance), ("sbom", sbom)] {
        let Some(text) = text else { continue };
        let text = match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" | "" => String::new(),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => "disabled=true".to_owned(),
            pairs => pairs.to_owned(),
        };
        wishes.insert(kind.to_owned(), text);
    }
    wishes.retain(|_, text| !text.split(',').any(|field| field == "disabled=true"));
    Ok(wishes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read() {
        let read = |attest: &[&str], provenance, sbom| {
            let attest: Vec<String> = attest.iter().map(|text| (*text).to_owned()).collect();
            let wishes = wishes(&attest, provenance, sbom).map_err(|failure| failure.message)?;
            Ok::<_, String>(wishes.iter().map(|(kind, text)| format!("{kind}:{text}")).collect::<Vec<_>>())
        };
        assert_eq!(read(&[], None, None).unwrap(), [] as [String; 0]);
        let both = read(&["type=provenance,mode=max", "type=sbom"], None, None).unwrap();
        assert_eq!(both, ["provenance:mode=max", "sbom:"]);
        assert_eq!(read(&[], Some("mode=max"), Some("true")).unwrap(), ["provenance:mode=max", "sbom:"]);
        assert_eq!(read(&["type=provenance"], Some("false"), None).unwrap(), [] as [String; 0]);
        assert!(read(&["mode=max"], None, None).unwrap_err().contains("type=provenance"));
    }
}
