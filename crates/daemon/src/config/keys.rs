//! The keys of daemon.json as a table: each with its effect on a `Config`.

use super::Config;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;

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
    ("bip", |c, _, v| set(&mut c.bip, v)),
    ("bridge", |c, _, v| set(&mut c.bridge, v)),
    ("fixed-cidr", |c, _, v| set(&mut c.fixed_cidr, v)),
    ("mtu", |c, _, v| set(&mut c.mtu, v)),
    ("ip", |c, _, v| set(&mut c.ip, v)),
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
    ("log-driver", |c, _, v| {
        let driver: String = read(v)?;
        if !["local", "json-file", "none"].contains(&driver.as_str()) {
            return Err(format!("{driver:?} is no log driver of ours: local, json-file and none are"));
        }
        c.log_driver = Some(driver);
        Ok(())
    }),
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
        if read(v)? {
            return Err(NO_TLS.to_owned());
        }
        c.insecure_tcp = true;
        Ok(())
    }),
    ("tlsverify", |_, _, v| only(v, false, NO_TLS)),
    ("tlscacert", refuse_tls),
    ("tlscert", refuse_tls),
    ("tlskey", refuse_tls),
    ("live-restore", |c, key, v| {
        if !read::<bool>(v)? {
            warn(c, key, "containers always survive the engine");
        }
        Ok(())
    }),
    ("userns-remap", |_, _, v| {
        only(v, String::new(), "remapping all containers is not built yet; use --userns per container")
    }),
    ("default-runtime", |_, _, v| match read::<String>(v)?.as_str() {
        "" | "corten" | "runc" => Ok(()),
        other => Err(format!("there is no runtime {other:?}: Corten's own is the only one")),
    }),
    ("runtimes", refuse_unless_empty),
    ("icc", |_, _, v| only(v, true, "keeping containers of the default network apart is not built yet")),
    ("iptables", |_, _, v| {
        only(v, true, "the rules of published ports can't be left out; use --network none or host")
    }),
    ("ip6tables", |_, _, v| only(v, true, "the rules can't be left out")),
    ("ip-forward", |_, _, v| only(v, true, "the default network forwards")),
    ("ip-masq", |_, _, v| only(v, true, "the default network masquerades")),
    ("ipv6", |_, _, v| only(v, false, "IPv6 on the default network is not built yet")),
    ("fixed-cidr-v6", refuse_unless_empty),
    ("bip6", refuse_unless_empty),
    ("default-gateway", refuse_unless_empty),
    ("default-gateway-v6", refuse_unless_empty),
    ("default-address-pools", refuse_unless_empty),
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
    ("metrics-addr", refuse_unless_empty),
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
    ("log-format", |_, _, v| only(v, "text".to_owned(), "the engine's own log is text so far")),
    ("shutdown-timeout", |c, key, _| no_effect(c, key, "containers go on running when the engine stops")),
    ("experimental", |c, key, _| no_effect(c, key, "there are no hidden features")),
    ("features", |c, key, v| {
        for name in read::<BTreeMap<String, bool>>(v)?.into_keys() {
            warn(c, &format!("{key}.{name}"), "there is no such switch here");
        }
        Ok(())
    }),
    ("builder", |c, key, _| no_effect(c, key, "there is no builder yet")),
    ("insecure-registries", |c, key, _| no_effect(c, key, REGISTRIES)),
    ("registry-mirrors", |c, key, _| no_effect(c, key, REGISTRIES)),
    ("allow-nondistributable-artifacts", |c, key, _| no_effect(c, key, REGISTRIES)),
    ("max-concurrent-downloads", |c, key, _| no_effect(c, key, REGISTRIES)),
    ("max-concurrent-uploads", |c, key, _| no_effect(c, key, REGISTRIES)),
    ("max-download-attempts", |c, key, _| no_effect(c, key, REGISTRIES)),
    ("proxies", |c, key, _| no_effect(c, key, REGISTRIES)),
    ("http-proxy", |c, key, _| no_effect(c, key, REGISTRIES)),
    ("https-proxy", |c, key, _| no_effect(c, key, REGISTRIES)),
    ("no-proxy", |c, key, _| no_effect(c, key, REGISTRIES)),
    ("containerd", |c, key, _| no_effect(c, key, "there is no containerd below")),
    ("containerd-namespace", |c, key, _| no_effect(c, key, "there is no containerd below")),
    ("containerd-plugin-namespace", |c, key, _| no_effect(c, key, "there is no containerd below")),
    ("cri-containerd", |c, key, _| no_effect(c, key, "there is no containerd below")),
    ("cdi-spec-dirs", refuse_unless_empty),
    ("min-api-version", |_, _, v| {
        only(v, corten_api::API_VERSION_MIN.to_owned(), "another minimum can't be set")
    }),
];

const NO_TLS: &str = "TLS is not spoken yet; listen on a unix socket";
const REGISTRIES: &str = "this engine does not speak to registries yet";

fn read<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|e| e.to_string())
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

fn warn(config: &mut Config, key: &str, why: &str) {
    config.warnings.push(format!("{key} has no effect: {why}"));
}

fn no_effect(config: &mut Config, key: &str, why: &str) -> Result<(), String> {
    warn(config, key, why);
    Ok(())
}

fn refuse_tls(_: &mut Config, _: &str, _: Value) -> Result<(), String> {
    Err(NO_TLS.to_owned())
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

/// A number of bytes, or a text such as `64m`; units are powers of 1024.
fn bytes(value: &Value) -> Result<i64, String> {
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
