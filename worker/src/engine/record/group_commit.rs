//! What many jobs have to record, in one transaction.
//!
//! While one is under way, those that come meanwhile wait for each other. It relies on nothing being in the way: every
//! job is still its holder's, and nobody has written to any of the tenants since their holders saw them. If that is not
//! so, nothing is written, and each is recorded alone: a setback concerns its own job.

use std::{panic::AssertUnwindSafe, sync::Arc};

use bson::{DateTime, doc};
use dezky_shared::{
    id::JobId,
    platform::change_feed::DocumentChange,
    store::{StoreError, TransactionError, bulk_update_in},
    tenant::Tenant,
};
use futures::{FutureExt as _, TryStreamExt as _};
use mongodb::ClientSession;
use tokio::sync::mpsc;

use super::{RecordResult, SideEffects, StepRecord};
use crate::engine::{Engine, bulk};

/// The most that are recorded together.
pub(in crate::engine) const MAX_GROUP: usize = 64;

/// Something is in the way of one of them.
struct GroupConflict;

impl Engine {
    /// Writes recordings as they come, until there are no more.
    pub(crate) async fn keep_recording(
        self: Arc<Self>,
        mut recordings: mpsc::Receiver<StepRecord>,
    ) {
        let mut batch = Vec::with_capacity(MAX_GROUP);
        let mut busy = false;
        while recordings.recv_many(&mut batch, MAX_GROUP).await > 0 {
            if busy {
                // Where there were several there will be more: fewer transactions leave more time for what they record.
                tokio::time::sleep(self.times.batch_window).await;
                let room = MAX_GROUP.saturating_sub(batch.len());
                let more = recordings.recv_many(&mut batch, room);
                let _ = more.now_or_never();
            }
            busy = batch.len() > 1;
            for outdated in batch.extract_if(.., |recording| recording.holder.is_outdated) {
                tokio::spawn(self.clone().record_single(outdated));
            }
            // This task serves all jobs: one that makes it panic must do so alone.
            let together = AssertUnwindSafe(self.record_together(&batch)).catch_unwind();
            match together.await.unwrap_or(Err(GroupConflict)) {
                Ok(recorded) => {
                    self.tell_of(&batch);
                    for (recording, recorded) in batch.drain(..).zip(recorded) {
                        // Nobody may be listening any more.
                        let _ = recording.done.send(Ok(recorded));
                    }
                }
                Err(GroupConflict) => {
                    for recording in batch.drain(..) {
                        tokio::spawn(self.clone().record_single(recording));
                    }
                }
            }
        }
    }

    /// It is a hint: the next recordings do not wait for it.
    fn tell_of(&self, recorded: &[StepRecord]) {
        let changes: Vec<DocumentChange> = recorded.iter().flat_map(StepRecord::changes).collect();
        let to = self.ctx.changes.clone();
        tokio::spawn(async move { to.publish(&changes).await });
    }

    async fn record_together(
        &self,
        batch: &[StepRecord],
    ) -> Result<Vec<RecordResult>, GroupConflict> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let both = async { tokio::try_join!(self.write_together(batch), self.to_cancel(batch)) };
        let written = bulk::with_timeout(self.times.bulk_deadline, both).await;
        // If this is an answer that was lost, recording it once more changes nothing.
        let Ok((Some(tenants), to_cancel)) = written else {
            return Err(GroupConflict);
        };
        let recorded = tenants.into_iter().zip(batch).map(|(tenant, recording)| {
            let cancel_requested = to_cancel.contains(&recording.holder.id);
            RecordResult::Written {
                cancel_requested,
                tenant,
            }
        });
        Ok(recorded.collect())
    }

    /// The tenants as they are now; `None` if something is in the way of one of the recordings.
    async fn write_together(
        &self,
        batch: &[StepRecord],
    ) -> Result<Option<Vec<Option<Arc<Tenant>>>>, StoreError> {
        let now = self.ctx.store.now();
        let written = self
            .ctx
            .store
            .transaction((self, batch), |session, (this, batch)| {
                async move {
                    let written = this.write_in(session, batch, now).await;
                    // The helper would repeat it while something is in the way.
                    written
                        .ok()
                        .flatten()
                        .ok_or(TransactionError::Aborted(GroupConflict))
                }
                .boxed()
            })
            .await;
        match written {
            Ok(tenants) => Ok(Some(tenants)),
            Err(TransactionError::Aborted(GroupConflict)) => Ok(None),
            Err(TransactionError::Store(error)) => Err(error),
        }
    }

    async fn write_in(
        &self,
        session: &mut ClientSession,
        batch: &[StepRecord],
        now: DateTime,
    ) -> Result<Option<Vec<Option<Arc<Tenant>>>>, StoreError> {
        let of_jobs = batch.iter().map(|recording| {
            Ok(doc! { "q": recording.holder.ours(), "u": recording.update_of_job(now)? })
        });
        let of_jobs = of_jobs.collect::<Result<Vec<_>, StoreError>>()?;
        if bulk_update_in(&self.jobs, session, of_jobs).await? != batch.len() {
            return Ok(None);
        }
        let mut tenants = Vec::with_capacity(batch.len());
        let mut besides = SideEffects::default();
        for recording in batch {
            let Some((known, intent)) = &recording.holder.tenant else {
                tenants.push(None);
                continue;
            };
            let mut tenant = (**known).clone();
            self.record_in_tenant(session, &mut tenant, *intent, recording, &mut besides, now)
                .await?;
            tenant.revision += 1;
            tenants.push(Some(Arc::new(tenant)));
        }
        let changed: Vec<Arc<Tenant>> = tenants.iter().flatten().cloned().collect();
        if !self
            .ctx
            .tenants
            .compare_and_save_many(session, &changed)
            .await?
        {
            return Ok(None);
        }
        self.record_besides(session, besides, now).await?;
        Ok(Some(tenants))
    }

    /// The jobs that a person wants to stop. Whoever wants it while this is looked at is heard at the next
    /// record or the settlement, or is in the way of this one, which then sees it.
    async fn to_cancel(&self, batch: &[StepRecord]) -> Result<Vec<JobId>, StoreError> {
        #[derive(serde::Deserialize)]
        struct Id {
            #[serde(rename = "_id")]
            id: JobId,
        }
        let ids: Vec<JobId> = batch.iter().map(|recording| recording.holder.id).collect();
        let found: Vec<Id> = self
            .jobs
            .clone_with_type()
            .find(doc! { "_id": { "$in": ids }, "cancelRequested": true })
            .projection(doc! { "_id": 1 })
            .await?
            .try_collect()
            .await?;
        Ok(found.into_iter().map(|found| found.id).collect())
    }
}
