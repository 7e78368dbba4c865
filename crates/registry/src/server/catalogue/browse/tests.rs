use std::path::Path;
use std::sync::{Arc, Mutex};

use rusqlite::Connection;

use super::*;
use crate::server::catalogue::NewManifest;
use crate::server::digest::{Algorithm, Digest};
use crate::server::manifest::Manifest;
use crate::server::name::{Reference, UploadId};

fn sha256(text: &str) -> Digest {
    Digest::of(Algorithm::Sha256, text.as_bytes())
}

fn anybody() -> Sees {
    Box::new(|_| true)
}

async fn blob(catalogue: &Catalogue, repository: &str, text: &str, size: u64) -> Digest {
    let digest = sha256(text);
    catalogue.add_blob(repository.to_owned(), digest, size, UploadId::random().unwrap()).await.unwrap();
    digest
}

fn descriptor(digest: &Digest) -> serde_json::Value {
    serde_json::json!({"mediaType": "application/x", "digest": digest.to_string(), "size": 1})
}

async fn push(catalogue: &Catalogue, repository: &str, manifest: serde_json::Value, tags: &[&str]) -> Digest {
    let bytes = manifest.to_string().into_bytes();
    let digest = Digest::of(Algorithm::Sha256, &bytes);
    let new = NewManifest {
        repository: repository.to_owned(),
        digest,
        manifest: Manifest::parse(&bytes, None).unwrap(),
        bytes,
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        blobs_may_miss: true,
        manifests_may_miss: true,
    };
    catalogue.add_manifest(new, Vec::new()).await.unwrap();
    digest
}

async fn image(catalogue: &Catalogue, repository: &str, blobs: &[Digest], tags: &[&str]) -> Digest {
    let layers: Vec<_> = blobs[1..].iter().map(descriptor).collect();
    let manifest = serde_json::json!({"schemaVersion": 2, "config": descriptor(&blobs[0]), "layers": layers});
    push(catalogue, repository, manifest, tags).await
}

/// What is kept of each repository, and what it should be.
fn assert_counted(path: &Path) {
    let connection = Connection::open(path).unwrap();
    let wrong: i64 = connection
        .query_row(
            "SELECT count(*) FROM repositories r WHERE
             bytes <> (SELECT coalesce(sum(b.size), 0) FROM links l JOIN blobs b ON b.id = l.blob WHERE l.repository = r.id)
             OR tag_count <> (SELECT count(*) FROM tags t WHERE t.repository = r.id)
             OR coalesce(pushed_at, 0) < (SELECT coalesce(max(m.pushed_at), 0) FROM manifests m WHERE m.repository = r.id)
             OR coalesce(pulled_at, 0) < (SELECT coalesce(max(m.pulled_at), 0) FROM manifests m WHERE m.repository = r.id)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(wrong, 0);
}

#[tokio::test]
async fn what_a_repository_has_is_counted_whatever_happens() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("registry.db");
    let catalogue = Catalogue::open(&path).unwrap();
    let (one, two) = (blob(&catalogue, "a", "1", 100).await, blob(&catalogue, "a", "2", 20).await);
    // Pushed twice, and mounted.
    blob(&catalogue, "a", "1", 100).await;
    catalogue.mount_blob("b".into(), "a".into(), one).await.unwrap();
    assert_counted(&path);
    let first = image(&catalogue, "a", &[one, two], &["x", "y"]).await;
    let second = image(&catalogue, "a", &[two, one], &["y"]).await;
    let page =
        catalogue.browse_repositories(String::new(), RepositoryOrder::Name, (0, 9), anybody()).await.unwrap();
    let [a, b] = page.repositories.as_slice() else { panic!("{page:?}") };
    assert_eq!((a.bytes, a.tags, b.bytes, b.tags), (120, 2, 100, 0));
    assert!(a.pushed_at.is_some() && a.pulled_at.is_none() && b.pushed_at.is_none());
    let row = catalogue.manifest("a".into(), Reference::Digest(first), 0).await.unwrap().unwrap();
    catalogue.note_pulls(vec![(row.id, 7)]).await.unwrap();
    assert_counted(&path);
    catalogue.remove_tag("a".into(), "x".into(), Vec::new()).await.unwrap();
    catalogue.remove_manifest("a".into(), second, Vec::new()).await.unwrap();
    assert_counted(&path);
    catalogue.remove_manifest("a".into(), first, Vec::new()).await.unwrap();
    catalogue.unlink_blob("a".into(), two).await.unwrap();
    assert_counted(&path);
    let page =
        catalogue.browse_repositories("a".into(), RepositoryOrder::Size, (0, 9), anybody()).await.unwrap();
    assert_eq!((page.repositories[0].bytes, page.repositories[0].tags), (100, 0));
    assert_eq!(page.repositories[0].pulled_at, Some(7));
}

