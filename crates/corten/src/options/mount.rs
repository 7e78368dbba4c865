//! `--mount`: one mount as comma-separated `key=value` pairs.

use corten_api::mount::{BindOptions, DriverConfig, ImageOptions, Mount, TmpfsOptions, VolumeOptions};

use super::csv;
use super::values::{boolean, bytes};

/// Parses one `--mount`; the error says what is wrong without repeating the flag.
pub fn mount(text: &str) -> Result<Mount, String> {
    let mut wish = Mount { kind: "volume".to_owned(), ..Mount::default() };
    for field in csv::fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        set(&mut wish, &key, value)?;
    }
    check(&wish)?;
    Ok(wish)
}

fn set(wish: &mut Mount, key: &str, value: Option<&str>) -> Result<(), String> {
    // These three are true when they stand alone.
    let switch = |value: Option<&str>| value.map_or(Ok(true), boolean);
    match key {
        "readonly" | "ro" => {
            wish.read_only = switch(value)?;
            return Ok(());
        }
        "volume-nocopy" => {
            volume(wish).no_copy = switch(value)?;
            return Ok(());
        }
        "bind-nonrecursive" => {
            bind(wish).non_recursive = switch(value)?;
            return Ok(());
        }
        _ => {}
    }
    let value = value.ok_or_else(|| format!("{key} needs a value: {key}=…"))?;
    match key {
        "type" => wish.kind = value.to_ascii_lowercase(),
        "source" | "src" => wish.source = source(value),
        "target" | "dst" | "destination" => wish.target = value.to_owned(),
        "consistency" => wish.consistency = value.to_ascii_lowercase(),
        "bind-propagation" => bind(wish).propagation = value.to_ascii_lowercase(),
        "bind-recursive" => bind_recursive(wish, value)?,
        "bind-create-src" => bind(wish).create_mountpoint = boolean(value)?,
        "volume-subpath" => volume(wish).subpath = value.to_owned(),
        "volume-label" => {
            let (label, value) = super::values::key_value(value);
            volume(wish).labels.insert(label, value);
        }
        "volume-driver" => driver(wish).name = value.to_owned(),
        "volume-opt" => {
            let (option, value) = super::values::key_value(value);
            driver(wish).options.insert(option, value);
        }
        "image-subpath" => {
            wish.image_options.get_or_insert_with(ImageOptions::default).subpath = value.to_owned();
        }
        "tmpfs-size" => {
            let size =
                bytes(value).ok_or_else(|| format!("{value:?} is no size; expected 64m or the like"))?;
            tmpfs(wish).size_bytes = size;
        }
        "tmpfs-mode" => {
            let mode = u32::from_str_radix(value, 8).map_err(|_| format!("{value:?} is no octal mode"))?;
            tmpfs(wish).mode = mode;
        }
        _ => return Err(format!("there is no key {key:?}")),
    }
    Ok(())
}

/// Paths relative to the working directory are made absolute, as for `-v`.
fn source(value: &str) -> String {
    if !value.starts_with('.') {
        return value.to_owned();
    }
    match std::path::absolute(value) {
        Ok(path) => path.to_string_lossy().trim_end_matches("/.").to_owned(),
        Err(_) => value.to_owned(),
    }
}

fn bind_recursive(wish: &mut Mount, value: &str) -> Result<(), String> {
    match value {
        "enabled" => {}
        "disabled" => bind(wish).non_recursive = true,
        "writable" => bind(wish).read_only_non_recursive = true,
        "readonly" => bind(wish).read_only_force_recursive = true,
        _ => {
            return Err(format!(
                "bind-recursive={value:?}: expected enabled, disabled, writable or readonly"
            ));
        }
    }
    Ok(())
}

fn bind(wish: &mut Mount) -> &mut BindOptions {
    wish.bind_options.get_or_insert_with(BindOptions::default)
}

fn volume(wish: &mut Mount) -> &mut VolumeOptions {
    wish.volume_options.get_or_insert_with(VolumeOptions::default)
}

fn driver(wish: &mut Mount) -> &mut DriverConfig {
    volume(wish).driver_config.get_or_insert_with(DriverConfig::default)
}

fn tmpfs(wish: &mut Mount) -> &mut TmpfsOptions {
    wish.tmpfs_options.get_or_insert_with(TmpfsOptions::default)
}

fn check(wish: &Mount) -> Result<(), String> {
    const TYPES: [&str; 6] = ["bind", "volume", "tmpfs", "image", "npipe", "cluster"];
    if !TYPES.contains(&wish.kind.as_str()) {
        return Err(format!("there is no mount type {:?}; there are: bind, volume, tmpfs, image", wish.kind));
    }
    if wish.target.is_empty() {
        return Err("target is required".to_owned());
    }
    let foreign = [
        (wish.bind_options.is_some(), "bind", "bind-*"),
        (wish.volume_options.is_some(), "volume", "volume-*"),
        (wish.image_options.is_some(), "image", "image-*"),
        (wish.tmpfs_options.is_some(), "tmpfs", "tmpfs-*"),
    ];
    for (given, kind, keys) in foreign {
        if given && wish.kind != kind {
            return Err(format!("{keys} doesn't go with type={}", wish.kind));
        }
    }
    if let Some(bind) = &wish.bind_options {
        if bind.read_only_non_recursive && !wish.read_only {
            return Err("bind-recursive=writable needs readonly".to_owned());
        }
        if bind.read_only_force_recursive && (!wish.read_only || bind.propagation != "rprivate") {
            return Err("bind-recursive=readonly needs readonly and bind-propagation=rprivate".to_owned());
        }
    }
    Ok(())
}
