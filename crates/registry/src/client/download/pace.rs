//! Whether a reader mostly waits for the network. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// What is looked at together.
const SPAN: Duration = Duration::from_millis(250);
/// Nothing is gained where a connection brings that much: then it is the server or this host that is busy.
const FAST_BYTES_PER_S: f64 = 100e6;

/// How bytes came lately.
#[derive(Default)]
pub(super) struct Pace {
    since: Option<Instant>,
    bytes: usize,
    waited: Duration,
    is_slow: bool,
}

impl Pace {
    /// Notes that bytes came after somebody had waited for them.
    pub fn note(&mut self, bytes: usize, waited: Duration) {
        let since = *self.since.get_or_insert_with(|| Instant::now() - waited);
        self.bytes += bytes;
        self.waited += waited;
        let span = since.elapsed();
        if span >= SPAN {
            self.is_slow = is_slow(span, self.waited, self.bytes);
            (self.since, self.bytes, self.waited) = (Some(Instant::now()), 0, Duration::ZERO);
        }
    }

    pub fn is_slow(&self) -> bool {
        self.is_slow
    }
}

fn is_slow(span: Duration, waited: Duration, bytes: usize) -> bool {
    waited.as_secs_f64() > 0.6 * span.as_secs_f64() && (bytes as f64) < FAST_BYTES_PER_S * span.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_is_who_is_waited_for() {
        let ms = Duration::from_millis;
        assert!(is_slow(ms(300), ms(290), 1 << 20));
        assert!(!is_slow(ms(300), ms(100), 1 << 20), "the reader is slower");
        assert!(!is_slow(ms(300), ms(290), 60 << 20), "it is fast enough");
    }
}
