//! One attempt of one job, from the claim to its settlement.

mod steps;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bson::DateTime;
use dezky_shared::{
    platform::{backoff::ReconnectBackoff, clock, trace},
    queue::{
        error_code::ErrorCode,
        job::{Attempt, Job, JobFailure},
    },
    store::{StoreError, TransactionError, is_unavailable},
};
use dezky_upstreams::clients::LeaseDeadline;
use futures::FutureExt as _;
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    EngineTimings,
    admission::Admission,
    bulk,
    claim::Claimed,
    database_health::DatabaseHealth,
    isolation::{Isolation, IsolationGuard},
    lease::LeasedJob,
    record::StepRecorder,
    renewal::LeaseRenewer,
    settle::{Outcome, Settlement, Settler, releases_in_a_row},
    slots::Slot,
    step::StepRunner,
};
use crate::{
    context::Context,
    metrics, retry_delay,
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
    pub(super) isolation: Isolation,
    /// Cancels the attempts that outlive the drain.
    pub(super) kill: CancellationToken,
}

/// Reason why an attempt ends before its steps do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interruption {
    /// Another worker holds the lease: nothing more is written.
    LeaseLost,
    /// The lease deadline has passed, or the worker stops.
    Released,
    /// The attempt timeout has passed.
    TimedOut,
    /// Steps could not be recorded, for a reason that remains in a repetition.
    Unrecorded,
}

/// The result of an attempt, to be settled.
struct Ended {
    outcome: Outcome,
    request_ids: Vec<String>,
    /// Whether a step was attempted.
    attempted: bool,
    /// Of a suspect.
    _isolation: Option<IsolationGuard>,
}

impl Ended {
    /// Ended before any step was attempted.
    fn not_attempted(outcome: Outcome) -> Self {
        Self {
            outcome,
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
        let Claimed { claim, lease, slot } = claimed;
        let mut job = claim.job;
        let slot = Self::keep_slot(&job, slot);
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
            scheduled: job.is_scheduled(),
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
            permit: slot.map(Slot::free),
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

    /// Releases a job that a store error keeps from running, uncharged. The delay grows with each release in a row: a
    /// document that cannot be read does not make its job spin, and a newer build may read it.
    fn postpone(&self, job: &Job, error: &StoreError) -> Outcome {
        self.health.record_error(error);
        let releases = releases_in_a_row(&job.attempts).saturating_add(1);
        let (base, cap) = (self.times.retry_base, job.queue.max_backoff());
        let wait = retry_delay::delay(releases, base, cap, rand::random_range(0.5..1.0));
        let is_own = !is_unavailable(error);
        Outcome::Postpone {
            at: clock::later(self.ctx.store.now(), wait),
            error: is_own.then(|| JobFailure {
                retryable: true,
                ..JobFailure::permanent(ErrorCode::Internal, &error.kind.to_string())
            }),
        }
    }

    /// Puts off a suspect while another has its turn.
    fn await_turn(&self, job: &Job) -> Outcome {
        let wait = self.times.isolation_wait;
        let wait = wait.mul_f64(rand::random_range(0.5..1.5));
        Outcome::Snooze {
            at: clock::later(self.ctx.store.now(), wait),
            error: job.error.clone(),
        }
    }

    /// The slot of a job. A suspect gives its slot back, and runs in that of the suspects.
    fn keep_slot(job: &Job, slot: Slot) -> Option<Slot> {
        (job.crashes == 0).then_some(slot)
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
            guard = runner.isolation.admit(job.crashes) => guard,
            interruption = self.interruption(Duration::MAX) => {
                return (interruption != Interruption::LeaseLost)
                    .then(|| Ended::not_attempted(Outcome::Release));
            }
        };
        let Some(isolation) = isolation else {
            return Some(Ended::not_attempted(runner.await_turn(job)));
        };
        // Otherwise a job that crashes its worker before the first renewal would never be counted.
        if job.rescued {
            let marked = runner.renewer.mark_started(job.id, self.lease.token);
            match bulk::with_timeout(runner.times.bulk_deadline, marked).await {
                Ok(true) => (),
                Ok(false) => return None,
                Err(error) => {
                    tracing::warn!(%error, "Could not mark the job as started; releasing it");
                    return Some(Ended::not_attempted(runner.postpone(job, &error)));
                }
            }
        }
        self.lease.started.store(true, Ordering::Relaxed);
        let outcome = self.work(job).await?;
        Some(Ended {
            outcome,
            request_ids: self.request_ids,
            attempted: self.attempted,
            _isolation: isolation.of_suspect(),
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
                at: clock::later(now, runner.times.lease),
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
                return Some(runner.postpone(job, &error));
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
                Some(self.runner.postpone(job, &error))
            }
        }
    }
}
