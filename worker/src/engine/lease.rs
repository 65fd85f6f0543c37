//! Keeping what we hold: one task renews every lease, whatever the handlers are doing.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bson::{Document, doc};
use dezky_shared::{
    id::{JobId, LeaseToken},
    platform::clock,
    store::StoreError,
};
use dezky_upstreams::clients::LeaseDeadline;
use futures::TryStreamExt as _;
use tokio_util::sync::CancellationToken;

use super::{
    Engine,
    bulk::{self, Update},
    claim::millis,
};

/// A job this process holds.
#[derive(Debug)]
pub(crate) struct LeasedJob {
    pub(crate) token: LeaseToken,
    pub(crate) trust: LeaseDeadline,
    /// Cancelled when the job was found to be somebody else's.
    pub(crate) lost: CancellationToken,
    /// Whether the handler has begun: from the next renewal on, losing this process counts as a crash.
    pub(crate) started: AtomicBool,
    /// Whether the lease is renewed no more, because the attempt took too long.
    pub(crate) timed_out: AtomicBool,
    /// Whether a person wants the job to stop.
    pub(crate) cancel_requested: AtomicBool,
}

/// The jobs this process holds, each for as long as somebody here works on it: a lease that was renewed for nobody
/// would never be rescued.
#[derive(Debug, Default)]
pub(crate) struct LeaseTable(Mutex<HashMap<JobId, Weak<LeasedJob>>>);

impl LeaseTable {
    pub(crate) fn add(&self, id: JobId, token: LeaseToken, trust: LeaseDeadline) -> Arc<LeasedJob> {
        let job = Arc::new(LeasedJob {
            token,
            trust,
            lost: CancellationToken::new(),
            started: AtomicBool::new(false),
            timed_out: AtomicBool::new(false),
            cancel_requested: AtomicBool::new(false),
        });
        self.lock().insert(id, Arc::downgrade(&job));
        job
    }

    fn renewable(&self) -> Vec<(JobId, Arc<LeasedJob>)> {
        let mut held = self.lock();
        held.retain(|_, job| job.strong_count() > 0);
        held.iter()
            .filter_map(|(id, job)| Some((*id, job.upgrade()?)))
            .filter(|(_, job)| !job.timed_out.load(Ordering::Relaxed))
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, Weak<LeasedJob>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Renews all leases for ever.
    pub(crate) async fn keep_renewing(&self) {
        let mut pause = self.times.renew_every;
        loop {
            tokio::time::sleep(pause).await;
            pause = match self.renew().await {
                Ok(()) => self.times.renew_every,
                Err(error) => {
                    tracing::warn!(%error, "Leases could not be renewed; trying again");
                    self.database_failed();
                    // A renewal that is tried only now and then would let go of leases that could be kept.
                    (self.times.renew_every / 10).max(Duration::from_millis(10))
                }
            };
        }
    }

    pub(crate) async fn renew(&self) -> Result<(), StoreError> {
        let held = self.held.renewable();
        if held.is_empty() {
            return Ok(());
        }
        let updates: Vec<Update> = held
            .iter()
            .map(|(id, job)| self.renewal(*id, job))
            .collect();

        let sent = clock::boot_time();
        let errors = bulk::update(&self.ctx.store, &updates, self.times.bulk_deadline).await;
        let unsure: HashSet<JobId> = errors.keys().map(|index| held[*index].0).collect();

        let still_ours =
            bulk::with_timeout(self.times.bulk_deadline, self.find_held(&held)).await?;
        let ends = sent + self.times.lease.saturating_sub(self.times.trust_margin);
        for (id, job) in held {
            match still_ours.get(&id) {
                Some((token, cancel_requested)) if *token == job.token => {
                    if !unsure.contains(&id) {
                        job.trust.extend(ends);
                    }
                    job.cancel_requested
                        .fetch_or(*cancel_requested, Ordering::Relaxed);
                }
                // A node that has just become primary may not show yet what was claimed a moment ago.
                _ if unsure.contains(&id) => {}
                _ => job.lost.cancel(),
            }
        }
        match errors.into_values().next() {
            Some(error) => Err(StoreError::custom(format!("{error:?}"))),
            None => Ok(()),
        }
    }

    /// By id and token, never by the worker's name: two processes may share one. No new revision: nothing changed
    /// that a person would want to see. One update for each job: one that an open transaction holds keeps no other
    /// from being renewed.
    fn renewal(&self, id: JobId, job: &LeasedJob) -> Update {
        let mut renewed = doc! { "lease.until": { "$add": ["$$NOW", millis(self.times.lease)] } };
        if job.started.load(Ordering::Relaxed) {
            renewed.insert(
                "lease.startedAt",
                doc! { "$ifNull": ["$lease.startedAt", "$$NOW"] },
            );
        }
        Update::one(
            doc! { "_id": id, "lease.token": job.token },
            vec![doc! { "$set": renewed }],
        )
    }

    async fn find_held(
        &self,
        held: &[(JobId, Arc<LeasedJob>)],
    ) -> Result<HashMap<JobId, (LeaseToken, bool)>, StoreError> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Running {
            #[serde(rename = "_id")]
            id: JobId,
            lease: Token,
            #[serde(default)]
            cancel_requested: bool,
        }
        #[derive(serde::Deserialize)]
        struct Token {
            token: LeaseToken,
        }
        let ids: Vec<JobId> = held.iter().map(|(id, _)| *id).collect();
        let running: Vec<Running> = self
            .jobs
            .clone_with_type()
            .find(doc! { "_id": { "$in": ids }, "lease": { "$exists": true } })
            .projection(doc! { "lease.token": 1, "cancelRequested": 1 })
            .await?
            .try_collect()
            .await?;
        Ok(running
            .into_iter()
            .map(|job| (job.id, (job.lease.token, job.cancel_requested)))
            .collect())
    }

    /// Says that a job starts before it does. For one whose last worker vanished: the next may vanish as fast.
    pub(crate) async fn mark_started(
        &self,
        id: JobId,
        token: LeaseToken,
    ) -> Result<bool, StoreError> {
        let ours = doc! { "_id": id, "lease.token": token };
        let marked = self
            .jobs
            .clone_with_type::<Document>()
            .update_one(ours, vec![doc! { "$set": { "lease.startedAt": "$$NOW" } }])
            .await?;
        Ok(marked.matched_count == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_that_took_too_long_is_renewed_no_more() {
        let held = LeaseTable::default();
        let job = held.add(JobId::new(), LeaseToken::new(), LeaseDeadline::unlimited());

        let before = held.renewable().len();
        job.timed_out.store(true, Ordering::Relaxed);

        assert_eq!((before, held.renewable().len()), (1, 0));
    }

    #[test]
    fn a_job_that_nobody_works_on_any_more_is_renewed_no_more() {
        let held = LeaseTable::default();
        let job = held.add(JobId::new(), LeaseToken::new(), LeaseDeadline::unlimited());

        drop(job);

        assert!(held.renewable().is_empty());
    }
}
