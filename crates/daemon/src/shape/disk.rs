//! Disk usage: until 1.51 a list per kind of object, since 1.52 sums, and the lists for who asks for them. In between, a
//! client that doesn't say what it knows (`verbose`) gets both.

use super::{container, image, knows};
use crate::http::ApiVersion;
use corten_api::disk::{DiskUsage, KindUsage};
use serde_json::{Map, Value, json};

pub fn usage(mut usage: DiskUsage, verbose: bool, version: ApiVersion) -> Value {
    if let Some(images) = &mut usage.image_usage {
        // Other than in a list of images, containers were always counted here.
        let counts: Vec<i64> = images.items.iter().map(|image| image.containers).collect();
        image::list(&mut images.items, version);
        images.items.iter_mut().zip(counts).for_each(|(image, count)| image.containers = count);
    }
    if let Some(containers) = &mut usage.container_usage {
        container::list(&mut containers.items, version);
    }
    let mut document = Map::new();
    if !(verbose && knows(version, 52)) {
        lists(&usage, &mut document);
    }
    if knows(version, 52) {
        if !verbose {
            without_items(&mut usage);
        }
        if let Value::Object(sums) = json!(usage) {
            document.extend(sums);
        }
    }
    document.into()
}

/// The older shape. What wasn't asked for is absent.
fn lists(usage: &DiskUsage, document: &mut Map<String, Value>) {
    if let Some(images) = usage.image_usage.as_ref() {
        if images.total_size != 0 {
            document.insert("LayersSize".into(), images.total_size.into());
        }
        document.insert("Images".into(), json!(images.items.as_slice()));
    }
    if let Some(containers) = &usage.container_usage {
        document.insert("Containers".into(), json!(containers.items.as_slice()));
    }
    if let Some(volumes) = &usage.volume_usage {
        document.insert("Volumes".into(), json!(volumes.items.as_slice()));
    }
    if let Some(cache) = &usage.build_cache_usage {
        document.insert("BuildCache".into(), json!(cache.items.as_slice()));
    }
}

fn without_items(usage: &mut DiskUsage) {
    fn bare<T>(kind: &mut Option<KindUsage<T>>) {
        if let Some(kind) = kind {
            kind.items = corten_api::List::default();
        }
    }
    bare(&mut usage.image_usage);
    bare(&mut usage.container_usage);
    bare(&mut usage.volume_usage);
    bare(&mut usage.build_cache_usage);
}
