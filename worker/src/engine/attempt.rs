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
    store::{StoreError, TransactionError},
    tenant::{DesiredState, Tenant},
};
use dezky_upstreams::clients::LeaseDeadline;
use futures::FutureExt as _;
use tokio::{
    sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, oneshot},
    time::Instant,
};
use tracing::Instrument as _;

use super::{
    Engine,
    apalis_backend::Claimed,
    bulk,
    lease::LeasedJob,
    settle::{Outcome, Settlement},
};
use crate::metrics;

/// Why an attempt ends before its steps have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interruption {
    /// The job is somebody else's: nothing more is written.
    Lost,
    /// The lease can be trusted no more, or the worker stops.
    Released,
    /// It took too long.
    TimedOut,
}

/// Keeps others from running beside a job that a worker may have died of.
enum IsolationGuard {
    Shared { _turn: OwnedRwLockReadGuard<()> },
    Alone { _turn: OwnedRwLockWriteGuard<()> },
}

impl Engine {
    /// Runs a claimed job and settles it.
    pub(crate) async fn run(self: Arc<Self>, claimed: Claimed) {
        let Claimed {
            claim,
            held,
            permit,
        } = claimed;
        let mut job = claim.job;
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
        async {
            let began = Instant::now();
            let attempt = AttemptRun {
                engine: self.clone(),
                held: held.clone(),
                trusts: Vec::new(),
                request_ids: Vec::new(),
                tried: false,
            };
            let Some(ended) = attempt.attempt(&mut job).await else {
                tracing::warn!("The lease was lost; whoever has it now goes on");
                metrics::lease_lost();
                return;
            };
            let Ended {
                outcome,
                request_ids,
                tried,
                // A suspect that began before this is settled would take it along.
                _turn,
            } = ended;
            let attempt = self.describe(&job, &held, claim.claimed_at, &outcome, request_ids);
            if self.registry.steps(&job.kind).is_some() {
                let failure = outcome.error().map(|error| error.class);
                metrics::attempted(&job.kind, &attempt.outcome, failure, began.elapsed());
            }
            let (done, settled) = oneshot::channel();
            let settlement = Settlement {
                id: job.id,
                tenant_id: job.tenant_id,
                queue: job.queue,
                lock_key: job.lock_key.clone(),
                unique_key: job.unique_key.clone(),
                priority: job.priority,
                attempt,
                held,
                steps: job.steps,
                outcome,
                tried,
                permit,
                done,
                pace: ReconnectBackoff::default(),
            };
            // Both fail only when the process ends; then the lease runs out and the job is rescued.
            if self.settlements.send(settlement).await.is_ok() {
                let _ = settled.await;
            }
        }
        .instrument(span)
        .await;
    }