#[tokio::test]
async fn the_best_matches_come_first() {
    let place = tempfile::tempdir().unwrap();
    let catalogue = Catalogue::open(&place.path().join("registry.db")).unwrap();
    for (at, name) in ["team/myapp", "app", "application", "team/app", "other", "my/app-x"].iter().enumerate()
    {
        blob(&catalogue, name, &at.to_string(), at as u64).await;
    }
    let names = async |search: &str, order, page, sees: Sees| -> (Vec<String>, u64) {
        let found = catalogue.browse_repositories(search.to_owned(), order, page, sees).await.unwrap();
        (found.repositories.into_iter().map(|one| one.name).collect(), found.total)
    };
    let (found, total) = names("app", RepositoryOrder::Name, (0, 9), anybody()).await;
    assert_eq!(found, ["app", "application", "my/app-x", "team/app", "team/myapp"]);
    assert_eq!(total, 5);
    // Pages are of what somebody sees.
    let (found, total) =
        names("", RepositoryOrder::Size, (1, 2), Box::new(|name| !name.starts_with("my/"))).await;
    assert_eq!((found, total), (vec!["team/app".to_owned(), "application".to_owned()], 5));
    assert_eq!(names("%", RepositoryOrder::Name, (0, 9), anybody()).await.1, 0);
    assert_eq!(names("", RepositoryOrder::Name, (usize::MAX, 9), anybody()).await, (vec![], 6));
}

#[tokio::test]
async fn tags_with_their_surroundings() {
    let place = tempfile::tempdir().unwrap();
    let catalogue = Catalogue::open(&place.path().join("registry.db")).unwrap();
    let (base, arm, config) = (
        blob(&catalogue, "a", "base", 1000).await,
        blob(&catalogue, "a", "arm", 10).await,
        blob(&catalogue, "a", "config", 1).await,
    );
    let elsewhere = blob(&catalogue, "secret", "elsewhere", 1 << 30).await;
    let amd = image(&catalogue, "a", &[config, base], &[]).await;
    let arm = image(&catalogue, "a", &[config, base, arm, elsewhere], &[]).await;
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [descriptor(&amd), descriptor(&arm)]});
    let index = push(&catalogue, "a", index, &["1.0", "latest"]).await;
    let signature = serde_json::json!({
        "schemaVersion": 2, "config": descriptor(&config), "layers": [], "subject": descriptor(&index),
        "artifactType": "application/x-signature", "annotations": {"k": "v"},
    });
    let companion = format!("sha256-{}.sig", index.hex());
    let signature = push(&catalogue, "a", signature, &[&companion]).await;
    let tags = async |search: &str, all: bool| {
        let page = catalogue.browse_tags("a".into(), search.to_owned(), TagOrder::Name, (0, 10), all).await;
        page.unwrap().unwrap()
    };
    let page = tags("", false).await;
    assert_eq!((page.total, page.companions, page.tags.len(), page.repository.tags), (2, 1, 2, 3));
    // Each blob once, and none of another repository's.
    assert_eq!(page.tags[0].manifest.bytes, 1011);
    let [referrer] = page.tags[0].manifest.referrers.as_slice() else { panic!() };
    assert_eq!((referrer.digest, referrer.annotations["k"].as_str()), (signature, "v"));
    assert_eq!((tags("", true).await.tags.len(), tags("late", false).await.total), (3, 1));
    let details = catalogue.browse_manifest("a".into(), arm).await.unwrap().unwrap();
    assert_eq!(details.blobs.len(), 3);
    assert!(!details.blobs.contains_key(&elsewhere));
    let details = catalogue.browse_manifest("a".into(), index).await.unwrap().unwrap();
    assert_eq!(
        (details.children.len(), details.tags.as_slice()),
        (2, &["1.0".to_owned(), "latest".to_owned()][..])
    );
    assert_eq!(details.summary.companions, [(companion, signature)]);
    assert_eq!(catalogue.browse_manifest("b".into(), index).await.unwrap(), None);
    let found = catalogue.browse_all_tags("1.".into(), 10, anybody()).await.unwrap();
    assert_eq!(found, [("a".to_owned(), "1.0".to_owned())]);
    assert_eq!(catalogue.browse_all_tags("1.".into(), 10, Box::new(|_| false)).await.unwrap(), []);
}

