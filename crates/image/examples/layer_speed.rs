//! How long a layer takes: `layer_speed <scratch directory> <uncompressed tar> [erofs|dir]` imports, reproduces
//! and removes it three times and prints seconds.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use corten_image::layer::{DriverKind, ImportOptions, Layers};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, scratch, archive, rest @ ..] = arguments.as_slice() else {
        return Err("usage: layer_speed <scratch directory> <uncompressed tar> [erofs|dir]".into());
    };
    let driver: DriverKind = rest.first().map_or("erofs", String::as_str).parse()?;
    let layers = Layers::open(Path::new(scratch), driver)?;
    for _ in 0..3 {
        let start = Instant::now();
        let layer = layers.import(&mut File::open(archive)?, &ImportOptions::default(), &|_| {})?;
        let imported = start.elapsed();
        let start = Instant::now();
        let mut sink = File::options().write(true).open("/dev/null")?;
        layers.reproduce(&layer.id, &mut sink)?;
        let reproduced = start.elapsed();
        let start = Instant::now();
        layers.remove(&layer.id)?;
        println!(
            "import {:.3} s, reproduce {:.3} s, remove {:.3} s; {} entries, tar {} MB, disk/files {:.3}",
            imported.as_secs_f64(),
            reproduced.as_secs_f64(),
            start.elapsed().as_secs_f64(),
            layer.entries,
            layer.tar_bytes / 1_000_000,
            layer.disk_bytes as f64 / layer.unpacked_bytes as f64,
        );
    }
    Ok(())
}
