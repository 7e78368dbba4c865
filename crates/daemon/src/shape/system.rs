//! The engine about itself, as older clients know it.

use super::{knows, within};
use crate::http::ApiVersion;
use corten_api::system::SystemInfo;
use serde_json::{Value, json};

pub fn info(mut info: SystemInfo, version: ApiVersion) -> Value {
    if !knows(version, 44) {
        info.runtimes.values_mut().for_each(|runtime| runtime.status.clear());
    }
    if !knows(version, 49) {
        info.firewall_backend = None;
    }
    if !knows(version, 25) {
        let names = info.security_options.iter().map(|option| plain_security_option(option));
        info.security_options = names.collect();
    }
    let mut document = json!(info);
    if !knows(version, 47) {
        within(&mut document, "RegistryConfig", |registries| {
            registries.insert("AllowNondistributableArtifactsCIDRs".into(), Value::Null);
            registries.insert("AllowNondistributableArtifactsHostnames".into(), Value::Null);
        });
    }
    if !knows(version, 49) {
        for name in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
            let id = document[name]["ID"].clone();
            within(&mut document, name, |commit| drop(commit.insert("Expected".into(), id)));
        }
    }
    if !knows(version, 50) {
        document["BridgeNfIptables"] = false.into();
        document["BridgeNfIp6tables"] = false.into();
    }
    if !knows(version, 25) {
        document["ExecutionDriver"] = "<not supported>".into();
    }
    document
}

/// `name=seccomp,profile=builtin` was `seccomp` in 1.24.
fn plain_security_option(option: &str) -> String {
    let name = option.split(',').find_map(|part| part.strip_prefix("name="));
    name.unwrap_or(option).to_owned()
}
