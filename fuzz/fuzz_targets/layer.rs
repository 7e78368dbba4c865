//! A layer of any bytes is imported, and then gives back exactly these bytes; or it is refused and leaves nothing.
#![no_main]
use corten_image::layer::{DriverKind, ImportOptions, Layers};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let directory = tempfile::tempdir_in("/dev/shm").expect("scratch directory");
    let layers = Layers::open(directory.path(), DriverKind::Erofs).expect("layer store");
    match layers.import(&mut &*bytes, &ImportOptions::default(), &|_| {}) {
        Ok(layer) => {
            let mut again = Vec::new();
            layers.reproduce(&layer.id, &mut again).expect("an imported layer can be reproduced");
            assert!(bytes.starts_with(&again) || again == bytes);
            layers.files(&layer.id).expect("an imported layer can be read");
        }
        Err(_) => assert!(layers.list().expect("list").is_empty()),
    }
});
