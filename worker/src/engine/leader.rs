//! One worker leads: it sweeps, rescues, seals, and enqueues what is scheduled. All it does is compare-and-set, so two
//! leaders do no harm.

use std::{sync::Arc, time::Duration};

use bson::{Document, doc};
use dezky_shared::{platform::clock, queue::job::Queue, store::StoreError};
use mongodb::options::ReturnDocument;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::{Engine, bulk, claim::millis, sweep::Cursor};
use crate::metrics;

/// The term of one leadership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Term(i64);

impl Engine {
    /// Leads whenever nobody else does, until the worker stops.
    pub(crate) async fn keep_leading(self: Arc<Self>) {
        while !self.stop.is_cancelled() {
            match self.try_acquire().await {
                Ok(Some(term)) => {
                    tracing::info!(term = term.0, "Leading");
                    metrics::leads(true);
                    self.lead(term).await;
                    metrics::leads(false);
                    self.probe_no_more();
                    tracing::info!(term = term.0, "Leading no more");
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "Could not ask who leads; trying again"),
            }
            let _ = self
                .stop
                .run_until_cancelled(tokio::time::sleep(self.times.leader_renew_every))
                .await;
        }
    }

    /// Does the leader's duties until it is not the leader any more.
    async fn lead(&self, term: Term) {
        self.start_rescue_grace(); // At first: leases may have run out only because nobody could renew them.
        tokio::select! {
            () = self.stop.cancelled() => {
                let _ = self.resign(term).await;
            }
            () = self.renewal_loop(term) => {}
            () = self.keep_duties() => {}
        }
    }

    /// Renews the leader's lease until it is lost. No duty can hold this up.
    async fn renewal_loop(&self, term: Term) {
        let mut tick = every(self.times.leader_renew_every);
        let mut leads_until = Instant::now() + self.times.leader_lease;
        while Instant::now() < leads_until {
            tick.tick().await;
            let sent = Instant::now();
            match bulk::with_timeout(self.times.bulk_deadline, self.renew_term(term)).await {
                Ok(true) => leads_until = sent + self.times.leader_lease,
                Ok(false) => return,
                Err(error) => self.duty_failed("stay the leader", &error),
            }
        }
    }

    /// Each duty has a pace of its own: what takes long holds up nothing else.
    async fn keep_duties(&self) {
        let sweeping = async {
            let mut cursors = Queue::ALL.map(|queue| (queue, Cursor::default()));
            let mut tick = every(self.times.sweep_every);
            loop {
                tick.tick().await;
                if let Err(error) = self.sweep(&mut cursors).await {
                    self.duty_failed("sweep", &error);
                }
            }
        };
        let rescuing = async {
            let mut tick = every(self.times.rescue_every);
            loop {
                tick.tick().await;
                if self.database_healthy()
                    && let Err(error) = self.rescue().await
                {
                    self.duty_failed("rescue", &error);
                }
            }
        };
        // These look at much: that one of them takes too long does not mean that leases could not be renewed.
        let attending = async {
            let mut tick = every(self.times.sweep_every);
            loop {
                tick.tick().await;
                if let Err(error) = self.attend_to_upstreams().await {
                    tracing::warn!(%error, "Could not attend to the upstreams; trying again");
                }
            }
        };
        let scheduling = async {
            let mut tick = every(self.times.cron_every);
            loop {
                tick.tick().await;
                self.run_due_schedules().await;
            }
        };
        let measuring = async {
            let mut tick = every(self.times.measure_every);
            loop {
                tick.tick().await;
                if let Err(error) = self.measure().await {
                    tracing::warn!(%error, "Could not measure; trying again");
                }
            }
        };
        let sealing = async {
            let mut tick = every(self.times.seal_every);
            loop {
                tick.tick().await;
                if let Err(error) = self.seal().await {
                    tracing::warn!(%error, "Could not seal the audit trail; trying again");
                }
            }
        };
        let probing = async {
            // Whoever has just become the leader has more urgent things to do.
            let mut tick = interval_at(
                Instant::now() + self.times.probe_every,
                self.times.probe_every,
            );
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                if let Err(error) = self.probe().await {
                    tracing::warn!(%error, "Could not note how the infrastructure is; trying again");
                }
            }
        };
        tokio::join!(
            sweeping, rescuing, attending, scheduling, measuring, sealing, probing
        );
    }

    fn duty_failed(&self, duty: &str, error: &StoreError) {
        tracing::warn!(duty, %error, "A duty of the leader failed; trying again");
        self.database_failed();
    }

    async fn try_acquire(&self) -> Result<Option<Term>, StoreError> {
        let leader = self.ctx.store.collection::<Document>("leader");
        let vacant = doc! { "_id": "leader", "until": { "$lt": self.ctx.store.now() } };
        let take = vec![doc! { "$set": {
            "holder": { "$literal": self.worker.as_str() },
            "until": { "$add": ["$$NOW", millis(self.times.leader_lease)] },
            "term": { "$add": [{ "$ifNull": ["$term", 0_i64] }, 1_i64] },
        } }];
        let taken = leader
            .find_one_and_update(vacant, take)
            .upsert(true)
            .return_document(ReturnDocument::After)
            .await;
        match taken {
            Ok(taken) => Ok(taken.and_then(|taken| taken.get_i64("term").ok()).map(Term)),
            // Somebody leads, so the filter found nothing and the upsert met their document.
            Err(error) if dezky_shared::store::duplicate_key_index(&error).is_some() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn renew_term(&self, term: Term) -> Result<bool, StoreError> {
        let leader = self.ctx.store.collection::<Document>("leader");
        let renewed = vec![
            doc! { "$set": { "until": { "$add": ["$$NOW", millis(self.times.leader_lease)] } } },
        ];
        Ok(leader
            .update_one(doc! { "_id": "leader", "term": term.0 }, renewed)
            .await?
            .matched_count
            == 1)
    }

    /// So that the next leader need not wait for the lease to run out.
    async fn resign(&self, term: Term) -> Result<(), StoreError> {
        let leader = self.ctx.store.collection::<Document>("leader");
        leader
            .update_one(
                doc! { "_id": "leader", "term": term.0 },
                vec![doc! { "$set": { "until": "$$NOW" } }],
            )
            .await?;
        Ok(())
    }

    /// Notes that MongoDB did not do as asked.
    pub(crate) fn database_failed(&self) {
        metrics::database_failed();
        self.start_rescue_grace();
    }

    /// For a while, leases that ran out mean nothing.
    fn start_rescue_grace(&self) {
        let now = u64::try_from(clock::boot_time().as_millis()).unwrap_or(u64::MAX);
        self.database_failed_at
            .fetch_max(now, std::sync::atomic::Ordering::Relaxed);
    }

    fn database_healthy(&self) -> bool {
        let failed_at = Duration::from_millis(
            self.database_failed_at
                .load(std::sync::atomic::Ordering::Relaxed),
        );
        clock::boot_time().saturating_sub(failed_at) >= self.times.rescue_grace
    }
}

/// Ticks that are late put off those after them: what was missed while MongoDB hung is not made up for.
fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
