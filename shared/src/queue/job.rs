//! A job: one document that says what is to be done, how far it has come, and when something happens next.
//!
//! States: `available` (waiting, until `run_at`) → `running` → `completed`, `discarded` or `cancelled`. A retry or
//! a snooze is `available` again with a later `run_at`.

use std::{fmt, str::FromStr, time::Duration};

use bson::{DateTime, Document};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    id::{JobId, LeaseToken, PartnerId, TenantId},
    queue::{
        error_code::{ErrorClass, ErrorCode},
        secret_box::EncryptedSecrets,
    },
};

/// Where jobs wait, each with workers of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Queue {
    /// Tenants and members in the upstreams.
    Provisioning,
    /// Looking at the public DNS.
    Dns,
    /// Customers, subscriptions and invoices.
    Billing,
    /// Events that others sent us.
    Webhooks,
    /// Fan-outs, retention and the like.
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

    /// The name used in documents, keys and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Dns => "dns",
            Self::Billing => "billing",
            Self::Webhooks => "webhooks",
            Self::Maintenance => "maintenance",
        }
    }

    /// How many charged attempts a job has; `None` is without limit.
    pub const fn max_attempts(self) -> Option<i32> {
        match self {
            Self::Provisioning | Self::Maintenance => Some(12),
            Self::Billing | Self::Webhooks => Some(20),
            Self::Dns => None,
        }
    }

    /// How long after it was first due a job is given up; `None` is never.
    pub const fn max_age(self) -> Option<Duration> {
        match self {
            Self::Provisioning | Self::Maintenance => Some(Duration::from_hours(7 * 24)),
            Self::Billing | Self::Webhooks => Some(Duration::from_hours(14 * 24)),
            Self::Dns => None,
        }
    }

    /// The longest a retry is put off.
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

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Waiting to be claimed, from `run_at` on.
    Available,
    /// A worker holds its lease.
    Running,
    /// Done.
    Completed,
    /// Failed, never to be tried again.
    Discarded,
    /// A person, or a newer job, said so.
    Cancelled,
}

impl JobState {
    /// The name used in documents and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Discarded => "discarded",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing will happen to the job any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Discarded | Self::Cancelled)
    }

    /// How long a job is kept once it is in this state; `None` while it is not final.
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
        [
            Self::Available,
            Self::Running,
            Self::Completed,
            Self::Discarded,
            Self::Cancelled,
        ]
        .into_iter()
        .find(|state| state.name() == text)
        .ok_or_else(|| "expected available, running, completed, discarded or cancelled".to_owned())
    }
}

/// The right to run a job until a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Whoever has another token has lost the job.
    pub token: LeaseToken,
    /// The worker process, for people.
    pub worker: String,
    /// When others may take the job.
    pub until: DateTime,
    /// Set once the handler has surely started: from then on, losing the worker counts as a crash.
    #[serde(rename = "startedAt", default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime>,
}

/// Where a step of a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// Not tried yet with the present intent.
    Pending,
    /// Done.
    Ok,
    /// Nothing to do.
    Skipped,
    /// The last try failed.
    Error,
    /// A write was sent and its outcome is not known.
    Unknown,
}

impl StepState {
    /// Whether the step needs nothing more.
    pub const fn is_done(self) -> bool {
        matches!(self, Self::Ok | Self::Skipped)
    }
}

/// One named part of a job, with a state of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Its name, such as `authentik`.
    pub name: String,
    /// Where it stands.
    pub state: StepState,
    /// Its failures in a row.
    #[serde(default)]
    pub attempts: i32,
    /// When it last began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime>,
    /// When it last ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime>,
    /// When it may be tried again; missing for one that never is, and for one not yet tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<DateTime>,
    /// Its turn in its upstream's budget, while it waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "turnAt")]
    pub reserved_at: Option<DateTime>,
    /// Whether that turn is not its own: all were taken, and it asks again then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[serde(rename = "asksAgain")]
    pub queue_full: bool,
    /// What it changed upstream, or would change in a dry run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobFailure>,
}

impl Step {
    /// A step that has not been tried.
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
            changes: Vec::new(),
            error: None,
        }
    }

    /// Whether trying again cannot help.
    pub fn is_permanently_failed(&self) -> bool {
        matches!(self.state, StepState::Error | StepState::Unknown) && self.next_at.is_none()
    }
}

/// Why a job or one of its steps failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobFailure {
    /// A stable name for what went wrong.
    pub code: ErrorCode,
    /// Who has to act.
    pub class: ErrorClass,
    /// A sentence safe to show to a customer.
    pub message: String,
    /// What an operator wants to know.
    pub detail: String,
    /// Whether it will be tried again by itself.
    pub retryable: bool,
}

