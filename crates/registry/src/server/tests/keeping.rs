//! Quotas, retention and webhooks below HTTP: what is counted is what is there, whatever has happened; what goes, and comes back.

use hyper::StatusCode;
use proptest::prelude::*;

use super::*;
use crate::server::catalogue::Restored;
use crate::server::quota::{Ledger, Quota, Usage};
use crate::server::webhooks::Notice;

async fn quotas(registry: &Registry, text: &str) {
    let configs: Vec<crate::server::quota::QuotaConfig> = serde_json::from_str(text).unwrap();
    let quotas = configs.iter().map(|config| Quota::read(config).unwrap()).collect();
    registry.catalogue.set_quotas(Arc::new(Ledger::new(quotas))).await.unwrap();
    registry.uploads.recount();
}

fn held(registry: &Registry, name: &str) -> Usage {
    let used = registry.catalogue.ledger().usage();
    used.into_iter().find(|used| used.name == name).unwrap_or_else(|| panic!("no share {name}"))
}

async fn try_blob(registry: &Registry, repository: &str, bytes: &[u8]) -> Result<Digest, u16> {
    let (repository, digest) = (name(repository), sha256(bytes));
    let upload = registry.uploads.begin(&repository, Algorithm::Sha256).await.unwrap();
    let ingest = registry.uploads.open_ingest(&upload).await.unwrap();
    ingest.write(vec![Bytes::copy_from_slice(bytes)]).await.unwrap().unwrap();
    let finished = registry.finish_upload(&repository, upload, ingest, digest).await;
    finished.map(|()| digest).map_err(|refusal| refusal.status.as_u16())
}

