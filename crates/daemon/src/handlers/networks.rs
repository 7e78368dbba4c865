//! Networks, and who is in them.

use crate::http::body::{empty, json, no_content, ok};
use crate::http::{Call, Reply};
use crate::shape;
use corten_api::network::{NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest};
use hyper::StatusCode;

pub async fn list(call: Call) -> Reply {
    let mut networks = call.engine.network_list(&call.query.filters()?).await?;
    if !call.at_least(1, 28) {
        // The list told as much as inspect does.
        for network in &mut networks {
            *network = call.engine.network_inspect(&network.id).await?;
        }
    }
    Ok(ok(&shape::network::list(networks, call.version)))
}

pub async fn inspect(call: Call) -> Reply {
    let network = call.engine.network_inspect(call.capture("id")).await?;
    Ok(ok(&shape::network::inspect(network, call.version)))
}

pub async fn create(mut call: Call) -> Reply {
    let mut request: NetworkCreateRequest = call.json().await?;
    if !call.at_least(1, 48) {
        request.enable_ipv4 = None;
    }
    Ok(json(StatusCode::CREATED, &call.engine.network_create(request).await?))
}

pub async fn remove(call: Call) -> Reply {
    call.engine.network_remove(call.capture("id")).await?;
    Ok(no_content())
}

pub async fn connect(mut call: Call) -> Reply {
    let request: NetworkConnectRequest = call.json().await?;
    let mut endpoint = request.endpoint_config;
    // A MAC address of the connection came with 1.54; it was ignored before.
    if let Some(endpoint) = endpoint.as_mut().filter(|_| !call.at_least(1, 54)) {
        endpoint.mac_address.clear();
    }
    call.engine.network_connect(call.capture("id"), &request.container, endpoint).await?;
    Ok(empty(StatusCode::OK))
}

pub async fn disconnect(mut call: Call) -> Reply {
    let request: NetworkDisconnectRequest = call.json().await?;
    call.engine.network_disconnect(call.capture("id"), &request.container, request.force).await?;
    Ok(empty(StatusCode::OK))
}

pub async fn prune(call: Call) -> Reply {
    Ok(ok(&call.engine.network_prune(&call.query.filters()?).await?))
}
