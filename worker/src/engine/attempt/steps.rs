//! The steps of one attempt, in parallel: starting them, recording how they end, and interrupting the rest.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock, atomic::Ordering},
    time::Duration,
};

use bson::DateTime;
use dezky_shared::{
    platform::{backoff::ReconnectBackoff, clock},
    queue::{
        error_code::ErrorCode,
        job::{Job, Step},
    },
    store::{StoreError, is_unavailable},
};
use dezky_upstreams::clients::Mode;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::Instant;

use super::{AttemptRun, AttemptRunner, Interruption};
use crate::{
    engine::{
        lease::LeasedJob,
        outcome::outcome_of,
        record::{LeaseHolder, RecordResult, Reporting},
        settle::Outcome,
        step::StepRun,
    },
    metrics,
    steps::{JobKind, StepContext, StepEnd, StepSpec, StepTarget},
};

type StepTasks = FuturesUnordered<BoxFuture<'static, StepEnd>>;

/// The state of an attempt while its steps run.
struct AttemptState {
    holder: LeaseHolder,
    /// The steps that have not ended.
    running: Vec<StepRun>,
    /// Ends that are not recorded yet.
    ended: Vec<StepEnd>,
    /// When these ends are recorded, although other steps are running.
    record_at: Option<Instant>,
    charged: bool,
    /// Whether a step is done since the attempt began.
    has_advanced: bool,
    cancel_requested: bool,
    /// Error of the last attempt to record ends.
    refused: Option<StoreError>,
    /// Until when a write may land whose end could not be recorded.
    in_doubt_until: Option<DateTime>,
}

impl AttemptState {
    /// Adds the end of a step, to be recorded within `window`.
    fn add(&mut self, end: StepEnd, window: Duration) {
        self.running.retain(|step| step.index != end.index);
        self.charged |= end.charged;
        self.has_advanced |= end.step.state.is_done();
        self.record_at
            .get_or_insert_with(|| Instant::now() + window);
        self.ended.push(end);
    }

    /// The ends to record now: those whose window is over, or if `all` steps have ended, those that are left.
    fn take_due(&mut self, all: bool) -> Option<Vec<StepEnd>> {
        let is_due = all || self.record_at.is_some_and(|at| at <= Instant::now());
        if self.ended.is_empty() || !is_due {
            return None;
        }
        self.record_at = None;
        Some(std::mem::take(&mut self.ended))
    }

    /// Takes over the recorded steps. The job is settled from recorded steps only, so that its target agrees.
    fn take_over(&mut self, written: Written, job: &mut Job) -> Result<(), Interruption> {
        match written.result {
            RecordResult::LeaseLost => return Err(Interruption::LeaseLost),
            RecordResult::Refused(error) => {
                self.refused = Some(error);
                self.in_doubt_until = self.in_doubt_until.max(written.in_doubt_until);
                return Err(Interruption::Unrecorded);
            }
            RecordResult::Written {
                cancel_requested,
                target,
            } => {
                self.cancel_requested |= cancel_requested;
                if let (Some(reporting), Some(target)) = (&mut self.holder.reporting, target) {
                    reporting.target = target;
                }
            }
            RecordResult::Outdated { cancel_requested } => {
                self.cancel_requested |= cancel_requested;
                self.holder.is_outdated = true;
            }
        }
        job.steps = written.steps;
        Ok(())
    }
}

/// The result of recording step ends, with the steps as recorded.
struct Written {
    result: RecordResult,
    steps: Vec<Step>,
    in_doubt_until: Option<DateTime>,
}

impl AttemptRun {
    /// Runs the steps that are due.
    pub(super) async fn run_steps(
        &mut self,
        job: &mut Job,
        kind: &JobKind,
        target: Option<Arc<dyn StepTarget>>,
    ) -> Option<Outcome> {
        let retry_at = clock::later(self.runner.ctx.store.now(), self.runner.times.lease);
        reconcile_steps(&mut job.steps, &kind.steps, retry_at);
        let (running, mut tasks) = self.begin_steps(job, &kind.steps, target.as_ref());
        let reporting = target
            .filter(|_| kind.sink.is_reported(job, kind))
            .map(|target| Reporting {
                sink: kind.sink.clone(),
                target,
            });
        let mut state = AttemptState {
            holder: LeaseHolder {
                id: job.id,
                token: self.lease.token,
                reporting,
                is_outdated: false,
            },
            running,
            ended: Vec::new(),
            record_at: None,
            charged: false,
            has_advanced: false,
            cancel_requested: false,
            refused: None,
            in_doubt_until: None,
        };
        let mut recording = None;
        let interruption = self
            .run_to_end(job, &mut state, &mut tasks, &mut recording)
            .await;
        drop(tasks);
        for deadline in &self.deadlines {
            self.request_ids.extend(deadline.request_ids());
        }
        match interruption {
            Some(Interruption::LeaseLost) => return None,
            Some(interruption) => {
                let taken_over = match recording {
                    Some(recording) => state.take_over(recording.await, job),
                    None => Ok(()),
                };
                if taken_over == Err(Interruption::LeaseLost) {
                    return None;
                }
                // After a refusal, too: the writes that are cut off are in doubt.
                let timed_out = interruption == Interruption::TimedOut;
                let ended = self.end_interrupted(job, &mut state, timed_out).await;
                if ended == Err(Interruption::LeaseLost) {
                    return None;
                }
            }
            None => apply(&mut job.steps, &state.ended),
        }
        if state.has_advanced {
            release_waiting(&mut job.steps, self.runner.ctx.store.now());
        }
        self.settle_as(job, interruption, &state).await
    }

