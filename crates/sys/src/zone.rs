//! The host's time zone.

/// Seconds that the host's clock on the wall is ahead of UTC at a moment; 0 when the C library knows none.
pub fn utc_offset_s(unix_seconds: i64) -> i64 {
    let mut local = core::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers lead to values of the right type that outlive the call; an all-zero `tm` is valid. The environment's TZ
    // may be read, which this project never sets.
    let known = unsafe { libc::localtime_r(&unix_seconds, local.as_mut_ptr()) };
    if known.is_null() {
        return 0;
    }
    // SAFETY: zeroed, and filled by the call.
    #[allow(clippy::useless_conversion)]
    i64::from(unsafe { local.assume_init() }.tm_gmtoff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_those_of_a_zone() {
        assert!((-14 * 3600..=14 * 3600).contains(&utc_offset_s(1_700_000_000)));
    }
}
