//! The table of endpoints. `docs/engine-api.md` holds the same table for people; a test keeps them equal.

use crate::handlers::unsupported::{no_plugins, no_such_plugin, no_swarm, plugins_declined, swarm_declined};
use crate::handlers::{
    build, builder, containers, exec, files, images, networks, own, resources, streams, system, transfer,
    volumes,
};
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

/// What is served at `metrics-addr`.
pub static METRICS: LazyLock<Vec<Route>> =
    LazyLock::new(|| table! { GET "/metrics" 24 Works own::metrics, "metrics"; });

#[rustfmt::skip]
fn core() -> Vec<Route> {
    table! {
        GET "/_ping" 24 Works system::ping, "is it there, and which versions";
        HEAD "/_ping" 24 Works system::ping, "the same without a body";
        GET "/version" 24 Works system::version, "versions of the engine and its parts";
        GET "/info" 24 Works system::info, "the host and the engine's settings";
        GET "/events" 24 Works system::events, "what happens, as it happens; `since`, `until`, filters";
        POST "/auth" 24 Works system::auth, "whether a registry accepts a name and a password, or an identity token";
        GET "/system/df" 25 Works system::disk_usage, "where the disk's bytes are";

        GET "/containers/json" 24 Works containers::list, "list, with filters; `brief=1` (Corten's own) leaves out labels, mounts and networks";
        POST "/containers/create" 24 Works containers::create, "create";
        POST "/containers/prune" 25 Works resources::prune, "remove what has ended";
        GET "/containers/{id}/json" 24 Works containers::inspect, "inspect";
        GET "/containers/{id}/top" 24 Works containers::top, "its processes";
        GET "/containers/{id}/logs" 24 Works streams::logs, "its output so far, and on";
        GET "/containers/{id}/changes" 24 Works files::changes, "files that differ from the image";
        GET "/containers/{id}/export" 24 Works files::export, "its files as a tar archive";
        GET "/containers/{id}/stats" 24 Works resources::stats, "its use of resources, every second";
        POST "/containers/{id}/resize" 24 Works containers::resize, "the terminal's size";
        POST "/containers/{id}/start" 24 Works containers::start, "start";
        POST "/containers/{id}/stop" 24 Works containers::stop, "stop: signal, grace period, kill";
        POST "/containers/{id}/restart" 24 Works containers::restart, "stop and start";
        POST "/containers/{id}/kill" 24 Works containers::kill, "send a signal";
        POST "/containers/{id}/update" 24 Works resources::update, "change limits and the restart policy";
        POST "/containers/{id}/rename" 24 Works containers::rename, "rename";
        POST "/containers/{id}/pause" 24 Works containers::pause, "freeze";
        POST "/containers/{id}/unpause" 24 Works containers::unpause, "thaw";
        POST "/containers/{id}/attach" 24 Works streams::attach, "its streams over this connection (upgrade)";
        GET "/containers/{id}/attach/ws" 24 Works streams::attach_websocket, "its streams over a WebSocket";
        POST "/containers/{id}/wait" 24 Works containers::wait, "wait for an end: not-running, next-exit, removed";
        POST "/containers/{id}/exec" 24 Works exec::create, "prepare a further process";
        HEAD "/containers/{id}/archive" 24 Works files::stat, "what a path is";
        GET "/containers/{id}/archive" 24 Works files::get, "files out, as a tar archive; `Upgrade: corten-files` (docs/files.md)";
        PUT "/containers/{id}/archive" 24 Works files::put, "files in, as a tar archive; `Upgrade: corten-files` (docs/files.md)";
        DELETE "/containers/{id...}" 24 Works containers::remove, "remove";

        POST "/exec/{id}/start" 24 Works exec::start, "start it, attached (upgrade) or detached";
        POST "/exec/{id}/resize" 24 Works exec::resize, "the terminal's size";
        GET "/exec/{id}/json" 24 Works exec::inspect, "inspect";

        GET "/images/json" 24 Works images::list, "list, with filters";
        POST "/images/create" 24 Works transfer::create, "pull (`fromImage`), or import from the body (`fromSrc=-`)";
        POST "/images/load" 24 Works transfer::load, "load an archive";
        GET "/images/get" 24 Works transfer::save, "several images as an archive";
        GET "/images/search" 24 Works images::search, "search a registry";
        POST "/images/prune" 25 Works images::prune, "remove what nobody uses";
        GET "/images/{name...}/json" 24 Works images::inspect, "inspect";
        GET "/images/{name...}/history" 24 Works images::history, "how it was made";
        GET "/images/{name...}/get" 24 Works transfer::save, "one image as an archive";
        GET "/images/{name...}/attestations" 55 Works images::attestations, "what its builder says of it";
        POST "/images/{name...}/push" 24 Works transfer::push, "push to a registry";
        POST "/images/{name...}/tag" 24 Works images::tag, "give a further name";
        DELETE "/images/{name...}" 24 Works images::remove, "untag, remove";
        GET "/distribution/{name...}/json" 30 Works images::distribution, "ask a registry about an image";
        POST "/commit" 24 Works files::commit, "an image of a container";
        POST "/build" 24 Works build::build, "build an image";
        POST "/build/cancel" 39 Works build::cancel, "end a build with version=2 (by its id)";
        POST "/build/prune" 31 Works build::prune, "forget what builds have made";
        POST "/session" 31 Works builder::session, "a builder's line to its client (upgrade to h2c; docs/buildkit.md)";
        POST "/grpc" 39 Works builder::grpc, "BuildKit's protocol (upgrade to h2c, or HTTP/2 on the socket itself)";

        GET "/volumes" 24 Works volumes::list, "list, with filters";
        POST "/volumes/create" 24 Works volumes::create, "create";
        POST "/volumes/prune" 25 Works volumes::prune, "remove what nobody uses";
        GET "/volumes/{name}" 24 Works volumes::inspect, "inspect";
        PUT "/volumes/{name}" 42 Declined no_swarm, "update a cluster volume";
        DELETE "/volumes/{name}" 24 Works volumes::remove, "remove";

        GET "/networks" 24 Works networks::list, "list, with filters";
        POST "/networks/create" 24 Works networks::create, "create";
        POST "/networks/prune" 25 Works networks::prune, "remove what nobody uses";
        GET "/networks/{id}" 24 Works networks::inspect, "inspect";
        DELETE "/networks/{id}" 24 Works networks::remove, "remove";
        POST "/networks/{id}/connect" 24 Works networks::connect, "connect a container";
        POST "/networks/{id}/disconnect" 24 Works networks::disconnect, "disconnect a container";

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
        GET "/corten/system/df" 24 Works own::data_root_usage, "every byte below the data root, by what it is";
        GET "/corten/endpoints" 24 Works own::endpoints, "this table";
        GET "/corten/metrics" 24 Works own::metrics, "metrics of the engine and its containers, for Prometheus";
        GET "/corten/stats" 24 Works resources::batch_stats, "the use of resources of all containers at once, every second";
        POST "/corten/build" 24 Works build::own_build, "build an image: request and events as JSON (crates/api/src/build.rs)";
        GET "/corten/build/cache" 24 Works build::cache, "what builds have left for the next ones (`filters`: those of `POST /build/prune`)";
        POST "/corten/build/connections/{connection}" 24 Works build::connection, "bring a connection that a build has asked for: to an SSH agent, or to stores of blobs";
        GET "/corten/builds" 24 Works build::history, "builds under way, and the last ones that were";
        GET "/corten/builds/{reference}/log" 24 Works build::log, "what a build told, an event per line";
        POST "/corten/builds/{reference}/pin" 24 Works build::pin, "keep a build in the history, or no longer (`pinned`)";
        DELETE "/corten/builds/{reference}" 24 Works build::forget, "remove a build from the history";
        POST "/corten/images/create-base" 24 Works own::create_base, "a base image from the host's distribution";
        GET "/corten/images/{name...}/sbom" 24 Works images::sbom, "the packages in it (`format`: `spdx`, `cyclonedx`; `platform`)";
        POST "/corten/volumes/{name}/clone" 24 Works volumes::clone, "another volume (`to`) with the same files; `live`";
        GET "/corten/volumes/{name}/export" 24 Works volumes::export, "its files as a tar archive";
        POST "/corten/volumes/{name}/import" 24 Works volumes::import, "a new volume of a tar archive; `label`, `opt`";
        POST "/corten/volumes/{name}/rename" 24 Works volumes::rename, "another name (`to`), in its containers too";
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
