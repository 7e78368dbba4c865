//! Storage, catalogue and collection together, below HTTP.

mod keeping;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::catalogue::{NewManifest, Pushed, Unlinked};
use super::collect::{Collected, Collection, What, collect, sweep};
use super::digest::{Algorithm, Digest};
use super::gate::Gate;
use super::manifest::Manifest;
use super::name::{Reference, RepositoryName};
use super::registry::Registry;
use super::settings::Settings;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

pub(super) async fn open(directory: &Path) -> Registry {
    let settings = Settings { data: directory.to_owned(), ..Settings::default() };
    Registry::open(directory, Gate::Open, settings).await.unwrap()
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, bytes)
}

pub(super) async fn push_blob(registry: &Registry, repository: &str, bytes: &[u8]) -> Digest {
    let (repository, digest) = (name(repository), sha256(bytes));
    let upload = registry.uploads.begin(&repository, Algorithm::Sha256).await.unwrap();
    let ingest = registry.uploads.open_ingest(&upload).await.unwrap();
    ingest.write(vec![Bytes::copy_from_slice(bytes)]).await.unwrap().unwrap();
    registry.finish_upload(&repository, upload, ingest, digest).await.unwrap();
    digest
}

fn image(blobs: &[Digest], subject: Option<Digest>, mark: &str) -> Vec<u8> {
    let descriptor =
        |digest: &Digest| json!({"mediaType": "application/x", "digest": digest.to_string(), "size": 1});
    let mut image = json!({
        "schemaVersion": 2,
        "config": descriptor(&blobs[0]),
        "layers": blobs.iter().map(descriptor).collect::<Vec<_>>(),
        "annotations": {"mark": mark},
    });
    if let Some(subject) = subject {
        image["subject"] = descriptor(&subject);
    }
    image.to_string().into_bytes()
}

pub(super) async fn push_manifest(
    registry: &Registry,
    repository: &str,
    bytes: Vec<u8>,
    tag: Option<&str>,
) -> (Digest, Pushed) {
    let digest = sha256(&bytes);
    let new = NewManifest {
        repository: repository.to_owned(),
        digest,
        manifest: Manifest::parse(&bytes, Some(MANIFEST)).unwrap(),
        bytes,
        tags: tag.map(str::to_owned).into_iter().collect(),
        blobs_may_miss: false,
        manifests_may_miss: false,
    };
    (digest, registry.catalogue.add_manifest(new, Vec::new()).await.unwrap())
}

/// Pretends that all has happened so much earlier.
fn age(directory: &Path, by: Duration) {
    let connection = rusqlite::Connection::open(directory.join("registry.db")).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    for (table, column) in [
        ("repositories", "created_at"),
        ("blobs", "stored_at"),
        ("links", "touched_at"),
        ("manifests", "pushed_at"),
        ("manifests", "orphaned_at"),
    ] {
        let text = format!("UPDATE {table} SET {column} = {column} - {}", by.as_secs());
        connection.execute(&text, []).unwrap();
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);
const TWO_DAYS: Duration = Duration::from_secs(48 * 3600);

async fn collected(registry: &Registry, dry_run: bool, untagged: Option<Duration>) -> Vec<Collected> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let collection = Collection { undo: DAY, untagged, dry_run, ..Collection::default() };
    collect(registry, collection, |one| {
        told.lock().unwrap().push(one);
        std::future::ready(true)
    })
    .await
    .unwrap();
    let told = told.lock().unwrap();
    told.clone()
}

fn of(collected: &[Collected], what: What) -> Vec<String> {
    let mut found: Vec<_> =
        collected.iter().filter(|one| one.what == what).filter_map(|one| one.digest.clone()).collect();
    found.sort();
    found
}

async fn has_bytes(registry: &Registry, digest: Digest) -> bool {
    registry.storage.size(digest).await.unwrap().is_some()
}

#[tokio::test]
async fn what_nobody_needs_goes_after_a_while() {
    let place = tempfile::tempdir().unwrap();
    let registry = open(place.path()).await;
    let needed = push_blob(&registry, "a", b"needed").await;
    let spare = push_blob(&registry, "a", b"spare").await;
    let elsewhere = push_blob(&registry, "b", b"needed").await;
    assert_eq!(needed, elsewhere);
    push_manifest(&registry, "a", image(&[needed], None, ""), Some("latest")).await;
    assert_eq!(collected(&registry, false, None).await, []);
    age(place.path(), TWO_DAYS);
    // What somebody has just asked for stays.
    assert!(registry.catalogue.touch_blob("a".to_owned(), spare).await.unwrap());
    let gone = collected(&registry, false, None).await;
    // The other repository's place for the blob, and then that repository; not the bytes, which one has.
    assert_eq!((of(&gone, What::Link), of(&gone, What::Blob)), (vec![needed.to_string()], vec![]));
    age(place.path(), TWO_DAYS);
    let would = collected(&registry, true, None).await;
    assert!(has_bytes(&registry, spare).await);
    let gone = collected(&registry, false, None).await;
    assert_eq!(of(&gone, What::Blob), [spare.to_string()]);
    assert_eq!(of(&would, What::Blob), of(&gone, What::Blob));
    assert!(has_bytes(&registry, needed).await && !has_bytes(&registry, spare).await);
    assert_eq!(registry.catalogue.repositories(String::new(), 9).await.unwrap(), ["a"]);
}

