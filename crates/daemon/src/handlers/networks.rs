//! Networks: those that are there. Making further ones is not built yet.

use crate::http::body::ok;
use crate::http::{Call, Reply};

pub async fn list(call: Call) -> Reply {
    Ok(ok(&call.engine.network_list(&call.query.filters()?).await?))
}

pub async fn inspect(call: Call) -> Reply {
    Ok(ok(&call.engine.network_inspect(call.capture("id")).await?))
}
