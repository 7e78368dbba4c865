//! The keys of daemon.json as a table: each with its effect on a `Config`.

use super::Config;
use crate::log::LogFormat;
use corten_engine::{InsecureRegistries, Proxies};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Applies a value, or says why it can't be.
pub type Effect = fn(&mut Config, &str, Value) -> Result<(), String>;

pub fn effect(key: &str) -> Option<Effect> {
    KEYS.iter().find(|(name, _)| *name == key).map(|(_, effect)| *effect)
}

/// Every key that Docker documents for Linux, and what becomes of it here.
pub const KEYS: &[(&str, Effect)] = &[
    ("data-root", |c, _, v| set(&mut c.data_root, v)),
    ("exec-root", |c, _, v| set(&mut c.exec_root, v)),
    ("hosts", |c, _, v| fill(&mut c.hosts, v)),
    ("group", |c, _, v| set(&mut c.group, v)),
    ("pidfile", |c, _, v| set(&mut c.pidfile, v)),
    ("debug", |c, _, v| fill(&mut c.debug, v)),
    ("log-level", |c, _, v| {
        let level: String = read(v)?;
        if !["debug", "info", "warn", "error", "fatal"].contains(&level.as_str()) {
            return Err(format!("invalid logging level: {level}"));
        }
        c.log_level = Some(level);
        Ok(())
    }),
    ("log-format", |c, _, v| {
        c.log_format = match read::<String>(v)?.as_str() {
            "" | "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            other => return Err(format!("invalid log format: {other}")),
        };
        Ok(())
    }),
    ("metrics-addr", |c, _, v| set(&mut c.metrics_addr, v)),
    ("bip", |c, _, v| set(&mut c.network.bip, v)),
    ("bridge", |c, _, v| {
        let bridge: Option<String> = read(v)?;
        if bridge.as_deref() == Some("none") {
            return Err(
                "an engine without its default network is not supported: give containers --network none"
                    .to_owned(),
            );
        }
        c.network.bridge = bridge;
        Ok(())
    }),
    ("fixed-cidr", |c, _, v| set(&mut c.network.fixed_cidr, v)),
    ("default-gateway", |c, _, v| set(&mut c.network.default_gateway, v)),
    ("ipv6", |c, _, v| fill(&mut c.network.ipv6, v)),
    ("bip6", |c, _, v| set(&mut c.network.bip6, v)),
    ("fixed-cidr-v6", |c, _, v| set(&mut c.network.fixed_cidr_v6, v)),
    ("default-gateway-v6", |c, _, v| set(&mut c.network.default_gateway_v6, v)),
    ("icc", |c, _, v| set(&mut c.network.icc, v)),
    ("ip-masq", |c, _, v| set(&mut c.network.ip_masq, v)),
    ("ip-forward", |c, _, v| set(&mut c.network.ip_forward, v)),
    ("mtu", |c, _, v| set(&mut c.network.mtu, v)),
    ("ip", |c, _, v| set(&mut c.network.host_ip, v)),
    ("storage-driver", |c, _, v| {
        let driver: String = read(v)?;
        match driver.as_str() {
            "erofs" | "dir" => c.storage_driver = Some(driver),
            "" | "overlay2" | "overlayfs" => {
                c.warnings.push(format!(
                    "storage-driver {driver:?}: images are kept by Corten's own drivers, erofs or dir"
                ));
            }
            _ => return Err(format!("{driver:?} is no driver of ours: erofs and dir are")),
        }
        Ok(())
    }),
    ("log-driver", |c, _, v| set(&mut c.log_driver, v)),
    ("log-opts", |c, _, v| fill(&mut c.log_opts, v)),
    ("default-ulimits", |c, _, v| {
        c.default_ulimits = ulimits(v)?;
        Ok(())
    }),
    ("default-shm-size", |c, _, v| {
        c.default_shm_size = Some(bytes(&v)?);
        Ok(())
    }),
    ("dns", |c, _, v| fill(&mut c.dns, v)),
    ("dns-search", |c, _, v| fill(&mut c.dns_search, v)),
    ("dns-opts", |c, _, v| fill(&mut c.dns_opts, v)),
    ("labels", |c, _, v| fill(&mut c.labels, v)),
    ("init", |c, _, v| fill(&mut c.init, v)),
    ("no-new-privileges", |c, _, v| fill(&mut c.no_new_privileges, v)),
    ("seccomp-profile", |c, _, v| set(&mut c.seccomp_profile, v)),
    ("cgroup-parent", |c, _, v| set(&mut c.cgroup_parent, v)),
    ("tls", |c, _, v| {
        fill(&mut c.tls, v)?;
        c.insecure_tcp = !c.tls;
        Ok(())
    }),
    ("tlsverify", |c, _, v| fill(&mut c.tls_verify, v)),
    ("tlscacert", |c, _, v| set(&mut c.tls_ca_cert, v)),
    ("tlscert", |c, _, v| set(&mut c.tls_cert, v)),
    ("tlskey", |c, _, v| set(&mut c.tls_key, v)),
    ("live-restore", |c, key, v| {
        if !read::<bool>(v)? {
            warn(c, key, "containers always survive the engine");
        }
        Ok(())
    }),
    ("userns-remap", |_, _, v| only(v, String::new(), "user namespaces for containers are not built yet")),
    ("default-runtime", |c, _, v| set(&mut c.default_runtime, v)),
    ("runtimes", |c, _, v| {
        c.runtimes = runtimes(v)?;
        Ok(())
    }),
    ("iptables", |_, _, v| {
        only(v, true, "the rules of published ports can't be left out; use --network none or host")
    }),
    ("ip6tables", |_, _, v| only(v, true, "the rules can't be left out")),
    ("default-address-pools", |c, _, v| {
        c.network.address_pools = address_pools(v)?;
        Ok(())
    }),
    ("default-network-opts", refuse_unless_empty),
    ("host-gateway-ip", refuse_unless_empty),
    ("host-gateway-ips", refuse_unless_empty),
    ("firewall-backend", |_, _, v| match read::<String>(v)?.as_str() {
        "" | "nftables" => Ok(()),
        other => Err(format!("{other:?} is not spoken: nftables is")),
    }),
    ("userland-proxy", |c, key, _| no_effect(c, key, "published ports need no proxy here")),
    ("userland-proxy-path", |c, key, _| no_effect(c, key, "published ports need no proxy here")),
    ("allow-direct-routing", |_, _, v| only(v, false, "direct routing to containers is not built yet")),
    ("exec-opts", |_, _, v| {
        match read::<Vec<String>>(v)?.iter().find(|option| *option != "native.cgroupdriver=cgroupfs") {
            Some(option) => Err(format!("{option:?}: only native.cgroupdriver=cgroupfs is known")),
            None => Ok(()),
        }
    }),
    ("default-cgroupns-mode", |_, _, v| only(v, "private".to_owned(), "say --cgroupns per container")),
    ("default-ipc-mode", |_, _, v| only(v, "private".to_owned(), "say --ipc per container")),
    ("storage-opts", refuse_unless_empty),
    ("authorization-plugins", refuse_unless_empty),
    ("api-cors-header", refuse_unless_empty),
    ("init-path", refuse_unless_empty),
    ("cluster-advertise", refuse_unless_empty),
    ("cluster-store", refuse_unless_empty),
    ("node-generic-resources", refuse_unless_empty),
    ("swarm-default-advertise-addr", |c, key, _| no_effect(c, key, "there is no Swarm mode")),
    ("selinux-enabled", |_, _, v| {
        only(v, false, "labels are given per container with --security-opt label=…")
    }),
    ("oom-score-adjust", |_, _, v| only(v, 0, "the engine's own score is left to the service manager")),
    ("cpu-rt-period", |_, _, v| only(v, 0, "real-time budgets of the engine's group are not built")),
    ("cpu-rt-runtime", |_, _, v| only(v, 0, "real-time budgets of the engine's group are not built")),
    ("raw-logs", |c, key, _| no_effect(c, key, "colours depend on the terminal")),
    ("shutdown-timeout", |c, key, _| no_effect(c, key, "containers go on running when the engine stops")),
    ("experimental", |c, key, _| no_effect(c, key, "there are no hidden features")),
    ("features", |c, key, v| {
        for name in read::<BTreeMap<String, bool>>(v)?.into_keys() {
            warn(c, &format!("{key}.{name}"), "there is no such switch here");
        }
        Ok(())
    }),
    ("builder", |c, key, v| super::builder::apply(c, key, v)),
    ("insecure-registries", |c, _, v| {
        c.insecure_registries =
            InsecureRegistries::parse(&read::<Vec<String>>(v)?).map_err(|e| e.to_string())?;
        Ok(())
    }),
    ("registry-mirrors", |c, _, v| {
        read::<Vec<String>>(v)?.iter().try_for_each(|url| mirror(c, "docker.io", url))
    }),
    ("mirrors", |c, _, v| {
        let given: BTreeMap<String, Vec<String>> = read(v)?;
        given.iter().try_for_each(|(registry, urls)| urls.iter().try_for_each(|url| mirror(c, registry, url)))
    }),
    ("signatures", |c, _, v| {
        c.signatures = read(v)?;
        c.signatures.check()
    }),
    ("allow-nondistributable-artifacts", |c, key, _| no_effect(c, key, "such layers are not told apart")),
    ("max-concurrent-downloads", |c, key, _| no_effect(c, key, CONCURRENCY)),
    ("max-concurrent-uploads", |c, key, _| no_effect(c, key, CONCURRENCY)),
    ("max-download-attempts", |c, key, _| no_effect(c, key, "it is tried as long as there is progress")),
    ("proxies", |c, _, v| proxies(c, v)),
    // By flags; in the file they stand in `proxies`.
    ("http-proxy", |c, _, v| proxy(v).map(|proxy| c.http_proxy = Some(proxy))),
    ("https-proxy", |c, _, v| proxy(v).map(|proxy| c.https_proxy = Some(proxy))),
    ("no-proxy", |c, _, v| set(&mut c.no_proxy, v)),
    ("containerd", |c, key, _| no_effect(c, key, "there is no containerd below")),
    ("containerd-namespace", |c, key, _| no_effect(c, key, "there is no containerd below")),
    ("containerd-plugin-namespace", |c, key, _| no_effect(c, key, "there is no containerd below")),
    ("cri-containerd", |c, key, _| no_effect(c, key, "there is no containerd below")),
    ("cdi-spec-dirs", refuse_unless_empty),
    ("min-api-version", |_, _, v| {
        only(v, corten_api::API_VERSION_MIN.to_owned(), "another minimum can't be set")
    }),
];

