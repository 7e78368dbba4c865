//! The table of endpoints. `docs/engine-api.md` holds the same table for people; a test keeps them equal.

use crate::handlers::unsupported::{
    missing, no_plugins, no_such_plugin, no_swarm, plugins_declined, swarm_declined,
};
use crate::handlers::{containers, exec, images, networks, own, streams, system, transfer, volumes};
use crate::http::ApiVersion;
use crate::http::route::{Route, State};
use hyper::Method;
use std::sync::LazyLock;

/// `METHOD "pattern" since-minor State handler "about"`, one per line.
macro_rules! table {
    ($($method:ident $pattern:literal $since:literal $state:ident $handler:path, $about:literal;)*) => {
        vec![$(Route {
            method: Method::$method,
            pattern: $pattern,
            since: ApiVersion::new(1, $since),
            state: State::$state,
            about: $about,
            handler: |call| Box::pin($handler(call)),
        }),*]
    };
}

/// All endpoints, special patterns before general ones.
pub static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
    let mut routes = core();
    routes.extend(swarm());
    routes
});

#[rustfmt::skip]
fn core() -> Vec<Route> {
    table! {
        GET "/_ping" 24 Works system::ping, "is it there, and which versions";
        HEAD "/_ping" 24 Works system::ping, "the same without a body";
        GET "/version" 24 Works system::version, "versions of the engine and its parts";
        GET "/info" 24 Works system::info, "the host and the engine's settings";
        GET "/events" 24 Works system::events, "what happens, as it happens; `since`, `until`, filters";
        POST "/auth" 24 Missing missing, "log in at a registry";
        GET "/system/df" 24 Missing missing, "where the disk's bytes are";

        GET "/containers/json" 24 Works containers::list, "list, with filters";
        POST "/containers/create" 24 Works containers::create, "create";
        POST "/containers/prune" 25 Missing missing, "remove what has ended";
        GET "/containers/{id}/json" 24 Works containers::inspect, "inspect";
        GET "/containers/{id}/top" 24 Works containers::top, "its processes";
        GET "/containers/{id}/logs" 24 Works streams::logs, "its output so far, and on";
        GET "/containers/{id}/changes" 24 Missing missing, "files that differ from the image";
        GET "/containers/{id}/export" 24 Missing missing, "its files as a tar archive";
        GET "/containers/{id}/stats" 24 Missing missing, "its use of resources";
        POST "/containers/{id}/resize" 24 Works containers::resize, "the terminal's size";
        POST "/containers/{id}/start" 24 Works containers::start, "start";
        POST "/containers/{id}/stop" 24 Works containers::stop, "stop: signal, grace period, kill";
        POST "/containers/{id}/restart" 24 Works containers::restart, "stop and start";
        POST "/containers/{id}/kill" 24 Works containers::kill, "send a signal";
        POST "/containers/{id}/update" 24 Missing missing, "change limits";
        POST "/containers/{id}/rename" 24 Works containers::rename, "rename";
        POST "/containers/{id}/pause" 24 Works containers::pause, "freeze";
        POST "/containers/{id}/unpause" 24 Works containers::unpause, "thaw";
        POST "/containers/{id}/attach" 24 Works streams::attach, "its streams over this connection (upgrade)";
        GET "/containers/{id}/attach/ws" 24 Works streams::attach_websocket, "its streams over a WebSocket";
        POST "/containers/{id}/wait" 24 Works containers::wait, "wait for an end: not-running, next-exit, removed";
        POST "/containers/{id}/exec" 24 Works exec::create, "prepare a further process";
        HEAD "/containers/{id}/archive" 24 Missing missing, "what a path is";
        GET "/containers/{id}/archive" 24 Missing missing, "files out, as a tar archive";
        PUT "/containers/{id}/archive" 24 Missing missing, "files in, as a tar archive";
        DELETE "/containers/{id}" 24 Works containers::remove, "remove";

        POST "/exec/{id}/start" 24 Works exec::start, "start it, attached (upgrade) or detached";
        POST "/exec/{id}/resize" 24 Works exec::resize, "the terminal's size";
        GET "/exec/{id}/json" 24 Works exec::inspect, "inspect";

        GET "/images/json" 24 Works images::list, "list, with filters";
        POST "/images/create" 24 Works transfer::create, "import from the body (`fromSrc=-`); `fromImage` (pull) answers 501";
        POST "/images/load" 24 Works transfer::load, "load an archive";
        GET "/images/get" 24 Works transfer::save, "several images as an archive";
        GET "/images/search" 24 Missing missing, "search a registry";
        POST "/images/prune" 25 Missing missing, "remove what nobody uses";
        GET "/images/{name...}/json" 24 Works images::inspect, "inspect";
        GET "/images/{name...}/history" 24 Works images::history, "how it was made";
        GET "/images/{name...}/get" 24 Works transfer::save, "one image as an archive";
        GET "/images/{name...}/attestations" 54 Missing missing, "attestations";
        POST "/images/{name...}/push" 24 Missing missing, "push to a registry";
        POST "/images/{name...}/tag" 24 Works images::tag, "give a further name";
        DELETE "/images/{name...}" 24 Works images::remove, "untag, remove";
        GET "/distribution/{name...}/json" 30 Missing missing, "ask a registry about an image";
        POST "/commit" 24 Missing missing, "an image of a container";
        POST "/build" 24 Missing missing, "build an image";
        POST "/build/prune" 31 Missing missing, "empty the build cache";
        POST "/session" 31 Missing missing, "a builder's line to its client";
        POST "/grpc" 39 Missing missing, "BuildKit's protocol";

        GET "/volumes" 24 Works volumes::list, "list, with filters";
        POST "/volumes/create" 24 Works volumes::create, "create";
        POST "/volumes/prune" 25 Works volumes::prune, "remove what nobody uses";
        GET "/volumes/{name}" 24 Works volumes::inspect, "inspect";
        PUT "/volumes/{name}" 42 Declined no_swarm, "update a cluster volume";
        DELETE "/volumes/{name}" 24 Works volumes::remove, "remove";

        GET "/networks" 24 Works networks::list, "list: bridge (nat), host, none";
        POST "/networks/create" 24 Missing missing, "create";
        POST "/networks/prune" 25 Missing missing, "remove what nobody uses";
        GET "/networks/{id}" 24 Works networks::inspect, "inspect";
        DELETE "/networks/{id}" 24 Missing missing, "remove";
        POST "/networks/{id}/connect" 24 Missing missing, "connect a container";
        POST "/networks/{id}/disconnect" 24 Missing missing, "disconnect a container";

        GET "/plugins" 25 Declined no_plugins, "list: none";
        GET "/plugins/privileges" 25 Declined plugins_declined, "what a plugin wants";
        POST "/plugins/pull" 25 Declined plugins_declined, "install";
        POST "/plugins/create" 25 Declined plugins_declined, "create";
        GET "/plugins/{name...}/json" 25 Declined no_such_plugin, "inspect";
        POST "/plugins/{name...}/enable" 25 Declined no_such_plugin, "enable";
        POST "/plugins/{name...}/disable" 25 Declined no_such_plugin, "disable";
        POST "/plugins/{name...}/upgrade" 26 Declined no_such_plugin, "upgrade";
        POST "/plugins/{name...}/push" 25 Declined no_such_plugin, "push";
        POST "/plugins/{name...}/set" 25 Declined no_such_plugin, "configure";
        DELETE "/plugins/{name...}" 25 Declined no_such_plugin, "remove";

        GET "/corten/version" 24 Works own::version, "Corten's own version";
        GET "/corten/endpoints" 24 Works own::endpoints, "this table";
        POST "/corten/images/create-base" 24 Works own::create_base, "a base image from the host's distribution";
    }
}

