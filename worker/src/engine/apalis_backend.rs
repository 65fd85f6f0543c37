//! Our jobs as apalis takes them: a bounded channel that the fetch loop fills, which no error ends.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll, ready},
};

use apalis_core::{
    backend::{Backend, BackendConfig, finalize::Ephemeral},
    task::{Task, task_id::RandomId},
    worker::context::WorkerContext,
};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tower::layer::util::Identity;

use super::{claim::Claim, lease::LeasedJob};

/// A claimed job on its way to its handler, with the slot it takes.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) claim: Claim,
    pub(crate) held: Arc<LeasedJob>,
    pub(crate) permit: OwnedSemaphorePermit,
}

impl Claimed {
    pub(crate) fn new(claim: Claim, held: Arc<LeasedJob>, permit: OwnedSemaphorePermit) -> Self {
        Self {
            claim,
            held,
            permit,
        }
    }
}

/// The receiving end of the channel.
#[derive(Debug)]
pub(crate) struct ClaimedJobs(pub(crate) mpsc::Receiver<Claimed>);

impl Backend for ClaimedJobs {
    type Task = Task<Claimed>;
    type Error = Infallible;

    fn poll_ready(
        &mut self,
        _: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Task<Claimed>, Infallible>>> {
        let claimed = ready!(self.0.poll_recv(cx));
        Poll::Ready(claimed.map(|claimed| Ok(Task::new(claimed))))
    }

    fn poll_close(
        &mut self,
        _: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for ClaimedJobs {
    type Args = Claimed;
    type Id = RandomId;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}