impl JobFailure {
    /// The failure of a job that nobody will try again.
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

/// How one try of a job went, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Which try it was, counting all.
    pub n: i32,
    /// Which worker ran it.
    pub worker: String,
    /// When it began.
    pub started_at: DateTime,
    /// When it ended.
    pub finished_at: DateTime,
    /// How it was settled: `complete`, `retry`, `discard`, `cancel`, `release` or `rescue`; `timeout` if it took too
    /// long, whatever came of that.
    pub outcome: String,
    /// What failed, at most 2 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The last requests it made upstream, as the upstreams know them; at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstream_request_ids: Vec<String>,
}

/// How far a long job has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// How many are done.
    pub done: i64,
    /// Of how many.
    pub total: i64,
    /// What it is doing.
    pub note: String,
    /// Where the next try goes on; nobody but the job reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A job, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Its id.
    #[serde(rename = "_id")]
    pub id: JobId,
    /// What kind of work it is: a verb and a noun.
    pub kind: String,
    /// What the work needs to know: ids, not state.
    pub args: Document,
    /// Where it waits.
    pub queue: Queue,
    /// The tenant it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<TenantId>,
    /// 0 to 2, lower first.
    pub priority: i32,
    /// Where it stands.
    pub state: JobState,
    /// When it may next be claimed.
    pub run_at: DateTime,
    /// Tries that were charged to it, the present one included.
    pub attempt: i32,
    /// How many it has; missing is without limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<i32>,
    /// Workers that died running it, with no step ended in between.
    #[serde(default)]
    pub crashes: i32,
    /// Whether a worker vanished with it, perhaps before it started: now it says that it starts before it does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rescued: bool,
    /// Times it was put off at no cost.
    #[serde(default)]
    pub snoozes: i32,
    /// When it is given up; missing is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub give_up_at: Option<DateTime>,
    /// Jobs with the same key never run at the same time.
    pub lock_key: String,
    /// Jobs with the same key never wait at the same time: a new one joins the one that waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_key: Option<String>,
    /// Who runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// Its parts.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// Its last 20 tries.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// Why it failed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobFailure>,
    /// A person wants it to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_requested: Option<bool>,
    /// The job that does its work instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<JobId>,
    /// The final job it repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requeued_from: Option<JobId>,
    /// The job that made it, as one of many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<JobId>,
    /// How far it has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Who asked for it.
    pub created_by: String,
    /// The request that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The trace it belongs to (W3C Trace Context).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// When it was enqueued.
    pub created_at: DateTime,
    /// When it last changed.
    pub updated_at: DateTime,
    /// When it became final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime>,
    /// When it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_at: Option<DateTime>,
    /// + 1 with every change a person can see.
    pub revision: i64,
    /// Secrets the work needs, encrypted; gone once the job is final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<EncryptedSecrets>,
    /// Whether it ever had any.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub had_secrets: bool,
}

impl Job {
    /// The arguments, as the kind declares them.
    pub fn args<A: DeserializeOwned>(&self) -> Result<A, bson::error::Error> {
        bson::deserialize_from_document(self.args.clone())
    }

    /// How often it was tried, whoever was to blame for how that went.
    pub fn total_attempts(&self) -> i32 {
        self.attempt + self.snoozes + self.crashes
    }

    /// Whether it only says what it would do.
    pub fn is_dry_run(&self) -> bool {
        self.args.get_bool("dryRun").unwrap_or(false)
    }

    /// The partner whose own affair it is.
    pub fn partner_id(&self) -> Option<PartnerId> {
        let id = self.args.get("partnerId")?.clone();
        bson::deserialize_from_bson(id).ok()
    }

    /// Whether its steps speak of its tenant. A dry run's do not.
    pub fn reports_to_tenant(&self) -> bool {
        self.tenant_id.is_some() && !self.is_dry_run()
    }

    /// The step of this name.
    pub fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.name == name)
    }
}

/// The stored arguments of a kind of job: the contract between who enqueues it and who runs it.
///
/// They outlive a deploy: fields are added with a default, a kind is never renamed, and a retired kind stays
/// readable until none are stored.
pub trait JobArgs: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Its name: a verb and a noun.
    const KIND: &'static str;
    /// Where it waits.
    const QUEUE: Queue = Queue::Provisioning;
    /// 0 to 2, lower first.
    const PRIORITY: i32 = 1;

    /// The tenant it is about.
    fn tenant_id(&self) -> Option<TenantId>;

    /// What jobs have in common of which only one runs at a time; nothing for work that is in nobody's way.
    fn lock_key(&self) -> Option<String> {
        self.tenant_id().map(|tenant| format!("tenant:{tenant}"))
    }

    /// What makes a second job of this kind, asked for while the first waits, the same job. Only for kinds whose
    /// arguments are their identity.
    fn unique_key(&self) -> Option<String> {
        None
    }
}
