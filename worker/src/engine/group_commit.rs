//! Group commit of step records: one transaction for the jobs that record at the same time.
//!
//! While one transaction is under way, further records queue for the next. The transaction is optimistic: every job still
//! has its holder's fencing token, and no target was written since its holder read it. On any conflict it is aborted, and
//! each record gets a transaction of its own, so a conflict affects its own job only.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc};

use bson::{DateTime, doc};
use dezky_shared::{
    id::JobId,
    platform::change_feed::DocumentChange,
    store::{StoreError, TransactionError, bulk_update_in},
};
use futures::{FutureExt as _, TryStreamExt as _};
use mongodb::ClientSession;
use tokio::sync::mpsc;

use super::{
    bulk,
    record::{MAX_GROUP, RecordResult, Reporting, StepRecord, StepRecorder},
};
use crate::steps::{StepReport, StepTarget};

/// The targets of a group as they are now, in the order of its records.
type GroupTargets = Vec<Option<Arc<dyn StepTarget>>>;

/// A record of the group conflicts with another write.
struct GroupConflict;

impl StepRecorder {
    /// Serves `records` until the channel closes.
    pub(super) async fn record_loop(self: Arc<Self>, mut records: mpsc::Receiver<StepRecord>) {
        let mut batch = Vec::with_capacity(MAX_GROUP);
        let mut busy = false;
        while records.recv_many(&mut batch, MAX_GROUP).await > 0 {
            if busy {
                // Under load, waiting for more makes fewer and larger transactions.
                tokio::time::sleep(self.times.batch_window).await;
                let room = MAX_GROUP.saturating_sub(batch.len());
                let more = records.recv_many(&mut batch, room);
                let _ = more.now_or_never();
            }
            busy = batch.len() > 1;
            for outdated in batch.extract_if(.., |record| record.holder.is_outdated) {
                tokio::spawn(self.clone().record_single(outdated));
            }
            // This task serves all jobs, so a panic must not end it: each record is repeated in a task of its own.
            let group = AssertUnwindSafe(self.record_group(&batch)).catch_unwind();
            match group.await.unwrap_or(Err(GroupConflict)) {
                Ok(recorded) => {
                    self.publish_changes(&batch);
                    for (record, recorded) in batch.drain(..).zip(recorded) {
                        // The attempt may have been cancelled.
                        let _ = record.done.send(Ok(recorded));
                    }
                }
                Err(GroupConflict) => {
                    for record in batch.drain(..) {
                        tokio::spawn(self.clone().record_single(record));
                    }
                }
            }
        }
    }

    /// In a task of its own: the change feed is a hint, and the next group does not wait for it.
    fn publish_changes(&self, recorded: &[StepRecord]) {
        let changes: Vec<DocumentChange> = recorded.iter().flat_map(StepRecord::changes).collect();
        let feed = self.ctx.changes.clone();
        tokio::spawn(async move { feed.publish(&changes).await });
    }

    async fn record_group(&self, batch: &[StepRecord]) -> Result<Vec<RecordResult>, GroupConflict> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let both =
            async { tokio::try_join!(self.commit_group(batch), self.cancel_requested(batch)) };
        // After a lost reply the records are repeated one by one, which is idempotent.
        let written = bulk::with_timeout(self.times.bulk_deadline, both).await;
        let Ok((Some(targets), cancel_requested)) = written else {
            return Err(GroupConflict);
        };
        let recorded = targets.into_iter().zip(batch).map(|(target, record)| {
            let cancel_requested = cancel_requested.contains(&record.holder.id);
            RecordResult::Written {
                cancel_requested,
                target,
            }
        });
        Ok(recorded.collect())
    }

    /// `None` on a conflict.
    async fn commit_group(&self, batch: &[StepRecord]) -> Result<Option<GroupTargets>, StoreError> {
        let now = self.ctx.store.now();
        let written = self
            .ctx
            .store
            .transaction((self, batch), |session, (this, batch)| {
                async move {
                    let written = this.write_group(session, batch, now).await;
                    // An error is a conflict, too: the driver would repeat a transient one for as long as it lasts.
                    written
                        .ok()
                        .flatten()
                        .ok_or(TransactionError::Aborted(GroupConflict))
                }
                .boxed()
            })
            .await;
        match written {
            Ok(targets) => Ok(Some(targets)),
            Err(TransactionError::Aborted(GroupConflict)) => Ok(None),
            Err(TransactionError::Store(error)) => Err(error),
        }
    }

    async fn write_group(
        &self,
        session: &mut ClientSession,
        batch: &[StepRecord],
        now: DateTime,
    ) -> Result<Option<GroupTargets>, StoreError> {
        let updates = batch
            .iter()
            .map(|record| Ok(doc! { "q": record.job_filter(), "u": record.job_update(now)? }));
        let updates = updates.collect::<Result<Vec<_>, StoreError>>()?;
        if bulk_update_in(&self.jobs, session, updates).await? != batch.len() {
            return Ok(None);
        }
        let mut targets: GroupTargets = vec![None; batch.len()];
        for (reporting, indices) in by_sink(batch) {
            let reports: Vec<StepReport<'_>> = indices
                .iter()
                .filter_map(|index| {
                    let record = &batch[*index];
                    Some(record.report(record.holder.reporting.as_ref()?))
                })
                .collect();
            let sink = &reporting.sink;
            let written = sink.report_group(&self.ctx, session, &reports, now).await?;
            let Some(written) = written else {
                return Ok(None);
            };
            for (index, target) in indices.into_iter().zip(written) {
                targets[index] = Some(target);
            }
        }
        Ok(Some(targets))
    }

    /// The jobs whose cancellation was requested. A concurrent request either conflicts with the group's transaction or
    /// is read by the next record or the settlement.
    async fn cancel_requested(&self, batch: &[StepRecord]) -> Result<Vec<JobId>, StoreError> {
        #[derive(serde::Deserialize)]
        struct Id {
            #[serde(rename = "_id")]
            id: JobId,
        }
        let ids: Vec<JobId> = batch.iter().map(|record| record.holder.id).collect();
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

/// The indices of the records that report, by sink.
fn by_sink(batch: &[StepRecord]) -> Vec<(&Reporting, Vec<usize>)> {
    let mut groups: BTreeMap<usize, (&Reporting, Vec<usize>)> = BTreeMap::new();
    for (index, record) in batch.iter().enumerate() {
        if let Some(reporting) = &record.holder.reporting {
            let sink = Arc::as_ptr(&reporting.sink).addr();
            let (_, indices) = groups.entry(sink).or_insert((reporting, Vec::new()));
            indices.push(index);
        }
    }
    groups.into_values().collect()
}
