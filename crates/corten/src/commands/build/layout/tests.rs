use super::*;
use corten_image::manifest::compose;
use futures_util::TryStreamExt;
use std::fs;
use tempfile::TempDir;

struct Place {
    directory: TempDir,
    layout: Layout,
}

impl Place {
    fn new() -> Place {
        let directory = TempDir::new().unwrap();
        let layout = Layout::writable(directory.path()).unwrap();
        Place { directory, layout }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn put(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let mut writer = self.layout.write().await.unwrap();
        writer.send(Bytes::copy_from_slice(bytes)).await.unwrap();
        writer.finish(&digest).await.unwrap();
        digest
    }

    /// A manifest of a cache, or of something else, with these layers.
    async fn manifest(&self, kind: &str, config: &[u8], layers: &[&[u8]]) -> Descriptor {
        for blob in layers.iter().chain([&config]) {
            self.put(blob).await;
        }
        let layers = layers.iter().map(|layer| Descriptor::of(media::OCI_LAYER_GZIP, layer)).collect();
        let bytes = compose(Descriptor::of(kind, config), layers);
        self.put(&bytes).await;
        Descriptor::of(media::OCI_MANIFEST, &bytes)
    }

    fn blobs(&self) -> HashSet<String> {
        let listed = fs::read_dir(self.path(BLOBS)).unwrap();
        listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn has(&self, bytes: &[u8]) -> bool {
        self.blobs().contains(&Digest::of(bytes).hex())
    }
}

async fn bytes(layout: &Layout, digest: &Digest, offset: u64) -> io::Result<Vec<u8>> {
    Ok(layout.read(digest, offset).await?.try_collect::<Vec<Bytes>>().await?.concat())
}

#[tokio::test]
async fn blobs_are_whole_or_not_there() {
    let place = Place::new();
    let digest = place.put(b"text").await;
    assert_eq!(place.layout.size(&digest).await.unwrap(), Some(4));
    assert_eq!(bytes(&place.layout, &digest, 1).await.unwrap(), b"ext");
    let other = Digest::of(b"other");
    assert_eq!(place.layout.size(&other).await.unwrap(), None);
    assert_eq!(bytes(&place.layout, &other, 0).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    let mut writer = place.layout.write().await.unwrap();
    writer.send(Bytes::from_static(b"part")).await.unwrap();
    assert!(writer.finish(&other).await.unwrap_err().to_string().contains("what came is"));
    let mut dropped = place.layout.write().await.unwrap();
    dropped.send(Bytes::from_static(b"part")).await.unwrap();
    drop(dropped);
    assert_eq!(place.blobs(), HashSet::from([digest.hex()]));
}

#[tokio::test]
async fn nothing_is_written_where_one_reads() {
    let place = Place::new();
    let digest = place.put(b"text").await;
    let reading = Layout::open(place.directory.path()).unwrap();
    assert_eq!(bytes(&reading, &digest, 0).await.unwrap(), b"text");
    assert_eq!(reading.write().await.map(drop).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn a_tag_stands_for_what_was_listed_last() {
    let place = Place::new();
    assert_eq!(place.layout.find(None).unwrap(), None);
    let first = place.manifest(CACHE_CONFIG, b"1", &[b"a", b"shared"]).await;
    place.layout.list("latest", &first).unwrap();
    let other = place.manifest(CACHE_CONFIG, b"2", &[b"b", b"shared"]).await;
    place.layout.list("other", &other).unwrap();
    assert_eq!(place.layout.find(None).unwrap(), Some(first.digest));
    assert_eq!(place.layout.find(Some("other")).unwrap(), Some(other.digest));
    assert_eq!(place.layout.find(Some("no")).unwrap(), None);
    // What was replaced goes, but for what something else has.
    let second = place.manifest(CACHE_CONFIG, b"3", &[b"c"]).await;
    place.layout.list("latest", &second).unwrap();
    assert_eq!(place.layout.find(Some("latest")).unwrap(), Some(second.digest));
    assert!(!place.has(b"a") && !place.has(b"1") && place.has(b"shared") && place.has(b"c"));
    // The same once more takes nothing away.
    place.layout.list("latest", &second).unwrap();
    assert!(place.has(b"c") && place.has(b"3"));
    assert_eq!(fs::read_to_string(place.path(MARK)).unwrap(), r#"{"imageLayoutVersion":"1.0.0"}"#);
}

#[tokio::test]
async fn what_others_have_put_there_stays() {
    let place = Place::new();
    let image = place.manifest(media::OCI_CONFIG, b"{}", &[b"layer"]).await;
    place.layout.list("latest", &image).unwrap();
    let stray = place.put(b"nobody's").await;
    fs::write(place.path("blobs/sha256/.corten-0"), "of one who is at it").unwrap();
    fs::write(place.path("notes"), "mine").unwrap();
    let cache = place.manifest(CACHE_CONFIG, b"1", &[b"a"]).await;
    place.layout.list("latest", &cache).unwrap();
    assert!(place.has(b"layer") && place.blobs().contains(&stray.hex()));
    assert!(place.path("notes").exists() && place.path("blobs/sha256/.corten-0").exists());
}

#[tokio::test]
async fn what_was_left_unfinished_goes_when_it_is_old() {
    let place = Place::new();
    let cache = place.manifest(CACHE_CONFIG, b"1", &[]).await;
    let old = SystemTime::now() - UNFINISHED_AGE * 2;
    let left =
        [".corten-1", "blobs/sha256/.corten-2", "blobs/sha256/.corten-held"].map(|name| place.path(name));
    for path in &left {
        File::create(path).unwrap().set_modified(old).unwrap();
    }
    let held = File::open(&left[2]).unwrap();
    rustix::fs::flock(&held, FlockOperation::LockExclusive).unwrap();
    place.layout.list("latest", &cache).unwrap();
    assert_eq!(left.map(|path| path.exists()), [false, false, true]);
}

#[tokio::test]
async fn a_cache_that_lacks_something_is_not_listed() {
    let place = Place::new();
    let first = place.manifest(CACHE_CONFIG, b"1", &[b"a"]).await;
    place.layout.list("latest", &first).unwrap();
    let second = place.manifest(CACHE_CONFIG, b"2", &[b"b"]).await;
    fs::remove_file(place.path(&blob(&Digest::of(b"b")))).unwrap();
    let error = place.layout.list("latest", &second).unwrap_err();
    assert!(error.to_string().contains("is gone"), "{error}");
    assert_eq!(place.layout.find(None).unwrap(), Some(first.digest));
}

#[tokio::test]
async fn links_lead_nowhere() {
    let place = Place::new();
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let secret = Digest::of(b"secret");
    place.put(b"x").await;
    let link =
        |name: &str| std::os::unix::fs::symlink(outside.path().join("secret"), place.path(name)).unwrap();
    link(&blob(&secret));
    let refused = |error: io::Error| assert!(error.to_string().contains("is a link"), "{error}");
    refused(bytes(&place.layout, &secret, 0).await.unwrap_err());
    refused(place.layout.size(&secret).await.unwrap_err());
    link(INDEX);
    refused(place.layout.find(None).unwrap_err());
    // A whole directory behind a link.
    let other = TempDir::new().unwrap();
    fs::create_dir(other.path().join(BLOBS.split('/').next().unwrap())).unwrap();
    std::os::unix::fs::symlink(place.path(BLOBS), other.path().join(BLOBS)).unwrap();
    let other = Layout::writable(other.path()).unwrap();
    refused(bytes(&other, &Digest::of(b"x"), 0).await.unwrap_err());
    refused(other.write().await.map(drop).unwrap_err());
}

#[test]
fn what_is_no_layout_is_refused() {
    for (index, why) in [
        ("{", "can't be read"),
        ("[]", "no image index"),
        (r#"{"schemaVersion":2,"manifests":{}}"#, "no image index"),
        (r#"{"schemaVersion":1,"manifests":[]}"#, "no image index"),
    ] {
        let place = TempDir::new().unwrap();
        fs::write(place.path().join(INDEX), index).unwrap();
        let error = Layout::writable(place.path()).map(drop).unwrap_err();
        assert!(error.to_string().contains(why), "{index}: {error}");
    }
    let place = TempDir::new().unwrap();
    let digest = r#"{"digest":"sha256:no","annotations":{"org.opencontainers.image.ref.name":"latest"}}"#;
    fs::write(place.path().join(INDEX), format!(r#"{{"schemaVersion":2,"manifests":[{digest}]}}"#)).unwrap();
    assert!(Layout::open(place.path()).unwrap().find(None).is_err());
    rustix::fs::mknodat(
        rustix::fs::CWD,
        place.path().join("pipe"),
        rustix::fs::FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert!(
        Layout::open(place.path()).unwrap().small("pipe").unwrap_err().to_string().contains("is no file")
    );
    assert!(Layout::open(&place.path().join("no")).is_err());
    assert!(Layout::open(&place.path().join(INDEX)).is_err());
}

#[test]
fn a_list_without_end_is_not_read() {
    let place = TempDir::new().unwrap();
    let file = File::create(place.path().join(INDEX)).unwrap();
    file.set_len(1 << 40).unwrap();
    let error = Layout::open(place.path()).unwrap().find(None).unwrap_err();
    assert!(error.to_string().contains("larger than 4 MiB"), "{error}");
}

#[tokio::test]
async fn what_others_have_broken_does_not_keep_what_nobody_needs() {
    let place = Place::new();
    let lost = place.manifest(CACHE_CONFIG, b"lost", &[]).await;
    place.layout.list("lost", &lost).unwrap();
    fs::remove_file(place.path(&blob(&lost.digest))).unwrap();
    let first = place.manifest(CACHE_CONFIG, b"1", &[b"a", b"vanished"]).await;
    place.layout.list("latest", &first).unwrap();
    // Somebody else is sweeping, too.
    fs::remove_file(place.path(&blob(&Digest::of(b"vanished")))).unwrap();
    let second = place.manifest(CACHE_CONFIG, b"2", &[b"b"]).await;
    assert!(place.layout.list("latest", &second).unwrap().is_none());
    assert!(!place.has(b"a") && !place.has(b"1") && !place.blobs().contains(&first.digest.hex()));
    // The one that is replaced says no more what it had, which is told of; others that go are not kept by that.
    fs::write(place.path(&blob(&second.digest)), "{").unwrap();
    let third = place.manifest(CACHE_CONFIG, b"3", &[b"c"]).await;
    let told = place.layout.list("latest", &third).unwrap().unwrap().to_string();
    assert!(told.contains(&second.digest.to_string()), "{told}");
    let fourth = place.manifest(CACHE_CONFIG, b"4", &[]).await;
    assert!(place.layout.list("latest", &fourth).unwrap().is_none());
    assert!(!place.has(b"c") && !place.has(b"3"));
}

#[tokio::test]
async fn what_can_not_be_read_keeps_what_it_may_need() {
    let place = Place::new();
    let other = place.manifest(CACHE_CONFIG, b"other", &[b"shared"]).await;
    place.layout.list("other", &other).unwrap();
    let first = place.manifest(CACHE_CONFIG, b"1", &[b"shared"]).await;
    place.layout.list("latest", &first).unwrap();
    fs::write(place.path(&blob(&other.digest)), "{").unwrap();
    let second = place.manifest(CACHE_CONFIG, b"2", &[]).await;
    let told = place.layout.list("latest", &second).unwrap().unwrap().to_string();
    assert!(told.contains(&other.digest.to_string()), "{told}");
    assert!(place.has(b"shared") && place.has(b"1"));
    assert_eq!(place.layout.find(None).unwrap(), Some(second.digest));
}

#[tokio::test]
async fn what_looks_unfinished_and_is_no_file_is_left_alone() {
    let place = Place::new();
    let cache = place.manifest(CACHE_CONFIG, b"1", &[]).await;
    std::os::unix::fs::symlink("nowhere", place.path(".corten-link")).unwrap();
    let left = place.path("blobs/sha256/.corten-old");
    File::create(&left).unwrap().set_modified(SystemTime::now() - UNFINISHED_AGE * 2).unwrap();
    assert!(place.layout.list("latest", &cache).unwrap().is_none());
    assert!(!left.exists() && place.path(".corten-link").is_symlink());
}

/// An index that is put there, of so many entries.
async fn index_of(place: &Place, entries: Vec<Descriptor>) -> Descriptor {
    let bytes = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries}).to_string();
    place.put(bytes.as_bytes()).await;
    Descriptor::of(media::OCI_INDEX, bytes.as_bytes())
}

#[tokio::test]
async fn each_manifest_is_read_once_and_not_too_many() {
    let place = Place::new();
    let leaf = place.manifest(media::OCI_CONFIG, b"{}", &[b"leaf"]).await;
    let mut top = leaf;
    for _ in 0..3 {
        top = index_of(&place, vec![top; 20_000]).await;
    }
    place.layout.list("nested", &top).unwrap();
    // 20,000 to the third would take days.
    let first = place.manifest(CACHE_CONFIG, b"1", &[b"leaf", b"a"]).await;
    place.layout.list("latest", &first).unwrap();
    let second = place.manifest(CACHE_CONFIG, b"2", &[]).await;
    assert!(place.layout.list("latest", &second).unwrap().is_none());
    assert!(place.has(b"leaf") && !place.has(b"a"));
    let many = (0..20_000_u32).map(|number| Descriptor::of(media::OCI_MANIFEST, &number.to_le_bytes()));
    let many = index_of(&place, many.collect()).await;
    let mut index = place.layout.index().unwrap();
    index["manifests"].as_array_mut().unwrap().push(serde_json::to_value(&many).unwrap());
    place.layout.replace(INDEX, index.to_string().as_bytes()).unwrap();
    let third = place.manifest(CACHE_CONFIG, b"3", &[]).await;
    let told = place.layout.list("latest", &third).unwrap().unwrap().to_string();
    assert!(told.contains("more than 16384 manifests"), "{told}");
    assert!(place.has(b"2"));
}
