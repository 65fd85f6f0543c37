//! Schedule ledger: one document for each executed instant, inserted in one transaction with its job. Each instant runs
//! exactly once, however many workers evaluate the schedule.

use std::{sync::Arc, time::Duration};

use bson::{DateTime, doc};
use futures::{FutureExt as _, TryStreamExt as _};
use mongodb::{ClientSession, Collection, IndexModel, options::IndexOptions};
use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError, TransactionError, duplicate_key_index,
    jobs::{JobRepository, NewJob},
};
use crate::{
    id::JobId,
    platform::clock,
    queue::{
        job::{Job, SCHEDULE},
        schedule::{DueInstants, MAX_CATCH_UP, Schedule, Trigger},
    },
};

/// Retention of an instant: exceeds the catch-up window.
const KEPT: Duration = MAX_CATCH_UP.saturating_add(Duration::from_hours(30 * 24));

/// Evaluation state of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleState {
    /// Schedule name.
    #[serde(rename = "_id")]
    pub name: String,
    /// Last evaluated instant; initially the time of the first evaluation.
    pub seen: DateTime,
    /// Number of skipped instants.
    pub missed: i64,
}

/// Executed instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerEntry {
    /// `schedule@instant`.
    #[serde(rename = "_id")]
    pub id: String,
    /// Schedule name.
    pub schedule: String,
    /// Scheduled instant.
    pub instant: DateTime,
    /// Job of the instant.
    pub job_id: JobId,
    /// Creation time of the job.
    pub created_at: DateTime,
    /// Expiry (TTL index).
    pub expire_at: DateTime,
}

/// Schedule ledger.
#[derive(Debug, Clone)]
pub struct ScheduleLedger {
    store: Arc<Store>,
    states: Collection<ScheduleState>,
    ledger: Collection<LedgerEntry>,
    jobs: JobRepository,
}

impl ScheduleLedger {
    /// The ledger in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            store: store.clone(),
            states: store.collection("schedules"),
            ledger: store.collection("schedule_instants"),
            jobs: JobRepository::new(store),
        }
    }

    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let newest = IndexModel::builder()
            .keys(doc! { "schedule": 1, "instant": -1 })
            .build();
        let forgotten = IndexOptions::builder().expire_after(Duration::ZERO).build();
        let forgotten = IndexModel::builder()
            .keys(doc! { "expireAt": 1 })
            .options(forgotten)
            .build();
        self.ledger.create_indexes([newest, forgotten]).await?;
        Ok(())
    }

    /// Evaluation state of this schedule; `None` before the first evaluation.
    pub async fn state(&self, name: &str) -> Result<Option<ScheduleState>, StoreError> {
        self.states.find_one(doc! { "_id": name }).await
    }

    /// Last executed instant of this schedule.
    pub async fn last(&self, name: &str) -> Result<Option<LedgerEntry>, StoreError> {
        self.ledger
            .find_one(doc! { "schedule": name })
            .sort(doc! { "instant": -1 })
            .await
    }

    /// Enqueues the jobs of the instants of `schedule` that became due since the last evaluation. The first evaluation
    /// of a schedule has no missed instants. The caller then notifies the ready set.
    pub async fn run_due(
        &self,
        schedule: &Schedule,
        now: DateTime,
    ) -> Result<Vec<Job>, StoreError> {
        let Some(state) = self.state(schedule.name).await? else {
            self.begin(schedule, now).await?;
            return Ok(Vec::new());
        };
        let Some(due) = schedule.due(state.seen, now) else {
            return Ok(Vec::new());
        };
        let by = format!("{SCHEDULE}:{}", schedule.name);
        let mut jobs = Vec::new();
        for instant in self.not_in_ledger(schedule, &due.run).await? {
            let due = Trigger::Scheduled { at: instant };
            jobs.push((instant, (schedule.job)(due, &by, now)?));
        }
        let taken = self
            .store
            .transaction(
                (self, &state, &due, &jobs),
                |session, (this, state, due, jobs)| {
                    this.take(session, state, due, jobs, now).boxed()
                },
            )
            .await;
        match taken {
            Ok(jobs) => Ok(jobs),
            // A concurrent worker was faster.
            Err(TransactionError::Aborted(())) => Ok(Vec::new()),
            Err(TransactionError::Store(error)) if duplicate_key_index(&error).is_some() => {
                Ok(Vec::new())
            }
            Err(TransactionError::Store(error)) => Err(error),
        }
    }

    async fn begin(&self, schedule: &Schedule, now: DateTime) -> Result<(), StoreError> {
        let state = ScheduleState {
            name: schedule.name.to_owned(),
            seen: now,
            missed: 0,
        };
        match self.states.insert_one(state).await {
            Err(error) if duplicate_key_index(&error).is_none() => Err(error),
            _ => Ok(()),
        }
    }

    /// Those of `instants` that were not executed. Some were only if the schedule's state was reset, for example by a
    /// restore from backup.
    async fn not_in_ledger(
        &self,
        schedule: &Schedule,
        instants: &[DateTime],
    ) -> Result<Vec<DateTime>, StoreError> {
        let filter = doc! { "schedule": schedule.name, "instant": { "$in": instants } };
        let executed: Vec<LedgerEntry> = self.ledger.find(filter).await?.try_collect().await?;
        let is_executed =
            |instant: &DateTime| executed.iter().any(|entry| entry.instant == *instant);
        Ok(instants
            .iter()
            .copied()
            .filter(|instant| !is_executed(instant))
            .collect())
    }

    async fn take(
        &self,
        session: &mut ClientSession,
        state: &ScheduleState,
        due: &DueInstants,
        jobs: &[(DateTime, NewJob)],
        now: DateTime,
    ) -> Result<Vec<Job>, TransactionError<()>> {
        let unchanged = doc! { "_id": &state.name, "seen": state.seen };
        let seen = doc! { "$set": { "seen": due.last }, "$inc": { "missed": due.missed } };
        let moved = self
            .states
            .update_one(unchanged, seen)
            .session(&mut *session)
            .await?;
        if moved.matched_count == 0 {
            return Err(TransactionError::Aborted(()));
        }
        let mut enqueued = Vec::new();
        for (instant, new) in jobs {
            let job = self.jobs.enqueue(session, new).await?;
            let entry = LedgerEntry {
                id: format!("{}@{}", state.name, instant.try_to_rfc3339_string()?),
                schedule: state.name.clone(),
                instant: *instant,
                job_id: job.id,
                created_at: now,
                expire_at: clock::later(now, KEPT),
            };
            self.ledger.insert_one(entry).session(&mut *session).await?;
            enqueued.push(job);
        }
        Ok(enqueued)
    }
}
