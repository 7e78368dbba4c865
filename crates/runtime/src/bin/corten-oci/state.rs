//! `state`: what the specification wants to know about a container, with runc's additions.

use corten_runtime::log::format_rfc3339;
use serde_json::{Value, json};

use crate::Global;
use crate::arguments::Arguments;
use crate::failure::Outcome;
use crate::output;
use crate::store::{Container, Status};

pub fn state(global: &Global, arguments: &Arguments) -> Outcome<u8> {
    let container = Container::open(global, arguments.id())?;
    output::json(&describe(&container))?;
    Ok(0)
}

/// The state as `state` and `list --format json` print it.
pub fn describe(container: &Container) -> Value {
    let status = container.status();
    let record = &container.record;
    let mut value = json!({
        "ociVersion": record.config.oci_version,
        "id": record.id,
        "pid": if status == Status::Stopped { 0 } else { record.pid },
        "status": status.name(),
        "bundle": record.bundle,
        "rootfs": container.rootfs(),
        "created": format_rfc3339(record.created),
        "owner": owner(record.owner),
    });
    if !record.config.annotations.is_empty() {
        value["annotations"] = json!(record.config.annotations);
    }
    value
}

/// Who created it, by name where there is one.
pub fn owner(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse::<u32>() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("#{uid}"))
}
