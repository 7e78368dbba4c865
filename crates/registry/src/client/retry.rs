//! Whether a request is said again, and when. Pure.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderMap, RETRY_AFTER};

/// In all, the first one included.
const TRIES_MAX: u32 = 4;
/// What is waited for one request, all tries together.
const WAIT_MAX: Duration = Duration::from_secs(60);
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// How long to wait before the next try after this many; `None` when it is enough.
pub(crate) fn after_break(tries: u32) -> Option<Duration> {
    (tries < TRIES_MAX).then(|| FIRST_WAIT * 4u32.saturating_pow(tries.saturating_sub(1)) / 2)
}

/// The same after an answer that says "later".
pub(crate) fn after_answer(
    status: StatusCode,
    headers: &HeaderMap,
    tries: u32,
    waited: Duration,
) -> Option<Duration> {
    let is_later = matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    if !is_later || tries >= TRIES_MAX {
        return None;
    }
    let wait = match retry_after(headers) {
        Some(wished) => wished.max(Duration::from_millis(100)),
        // Without a time the limit is one of hours, as that of Docker's hub is: waiting doesn't help.
        None if status == StatusCode::TOO_MANY_REQUESTS && tries >= 2 => return None,
        None => FIRST_WAIT * 4u32.saturating_pow(tries.saturating_sub(1)),
    };
    (waited + wait <= WAIT_MAX).then_some(wait)
}

/// Seconds or a date (RFC 9110, section 10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let now = match headers.get(hyper::header::DATE).and_then(|date| date.to_str().ok()) {
        // By the clock of who says it.
        Some(date) => jiff::fmt::rfc2822::parse(date).ok()?.timestamp(),
        None => jiff::Timestamp::now(),
    };
    Some(then.duration_since(now).try_into().unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn retry_after_in_seconds_and_as_a_date() {
        let after = |fields: &[_]| retry_after(&headers(fields));
        assert_eq!(after(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        let date = ("date", "Sat, 21 Nov 2026 18:00:00 GMT");
        let later = ("retry-after", "Sat, 21 Nov 2026 18:00:09 GMT");
        assert_eq!(after(&[date, later]), Some(Duration::from_secs(9)));
        let earlier = ("retry-after", "Sat, 21 Nov 2026 17:00:00 GMT");
        assert_eq!(after(&[date, earlier]), Some(Duration::ZERO));
        for odd in ["", "soon", "-1", "1e9", "99999999999999999999999"] {
            assert_eq!(after(&[("retry-after", odd)]), None, "{odd}");
        }
    }

    #[test]
    fn waiting_is_bounded_however_long_the_other_side_wishes() {
        let wait = |status: u16, after: &'static str, tries, waited| {
            let headers =
                if after.is_empty() { HeaderMap::new() } else { headers(&[("retry-after", after)]) };
            after_answer(StatusCode::from_u16(status).unwrap(), &headers, tries, Duration::from_secs(waited))
        };
        assert_eq!(wait(429, "5", 1, 0), Some(Duration::from_secs(5)));
        assert_eq!(wait(429, "3600", 1, 0), None);
        assert_eq!(wait(503, "30", 2, 40), None);
        assert!(wait(503, "", 1, 0).is_some() && wait(503, "", 4, 0).is_none());
        assert!(wait(429, "", 1, 0).is_some() && wait(429, "", 2, 0).is_none());
        for status in [200, 400, 401, 404, 500, 501] {
            assert_eq!(wait(status, "1", 1, 0), None, "{status}");
        }
        assert!(after_break(1).is_some() && after_break(4).is_none());
    }
}
