//! What a kind of job does: named steps, each a function that brings one thing to the intent and says how that
//! went. The engine runs them, records them and settles the job from them.
//!
//! A step is run again after a failure and may be run twice, so it looks before it acts. It neither sleeps nor
//! retries: it returns, and the engine does the waiting.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bson::DateTime;
use dezky_shared::{
    platform::change_feed::DocumentChange,
    queue::{
        error_code::ErrorCode,
        job::{Job, JobArgs, Progress},
    },
    store::{StoreError, TransactionError},
    tenant::{DesiredState, Tenant, reason},
    upstream::Upstream,
};
use dezky_upstreams::clients::{ClientError, LeaseDeadline, Mode};
use futures::{FutureExt as _, future::BoxFuture};
use mongodb::ClientSession;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::context::Context;

/// What a step is given.
#[derive(Clone)]
pub struct StepContext {
    /// What it can reach.
    pub ctx: Arc<Context>,
    /// The job it is part of.
    pub job: Arc<Job>,
    /// The job's tenant as it was read after the claim, and what the upstreams should hold for it.
    pub tenant: Option<(Arc<Tenant>, DesiredState)>,
    /// How long it may begin writes.
    pub trust: LeaseDeadline,
    /// Whether it changes anything or only says what it would.
    pub mode: Mode,
    /// When a long step should end with [`StepSuccess::so_far`]: half of the attempt's time is left then.
    pub yield_after: Instant,
}

impl StepContext {
    /// The secrets that the job was enqueued with.
    pub fn secrets<T: DeserializeOwned>(&self) -> Result<T, StepFailure> {
        let unreadable = |why: String| StepFailure::new(ErrorCode::SecretsUnreadable, why);
        let sealed = self.job.sealed.as_ref();
        let sealed = sealed.ok_or_else(|| unreadable("the job carries none".to_owned()))?;
        let opened = self.ctx.sealing_keys.decrypt(self.job.id, sealed);
        opened.map_err(|error| unreadable(error.to_string()))
    }

    /// Says how far a long job has come, and remembers where the next try goes on.
    ///
    /// Fails once the job is somebody else's: the step should end then.
    pub async fn save_progress(&self, progress: &Progress) -> Result<(), StepFailure> {
        let lost = || StepFailure::new(ErrorCode::Internal, "the lease was lost");
        let token = self.job.lease.as_ref().ok_or_else(lost)?.token;
        if !self
            .ctx
            .jobs
            .set_progress(self.job.id, token, progress)
            .await?
        {
            return Err(lost());
        }
        self.ctx
            .changes
            .publish(&[DocumentChange::Job(self.job.id)])
            .await;
        Ok(())
    }

    /// Writes what the step found out, in a transaction that first writes the job by its token: whoever lost the
    /// job's lease writes nothing. The step may be run again after it, so `body` brings documents to a state and
    /// counts nothing.
    ///
    /// Fails once the job is somebody else's: the step should end then.
    pub async fn fenced_transaction<C, R, F>(&self, context: C, body: F) -> Result<R, StepFailure>
    where
        C: Send,
        R: Send,
        F: for<'s> FnMut(&'s mut ClientSession, &'s mut C) -> BoxFuture<'s, Result<R, StoreError>>
            + Send,
    {
        struct LeaseLost;
        let lost = || StepFailure::new(ErrorCode::Internal, "the lease was lost");
        let token = self.job.lease.as_ref().ok_or_else(lost)?.token;
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
            Err(TransactionError::Aborted(LeaseLost)) => Err(lost()),
            Err(TransactionError::Store(error)) => Err(error.into()),
        }
    }
}

/// How a step that did not fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutcome {
    /// All is as it should be.
    Ok,
    /// There was nothing to do.
    Skipped,
    /// There is more to do, in another attempt that costs nothing.
    Unfinished {
        /// When that begins.
        again_at: DateTime,
    },
}

/// How a step that did not fail went.
#[derive(Debug, Clone, PartialEq)]
pub struct StepSuccess {
    /// Whether it is over, had nothing to do, or goes on in another attempt.
    pub end: StepOutcome,
    /// A stable name for where that leaves the tenant; see [`dezky_shared::tenant::reason`].
    pub reason: &'static str,
    /// What it changed upstream.
    pub changes: Vec<String>,
    /// What it learned about the tenant.
    pub facts: UpstreamRefs,
}

impl StepSuccess {
    /// It brought everything to where `reason` says.
    pub fn ok(reason: &'static str, changes: Vec<String>, facts: UpstreamRefs) -> Self {
        Self {
            end: StepOutcome::Ok,
            reason,
            changes,
            facts,
        }
    }

    /// There was nothing to do.
    pub fn skipped(reason: &'static str) -> Self {
        Self {
            end: StepOutcome::Skipped,
            ..Self::ok(reason, Vec::new(), UpstreamRefs::default())
        }
    }

    /// It did a part, [reported](StepRun::report) how far it has come, and goes on at that time. For steps that speak
    /// of no tenant: a tenant's is done or not.
    pub fn continue_at(again_at: DateTime) -> Self {
        Self {
            end: StepOutcome::Unfinished { again_at },
            ..Self::ok(reason::NO_TENANT, Vec::new(), UpstreamRefs::default())
        }
    }
}