#[tokio::test]
async fn a_blob_counts_once_and_what_is_too_much_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let registry = open(place.path()).await;
    quotas(&registry, r#"[{"repositories": ["team/**"], "size": "1000"}, {"repositories": ["**"], "tags": 1, "per": "repository"}]"#)
        .await;
    let one = push_blob(&registry, "team/a", &[1; 400]).await;
    push_blob(&registry, "team/b", &[1; 400]).await;
    assert_eq!(held(&registry, "team/**").bytes, 400);
    push_blob(&registry, "other", &[9; 5000]).await;
    push_blob(&registry, "team/b", &[2; 500]).await;
    // The bytes of what is refused go, its repository isn't made.
    let refused = sha256(&[3; 101]);
    assert_eq!(try_blob(&registry, "team/c", &[3; 101]).await, Err(403));
    assert!(!has_bytes(&registry, refused).await);
    assert!(registry.catalogue.tags("team/c".to_owned(), String::new(), 1).await.unwrap().is_none());
    // What another repository has may be too much here, too.
    let large = sha256(&[9; 5000]);
    let refusal = registry.catalogue.mount_blob("team/a".into(), "other".into(), large).await.unwrap_err();
    assert_eq!(crate::server::refusal::Refusal::from(refusal).status, StatusCode::FORBIDDEN);
    // Pushed again, nothing grows.
    push_blob(&registry, "team/a", &[1; 400]).await;
    quotas(&registry, r#"[{"repositories": ["team/**"], "size": "800"}]"#).await;
    assert_eq!(held(&registry, "team/**").bytes, 900);
    push_blob(&registry, "team/b", &[2; 500]).await;
    assert_eq!(try_blob(&registry, "team/a", &[4]).await, Err(403));
    registry.catalogue.unlink_blob("team/a".to_owned(), one).await.unwrap();
    assert_eq!(held(&registry, "team/**").bytes, 900);
    registry.catalogue.unlink_blob("team/b".to_owned(), one).await.unwrap();
    assert_eq!(held(&registry, "team/**").bytes, 500);
    try_blob(&registry, "team/a", &[4; 300]).await.unwrap();
}

#[tokio::test]
async fn manifests_and_tags_count() {
    let place = tempfile::tempdir().unwrap();
    let registry = open(place.path()).await;
    quotas(&registry, r#"[{"repositories": ["a"], "size": "100kB", "tags": 1}]"#).await;
    let blob = push_blob(&registry, "a", &[1; 100]).await;
    let bytes = image(&[blob], None, "one");
    push_manifest(&registry, "a", bytes.clone(), Some("1")).await;
    push_manifest(&registry, "a", bytes.clone(), Some("1")).await;
    assert_eq!((held(&registry, "a").bytes, held(&registry, "a").tags), (100 + bytes.len() as u64, 1));
    let digest = sha256(&bytes);
    let new = NewManifest {
        repository: "a".to_owned(),
        digest,
        manifest: Manifest::parse(&bytes, Some(MANIFEST)).unwrap(),
        bytes,
        tags: vec!["2".to_owned()],
        blobs_may_miss: false,
        manifests_may_miss: false,
    };
    let refused = registry.catalogue.add_manifest(new, Vec::new()).await.unwrap_err();
    assert_eq!(refused.to_string(), "quota exceeded: a has 1 tags of 1");
    registry.catalogue.remove_manifest("a".to_owned(), digest, Vec::new()).await.unwrap();
    assert_eq!((held(&registry, "a").bytes, held(&registry, "a").tags), (100, 0));
}

#[tokio::test]
async fn what_is_under_way_counts_after_a_restart() {
    let place = tempfile::tempdir().unwrap();
    let config = r#"[{"repositories": ["a"], "size": "1000"}]"#;
    {
        let registry = open(place.path()).await;
        let upload = registry.uploads.begin(&name("a"), Algorithm::Sha256).await.unwrap();
        let ingest = registry.uploads.open_ingest(&upload).await.unwrap();
        ingest.write(vec![Bytes::from(vec![1; 600])]).await.unwrap().unwrap();
    }
    let registry = open(place.path()).await;
    quotas(&registry, config).await;
    assert_eq!(held(&registry, "a").coming, 600);
    let mut coming = registry.catalogue.ledger().coming("a");
    assert!(coming.take(401).is_err() && coming.take(400).is_ok());
}

#[tokio::test]
async fn what_is_an_upstreams_counts_for_nobody() {
    let place = tempfile::tempdir().unwrap();
    let registry = open(place.path()).await;
    quotas(&registry, r#"[{"repositories": ["**"], "size": "1000"}]"#).await;
    let shared = push_blob(&registry, "own", &[1; 300]).await;
    registry.catalogue.add_cached_blob("hub.example/a".into(), shared, 300).await.unwrap();
    registry.catalogue.add_cached_blob("hub.example/b".into(), sha256(&[2; 5000]), 5000).await.unwrap();
    assert_eq!(held(&registry, "**").bytes, 300);
    quotas(&registry, r#"[{"repositories": ["**"], "size": "1000"}]"#).await;
    assert_eq!(held(&registry, "**").bytes, 300);
}

fn retention(text: &str) -> Settings {
    let text = format!(r#"{{"retention": [{text}]}}"#);
    let config: crate::server::settings::Config = serde_json::from_str(&text).unwrap();
    config.settings().unwrap()
}

async fn open_with(directory: &Path, settings: Settings) -> Registry {
    let settings = Settings { data: directory.to_owned(), ..settings };
    Registry::open(directory, Gate::Open, settings).await.unwrap()
}

/// Pretends that tags were set, and taken away, so much earlier.
fn age_tags(directory: &Path, by: Duration) {
    let connection = rusqlite::Connection::open(directory.join("registry.db")).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    for (table, column) in [("tags", "tagged_at"), ("retired", "retired_at"), ("manifests", "pulled_at")] {
        connection
            .execute(&format!("UPDATE {table} SET {column} = {column} - {}", by.as_secs()), [])
            .unwrap();
    }
    age(directory, by);
}

fn tags_of(collected: &[Collected]) -> Vec<String> {
    collected.iter().filter(|one| one.what == What::Tag).filter_map(|one| one.tag.clone()).collect()
}

async fn tags(registry: &Registry, repository: &str) -> Vec<String> {
    registry.catalogue.tags(repository.to_owned(), String::new(), 100).await.unwrap().unwrap_or_default()
}

#[tokio::test]
async fn tags_go_by_rule_and_come_back() {
    let place = tempfile::tempdir().unwrap();
    let rule = r#"{"repositories": ["team/*"], "tags": ["pr-*"], "keep_last": 1, "protect": ["pr-9"]}"#;
    let registry = open_with(place.path(), retention(rule)).await;
    let mut digests = Vec::new();
    for number in 1..=4u8 {
        let blob = push_blob(&registry, "team/app", &[number; 10]).await;
        let (digest, _) =
            push_manifest(&registry, "team/app", image(&[blob], None, "x"), Some(&format!("pr-{number}")))
                .await;
        digests.push(digest);
        age_tags(place.path(), Duration::from_secs(60));
    }
    let blob = sha256(&[1; 10]);
    // Another tag of the first image, and one that is protected.
    push_manifest(&registry, "team/app", image(&[blob], None, "x"), Some("release")).await;
    push_manifest(&registry, "team/app", image(&[blob], None, "9"), Some("pr-9")).await;
    let would = collected(&registry, true, None).await;
    assert_eq!(tags_of(&would), ["pr-1", "pr-2", "pr-3"]);
    assert!(would[0].why.starts_with("rule 0: number 4 of the last 1"), "{}", would[0].why);
    assert_eq!(tags(&registry, "team/app").await.len(), 6);
    assert_eq!(tags_of(&collected(&registry, false, None).await), ["pr-1", "pr-2", "pr-3"]);
    assert_eq!(tags(&registry, "team/app").await, ["pr-4", "pr-9", "release"]);
    // The manifests are there as long as that can be undone.
    let by_digest = |at: usize| {
        let reference = Reference::Digest(digests[at]);
        registry.catalogue.manifest("team/app".to_owned(), reference, 0)
    };
    assert!(by_digest(1).await.unwrap().is_some());
    let retired = registry.catalogue.retired().await.unwrap();
    assert_eq!(retired.iter().map(|one| one.tag.as_str()).collect::<Vec<_>>(), ["pr-1", "pr-2", "pr-3"]);
    let restore = |tag: &str| registry.catalogue.restore_tag("team/app".to_owned(), tag.to_owned());
    assert_eq!(restore("pr-2").await.unwrap(), Restored::Done(digests[1].to_string()));
    assert_eq!(restore("pr-2").await.unwrap(), Restored::Taken(digests[1].to_string()));
    assert_eq!(restore("pr-7").await.unwrap(), Restored::Unknown);
    // One that comes back is the newest, so that another one goes.
    assert_eq!(tags_of(&collected(&registry, false, None).await), ["pr-4"]);
    age_tags(place.path(), TWO_DAYS);
    let gone = collected(&registry, false, None).await;
    let mut expected = [digests[2].to_string(), digests[3].to_string()];
    expected.sort();
    assert_eq!(of(&gone, What::Manifest), expected);
    assert!(gone.iter().any(|one| one.why.contains("a retention rule took its last tag")));
    assert!(by_digest(0).await.unwrap().is_some() && by_digest(1).await.unwrap().is_some());
    assert!(by_digest(2).await.unwrap().is_none() && !has_bytes(&registry, sha256(&[3; 10])).await);
    assert_eq!(restore("pr-3").await.unwrap(), Restored::Unknown);
}

#[tokio::test]
async fn what_only_a_retired_index_lists_goes_with_it() {
    let place = tempfile::tempdir().unwrap();
    let registry =
        open_with(place.path(), retention(r#"{"repositories": ["**"], "pushed_within": "1d"}"#)).await;
    let blob = push_blob(&registry, "a", &[1; 10]).await;
    let (child, _) = push_manifest(&registry, "a", image(&[blob], None, "child"), None).await;
    let (loose, _) = push_manifest(&registry, "a", image(&[blob], None, "loose"), None).await;
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{"mediaType": MANIFEST, "digest": child.to_string(), "size": 1}]});
    let bytes = index.to_string().into_bytes();
    let new = NewManifest {
        repository: "a".to_owned(),
        digest: sha256(&bytes),
        manifest: Manifest::parse(&bytes, None).unwrap(),
        bytes,
        tags: vec!["1".to_owned()],
        blobs_may_miss: false,
        manifests_may_miss: false,
    };
    registry.catalogue.add_manifest(new, Vec::new()).await.unwrap();
    age_tags(place.path(), TWO_DAYS);
    assert_eq!(tags_of(&collected(&registry, false, None).await), ["1"]);
    age_tags(place.path(), TWO_DAYS);
    collected(&registry, false, None).await;
    collected(&registry, false, None).await;
    let there = |digest| registry.catalogue.manifest("a".to_owned(), Reference::Digest(digest), 0);
    assert!(there(child).await.unwrap().is_none());
    // Nobody has ever tagged this one, so it is no rule's.
    assert!(there(loose).await.unwrap().is_some());
}

#[tokio::test]
async fn a_tag_that_was_used_meanwhile_stays() {
    let place = tempfile::tempdir().unwrap();
    let registry =
        open_with(place.path(), retention(r#"{"repositories": ["**"], "pulled_within": "1d"}"#)).await;
    let blob = push_blob(&registry, "a", &[1; 10]).await;
    for tag in ["pulled", "pushed"] {
        push_manifest(&registry, "a", image(&[blob], None, tag), Some(tag)).await;
    }
    age_tags(place.path(), TWO_DAYS);
    let facts = registry.catalogue.tag_facts("a".to_owned()).await.unwrap();
    let row =
        registry.catalogue.manifest("a".into(), Reference::Tag("pulled".parse().unwrap()), 0).await.unwrap();
    registry.pulls.note(row.unwrap().id);
    registry.pulls.write(&registry.catalogue).await.unwrap();
    push_manifest(&registry, "a", image(&[blob], None, "pushed"), Some("pushed")).await;
    let going = facts.into_iter().map(|tag| (tag, Vec::new())).collect();
    assert!(registry.catalogue.retire_tags("a".to_owned(), going).await.unwrap().is_empty());
    assert_eq!(tags_of(&collected(&registry, false, None).await), ["pushed"]);
}

#[tokio::test]
async fn what_webhooks_are_to_be_told_is_bounded_and_in_order() {
    let place = tempfile::tempdir().unwrap();
    let registry = open(place.path()).await;
    let blob = push_blob(&registry, "a", &[1; 10]).await;
    let notice = |hook: &str, body: usize| Notice { hook: hook.to_owned(), body: body.to_string() };
    for number in 0..10 {
        let bytes = image(&[blob], None, &number.to_string());
        let new = NewManifest {
            repository: "a".to_owned(),
            digest: sha256(&bytes),
            manifest: Manifest::parse(&bytes, Some(MANIFEST)).unwrap(),
            bytes,
            tags: Vec::new(),
            blobs_may_miss: false,
            manifests_may_miss: false,
        };
        let notices = vec![notice("one", number), notice("other", number)];
        registry.catalogue.add_manifest(new, notices).await.unwrap();
    }
    // What isn't done isn't told of.
    let missing = image(&[sha256(b"nowhere")], None, "x");
    let new = NewManifest {
        repository: "a".to_owned(),
        digest: sha256(&missing),
        manifest: Manifest::parse(&missing, Some(MANIFEST)).unwrap(),
        bytes: missing,
        tags: Vec::new(),
        blobs_may_miss: false,
        manifests_may_miss: false,
    };
    registry.catalogue.add_manifest(new, vec![notice("one", 99)]).await.unwrap();
    let gone =
        registry.catalogue.remove_tag("a".into(), "none".into(), vec![notice("one", 98)]).await.unwrap();
    assert!(!gone);
    let catalogue = &registry.catalogue;
    assert_eq!(catalogue.deliveries().await.unwrap(), 20);
    let first = catalogue.next_delivery("one".to_owned()).await.unwrap().unwrap();
    assert_eq!(first.body, "0");
    assert_eq!(catalogue.settle_deliveries("one".to_owned(), Some(first.id), 4, 0).await.unwrap(), 5);
    assert_eq!(catalogue.next_delivery("one".to_owned()).await.unwrap().unwrap().body, "6");
    assert_eq!(catalogue.settle_deliveries("one".to_owned(), None, 4, i64::MAX).await.unwrap(), 4);
    assert_eq!(catalogue.keep_deliveries_of(vec!["one".to_owned()]).await.unwrap(), 10);
    assert_eq!(catalogue.deliveries().await.unwrap(), 0);
}

#[derive(Clone, Debug)]
enum Step {
    Blob(usize, u8),
    Mount(usize, usize, u8),
    Image(usize, u8, u8),
    DeleteTag(usize, u8),
    DeleteImage(usize, u8),
    Unlink(usize, u8),
    Collect,
    Reload,
}

fn step() -> impl Strategy<Value = Step> {
    let repository = || 0..REPOSITORIES.len();
    prop_oneof![
        4 => (repository(), 1..6u8).prop_map(|(r, b)| Step::Blob(r, b)),
        2 => (repository(), repository(), 1..6u8).prop_map(|(r, f, b)| Step::Mount(r, f, b)),
        4 => (repository(), 1..6u8, 0..4u8).prop_map(|(r, b, t)| Step::Image(r, b, t)),
        2 => (repository(), 0..4u8).prop_map(|(r, t)| Step::DeleteTag(r, t)),
        2 => (repository(), 1..6u8).prop_map(|(r, b)| Step::DeleteImage(r, b)),
        2 => (repository(), 1..6u8).prop_map(|(r, b)| Step::Unlink(r, b)),
        1 => Just(Step::Collect),
        1 => Just(Step::Reload),
    ]
}

const REPOSITORIES: [&str; 4] = ["a/one", "a/two", "b/one", "c"];
const QUOTAS: &str = r#"[{"repositories": ["a/**", "b/**"], "size": "1500"}, {"repositories": ["**"], "size": "1200", "tags": 3, "per": "project"},
    {"repositories": ["**"], "tags": 2, "per": "repository"}]"#;

async fn make(registry: &Registry, step: Step) {
    let bytes = |blob: u8| vec![blob; usize::from(blob) * 90];
    let blob = |number: u8| sha256(&bytes(number));
    let picture = |number: u8| image(&[blob(number)], None, "x");
    let repository = |at: usize| REPOSITORIES[at].to_owned();
    match step {
        Step::Blob(at, number) => drop(try_blob(registry, REPOSITORIES[at], &bytes(number)).await),
        Step::Mount(at, from, number) => {
            drop(registry.catalogue.mount_blob(repository(at), repository(from), blob(number)).await);
        }
        Step::Image(at, number, tag) => {
            let bytes = picture(number);
            let new = NewManifest {
                repository: repository(at),
                digest: sha256(&bytes),
                manifest: Manifest::parse(&bytes, Some(MANIFEST)).unwrap(),
                bytes,
                tags: vec![tag.to_string()],
                blobs_may_miss: false,
                manifests_may_miss: false,
            };
            drop(registry.catalogue.add_manifest(new, Vec::new()).await);
        }
        Step::DeleteTag(at, tag) => {
            registry.catalogue.remove_tag(repository(at), tag.to_string(), Vec::new()).await.unwrap();
        }
        Step::DeleteImage(at, number) => {
            registry
                .catalogue
                .remove_manifest(repository(at), sha256(&picture(number)), Vec::new())
                .await
                .unwrap();
        }
        Step::Unlink(at, number) => {
            registry.catalogue.unlink_blob(repository(at), blob(number)).await.unwrap();
        }
        Step::Collect => drop(collected(registry, false, Some(Duration::ZERO)).await),
        Step::Reload => quotas(registry, QUOTAS).await,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever happens: what was counted along the way is what counting all of it says, and never more than there may be.
    #[test]
    fn counts_do_not_drift(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let place = tempfile::tempdir().unwrap();
            let registry = open(place.path()).await;
            quotas(&registry, QUOTAS).await;
            for step in steps {
                if matches!(step, Step::Collect) {
                    age(place.path(), TWO_DAYS);
                }
                make(&registry, step).await;
                for used in registry.catalogue.ledger().usage() {
                    assert!(used.bytes_max.is_none_or(|limit| used.bytes <= limit), "{used:?}");
                    assert!(used.tags_max.is_none_or(|limit| used.tags <= limit), "{used:?}");
                    assert_eq!(used.coming, 0);
                }
            }
            let along: Vec<_> = registry.catalogue.ledger().usage();
            quotas(&registry, QUOTAS).await;
            for anew in registry.catalogue.ledger().usage() {
                assert!(along.contains(&anew), "{anew:?} not in {along:?}");
            }
        });
    }
}
