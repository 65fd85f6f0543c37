//! Lease renewal: one task renews every lease of the process, independently of the handlers.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bson::{Document, doc};
use dezky_shared::{
    id::{JobId, LeaseToken},
    platform::clock,
    store::{Store, StoreError, skip_undecodable},
};
use futures::TryStreamExt as _;
use mongodb::Collection;

use super::{
    EngineTimings,
    bulk::{self, ItemError, Update},
    database_health::DatabaseHealth,
    lease::{LeaseTable, LeasedJob},
    times::millis,
};

/// Renews the leases of the table.
pub(super) struct LeaseRenewer {
    store: Arc<Store>,
    jobs: Collection<Document>,
    times: EngineTimings,
    health: Arc<DatabaseHealth>,
    leases: Arc<LeaseTable>,
}

impl LeaseRenewer {
    pub(super) fn new(
        store: &Arc<Store>,
        times: &EngineTimings,
        health: &Arc<DatabaseHealth>,
        leases: &Arc<LeaseTable>,
    ) -> Self {
        Self {
            jobs: store.collection("jobs"),
            store: store.clone(),
            times: times.clone(),
            health: health.clone(),
            leases: leases.clone(),
        }
    }

    /// Renews until the process ends.
    pub(super) async fn renewal_loop(self: Arc<Self>) {
        let mut pause = self.times.renew_every;
        loop {
            tokio::time::sleep(pause).await;
            pause = match self.renew().await {
                Ok(()) => self.times.renew_every,
                Err(error) => {
                    tracing::warn!(?error, "Could not renew leases; retrying");
                    if matches!(error, ItemError::Unavailable(_)) {
                        self.health.record_failure();
                    }
                    // Sooner than usual: the leases are still valid for some time.
                    (self.times.renew_every / 10).max(Duration::from_millis(10))
                }
            };
        }
    }

    async fn renew(&self) -> Result<(), ItemError> {
        let leases = self.leases.renewable();
        if leases.is_empty() {
            return Ok(());
        }
        let updates: Vec<Update> = leases
            .iter()
            .map(|(id, job)| self.renewal(*id, job))
            .collect();

        let sent = clock::boot_time();
        let errors = bulk::update(&self.store, &updates, self.times.bulk_deadline).await;
        let uncertain: HashSet<JobId> = errors.keys().map(|index| leases[*index].0).collect();

        let stored =
            bulk::with_timeout(self.times.bulk_deadline, self.find_leases(&leases)).await?;
        let ends = sent + self.times.lease.saturating_sub(self.times.trust_margin);
        for (id, job) in leases {
            match stored.get(&id) {
                Some((token, cancel_requested)) if *token == job.token => {
                    if !uncertain.contains(&id) {
                        job.deadline.extend(ends);
                    }
                    job.cancel_requested
                        .fetch_or(*cancel_requested, Ordering::Relaxed);
                }
                // A new primary may not serve the latest claims yet.
                _ if uncertain.contains(&id) => {}
                _ => job.lost.cancel(),
            }
        }
        errors.into_values().max().map_or(Ok(()), Err)
    }

    /// The update of one lease, by fencing token and never by the worker's name, which two processes may share. It keeps
    /// the revision: nothing visible changes. One update for each job, so that a write conflict affects that job only.
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

    /// The stored fencing token of each job, and whether its cancellation was requested.
    async fn find_leases(
        &self,
        leases: &[(JobId, Arc<LeasedJob>)],
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
        let ids: Vec<JobId> = leases.iter().map(|(id, _)| *id).collect();
        let found = self
            .jobs
            .find(doc! { "_id": { "$in": ids }, "lease": { "$exists": true } })
            .projection(doc! { "lease.token": 1, "cancelRequested": 1 })
            .await?;
        let running: Vec<Running> = skip_undecodable(found).try_collect().await?;
        Ok(running
            .into_iter()
            .map(|job| (job.id, (job.lease.token, job.cancel_requested)))
            .collect())
    }

    /// Marks a job as started before its handler is. For a job that was rescued: it may crash this worker before the
    /// first renewal. False if the lease was lost.
    pub(super) async fn mark_started(
        &self,
        id: JobId,
        token: LeaseToken,
    ) -> Result<bool, StoreError> {
        let ours = doc! { "_id": id, "lease.token": token };
        let start = vec![doc! { "$set": { "lease.startedAt": "$$NOW" } }];
        Ok(self.jobs.update_one(ours, start).await?.matched_count == 1)
    }
}
