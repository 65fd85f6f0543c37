//! Settlements: the outcome of an attempt, and the update that writes it.

use std::sync::Arc;

use bson::{Bson, DateTime, Document, doc};
use dezky_shared::{
    id::{JobId, TenantId},
    platform::backoff::ReconnectBackoff,
    queue::{
        error_code::ErrorCode,
        job::{Attempt, JobFailure, JobState, Queue, Step},
        priority::Priority,
    },
    store::{StoreError, to_bson},
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::engine::{bulk::Update, lease::LeasedJob, times::millis};

/// The most attempts that a job's document lists.
const LISTED_ATTEMPTS: i32 = 20;

/// The outcome of released attempts in a job's document.
const RELEASE: &str = "release";

/// The outcome of snoozed attempts in a job's document.
const SNOOZE: &str = Attempt::SNOOZE;

/// The number of a job's last attempts that were released in a row.
pub(in crate::engine) fn releases_in_a_row(attempts: &[Attempt]) -> i32 {
    let released = attempts.iter().rev();
    let released = released.take_while(|attempt| attempt.outcome == RELEASE);
    i32::try_from(released.count()).unwrap_or(i32::MAX)
}

/// The outcome of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::engine) enum Outcome {
    /// The job is done.
    Complete,
    /// The job runs again later; the attempt is charged.
    Retry { at: DateTime, error: JobFailure },
    /// The job runs again later; the attempt is not charged.
    Snooze {
        at: DateTime,
        error: Option<JobFailure>,
    },
    /// The job failed permanently.
    Discard { error: JobFailure },
    /// The job was cancelled on request.
    Cancel { error: JobFailure },
    /// The job is available again, uncharged: the worker stops, or its lease deadline has passed.
    Release,
    /// The job is released until later, for a failure that is not its own.
    Postpone {
        at: DateTime,
        error: Option<JobFailure>,
    },
    /// The job starts over at once: the desired state changed during the attempt.
    Restart,
}

impl Outcome {
    pub(in crate::engine) fn name(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Retry { .. } => "retry",
            Self::Snooze { .. } => SNOOZE,
            Self::Discard { .. } => "discard",
            Self::Cancel { .. } => "cancel",
            Self::Release | Self::Postpone { .. } => RELEASE,
            Self::Restart => "restart",
        }
    }

    pub(in crate::engine) fn error(&self) -> Option<&JobFailure> {
        match self {
            Self::Retry { error, .. } | Self::Discard { error } | Self::Cancel { error } => {
                Some(error)
            }
            Self::Snooze { error, .. } | Self::Postpone { error, .. } => error.as_ref(),
            Self::Complete | Self::Release | Self::Restart => None,
        }
    }

    /// The time of the next attempt, where it is later than now.
    pub(super) fn runs_at(&self) -> Option<DateTime> {
        match self {
            Self::Retry { at, .. } | Self::Snooze { at, .. } | Self::Postpone { at, .. } => {
                Some(*at)
            }
            _ => None,
        }
    }
}

/// The end of an attempt, to be written.
#[derive(Debug)]
pub(in crate::engine) struct Settlement {
    pub(in crate::engine) id: JobId,
    /// Renewed until the settlement is written.
    pub(in crate::engine) lease: Arc<LeasedJob>,
    pub(in crate::engine) tenant_id: Option<TenantId>,
    pub(in crate::engine) queue: Queue,
    pub(in crate::engine) lock_key: String,
    pub(in crate::engine) unique_key: Option<String>,
    pub(in crate::engine) priority: Priority,
    pub(in crate::engine) steps: Vec<Step>,
    pub(in crate::engine) attempt: Attempt,
    pub(in crate::engine) outcome: Outcome,
    /// Whether a schedule enqueued the job.
    pub(in crate::engine) scheduled: bool,
    /// Whether a step was attempted.
    pub(in crate::engine) attempted: bool,
    /// The place among the unsettled jobs of its slot pool, until the settlement is written. `None` for a suspect.
    pub(in crate::engine) permit: Option<OwnedSemaphorePermit>,
    /// Notified once the settlement is written.
    pub(in crate::engine) done: oneshot::Sender<()>,
    /// The delays of repeated writes.
    pub(in crate::engine) backoff: ReconnectBackoff,
}

impl Settlement {
    fn job_filter(&self) -> Document {
        doc! { "_id": self.id, "lease.token": self.lease.token }
    }

    /// The update of a job that has not completed; [`complete`](super::completion::complete) writes those that have.
    pub(super) fn update(&self) -> Result<Update, StoreError> {
        let mut set = doc! {
            "steps": { "$literal": to_bson(&self.stored_steps())? },
            "updatedAt": "$$NOW",
            "revision": { "$add": ["$revision", 1_i64] },
        };
        self.set_state(&mut set);
        match &self.outcome {
            // One that only waits, for a reservation or for its own next part, says nothing.
            Outcome::Restart | Outcome::Snooze { error: None, .. } => {}
            Outcome::Snooze { .. } => {
                set.insert("attempts", append_snooze(&self.attempt)?);
            }
            _ => {
                set.insert("attempts", append_attempt(&self.attempt)?);
            }
        }
        // Unset first: in a pipeline `$set` merges into an existing document.
        let mut unset = vec!["lease", "error"];
        if matches!(
            self.outcome,
            Outcome::Discard { .. } | Outcome::Cancel { .. }
        ) {
            unset.push("sealed");
            unset.push("cancelRequested");
        }
        let mut pipeline = vec![doc! { "$unset": unset }, doc! { "$set": set }];
        if let Some(error) = self.outcome.error() {
            pipeline.push(doc! { "$set": { "error": { "$literal": to_bson(error)? } } });
        }
        Ok(Update::one(self.job_filter(), pipeline))
    }

