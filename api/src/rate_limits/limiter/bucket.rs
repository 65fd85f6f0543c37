//! Token bucket in memory, with the algorithm of the Redis script and the clock of the process.

use std::time::Duration;

use crate::config::Limit;

/// Tokens taken from a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenBatch {
    /// Number of tokens.
    pub(crate) granted: u32,
    /// Time until the next token, if none was granted.
    pub(crate) wait: Duration,
}

/// A token bucket. Starts full.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    /// Tokens missing from a full bucket.
    spent: f64,
    at: Duration,
}

impl Bucket {
    /// Takes up to a batch of tokens.
    pub(crate) fn take(&mut self, limit: Limit, now: Duration) -> TokenBatch {
        let refilled = now.saturating_sub(self.at).as_secs_f64() * limit.per_second;
        self.spent = (self.spent - refilled).max(0.0);
        self.at = now;
        let left = f64::from(limit.burst) - self.spent;
        if left < 1.0 {
            return TokenBatch {
                granted: 0,
                wait: Duration::from_secs_f64((1.0 - left) / limit.per_second),
            };
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and a batch"
        )]
        let granted = left.min(f64::from(limit.batch())) as u32;
        self.spent += f64::from(granted);
        TokenBatch {
            granted,
            wait: Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_hours(1);
    const LIMIT: Limit = Limit {
        per_second: 10.0,
        burst: 25,
    };

    #[test]
    fn a_bucket_grants_batches_until_it_is_empty_and_then_refills() {
        let mut bucket = Bucket::default();

        let taken: Vec<u32> = (0..14).map(|_| bucket.take(LIMIT, NOW).granted).collect();
        let rejected = bucket.take(LIMIT, NOW);
        let soon = NOW + Duration::from_millis(150);
        let later = [(); 2].map(|()| bucket.take(LIMIT, soon).granted);
        let full = NOW + Duration::from_mins(1);
        let much_later: u32 = (0..20).map(|_| bucket.take(LIMIT, full).granted).sum();

        assert_eq!(taken, [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 0]);
        assert_eq!(rejected.wait, Duration::from_millis(100));
        assert_eq!(later, [1, 0]);
        assert_eq!(much_later, 25);
    }
}
