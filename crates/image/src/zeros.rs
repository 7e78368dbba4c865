//! Pages without data: what is only zeros needs no room on a disk, however much of it there is.

/// What file systems hand out.
pub const PAGE: usize = 4096;
const ZEROS: [u8; 128] = [0; 128];

/// Whether all bytes are zero. What begins with another byte, as nearly everything does, costs one look.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<{ ZEROS.len() }>();
    chunks.iter().all(|chunk| *chunk == ZEROS) && rest.iter().all(|byte| *byte == 0)
}

/// How many bytes are left without the pages that are all zeros.
pub fn data_bytes(bytes: &[u8]) -> u64 {
    bytes.chunks(PAGE).filter(|page| !is_zero(page)).map(|page| page.len() as u64).sum()
}

/// The longest run of whole pages with data at the beginning, or of those without, and which of both it is. What is no whole page
/// counts as data.
pub fn run(bytes: &[u8]) -> (usize, bool) {
    let is_hole = |page: &[u8]| page.len() == PAGE && is_zero(page);
    let mut pages = bytes.chunks(PAGE);
    let first = pages.next().is_some_and(is_hole);
    let more = pages.take_while(|page| is_hole(page) == first).count();
    (bytes.len().min((1 + more) * PAGE), !first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_told_apart() {
        let mut bytes = vec![0; 5 * PAGE + 100];
        bytes[2 * PAGE + 77] = 1;
        let mut found = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (length, is_data) = run(rest);
            found.push((length, is_data));
            rest = &rest[length..];
        }
        assert_eq!(found, [(2 * PAGE, false), (PAGE, true), (2 * PAGE, false), (100, true)]);
        assert_eq!(data_bytes(&bytes), PAGE as u64);
        bytes[5 * PAGE + 99] = 1;
        assert_eq!(data_bytes(&bytes), PAGE as u64 + 100);
        assert!(is_zero(&bytes[..2 * PAGE]) && !is_zero(&bytes) && is_zero(&[]));
    }
}
