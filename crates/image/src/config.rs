//! The image configuration: what a container of the image starts as, its history, its layers' DiffIDs.
//!
//! OCI image spec 1.1 plus Docker's own fields. Reading is as lenient as Go's JSON (null for anything); the
//! bytes that came stay the truth, this is a view, and what `import` and `create_base` write.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::build::CacheList;
use crate::digest::DiffId;
use crate::platform::Platform;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub author: String,
    #[serde(default, deserialize_with = "lenient")]
    pub architecture: String,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub variant: String,
    #[serde(default, deserialize_with = "lenient")]
    pub os: String,
    #[serde(
        rename = "os.version",
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "String::is_empty"
    )]
    pub os_version: String,
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub config: RunConfig,
    pub rootfs: RootFs,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub docker_version: String,
    /// Steps of the build that made the image; those of other images are nobody's view of them.
    #[serde(rename = "corten.build-cache", skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub build_cache: Option<CacheList>,
}

impl ImageConfig {
    pub fn platform(&self) -> Platform {
        let optional = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: optional(&self.variant),
            os_version: optional(&self.os_version),
            os_features: Some(self.os_features.clone()).filter(|features| !features.is_empty()),
        }
        .normalised()
    }
}

/// Docker's `Config` object: the defaults of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    #[serde(deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Windows: `Cmd` is one command line that is escaped already.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Seconds; the builder's `--stop-timeout` and `docker commit` store it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    #[serde(deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// The `{}` that Go's `map[string]struct{}` holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// A health check; times in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "is_zero")]
    pub interval: i64,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "is_zero")]
    pub timeout: i64,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "is_zero")]
    pub start_period: i64,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "is_zero")]
    pub retries: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    #[serde(rename = "type", default, deserialize_with = "lenient")]
    pub kind: String,
    /// Bottom layer first.
    #[serde(default, deserialize_with = "lenient")]
    pub diff_ids: Vec<DiffId>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub author: String,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    #[serde(deserialize_with = "lenient", skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// Go reads `null` as the zero value; so do we.
fn lenient<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Docker's string-or-list: old clients wrote `Cmd` and `Entrypoint` as one string.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        One(String),
        Many(Vec<String>),
    }
    Ok(Option::<Words>::deserialize(deserializer)?.map(|words| match words {
        Words::One(word) => vec![word],
        Words::Many(words) => words,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_nulls_and_docker_fields() {
        let text = r#"{"architecture":"amd64","os":"linux","created":null,"author":null,
            "config":{"User":null,"Env":null,"Cmd":"sh","Entrypoint":null,"Volumes":{"/data":{}},"OnBuild":null,
              "ExposedPorts":{"80/tcp":{}},"Healthcheck":{"Test":["CMD","true"],"Interval":1000},"Labels":null,
              "ArgsEscaped":true,"Shell":["bash","-c"],"StopSignal":"SIGINT","Hostname":"x","Tty":false},
            "container_config":{"Cmd":["x"]},
            "rootfs":{"type":"layers","diff_ids":null},"history":[{"created_by":"x","empty_layer":true}]}"#;
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.config.cmd, Some(vec!["sh".to_owned()]));
        assert_eq!(config.config.entrypoint, None);
        assert_eq!(config.config.healthcheck.as_ref().unwrap().interval, 1000);
        assert_eq!(config.config.shell.as_ref().unwrap().len(), 2);
        assert!(config.config.args_escaped && config.history[0].empty_layer);
        assert!(config.config.volumes.contains_key("/data"));
        assert!(config.rootfs.diff_ids.is_empty());
        let again: ImageConfig = serde_json::from_slice(&serde_json::to_vec(&config).unwrap()).unwrap();
        assert_eq!(again, config);
    }
}
