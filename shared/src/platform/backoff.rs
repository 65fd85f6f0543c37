//! Reconnect backoff. The only module that uses the `backoff` crate.

use std::{fmt::Display, time::Duration};

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};

/// Exponential backoff from 100 ms to 5 s with 50 % jitter, without a limit on the number of attempts.
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
    /// Delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        self.0.next_backoff().unwrap_or(self.0.max_interval)
    }

    /// Resets the backoff after a success.
    pub fn reset(&mut self) {
        self.0.reset();
    }
}

/// Repeats `attempt` until it succeeds; `what` is the name of the target in logs.
pub async fn retry<T, E: Display>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, E>) -> T {
    let mut pace = ReconnectBackoff::default();
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => {
                tracing::warn!(what, error = %error, "Cannot connect; retrying");
                tokio::time::sleep(pace.next_delay()).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_five_seconds_without_a_limit_on_attempts() {
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
    fn a_reset_restores_the_first_delay() {
        let mut pace = ReconnectBackoff::default();
        for _ in 0..20 {
            pace.next_delay();
        }

        pace.reset();

        assert!(pace.next_delay() <= Duration::from_millis(150));
    }
}
