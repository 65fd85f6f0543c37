//! Database health: when a command to MongoDB last failed, and the estimate of MongoDB's clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dezky_shared::{
    platform::{backoff::ReconnectBackoff, clock},
    store::{Store, StoreError, is_unavailable},
};

use super::{EngineTimings, bulk};
use crate::metrics;

/// Suspends the rescue after a failure: a lease may have expired only because MongoDB could not renew it.
pub(super) struct DatabaseHealth {
    store: Arc<Store>,
    sync_every: Duration,
    timeout: Duration,
    grace: Duration,
    /// In milliseconds of boot time.
    failed_at: AtomicU64,
}

impl DatabaseHealth {
    pub(super) fn new(store: &Arc<Store>, times: &EngineTimings) -> Self {
        Self {
            store: store.clone(),
            sync_every: times.rescue_every,
            timeout: times.bulk_deadline,
            grace: times.rescue_grace,
            failed_at: AtomicU64::new(0),
        }
    }

    /// Records the error of a command, if the database caused it. One document that cannot be read or written suspends
    /// nothing.
    pub(super) fn record_error(&self, error: &StoreError) {
        if is_unavailable(error) {
            self.record_failure();
        }
    }

    /// Records that the database did not execute a command.
    pub(super) fn record_failure(&self) {
        metrics::database_failed();
        self.start_rescue_grace();
    }

    /// Suspends the rescue from now on, for the grace period.
    pub(super) fn start_rescue_grace(&self) {
        let now = u64::try_from(clock::boot_time().as_millis()).unwrap_or(u64::MAX);
        self.failed_at.fetch_max(now, Ordering::Relaxed);
    }

    /// Whether no command has failed for the grace period.
    pub(super) fn is_healthy(&self) -> bool {
        let failed_at = Duration::from_millis(self.failed_at.load(Ordering::Relaxed));
        clock::boot_time().saturating_sub(failed_at) >= self.grace
    }

    /// Keeps the estimate of MongoDB's clock current.
    pub(super) async fn clock_sync_loop(self: Arc<Self>) {
        let mut backoff = ReconnectBackoff::default();
        loop {
            match bulk::with_timeout(self.timeout, self.store.sync_clock()).await {
                Ok(()) => {
                    backoff.reset();
                    tokio::time::sleep(self.sync_every).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "Could not read MongoDB's clock; retrying");
                    self.record_error(&error);
                    tokio::time::sleep(backoff.next_delay()).await;
                }
            }
        }
    }
}
