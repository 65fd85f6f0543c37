//! The steps of one attempt, side by side: beginning them, writing down how they end, and cutting off what has not.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock, atomic::Ordering},
};

use dezky_shared::{
    platform::backoff::ReconnectBackoff,
    queue::job::{Job, Step},
    tenant::{DesiredState, Tenant},
};
use dezky_upstreams::clients::{LeaseDeadline, Mode};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::Instant;

use super::{AttemptRun, Interruption};
use crate::{
    engine::{
        Engine,
        admission::Permit,
        lease::LeasedJob,
        outcome::outcome_of,
        record::{LeaseHolder, RecordResult},
        settle::Outcome,
        step::StepEnd,
    },
    steps::{StepContext, StepSpec, Steps},
};

/// A step that runs in this attempt.
struct RunningStep {
    index: usize,
    step: StepSpec,
    trust: LeaseDeadline,
    /// Set once its upstream's gate let it through.
    admitted: Arc<OnceLock<Permit>>,
}

impl AttemptRun {
    /// Runs the steps that are due. `None` if the lease was lost.
    pub(super) async fn run_steps(
        &mut self,
        job: &mut Job,
        steps: &Steps,
        tenant: Option<(Arc<Tenant>, DesiredState)>,
    ) -> Option<Outcome> {
        reconcile_steps(&mut job.steps, &steps.0);
        let engine = &self.engine.clone();
        let (running, mut tasks) = self.begin_steps(job, &steps.0, tenant.as_ref());
        let mut holder = LeaseHolder {
            id: job.id,
            token: self.held.token,
            is_outdated: false,
            tenant: tenant
                .as_ref()
                .filter(|_| job.reports_to_tenant() && steps.write_tenant())
                .cloned(),
        };
        let mut seen = AttemptState::default();
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
                        break Some(Interruption::Lost);
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
            if cut == Interruption::Lost {
                return None;
            }
            if let Some(recording) = recording
                && !seen.note(recording.await, job, &mut holder)
            {
                return None;
            }
            let timed_out = cut == Interruption::TimedOut;
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

    async fn settle_as(
        &self,
        job: &Job,
        cut: Option<Interruption>,
        seen: AttemptState,
    ) -> Option<Outcome> {
        if seen.outdated {
            return Some(Outcome::Restart);
        }
        let cancelled = seen.cancel_requested || self.held.cancel_requested.load(Ordering::Relaxed);
        if cancelled && !job.steps.iter().all(|step| step.state.is_done()) {
            return self.cancel(job).await;
        }
        if cut == Some(Interruption::Released) {
            return Some(Outcome::Release);
        }
        Some(outcome_of(
            &job.steps,
            seen.charged,
            self.engine.ctx.store.now(),
        ))
    }

    fn begin_steps(
        &mut self,
        job: &Job,
        steps: &[StepSpec],
        tenant: Option<&(Arc<Tenant>, DesiredState)>,
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
                || before.is_permanently_failed()
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
            let run = StepContext {
                ctx: self.engine.ctx.clone(),
                job: snapshot.clone(),
                tenant: tenant.cloned(),
                trust,
                mode,
                yield_after: Instant::now() + self.engine.times.attempt_timeout / 2,
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
}

/// What the attempt has seen so far.
#[derive(Debug, Default)]
struct AttemptState {
    charged: bool,
    cancel_requested: bool,
    outdated: bool,
}

/// What came of writing down how steps ended, and the steps as they are then.
struct Written {
    recorded: RecordResult,
    steps: Vec<Step>,
}

impl AttemptState {
    /// Takes over what was written. Nothing else may be settled: the tenant would not know of it. False if the
    /// lease was lost.
    fn note(&mut self, written: Written, job: &mut Job, holder: &mut LeaseHolder) -> bool {
        match written.recorded {
            RecordResult::Lost => return false,
            RecordResult::Written {
                cancel_requested,
                tenant: now,
            } => {
                self.cancel_requested |= cancel_requested;
                if let (Some((tenant, _)), Some(now)) = (&mut holder.tenant, now) {
                    *tenant = now;
                }
            }
            RecordResult::Outdated { cancel_requested } => {
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
    held: &LeasedJob,
    holder: LeaseHolder,
    mut steps: Vec<Step>,
    ends: Vec<StepEnd>,
) -> Written {
    apply(&mut steps, &ends);
    let mut pace = ReconnectBackoff::default();
    loop {
        let recorded = engine.record(holder.clone(), steps.clone(), ends.clone());
        match recorded.await {
            Ok(recorded) => return Written { recorded, steps },
            Err(error) => {
                tracing::warn!(%error, "Could not record how a step ended; trying again");
                if held.lost.is_cancelled() {
                    let recorded = RecordResult::Lost;
                    return Written { recorded, steps };
                }
                engine.database_failed();
                tokio::time::sleep(pace.next_delay()).await;
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
fn reconcile_steps(stored: &mut Vec<Step>, steps: &[StepSpec]) {
    let aligned = steps.iter().map(|step| {
        let known = stored.iter().find(|stored| stored.name == step.name);
        known.cloned().unwrap_or_else(|| Step::pending(step.name))
    });
    *stored = aligned.collect();
}
