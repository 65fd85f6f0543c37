//! One attempt of one job, from the claim to its settlement.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock, atomic::Ordering},
    time::Duration,
};

use bson::DateTime;
use dezky_shared::{
    clients::{Mode, Trust},
    failure::ErrorCode,
    job::{Attempt, Job, JobFailure, Step},
    reconnect::Pace,
    store::{Abort, StoreError},
    tenant::{Intent, Tenant},
    trace,
};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, oneshot},
    time::Instant,
};
use tracing::Instrument as _;

use super::{
    Engine,
    backend::Claimed,
    bulk,
    decide::decide,
    gate::Pass,
    lease::HeldJob,
    record::{Holder, Recorded},
    settle::{Outcome, Settlement},
    step::StepEnd,
};
use crate::{
    metrics,
    work::{StepOf, StepRun, Steps},
};

/// Why an attempt ends before its steps have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CutOff {
    /// The job is somebody else's: nothing more is written.
    Lost,
    /// The lease can be trusted no more, or the worker stops.
    Released,
    /// It took too long.
    TimedOut,
}

/// A step that runs in this attempt.
struct RunningStep {
    index: usize,
    step: StepOf,
    trust: Trust,
    /// Set once its upstream's gate let it through.
    admitted: Arc<OnceLock<Pass>>,
}

