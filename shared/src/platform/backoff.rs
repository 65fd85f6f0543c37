//! The pace at which something that is away is tried again. The only user of `backoff`.

use std::{fmt::Display, time::Duration};

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};

/// Delays that grow from 100 ms to 5 s, each spread by half of itself, for a loop that must never end.
#[derive(Debug)]
pub struct ReconnectBackoff(ExponentialBackoff);

impl Default for ReconnectBackoff {
    fn default() -> Self {
        Self(
            ExponentialBackoffBuilder::new()
                .with_initial_interval(Duration::from_millis(100))
                .with_max_interval(Duration::from_secs(5))
                .with_max_elapsed_time(None)
                .build(),
        )
    }
}

impl ReconnectBackoff {
    /// How long to wait after one more failure.
    pub fn next_delay(&mut self) -> Duration {
        self.0.next_backoff().unwrap_or(self.0.max_interval)
    }

    /// It worked: the next failure is the first.
    pub fn reset(&mut self) {
        self.0.reset();
    }
}

/// Repeats `attempt` until it works, saying what is away.
pub async fn retry<T, E: Display>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, E>) -> T {
    let mut pace = ReconnectBackoff::default();
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => {
                tracing::warn!(what, error = %error, "Cannot connect; trying again");
                tokio::time::sleep(pace.next_delay()).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_five_seconds_and_never_end() {
        let mut pace = ReconnectBackoff::default();

        let delays: Vec<Duration> = (0..100).map(|_| pace.next_delay()).collect();

        assert!(delays[0] <= Duration::from_millis(150));
        assert!(delays[99] >= Duration::from_millis(2500));
        assert!(
            delays
                .iter()
                .all(|delay| *delay <= Duration::from_millis(7500))
        );
    }

    #[test]
    fn after_a_success_the_first_delay_is_short_again() {
        let mut pace = ReconnectBackoff::default();
        for _ in 0..20 {
            pace.next_delay();
        }

        pace.reset();

        assert!(pace.next_delay() <= Duration::from_millis(150));
    }
}
