//! Requests of older clients: what their version didn't know is taken out, what it did otherwise is put into today's terms.

use super::knows;
use crate::http::{ApiError, ApiVersion};
use corten_api::container::ContainerCreateRequest;
use corten_api::mount::Mount;

/// Brings a request to create a container into today's shape. Yields warnings for the answer.
pub fn create(request: &mut ContainerCreateRequest, version: ApiVersion) -> Result<Vec<String>, ApiError> {
    let mut warnings = Vec::new();
    let host = &mut request.host_config;
    if !knows(version, 25) {
        // Removing it was the client's task then.
        host.auto_remove = false;
    }
    if !knows(version, 40) && host.ipc_mode.is_empty() {
        host.ipc_mode = "shareable".to_owned();
    }
    if version == ApiVersion::new(1, 40) && !host.capabilities.is_empty() {
        return Err(ApiError::bad_request(
            "the HostConfig.Capabilities field is not supported by this daemon; use CapAdd and CapDrop to set capabilities",
        ));
    }
    host.capabilities.clear();
    if !knows(version, 42) {
        host.console_size = [0, 0];
    }
    if knows(version, 42) {
        host.kernel_memory = 0;
    }
    if knows(version, 52) {
        host.kernel_memory_tcp = 0;
    }
    if !knows(version, 43) {
        host.annotations.clear();
    }
    if !knows(version, 44) {
        if let Some(health) = &mut request.config.healthcheck {
            health.start_interval = 0;
        }
        request.read_only_non_recursive = true;
    }
    for mount in host.mounts.iter_mut() {
        check_mount(mount, version)?;
    }
    networks(request, version, &mut warnings)?;
    volume_driver(request, version, &mut warnings);
    port_bindings(request, version, &mut warnings);
    Ok(warnings)
}

fn check_mount(mount: &mut Mount, version: ApiVersion) -> Result<(), ApiError> {
    let needs =
        |what: &str, minor: u32| Err(ApiError::bad_request(format!("{what} needs API v1.{minor} or newer")));
    let kind = mount.kind.clone();
    if let Some(options) = &mut mount.bind_options {
        options.non_recursive &= knows(version, 40);
        options.create_mountpoint &= knows(version, 42);
        if options.read_only_force_recursive && kind == "bind" && !knows(version, 44) {
            return needs("BindOptions.ReadOnlyForceRecursive", 44);
        }
    }
    // Options of another type of mount were ignored once, and are refused now.
    for (given, own, name) in [
        (mount.volume_options.is_some(), "volume", "VolumeOptions"),
        (mount.bind_options.is_some(), "bind", "BindOptions"),
        (mount.tmpfs_options.is_some(), "tmpfs", "TmpfsOptions"),
    ] {
        if given && kind != own && knows(version, 42) {
            let message = format!("{name} must not be specified on mount type {kind:?}");
            return Err(ApiError::bad_request(message));
        }
    }
    if !knows(version, 42) {
        mount.volume_options = mount.volume_options.take().filter(|_| kind == "volume");
        mount.bind_options = mount.bind_options.take().filter(|_| kind == "bind");
        mount.tmpfs_options = mount.tmpfs_options.take().filter(|_| kind == "tmpfs");
    }
    if !knows(version, 45) && mount.volume_options.as_ref().is_some_and(|o| !o.subpath.is_empty()) {
        return needs("VolumeOptions.Subpath", 45);
    }
    if !knows(version, 48) && kind == "image" {
        return needs("Mount type \"Image\"", 48);
    }
    Ok(())
}

/// Several networks at once came with 1.44, as did a MAC address for each; that of the container went with 1.52.
fn networks(
    request: &mut ContainerCreateRequest,
    version: ApiVersion,
    warnings: &mut Vec<String>,
) -> Result<(), ApiError> {
    let endpoints = &mut request.networking_config.endpoints_config;
    if !knows(version, 44) {
        if endpoints.len() > 1 {
            let names: Vec<&str> = endpoints.keys().map(String::as_str).collect();
            return Err(ApiError::bad_request(format!(
                "Container cannot be created with multiple network endpoints: {}",
                names.join(", ")
            )));
        }
        endpoints.values_mut().for_each(|endpoint| endpoint.mac_address.clear());
    }
    if !knows(version, 48) {
        endpoints.values_mut().for_each(|endpoint| endpoint.gw_priority = 0);
    }
    let of_container = &mut request.config.mac_address;
    if of_container.is_empty() || !knows(version, 44) {
        return Ok(());
    }
    if knows(version, 52) {
        of_container.clear();
        warnings.push(
            "The container-wide MacAddress field is no longer supported, and was ignored: it has to be \
             specified in EndpointsConfig instead."
                .to_owned(),
        );
        return Ok(());
    }
    let mode = match request.host_config.network_mode.as_str() {
        "" | "default" | "nat" => "bridge",
        mode => mode,
    };
    let of_endpoint = endpoints.get(mode).map(|endpoint| endpoint.mac_address.as_str()).unwrap_or_default();
    if !of_endpoint.is_empty() && !of_endpoint.eq_ignore_ascii_case(of_container) {
        return Err(ApiError::bad_request(
            "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty",
        ));
    }
    warnings.push(
        "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
            .to_owned(),
    );
    Ok(())
}

fn volume_driver(request: &ContainerCreateRequest, version: ApiVersion, warnings: &mut Vec<String>) {
    let host = &request.host_config;
    let undecided = |mount: &Mount| {
        let driver = mount.volume_options.as_ref().and_then(|options| options.driver_config.as_ref());
        mount.kind == "volume" && driver.is_none_or(|driver| driver.name.is_empty())
    };
    if knows(version, 48) && !host.volume_driver.is_empty() && host.mounts.iter().any(undecided) {
        warnings.push(
            "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. \
             Use '--mount type=volume,volume-driver=...' instead"
                .to_owned(),
        );
    }
}

/// A port with an empty list of bindings is published anywhere, still.
fn port_bindings(request: &mut ContainerCreateRequest, version: ApiVersion, warnings: &mut Vec<String>) {
    let mut empty = Vec::new();
    for (port, bindings) in request.host_config.port_bindings.iter_mut() {
        if bindings.is_empty() {
            *bindings = vec![Default::default()].into();
            empty.push(port.as_str());
        }
    }
    if knows(version, 52) && !empty.is_empty() {
        warnings.push(format!(
            "Following container port(s) have an empty list of port-bindings: {}. Such bindings will be discarded in a future version.",
            empty.join(", ")
        ));
    }
}
