//! Kinds of jobs for tests, and steps that do as a test says.

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
    },
    tenant::{Tenant, reason},
    upstream::Upstream,
};
use dezky_upstreams::clients::LeaseDeadline;
use dezky_worker::steps::{Registry, StepContext, StepFailure, StepSuccess, Steps, UpstreamRefs};
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
    /// For a tenant; a second one joins the one that waits.
    Joining { tenant_id: TenantId }, "join_it", Provisioning, tenant: |this| Some(this.tenant_id), joins: true;
    /// For a tenant; each is another one.
    Single { tenant_id: TenantId }, "do_it", Provisioning, tenant: |this| Some(this.tenant_id), joins: false;
    /// For a tenant, in another queue.
    Bill { tenant_id: TenantId }, "bill_it", Billing, tenant: |this| Some(this.tenant_id), joins: false;
    /// For no tenant.
    Lone { n: i32 }, "do_it_alone", Provisioning, tenant: |_this| None, joins: false;
    /// For no tenant, and makes so many others.
    Many { n: i32 }, "make_many", Maintenance, tenant: |_this| None, joins: false;
    /// For no tenant, and fails as it says.
    Failing { code: ErrorCode }, "fail", Provisioning, tenant: |_this| None, joins: false;
    /// For no tenant, and its worker dies of it.
    Poison { n: i32 }, "poison", Provisioning, tenant: |_this| None, joins: false;
}

/// What a run of a step comes to.
#[derive(Debug, Clone)]
pub(crate) enum Say {
    Ok,
    Fail(ErrorCode),
    FailFor(ErrorCode, Duration),
    FailSaying(ErrorCode, &'static str),
    Panic,
    /// Never ends.
    Hang,
}

/// A run of a step.
#[derive(Debug, Clone)]
pub(crate) struct Ran {
    pub(crate) job: JobId,
    pub(crate) tenant: Option<Arc<Tenant>>,
    pub(crate) trust: LeaseDeadline,
    pub(crate) at: DateTime,
}

/// A step that does as it is told, and remembers its runs.
#[derive(Clone)]
pub(crate) struct Script(Arc<Inner>);

struct Inner {
    lines: Mutex<VecDeque<Say>>,
    gate: Option<Semaphore>,
    runs: Mutex<Vec<Ran>>,
    inside: AtomicUsize,
    most_inside: AtomicUsize,
    cut_off: AtomicUsize,
}

impl Script {
    /// Does these, one after the other, and then is well.
    pub(crate) fn new(lines: impl IntoIterator<Item = Say>) -> Self {
        Self::with(lines, None)
    }

    /// As above, and each run ends only when it is let go.
    pub(crate) fn held(lines: impl IntoIterator<Item = Say>) -> Self {
        Self::with(lines, Some(Semaphore::new(0)))
    }

    fn with(lines: impl IntoIterator<Item = Say>, gate: Option<Semaphore>) -> Self {
        Self(Arc::new(Inner {
            lines: Mutex::new(lines.into_iter().collect()),
            gate,
            runs: Mutex::default(),
            inside: AtomicUsize::new(0),
            most_inside: AtomicUsize::new(0),
            cut_off: AtomicUsize::new(0),
        }))
    }

    /// Lets `count` runs end, now or when they come.
    pub(crate) fn let_go(&self, count: usize) {
        self.0.gate.as_ref().unwrap().add_permits(count);
    }

    /// The runs so far.
    pub(crate) fn runs(&self) -> Vec<Ran> {
        self.0.runs.lock().unwrap().clone()
    }

    /// Waits until there were so many runs.
    pub(crate) async fn ran(&self, count: usize) -> Vec<Ran> {
        crate::harness::until(async || self.runs(), |runs| runs.len() >= count).await
    }

    /// How many run now.
    pub(crate) fn inside(&self) -> usize {
        self.0.inside.load(Ordering::SeqCst)
    }

    /// The most that ran at the same time.
    pub(crate) fn most_inside(&self) -> usize {
        self.0.most_inside.load(Ordering::SeqCst)
    }

    /// How many runs did not come to their end.
    pub(crate) fn cut_off(&self) -> usize {
        self.0.cut_off.load(Ordering::SeqCst)
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

    /// One kind, [`Joining`], with this step for each upstream.
    pub(crate) fn for_each_upstream(&self) -> Registry {
        let steps = Upstream::ALL.into_iter();
        let steps = steps.fold(Steps::parallel(), |steps, upstream| {
            steps.upstream(upstream, self.step())
        });
        Registry::default().register::<Joining>(steps)
    }

    async fn run(self, run: StepContext) -> Result<StepSuccess, StepFailure> {
        let line = self.0.lines.lock().unwrap().pop_front().unwrap_or(Say::Ok);
        let inside = self.0.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most_inside.fetch_max(inside, Ordering::SeqCst);
        let mut guard = Inside {
            script: self.clone(),
            ended: false,
        };
        self.0.runs.lock().unwrap().push(Ran {
            job: run.job.id,
            tenant: run.tenant.as_ref().map(|(tenant, _)| tenant.clone()),
            trust: run.trust.clone(),
            at: run.ctx.store.now(),
        });
        if let Some(gate) = &self.0.gate {
            gate.acquire().await.unwrap().forget();
        }
        let failure = |code, detail: &str| StepFailure::new(code, detail);
        let result = match line {
            Say::Ok => Ok(StepSuccess::ok(
                reason::PROVISIONED,
                Vec::new(),
                UpstreamRefs::default(),
            )),
            Say::Fail(code) => Err(failure(code, "as the script says")),
            Say::FailFor(code, wait) => Err(StepFailure {
                retry_after: Some(wait),
                ..failure(code, "as the script says")
            }),
            Say::FailSaying(code, detail) => Err(failure(code, detail)),
            Say::Panic => panic!("as the script says"),
            Say::Hang => std::future::pending().await,
        };
        guard.ended = true;
        result
    }
}

struct Inside {
    script: Script,
    ended: bool,
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.script.0.inside.fetch_sub(1, Ordering::SeqCst);
        if !self.ended {
            self.script.0.cut_off.fetch_add(1, Ordering::SeqCst);
        }
    }
}
