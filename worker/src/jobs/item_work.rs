//! The items of a step, such as the members of a tenant: processed with bounded concurrency, and continued in another
//! attempt when this one runs out of time.
//!
//! A step takes as long as its tenant is large, and an attempt is limited. Every attempt therefore begins with the items
//! that are not in their desired state yet, and hands back with its progress once half of its time is used up. Only an
//! attempt without progress uses up the job's attempts.
//!
//! Whether some items are in their desired state can only be found out by calls. They are processed in a *pass*, in the
//! order of their keys, whose position is stored between attempts. A failure of one item does not stop the pass: it is
//! stored with the position, and fails the step at the end of the pass.
//!
//! Stored items that are read page by page are processed in a *scan*, which follows the pass: while it is incomplete, its
//! position says that the pass is complete.

use dezky_shared::{
    queue::{error_code::ErrorCode, job::Progress},
    store::{Decoded, id_text},
};
use dezky_upstreams::clients::{ClientError, Mode};
use futures::{StreamExt as _, stream::FuturesUnordered};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    partial_failure::{PartialFailures, StoredFailure},
    tenant::TenantRefs,
};
use crate::steps::{StepContext, StepFailure, StepSuccess};

/// Items processed at a time.
const CONCURRENCY: usize = 8;

/// The work of one attempt on the items of a step.
pub(super) struct ItemWork<'a> {
    run: &'a StepContext,
    /// Changes made upstream so far.
    pub(super) changes: Vec<String>,
    /// Upstream ids found or created so far.
    pub(super) refs: TenantRefs,
    failures: PartialFailures,
    phase: Phase,
    /// Whether any item was brought to its desired state in this attempt.
    has_advanced: bool,
    /// Whether items are left for another attempt.
    unfinished: bool,
    /// Whether an earlier attempt began the pass or the scan.
    resumed: bool,
    /// The key of the last item of the pass that is done, while the pass is incomplete.
    last_key: Option<i64>,
    /// The position of the scan, while it is incomplete.
    scan: Option<Scan>,
}

/// The position of a pass and of the scan after it, as stored in the progress.
#[derive(Serialize, Deserialize)]
struct Position {
    /// Digest of the state that the work converges to: a job of another state may have undone it. Settings that no
    /// upstream holds do not count, so that saving them does not start the work over.
    desired: Option<String>,
    #[serde(default)]
    last_key: Option<i64>,
    #[serde(default)]
    scan: Option<Scan>,
    /// The failure that was captured up to here.
    failure: Option<StoredFailure>,
}

/// The position of a scan.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Scan {
    /// The id of the last item that is done, if any.
    pub(super) last_id: Option<String>,
    /// Number of items that are done.
    done: usize,
}

/// The items that are processed now, for the progress.
#[derive(Default)]
struct Phase {
    /// Note of the progress, such as `members suspended`.
    note: &'static str,
    done: usize,
    total: usize,
}