    fn describe(
        &self,
        job: &Job,
        held: &LeasedJob,
        began: DateTime,
        outcome: &Outcome,
        request_ids: Vec<String>,
    ) -> Attempt {
        Attempt {
            n: job.total_attempts(),
            worker: self.worker.clone(),
            started_at: began,
            finished_at: self.ctx.store.now(),
            outcome: if held.timed_out.load(Ordering::Relaxed) {
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

    async fn take_turn(&self, suspect: bool) -> IsolationGuard {
        if suspect {
            IsolationGuard::Alone {
                _turn: self.turns.clone().write_owned().await,
            }
        } else {
            IsolationGuard::Shared {
                _turn: self.turns.clone().read_owned().await,
            }
        }
    }
}

/// How an attempt ended.
struct Ended {
    outcome: Outcome,
    request_ids: Vec<String>,
    tried: bool,
    _turn: Option<IsolationGuard>,
}

impl Ended {
    /// Before anything was tried.
    fn released() -> Self {
        Self {
            outcome: Outcome::Release,
            request_ids: Vec::new(),
            tried: false,
            _turn: None,
        }
    }
}

/// An attempt under way.
struct AttemptRun {
    engine: Arc<Engine>,
    held: Arc<LeasedJob>,
    /// The trust of each step that ran, with the ids of its requests.
    trusts: Vec<LeaseDeadline>,
    request_ids: Vec<String>,
    /// Whether a step was begun.
    tried: bool,
}

impl AttemptRun {
    /// Runs the job's steps. `None` if the lease was lost.
    async fn attempt(mut self, job: &mut Job) -> Option<Ended> {
        let engine = self.engine.clone();
        let turn = tokio::select! {
            turn = engine.take_turn(job.crashes > 0) => turn,
            cut = self.cut_off(Duration::MAX) => {
                return (cut != Interruption::Lost).then(Ended::released);
            }
        };
        // What kills before the first renewal would never be counted.
        if job.rescued {
            let marked = engine.mark_started(job.id, self.held.token);
            match bulk::with_timeout(engine.times.bulk_deadline, marked).await {
                Ok(true) => (),
                Ok(false) => return None,
                Err(error) => {
                    tracing::warn!(%error, "Could not say that the job starts; giving it back");
                    engine.database_failed();
                    return Some(Ended::released());
                }
            }
        }
        self.held.started.store(true, Ordering::Relaxed);
        let outcome = self.work(job).await?;
        Some(Ended {
            outcome,
            request_ids: self.request_ids,
            tried: self.tried,
            _turn: Some(turn),
        })
    }

    async fn work(&mut self, job: &mut Job) -> Option<Outcome> {
        let engine = self.engine.clone();
        let now = engine.ctx.store.now();
        if job.give_up_at.is_some_and(|give_up_at| give_up_at <= now) {
            let detail = job
                .error
                .as_ref()
                .map_or_else(|| "no try succeeded".to_owned(), |last| last.detail.clone());
            let failure = JobFailure::permanent(ErrorCode::GaveUp, &detail);
            return self
                .end_outside_steps(job, failure, |error| Outcome::Discard { error })
                .await;
        }
        if job.cancel_requested == Some(true) {
            // Asked for while it ran last, when nobody looked any more.
            return self.cancel(job).await;
        }
        let Some(steps) = engine.registry.steps(&job.kind).cloned() else {
            // Written by a newer build, whose workers will take it.
            tracing::warn!("This build does not know the kind of this job; leaving it alone");
            metrics::unknown_kind();
            return Some(Outcome::Snooze {
                at: dezky_shared::platform::clock::later(now, engine.times.lease),
                error: None,
            });
        };
        let tenant = match self.read_tenant(job, now).await {
            Ok(tenant) => tenant,
            Err(error) => {
                tracing::warn!(%error, "Could not read the tenant");
                engine.database_failed();
                return Some(Outcome::Release);
            }
        };
        if job.tenant_id.is_some() && tenant.is_none() {
            tracing::info!("The tenant does not exist; there is nothing to do");
            return Some(Outcome::Complete);
        }
        self.run_steps(job, &steps, tenant).await
    }

    /// The tenant as it is now, after the claim: an intent that joined this job before it is seen here.
    async fn read_tenant(
        &self,
        job: &Job,
        now: DateTime,
    ) -> Result<Option<(Arc<Tenant>, DesiredState)>, StoreError> {
        let Some(id) = job.tenant_id else {
            return Ok(None);
        };
        let tenant = self.engine.ctx.tenants.find(id).await?;
        Ok(tenant.map(|tenant| {
            // Our reading of MongoDB's clock may be a little behind the one that made the job due.
            let intent = tenant.intent(now.max(job.run_at));
            (Arc::new(tenant), intent)
        }))
    }

    /// Ends when the attempt has to.
    fn cut_off(&self, timeout: Duration) -> impl Future<Output = Interruption> + Send + use<> {
        let held = self.held.clone();
        let kill = self.engine.kill.clone();
        async move {
            let trust_ends = async {
                // The trust grows with each renewal.
                while let left = held.trust.remaining()
                    && !left.is_zero()
                {
                    tokio::time::sleep(left).await;
                }
            };
            tokio::select! {
                () = held.lost.cancelled() => Interruption::Lost,
                () = trust_ends => Interruption::Released,
                () = kill.cancelled() => Interruption::Released,
                () = tokio::time::sleep(timeout) => {
                    held.timed_out.store(true, Ordering::Relaxed);
                    Interruption::TimedOut
                }
            }
        }
    }

    async fn cancel(&self, job: &Job) -> Option<Outcome> {
        let failure = JobFailure::permanent(ErrorCode::Cancelled, "cancelled by a person");
        self.end_outside_steps(job, failure, |error| Outcome::Cancel { error })
            .await
    }

    /// Ends a job for a reason that is none of its steps': its tenant must not wait for what will not come.
    async fn end_outside_steps(
        &self,
        job: &Job,
        failure: JobFailure,
        outcome: impl FnOnce(JobFailure) -> Outcome,
    ) -> Option<Outcome> {
        let engine = &self.engine;
        let now = engine.ctx.store.now();
        let token = self.held.token;
        let told = engine
            .ctx
            .store
            .transaction(
                (engine, job, &failure),
                |session, (engine, job, failure)| {
                    async move {
                        let jobs = &engine.ctx.jobs;
                        if !jobs.fence(session, job.id, token, now).await? {
                            return Err(TransactionError::Aborted(()));
                        }
                        engine
                            .ctx
                            .jobs
                            .fail_open_steps(session, job, failure, now)
                            .await?;
                        Ok(())
                    }
                    .boxed()
                },
            )
            .await;
        match told {
            Ok(()) => Some(outcome(failure)),
            Err(TransactionError::Aborted(())) => None,
            Err(TransactionError::Store(error)) => {
                tracing::warn!(%error, "Could not tell the tenant how the job ended");
                engine.database_failed();
                Some(Outcome::Release)
            }
        }
    }
}
