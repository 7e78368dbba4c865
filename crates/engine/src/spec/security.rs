//! `--security-opt`: seccomp, labels, and whether privileges may grow.

use corten_api::container::HostConfig;

use crate::error::{Error, Result};
use crate::options::ContainerDefaults;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeccompChoice {
    Default,
    Unconfined,
    /// A profile's text.
    Profile(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Security {
    pub seccomp: SeccompChoice,
    pub no_new_privileges: bool,
    pub apparmor_profile: Option<String>,
    pub selinux_label: Option<String>,
    /// `systempaths=unconfined`: nothing of /proc and /sys is hidden.
    pub unmasked: bool,
}

impl Security {
    pub fn parse(host: &HostConfig, defaults: &ContainerDefaults) -> Result<Self> {
        let mut security = Self {
            seccomp: match defaults.seccomp_profile.as_deref() {
                None => SeccompChoice::Default,
                Some(text) => seccomp_choice(text),
            },
            no_new_privileges: defaults.no_new_privileges,
            apparmor_profile: None,
            selinux_label: None,
            unmasked: false,
        };
        for option in &host.security_opt {
            security.apply(option)?;
        }
        Ok(security)
    }

    fn apply(&mut self, option: &str) -> Result<()> {
        // `name=value`; `name:value` is the older notation.
        let (name, value) = option.split_once('=').or_else(|| option.split_once(':')).unwrap_or((option, ""));
        let invalid = || Error::invalid(format!("invalid --security-opt: \"{option}\""));
        match name {
            "no-new-privileges" => {
                self.no_new_privileges = match value {
                    "" | "true" => true,
                    "false" => false,
                    _ => return Err(invalid()),
                }
            }
            "seccomp" if !value.is_empty() => self.seccomp = seccomp_choice(value),
            "apparmor" if value == "unconfined" => self.apparmor_profile = None,
            "apparmor" if !value.is_empty() => {
                if !std::path::Path::new("/sys/kernel/security/apparmor").exists() {
                    return Err(Error::invalid(format!(
                        "AppArmor profile \"{value}\" can't be applied: AppArmor is not enabled on this host"
                    )));
                }
                self.apparmor_profile = Some(value.to_owned());
            }
            "label" if value == "disable" => self.selinux_label = None,
            "label" => {
                if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
                    // Docker takes labels on any host, so that one command line serves all.
                    return Ok(());
                }
                return Err(Error::unsupported(format!("SELinux label option \"{value}\" is not supported")));
            }
            "systempaths" if value == "unconfined" => self.unmasked = true,
            "writable-cgroups" => return Err(Error::unsupported("writable-cgroups is not supported")),
            _ => return Err(invalid()),
        }
        Ok(())
    }
}

fn seccomp_choice(text: &str) -> SeccompChoice {
    match text {
        "unconfined" => SeccompChoice::Unconfined,
        "builtin" | "default" => SeccompChoice::Default,
        profile => SeccompChoice::Profile(profile.to_owned()),
    }
}