const CONCURRENCY: &str = "how many connections there are is the engine's choice";

pub(super) fn read<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|e| e.to_string())
}

fn mirror(config: &mut Config, registry: &str, url: &str) -> Result<(), String> {
    config.mirrors.add(registry, url).map_err(|error| error.to_string())
}

/// `{"http-proxy": "http://proxy:3128", "https-proxy": …, "no-proxy": "localhost,10.0.0.0/8"}`
fn proxies(config: &mut Config, value: Value) -> Result<(), String> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    struct Given {
        http_proxy: Option<String>,
        https_proxy: Option<String>,
        no_proxy: Option<String>,
    }
    let given: Given = read(value)?;
    Proxies::new(given.http_proxy.as_deref(), given.https_proxy.as_deref(), None)
        .map_err(|e| e.to_string())?;
    (config.http_proxy, config.https_proxy) = (given.http_proxy, given.https_proxy);
    config.no_proxy = given.no_proxy;
    Ok(())
}

fn proxy(value: Value) -> Result<String, String> {
    let text: String = read(value)?;
    Proxies::new(Some(&text), None, None).map_err(|error| error.to_string())?;
    Ok(text)
}

fn set<T: DeserializeOwned>(field: &mut Option<T>, value: Value) -> Result<(), String> {
    *field = Some(read(value)?);
    Ok(())
}

