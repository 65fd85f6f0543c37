//! Keeping what we hold: one task renews every lease, whatever the handlers are doing.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bson::{Document, doc};
use dezky_shared::{
    clients::Trust,
    clock,
    id::{JobId, LeaseToken},
    store::StoreError,
};
use futures::TryStreamExt as _;
use tokio_util::sync::CancellationToken;

use super::{
    Engine,
    bulk::{self, Update},
    claim::millis,
};

/// A job this process holds.
#[derive(Debug)]
pub(crate) struct HeldJob {
    pub(crate) token: LeaseToken,
    pub(crate) trust: Trust,
    /// Cancelled when the job was found to be somebody else's.
    pub(crate) lost: CancellationToken,
    /// Whether the handler has begun: from the next renewal on, losing this process counts as a crash.
    pub(crate) started: AtomicBool,
    /// Whether the lease is renewed no more, because the attempt took too long.
    pub(crate) abandoned: AtomicBool,
    /// Whether a person wants the job to stop.
    pub(crate) cancel_requested: AtomicBool,
}

/// The jobs this process holds.
#[derive(Debug, Default)]
pub(crate) struct Held(Mutex<HashMap<JobId, Arc<HeldJob>>>);

/// Holds a job: its lease is renewed until this is dropped, however that comes about.
#[derive(Debug)]
pub(crate) struct Hold {
    held: Arc<Held>,
    id: JobId,
    pub(crate) job: Arc<HeldJob>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.held.remove(self.id, self.job.token);
    }
}

impl Held {
    pub(crate) fn hold(self: &Arc<Self>, id: JobId, token: LeaseToken, trust: Trust) -> Hold {
        let job = Arc::new(HeldJob {
            token,
            trust,
            lost: CancellationToken::new(),
            started: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            cancel_requested: AtomicBool::new(false),
        });
        self.lock().insert(id, job.clone());
        Hold {
            held: self.clone(),
            id,
            job,
        }
    }

    /// Forgets a job, unless it has been claimed again since.
    fn remove(&self, id: JobId, token: LeaseToken) {
        let mut held = self.lock();
        if held.get(&id).is_some_and(|job| job.token == token) {
            held.remove(&id);
        }
    }

    fn renewable(&self) -> Vec<(JobId, Arc<HeldJob>)> {
        let held = self.lock();
        let renewable = held
            .iter()
            .filter(|(_, job)| !job.abandoned.load(Ordering::Relaxed));
        renewable.map(|(id, job)| (*id, job.clone())).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, Arc<HeldJob>>> {
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
        let mut updates: BTreeMap<(LeaseToken, bool), Vec<JobId>> = BTreeMap::new();
        for (id, job) in &held {
            updates
                .entry((job.token, job.started.load(Ordering::Relaxed)))
                .or_default()
                .push(*id);
        }
        let updates: Vec<Update> = updates
            .into_iter()
            .map(|((token, started), ids)| self.renewal(token, started, &ids))
            .collect();

        let sent = clock::boot_time();
        let errors = bulk::update(&self.ctx.store, &updates, self.times.bulk_deadline).await;
        if let Some(error) = errors.values().next() {
            return Err(StoreError::custom(format!("{error:?}")));
        }

        let still_ours = self.find_held(&held).await?;
        let ends = sent + self.times.lease.saturating_sub(self.times.trust_margin);
        for (id, job) in held {
            match still_ours.get(&id) {
                Some((token, cancel_requested)) if *token == job.token => {
                    job.trust.extend(ends);
                    job.cancel_requested
                        .fetch_or(*cancel_requested, Ordering::Relaxed);
                }
                _ => job.lost.cancel(),
            }
        }
        Ok(())
    }

    /// By ids and token, never by the worker's name: two processes may share one. No new revision: nothing changed
    /// that a person would want to see.
    fn renewal(&self, token: LeaseToken, started: bool, ids: &[JobId]) -> Update {
        let mut renewed = doc! { "lease.until": { "$add": ["$$NOW", millis(self.times.lease)] } };
        if started {
            renewed.insert(
                "lease.startedAt",
                doc! { "$ifNull": ["$lease.startedAt", "$$NOW"] },
            );
        }
        Update {
            filter: doc! { "_id": { "$in": ids.to_vec() }, "lease.token": token },
            pipeline: vec![doc! { "$set": renewed }],
            many: true,
        }
    }

    async fn find_held(
        &self,
        held: &[(JobId, Arc<HeldJob>)],
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
