use super::*;
use crate::digest::Digest;

fn step(number: u32) -> StepRow {
    let key = Digest::of(&number.to_le_bytes());
    let description = "x".repeat(16 * 1024);
    StepRow { key, layer: None, description, created_at: 0, used_at: 0, uses: 1 }
}

#[test]
fn the_files_of_what_is_forgotten_get_smaller() {
    const STEPS: u32 = 2000;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("images.db");
    let mut database = Database::open(&path).unwrap();
    let bytes = || {
        let files = std::fs::read_dir(directory.path()).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    database.change(|change| (0..STEPS).try_for_each(|number| change.add_step(&step(number)))).unwrap();
    let full = bytes();
    assert!(full > u64::from(STEPS) * 16 * 1024, "{full}");
    let forget = |change: &Change<'_>| {
        (0..STEPS).try_for_each(|number| change.remove_step(&step(number).key).map(drop))
    };
    database.remove_synced(forget).unwrap();
    assert!(bytes() < full / 4, "{} of {full} bytes are left", bytes());
    assert!(database.steps().unwrap().is_empty());
}
