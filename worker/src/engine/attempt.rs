//! One attempt of one job, from the claim to its settlement.

mod steps;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bson::DateTime;
use dezky_shared::{
    platform::{backoff::ReconnectBackoff, trace},
    queue::{
        error_code::ErrorCode,
        job::{Attempt, Job, JobFailure},
    },
    store::TransactionError,
};
use dezky_upstreams::clients::LeaseDeadline;
use futures::FutureExt as _;
use tokio::{
    sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    EngineTimings,
    admission::Admission,
    apalis_backend::Claimed,
    bulk,
    database_health::DatabaseHealth,
    lease::LeasedJob,
    record::StepRecorder,
    renewal::LeaseRenewer,
    settle::{Outcome, Settlement, Settler},
    step::StepRunner,
};
use crate::{
    context::Context,
    metrics,
    steps::{Loaded, Registry},
};

/// Runs claimed jobs.
pub(super) struct AttemptRunner {
    pub(super) ctx: Arc<Context>,
    pub(super) registry: Registry,
    pub(super) times: EngineTimings,
    /// The name of this process in attempts.
    pub(super) worker: String,
    pub(super) health: Arc<DatabaseHealth>,
    pub(super) renewer: Arc<LeaseRenewer>,
    pub(super) admission: Arc<Admission>,
    pub(super) steps: Arc<StepRunner>,
    pub(super) recorder: Arc<StepRecorder>,
    pub(super) settler: Arc<Settler>,
    /// Held exclusively by a job that may have crashed a worker.
    pub(super) isolation: Arc<RwLock<()>>,
    /// Cancels the attempts that outlive the drain.
    pub(super) kill: CancellationToken,
}

/// Why an attempt ends before its steps do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interruption {
    /// Another worker holds the lease: nothing more is written.
    LeaseLost,
    /// The lease deadline has passed, or the worker stops.
    Released,
    /// The attempt timeout has passed.
    TimedOut,
}

/// Isolates a suspect job: a process that runs one that may have crashed a worker runs no other beside it.
enum IsolationGuard {
    Shared { _guard: OwnedRwLockReadGuard<()> },
    Exclusive { _guard: OwnedRwLockWriteGuard<()> },
}

/// The result of an attempt, to be settled.
struct Ended {
    outcome: Outcome,
    request_ids: Vec<String>,
    /// Whether a step was attempted.
    attempted: bool,
    /// Held until the settlement is written: a suspect job that began earlier could crash this one, too.
    _isolation: Option<IsolationGuard>,
}

impl Ended {
    /// Released before any step was attempted.
    fn released() -> Self {
        Self {
            outcome: Outcome::Release,
            request_ids: Vec::new(),
            attempted: false,
            _isolation: None,
        }
    }
}

impl AttemptRunner {
    /// Runs a claimed job and settles it.
    pub(super) async fn run(self: Arc<Self>, claimed: Claimed) {
        let job = &claimed.claim.job;
        let span = tracing::info_span!(
            "job",
            otel.kind = "consumer",
            otel.name = format!("job {}", job.kind),
            trace.id = job.traceparent.as_deref().and_then(trace::trace_id),
            job.id = %job.id,
            job.kind = job.kind,
            job.attempt = job.attempt,
            tenant.id = job.tenant_id.map(|id| id.to_string()),
        );
        if let Some(traceparent) = &job.traceparent {
            trace::set_remote_parent(&span, traceparent);
        }
        self.run_and_settle(claimed).instrument(span).await;
    }

    async fn run_and_settle(self: Arc<Self>, claimed: Claimed) {
        let Claimed {
            claim,
            lease,
            permit,
        } = claimed;
        let mut job = claim.job;
        let began = Instant::now();
        let attempt = AttemptRun {
            runner: self.clone(),
            lease: lease.clone(),
            deadlines: Vec::new(),
            request_ids: Vec::new(),
            attempted: false,
        };
        let Some(ended) = attempt.run(&mut job).await else {
            tracing::warn!("Lease lost; leaving the job to its new holder");
            metrics::lease_lost();
            return;
        };
        let Ended {
            outcome,
            request_ids,
            attempted,
            _isolation,
        } = ended;
        let attempt = self.describe(&job, &lease, claim.claimed_at, &outcome, request_ids);
        if self.registry.kind(&job.kind).is_some() {
            let failure = outcome.error().map(|error| error.class);
            metrics::attempted(&job.kind, &attempt.outcome, failure, began.elapsed());
        }
        let (done, settled) = oneshot::channel();
        let settlement = Settlement {
            id: job.id,
            tenant_id: job.tenant_id,
            queue: job.queue,
            lock_key: job.lock_key,
            unique_key: job.unique_key,
            priority: job.priority,
            steps: job.steps,
            lease,
            attempt,
            outcome,
            attempted,
            permit,
            done,
            backoff: ReconnectBackoff::default(),
        };
        // Both fail only when the process ends; then the lease expires and the job is rescued.
        if self.settler.submit(settlement).await {
            let _ = settled.await;
        }
    }

    fn describe(
        &self,
        job: &Job,
        lease: &LeasedJob,
        started_at: DateTime,
        outcome: &Outcome,
        request_ids: Vec<String>,
    ) -> Attempt {
        Attempt {
            n: job.total_attempts(),
            worker: self.worker.clone(),
            started_at,
            finished_at: self.ctx.store.now(),
            outcome: if lease.timed_out.load(Ordering::Relaxed) {
                "timeout".to_owned()
            } else {
                outcome.name().to_owned()
            },
            error: outcome
                .error()
                .map(|error| error.detail.chars().take(2_000).collect()),
            upstream_request_ids: request_ids,
        }
    }

