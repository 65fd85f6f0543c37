//! Job kinds as lists of steps, from which the engine runs, records and settles jobs.
//!
//! A step is an async function that converges one thing to its desired state and returns the result. Delivery is at
//! least once, so a step reads before it writes, unless nothing can be there yet. It neither sleeps nor retries: it
//! returns, and the engine schedules the next attempt.
//!
//! A step's name is stored, so it outlives a deploy. A worker keeps a step that it does not know and leaves the job to a
//! newer build; so a step that is retired stays registered, as one that is skipped, until no stored job has it.
//!
//! Step results reach the document that a job concerns through one trait, [`StepSink`]. The engine knows that trait
//! only. It is implemented beside the jobs of each kind of document; the tenant's is in `jobs/tenant/status.rs`.

mod context;
mod registry;
mod sink;

use std::{any::Any, fmt, sync::Arc, time::Duration};

use bson::DateTime;
use dezky_shared::{
    queue::{error_code::ErrorCode, job::Progress},
    store::StoreError,
};
use dezky_upstreams::clients::{ClientError, stripe::KeyedError};

pub use self::{
    context::StepContext,
    registry::{JobKind, Registry, StepSpec, Steps},
    sink::{Loaded, Reported, SinkFuture, StepEnd, StepReport, StepSink, StepTarget, Targets},
};

/// The reason of a step that continues in another attempt.
const IN_PROGRESS: &str = "InProgress";

/// Ending of a step that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutcome {
    /// The desired state is reached.
    Ok,
    /// There was nothing to do.
    Skipped,
    /// Work remains for another attempt, which is not charged.
    Unfinished {
        /// The earliest time of that attempt.
        again_at: DateTime,
    },
}

/// The result of a step that did not fail.
#[derive(Debug, Clone)]
pub struct StepSuccess {
    /// Whether the step is done, had nothing to do, or continues in another attempt.
    pub outcome: StepOutcome,
    /// The stable name of the state that was reached, stored as the reason of the target's condition.
    pub reason: &'static str,
    /// The changes made upstream, for people.
    pub changes: Vec<String>,
    /// References to store in the target, in the form that the kind's sink knows.
    refs: Option<Arc<dyn StepRefs>>,
    /// The progress of a step that continues in another attempt, which its job stores.
    pub progress: Option<Progress>,
}

impl StepSuccess {
    /// The desired state is reached.
    pub fn ok(reason: &'static str, changes: Vec<String>) -> Self {
        Self {
            outcome: StepOutcome::Ok,
            reason,
            changes,
            refs: None,
            progress: None,
        }
    }

    /// Sets the upstream references, for the step's sink to store in the target.
    #[must_use]
    pub fn with_refs(mut self, refs: impl StepRefs) -> Self {
        self.refs = Some(Arc::new(refs));
        self
    }

    /// The upstream references of the step, if they are a `T`.
    pub fn refs<T: StepRefs>(&self) -> Option<&T> {
        let refs: &dyn Any = &**self.refs.as_ref()?;
        refs.downcast_ref()
    }

    /// There was nothing to do.
    pub fn skipped(reason: &'static str) -> Self {
        Self {
            outcome: StepOutcome::Skipped,
            ..Self::ok(reason, Vec::new())
        }
    }

    /// A part is done and its progress [saved](StepContext::save_progress) in the job; the rest continues at `again_at`.
    /// Only for steps that set no condition of a target.
    pub fn continue_at(again_at: DateTime) -> Self {
        Self {
            outcome: StepOutcome::Unfinished { again_at },
            ..Self::ok(IN_PROGRESS, Vec::new())
        }
    }

    /// A continuation: the attempt's time is used up, `progress` was made, and the rest follows in an attempt at
    /// `again_at`. The changes so far are stored.
    pub fn unfinished(again_at: DateTime, progress: Progress, changes: Vec<String>) -> Self {
        Self {
            outcome: StepOutcome::Unfinished { again_at },
            progress: Some(progress),
            ..Self::ok(IN_PROGRESS, changes)
        }
    }
}

/// Upstream references: the objects that a step found or created. Each kind of target has its own type, which its sink stores.
pub trait StepRefs: Any + fmt::Debug + Send + Sync {}

impl<T: Any + fmt::Debug + Send + Sync> StepRefs for T {}

/// Failure of a step.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{}: {detail}", code.name())]
pub struct StepFailure {
    /// The code, which determines the retry policy.
    pub code: ErrorCode,
    /// The cause, for operators.
    pub detail: String,
    /// The operation of the upstream that failed.
    pub operation: Option<&'static str>,
    /// The minimum delay of the next attempt, where the upstream named one.
    pub retry_after: Option<Duration>,
    /// The changes made upstream before it failed, for people.
    pub changes: Vec<String>,
    /// The progress to store; the stored one remains if missing.
    pub progress: Option<Box<Progress>>,
    /// Whether the step got further before it failed. Such an attempt is not charged: a large target would use up its
    /// job's attempts by its size alone.
    pub made_progress: bool,
}

impl StepFailure {
    /// A failure without a minimum delay and without progress.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            operation: None,
            retry_after: None,
            changes: Vec::new(),
            progress: None,
            made_progress: false,
        }
    }
}

impl From<ClientError> for StepFailure {
    fn from(error: ClientError) -> Self {
        let retry_after = match &error {
            ClientError::RateLimited { retry_after, .. } => *retry_after,
            _ => None,
        };
        Self {
            retry_after,
            operation: Some(error.call().operation),
            ..Self::new(error.code(), error.to_string())
        }
    }
}

impl From<KeyedError> for StepFailure {
    fn from(failed: KeyedError) -> Self {
        failed.error.into()
    }
}

impl From<StoreError> for StepFailure {
    fn from(error: StoreError) -> Self {
        Self::new(ErrorCode::Internal, format!("database error: {error}"))
    }
}