#[tokio::test]
async fn usage_is_of_what_somebody_sees() {
    let place = tempfile::tempdir().unwrap();
    let catalogue = Catalogue::open(&place.path().join("registry.db")).unwrap();
    blob(&catalogue, "a", "base", 1000).await;
    blob(&catalogue, "a", "own", 10).await;
    blob(&catalogue, "b", "base", 1000).await;
    blob(&catalogue, "secret", "base", 1000).await;
    blob(&catalogue, "secret", "large", 1 << 20).await;
    let usage = catalogue.usage(Box::new(|name| name != "secret")).await.unwrap();
    assert_eq!((usage.bytes, usage.blobs), (1010, 2));
    let repositories: Vec<_> =
        usage.repositories.iter().map(|one| (one.name.as_str(), one.bytes, one.own_bytes)).collect();
    assert_eq!(repositories, [("a", 1010, 10), ("b", 1000, 0)]);
    assert_eq!((usage.largest.len(), usage.largest[0].bytes, usage.largest[0].repositories), (2, 1000, 2));
    let alone = catalogue.usage(Box::new(|name| name == "b")).await.unwrap();
    assert_eq!((alone.bytes, alone.repositories[0].own_bytes), (1000, 1000));
    assert_eq!(catalogue.usage(Box::new(|_| false)).await.unwrap(), Usage::default());
}

#[test]
fn an_older_catalogue_is_counted_when_it_is_opened() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("registry.db");
    let connection = Connection::open(&path).unwrap();
    crate::server::catalogue::schema::migrate_to(&connection, 1);
    connection
        .execute_batch(
            "INSERT INTO repositories (id, name, created_at) VALUES (1, 'a', 1), (2, 'b', 1);
             INSERT INTO blobs (id, digest, size, stored_at) VALUES (1, 'x', 5, 1), (2, 'y', 6, 1);
             INSERT INTO links VALUES (1, 1, 1), (1, 2, 1);
             INSERT INTO manifests (id, repository, digest, media_type, pushed_at, pulled_at, size, bytes)
                VALUES (1, 1, 'z', 'm', 7, 8, 0, x'');
             INSERT INTO tags VALUES (1, 't', 1, 7);",
        )
        .unwrap();
    drop(connection);
    drop(Catalogue::open(&path).unwrap());
    assert_counted(&path);
    let connection = Connection::open(&path).unwrap();
    let counted: (i64, i64, i64, i64) = connection
        .query_row(
            "SELECT bytes, tag_count, pushed_at, pulled_at FROM repositories WHERE id = 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .unwrap();
    assert_eq!(counted, (11, 1, 7, 8));
}

/// Pages of people who look at all at once.
#[tokio::test]
async fn who_pulls_does_not_wait_for_who_looks() {
    let place = tempfile::tempdir().unwrap();
    let catalogue = Catalogue::open(&place.path().join("registry.db")).unwrap();
    blob(&catalogue, "a", "layer", 20).await;
    // Nobody says anything by it; they hear when it goes.
    let (held, until) = std::sync::mpsc::channel::<()>();
    let until = Arc::new(Mutex::new(until));
    let mut looking = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (catalogue, until) = (catalogue.clone(), until.clone());
        let sees: Sees = Box::new(move |_| until.lock().unwrap().recv().is_err());
        looking.spawn(async move {
            catalogue.browse_repositories(String::new(), RepositoryOrder::Name, (0, 10), sees).await
        });
    }
    // All of them have come as far as they can.
    tokio::task::yield_now().await;
    let pulled = tokio::time::timeout(
        std::time::Duration::from_secs(10),
        catalogue.blob("a".to_owned(), sha256("layer")),
    );
    let pulled = pulled.await;
    drop(held);
    assert_eq!(pulled.expect("nobody is in its way").unwrap().unwrap().size, 20);
    for seen in looking.join_all().await {
        assert_eq!(seen.unwrap().total, 1);
    }
}
