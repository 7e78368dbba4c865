//! Which devices of the host the container sees.

use corten_api::List;
use corten_api::container::{ContainerCreateRequest, DeviceMapping, DeviceRequest};

use super::OptionError;
use super::process::non_empty;

#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Devices")]
pub struct DeviceFlags {
    /// Add a host device to the container
    #[arg(long, value_name = "HOST[:CONTAINER[:rwm]]")]
    pub device: Vec<String>,
    /// Add a rule to the cgroup allowed devices list
    #[arg(long, value_name = "RULE")]
    pub device_cgroup_rule: Vec<String>,
    /// GPU devices to add to the container ('all' to pass all GPUs)
    #[arg(long, value_name = "REQUEST", hide = true)]
    pub gpus: Option<String>,
}

impl DeviceFlags {
    pub fn apply(&self, request: &mut ContainerCreateRequest) -> Result<(), OptionError> {
        if self.gpus.is_some() {
            let why = "GPUs need their vendor's hook; pass their device nodes by --device instead";
            return Err(OptionError::Unsupported { flag: "--gpus", why });
        }
        let host = &mut request.host_config;
        host.devices = List::empty();
        for word in &self.device {
            // A name such as vendor.com/class=device stands for a CDI specification.
            if !word.starts_with('/') && word.contains('/') && word.contains('=') {
                let device_ids = vec![word.clone()].into();
                let wish = DeviceRequest { driver: "cdi".to_owned(), device_ids, ..DeviceRequest::default() };
                host.device_requests.push(wish);
                continue;
            }
            let mapping = device(word).map_err(|why| OptionError::invalid("--device", word, why))?;
            host.devices.push(mapping);
        }
        for rule in &self.device_cgroup_rule {
            if !is_rule(rule) {
                let why = "expected \"TYPE MAJOR:MINOR rwm\" such as \"c 1:* mr\"";
                return Err(OptionError::invalid("--device-cgroup-rule", rule, why));
            }
        }
        host.device_cgroup_rules = non_empty(&self.device_cgroup_rule);
        Ok(())
    }
}

fn device(word: &str) -> Result<DeviceMapping, &'static str> {
    let parts: Vec<&str> = word.split(':').collect();
    let (host, container, permissions) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, second] if is_permissions(second) => (*host, *host, *second),
        [host, container] => (*host, *container, "rwm"),
        [host, container, permissions] => (*host, *container, *permissions),
        _ => return Err("expected HOST[:CONTAINER[:rwm]]"),
    };
    if !host.starts_with('/') {
        return Err("the path on the host must be absolute");
    }
    if !is_permissions(permissions) {
        return Err("the permissions must be of r, w and m");
    }
    let container = if container.is_empty() { host } else { container };
    Ok(DeviceMapping {
        path_on_host: host.to_owned(),
        path_in_container: container.to_owned(),
        cgroup_permissions: permissions.to_owned(),
    })
}

fn is_permissions(text: &str) -> bool {
    let once = |c| text.matches(c).count() <= 1;
    !text.is_empty() && text.chars().all(|c| "rwm".contains(c)) && once('r') && once('w') && once('m')
}

fn is_rule(rule: &str) -> bool {
    let number =
        |text: &str| text == "*" || (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    let mut parts = rule.split(' ');
    let (Some(kind), Some(numbers), Some(access), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let Some((major, minor)) = numbers.split_once(':') else { return false };
    matches!(kind, "a" | "b" | "c") && number(major) && number(minor) && is_permissions(access)
}