#[tokio::test]
async fn a_referrer_lives_as_long_as_its_subject() {
    let place = tempfile::tempdir().unwrap();
    let registry = open(place.path()).await;
    let blob = push_blob(&registry, "a", b"blob").await;
    let (subject, _) = push_manifest(&registry, "a", image(&[blob], None, "subject"), Some("latest")).await;
    let (referrer, _) = push_manifest(&registry, "a", image(&[blob], Some(subject), "referrer"), None).await;
    let (tagged, _) = push_manifest(&registry, "a", image(&[blob], Some(subject), "tagged"), Some("t")).await;
    // One whose subject was never here is nobody's orphan.
    push_manifest(&registry, "a", image(&[blob], Some(blob), "early"), None).await;
    let (second, _) = push_manifest(&registry, "a", image(&[blob], Some(referrer), "second"), None).await;
    age(place.path(), TWO_DAYS);
    assert_eq!(collected(&registry, false, None).await, []);
    assert!(registry.catalogue.remove_manifest("a".to_owned(), subject, Vec::new()).await.unwrap());
    // Pushed again within the time for second thoughts, all is as it was.
    assert_eq!(collected(&registry, true, None).await, []);
    push_manifest(&registry, "a", image(&[blob], None, "subject"), None).await;
    age(place.path(), TWO_DAYS);
    assert_eq!(collected(&registry, true, None).await, []);
    assert!(registry.catalogue.remove_manifest("a".to_owned(), subject, Vec::new()).await.unwrap());
    age(place.path(), TWO_DAYS);
    assert_eq!(of(&collected(&registry, false, None).await, What::Manifest), [referrer.to_string()]);
    age(place.path(), TWO_DAYS);
    assert_eq!(of(&collected(&registry, false, None).await, What::Manifest), [second.to_string()]);
    let left =
        registry.catalogue.referrers("a".to_owned(), subject, None, String::new(), 1 << 20).await.unwrap();
    assert_eq!(left.referrers.iter().map(|left| left.digest).collect::<Vec<_>>(), [tagged]);
}

#[tokio::test]
async fn untagged_manifests_go_only_when_that_is_wished() {
    let place = tempfile::tempdir().unwrap();
    let registry = open(place.path()).await;
    let blob = push_blob(&registry, "a", b"blob").await;
    let (old, _) = push_manifest(&registry, "a", image(&[blob], None, "old"), Some("latest")).await;
    push_manifest(&registry, "a", image(&[blob], None, "new"), Some("latest")).await;
    // The signature of something that is there stays with it, though it has no tag.
    let (signature, _) = push_manifest(&registry, "a", image(&[blob], Some(old), "signature"), None).await;
    let child = push_manifest(&registry, "a", image(&[blob], None, "child"), None).await.0;
    let index = json!({"schemaVersion": 2, "manifests": [{"digest": child.to_string()}]}).to_string();
    let index = index.into_bytes();
    let new = NewManifest {
        repository: "a".to_owned(),
        digest: sha256(&index),
        manifest: Manifest::parse(&index, None).unwrap(),
        bytes: index,
        tags: vec!["index".to_owned()],
        blobs_may_miss: false,
        manifests_may_miss: false,
    };
    assert_eq!(registry.catalogue.add_manifest(new, Vec::new()).await.unwrap(), Pushed::Done);
    age(place.path(), TWO_DAYS);
    assert_eq!(collected(&registry, false, None).await, []);
    let gone = collected(&registry, false, Some(DAY)).await;
    assert_eq!(of(&gone, What::Manifest), [old.to_string()]);
    age(place.path(), TWO_DAYS);
    assert_eq!(of(&collected(&registry, false, Some(DAY)).await, What::Manifest), [signature.to_string()]);
}