    /// Records steps as they end, until all have or the attempt is interrupted.
    async fn run_to_end(
        &mut self,
        job: &mut Job,
        state: &mut AttemptState,
        tasks: &mut StepTasks,
        recording: &mut Option<BoxFuture<'static, Written>>,
    ) -> Option<Interruption> {
        let timeout = self.runner.times.attempt_timeout;
        let mut interruption = Box::pin(self.interruption(timeout));
        loop {
            // Steps that end shortly after each other, or during a record, are recorded together. If the job reports to
            // no target, the last are left to the settlement.
            if recording.is_none()
                && (state.holder.reporting.is_some() || !tasks.is_empty())
                && let Some(ends) = state.take_due(tasks.is_empty())
            {
                *recording = Some(self.record(job, state, ends));
            }
            if recording.is_none() && tasks.is_empty() {
                return None;
            }
            tokio::select! {
                Some(end) = tasks.next(), if !tasks.is_empty() => {
                    self.attempted |= end.attempted;
                    state.add(end, self.runner.times.sibling_window);
                }
                () = reached(state.record_at), if recording.is_none() => {}
                written = in_progress(recording) => {
                    *recording = None;
                    if let Err(interruption) = state.take_over(written, job) {
                        return Some(interruption);
                    }
                }
                interruption = &mut interruption => return Some(interruption),
            }
        }
    }

    /// Records the ends of interrupted steps.
    async fn end_interrupted(
        &mut self,
        job: &mut Job,
        state: &mut AttemptState,
        timed_out: bool,
    ) -> Result<(), Interruption> {
        if timed_out {
            for run in &state.running {
                if let (Some(upstream), Some(permit)) = (run.spec.upstream, run.permit.get()) {
                    self.runner
                        .admission
                        .record_timeout(upstream, *permit, &run.deadline)
                        .await;
                }
            }
        }
        let steps = &self.runner.steps;
        let mut ends = std::mem::take(&mut state.ended);
        ends.extend(state.running.iter().filter_map(|run| {
            // As recorded meanwhile.
            let before = job.steps[run.index].clone();
            let run = StepRun {
                before,
                ..run.clone()
            };
            steps.interrupted(&run, job, timed_out)
        }));
        state.charged |= timed_out;
        self.attempted |= ends.iter().any(|end| end.attempted);
        if !ends.is_empty() {
            let written = self.record(job, state, ends).await;
            state.take_over(written, job)?;
        }
        Ok(())
    }

