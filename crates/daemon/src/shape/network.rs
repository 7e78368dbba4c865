//! Networks, as older clients know them.

use super::knows;
use crate::http::ApiVersion;
use corten_api::network::NetworkInspect;
use serde_json::{Value, json};

/// `containers` is empty in a list, and since 1.52 not there.
pub fn list(networks: Vec<NetworkInspect>, version: ApiVersion) -> Value {
    let mut documents: Vec<Value> =
        networks.into_iter().map(|network| inspect(network, version)).map(|n| json!(n)).collect();
    if knows(version, 52) {
        for fields in documents.iter_mut().filter_map(Value::as_object_mut) {
            fields.shift_remove("Containers");
            fields.shift_remove("Status");
        }
    }
    documents.into()
}

pub fn inspect(mut network: NetworkInspect, version: ApiVersion) -> NetworkInspect {
    if !knows(version, 52) {
        network.status = None;
    }
    network
}
