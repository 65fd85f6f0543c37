//! The items of a step, such as the members of a tenant: processed with bounded concurrency, and continued in another
//! attempt when this one runs out of time.
//!
//! A step takes as long as its tenant is large, and an attempt is limited. Every attempt therefore begins with the items
//! that are not in their desired state yet, and hands back with its progress once half of its time is used up. Only an
//! attempt without progress uses up the job's attempts.

use dezky_shared::{queue::job::Progress, upstream::Upstream};
use dezky_upstreams::clients::{ClientError, Mode};
use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::Instant;

use super::partial_failure::PartialFailures;
use crate::steps::{StepContext, StepFailure, StepSuccess, UpstreamRefs};

/// Items processed at a time.
const CONCURRENCY: usize = 8;

/// The work of one attempt on the items of a step.
pub(super) struct ItemWork<'a> {
    run: &'a StepContext,
    /// Changes made upstream so far.
    pub(super) changes: Vec<String>,
    /// Upstream ids found or created so far.
    pub(super) refs: UpstreamRefs,
    failures: PartialFailures,
    phase: Phase,
    /// Whether any item was brought to its desired state in this attempt.
    has_advanced: bool,
    /// Whether items are left for another attempt.
    unfinished: bool,
    /// Where the next attempt resumes, opaque to this module.
    pub(super) cursor: Option<String>,
}

/// The items that are processed now, for the progress.
#[derive(Default)]
struct Phase {
    /// What happens to the items, such as `members suspended`.
    note: &'static str,
    done: usize,
    total: usize,
}

impl<'a> ItemWork<'a> {
    /// The work of the step that converges `upstream`, with the cursor of the attempt before.
    pub(super) fn resume(run: &'a StepContext, upstream: Upstream) -> Self {
        let step = run.job.step(upstream.name());
        let progress = step.and_then(|step| step.progress.as_ref());
        Self {
            run,
            changes: Vec::new(),
            refs: UpstreamRefs::default(),
            failures: PartialFailures::default(),
            phase: Phase::default(),
            has_advanced: false,
            unfinished: false,
            cursor: progress.and_then(|progress| progress.cursor.clone()),
        }
    }

    /// Begins a phase with `total` items, of which `done` are in their desired state.
    pub(super) fn begin(&mut self, note: &'static str, done: usize, total: usize) {
        self.phase = Phase { note, done, total };
    }

    /// Counts items that were brought to their desired state.
    pub(super) fn advance(&mut self, items: usize) {
        self.phase.done += items;
        self.has_advanced |= items > 0;
    }

    /// Whether another item may be begun in this attempt: until half of its time is used up, and until there is progress.
    /// A dry run leaves no item for later, since it would never get there.
    pub(super) fn has_time(&self) -> bool {
        !self.has_advanced || self.run.mode == Mode::DryRun || Instant::now() < self.run.yield_after
    }

    /// Leaves the rest to another attempt.
    pub(super) fn leave_rest(&mut self) {
        self.unfinished = true;
    }

    /// Whether items are left for another attempt.
    pub(super) fn is_unfinished(&self) -> bool {
        self.unfinished
    }

    /// The value, or `None` for a captured failure of this item alone. A failure that would affect the next item too is
    /// returned, with the progress so far.
    pub(super) fn capture<T>(
        &mut self,
        result: Result<T, ClientError>,
    ) -> Result<Option<T>, StepFailure> {
        let captured = self.failures.capture(result);
        captured.map_err(|error| self.after_progress(error.into()))
    }

    /// Processes `items` in their order, several at a time, while there is time. Returns the number of items begun; all
    /// of them have ended.
    ///
    /// A failure that would affect the next item too ends the work once the items under way have ended: a write that is
    /// cut off would be in doubt.
    pub(super) async fn each<'i, T, F, W>(
        &mut self,
        items: &'i [T],
        work: F,
    ) -> Result<usize, StepFailure>
    where
        T: Sync,
        F: Fn(&'i T) -> W + Send,
        W: Future<Output = Result<Vec<String>, ClientError>> + Send,
    {
        let mut under_way = FuturesUnordered::new();
        let mut begun = 0;
        let mut failed: Option<ClientError> = None;
        loop {
            while failed.is_none()
                && begun < items.len()
                && under_way.len() < CONCURRENCY
                && self.has_time()
            {
                under_way.push(work(&items[begun]));
                begun += 1;
            }
            let Some(result) = under_way.next().await else {
                break;
            };
            match self.failures.capture(result) {
                Ok(Some(changes)) => {
                    self.changes.extend(changes);
                    self.advance(1);
                }
                Ok(None) => {}
                // A lost answer takes precedence, since it leaves a write in doubt.
                Err(error) => match failed {
                    Some(ClientError::AnswerLost(_)) => {}
                    _ => failed = Some(error),
                },
            }
        }
        if let Some(error) = failed {
            return Err(self.after_progress(error.into()));
        }
        self.unfinished |= begun < items.len();
        Ok(begun)
    }

    /// Fails with the captured failure, if any.
    pub(super) fn check_failures(&mut self) -> Result<(), StepFailure> {
        let finished = std::mem::take(&mut self.failures).finish();
        finished.map_err(|failure| self.after_progress(failure))
    }

    /// The result of the step: done for `reason`, a captured failure, or the continuation in another attempt, which meets
    /// the captured failures again.
    pub(super) fn finish(mut self, reason: &'static str) -> Result<StepSuccess, StepFailure> {
        if self.unfinished {
            let (now, progress) = (self.run.ctx.store.now(), self.progress());
            return Ok(StepSuccess::unfinished(
                now,
                progress,
                self.changes,
                self.refs,
            ));
        }
        self.check_failures()?;
        Ok(StepSuccess::ok(reason, self.changes, self.refs))
    }

    fn after_progress(&self, failure: StepFailure) -> StepFailure {
        StepFailure {
            progress: self.has_advanced.then(|| Box::new(self.progress())),
            ..failure
        }
    }

    fn progress(&self) -> Progress {
        let count = |items: usize| i64::try_from(items).unwrap_or(i64::MAX);
        Progress {
            done: count(self.phase.done),
            total: count(self.phase.total),
            note: self.phase.note.to_owned(),
            cursor: self.cursor.clone(),
        }
    }
}
