//! The sink of step results: the one door between the engine and the documents that jobs report to.
//!
//! The engine loads the target after the claim, and hands each batch of step ends to the sink inside the transaction that
//! fences the job. The sink writes the target, and with it the side effects that must commit atomically: audit events and
//! writes to other documents.

use std::{any::Any, fmt, sync::Arc};

use bson::DateTime;
use dezky_shared::{
    id::JobId,
    platform::change_feed::DocumentChange,
    queue::job::{Job, Step},
    store::StoreError,
    upstream::Upstream,
};
use futures::future::BoxFuture;
use mongodb::ClientSession;

use super::{JobKind, StepSuccess};
use crate::context::Context;

/// A step that ended, finally or until its next attempt.
#[derive(Debug, Clone)]
pub struct StepEnd {
    /// Its index in the job's steps.
    pub index: usize,
    /// The step as it is stored in the job.
    pub step: Step,
    /// The upstream it calls.
    pub upstream: Option<Upstream>,
    /// Whether its result is the target's state in that upstream.
    pub sets_condition: bool,
    /// The result, unless it failed or was deferred.
    pub success: Option<StepSuccess>,
    /// Whether its function was called. Admission may have deferred it.
    pub attempted: bool,
    /// Whether its failure is charged to the job's attempts.
    pub charged: bool,
    /// Until when an in-doubt write of this step may still land. Its next attempt is not earlier.
    pub in_doubt_until: Option<DateTime>,
}

impl StepEnd {
    /// The upstream with a write in doubt, and until when that write may still land.
    pub fn in_doubt(&self) -> Option<(Upstream, DateTime)> {
        Some((self.upstream?, self.in_doubt_until?))
    }
}

/// The document that a job concerns, as its [`StepSink`] loaded it.
pub trait StepTarget: Any + fmt::Debug + Send + Sync {
    /// Until when an in-doubt write to `upstream` may still land. No step calls the upstream for this target before.
    fn in_doubt_until(&self, upstream: Upstream) -> Option<DateTime>;

    /// The documents to announce on the change feed once a record of this target is committed.
    fn changes(&self) -> Vec<DocumentChange>;
}

/// The future of a sink's operation.
pub type SinkFuture<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Targets as they are now, in the order of their reports.
pub type Targets = Vec<Arc<dyn StepTarget>>;

/// The result of [`StepSink::load`].
#[derive(Debug)]
pub enum Loaded {
    /// The job concerns no document.
    NoTarget,
    /// The document no longer exists, so the job completes without running its steps.
    Missing,
    /// The document, with the desired state to converge to.
    Target(Arc<dyn StepTarget>),
}

/// The step ends of one job, for its target.
#[derive(Debug, Clone, Copy)]
pub struct StepReport<'a> {
    /// The job, for the audit trail.
    pub job_id: JobId,
    /// The target as this worker last read or wrote it.
    pub target: &'a dyn StepTarget,
    /// The ends.
    pub ends: &'a [StepEnd],
}

impl<'a> StepReport<'a> {
    /// The target as the `T` that the sink loaded.
    pub fn target<T: StepTarget>(&self) -> Result<&'a T, StoreError> {
        let target: &dyn Any = self.target;
        let foreign = || StoreError::custom("the target was loaded by another sink".to_owned());
        target.downcast_ref().ok_or_else(foreign)
    }
}

/// The result of [`StepSink::report`].
#[derive(Debug)]
pub enum Reported {
    /// The target as it is now.
    Current(Arc<dyn StepTarget>),
    /// The desired state changed after the target was loaded, so the results do not apply to it: the job starts over.
    Outdated,
}

/// Writes step results to the kind of document that a job concerns.
///
/// Sessions are those of transactions that already wrote the job with its fencing token in the filter. Transactions may
/// be repeated, so a sink must make no call outside of its session.
pub trait StepSink: fmt::Debug + Send + Sync {
    /// Loads the job's target. Called after the claim, so a command that joined the waiting job is seen.
    fn load<'a>(&'a self, ctx: &'a Context, job: &'a Job) -> SinkFuture<'a, Loaded>;

    /// Whether the results of this job are written to its target, as opposed to the job alone.
    fn is_reported(&self, job: &Job, kind: &JobKind) -> bool;

    /// Writes one job's step ends to its target, read for update. If the target is outdated, only in-doubt writes are
    /// recorded: they constrain every later job.
    fn report<'a>(
        &'a self,
        ctx: &'a Context,
        session: &'a mut ClientSession,
        report: StepReport<'a>,
        now: DateTime,
    ) -> SinkFuture<'a, Reported>;

    /// Group commit: writes the step ends of several jobs under optimistic concurrency, with one command per collection.
    /// Returns the targets as they are now, in order. `None` if any target was written since it was loaded: the
    /// transaction is aborted, and each job is reported alone.
    fn report_group<'a>(
        &'a self,
        ctx: &'a Context,
        session: &'a mut ClientSession,
        reports: &'a [StepReport<'a>],
        now: DateTime,
    ) -> SinkFuture<'a, Option<Targets>>;
}