    /// The fields that depend on the outcome.
    fn set_state(&self, set: &mut Document) {
        let uncharged = doc! { "$max": [0, { "$subtract": ["$attempt", 1] }] };
        match &self.outcome {
            Outcome::Complete => end(set, JobState::Completed),
            Outcome::Discard { .. } => end(set, JobState::Discarded),
            Outcome::Cancel { .. } => end(set, JobState::Cancelled),
            Outcome::Retry { at, .. } => {
                set.insert("state", JobState::Available.name());
                set.insert("runAt", unless_cancelled(*at));
                reset_crashes(set);
            }
            Outcome::Snooze { at, .. } => {
                set.insert("state", JobState::Available.name());
                set.insert("runAt", unless_cancelled(*at));
                if self.attempted {
                    reset_crashes(set);
                }
                set.insert("attempt", uncharged);
                set.insert("snoozes", doc! { "$add": ["$snoozes", 1] });
            }
            Outcome::Release => {
                set.insert("state", JobState::Available.name());
                set.insert(
                    "runAt",
                    next_run(&self.steps).map_or("$$NOW".into(), Bson::from),
                );
                set.insert("attempt", uncharged);
            }
            Outcome::Postpone { at, .. } => {
                set.insert("state", JobState::Available.name());
                set.insert("runAt", unless_cancelled(*at));
                set.insert("attempt", uncharged);
            }
            Outcome::Restart => {
                set.insert("state", JobState::Available.name());
                set.insert("runAt", "$$NOW");
                set.insert("attempt", uncharged);
            }
        }
    }

    /// Whether a schedule enqueued the job and it found nothing to change.
    pub(super) fn is_uneventful(&self) -> bool {
        self.scheduled && self.steps.iter().all(|step| step.changes.is_empty())
    }

    /// The steps to store. Those of a job that starts over keep their names, including that of a step that only a newer
    /// build knows.
    fn stored_steps(&self) -> Vec<Step> {
        match self.outcome {
            Outcome::Restart => {
                let names = self.steps.iter().map(|step| step.name.as_str());
                names.map(Step::pending).collect()
            }
            _ => self.steps.clone(),
        }
    }

    /// The update of a job that gives way to an available one with its unique key.
    pub(super) fn superseded_update(&self, by: JobId) -> Result<Update, StoreError> {
        let error = JobFailure::permanent(
            ErrorCode::Superseded,
            "another available job has the same unique key",
        );
        let mut set = doc! {
            "steps": { "$literal": to_bson(&self.steps)? },
            "error": { "$literal": to_bson(&error)? },
            "attempts": append_attempt(&self.attempt)?,
            "supersededBy": by,
            "updatedAt": "$$NOW",
            "revision": { "$add": ["$revision", 1_i64] },
        };
        end(&mut set, JobState::Cancelled);
        let unset = vec!["lease", "error", "sealed", "cancelRequested"];
        Ok(Update::one(
            self.job_filter(),
            vec![doc! { "$unset": unset }, doc! { "$set": set }],
        ))
    }
}

/// Sets the fields of a job that has ended in `state`.
pub(super) fn end(set: &mut Document, state: JobState) {
    set.insert("state", state.name());
    set.insert("finishedAt", "$$NOW");
    if let Some(retention) = state.retention() {
        set.insert("expireAt", end_of(millis(retention).into()));
    }
}

/// The end of a retention in milliseconds that begins now.
pub(super) fn end_of(retention: Bson) -> Document {
    doc! { "$add": ["$$NOW", retention] }
}

/// The next run, or now if cancellation was requested after the last record: the job is cancelled at its next claim.
fn unless_cancelled(at: DateTime) -> Document {
    doc! { "$cond": ["$cancelRequested", "$$NOW", at] }
}

/// Steps have ended: a later crash has another cause.
fn reset_crashes(set: &mut Document) {
    set.insert("crashes", 0);
    set.insert("rescued", false);
}

/// The list of attempts with one appended. `$literal`: texts may contain `$`.
pub(in crate::engine) fn append_attempt(attempt: &Attempt) -> Result<Document, StoreError> {
    let attempt = doc! { "$literal": to_bson(attempt)? };
    Ok(append_to_attempts(attempt.into()))
}

/// The list of attempts with the value of this expression appended.
pub(super) fn append_to_attempts(attempt: Bson) -> Document {
    let all = doc! { "$concatArrays": [{ "$ifNull": ["$attempts", []] }, [attempt]] };
    doc! { "$slice": [all, -LISTED_ATTEMPTS] }
}

/// The list of attempts with a snoozed one appended. It replaces another snooze at the end of the list: those of an
/// upstream's outage would displace all other attempts.
fn append_snooze(attempt: &Attempt) -> Result<Document, StoreError> {
    let listed = doc! { "$ifNull": ["$attempts", []] };
    let others = doc! { "$cond": [
        { "$eq": [{ "$last": "$attempts.outcome" }, SNOOZE] },
        { "$slice": [&listed, { "$subtract": [{ "$size": &listed }, 1] }] },
        &listed,
    ] };
    let all = doc! { "$concatArrays": [others, [{ "$literal": to_bson(attempt)? }]] };
    Ok(doc! { "$slice": [all, -LISTED_ATTEMPTS] })
}

/// The earliest next attempt of these steps; `None` is at once, as for a step that was never attempted.
fn next_run(steps: &[Step]) -> Option<DateTime> {
    steps
        .iter()
        .filter(|step| !step.state.is_done() && !step.is_permanently_failed())
        .map(|step| step.next_at)
        // `None` precedes every time.
        .min()
        .flatten()
}
