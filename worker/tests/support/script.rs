//! Job kinds for tests, and steps with scripted results.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bson::DateTime;
use dezky_shared::{
    id::{JobId, TenantId},
    queue::{
        error_code::ErrorCode,
        job::{JobArgs, Queue},
        priority::Priority,
    },
    tenant::{Tenant, reason},
    upstream::Upstream,
};
use dezky_upstreams::clients::LeaseDeadline;
use dezky_worker::steps::{Registry, StepContext, StepFailure, StepSuccess, Steps};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* }, $kind:literal, $queue:ident, tenant: |$this:ident| $tenant:expr, joins: $joins:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub(crate) struct $name { $(pub(crate) $field: $type),* }

        impl JobArgs for $name {
            const KIND: &'static str = $kind;
            const QUEUE: Queue = Queue::$queue;
            const PRIORITY: Priority = Priority::Interactive;

            fn tenant_id(&self) -> Option<TenantId> {
                let $this = self;
                $tenant
            }

            fn unique_key(&self) -> Option<String> {
                self.tenant_id().filter(|_| $joins).map(|tenant| tenant.to_string())
            }
        }
    )*};
}

kinds! {
    /// Tenant job; another one joins an available one.
    Joining { tenant_id: TenantId }, "join_it", Provisioning, tenant: |this| Some(this.tenant_id), joins: true;
    /// Tenant job without a unique key.
    Single { tenant_id: TenantId }, "do_it", Provisioning, tenant: |this| Some(this.tenant_id), joins: false;
    /// Tenant job in another queue.
    Bill { tenant_id: TenantId }, "bill_it", Billing, tenant: |this| Some(this.tenant_id), joins: false;
    /// Job without a tenant.
    Lone { n: i32 }, "do_it_alone", Provisioning, tenant: |_this| None, joins: false;
    /// Fails with `code`.
    Failing { code: ErrorCode }, "fail", Provisioning, tenant: |_this| None, joins: false;
    /// Crashes its worker.
    Poison { n: i32 }, "poison", Provisioning, tenant: |_this| None, joins: false;
}

macro_rules! of_tenant {
    ($($name:ident),*) => {$(
        impl $name {
            pub(crate) fn of(tenant: &Tenant) -> Self {
                Self { tenant_id: tenant.id }
            }
        }
    )*};
}

of_tenant!(Joining, Single, Bill);

/// Scripted result of a step.
#[derive(Debug, Clone)]
pub(crate) enum Scripted {
    Ok,
    Fail(ErrorCode),
    FailFor(ErrorCode, Duration),
    FailWith(ErrorCode, &'static str),
    Panic,
    /// Never returns.
    Hang,
}

/// A recorded run of a step.
#[derive(Debug, Clone)]
pub(crate) struct Ran {
    pub(crate) job: JobId,
    pub(crate) tenant: Option<Arc<Tenant>>,
    pub(crate) deadline: LeaseDeadline,
    pub(crate) at: DateTime,
}

/// A step that returns scripted results and records its runs.
#[derive(Clone)]
pub(crate) struct Script(Arc<Shared>);

struct Shared {
    results: Mutex<VecDeque<Scripted>>,
    gate: Option<Semaphore>,
    runs: Mutex<Vec<Ran>>,
    running: AtomicUsize,
    max_running: AtomicUsize,
    interrupted: AtomicUsize,
}

impl Script {
    /// Returns these results in order, then success.
    pub(crate) fn new(results: impl IntoIterator<Item = Scripted>) -> Self {
        Self::with(results, None)
    }

    /// Like [`Script::new`], but each run blocks until it is released.
    pub(crate) fn blocking(results: impl IntoIterator<Item = Scripted>) -> Self {
        Self::with(results, Some(Semaphore::new(0)))
    }

    fn with(results: impl IntoIterator<Item = Scripted>, gate: Option<Semaphore>) -> Self {
        Self(Arc::new(Shared {
            results: Mutex::new(results.into_iter().collect()),
            gate,
            runs: Mutex::default(),
            running: AtomicUsize::new(0),
            max_running: AtomicUsize::new(0),
            interrupted: AtomicUsize::new(0),
        }))
    }

    /// Releases `count` current or future runs.
    pub(crate) fn release(&self, count: usize) {
        self.0.gate.as_ref().unwrap().add_permits(count);
    }

    /// The recorded runs.
    pub(crate) fn runs(&self) -> Vec<Ran> {
        self.0.runs.lock().unwrap().clone()
    }

    /// Waits until at least `count` runs have started.
    pub(crate) async fn until_runs(&self, count: usize) -> Vec<Ran> {
        crate::harness::until(async || self.runs(), |runs| runs.len() >= count).await
    }

    /// Number of current runs.
    pub(crate) fn running(&self) -> usize {
        self.0.running.load(Ordering::SeqCst)
    }

    /// Maximum number of concurrent runs.
    pub(crate) fn max_running(&self) -> usize {
        self.0.max_running.load(Ordering::SeqCst)
    }

    /// Number of runs that were dropped before their end.
    pub(crate) fn interrupted(&self) -> usize {
        self.0.interrupted.load(Ordering::SeqCst)
    }

    /// The step.
    pub(crate) fn step(
        &self,
    ) -> impl Fn(StepContext) -> BoxFuture<'static, Result<StepSuccess, StepFailure>>
    + Send
    + Sync
    + 'static {
        let script = self.clone();
        move |run| Box::pin(script.clone().run(run))
    }

    /// Registry of [`Joining`] with this step for each upstream.
    pub(crate) fn for_each_upstream(&self) -> Registry {
        let steps = Upstream::ALL.into_iter();
        let steps = steps.fold(Steps::parallel(), |steps, upstream| {
            steps.upstream(upstream, self.step())
        });
        Registry::default().register::<Joining>(steps)
    }

    async fn run(self, run: StepContext) -> Result<StepSuccess, StepFailure> {
        let result = self
            .0
            .results
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or(Scripted::Ok);
        let running = self.0.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.max_running.fetch_max(running, Ordering::SeqCst);
        let mut guard = RunGuard {
            script: self.clone(),
            ended: false,
        };
        self.0.runs.lock().unwrap().push(Ran {
            job: run.job.id,
            tenant: run.tenant().map(|target| target.tenant.clone()),
            deadline: run.deadline.clone(),
            at: run.ctx.store.now(),
        });
        if let Some(gate) = &self.0.gate {
            gate.acquire().await.unwrap().forget();
        }
        let failure = |code, detail: &str| StepFailure::new(code, detail);
        let result = match result {
            Scripted::Ok => Ok(StepSuccess::ok(reason::PROVISIONED, Vec::new())),
            Scripted::Fail(code) => Err(failure(code, "scripted failure")),
            Scripted::FailFor(code, wait) => Err(StepFailure {
                retry_after: Some(wait),
                ..failure(code, "scripted failure")
            }),
            Scripted::FailWith(code, detail) => Err(failure(code, detail)),
            Scripted::Panic => panic!("scripted failure"),
            Scripted::Hang => std::future::pending().await,
        };
        guard.ended = true;
        result
    }
}

struct RunGuard {
    script: Script,
    ended: bool,
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        self.script.0.running.fetch_sub(1, Ordering::SeqCst);
        if !self.ended {
            self.script.0.interrupted.fetch_add(1, Ordering::SeqCst);
        }
    }
}
