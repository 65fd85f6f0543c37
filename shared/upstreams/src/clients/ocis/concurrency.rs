//! Adaptive limit on concurrent calls (AIMD: additive increase, multiplicative decrease).
//!
//! oCIS checks app tokens one at a time, two to four a second, so further concurrent calls only slow all of them down,
//! until writes time out with an unknown outcome. How many calls a server bears depends on its hardware and on our kind
//! of credentials. Its latency shows it: a round of quick responses raises the limit by one, a slow or missing one halves it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use crate::clients::{ClientError, UpstreamResponse};

/// Limit at the start.
const FIRST: usize = 4;
/// Maximum limit.
const MAX: usize = 16;

/// Limit on the concurrent calls of this process. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct ConcurrencyLimit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    permits: Semaphore,
    state: Mutex<State>,
    /// Latency from which a response counts as slow.
    slow: Duration,
}

#[derive(Debug)]
struct State {
    /// Current limit.
    limit: usize,
    /// Quick responses since the limit last changed. As many as the limit, one round, raise it by one.
    quick: usize,
    /// Existing permits, idle or held. Held ones above the limit are dropped when they are returned.
    permits: usize,
    /// Time of the last decrease. Responses to earlier calls say nothing about the new limit.
    decreased_at: Option<Instant>,
}

impl State {
    fn count_quick(&mut self) {
        self.quick += 1;
        if self.quick >= self.limit && self.limit < MAX {
            self.limit += 1;
            self.quick = 0;
        }
    }

    fn decrease(&mut self, began: Instant) {
        if self.decreased_at.is_none_or(|at| began >= at) {
            self.limit = (self.limit / 2).max(1);
            self.quick = 0;
            self.decreased_at = Some(Instant::now());
        }
    }
}

impl ConcurrencyLimit {
    /// A limit for calls with this timeout: a quarter of it counts as slow.
    pub(super) fn new(call_timeout: Duration) -> Self {
        Self(Arc::new(Inner {
            permits: Semaphore::new(FIRST),
            state: Mutex::new(State {
                limit: FIRST,
                quick: 0,
                permits: FIRST,
                decreased_at: None,
            }),
            slow: call_timeout / 4,
        }))
    }

    /// Makes a call within the limit, and adapts the limit to its latency.
    pub(super) async fn run(
        &self,
        call: impl Future<Output = Result<UpstreamResponse, ClientError>>,
    ) -> Result<UpstreamResponse, ClientError> {
        let permit = self.acquire().await;
        let began = Instant::now();
        let response = call.await;
        let is_slow = match &response {
            Ok(_) => Some(began.elapsed() > self.0.slow),
            // Sent, but not answered.
            Err(ClientError::AnswerLost(_) | ClientError::Unavailable(_)) => Some(true),
            Err(_) => None,
        };
        if let Some(is_slow) = is_slow {
            self.observe(permit, began, is_slow);
        }
        response
    }

    async fn acquire(&self) -> SemaphorePermit<'_> {
        let permit = self.0.permits.acquire().await;
        permit.expect("the semaphore is never closed")
    }

    fn observe(&self, permit: SemaphorePermit<'_>, began: Instant, is_slow: bool) {
        let mut state = self.state();
        if is_slow {
            state.decrease(began);
        } else {
            state.count_quick();
        }
        let limit = state.limit;
        if state.permits > limit {
            permit.forget();
            state.permits -= 1;
        } else if state.permits < limit {
            self.0.permits.add_permits(limit - state.permits);
            state.permits = limit;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit() -> ConcurrencyLimit {
        ConcurrencyLimit::new(Duration::from_secs(10))
    }

    async fn respond(limit: &ConcurrencyLimit, is_slow: bool) {
        let permit = limit.acquire().await;
        limit.observe(permit, Instant::now(), is_slow);
    }

    /// Takes permits until none is left, and returns them all.
    fn concurrent_calls(limit: &ConcurrencyLimit) -> usize {
        let permits: Vec<_> = std::iter::from_fn(|| limit.0.permits.try_acquire().ok()).collect();
        permits.len()
    }

    #[tokio::test]
    async fn quick_responses_raise_the_limit_to_its_maximum() {
        let limit = limit();

        for _ in 0..FIRST {
            respond(&limit, false).await;
        }
        let after_a_round = concurrent_calls(&limit);
        for _ in 0..200 {
            respond(&limit, false).await;
        }

        assert_eq!(after_a_round, FIRST + 1);
        assert_eq!(concurrent_calls(&limit), MAX);
    }

    #[tokio::test]
    async fn a_round_of_slow_responses_halves_the_limit_once() {
        let limit = limit();
        let began = Instant::now();

        for _ in 0..FIRST {
            let permit = limit.acquire().await;
            limit.observe(permit, began, true);
        }

        assert_eq!(concurrent_calls(&limit), FIRST / 2);
    }

    #[tokio::test]
    async fn the_limit_never_falls_below_one_call_and_recovers() {
        let limit = limit();

        for _ in 0..20 {
            respond(&limit, true).await;
        }
        let lowest = concurrent_calls(&limit);
        for _ in 0..20 {
            respond(&limit, false).await;
        }

        assert_eq!(lowest, 1);
        assert!(concurrent_calls(&limit) > 1);
    }

    #[tokio::test]
    async fn a_cancelled_call_returns_its_permit() {
        let limit = limit();

        for _ in 0..MAX {
            let call = limit.run(std::future::pending());
            let cancelled = tokio::time::timeout(Duration::ZERO, call).await;
            assert!(cancelled.is_err());
        }

        assert_eq!(concurrent_calls(&limit), FIRST);
    }
}