#[tokio::test]
async fn a_manifest_needs_its_own_repositorys_blobs() {
    let place = tempfile::tempdir().unwrap();
    let registry = open(place.path()).await;
    let blob = push_blob(&registry, "secret", b"blob").await;
    let bytes = image(&[blob], None, "");
    let (_, pushed) = push_manifest(&registry, "mine", bytes.clone(), None).await;
    assert_eq!(pushed, Pushed::Missing(vec![blob.to_string()]));
    assert_eq!(registry.catalogue.repositories(String::new(), 9).await.unwrap(), ["secret"]);
    let mounted = registry.catalogue.mount_blob("mine".to_owned(), "secret".to_owned(), blob).await.unwrap();
    assert_eq!(mounted, Some(4));
    let (digest, pushed) = push_manifest(&registry, "mine", bytes, Some("latest")).await;
    assert_eq!(pushed, Pushed::Done);
    let unlinked = registry.catalogue.unlink_blob("mine".to_owned(), blob).await.unwrap();
    assert_eq!(unlinked, Unlinked::Needed(digest.to_string()));
    assert!(registry.catalogue.remove_manifest("mine".to_owned(), digest, Vec::new()).await.unwrap());
    let tag: Reference = "latest".parse().unwrap();
    assert_eq!(registry.catalogue.manifest("mine".to_owned(), tag, 1 << 20).await.unwrap(), None);
    assert_eq!(registry.catalogue.unlink_blob("mine".to_owned(), blob).await.unwrap(), Unlinked::Done);
    assert_eq!(registry.catalogue.unlink_blob("mine".to_owned(), blob).await.unwrap(), Unlinked::Unknown);
}

#[tokio::test]
async fn a_start_takes_uploads_up_and_removes_what_has_no_row() {
    let place = tempfile::tempdir().unwrap();
    let bytes = vec![7; 700_000];
    let repository = name("a");
    let id = {
        let registry = open(place.path()).await;
        let upload = registry.uploads.begin(&repository, Algorithm::Sha256).await.unwrap();
        let ingest = registry.uploads.open_ingest(&upload).await.unwrap();
        ingest.write(vec![Bytes::copy_from_slice(&bytes[..600_000])]).await.unwrap().unwrap();
        upload.id
    };
    let stray = sha256(b"stray");
    std::fs::write(place.path().join("blobs/sha256").join(stray.hex()), b"stray").unwrap();
    let unknown = place.path().join("ingest/01234567-89ab-4def-8123-456789abcdef");
    std::fs::write(&unknown, b"").unwrap();
    let registry = open(place.path()).await;
    assert!(!unknown.exists());
    assert_eq!(sweep(&registry).await.unwrap(), 1);
    assert!(!has_bytes(&registry, stray).await);
    assert!(registry.uploads.take(&name("b"), id).await.is_err());
    let upload = registry.uploads.take(&repository, id).await.unwrap();
    assert_eq!(upload.offset(), 600_000);
    let ingest = registry.uploads.open_ingest(&upload).await.unwrap();
    ingest.write(vec![Bytes::copy_from_slice(&bytes[600_000..])]).await.unwrap().unwrap();
    let digest = sha256(&bytes);
    registry.finish_upload(&repository, upload, ingest, digest).await.unwrap();
    assert_eq!(registry.catalogue.blob("a".to_owned(), digest).await.unwrap().unwrap().size, 700_000);
    assert!(registry.uploads.take(&repository, id).await.is_err());
}

#[tokio::test]
async fn a_push_puts_back_bytes_that_were_taken_away() {
    let place = tempfile::tempdir().unwrap();
    let registry = open(place.path()).await;
    let digest = push_blob(&registry, "a", b"blob").await;
    for damage in [None, Some(b"bl")] {
        let path = place.path().join("blobs/sha256").join(digest.hex());
        match damage {
            None => std::fs::remove_file(&path).unwrap(),
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
        }
        push_blob(&registry, "b", b"blob").await;
        assert_eq!(registry.storage.size(digest).await.unwrap(), Some(4));
    }
}

#[tokio::test]
async fn uploads_that_nothing_comes_of_are_given_up() {
    let place = tempfile::tempdir().unwrap();
    let registry = open(place.path()).await;
    let upload = registry.uploads.begin(&name("a"), Algorithm::Sha256).await.unwrap();
    let id = upload.id;
    // Whoever has it in hand keeps it.
    assert_eq!(registry.uploads.expire(Duration::ZERO).await.unwrap(), 0);
    drop(upload);
    assert_eq!(registry.uploads.expire(DAY).await.unwrap(), 0);
    assert_eq!(registry.uploads.expire(Duration::ZERO).await.unwrap(), 1);
    assert!(registry.uploads.take(&name("a"), id).await.is_err());
    assert_eq!(registry.storage.uploads().unwrap(), []);
    assert_eq!(registry.catalogue.uploads().await.unwrap(), []);
}

