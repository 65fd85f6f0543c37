//! Sink of read-only jobs about a tenant: it loads the tenant, and reports nothing to it.
//!
//! A look-up must not change the tenant's revision, which guards the edits of its admins.

use bson::DateTime;
use dezky_shared::{queue::job::Job, store::StoreError};
use futures::FutureExt as _;
use mongodb::ClientSession;

use super::status::TenantSink;
use crate::{
    context::Context,
    steps::{JobKind, Loaded, Reported, SinkFuture, StepReport, StepSink, Targets},
};

/// Loads the job's tenant, and reports nothing to it.
#[derive(Debug)]
pub(in crate::jobs) struct ReadOnlySink;

impl StepSink for ReadOnlySink {
    fn load<'a>(&'a self, ctx: &'a Context, job: &'a Job) -> SinkFuture<'a, Loaded> {
        TenantSink.load(ctx, job)
    }

    fn is_reported(&self, _: &Job, _: &JobKind) -> bool {
        false
    }

    fn report<'a>(
        &'a self,
        _: &'a Context,
        _: &'a mut ClientSession,
        _: StepReport<'a>,
        _: DateTime,
    ) -> SinkFuture<'a, Reported> {
        async { Err(nothing_to_report()) }.boxed()
    }

    fn report_group<'a>(
        &'a self,
        _: &'a Context,
        _: &'a mut ClientSession,
        _: &'a [StepReport<'a>],
        _: DateTime,
    ) -> SinkFuture<'a, Option<Targets>> {
        async { Err(nothing_to_report()) }.boxed()
    }
}

fn nothing_to_report() -> StoreError {
    StoreError::custom("a read-only job reports nothing to its tenant".to_owned())
}
