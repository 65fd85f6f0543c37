//! Job document: the work to do, its progress, and the time of the next event.
//!
//! States: `available` (waiting, until `run_at`) → `running` → `completed`, `discarded` or `cancelled`. A retry or a
//! snooze is `available` again with a later `run_at`.

use std::{fmt, str::FromStr, time::Duration};

use bson::{DateTime, Document};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    id::{JobId, LeaseToken, PartnerId, TenantId},
    queue::{
        error_code::{ErrorClass, ErrorCode},
        priority::Priority,
        secret_box::EncryptedSecrets,
    },
};

/// Queue, served by its own worker slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Queue {
    /// Provisioning of tenants and members in the upstreams.
    Provisioning,
    /// Public DNS checks.
    Dns,
    /// Customers, subscriptions and invoices.
    Billing,
    /// Incoming webhook events.
    Webhooks,
    /// Fan-outs, retention and other maintenance.
    Maintenance,
}

impl Queue {
    /// Every queue.
    pub const ALL: [Self; 5] = [
        Self::Provisioning,
        Self::Dns,
        Self::Billing,
        Self::Webhooks,
        Self::Maintenance,
    ];

    /// Name in documents, keys and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Dns => "dns",
            Self::Billing => "billing",
            Self::Webhooks => "webhooks",
            Self::Maintenance => "maintenance",
        }
    }

    /// Limit on counted attempts; `None` is unlimited.
    pub const fn max_attempts(self) -> Option<i32> {
        match self {
            Self::Provisioning | Self::Maintenance => Some(12),
            Self::Billing | Self::Webhooks => Some(20),
            Self::Dns => None,
        }
    }

    /// Maximum age since the job was first due; `None` is unlimited.
    pub const fn max_age(self) -> Option<Duration> {
        match self {
            Self::Provisioning | Self::Maintenance => Some(Duration::from_hours(7 * 24)),
            Self::Billing | Self::Webhooks => Some(Duration::from_hours(14 * 24)),
            Self::Dns => None,
        }
    }

    /// Maximum retry delay.
    pub const fn max_backoff(self) -> Duration {
        match self {
            Self::Provisioning | Self::Webhooks | Self::Maintenance => Duration::from_mins(15),
            Self::Billing => Duration::from_hours(1),
            Self::Dns => Duration::from_hours(6),
        }
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Queue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|queue| queue.name() == text)
            .ok_or_else(|| {
                "expected provisioning, dns, billing, webhooks or maintenance".to_owned()
            })
    }
}

/// State of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Waiting to be claimed, from `run_at` on.
    Available,
    /// Leased by a worker.
    Running,
    /// Succeeded.
    Completed,
    /// Failed, not retried.
    Discarded,
    /// Cancelled by a person, or superseded by a newer job.
    Cancelled,
}

impl JobState {
    /// Every state.
    pub const ALL: [Self; 5] = [
        Self::Available,
        Self::Running,
        Self::Completed,
        Self::Discarded,
        Self::Cancelled,
    ];

    /// Name in documents and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Discarded => "discarded",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the state is final.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Discarded | Self::Cancelled)
    }

    /// Retention of a job in this state; `None` if the state is not final.
    pub const fn retention(self) -> Option<Duration> {
        match self {
            Self::Available | Self::Running => None,
            Self::Completed => Some(Duration::from_hours(30 * 24)),
            Self::Discarded | Self::Cancelled => Some(Duration::from_hours(90 * 24)),
        }
    }
}

impl FromStr for JobState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|state| state.name() == text)
            .ok_or_else(|| {
                "expected available, running, completed, discarded or cancelled".to_owned()
            })
    }
}

/// Lease: the exclusive right to run a job until a deadline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Fencing token: a worker with another token has lost the job.
    pub token: LeaseToken,
    /// Name of the worker process.
    pub worker: String,
    /// End of the lease. After it, the leader rescues the job, which other workers may then claim.
    pub until: DateTime,
    /// Set once the handler has definitely started: from then on, a lost worker counts as a crash.
    #[serde(rename = "startedAt", default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime>,
}

