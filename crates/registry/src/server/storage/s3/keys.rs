//! What the store is shown, and what the environment says of the way there. Reads variables and the secret's file.

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key};

use super::config::{Keys, S3Settings};
use crate::Proxies;

/// What Amazon's programs take from the environment to prove who they are. Where to go is said in the configuration only.
const VARIABLES: [(&str, Key); 9] = [
    ("AWS_ACCESS_KEY_ID", Key::AccessKeyId),
    ("AWS_SECRET_ACCESS_KEY", Key::SecretAccessKey),
    ("AWS_SESSION_TOKEN", Key::Token),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", Key::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", Key::RoleArn),
    ("AWS_ROLE_SESSION_NAME", Key::RoleSessionName),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", Key::ContainerCredentialsRelativeUri),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", Key::ContainerCredentialsFullUri),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", Key::ContainerAuthorizationTokenFile),
];

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

pub fn region() -> Option<String> {
    variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"))
}

/// Proxies as the environment names them; variables in lower case count, too.
pub fn proxies() -> Result<Proxies, String> {
    let [http, https, none] = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"]
        .map(|name| variable(name).or_else(|| variable(&name.to_ascii_lowercase())));
    Proxies::new(http.as_deref(), https.as_deref(), none.as_deref()).map_err(|error| error.to_string())
}

/// Adds what proves who we are.
///
/// # Errors
/// What is missing, and where it could stand.
pub fn add(mut builder: AmazonS3Builder, settings: &S3Settings) -> Result<AmazonS3Builder, String> {
    if let Keys::File { access_key_id, secret_file } = &settings.keys {
        let read = std::fs::read_to_string(secret_file);
        let read =
            read.map_err(|error| format!("secret_access_key_file {}: {error}", secret_file.display()))?;
        let secret = read.trim();
        if secret.is_empty() || secret.contains(char::is_whitespace) {
            let wanted = "the secret key and nothing else has to stand in it";
            return Err(format!("secret_access_key_file {}: {wanted}", secret_file.display()));
        }
        return Ok(builder.with_access_key_id(access_key_id).with_secret_access_key(secret));
    }
    for (name, key) in VARIABLES {
        if let Some(value) = variable(name) {
            builder = builder.with_config(key, value);
        }
    }
    let has = |key| builder.get_config_value(&key).is_some();
    let is_complete = has(Key::AccessKeyId) && has(Key::SecretAccessKey)
        || has(Key::WebIdentityTokenFile) && has(Key::RoleArn)
        || has(Key::ContainerCredentialsRelativeUri)
        || has(Key::ContainerCredentialsFullUri) && has(Key::ContainerAuthorizationTokenFile);
    // Only machines of Amazon's have roles of their own.
    if !is_complete && (settings.endpoint.is_some() || has(Key::AccessKeyId) || has(Key::SecretAccessKey)) {
        return Err("no credentials: say access_key_id and secret_access_key_file in storage.s3, or set AWS_ACCESS_KEY_ID \
                    and AWS_SECRET_ACCESS_KEY"
            .to_owned());
    }
    Ok(builder)
}