    fn record(
        &self,
        job: &Job,
        state: &AttemptState,
        ends: Vec<StepEnd>,
    ) -> BoxFuture<'static, Written> {
        record(
            self.runner.clone(),
            self.lease.clone(),
            state.holder.clone(),
            job.steps.clone(),
            ends,
        )
        .boxed()
    }

    async fn settle_as(
        &self,
        job: &Job,
        interruption: Option<Interruption>,
        state: &AttemptState,
    ) -> Option<Outcome> {
        if let Some(error) = &state.refused {
            // The target does not show which writes are in doubt, so the lock is held until they have landed. Then the
            // steps are repeated.
            self.hold_until(state.in_doubt_until).await?;
            return Some(self.runner.postpone(job, error));
        }
        if state.holder.is_outdated {
            return Some(Outcome::Restart);
        }
        let cancelled =
            state.cancel_requested || self.lease.cancel_requested.load(Ordering::Relaxed);
        if cancelled && !job.steps.iter().all(|step| step.state.is_done()) {
            return self.cancel(job).await;
        }
        if interruption == Some(Interruption::Released) {
            return Some(Outcome::Release);
        }
        let now = self.runner.ctx.store.now();
        Some(outcome_of(&job.steps, state.charged, now))
    }

    /// Keeps the lease until this time. `None` if it is lost before.
    async fn hold_until(&self, until: Option<DateTime>) -> Option<()> {
        let now = self.runner.ctx.store.now();
        let wait = until.map_or(Duration::ZERO, |until| clock::until(now, until));
        tokio::select! {
            () = tokio::time::sleep(wait) => Some(()),
            () = self.lease.lost.cancelled() => None,
        }
    }

    fn begin_steps(
        &mut self,
        job: &Job,
        steps: &[StepSpec],
        target: Option<&Arc<dyn StepTarget>>,
    ) -> (Vec<StepRun>, StepTasks) {
        let runner = self.runner.clone();
        let snapshot = Arc::new(job.clone());
        let mode = if job.is_dry_run() {
            Mode::DryRun
        } else {
            Mode::Apply
        };
        let now = runner.ctx.store.now();
        let mut running = Vec::new();
        let tasks = FuturesUnordered::new();
        for (index, spec) in steps.iter().enumerate() {
            let before = job.steps[index].clone();
            if before.state.is_done()
                || before.is_permanently_failed()
                || before.next_at.is_some_and(|at| at > now)
            {
                continue;
            }
            let deadline = self.lease.deadline.for_step();
            self.deadlines.push(deadline.clone());
            let run = StepRun {
                index,
                spec: spec.clone(),
                before,
                deadline: deadline.clone(),
                permit: Arc::new(OnceLock::new()),
            };
            running.push(run.clone());
            let input = StepContext {
                ctx: runner.ctx.clone(),
                job: snapshot.clone(),
                target: target.cloned(),
                deadline,
                mode,
                yield_after: Instant::now() + runner.times.yield_after,
            };
            tasks.push(runner.steps.clone().run(run, input).boxed());
        }
        (running, tasks)
    }
}

/// Retries until MongoDB records or refuses the ends, or the lease is found to be lost: an end that is dropped may be that
/// of an in-doubt write.
async fn record(
    runner: Arc<AttemptRunner>,
    lease: Arc<LeasedJob>,
    holder: LeaseHolder,
    mut steps: Vec<Step>,
    ends: Vec<StepEnd>,
) -> Written {
    apply(&mut steps, &ends);
    let in_doubt_until = ends.iter().filter_map(|end| end.in_doubt_until).max();
    let mut backoff = ReconnectBackoff::default();
    loop {
        let recorded = runner
            .recorder
            .record(holder.clone(), steps.clone(), ends.clone());
        let result = match recorded.await {
            Ok(result) => result,
            Err(_) if lease.lost.is_cancelled() => RecordResult::LeaseLost,
            Err(error) if is_unavailable(&error) => {
                tracing::warn!(%error, "Could not record step results; retrying");
                runner.health.record_failure();
                tokio::time::sleep(backoff.next_delay()).await;
                continue;
            }
            Err(error) => {
                tracing::error!(%error, "MongoDB refused to record step results; releasing the job");
                RecordResult::Refused(error)
            }
        };
        return Written {
            result,
            steps,
            in_doubt_until,
        };
    }
}

/// Resolves at this time, if there is one.
async fn reached(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
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

/// Makes the steps due that found something not ready: another step of the job may have just provided it.
fn release_waiting(steps: &mut [Step], now: DateTime) {
    for step in steps {
        let error = step.error.as_ref();
        let is_waiting = error.is_some_and(|error| error.code == ErrorCode::UpstreamNotReady);
        if is_waiting && let Some(next_at) = &mut step.next_at {
            *next_at = now.min(*next_at);
            step.attempts = 0;
        }
    }
}

/// Aligns the stored steps with those of the kind, which come first. A step that is not registered is one of a newer build:
/// it is kept, and its next attempt put off to `retry_at`, so that the job waits for a worker that can run it.
fn reconcile_steps(stored: &mut Vec<Step>, steps: &[StepSpec], retry_at: DateTime) {
    let (mut known, mut unknown): (Vec<Step>, Vec<Step>) = std::mem::take(stored)
        .into_iter()
        .partition(|stored| steps.iter().any(|spec| spec.name == stored.name));
    for step in &mut unknown {
        if !step.state.is_done() && !step.is_permanently_failed() {
            tracing::warn!(
                step = step.name,
                "Unknown step; leaving it to a newer build"
            );
            metrics::unknown_kind();
            step.next_at = step.next_at.max(Some(retry_at));
        }
    }
    stored.extend(steps.iter().map(|spec| {
        let place = known.iter().position(|stored| stored.name == spec.name);
        place.map_or_else(
            || Step::pending(spec.name),
            |place| known.swap_remove(place),
        )
    }));
    stored.append(&mut unknown);
}