/// State of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// Not yet attempted for the current generation.
    Pending,
    /// Succeeded.
    Ok,
    /// Nothing to do.
    Skipped,
    /// The last attempt failed.
    Error,
    /// A write was sent and its outcome is unknown.
    Unknown,
}

impl StepState {
    /// Whether the step is complete.
    pub const fn is_done(self) -> bool {
        matches!(self, Self::Ok | Self::Skipped)
    }
}

/// Step: a named part of a job with its own state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Name, such as `authentik`.
    pub name: String,
    /// Current state.
    pub state: StepState,
    /// Consecutive failures.
    #[serde(default)]
    pub attempts: i32,
    /// Start of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime>,
    /// End of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime>,
    /// Time of the next attempt; missing if never retried or not yet attempted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<DateTime>,
    /// Reserved slot in the upstream's rate budget, while the step waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "turnAt")]
    pub reserved_at: Option<DateTime>,
    /// Whether the rate budget was saturated: nothing is reserved, and the step asks again at `reserved_at`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[serde(rename = "asksAgain")]
    pub queue_full: bool,
    /// Progress of a step that continues in another attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Changes made upstream, or planned in a dry run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// Failure of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobFailure>,
}

impl Step {
    /// A step that has not been attempted.
    pub fn pending(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: StepState::Pending,
            attempts: 0,
            started_at: None,
            finished_at: None,
            next_at: None,
            reserved_at: None,
            queue_full: false,
            progress: None,
            changes: Vec::new(),
            error: None,
        }
    }

    /// Whether the step has failed and is never retried.
    pub fn is_permanently_failed(&self) -> bool {
        matches!(self.state, StepState::Error | StepState::Unknown) && self.next_at.is_none()
    }
}

/// Failure of a job or a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobFailure {
    /// Stable code.
    pub code: ErrorCode,
    /// Party that has to act.
    pub class: ErrorClass,
    /// Customer-facing message.
    pub message: String,
    /// Detail for operators.
    pub detail: String,
    /// Whether it is retried automatically.
    pub retryable: bool,
}

impl JobFailure {
    /// A failure that is never retried.
    pub fn permanent(code: ErrorCode, detail: &str) -> Self {
        Self {
            code,
            class: code.class(),
            message: code.customer_text(None),
            detail: detail.to_owned(),
            retryable: false,
        }
    }
}

/// Attempt of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Attempt number, counting all attempts.
    pub n: i32,
    /// Worker that ran it.
    pub worker: String,
    /// Start time.
    pub started_at: DateTime,
    /// End time.
    pub finished_at: DateTime,
    /// Outcome: `complete`, `retry`, `discard`, `cancel`, `release` or `rescue`; `timeout` if it exceeded its time
    /// limit, regardless of its settlement.
    pub outcome: String,
    /// Error text, at most 2 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Ids of the most recent upstream requests, as assigned by the upstreams; at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstream_request_ids: Vec<String>,
}

/// Progress of a long job, or of one of its steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Items done.
    pub done: i64,
    /// Total number of items.
    pub total: i64,
    /// Current activity.
    pub note: String,
    /// Resume position of the next attempt, opaque to all other code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Requester of scheduled jobs, or its prefix before the name of the schedule.
pub const SCHEDULE: &str = "schedule";

/// Retention of a completed job that a schedule enqueued and that changed nothing. Every night has one for each tenant.
pub const UNEVENTFUL_RETENTION: Duration = Duration::from_hours(24);