fn fill<T: DeserializeOwned>(field: &mut T, value: Value) -> Result<(), String> {
    *field = read(value)?;
    Ok(())
}

/// Accepts one value alone: what is done anyway.
fn only<T: DeserializeOwned + PartialEq>(value: Value, accepted: T, why: &str) -> Result<(), String> {
    if read::<T>(value)? == accepted { Ok(()) } else { Err(why.to_owned()) }
}

pub(super) fn warn(config: &mut Config, key: &str, why: &str) {
    config.warnings.push(format!("{key} has no effect: {why}"));
}

fn no_effect(config: &mut Config, key: &str, why: &str) -> Result<(), String> {
    warn(config, key, why);
    Ok(())
}

/// `[{"base": "10.5.0.0/16", "size": 24}, …]`
fn address_pools(value: Value) -> Result<Vec<(ipnet::IpNet, u8)>, String> {
    #[derive(serde::Deserialize)]
    struct Pool {
        #[serde(alias = "Base")]
        base: String,
        #[serde(alias = "Size")]
        size: u8,
    }
    let pools: Option<Vec<Pool>> = read(value)?;
    let pools = pools.unwrap_or_default().into_iter().map(|Pool { base, size }| {
        let net: ipnet::IpNet = base.parse().map_err(|_| format!("invalid base pool: {base:?}"))?;
        if size < net.prefix_len() || size > net.max_prefix_len() {
            return Err(format!("the size /{size} does not fit the base {net}"));
        }
        Ok((net.trunc(), size))
    });
    pools.collect()
}

