//! Leader election by a lease document, and the leader's duties. Every duty is compare-and-set, so two leaders that overlap
//! do no harm.

use std::{sync::Arc, time::Duration};

use bson::{Document, doc};
use dezky_shared::store::{Store, StoreError, duplicate_key_index};
use futures::future::{BoxFuture, join_all};
use mongodb::{Collection, options::ReturnDocument};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::{EngineTimings, bulk, database_health::DatabaseHealth, times::millis};
use crate::metrics;

/// A periodic task of the leader. It must be safe to run twice at the same time, and to be cancelled half-way.
pub(crate) trait Duty: Send + Sync {
    /// Its name in logs.
    fn name(&self) -> &'static str;

    /// Its period. Delayed runs are not made up for.
    fn every(&self) -> Duration;

    /// Delay of its first run after the start of a term.
    fn initial_delay(&self) -> Duration {
        Duration::ZERO
    }

    /// Runs once. A run that exceeds the [duty timeout](EngineTimings::duty_timeout) is cancelled.
    fn run(&mut self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Whether MongoDB's failure to answer means that leases could not be renewed either, which suspends the rescue.
    fn reflects_database_health(&self) -> bool {
        false
    }

    /// Clears the metrics that only a leader reports. Called at the end of a term.
    fn end_term(&self) {}
}

/// Takes part in the leader election, and runs the duties while it leads.
pub(super) struct Leader {
    pub(super) election: Election,
    pub(super) duties: Vec<Box<dyn Duty>>,
    pub(super) duty_timeout: Duration,
    pub(super) health: Arc<DatabaseHealth>,
    pub(super) stop: CancellationToken,
}

impl Leader {
    /// Leads whenever no other worker does, until the worker stops.
    pub(super) async fn leader_loop(mut self) {
        while !self.stop.is_cancelled() {
            match self.election.try_acquire().await {
                Ok(Some(term)) => {
                    tracing::info!(term = term.0, "Became leader");
                    metrics::leads(true);
                    self.lead(term).await;
                    metrics::leads(false);
                    for duty in &self.duties {
                        duty.end_term();
                    }
                    tracing::info!(term = term.0, "No longer leader");
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "Could not take part in the leader election; retrying");
                }
            }
            let pause = tokio::time::sleep(self.election.renew_every);
            let _ = self.stop.run_until_cancelled(pause).await;
        }
    }

    async fn lead(&mut self, term: Term) {
        // Leases may have expired only because MongoDB could not renew them.
        self.health.start_rescue_grace();
        let (timeout, health) = (self.duty_timeout, &*self.health);
        let duties = self
            .duties
            .iter_mut()
            .map(|duty| duty_loop(&mut **duty, timeout, |error| health.record_error(error)));
        tokio::select! {
            () = self.stop.cancelled() => {
                let _ = self.election.resign(term).await;
            }
            () = self.election.renewal_loop(term, health) => {}
            _ = join_all(duties) => {}
        }
    }
}

/// Runs one duty at its own period, so that a slow or hanging duty delays no other.
async fn duty_loop(duty: &mut dyn Duty, timeout: Duration, record_error: impl Fn(&StoreError)) {
    let mut tick = every(Instant::now() + duty.initial_delay(), duty.every());
    loop {
        tick.tick().await;
        if let Err(error) = bulk::with_timeout(timeout, duty.run()).await {
            tracing::warn!(duty = duty.name(), %error, "A duty of the leader failed; retrying at its next run");
            if duty.reflects_database_health() {
                record_error(&error);
            }
        }
    }
}

