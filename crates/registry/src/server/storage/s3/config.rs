//! The section `storage.s3` of the configuration, as it is written; and what it means, checked. Reads no file and no variable.

use std::net::IpAddr;
use std::path::PathBuf;

use hyper::Uri;
use serde::Deserialize;

/// Longer names than S3 itself allows are some compatible store's.
const BUCKET_LENGTH_MAX: usize = 255;
/// An object's name has 1024 bytes at most; ours need 140 of these behind the prefix.
const PREFIX_LENGTH_MAX: usize = 800;
const REGION: &str = "us-east-1";

/// The section `storage`: without `s3`, blobs lie below `data`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageConfig {
    pub s3: Option<S3Config>,
}

/// As it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3Config {
    pub bucket: String,
    /// Before all names, without a slash at its end.
    pub prefix: String,
    pub region: Option<String>,
    /// `http[s]://HOST[:PORT]`; Amazon's own if it isn't said.
    pub endpoint: Option<String>,
    /// The bucket as the first part of the path, not of the host's name. As a rule with an endpoint, and without one not.
    pub path_style: Option<bool>,
    /// Authorities that the endpoint may be certified by, beside those of the host.
    pub ca: Option<PathBuf>,
    pub access_key_id: Option<String>,
    /// The secret stands in this file, alone.
    pub secret_access_key_file: Option<PathBuf>,
    /// Speak without TLS to more than loopback.
    pub allow_http: bool,
    /// Send clients that pull to the store itself, with a signed address.
    pub redirect: bool,
}

/// What proves who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    File {
        access_key_id: String,
        secret_file: PathBuf,
    },
    /// As Amazon's own programs find them: `AWS_*` variables, or a role of the machine's.
    Environment,
}

/// The same, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Settings {
    pub bucket: String,
    /// Empty, or parts with slashes between them.
    pub prefix: String,
    /// Where it isn't said, `AWS_REGION` counts, and else [`S3Settings::DEFAULT_REGION`].
    pub region: Option<String>,
    /// Without a slash at its end.
    pub endpoint: Option<String>,
    pub path_style: bool,
    pub ca: Option<PathBuf>,
    pub keys: Keys,
    pub redirect: bool,
}

impl S3Settings {
    pub const DEFAULT_REGION: &str = REGION;
}

impl S3Config {
    /// What it means.
    ///
    /// # Errors
    /// The key and what is wrong about it.
    pub fn settings(&self) -> Result<S3Settings, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        let is_name = |text: &str| {
            !text.is_empty() && text.chars().all(fits) && !matches!(text, "." | "..") && !text.contains("..")
        };
        if self.bucket.is_empty() {
            return Err("bucket: is missing".to_owned());
        }
        if !is_name(&self.bucket) || self.bucket.len() > BUCKET_LENGTH_MAX {
            return Err(format!("bucket: {:?} is no name of a bucket", self.bucket));
        }
        let prefix = self.prefix.strip_suffix('/').unwrap_or(&self.prefix);
        if prefix.len() > PREFIX_LENGTH_MAX || !(prefix.is_empty() || prefix.split('/').all(is_name)) {
            let wanted = "names of letters, digits, '-', '.' and '_', with '/' between them";
            return Err(format!("prefix: {:?} is not made of {wanted}", self.prefix));
        }
        let region = self.region.clone().filter(|region| !region.is_empty());
        let endpoint = self.endpoint.as_deref().map(|text| endpoint(text, self.allow_http)).transpose()?;
        if self.ca.is_some() && !endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("https://"))
        {
            return Err("ca: is for an endpoint that begins with https://".to_owned());
        }
        let keys = match (&self.access_key_id, &self.secret_access_key_file) {
            (Some(id), Some(file)) if !id.is_empty() => {
                Keys::File { access_key_id: id.clone(), secret_file: file.clone() }
            }
            (None, None) => Keys::Environment,
            _ => return Err("access_key_id and secret_access_key_file belong together".to_owned()),
        };
        Ok(S3Settings {
            bucket: self.bucket.clone(),
            prefix: prefix.to_owned(),
            region,
            path_style: self.path_style.unwrap_or(endpoint.is_some()),
            ca: self.ca.clone(),
            endpoint,
            keys,
            redirect: self.redirect,
        })
    }
}