fn refuse_unless_empty(_: &mut Config, _: &str, value: Value) -> Result<(), String> {
    let empty = match &value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        _ => false,
    };
    if empty { Ok(()) } else { Err("not supported".to_owned()) }
}

/// `{"nofile": {"Name": "nofile", "Soft": 1024, "Hard": 2048}}`; the name inside may be left out.
fn ulimits(value: Value) -> Result<Vec<(String, i64, i64)>, String> {
    let given: BTreeMap<String, corten_api::container::Ulimit> = read(value)?;
    given
        .into_iter()
        .map(|(name, limit)| {
            let beyond = limit.hard != -1 && (limit.soft == -1 || limit.soft > limit.hard);
            if beyond {
                return Err(format!(
                    "{name}: the soft limit {} lies above the hard limit {}",
                    limit.soft, limit.hard
                ));
            }
            Ok((name, limit.soft, limit.hard))
        })
        .collect()
}

/// `{"crun": {"path": "crun", "runtimeArgs": ["--debug"]}}`; a name without a slash is looked up as the shell does.
fn runtimes(value: Value) -> Result<BTreeMap<String, (PathBuf, Vec<String>)>, String> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Given {
        path: PathBuf,
        #[serde(default, rename = "runtimeArgs")]
        args: Vec<String>,
    }
    let given: BTreeMap<String, Given> = read(value)?;
    let settle = |(name, Given { path, args }): (String, Given)| {
        if name == "corten" {
            return Err("\"corten\" is the engine's own runtime".to_owned());
        }
        let found =
            program(&path).ok_or_else(|| format!("{name}: there is no program {}", path.display()))?;
        Ok((name, (found, args)))
    };
    given.into_iter().map(settle).collect()
}

fn program(path: &Path) -> Option<PathBuf> {
    if path.components().count() > 1 {
        return path.is_file().then(|| path.to_owned());
    }
    let directories = std::env::var_os("PATH")?;
    std::env::split_paths(&directories).map(|directory| directory.join(path)).find(|path| path.is_file())
}

/// A number of bytes, or a text such as `64m`; units are powers of 1024.
pub(super) fn bytes(value: &Value) -> Result<i64, String> {
    if let Some(bytes) = value.as_i64() {
        return Ok(bytes);
    }
    let text = value
        .as_str()
        .ok_or("want a number of bytes, or a text such as \"64m\"")?
        .trim()
        .to_ascii_lowercase();
    let text = text.strip_suffix("ib").or(text.strip_suffix('b')).unwrap_or(&text);
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'k') => (&text[..text.len() - 1], 10),
        Some(b'm') => (&text[..text.len() - 1], 20),
        Some(b'g') => (&text[..text.len() - 1], 30),
        Some(b't') => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let number: i64 = digits.trim().parse().map_err(|_| format!("invalid size: '{text}'"))?;
    number.checked_mul(1 << shift).filter(|&n| n >= 0).ok_or_else(|| format!("invalid size: '{text}'"))
}
