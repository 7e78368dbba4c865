//! How an engine is set up.

use std::net::IpAddr;
use std::path::PathBuf;

/// Settings of one engine; several engines with different roots live side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineOptions {
    pub version: String,
    /// What survives a reboot.
    pub data_root: PathBuf,
    /// What does not: sockets, run state; a directory on tmpfs.
    pub exec_root: PathBuf,
    /// The static program that becomes zygote and monitors.
    pub shim: PathBuf,
    /// `erofs` or `dir`; chosen by what the kernel can when absent.
    pub storage_driver: Option<String>,
    pub network: NetworkOptions,
    pub defaults: ContainerDefaults,
    /// Key=value pairs shown by `info`.
    pub labels: Vec<String>,
    pub runtimes: crate::Runtimes,
    pub registries: RegistryOptions,
    /// What keeps the build cache small, one rule after the other; none: what suits the disk.
    pub build_cache: Option<Vec<crate::CacheRule>>,
}

/// How registries are reached; may change while the engine runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RegistryOptions {
    /// Those that need not prove who they are.
    pub insecure: crate::InsecureRegistries,
    pub mirrors: crate::Mirrors,
    /// Which images have to be signed, and by whom.
    pub signatures: crate::SignaturePolicy,
    pub proxies: crate::Proxies,
}

/// The default network, and what others are made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetworkOptions {
    /// The bridge's address with its prefix, such as `172.30.0.1/16`.
    pub bip: Option<String>,
    /// The part of the subnet that containers get addresses from.
    pub fixed_cidr: Option<String>,
    /// Containers' way out instead of the bridge.
    pub default_gateway: Option<String>,
    /// The default network has IPv6, too, with these in the same sense; without `bip6`, `fixed_cidr_v6` is the subnet.
    pub ipv6: bool,
    pub bip6: Option<String>,
    pub fixed_cidr_v6: Option<String>,
    pub default_gateway_v6: Option<String>,
    /// Containers of the default network may talk to each other.
    pub icc: Option<bool>,
    /// What leaves the default network gets the host's address.
    pub ip_masq: Option<bool>,
    /// The host's forwarding is switched on.
    pub ip_forward: Option<bool>,
    pub mtu: Option<u32>,
    /// Where published ports listen when nobody says.
    pub host_ip: Option<IpAddr>,
    /// The bridge's name; derived from the instance when absent.
    pub bridge: Option<String>,
    /// Where networks get their subnets from when nobody names one: a range, and the prefix length of each.
    pub address_pools: Vec<(ipnet::IpNet, u8)>,
}

/// What a container gets when its creator does not say.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerDefaults {
    pub log_driver: String,
    pub log_options: Vec<(String, String)>,
    /// Name (`nofile`), soft and hard limit.
    pub ulimits: Vec<(String, i64, i64)>,
    /// Bytes of `/dev/shm`.
    pub shm_size: i64,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
    pub init: bool,
    pub no_new_privileges: bool,
    /// A seccomp profile's text (Docker's or the OCI's format), `unconfined`, or the built-in one.
    pub seccomp_profile: Option<String>,
    pub cgroup_parent: Option<String>,
    pub stop_timeout_s: i64,
}

impl ContainerDefaults {
    /// Refuses a log driver that there is not, and options that it has not.
    pub fn check_log(&self) -> crate::Result<()> {
        let config = self.log_options.iter().cloned().collect();
        let log = corten_api::container::LogConfig { kind: self.log_driver.clone(), config };
        crate::logging::check(&log)
    }
}

impl Default for ContainerDefaults {
    fn default() -> Self {
        Self {
            // What clients know: docker-py returns the output of a run only from this one.
            log_driver: "json-file".to_owned(),
            log_options: Vec::new(),
            ulimits: Vec::new(),
            shm_size: 64 << 20,
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            init: false,
            no_new_privileges: false,
            seccomp_profile: None,
            cgroup_parent: None,
            stop_timeout_s: 10,
        }
    }
}
