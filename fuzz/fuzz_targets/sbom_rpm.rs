//! rpm's database: a table whose pages are any bytes, behind a first page that leads there.
#![no_main]

use std::io::Cursor;

use corten_sbom::Scan;
use libfuzzer_sys::fuzz_target;

const PAGE_BYTES: usize = 512;

fuzz_target!(|data: &[u8]| {
    let mut database = vec![0; PAGE_BYTES];
    database[..16].copy_from_slice(b"SQLite format 3\0");
    database[16] = (PAGE_BYTES >> 8) as u8;
    // A leaf with one row: the table `Packages`, whose first page is the second.
    let schema = [&[28, 1, 6, 23, 29, 29, 1, 13], &b"tablePackagesPackages\x02"[..]].concat();
    database[100] = 0x0d;
    database[104] = 1;
    database[109] = 200;
    database[200..200 + schema.len()].copy_from_slice(&schema);
    database.extend(data);
    database.resize(database.len().next_multiple_of(PAGE_BYTES), 0);
    let mut scan = Scan::default();
    scan.file("var/lib/rpm/rpmdb.sqlite", database.len() as u64, &mut Cursor::new(&database));
    let inventory = scan.finish();
    // A row is not there more than once, so there are no more packages than fit.
    assert!(inventory.packages.len() <= database.len() / 16);
});