/// Ticks from `start` on. A late tick delays those after it.
fn every(start: Instant, period: Duration) -> Interval {
    let mut interval = interval_at(start, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// The number of one leadership, which fences its renewals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Term(i64);

/// The leader's lease document.
pub(super) struct Election {
    store: Arc<Store>,
    leader: Collection<Document>,
    /// The name of this process, for people.
    worker: String,
    lease: Duration,
    renew_every: Duration,
    timeout: Duration,
}

impl Election {
    pub(super) fn new(store: &Arc<Store>, times: &EngineTimings, worker: &str) -> Self {
        Self {
            leader: store.collection("leader"),
            store: store.clone(),
            worker: worker.to_owned(),
            lease: times.leader_lease,
            renew_every: times.leader_renew_every,
            timeout: times.bulk_deadline,
        }
    }

    /// Acquires the lease if it has expired.
    async fn try_acquire(&self) -> Result<Option<Term>, StoreError> {
        let vacant = doc! { "_id": "leader", "until": { "$lt": self.store.now() } };
        let acquire = vec![doc! { "$set": {
            "holder": { "$literal": self.worker.as_str() },
            "until": self.expiry(),
            "term": { "$add": [{ "$ifNull": ["$term", 0_i64] }, 1_i64] },
        } }];
        let acquired = bulk::with_timeout(self.timeout, async {
            self.leader
                .find_one_and_update(vacant, acquire)
                .upsert(true)
                .return_document(ReturnDocument::After)
                .await
        });
        match acquired.await {
            Ok(lease) => Ok(lease.and_then(|lease| lease.get_i64("term").ok()).map(Term)),
            // The lease is held: the filter matched nothing, and the upsert conflicts with its document.
            Err(error) if duplicate_key_index(&error).is_some() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Renews the lease until it is lost.
    async fn renewal_loop(&self, term: Term, health: &DatabaseHealth) {
        let mut tick = every(Instant::now(), self.renew_every);
        let mut leads_until = Instant::now() + self.lease;
        while Instant::now() < leads_until {
            tick.tick().await;
            let sent = Instant::now();
            match bulk::with_timeout(self.timeout, self.renew_term(term)).await {
                Ok(true) => leads_until = sent + self.lease,
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(%error, "Could not renew the leader's lease; retrying");
                    health.record_error(&error);
                }
            }
        }
    }

    async fn renew_term(&self, term: Term) -> Result<bool, StoreError> {
        let renewed = vec![doc! { "$set": { "until": self.expiry() } }];
        let mut held = term.filter();
        held.insert("holder", &self.worker);
        let updated = self.leader.update_one(held, renewed).await?;
        Ok(updated.matched_count == 1)
    }

    /// Ends the lease, so that the next leader need not wait for it to expire. Without a holder, since a renewal that was
    /// sent before may arrive later.
    async fn resign(&self, term: Term) -> Result<(), StoreError> {
        let ended = vec![doc! { "$set": { "until": "$$NOW", "holder": "" } }];
        bulk::with_timeout(self.timeout, async {
            self.leader.update_one(term.filter(), ended).await?;
            Ok(())
        })
        .await
    }

    fn expiry(&self) -> Document {
        doc! { "$add": ["$$NOW", millis(self.lease)] }
    }
}

impl Term {
    fn filter(self) -> Document {
        doc! { "_id": "leader", "term": self.0 }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;

    use super::*;

    /// Hangs in its first run, fails in its second, and succeeds from then on.
    struct Unreliable(Arc<AtomicUsize>);

    impl Duty for Unreliable {
        fn name(&self) -> &'static str {
            "unreliable"
        }

        fn every(&self) -> Duration {
            Duration::from_millis(1)
        }

        fn run(&mut self) -> BoxFuture<'_, Result<(), StoreError>> {
            let run = self.0.fetch_add(1, Ordering::Relaxed);
            async move {
                match run {
                    0 => std::future::pending().await,
                    1 => Err(StoreError::custom("the second run fails")),
                    _ => Ok(()),
                }
            }
            .boxed()
        }

        fn reflects_database_health(&self) -> bool {
            true
        }
    }

    #[tokio::test]
    async fn a_duty_that_hangs_or_fails_is_recorded_and_runs_again() {
        let runs = Arc::new(AtomicUsize::new(0));
        let mut duty = Unreliable(runs.clone());
        let failures = AtomicUsize::new(0);
        let timeout = Duration::from_millis(20);
        let record_error = |_: &StoreError| {
            failures.fetch_add(1, Ordering::Relaxed);
        };
        let four_runs = async {
            while runs.load(Ordering::Relaxed) < 4 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };

        tokio::select! {
            () = duty_loop(&mut duty, timeout, record_error) => {}
            () = four_runs => {}
        }

        assert_eq!(failures.load(Ordering::Relaxed), 2);
    }
}
