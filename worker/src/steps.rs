//! Job kinds as lists of steps: what the engine runs, records and settles jobs from.
//!
//! A step is an async function that converges one thing to its desired state and returns the result. Delivery is at
//! least once, so a step reads before it writes. It neither sleeps nor retries: it returns, and the engine schedules the
//! next attempt.
//!
//! A step's name is stored, so it outlives a deploy. A worker keeps a step that it does not know and leaves the job to a
//! newer build; so a step that is retired stays registered, as one that is skipped, until no stored job has it.
//!
//! Step results reach the document that a job concerns through one trait, [`StepSink`]. The engine knows that trait
//! only. It is implemented beside the jobs of each kind of document; the tenant's is in `jobs/tenant/status.rs`.

mod context;
mod registry;
mod sink;

use std::time::Duration;

use bson::DateTime;
use dezky_shared::{
    queue::{error_code::ErrorCode, job::Progress},
    store::StoreError,
    upstream::MailDomain,
};
use dezky_upstreams::clients::ClientError;

pub use self::{
    context::StepContext,
    registry::{JobKind, Registry, StepSpec, Steps},
    sink::{Loaded, Reported, SinkFuture, StepEnd, StepReport, StepSink, StepTarget, Targets},
};

/// The reason of a step that continues in another attempt.
const IN_PROGRESS: &str = "InProgress";

/// How a step that did not fail ended.
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
#[derive(Debug, Clone, PartialEq)]
pub struct StepSuccess {
    /// Whether the step is done, had nothing to do, or continues in another attempt.
    pub outcome: StepOutcome,
    /// The stable name of the state that was reached, stored as the reason of the target's condition.
    pub reason: &'static str,
    /// The changes made upstream, for people.
    pub changes: Vec<String>,
    /// The upstream ids to store in the target.
    pub refs: UpstreamRefs,
    /// The progress of a step that continues in another attempt, which its job stores.
    pub progress: Option<Progress>,
}

impl StepSuccess {
    /// The desired state is reached.
    pub fn ok(reason: &'static str, changes: Vec<String>, refs: UpstreamRefs) -> Self {
        Self {
            outcome: StepOutcome::Ok,
            reason,
            changes,
            refs,
            progress: None,
        }
    }

    /// There was nothing to do.
    pub fn skipped(reason: &'static str) -> Self {
        Self {
            outcome: StepOutcome::Skipped,
            ..Self::ok(reason, Vec::new(), UpstreamRefs::default())
        }
    }

    /// A part is done and its progress [saved](StepContext::save_progress) in the job; the rest continues at `again_at`.
    /// Only for steps that set no condition of a target.
    pub fn continue_at(again_at: DateTime) -> Self {
        Self {
            outcome: StepOutcome::Unfinished { again_at },
            ..Self::ok(IN_PROGRESS, Vec::new(), UpstreamRefs::default())
        }
    }

    /// A continuation: the attempt's time is used up, `progress` was made, and the rest follows in an attempt at
    /// `again_at`. The changes and ids so far are stored.
    pub fn unfinished(
        again_at: DateTime,
        progress: Progress,
        changes: Vec<String>,
        refs: UpstreamRefs,
    ) -> Self {
        Self {
            outcome: StepOutcome::Unfinished { again_at },
            progress: Some(progress),
            ..Self::ok(IN_PROGRESS, changes, refs)
        }
    }
}

/// Upstream ids that a step found or created. An outer `None` leaves the target's field as it is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UpstreamRefs {
    /// The tenant's group.
    pub authentik_group_id: Option<Option<String>>,
    /// The owner's id at the identity provider.
    pub owner_subject: Option<String>,
    /// The tenant's first domain on the mail server.
    pub stalwart_domain: Option<Option<String>>,
    /// The tenant's domains on the mail server.
    pub mail_domains: Option<Vec<MailDomain>>,
    /// Former domains of the tenant that were removed upstream.
    pub removed_domains: Vec<String>,
    /// The tenant's space.
    pub ocis_space_id: Option<Option<String>>,
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{}: {detail}", code.reason())]
pub struct StepFailure {
    /// The code, which determines the retry policy.
    pub code: ErrorCode,
    /// The cause, for operators.
    pub detail: String,
    /// The minimum delay of the next attempt, where the upstream named one.
    pub retry_after: Option<Duration>,
    /// What the step achieved before it failed. Such an attempt is not charged: a large target would use up its job's
    /// attempts by its size alone.
    pub progress: Option<Box<Progress>>,
}

impl StepFailure {
    /// A failure without a minimum delay and without progress.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            retry_after: None,
            progress: None,
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
            ..Self::new(error.code(), error.to_string())
        }
    }
}

impl From<StoreError> for StepFailure {
    fn from(error: StoreError) -> Self {
        Self::new(ErrorCode::Internal, format!("database error: {error}"))
    }
}