    async fn isolate(&self, suspect: bool) -> IsolationGuard {
        let isolation = self.isolation.clone();
        if suspect {
            IsolationGuard::Exclusive {
                _guard: isolation.write_owned().await,
            }
        } else {
            IsolationGuard::Shared {
                _guard: isolation.read_owned().await,
            }
        }
    }
}

/// An attempt in progress. Its methods return `None` once the lease is lost.
struct AttemptRun {
    runner: Arc<AttemptRunner>,
    lease: Arc<LeasedJob>,
    /// The lease deadline of each step that ran, with the ids of its requests.
    deadlines: Vec<LeaseDeadline>,
    request_ids: Vec<String>,
    /// Whether a step was attempted.
    attempted: bool,
}

impl AttemptRun {
    /// Runs the job's steps.
    async fn run(mut self, job: &mut Job) -> Option<Ended> {
        let runner = self.runner.clone();
        let isolation = tokio::select! {
            guard = runner.isolate(job.crashes > 0) => guard,
            interruption = self.interruption(Duration::MAX) => {
                return (interruption != Interruption::LeaseLost).then(Ended::released);
            }
        };
        // Otherwise a job that crashes its worker before the first renewal would never be counted.
        if job.rescued {
            let marked = runner.renewer.mark_started(job.id, self.lease.token);
            match bulk::with_timeout(runner.times.bulk_deadline, marked).await {
                Ok(true) => (),
                Ok(false) => return None,
                Err(error) => {
                    tracing::warn!(%error, "Could not mark the job as started; releasing it");
                    runner.health.record_failure();
                    return Some(Ended::released());
                }
            }
        }
        self.lease.started.store(true, Ordering::Relaxed);
        let outcome = self.work(job).await?;
        Some(Ended {
            outcome,
            request_ids: self.request_ids,
            attempted: self.attempted,
            _isolation: Some(isolation),
        })
    }

    async fn work(&mut self, job: &mut Job) -> Option<Outcome> {
        let runner = self.runner.clone();
        let now = runner.ctx.store.now();
        if job.give_up_at.is_some_and(|give_up_at| give_up_at <= now) {
            let detail = job
                .error
                .as_ref()
                .map_or("no attempt succeeded", |last| last.detail.as_str());
            let failure = JobFailure::permanent(ErrorCode::GaveUp, detail);
            return self
                .end_outside_steps(job, failure, |error| Outcome::Discard { error })
                .await;
        }
        if job.cancel_requested == Some(true) {
            // Requested after the previous attempt's last record.
            return self.cancel(job).await;
        }
        let Some(kind) = runner.registry.kind(&job.kind).cloned() else {
            // Enqueued by a newer build, whose workers will claim it.
            tracing::warn!("Unknown job kind; leaving the job to a newer build");
            metrics::unknown_kind();
            return Some(Outcome::Snooze {
                at: dezky_shared::platform::clock::later(now, runner.times.lease),
                error: None,
            });
        };
        let target = match kind.sink.load(&runner.ctx, job).await {
            Ok(Loaded::NoTarget) => None,
            Ok(Loaded::Target(target)) => Some(target),
            Ok(Loaded::Missing) => {
                tracing::info!("The job's target no longer exists; completing the job");
                return Some(Outcome::Complete);
            }
            Err(error) => {
                tracing::warn!(%error, "Could not load the job's target; releasing the job");
                runner.health.record_failure();
                return Some(Outcome::Release);
            }
        };
        self.run_steps(job, &kind, target).await
    }

    /// Resolves when the attempt has to end.
    fn interruption(&self, timeout: Duration) -> impl Future<Output = Interruption> + Send + use<> {
        let lease = self.lease.clone();
        let kill = self.runner.kill.clone();
        async move {
            let deadline_passes = async {
                // Each renewal extends the deadline.
                while let remaining = lease.deadline.remaining()
                    && !remaining.is_zero()
                {
                    tokio::time::sleep(remaining).await;
                }
            };
            tokio::select! {
                () = lease.lost.cancelled() => Interruption::LeaseLost,
                () = deadline_passes => Interruption::Released,
                () = kill.cancelled() => Interruption::Released,
                () = tokio::time::sleep(timeout) => {
                    lease.timed_out.store(true, Ordering::Relaxed);
                    Interruption::TimedOut
                }
            }
        }
    }

    async fn cancel(&self, job: &Job) -> Option<Outcome> {
        let failure = JobFailure::permanent(ErrorCode::Cancelled, "cancelled on request");
        self.end_outside_steps(job, failure, |error| Outcome::Cancel { error })
            .await
    }

    /// Ends a job for a reason outside its steps. Its open steps fail in the same transaction as their tenant's state:
    /// no document waits for an attempt that will not come.
    async fn end_outside_steps(
        &self,
        job: &Job,
        failure: JobFailure,
        outcome: impl FnOnce(JobFailure) -> Outcome,
    ) -> Option<Outcome> {
        let ctx = &self.runner.ctx;
        let now = ctx.store.now();
        let token = self.lease.token;
        let written = ctx
            .store
            .transaction((ctx, job, &failure), |session, (ctx, job, failure)| {
                async move {
                    if !ctx.jobs.fence(session, job.id, token, now).await? {
                        return Err(TransactionError::Aborted(()));
                    }
                    ctx.jobs.fail_open_steps(session, job, failure, now).await?;
                    Ok(())
                }
                .boxed()
            })
            .await;
        match written {
            Ok(()) => Some(outcome(failure)),
            Err(TransactionError::Aborted(())) => None,
            Err(TransactionError::Store(error)) => {
                tracing::warn!(%error, "Could not record how the job ended; releasing it");
                self.runner.health.record_failure();
                Some(Outcome::Release)
            }
        }
    }
}
