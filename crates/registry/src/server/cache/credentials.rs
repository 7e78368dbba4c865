//! Who we are to an upstream, out of files that may change at any time.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use corten_api::base64;
use serde_json::Value;

use super::config::CredentialFiles;
use crate::{Credentials, RegistryAddress};

/// A password, or a file of docker's.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads them as they are now. Waits for the disk.
///
/// # Errors
/// When a file can't be read, or has no credentials for the upstream in it.
pub fn read(files: &CredentialFiles, registry: &RegistryAddress) -> Result<Option<Credentials>, String> {
    match files {
        CredentialFiles::Nobody => Ok(None),
        CredentialFiles::Password { user, file } => {
            let password = text(file)?;
            let password = password.trim_end_matches(['\r', '\n']).to_owned();
            if password.is_empty() {
                return Err(format!("{} holds no password", file.display()));
            }
            Ok(Some(Credentials::Password { name: user.clone(), password }))
        }
        CredentialFiles::Docker(file) => {
            let found = of_docker(&text(file)?, registry);
            found.map(Some).map_err(|why| format!("{}: {why}", file.display()))
        }
    }
}

fn text(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("read {}: {error}", path.display());
    if fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(failed(ErrorKind::FileTooLarge.into()));
    }
    fs::read_to_string(path).map_err(failed)
}

/// Of `auths` in docker's `config.json`. What a helper keeps is nothing for a server.
fn of_docker(text: &str, registry: &RegistryAddress) -> Result<Credentials, String> {
    let config: Value = serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
    let auths = config.get("auths").and_then(Value::as_object);
    let is_it = |key: &str| RegistryAddress::parse(key).is_ok_and(|address| address == *registry);
    let found = auths.and_then(|auths| auths.iter().find(|(key, _)| is_it(key))).map(|(_, entry)| entry);
    let found = found.ok_or_else(|| format!("it has no credentials for {registry} in \"auths\""))?;
    let field = |name: &str| found.get(name).and_then(Value::as_str).unwrap_or_default();
    if !field("identitytoken").is_empty() {
        return Ok(Credentials::Identity(field("identitytoken").to_owned()));
    }
    let pair = base64::decode(field("auth")).and_then(|bytes| String::from_utf8(bytes).ok());
    match pair.as_deref().and_then(|pair| pair.split_once(':')) {
        Some((name, password)) => Ok(Credentials::Password {
            name: name.to_owned(),
            password: password.trim_end_matches('\0').to_owned(),
        }),
        None => {
            Err(format!("it has no password for {registry}: a helper keeps it, which a server can't ask"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_file_has_them_by_address() {
        let of = |text: &str, registry: &str| of_docker(text, &RegistryAddress::parse(registry).unwrap());
        let auth = base64::encode(b"me:secret:1");
        let text = format!(
            r#"{{"auths": {{"https://index.docker.io/v1/": {{"auth": "{auth}"}}, "b.example.com": {{}},
                "c.example.com": {{"auth": "{auth}", "identitytoken": "t"}}}}}}"#
        );
        let password = Credentials::Password { name: "me".to_owned(), password: "secret:1".to_owned() };
        assert!(of(&text, "docker.io").unwrap() == password);
        assert!(of(&text, "c.example.com").unwrap() == Credentials::Identity("t".to_owned()));
        assert!(of(&text, "b.example.com").unwrap_err().contains("helper"));
        assert!(of(&text, "d.example.com").unwrap_err().contains("d.example.com"));
        assert!(of("[", "d.example.com").is_err());
    }

    #[test]
    fn a_password_is_a_files_only_line() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("password");
        let registry = RegistryAddress::parse("a").unwrap();
        let files = CredentialFiles::Password { user: "me".to_owned(), file: file.clone() };
        assert!(read(&files, &registry).is_err());
        fs::write(&file, "\n").unwrap();
        assert!(read(&files, &registry).is_err());
        fs::write(&file, "a b\r\n").unwrap();
        let wanted = Credentials::Password { name: "me".to_owned(), password: "a b".to_owned() };
        assert!(read(&files, &registry) == Ok(Some(wanted)));
    }
}