impl<'a> ItemWork<'a> {
    /// The work of the step with this name, at the position of the attempt before.
    pub(super) fn resume(run: &'a StepContext, step: &str) -> Self {
        let step = run.job.step(step);
        let cursor = step.and_then(|step| step.progress.as_ref()?.cursor.as_deref());
        let position = cursor
            .and_then(|cursor| serde_json::from_str::<Position>(cursor).ok())
            .filter(|position| position.desired == desired(run));
        let resumed = position.is_some();
        let (last_key, scan, failure) = position.map_or((None, None, None), |position| {
            (position.last_key, position.scan, position.failure)
        });
        Self {
            run,
            changes: Vec::new(),
            refs: TenantRefs::default(),
            failures: PartialFailures::resume(failure),
            phase: Phase::default(),
            has_advanced: false,
            unfinished: false,
            resumed,
            last_key,
            scan,
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

    /// Whether another item may be begun in this attempt: until the time to yield, and until there is progress.
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

    /// Whether an earlier attempt began the pass, which this one continues.
    pub(super) fn continues_pass(&self) -> bool {
        self.last_key.is_some()
    }

    /// Whether an earlier attempt completed the pass, and this one continues the scan after it.
    pub(super) fn continues_scan(&self) -> bool {
        self.scan.is_some() && !self.continues_pass()
    }

    /// Whether an item has failed, in this attempt or earlier in the pass.
    pub(super) fn has_failures(&self) -> bool {
        self.failures.first().is_some()
    }

    /// Abandons the pass: another attempt begins anew.
    pub(super) fn start_over(&mut self) {
        self.last_key = None;
        self.scan = None;
        self.unfinished = true;
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

    /// Captures the failure of an item: the step goes on with the others, and fails at its end.
    pub(super) fn fail(&mut self, failure: StepFailure) {
        self.failures.add(failure);
    }

    /// The documents that can be decoded. Each of the others is an item that fails, of the given kind.
    pub(super) fn decodable<T>(&mut self, kind: &str, decoded: Decoded<T>) -> Vec<T> {
        for document in &decoded.undecodable {
            let id = document.get("_id").map(id_text).unwrap_or_default();
            let detail =
                format!("the {kind} {id} cannot be decoded: a newer build may have stored it");
            self.fail(StepFailure::new(ErrorCode::Internal, detail));
        }
        decoded.documents
    }

    /// Processes `items` in their order, several at a time, while there is time.
    ///
    /// A failure that would affect the next item too ends the work once the items under way have ended: a write that is
    /// cut off would be in doubt.
    pub(super) async fn each<'i, T, F, W>(
        &mut self,
        items: &'i [T],
        work: F,
    ) -> Result<(), StepFailure>
    where
        T: Sync,
        F: Fn(&'i T) -> W + Send,
        W: Future<Output = Result<Vec<String>, ClientError>> + Send,
    {
        let (_, failed) = self.run_each(items, work).await;
        failed.map_or(Ok(()), |error| Err(self.after_progress(error.into())))
    }

    /// Processes `items`, which are in the order of their keys, in a pass: like [`each`](Self::each), after those that
    /// earlier attempts processed.
    pub(super) async fn pass<'i, T, K, F, W>(
        &mut self,
        note: &'static str,
        items: &'i [T],
        key: K,
        work: F,
    ) -> Result<(), StepFailure>
    where
        T: Sync,
        K: Fn(&T) -> i64,
        F: Fn(&'i T) -> W + Send,
        W: Future<Output = Result<Vec<String>, ClientError>> + Send,
    {
        let before = self.last_key.map_or(0, |last_key| {
            items.partition_point(|item| key(item) <= last_key)
        });
        let (left, keys): (&[T], Vec<i64>) =
            (&items[before..], items[before..].iter().map(key).collect());
        self.begin(note, before, items.len());
        let (done, failed) = self.run_each(left, work).await;
        self.last_key = match done {
            _ if done == left.len() => None,
            0 => self.last_key,
            _ => Some(keys[done - 1]),
        };
        failed.map_or(Ok(()), |error| Err(self.after_progress(error.into())))
    }

    /// Begins a scan, or continues that of an earlier attempt. Returns its position.
    pub(super) fn begin_scan(&mut self) -> Scan {
        self.scan.get_or_insert_default().clone()
    }

    /// Counts the items of a page of the scan as done, up to that with the id `last_id`. There are `total` items, as far as is
    /// known.
    pub(super) fn scanned(
        &mut self,
        note: &'static str,
        items: usize,
        last_id: String,
        total: usize,
    ) {
        let done = self.scan.take().unwrap_or_default().done;
        self.begin(note, done, total.max(done + items));
        self.advance(items);
        self.scan = Some(Scan {
            last_id: Some(last_id),
            done: done + items,
        });
    }

    /// Ends a scan that is complete.
    pub(super) fn end_scan(&mut self) {
        self.scan = None;
    }

    /// Returns the number of the first items that are done, captured failures included, and the failure that ended the
    /// work. Every item that was begun has ended.
    async fn run_each<'i, T, F, W>(
        &mut self,
        items: &'i [T],
        work: F,
    ) -> (usize, Option<ClientError>)
    where
        T: Sync,
        F: Fn(&'i T) -> W + Send,
        W: Future<Output = Result<Vec<String>, ClientError>> + Send,
    {
        let mut under_way = FuturesUnordered::new();
        let mut begun = 0;
        let mut first_failed = items.len();
        let mut failed: Option<ClientError> = None;
        loop {
            while failed.is_none()
                && begun < items.len()
                && under_way.len() < CONCURRENCY
                && self.has_time()
            {
                let (index, working) = (begun, work(&items[begun]));
                under_way.push(async move { (index, working.await) });
                begun += 1;
            }
            let Some((index, result)) = under_way.next().await else {
                break;
            };
            match self.failures.capture(result) {
                Ok(Some(changes)) => {
                    self.changes.extend(changes);
                    self.advance(1);
                }
                Ok(None) => {}
                Err(error) => {
                    first_failed = first_failed.min(index);
                    // A lost answer takes precedence, since it leaves a write in doubt.
                    if !matches!(failed, Some(ClientError::AnswerLost(_))) {
                        failed = Some(error);
                    }
                }
            }
        }
        self.unfinished |= failed.is_none() && begun < items.len();
        (begun.min(first_failed), failed)
    }

    /// Fails with the captured failure, if any. It is charged: every item was processed, so the tenant's size is not the
    /// reason.
    pub(super) fn check_failures(&mut self) -> Result<(), StepFailure> {
        let finished = std::mem::take(&mut self.failures).finish();
        finished.map_err(|failure| StepFailure {
            made_progress: false,
            ..self.after_progress(failure)
        })
    }

    /// The result of the step: done for `reason`, a captured failure, or the continuation in another attempt, which meets
    /// the captured failures again or finds them with the position of the pass.
    pub(super) fn finish(mut self, reason: &'static str) -> Result<StepSuccess, StepFailure> {
        if self.unfinished {
            let (now, progress) = (self.run.ctx.store.now(), self.progress());
            let unfinished = StepSuccess::unfinished(now, progress, self.changes);
            return Ok(unfinished.with_refs(self.refs));
        }
        self.check_failures()?;
        Ok(StepSuccess::ok(reason, self.changes).with_refs(self.refs))
    }

    fn after_progress(&self, failure: StepFailure) -> StepFailure {
        // That of a pass replaces the stored position, which may be behind this failure.
        let is_stored = self.has_advanced || self.resumed;
        StepFailure {
            changes: self.changes.clone(),
            progress: is_stored.then(|| Box::new(self.progress())),
            made_progress: self.has_advanced,
            ..failure
        }
    }

    fn progress(&self) -> Progress {
        let count = |items: usize| i64::try_from(items).unwrap_or(i64::MAX);
        Progress {
            done: count(self.phase.done),
            total: count(self.phase.total),
            note: self.phase.note.to_owned(),
            cursor: self.cursor(),
        }
    }

    /// The position to store. `None` if neither a pass nor a scan is incomplete.
    fn cursor(&self) -> Option<String> {
        if self.last_key.is_none() && self.scan.is_none() {
            return None;
        }
        let position = Position {
            desired: desired(self.run),
            last_key: self.last_key,
            scan: self.scan.clone(),
            failure: self.failures.stored(),
        };
        serde_json::to_string(&position).ok()
    }
}

fn desired(run: &StepContext) -> Option<String> {
    run.tenant().map(|target| target.tenant.desired_digest())
}
