//! Kinds of faults, by the track that injects them.

use std::fmt;

use dezky_shared::upstream::Upstream;

/// Kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// SIGKILL of an api process.
    ApiKilled,
    /// SIGSTOP and SIGCONT of an api process.
    ApiStopped,
    /// SIGKILL of a worker process.
    WorkerKilled,
    /// SIGSTOP of a worker process until its leases have expired, then SIGCONT.
    WorkerStopped,
    /// SIGTERM of a worker process, which releases its jobs, and a start, as in a deployment.
    WorkerReplaced,
    /// SIGKILL of MongoDB's primary.
    PrimaryKilled,
    /// All connections to MongoDB cut, those between its members included.
    MongoCut,
    /// All connections to MongoDB delayed.
    MongoSlow,
    /// One worker's connections to MongoDB held past the end of its leases, while it writes to oCIS.
    WorkerIsolated,
    /// `FLUSHALL` on Redis.
    RedisFlushed,
    /// SIGKILL of Redis.
    RedisKilled,
    /// All connections to Redis cut.
    RedisCut,
    /// All connections to Redis delayed.
    RedisSlow,
    /// An operator pauses an upstream.
    UpstreamPaused,
    /// An operator pauses a queue.
    QueuePaused,
    /// A customer suspends a tenant with more members than one attempt can suspend.
    LargeTenantSuspended,
    /// An operator reconciles all tenants at once.
    BulkReconcile,
    /// Document that a future build wrote. It stays until the faults are removed.
    FutureDocument(FutureDocument),
    /// Fault of an upstream.
    Upstream(Upstream, UpstreamFault),
}

/// Kind of document that a future build wrote, and that this build cannot read as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FutureDocument {
    /// Tenant with a field of another type.
    Tenant,
    /// Job of an unknown kind.
    JobKind,
    /// Job with a field of another type.
    JobField,
    /// Job with a counter that is no number, which a claim cannot increment.
    JobCounter,
    /// Job whose last failure has an unknown error code.
    ErrorCode,
    /// Job with an unknown step.
    Step,
    /// Job with a lock key of another type, which no claim finds.
    LockKey,
    /// Job in an unknown queue.
    Queue,
    /// Control state of an unknown upstream.
    Upstream,
    /// User with a field of another type, who is in the group of a tenant that is suspended.
    User,
}

/// Kind of fault of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UpstreamFault {
    /// Connections refused.
    Down,
    /// Late response.
    SlowAnswer,
    /// Late effect.
    SlowEffect,
    /// Status 503.
    Unavailable,
    /// Status 429 with `Retry-After`.
    RateLimited,
    /// Connection closed, without an effect.
    Reset,
    /// Connection closed after the effect.
    AnswerLost,
    /// HTML page instead of JSON, after the effect.
    Html,
    /// Truncated JSON, after the effect.
    Truncated,
}

impl UpstreamFault {
    const ALL: [Self; 9] = [
        Self::Down,
        Self::SlowAnswer,
        Self::SlowEffect,
        Self::Unavailable,
        Self::RateLimited,
        Self::Reset,
        Self::AnswerLost,
        Self::Html,
        Self::Truncated,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::SlowAnswer => "late response",
            Self::SlowEffect => "late effect",
            Self::Unavailable => "503",
            Self::RateLimited => "429 with Retry-After",
            Self::Reset => "connection reset",
            Self::AnswerLost => "response lost after the effect",
            Self::Html => "HTML instead of JSON",
            Self::Truncated => "truncated JSON",
        }
    }
}

impl FaultKind {
    /// Faults of the processes.
    pub(super) const PROCESSES: [Self; 5] = [
        Self::ApiKilled,
        Self::ApiStopped,
        Self::WorkerKilled,
        Self::WorkerStopped,
        Self::WorkerReplaced,
    ];

    /// Faults of the stores.
    pub(super) const STORES: [Self; 8] = [
        Self::PrimaryKilled,
        Self::MongoCut,
        Self::MongoSlow,
        Self::WorkerIsolated,
        Self::RedisFlushed,
        Self::RedisKilled,
        Self::RedisCut,
        Self::RedisSlow,
    ];

    /// Actions of operators.
    pub(super) const OPERATORS: [Self; 2] = [Self::UpstreamPaused, Self::QueuePaused];

    /// Work that is large.
    pub(super) const LARGE_WORK: [Self; 2] = [Self::LargeTenantSuspended, Self::BulkReconcile];

    /// Documents of a future build.
    pub(super) const DOCUMENTS: [Self; 10] = [
        Self::FutureDocument(FutureDocument::Tenant),
        Self::FutureDocument(FutureDocument::JobKind),
        Self::FutureDocument(FutureDocument::JobField),
        Self::FutureDocument(FutureDocument::JobCounter),
        Self::FutureDocument(FutureDocument::ErrorCode),
        Self::FutureDocument(FutureDocument::Step),
        Self::FutureDocument(FutureDocument::LockKey),
        Self::FutureDocument(FutureDocument::Queue),
        Self::FutureDocument(FutureDocument::Upstream),
        Self::FutureDocument(FutureDocument::User),
    ];

    /// Faults of an upstream.
    pub(super) fn of(upstream: Upstream) -> [Self; 9] {
        UpstreamFault::ALL.map(|fault| Self::Upstream(upstream, fault))
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ApiKilled => "api: SIGKILL",
            Self::ApiStopped => "api: SIGSTOP, SIGCONT",
            Self::WorkerKilled => "worker: SIGKILL",
            Self::WorkerStopped => "worker: SIGSTOP, SIGCONT",
            Self::WorkerReplaced => "worker: SIGTERM, start",
            Self::PrimaryKilled => "MongoDB: SIGKILL of the primary",
            Self::MongoCut => "MongoDB: connections cut",
            Self::MongoSlow => "MongoDB: connections delayed",
            Self::WorkerIsolated => "MongoDB: lost by one worker",
            Self::RedisFlushed => "Redis: FLUSHALL",
            Self::RedisKilled => "Redis: SIGKILL",
            Self::RedisCut => "Redis: connections cut",
            Self::RedisSlow => "Redis: connections delayed",
            Self::UpstreamPaused => "operator: pause an upstream",
            Self::QueuePaused => "operator: pause a queue",
            Self::LargeTenantSuspended => "customer: suspend a large tenant",
            Self::BulkReconcile => "operator: reconcile all tenants",
            Self::FutureDocument(document) => match document {
                FutureDocument::Tenant => "future build: tenant field",
                FutureDocument::JobKind => "future build: job kind",
                FutureDocument::JobField => "future build: job field",
                FutureDocument::JobCounter => "future build: job counter",
                FutureDocument::ErrorCode => "future build: error code",
                FutureDocument::Step => "future build: step",
                FutureDocument::LockKey => "future build: lock key",
                FutureDocument::Queue => "future build: queue",
                FutureDocument::Upstream => "future build: upstream",
                FutureDocument::User => "future build: user",
            },
            Self::Upstream(upstream, fault) => {
                return write!(f, "{upstream}: {}", fault.name());
            }
        })
    }
}
