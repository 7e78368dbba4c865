//! Volumes on a disk of their own, and what a killed engine leaves of them.

use std::fs;

use super::*;

struct Fixture {
    place: tempfile::TempDir,
    store: Arc<StateStore>,
}

impl Fixture {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let store = Arc::new(StateStore::open(&place.path().join("engine.db")).unwrap());
        Self { place, store }
    }

    fn root(&self) -> PathBuf {
        self.place.path().join("volumes")
    }

    fn open(&self) -> Volumes {
        Volumes::open(self.root(), self.store.clone()).unwrap()
    }
}

fn named(name: &str) -> VolumeCreateRequest {
    VolumeCreateRequest { name: name.to_owned(), ..VolumeCreateRequest::default() }
}

fn nobody(_: &str) -> Vec<String> {
    Vec::new()
}

#[test]
fn a_removed_volume_is_out_of_sight_before_its_files_are_gone() {
    let fixture = Fixture::new();
    let volumes = fixture.open();
    for _ in 0..2 {
        // The second time with the first one's files still there.
        volumes.create(&named("data"), false).unwrap();
        fs::write(volumes.data("data").join("file"), "x").unwrap();
        let doomed = volumes.remove("data", false, &nobody).unwrap().unwrap();
        assert!(doomed.join("_data/file").exists() && !volumes.data("data").exists());
    }
    assert_eq!(volumes.remove("data", false, &nobody).unwrap_err().kind, crate::ErrorKind::NotFound);
    assert!(volumes.remove("data", true, &nobody).unwrap().is_none());
    assert_eq!(fixture.open().sweep().unwrap().len(), 2);
}

#[test]
fn a_used_volume_stays() {
    let fixture = Fixture::new();
    let volumes = fixture.open();
    volumes.create(&named("data"), false).unwrap();
    let refused = volumes.remove("data", true, &|_| vec!["web".to_owned()]).unwrap_err();
    assert_eq!(refused.to_string(), "remove data: volume is in use - [web]");
    assert!(volumes.data("data").exists());
}

#[test]
fn a_removal_that_was_killed_half_way_is_finished() {
    let fixture = Fixture::new();
    let volumes = fixture.open();
    for name in ["gone", "back", "other"] {
        volumes.create(&named(name), false).unwrap();
    }
    // Killed between the rename and the database: for one of them a directory has come back since.
    fs::rename(fixture.root().join("gone"), fixture.root().join(".removed-01234567-gone")).unwrap();
    fs::create_dir_all(fixture.root().join(".removed-01234567-back/_data")).unwrap();
    let volumes = fixture.open();
    let mut doomed = volumes.sweep().unwrap();
    doomed.sort();
    let expected = [".removed-01234567-back", ".removed-01234567-gone"].map(|name| fixture.root().join(name));
    assert_eq!(doomed, expected);
    let left = |volumes: &Volumes| lock(&volumes.records).keys().cloned().collect::<Vec<_>>();
    assert_eq!(left(&volumes), ["back", "other"]);
    assert_eq!(left(&fixture.open()), ["back", "other"]);
}

#[test]
fn a_volume_that_cannot_be_recorded_leaves_no_directory() {
    let fixture = Fixture::new();
    let volumes = fixture.open();
    let other = rusqlite::Connection::open(fixture.place.path().join("engine.db")).unwrap();
    other
        .execute_batch("CREATE TRIGGER full BEFORE INSERT ON volume BEGIN SELECT RAISE(FAIL, 'full'); END")
        .unwrap();
    assert!(volumes.create(&named("data"), false).is_err());
    assert!(!fixture.root().join("data").exists());
    assert!(volumes.inspect("data").is_err());
}

#[test]
fn names_leave_room_for_the_name_of_what_is_removed() {
    let fixture = Fixture::new();
    let volumes = fixture.open();
    let longest = "v".repeat(NAME_BYTES_MAX);
    volumes.create(&named(&longest), false).unwrap();
    assert!(volumes.remove(&longest, false, &nobody).unwrap().unwrap().exists());
    let refused = volumes.create(&named(&"v".repeat(NAME_BYTES_MAX + 1)), false).unwrap_err();
    assert_eq!(refused.kind, crate::ErrorKind::InvalidParameter);
}

#[test]
fn a_copy_that_fails_leaves_the_volume_empty_and_the_next_fills_it() {
    let fixture = Fixture::new();
    let volumes = fixture.open();
    volumes.create(&named("data"), false).unwrap();
    let failed = volumes.fill("data", |target| {
        fs::write(target.join("half"), "x").unwrap();
        Err(Error::internal("no space left"))
    });
    assert!(failed.is_err());
    assert_eq!(fs::read_dir(volumes.data("data")).unwrap().count(), 0);
    // Killed in the middle of it: what lies there is worth nothing.
    let partial = fixture.root().join("data").join(PARTIAL);
    fs::create_dir(&partial).unwrap();
    fs::write(partial.join("half"), "x").unwrap();
    let whole = |target: &Path| {
        fs::create_dir(target.join("directory")).unwrap();
        fs::write(target.join("directory/file"), "x").unwrap();
        Ok(true)
    };
    volumes.fill("data", whole).unwrap();
    assert!(
        volumes.data("data").join("directory/file").exists() && !volumes.data("data").join("half").exists()
    );
    assert_eq!(fs::read_dir(fixture.root().join("data")).unwrap().count(), 1);
    volumes.fill("data", |_| panic!("a volume with content is not filled again")).unwrap();
}

#[test]
fn a_whole_copy_is_moved_in_at_the_next_start_and_overwrites_nothing() {
    let fixture = Fixture::new();
    let volumes = fixture.open();
    volumes.create(&named("data"), false).unwrap();
    let filled = fixture.root().join("data").join(FILLED);
    fs::create_dir(&filled).unwrap();
    fs::write(filled.join("new"), "image").unwrap();
    fs::write(filled.join("taken"), "image").unwrap();
    fs::write(volumes.data("data").join("taken"), "container").unwrap();
    let volumes = fixture.open();
    volumes.sweep().unwrap();
    let read = |name: &str| fs::read_to_string(volumes.data("data").join(name)).unwrap();
    assert_eq!((read("new").as_str(), read("taken").as_str()), ("image", "container"));
    assert!(!filled.exists());
}

#[test]
fn sizes_follow_no_link_and_count_a_file_once() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("below")).unwrap();
    fs::write(place.path().join("below/file"), [0; 1000]).unwrap();
    fs::hard_link(place.path().join("below/file"), place.path().join("again")).unwrap();
    std::os::unix::fs::symlink("/usr", place.path().join("link")).unwrap();
    assert_eq!(file_bytes(place.path()), 1000);
    assert_eq!(file_bytes(&place.path().join("link")), 0);
}
