//! The client's configuration file, `config.json`, which Docker's client shares. Read once, and only when somebody asks; what
//! writes it is `contexts`.

use std::io::ErrorKind;
use std::path::Path;

use serde_json::Value;

use crate::output;

/// What the file says; nothing when there is none.
#[derive(Clone, Debug, Default)]
pub struct Settings(Value);

/// A proxy's variable, and its name in the file.
const PROXIES: [(&str, &str); 5] = [
    ("HTTP_PROXY", "httpProxy"),
    ("HTTPS_PROXY", "httpsProxy"),
    ("NO_PROXY", "noProxy"),
    ("FTP_PROXY", "ftpProxy"),
    ("ALL_PROXY", "allProxy"),
];

impl Settings {
    /// Reads the file; one that can't be read or understood is told of, and counts as empty.
    pub fn read(path: &Path) -> Settings {
        let warn = |why: String| {
            output::say!("WARNING: Error loading config file: {}: {why}", path.display());
            Settings::default()
        };
        match std::fs::read(path) {
            Ok(text) if text.trim_ascii().is_empty() => Settings::default(),
            Ok(text) => serde_json::from_slice(&text).map_or_else(|error| warn(error.to_string()), Settings),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Settings::default()
            }
            Err(error) => warn(error.to_string()),
        }
    }

    /// A text of the file, unless it is empty.
    pub fn text(&self, name: &str) -> Option<String> {
        self.0.get(name)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// The further headers of every request.
    pub fn headers(&self) -> Vec<(String, String)> {
        texts(self.0.get("HttpHeaders")).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The variables that containers of the engine at `host` get, each in capital and in small letters, as programs look for
    /// either.
    pub fn proxies(&self, host: &str) -> Vec<(String, String)> {
        let all = self.0.get("proxies");
        let chosen = all.and_then(|all| all.get(host).or_else(|| all.get("default")));
        let mut variables = Vec::new();
        for (variable, name) in PROXIES {
            for (_, value) in texts(chosen).filter(|(known, value)| *known == name && !value.is_empty()) {
                variables.push((variable.to_owned(), value.to_owned()));
                variables.push((variable.to_lowercase(), value.to_owned()));
            }
        }
        variables
    }
}

fn texts(object: Option<&Value>) -> impl Iterator<Item = (&str, &str)> {
    let entries = object.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        Settings(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn an_engine_s_own_proxies_come_before_the_default_ones() {
        let settings = settings(
            r#"{"proxies": {"default": {"httpProxy": "http://p:1", "noProxy": ""}, "tcp://h:1": {"allProxy": "socks://q"}}}"#,
        );
        let named = |host: &str| {
            let proxies = settings.proxies(host);
            proxies.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(named("unix:///x"), ["HTTP_PROXY=http://p:1", "http_proxy=http://p:1"]);
        assert_eq!(named("tcp://h:1"), ["ALL_PROXY=socks://q", "all_proxy=socks://q"]);
        assert!(Settings::default().proxies("unix:///x").is_empty());
    }

    #[test]
    fn texts_and_headers() {
        let settings =
            settings(r#"{"psFormat": "x", "imagesFormat": "", "HttpHeaders": {"A": "b", "C": 1}}"#);
        assert_eq!(settings.text("psFormat").as_deref(), Some("x"));
        assert_eq!(settings.text("imagesFormat"), None);
        assert_eq!(settings.headers(), [("A".to_owned(), "b".to_owned())]);
    }

    #[test]
    fn what_is_no_json_counts_as_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        assert!(Settings::read(&path).headers().is_empty());
        std::fs::write(&path, "{").unwrap();
        assert_eq!(Settings::read(&path).text("psFormat"), None);
    }
}
