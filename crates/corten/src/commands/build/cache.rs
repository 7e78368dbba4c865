//! Caches that travel: `--cache-from` and `--cache-to`, as buildx has them. What their keys mean is the engine's to say.

use corten_api::build::BuildCachePlace;

use crate::cli::Failure;
use crate::options::csv;

/// `NAME` or `type=TYPE[,KEY=VALUE]...`, each.
pub fn places(flag: &str, texts: &[String]) -> Result<Vec<BuildCachePlace>, Failure> {
    texts.iter().map(|text| place(flag, text)).collect()
}

fn place(flag: &str, text: &str) -> Result<BuildCachePlace, Failure> {
    let wrong = |why: &str| Failure::new(format!("invalid {flag} {text:?}: {why}"));
    let fields = csv::fields(text).map_err(wrong)?;
    if let [name] = fields.as_slice()
        && !name.is_empty()
        && !name.contains('=')
    {
        let keys = [("ref".to_owned(), name.clone())].into();
        return Ok(BuildCachePlace { kind: "registry".to_owned(), keys });
    }
    let mut place = BuildCachePlace::default();
    for field in &fields {
        let (key, value) = field.split_once('=').ok_or_else(|| wrong("write KEY=VALUE"))?;
        let key = key.to_ascii_lowercase();
        let earlier = match key.as_str() {
            "type" => {
                Some(std::mem::replace(&mut place.kind, value.to_owned())).filter(|kind| !kind.is_empty())
            }
            _ => place.keys.insert(key.clone(), value.to_owned()),
        };
        if earlier.is_some() {
            return Err(wrong(&format!("{key} is given twice")));
        }
    }
    if place.kind.is_empty() {
        return Err(wrong("type is required"));
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<BuildCachePlace, String> {
        place("--cache-from", text).map_err(|failure| failure.message)
    }

    #[test]
    fn places_are_read() {
        let keys = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        let registry = |pairs| BuildCachePlace { kind: "registry".to_owned(), keys: keys(pairs) };
        assert_eq!(one("r.example/c:1").unwrap(), registry(&[("ref", "r.example/c:1")]));
        assert_eq!(
            one("type=registry,ref=r.example/c,\"mode=max\"").unwrap(),
            registry(&[("ref", "r.example/c"), ("mode", "max")])
        );
    }

    #[test]
    fn what_is_none_is_refused() {
        for (text, why) in [
            ("", "write KEY=VALUE"),
            ("ref=a", "type is required"),
            ("type=registry,a", "write KEY=VALUE"),
            ("type=registry,ref=a,ref=b", "ref is given twice"),
            ("type=registry,type=local", "type is given twice"),
        ] {
            let told = one(text).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
    }
}
