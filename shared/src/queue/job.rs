//! Job document: the work to do, its progress, and the time of the next event.
//!
//! States: `available` (waiting, until `run_at`) → `running` → `completed`, `discarded` or `cancelled`. A retry or a
//! snooze is `available` again with a later `run_at`.

mod step;

use std::{fmt, str::FromStr, time::Duration};

use bson::{DateTime, Document};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

pub use self::step::{Attempt, FailureCause, JobFailure, Progress, Step, StepState};
use crate::{
    id::{JobId, LeaseToken, MemberId, PartnerId, TenantId},
    queue::{priority::Priority, secret_box::EncryptedSecrets},
};

/// Queue, served by its own worker slots.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
#[schema(as = QueueName)]
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
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
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

/// Requester of scheduled jobs, or its prefix before the name of the schedule.
pub const SCHEDULE: &str = "schedule";

/// Retention of a completed job that a schedule enqueued and that changed nothing. Every night has one for each tenant.
pub const UNEVENTFUL_RETENTION: Duration = Duration::from_hours(24);

/// Dismissal of a discarded job: an operator decided that it needs no repetition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dismissal {
    /// Time.
    pub at: DateTime,
    /// Operator.
    pub by: String,
}

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
    /// Job that repeats this final one: the last, if it was requeued several times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requeued_to: Option<JobId>,
    /// Set on a discarded job that an operator dismissed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dismissed: Option<Dismissal>,
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
    #[serde(rename = "sealed", default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<EncryptedSecrets>,
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

    /// Whether every attempt before this one recorded the ends of all its steps. One that was rescued, released or
    /// timed out may have made calls of which no document says anything.
    pub fn has_recorded_every_attempt(&self) -> bool {
        let is_recorded = |attempt: &Attempt| attempt.outcome == Attempt::SNOOZE;
        !self.rescued && self.crashes == 0 && self.attempts.iter().all(is_recorded)
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

    /// Member of a tenant the job concerns.
    pub fn member_id(&self) -> Option<MemberId> {
        let id = self.args.get("memberId")?.clone();
        bson::deserialize_from_bson(id).ok()
    }

    /// Whether a schedule enqueued it, as opposed to a person.
    pub fn is_scheduled(&self) -> bool {
        self.created_by.starts_with(SCHEDULE)
    }

    /// The step with this name.
    pub fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.name == name)
    }
}

/// Lock key of the jobs that change a tenant's objects in the upstreams.
pub fn tenant_lock_key(id: TenantId) -> String {
    format!("tenant:{id}")
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
    /// Priority lane. No default, so that each kind decides: bulk work must not delay interactive work.
    const PRIORITY: Priority;

    /// Tenant the job concerns.
    fn tenant_id(&self) -> Option<TenantId>;

    /// Lock key: jobs with the same key never run concurrently. `None` for a job that blocks no other.
    fn lock_key(&self) -> Option<String> {
        self.tenant_id().map(tenant_lock_key)
    }

    /// Unique key: a new job joins the available job with the same key. Only for kinds whose arguments are their
    /// identity.
    fn unique_key(&self) -> Option<String> {
        None
    }
}
