//! A context as a tar archive (POSIX ustar): `meta.json`, and `tls/docker/` with its files.

use super::tls::NAMES;
use super::{Meta, StoreError, TlsFiles};

const BLOCK: usize = 512;
/// An archive of a context is a few files of some kilobytes.
pub const ARCHIVE_BYTES_MAX: u64 = 10 << 20;

/// Writes an archive.
pub fn export(meta: &Meta, files: &TlsFiles) -> Result<Vec<u8>, StoreError> {
    let text = serde_json::to_vec(meta).map_err(|e| StoreError::Archive(e.to_string()))?;
    let mut archive = Vec::new();
    append(&mut archive, "meta.json", 0o644, Some(&text));
    append(&mut archive, "tls", 0o700, None);
    if !files.is_empty() {
        append(&mut archive, "tls/docker", 0o700, None);
    }
    for (file, name) in files.files.iter().zip(NAMES) {
        if let Some(content) = file {
            append(&mut archive, &format!("tls/docker/{name}"), 0o600, Some(content));
        }
    }
    archive.extend_from_slice(&[0; 2 * BLOCK]);
    Ok(archive)
}

/// One member; without content, a directory.
fn append(archive: &mut Vec<u8>, name: &str, mode: u32, content: Option<&[u8]>) {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", content.map_or(0, <[u8]>::len)));
    put(136, "00000000000");
    put(148, "        ");
    put(156, if content.is_some() { "0" } else { "5" });
    put(257, "ustar\u{0}00");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    archive.extend_from_slice(&header);
    let content = content.unwrap_or_default();
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(BLOCK), 0);
}

/// Reads an archive; what a context does not have is refused.
pub fn import(name: &str, archive: &[u8]) -> Result<(Meta, TlsFiles), StoreError> {
    let wrong = |why: &str| StoreError::Archive(format!("the archive can't be imported: {why}"));
    if archive.starts_with(b"PK") {
        return Err(wrong("it is a zip file; tar is read here"));
    }
    let (mut meta, mut files) = (None, TlsFiles::default());
    let mut rest = archive;
    while let Some((header, after)) = rest.split_at_checked(BLOCK) {
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        let text = |range: std::ops::Range<usize>| {
            let field = &header[range];
            let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
            String::from_utf8_lossy(&field[..end]).trim().to_owned()
        };
        let size = usize::from_str_radix(&text(124..136), 8).map_err(|_| wrong("it is no tar archive"))?;
        let content = after.get(..size).ok_or_else(|| wrong("it breaks off"))?;
        rest = after.get(size.next_multiple_of(BLOCK)..).unwrap_or_default();
        let path = text(0..100);
        let path = path.trim_start_matches("./").trim_end_matches('/');
        match (path, header[156]) {
            (_, b'5') => {}
            ("meta.json", b'0' | 0) => {
                let found: Meta =
                    serde_json::from_slice(content).map_err(|e| wrong(&format!("meta.json: {e}")))?;
                meta = Some(Meta { name: name.to_owned(), ..found });
            }
            (path, b'0' | 0) => {
                let file = path.strip_prefix("tls/docker/");
                let slot = NAMES.iter().position(|known| Some(*known) == file);
                let slot = slot.ok_or_else(|| wrong(&format!("{path}: unexpected context file")))?;
                files.files[slot] = Some(content.to_owned());
            }
            (path, _) => return Err(wrong(&format!("{path}: neither a file nor a directory"))),
        }
    }
    meta.map(|meta| (meta, files)).ok_or_else(|| wrong("meta.json is missing"))
}
