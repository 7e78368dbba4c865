//! Pages of a registry, without HTTP around them.

use std::path::Path;

use http_body_util::BodyExt;
use serde_json::json;

use super::*;
use crate::server::name::Reference;
use crate::server::tests::{open, push_blob, push_manifest};

fn visit<'r>(registry: &'r Registry, query: &str) -> Visit<'r> {
    Visit {
        registry,
        gate: &Gate::Open,
        caller: Caller::Anybody,
        query: Query::parse(Some(query)).unwrap(),
        host: "hub.example".to_owned(),
        tls: true,
        here: None,
        by_session: false,
        now: now(),
    }
}

async fn text(reply: Reply) -> String {
    let Ok(response) = reply else { panic!("no page") };
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

/// An image with a layer, the history of two steps and a label.
async fn push(directory: &Path, label: &str) -> Registry {
    let registry = open(directory).await;
    let layer = push_blob(&registry, "team/app", &[7; 3000]).await;
    let config = json!({
        "os": "linux", "architecture": "riscv64", "config": {"Cmd": ["/app"], "Labels": {"about": label}},
        "history": [{"created_by": "COPY app / # buildkit"}, {"created_by": "CMD [\"/app\"]", "empty_layer": true}],
    });
    let config = push_blob(&registry, "team/app", config.to_string().as_bytes()).await;
    let image = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.to_string(), "size": 1},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+zstd", "digest": layer.to_string(), "size": 1}],
        "annotations": {"url": "https://example.org/x", "script": "javascript:alert(1)"},
    });
    push_manifest(&registry, "team/app", image.to_string().into_bytes(), Some("1.0")).await;
    registry
}

#[tokio::test]
async fn an_image_is_shown_with_all_that_it_says() {
    let place = tempfile::tempdir().unwrap();
    let registry = push(place.path(), "<b>bold</b>").await;
    let reference: Reference = "1.0".parse().unwrap();
    let page = text(image::show(&visit(&registry, ""), name("team/app"), reference).await).await;
    for expected in [
        "linux/riscv64",
        "COPY app /",
        "zstd",
        // As it is stored, not as the manifest says.
        "3.00 kB",
        "&lt;b&gt;bold&lt;/b&gt;",
        "[&quot;/app&quot;]",
        "<a href=\"https://example.org/x\" rel=\"noopener noreferrer nofollow\">",
        "<bdi>javascript:alert(1)</bdi>",
        "docker pull hub.example/team/app:1.0",
        "podman pull hub.example/team/app@sha256:",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    assert!(!page.contains("<b>bold") && !page.contains("href=\"javascript"));
    let list = text(repository::show(&visit(&registry, "q=1."), name("team/app")).await).await;
    assert!(list.contains("linux/riscv64") && list.contains("/r/team/app/-/1.0"), "{list}");
    let list = text(repositories::show(&visit(&registry, "q=APP")).await).await;
    assert!(list.contains("href=\"/r/team/app\"") && list.contains("1 found"), "{list}");
    let usage = text(usage::show(&visit(&registry, "")).await).await;
    assert!(usage.contains("href=\"/r/team/app\""), "{usage}");
    assert!(matches!(repository::show(&visit(&registry, ""), name("none")).await, Err(Failure::Nothing)));
}

#[tokio::test]
async fn pages_stay_small() {
    let place = tempfile::tempdir().unwrap();
    let registry = push(place.path(), &"\u{202e}<&\"".repeat(100_000)).await;
    let reference: Reference = "1.0".parse().unwrap();
    let page = text(image::show(&visit(&registry, ""), name("team/app"), reference).await).await;
    assert!(page.len() < 50_000 && page.contains("more characters"), "{}", page.len());
    assert!(!page.contains('\u{202e}'));
}
