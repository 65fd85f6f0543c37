//! The input of a step, and the writes it makes under its job's fencing token.

use std::{any::Any, sync::Arc};

use dezky_shared::{
    platform::change_feed::DocumentChange,
    queue::{
        error_code::ErrorCode,
        job::{Job, Progress},
    },
    store::{StoreError, TransactionError},
};
use dezky_upstreams::clients::{LeaseDeadline, Mode};
use futures::{FutureExt as _, future::BoxFuture};
use mongodb::ClientSession;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::{StepFailure, StepTarget};
use crate::context::Context;

/// The input of a step.
#[derive(Clone)]
pub struct StepContext {
    /// Stores, clients and configuration.
    pub ctx: Arc<Context>,
    /// The job that the step belongs to.
    pub job: Arc<Job>,
    /// The document that the job concerns, as loaded after the claim.
    pub target: Option<Arc<dyn StepTarget>>,
    /// The deadline for beginning upstream writes.
    pub deadline: LeaseDeadline,
    /// Whether changes are applied or only listed.
    pub mode: Mode,
    /// Time at which a long step that has made progress should return [`StepSuccess::continue_at`] or
    /// [`StepSuccess::unfinished`]: by default half of the attempt's time is left then.
    ///
    /// [`StepSuccess::continue_at`]: super::StepSuccess::continue_at
    /// [`StepSuccess::unfinished`]: super::StepSuccess::unfinished
    pub yield_after: Instant,
}

impl StepContext {
    /// The target, if it is a `T`.
    pub fn target<T: StepTarget>(&self) -> Option<&T> {
        let target: &dyn Any = &**self.target.as_ref()?;
        target.downcast_ref()
    }

    /// Decodes the arguments of the job.
    pub fn args<A: DeserializeOwned>(&self) -> Result<A, StepFailure> {
        let args = self.job.args();
        args.map_err(|error| StepFailure::new(ErrorCode::Internal, error.to_string()))
    }

    /// Decrypts the secrets that the job was enqueued with.
    pub fn secrets<T: DeserializeOwned>(&self) -> Result<T, StepFailure> {
        let unreadable = |why: String| StepFailure::new(ErrorCode::SecretsUnreadable, why);
        let encrypted = self.job.secrets.as_ref();
        let encrypted =
            encrypted.ok_or_else(|| unreadable("the job carries no secrets".to_owned()))?;
        let decrypted = self.ctx.encryption_keys.decrypt(self.job.id, encrypted);
        decrypted.map_err(|error| unreadable(error.to_string()))
    }

    /// Saves the progress and cursor of a long job, where its next attempt resumes.
    ///
    /// Fails once the lease is lost; the step should return then.
    pub async fn save_progress(&self, progress: &Progress) -> Result<(), StepFailure> {
        let token = self.job.lease.as_ref().ok_or_else(lease_lost)?.token;
        let jobs = &self.ctx.jobs;
        if !jobs.set_progress(self.job.id, token, progress).await? {
            return Err(lease_lost());
        }
        let change = DocumentChange::Job(self.job.id);
        self.ctx.changes.publish(&[change]).await;
        Ok(())
    }

    /// Runs `body` in a transaction that first writes the job with its fencing token in the filter, so a worker that
    /// lost the lease commits nothing. A step may be repeated after the commit, so `body` must be idempotent.
    ///
    /// Fails once the lease is lost; the step should return then.
    pub async fn fenced_transaction<C, R, F>(&self, context: C, body: F) -> Result<R, StepFailure>
    where
        C: Send,
        R: Send,
        F: for<'s> FnMut(&'s mut ClientSession, &'s mut C) -> BoxFuture<'s, Result<R, StoreError>>
            + Send,
    {
        struct LeaseLost;
        let token = self.job.lease.as_ref().ok_or_else(lease_lost)?.token;
        let written = self
            .ctx
            .store
            .transaction((self, context, body), |session, (this, context, body)| {
                async move {
                    let now = this.ctx.store.now();
                    let jobs = &this.ctx.jobs;
                    if !jobs.fence(session, this.job.id, token, now).await? {
                        return Err(TransactionError::Aborted(LeaseLost));
                    }
                    Ok(body(session, context).await?)
                }
                .boxed()
            })
            .await;
        match written {
            Ok(value) => Ok(value),
            Err(TransactionError::Aborted(LeaseLost)) => Err(lease_lost()),
            Err(TransactionError::Store(error)) => Err(error.into()),
        }
    }
}

fn lease_lost() -> StepFailure {
    StepFailure::new(ErrorCode::Internal, "the lease was lost")
}