/// `http[s]://HOST[:PORT]` and nothing more; without TLS only where nobody listens in.
fn endpoint(text: &str, allow_http: bool) -> Result<String, String> {
    let wrong = |why: &str| format!("endpoint: {text:?} {why}; write https://HOST or https://HOST:PORT");
    let url: Uri = text.parse().map_err(|_| wrong("is no URL"))?;
    let host = url.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("has no host"))?;
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(wrong("has a user's name in it"));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() {
        return Err(wrong("has more than a host and a port"));
    }
    let address: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    let is_loopback = host == "localhost" || address.is_some_and(|address| address.is_loopback());
    match url.scheme_str() {
        Some("https") => {}
        Some("http") if is_loopback || allow_http => {}
        Some("http") => {
            return Err(format!(
                "endpoint: {text:?} is not encrypted, so that blobs could be read and changed on the way: write https://, or \
                 say \"allow_http\": true"
            ));
        }
        _ => return Err(wrong("is neither http nor https")),
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<S3Settings, String> {
        let config: StorageConfig = serde_json::from_str(text).map_err(|error| error.to_string())?;
        config.s3.unwrap().settings()
    }

    #[test]
    fn what_is_not_said_is_as_people_expect_it() {
        let amazon = read(r#"{"s3": {"bucket": "hub"}}"#).unwrap();
        assert_eq!((amazon.path_style, amazon.keys, amazon.redirect), (false, Keys::Environment, false));
        assert_eq!((amazon.prefix.as_str(), amazon.endpoint), ("", None));
        let own = read(
            r#"{"s3": {"bucket": "hub", "prefix": "team/images/", "endpoint": "https://store.example:9000/",
                "access_key_id": "AK", "secret_access_key_file": "/run/secret"}}"#,
        )
        .unwrap();
        assert_eq!(own.endpoint.as_deref(), Some("https://store.example:9000"));
        assert_eq!((own.path_style, own.prefix.as_str()), (true, "team/images"));
        assert!(matches!(own.keys, Keys::File { .. }));
        let hosted = r#"{"s3": {"bucket": "hub", "endpoint": "https://store.example", "path_style": false}}"#;
        assert!(!read(hosted).unwrap().path_style);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, named) in [
            (r#"{"s3": {}}"#, "bucket"),
            (r#"{"s3": {"bucket": "a/b"}}"#, "bucket"),
            (r#"{"s3": {"bucket": "a..b"}}"#, "bucket"),
            (r#"{"s3": {"bucket": "hub", "prefix": "/a"}}"#, "prefix"),
            (r#"{"s3": {"bucket": "hub", "prefix": "a//b"}}"#, "prefix"),
            (r#"{"s3": {"bucket": "hub", "prefix": "a/../b"}}"#, "prefix"),
            (r#"{"s3": {"bucket": "hub", "endpoint": "store:9000"}}"#, "endpoint"),
            (r#"{"s3": {"bucket": "hub", "endpoint": "ftp://store"}}"#, "endpoint"),
            (r#"{"s3": {"bucket": "hub", "endpoint": "https://store/hub"}}"#, "endpoint"),
            (r#"{"s3": {"bucket": "hub", "endpoint": "https://me:pw@store"}}"#, "endpoint"),
            (r#"{"s3": {"bucket": "hub", "endpoint": "http://store:9000"}}"#, "allow_http"),
            (r#"{"s3": {"bucket": "hub", "ca": "/etc/ca.crt"}}"#, "ca: is for an endpoint"),
            (r#"{"s3": {"bucket": "hub", "endpoint": "http://[::1]:9000", "ca": "/a"}}"#, "ca: is for"),
            (r#"{"s3": {"bucket": "hub", "access_key_id": "AK"}}"#, "secret_access_key_file"),
            (r#"{"s3": {"bucket": "hub", "secret_access_key": "no"}}"#, "secret_access_key"),
            (r#"{"s4": {"bucket": "hub"}}"#, "s4"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn without_tls_only_where_nobody_listens_in() {
        let text = |endpoint: &str, allow: bool| {
            format!(r#"{{"s3": {{"bucket": "hub", "endpoint": "{endpoint}", "allow_http": {allow}}}}}"#)
        };
        for near in ["http://127.0.0.1:9000", "http://[::1]:9000", "http://localhost"] {
            read(&text(near, false)).unwrap();
        }
        read(&text("http://store:9000", true)).unwrap();
        read(&text("http://store:9000", false)).unwrap_err();
        read(&text("http://127.0.0.1.example:9000", false)).unwrap_err();
    }
}