/// Whatever was acknowledged can be had, though a collection that gives no time runs all the while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_and_collections_at_once() {
    let place = tempfile::tempdir().unwrap();
    let registry = open(place.path()).await;
    let collector = {
        let registry = registry.clone();
        tokio::spawn(async move {
            // Of the future, so that nothing has any time.
            let excess = super::catalogue::Excess { before: i64::MAX, untagged_before: None };
            loop {
                for step in registry.catalogue.condemned(excess).await.unwrap().0 {
                    super::collect::take(&registry, &step, excess).await.unwrap();
                }
                tokio::task::yield_now().await;
            }
        })
    };
    let pushers = (0..4).map(|pusher: usize| {
        let registry = registry.clone();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            for round in 0..40 {
                // All push the same blobs, to repositories of their own.
                let repository = format!("team/{pusher}");
                let blob = push_blob(&registry, &repository, format!("blob {}", round % 5).as_bytes()).await;
                let mark = format!("{round}");
                let bytes = image(&[blob], None, &mark);
                if let (digest, Pushed::Done) =
                    push_manifest(&registry, &repository, bytes, Some(&mark)).await
                {
                    kept.push((repository, digest, blob));
                }
            }
            kept
        })
    });
    let pushers: Vec<_> = pushers.collect();
    let mut kept = 0;
    for pusher in pushers {
        for (repository, digest, blob) in pusher.await.unwrap() {
            kept += 1;
            let reference = Reference::Digest(digest);
            assert!(
                registry.catalogue.manifest(repository.clone(), reference, 1 << 20).await.unwrap().is_some()
            );
            assert!(registry.catalogue.blob(repository, blob).await.unwrap().is_some());
            assert!(has_bytes(&registry, blob).await);
        }
    }
    collector.abort();
    assert!(kept > 0);
}

#[tokio::test]
async fn what_is_cached_goes_by_its_last_use() {
    let place = tempfile::tempdir().unwrap();
    let registry = open(place.path()).await;
    let catalogue = &registry.catalogue;
    let keep = async |repository: &str, bytes: &[u8]| {
        let (id, digest) = (super::name::UploadId::random().unwrap(), sha256(bytes));
        registry.storage.begin(id).await.unwrap();
        let turn = Arc::new(tokio::sync::Semaphore::new(1)).try_acquire_owned().unwrap();
        let ingest =
            registry.storage.resume(id, Algorithm::Sha256, Arc::default(), Arc::new(turn)).await.unwrap();
        ingest.write(vec![Bytes::copy_from_slice(bytes)]).await.unwrap().unwrap();
        registry.keep_fetched(&name(repository), id, ingest, digest).await.unwrap();
        digest
    };
    let [old, shared, new] = [&[1; 100], &[2; 100], &[3; 100]];
    let old = keep("up/a", old).await;
    age(place.path(), Duration::from_secs(60));
    // In two repositories, of which one is used later.
    let both = [keep("up/a", shared).await, keep("up/b", shared).await][0];
    age(place.path(), Duration::from_secs(60));
    let new = keep("up/b", new).await;
    assert!(catalogue.link_cached_blob("up".to_owned(), "up/c".to_owned(), both).await.unwrap());
    assert!(!catalogue.link_cached_blob("other".to_owned(), "other/c".to_owned(), new).await.unwrap());
    assert_eq!(catalogue.cached_bytes().await.unwrap(), 300);
    // One's own takes no room of it, and isn't what goes.
    push_blob(&registry, "own", &[1; 100]).await;
    assert_eq!(catalogue.cached_bytes().await.unwrap(), 200);
    let (steps, more) = catalogue.surplus(199).await.unwrap();
    assert!(!more && matches!(&steps[..], [super::catalogue::Condemned::CachedBlob { .. }]), "{steps:?}");
    // Used between plan and step.
    let uses = |digest| vec![(("up/a".to_owned(), digest), super::catalogue::now() + 60)];
    catalogue.note_uses(uses(both)).await.unwrap();
    for step in &steps {
        let was_used =
            matches!(step, super::catalogue::Condemned::CachedBlob { digest, .. } if *digest == both);
        assert_eq!(super::collect::take(&registry, step, Default::default()).await.unwrap(), !was_used);
    }
    let (steps, _) = catalogue.surplus(0).await.unwrap();
    for step in &steps {
        assert!(super::collect::take(&registry, step, Default::default()).await.unwrap(), "{step:?}");
    }
    assert_eq!(catalogue.cached_bytes().await.unwrap(), 0);
    assert!(
        has_bytes(&registry, old).await
            && !has_bytes(&registry, new).await
            && !has_bytes(&registry, both).await
    );
    // What is no upstream's is never in question.
    assert_eq!(catalogue.keep_cached_of(vec!["up".to_owned()]).await.unwrap(), 0);
    assert_eq!(catalogue.keep_cached_of(Vec::new()).await.unwrap(), 3);
    assert_eq!(catalogue.repositories(String::new(), 10).await.unwrap(), ["own"]);
    assert_eq!(catalogue.own_below(vec!["own".to_owned()]).await.unwrap(), None);
}