/// Swarm: answered as on a node that is in no swarm.
#[rustfmt::skip]
fn swarm() -> Vec<Route> {
    table! {
        GET "/swarm" 24 Declined no_swarm, "inspect";
        POST "/swarm/init" 24 Declined swarm_declined, "make a swarm";
        POST "/swarm/join" 24 Declined swarm_declined, "join a swarm";
        POST "/swarm/leave" 24 Declined no_swarm, "leave";
        POST "/swarm/update" 24 Declined no_swarm, "update";
        GET "/swarm/unlockkey" 24 Declined no_swarm, "the key";
        POST "/swarm/unlock" 24 Declined no_swarm, "unlock";
        GET "/nodes" 24 Declined no_swarm, "list";
        GET "/nodes/{id}" 24 Declined no_swarm, "inspect";
        DELETE "/nodes/{id}" 24 Declined no_swarm, "remove";
        POST "/nodes/{id}/update" 24 Declined no_swarm, "update";
        GET "/services" 24 Declined no_swarm, "list";
        POST "/services/create" 24 Declined no_swarm, "create";
        GET "/services/{id}" 24 Declined no_swarm, "inspect";
        DELETE "/services/{id}" 24 Declined no_swarm, "remove";
        POST "/services/{id}/update" 24 Declined no_swarm, "update";
        GET "/services/{id}/logs" 29 Declined no_swarm, "logs";
        GET "/tasks" 24 Declined no_swarm, "list";
        GET "/tasks/{id}" 24 Declined no_swarm, "inspect";
        GET "/tasks/{id}/logs" 29 Declined no_swarm, "logs";
        GET "/secrets" 25 Declined no_swarm, "list";
        POST "/secrets/create" 25 Declined no_swarm, "create";
        GET "/secrets/{id}" 25 Declined no_swarm, "inspect";
        DELETE "/secrets/{id}" 25 Declined no_swarm, "remove";
        POST "/secrets/{id}/update" 25 Declined no_swarm, "update";
        GET "/configs" 30 Declined no_swarm, "list";
        POST "/configs/create" 30 Declined no_swarm, "create";
        GET "/configs/{id}" 30 Declined no_swarm, "inspect";
        DELETE "/configs/{id}" 30 Declined no_swarm, "remove";
        POST "/configs/{id}/update" 30 Declined no_swarm, "update";
    }
}

#[cfg(test)]
mod tests;