/// Job, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Unique id.
    #[serde(rename = "_id")]
    pub id: JobId,
    /// Kind: a verb and a noun.
    pub kind: String,
    /// Arguments: ids, not state.
    pub args: Document,
    /// Queue.
    pub queue: Queue,
    /// Tenant the job concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<TenantId>,
    /// Priority lane.
    pub priority: Priority,
    /// Current state.
    pub state: JobState,
    /// Earliest time of the next claim.
    pub run_at: DateTime,
    /// Counted attempts, including the current one.
    pub attempt: i32,
    /// Limit on counted attempts; missing is unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<i32>,
    /// Consecutive worker crashes, reset when a step that called its upstream ends.
    #[serde(default)]
    pub crashes: i32,
    /// Whether a worker vanished with the job, possibly before the handler started. From then on, the start is recorded
    /// before the handler runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rescued: bool,
    /// Number of snoozes: delays that count no attempt.
    #[serde(default)]
    pub snoozes: i32,
    /// Time at which the job is given up; missing is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub give_up_at: Option<DateTime>,
    /// Lock key: jobs with the same key never run concurrently.
    pub lock_key: String,
    /// Unique key: of the jobs with the same key, at most one is available. A new job joins it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_key: Option<String>,
    /// Current lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// Steps.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// The last 20 attempts.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// Last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobFailure>,
    /// Whether cancellation was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_requested: Option<bool>,
    /// Job that replaced this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<JobId>,
    /// Final job that this one repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requeued_from: Option<JobId>,
    /// Parent job of a fan-out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<JobId>,
    /// Progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Requester.
    pub created_by: String,
    /// Originating request id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Trace context (W3C).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Time of enqueueing.
    pub created_at: DateTime,
    /// Time of the last change.
    pub updated_at: DateTime,
    /// Time at which the job became final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime>,
    /// Expiry (TTL index).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_at: Option<DateTime>,
    /// Incremented by every change that the API shows.
    pub revision: i64,
    /// Encrypted secrets; deleted once the job is final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<EncryptedSecrets>,
    /// Whether the job ever had secrets.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub had_secrets: bool,
}

impl Job {
    /// The arguments, decoded as the kind declares them.
    pub fn args<A: DeserializeOwned>(&self) -> Result<A, bson::error::Error> {
        bson::deserialize_from_document(self.args.clone())
    }

    /// Total number of attempts, counted or not.
    pub fn total_attempts(&self) -> i32 {
        self.attempt + self.snoozes + self.crashes
    }

    /// Whether the job is a dry run.
    pub fn is_dry_run(&self) -> bool {
        self.args.get_bool("dryRun").unwrap_or(false)
    }

    /// Partner the job concerns.
    pub fn partner_id(&self) -> Option<PartnerId> {
        let id = self.args.get("partnerId")?.clone();
        bson::deserialize_from_bson(id).ok()
    }

    /// Whether a schedule enqueued it, as opposed to a person.
    pub fn is_scheduled(&self) -> bool {
        self.created_by.starts_with(SCHEDULE)
    }

    /// Whether the steps' results are reported to the tenant. A dry run's are not.
    pub fn reports_to_tenant(&self) -> bool {
        self.tenant_id.is_some() && !self.is_dry_run()
    }

    /// The step with this name.
    pub fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.name == name)
    }
}

/// Job arguments of one kind: the contract between the api, which enqueues, and the worker, which runs.
///
/// Arguments outlive a deploy: fields are added with a default, a kind is never renamed, and a retired kind stays
/// readable until no stored job uses it.
pub trait JobArgs: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Name of the kind: a verb and a noun.
    const KIND: &'static str;
    /// Queue.
    const QUEUE: Queue = Queue::Provisioning;
    /// Priority lane.
    const PRIORITY: Priority = Priority::Interactive;

    /// Tenant the job concerns.
    fn tenant_id(&self) -> Option<TenantId>;

    /// Lock key: jobs with the same key never run concurrently. `None` for a job that blocks no other.
    fn lock_key(&self) -> Option<String> {
        self.tenant_id().map(|tenant| format!("tenant:{tenant}"))
    }

    /// Unique key: a new job joins the available job with the same key. Only for kinds whose arguments are their
    /// identity.
    fn unique_key(&self) -> Option<String> {
        None
    }
}