/// Keeps others from running beside a job that a worker may have died of.
enum Turn {
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
            trace::continue_from(&span, traceparent);
        }
        async {
            let began = Instant::now();
            let attempt = Running {
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
                pace: Pace::default(),
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
        held: &HeldJob,
        began: DateTime,
        outcome: &Outcome,
        request_ids: Vec<String>,
    ) -> Attempt {
        Attempt {
            n: job.tries(),
            worker: self.worker.clone(),
            started_at: began,
            finished_at: self.ctx.store.now(),
            outcome: if held.abandoned.load(Ordering::Relaxed) {
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

    async fn take_turn(&self, suspect: bool) -> Turn {
        if suspect {
            Turn::Alone {
                _turn: self.turns.clone().write_owned().await,
            }
        } else {
            Turn::Shared {
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
    _turn: Option<Turn>,
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
struct Running {
    engine: Arc<Engine>,
    held: Arc<HeldJob>,
    /// The trust of each step that ran, with the ids of its requests.
    trusts: Vec<Trust>,
    request_ids: Vec<String>,
    /// Whether a step was begun.
    tried: bool,
}

impl Running {
    /// Runs the job's steps. `None` if the lease was lost.
    async fn attempt(mut self, job: &mut Job) -> Option<Ended> {
        let engine = self.engine.clone();
        let turn = tokio::select! {
            turn = engine.take_turn(job.crashes > 0) => turn,
            cut = self.cut_off(Duration::MAX) => {
                return (cut != CutOff::Lost).then(Ended::released);
            }
        };
        // What kills before the first renewal would never be counted.
        if job.rescued {
            let marked = engine.mark_started(job.id, self.held.token);
            match bulk::in_time(engine.times.bulk_deadline, marked).await {
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
            let failure = JobFailure::for_good(ErrorCode::GaveUp, &detail);
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
                at: dezky_shared::clock::later(now, engine.times.lease),
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
        align(&mut job.steps, &steps.0);
        self.run_steps(job, &steps, tenant).await
    }

    /// The tenant as it is now, after the claim: an intent that joined this job before it is seen here.
    async fn read_tenant(
        &self,
        job: &Job,
        now: DateTime,
    ) -> Result<Option<(Arc<Tenant>, Intent)>, StoreError> {
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

    async fn run_steps(
        &mut self,
        job: &mut Job,
        steps: &Steps,
        tenant: Option<(Arc<Tenant>, Intent)>,
    ) -> Option<Outcome> {
        let engine = &self.engine.clone();
        let (running, mut tasks) = self.begin_steps(job, &steps.0, tenant.as_ref());
        let mut holder = Holder {
            id: job.id,
            token: self.held.token,
            is_outdated: false,
            tenant: tenant
                .as_ref()
                .filter(|_| job.writes_tenant() && steps.write_tenant())
                .cloned(),
        };
        let mut seen = Seen::default();
        let mut unfinished = running;
        let mut ended: Vec<StepEnd> = Vec::new();
        let mut recording: Option<BoxFuture<'_, Written>> = None;
        let mut attempt_ends = Box::pin(self.cut_off(engine.times.attempt_timeout));
        let cut = loop {
            // Steps that end while others are being written are written together, by the next write. Where no
            // tenant looks on, the last are left to the settlement.
            if recording.is_none()
                && !ended.is_empty()
                && (holder.tenant.is_some() || !tasks.is_empty())
            {
                recording = Some(
                    write(
                        engine,
                        &self.held,
                        holder.clone(),
                        job.steps.clone(),
                        std::mem::take(&mut ended),
                    )
                    .boxed(),
                );
            }
            if recording.is_none() && tasks.is_empty() {
                break None;
            }
            tokio::select! {
                Some(end) = tasks.next(), if !tasks.is_empty() => {
                    unfinished.retain(|step| step.index != end.index);
                    seen.charged |= end.charged;
                    self.tried |= end.tried;
                    ended.push(end);
                }
                written = in_progress(&mut recording) => {
                    recording = None;
                    if !seen.note(written, job, &mut holder) {
                        break Some(CutOff::Lost);
                    }
                }
                cut = &mut attempt_ends => break Some(cut),
            }
        };
        drop(tasks);
        for step in &self.trusts {
            self.request_ids.extend(step.request_ids());
        }

        if let Some(cut) = cut {
            if cut == CutOff::Lost {
                return None;
            }
            if let Some(recording) = recording
                && !seen.note(recording.await, job, &mut holder)
            {
                return None;
            }
            let timed_out = cut == CutOff::TimedOut;
            if timed_out {
                for step in &unfinished {
                    if let (Some(upstream), Some(pass)) = (step.step.upstream, step.admitted.get())
                    {
                        engine.note_timeout(upstream, *pass).await;
                    }
                }
            }
            ended.extend(unfinished.iter().filter_map(|step| {
                let before = job.steps[step.index].clone();
                engine.cut_off(step.index, &step.step, job, before, &step.trust, timed_out)
            }));
            seen.charged |= timed_out;
            self.tried |= ended.iter().any(|end| end.tried);
            if !ended.is_empty() {
                let written =
                    write(engine, &self.held, holder.clone(), job.steps.clone(), ended).await;
                if !seen.note(written, job, &mut holder) {
                    return None;
                }
            }
        } else {
            apply(&mut job.steps, &ended);
        }
        self.settle_as(job, cut, seen).await
    }

    async fn settle_as(&self, job: &Job, cut: Option<CutOff>, seen: Seen) -> Option<Outcome> {
        if seen.outdated {
            return Some(Outcome::Restart);
        }
        let cancelled = seen.cancel_requested || self.held.cancel_requested.load(Ordering::Relaxed);
        if cancelled && !job.steps.iter().all(|step| step.state.is_done()) {
            return self.cancel(job).await;
        }
        if cut == Some(CutOff::Released) {
            return Some(Outcome::Release);
        }
        Some(decide(
            &job.steps,
            seen.charged,
            self.engine.ctx.store.now(),
        ))
    }

    fn begin_steps(
        &mut self,
        job: &Job,
        steps: &[StepOf],
        tenant: Option<&(Arc<Tenant>, Intent)>,
    ) -> (
        Vec<RunningStep>,
        FuturesUnordered<BoxFuture<'static, StepEnd>>,
    ) {
        let snapshot = Arc::new(job.clone());
        let mode = if job.is_dry_run() {
            Mode::DryRun
        } else {
            Mode::Apply
        };
        let now = self.engine.ctx.store.now();
        let mut running = Vec::new();
        let tasks = FuturesUnordered::new();
        for (index, step) in steps.iter().enumerate() {
            let before = job.steps[index].clone();
            if before.state.is_done()
                || before.is_hopeless()
                || before.next_at.is_some_and(|at| at > now)
            {
                continue;
            }
            let trust = self.held.trust.for_step();
            self.trusts.push(trust.clone());
            let admitted = Arc::new(OnceLock::new());
            running.push(RunningStep {
                index,
                step: step.clone(),
                trust: trust.clone(),
                admitted: admitted.clone(),
            });
            let run = StepRun {
                ctx: self.engine.ctx.clone(),
                job: snapshot.clone(),
                tenant: tenant.cloned(),
                trust,
                mode,
                hand_back_at: Instant::now() + self.engine.times.attempt_timeout / 2,
            };
            tasks.push(
                self.engine
                    .clone()
                    .run_step(index, step.clone(), run, before, admitted)
                    .boxed(),
            );
        }
        (running, tasks)
    }

    /// Ends when the attempt has to.
    fn cut_off(&self, timeout: Duration) -> impl Future<Output = CutOff> + Send + use<> {
        let held = self.held.clone();
        let kill = self.engine.kill.clone();
        async move {
            let trust_ends = async {
                // The trust grows with each renewal.
                while let left = held.trust.left()
                    && !left.is_zero()
                {
                    tokio::time::sleep(left).await;
                }
            };
            tokio::select! {
                () = held.lost.cancelled() => CutOff::Lost,
                () = trust_ends => CutOff::Released,
                () = kill.cancelled() => CutOff::Released,
                () = tokio::time::sleep(timeout) => {
                    held.abandoned.store(true, Ordering::Relaxed);
                    CutOff::TimedOut
                }
            }
        }
    }

    async fn cancel(&self, job: &Job) -> Option<Outcome> {
        let failure = JobFailure::for_good(ErrorCode::Cancelled, "cancelled by a person");
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
                        if !jobs.touch(session, job.id, token, now).await? {
                            return Err(Abort::Because(()));
                        }
                        engine
                            .ctx
                            .jobs
                            .close_open_steps(session, job, failure, now)
                            .await?;
                        Ok(())
                    }
                    .boxed()
                },
            )
            .await;
        match told {
            Ok(()) => Some(outcome(failure)),
            Err(Abort::Because(())) => None,
            Err(Abort::Store(error)) => {
                tracing::warn!(%error, "Could not tell the tenant how the job ended");
                engine.database_failed();
                Some(Outcome::Release)
            }
        }
    }
}

/// What the attempt has seen so far.
#[derive(Debug, Default)]
struct Seen {
    charged: bool,
    cancel_requested: bool,
    outdated: bool,
}

/// What came of writing down how steps ended, and the steps as they are then.
struct Written {
    recorded: Recorded,
    steps: Vec<Step>,
}

impl Seen {
    /// Takes over what was written. Nothing else may be settled: the tenant would not know of it. False if the
    /// lease was lost.
    fn note(&mut self, written: Written, job: &mut Job, holder: &mut Holder) -> bool {
        match written.recorded {
            Recorded::Lost => return false,
            Recorded::Written {
                cancel_requested,
                tenant: now,
            } => {
                self.cancel_requested |= cancel_requested;
                if let (Some((tenant, _)), Some(now)) = (&mut holder.tenant, now) {
                    *tenant = now;
                }
            }
            Recorded::Outdated { cancel_requested } => {
                self.cancel_requested |= cancel_requested;
                self.outdated = true;
                holder.is_outdated = true;
            }
        }
        job.steps = written.steps;
        true
    }
}

/// Writes until it is written, or the lease is found to be lost: a step's end that was forgotten might be a write
/// upstream whose outcome nobody knows.
async fn write(
    engine: &Engine,
    held: &HeldJob,
    holder: Holder,
    mut steps: Vec<Step>,
    ends: Vec<StepEnd>,
) -> Written {
    apply(&mut steps, &ends);
    let mut pace = Pace::default();
    loop {
        let recorded = engine.record(holder.clone(), steps.clone(), ends.clone());
        match recorded.await {
            Ok(recorded) => return Written { recorded, steps },
            Err(error) => {
                tracing::warn!(%error, "Could not record how a step ended; trying again");
                if held.lost.is_cancelled() {
                    let recorded = Recorded::Lost;
                    return Written { recorded, steps };
                }
                engine.database_failed();
                tokio::time::sleep(pace.delay()).await;
            }
        }
    }
}

async fn in_progress<T>(future: &mut Option<BoxFuture<'_, T>>) -> T {
    match future {
        Some(future) => Pin::new(future).await,
        None => std::future::pending().await,
    }
}

fn apply(steps: &mut [Step], ends: &[StepEnd]) {
    for end in ends {
        steps[end.index] = end.step.clone();
    }
}

/// Brings the stored steps in line with those of the kind, which a newer build may have changed.
fn align(stored: &mut Vec<Step>, steps: &[StepOf]) {
    let aligned = steps.iter().map(|step| {
        let known = stored.iter().find(|stored| stored.name == step.name);
        known.cloned().unwrap_or_else(|| Step::pending(step.name))
    });
    *stored = aligned.collect();
}
