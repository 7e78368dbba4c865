//! The key `builder` of daemon.json: what keeps the build cache small, in Docker's words.

use super::Config;
use super::keys::{bytes, read, warn};
use corten_engine::{CacheBounds, CacheRule};
use serde::Deserialize;
use serde_json::Value;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Given {
    gc: Gc,
    /// What builds may be allowed beyond their containers; none of it is known here.
    entitlements: Option<Value>,
    history: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Gc {
    enabled: Option<bool>,
    default_keep_storage: Option<Value>,
    default_reserved_space: Option<Value>,
    default_max_used_space: Option<Value>,
    default_min_free_space: Option<Value>,
    policy: Vec<Rule>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct Rule {
    all: bool,
    keep_storage: Option<Value>,
    reserved_space: Option<Value>,
    max_used_space: Option<Value>,
    min_free_space: Option<Value>,
    /// `unused-for=48h`
    filter: Vec<String>,
}

pub fn apply(config: &mut Config, key: &str, value: Value) -> Result<(), String> {
    let Given { gc, entitlements, history } = read(value)?;
    for (name, given) in [("entitlements", entitlements), ("history", history)] {
        if given.is_some() {
            warn(config, &format!("{key}.{name}"), "builds have neither entitlements nor a history here");
        }
    }
    config.build_cache = match gc {
        Gc { enabled: Some(false), .. } => Some(Vec::new()),
        Gc { policy, .. } if !policy.is_empty() => {
            Some(policy.into_iter().map(rule).collect::<Result<_, _>>()?)
        }
        gc => {
            let bounds = bounds(
                gc.default_keep_storage,
                gc.default_reserved_space,
                gc.default_max_used_space,
                gc.default_min_free_space,
            )?;
            // Nothing but `enabled`: as if there were no such key.
            (bounds != CacheBounds::default()).then(|| vec![CacheRule { bounds, ..CacheRule::default() }])
        }
    };
    Ok(())
}

fn rule(given: Rule) -> Result<CacheRule, String> {
    let bounds =
        bounds(given.keep_storage, given.reserved_space, given.max_used_space, given.min_free_space)?;
    let mut rule = CacheRule { all: given.all, bounds, ..CacheRule::default() };
    for filter in &given.filter {
        let (name, value) = filter
            .split_once('=')
            .ok_or_else(|| format!("gc.policy: invalid filter {filter:?}: write name=value"))?;
        rule.filters.add(name, value);
    }
    rule.check().map_err(|error| format!("gc.policy: {}", error.message))?;
    Ok(rule)
}

/// The first two are names of one thing, an older and a newer.
fn bounds(
    keep: Option<Value>,
    reserved: Option<Value>,
    used_max: Option<Value>,
    free_min: Option<Value>,
) -> Result<CacheBounds, String> {
    let size = |value: Option<Value>| -> Result<u64, String> {
        let bytes = value.as_ref().map_or(Ok(0), bytes).map_err(|why| format!("gc: {why}"))?;
        u64::try_from(bytes).map_err(|_| format!("gc: a size can't be less than 0: {bytes}"))
    };
    Ok(CacheBounds {
        reserved_bytes: size(keep)?.max(size(reserved)?),
        used_bytes_max: size(used_max)?,
        free_bytes_min: size(free_min)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn applied(value: Value) -> Result<Option<Vec<CacheRule>>, String> {
        let mut config = Config::default();
        apply(&mut config, "builder", value)?;
        Ok(config.build_cache)
    }

    #[test]
    fn the_budget_is_read_as_docker_writes_it() {
        assert_eq!(applied(json!({})).unwrap(), None);
        assert_eq!(applied(json!({"gc": {"enabled": true}})).unwrap(), None);
        assert_eq!(
            applied(json!({"gc": {"enabled": false, "defaultKeepStorage": "1GB"}})).unwrap(),
            Some(vec![])
        );
        let rules = applied(json!({"gc": {"enabled": true, "defaultKeepStorage": "20GB"}})).unwrap().unwrap();
        assert_eq!(rules[0].bounds, CacheBounds { reserved_bytes: 20 << 30, ..CacheBounds::default() });
        let rules = applied(json!({"gc": {"policy": [
            {"keepStorage": "512MB", "filter": ["unused-for=48h", "type=source.local"]},
            {"maxUsedSpace": 4096, "minFreeSpace": "1gb", "all": true},
        ]}}));
        let rules = rules.unwrap().unwrap();
        assert_eq!((rules[0].bounds.reserved_bytes, rules[0].all), (512 << 20, false));
        assert!(rules[0].filters.exact("type", "source.local") && rules[0].filters.contains("unused-for"));
        let bounds = CacheBounds { reserved_bytes: 0, used_bytes_max: 4096, free_bytes_min: 1 << 30 };
        assert_eq!((rules[1].bounds, rules[1].all), (bounds, true));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for wrong in [
            json!({"gc": {"defaultKeepStorage": "much"}}),
            json!({"gc": {"defaultKeepStorage": -1}}),
            json!({"gc": {"policy": [{"filter": ["colour=red"]}]}}),
            json!({"gc": {"policy": [{"filter": ["until"]}]}}),
            json!({"gc": {"polices": []}}),
        ] {
            assert!(applied(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
