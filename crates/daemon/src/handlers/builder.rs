//! The two connections of BuildKit's clients: the one on which they call, and the one on which they are called.

use crate::hijack;
use crate::http::{ApiError, Call, Reply};

const PROTOCOL: &str = "h2c";

/// A connection on which a client calls the builder.
pub async fn grpc(mut call: Call) -> Reply {
    let upgrade = upgrade(&mut call)?;
    let controller = call.buildkit;
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => controller.serve(connection).await,
            Err(error) => tracing::debug!(%error, "the client went before its connection was upgraded"),
        }
    });
    Ok(hijack::switching(PROTOCOL))
}

/// A connection on which the builder calls its client.
pub async fn session(mut call: Call) -> Reply {
    let upgrade = upgrade(&mut call)?;
    let session =
        call.buildkit.welcome(&call.headers).map_err(|error| ApiError::bad_request(error.to_string()))?;
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => {
                if let Err(error) = session.run(connection).await {
                    tracing::debug!(%error, "a build's session");
                }
            }
            Err(error) => tracing::debug!(%error, "the client went before its connection was upgraded"),
        }
    });
    Ok(hijack::switching(PROTOCOL))
}

fn upgrade(call: &mut Call) -> Result<hyper::upgrade::OnUpgrade, ApiError> {
    if !hijack::is_asked_for(call, PROTOCOL) {
        return Err(ApiError::bad_request(match call.header("upgrade") {
            "" => "no upgrade proto in request".to_owned(),
            other => format!("protocol {other} not supported"),
        }));
    }
    call.take_upgrade().ok_or_else(|| ApiError::bad_request("no upgrade proto in request"))
}