/// What a step learned and the tenant's document keeps. An outer `None` leaves the document as it is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UpstreamRefs {
    /// The tenant's group.
    pub authentik_group_id: Option<Option<String>>,
    /// The owner's id at the identity provider.
    pub owner_subject: Option<String>,
    /// The tenant's first domain that the mail server serves.
    pub stalwart_domain: Option<Option<String>>,
    /// Domains that the tenant gave up and that are gone now.
    pub removed_domains: Vec<String>,
    /// The tenant's space.
    pub ocis_space_id: Option<Option<String>>,
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{}: {detail}", code.reason())]
pub struct StepFailure {
    /// What went wrong; it decides what happens next.
    pub code: ErrorCode,
    /// For operators.
    pub detail: String,
    /// The least time to wait, where the upstream said so.
    pub retry_after: Option<Duration>,
}

impl StepFailure {
    /// A failure without a time to wait.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            retry_after: None,
        }
    }
}

impl From<ClientError> for StepFailure {
    fn from(error: ClientError) -> Self {
        let retry_after = match &error {
            ClientError::RateLimited { retry_after, .. } => *retry_after,
            _ => None,
        };
        Self {
            code: error.code(),
            detail: error.to_string(),
            retry_after,
        }
    }
}

impl From<StoreError> for StepFailure {
    fn from(error: StoreError) -> Self {
        Self::new(
            ErrorCode::Internal,
            format!("the database did not answer: {error}"),
        )
    }
}

type StepFn =
    Arc<dyn Fn(StepContext) -> BoxFuture<'static, Result<StepSuccess, StepFailure>> + Send + Sync>;

/// A named part of a kind.
#[derive(Clone)]
pub struct StepSpec {
    /// Its name in documents.
    pub name: &'static str,
    /// The upstream it speaks to.
    pub upstream: Option<Upstream>,
    /// Whether it brings the whole tenant there, and so says how the tenant stands in that upstream.
    pub speaks_for_tenant: bool,
    /// What it does.
    pub run: StepFn,
}

/// The steps of a kind, which do not depend on each other and run side by side.
#[derive(Clone, Default)]
pub struct Steps(pub(crate) Vec<StepSpec>);

impl Steps {
    /// No steps yet.
    pub fn parallel() -> Self {
        Self::default()
    }

    /// One more, which brings `upstream` to the tenant's intent and is named after it.
    #[must_use]
    pub fn upstream<F, R>(self, upstream: Upstream, run: F) -> Self
    where
        F: Fn(StepContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<StepSuccess, StepFailure>> + Send + 'static,
    {
        self.add(upstream.name(), Some(upstream), true, run)
    }

    /// One more, which speaks to `upstream` about a part of the tenant: it waits for what is unknown there like any
    /// other, and says nothing of how the whole tenant stands.
    #[must_use]
    pub fn partial<F, R>(self, upstream: Upstream, name: &'static str, run: F) -> Self
    where
        F: Fn(StepContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<StepSuccess, StepFailure>> + Send + 'static,
    {
        self.add(name, Some(upstream), false, run)
    }

    /// One more, which speaks to no upstream.
    #[must_use]
    pub fn step<F, R>(self, name: &'static str, run: F) -> Self
    where
        F: Fn(StepContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<StepSuccess, StepFailure>> + Send + 'static,
    {
        self.add(name, None, false, run)
    }

    fn add<F, R>(
        mut self,
        name: &'static str,
        upstream: Option<Upstream>,
        speaks_for_tenant: bool,
        run: F,
    ) -> Self
    where
        F: Fn(StepContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<StepSuccess, StepFailure>> + Send + 'static,
    {
        self.0.push(StepSpec {
            name,
            upstream,
            speaks_for_tenant,
            run: Arc::new(move |input| run(input).boxed()),
        });
        self
    }

    /// Whether what they learn concerns the tenant's document.
    pub(crate) fn write_tenant(&self) -> bool {
        self.0.iter().any(|step| step.upstream.is_some())
    }
}

/// Every kind of job a worker knows.
#[derive(Clone, Default)]
pub struct Registry(BTreeMap<&'static str, Steps>);

impl Registry {
    /// One more kind.
    #[must_use]
    pub fn register<A: JobArgs>(mut self, steps: Steps) -> Self {
        self.0.insert(A::KIND, steps);
        self
    }

    /// What a job of `kind` does.
    pub fn steps(&self, kind: &str) -> Option<&Steps> {
        self.0.get(kind)
    }

    /// The names of the steps that speak to `upstream`, of whatever kind.
    pub(crate) fn steps_using(&self, upstream: Upstream) -> Vec<&'static str> {
        let steps = self.0.values().flat_map(|steps| &steps.0);
        let through = steps.filter(|step| step.upstream == Some(upstream));
        let names: BTreeSet<&str> = through.map(|step| step.name).collect();
        names.into_iter().collect()
    }

    /// The names of all kinds.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }
}
