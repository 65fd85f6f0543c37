//! The job engine: the life of a job from its ready set to its settlement.
//!
//! **MongoDB is the source of truth.** A job is a document, enqueued transactionally: inserted in the transaction of the
//! change it serves. Redis holds hints and can be wiped at any moment. apalis is the worker's runtime over the engine's
//! own backend; it stores nothing.
//!
//! 1. *Ready set* ([`dezky_shared::queue::ready_set`]): after the commit, the job's lock key is added to its queue's ready
//!    set. A key there means "there may be due work for this key", once, however many jobs wait behind it.
//! 2. *Claim* (`fetch`, `claim`): each fetch loop of a queue acquires free slots first, some of which are reserved for
//!    urgent lanes (`slots`), then pops keys. One key that comes alone is claimed by one command. Several are resolved to
//!    their first due jobs, claimed by one compare-and-set update, and read back. In a backlog a loop collects slots for
//!    a few milliseconds, since a claim of many jobs costs less for each. The claim is a lease, whose fencing token is in
//!    the filter of every later write. A key popped while its lock is held is dropped; the holder adds it again.
//! 3. *Attempt* (`attempt`, `step`): the target is loaded **after** the claim, and the kind's steps run in parallel, each
//!    once its upstream admits it (`admission`: pauses, credentials, circuit breaker, rate budget; `rate_queue`). A task
//!    of its own renews the leases (`renewal`). A lease's *deadline* precedes its expiry: no upstream write is begun that
//!    could outlive it.
//! 4. *Record* (`record`): the end of a step is one transaction that first writes the job by its fencing token, then the
//!    target through its [`StepSink`](crate::steps::StepSink). Concurrent records share a transaction (`group_commit`).
//! 5. *Settle* (`outcome`, `settle`): the outcome follows from the steps and is written in bulk, by the lease holder only.
//!    The slot is free meanwhile; the number of unsettled jobs has a limit of its own.
//!    Strictly after the write is acknowledged, the settled keys that have more due work are added to the ready sets
//!    (`ready_notifier`).
//! 6. *Rescue* and *sweep* (`rescue`, `sweep`): the elected leader (`leader`) makes jobs available whose lease expired, and
//!    once a second adds due keys that no ready set holds: the guarantee beneath the hints. Its other duties are in
//!    the module `duties`.
//!
//! | interleaving (K a key; A, B fetch loops; J a job of K) | outcome |
//! | --- | --- |
//! | A pops K; J2 is enqueued and K added; B pops K; both resolve J1; A claims it | B's claim matches nothing and B drops K; A adds K when it settles |
//! | as above, but B resolves J2 after A's claim | the unique index on the lock refuses B's claim, and B drops K |
//! | A settles and finds no more work; J2 commits and K is added | K is in the set |
//! | J2 commits; A settles, finds J2 and adds K; B runs J2; J2's enqueuer adds K late | one empty pop |
//! | J2 commits and its enqueuer dies; or A dies between settling and adding; or a pop's reply is lost | the sweep adds K |
//! | A dies while J runs | the rescue makes J available |
//! | a job of another queue holds the lock of K | settling adds K to every queue that has work for it |
//! | the reply to a claim is lost | read back by the fencing token; if that fails, rescued, and not counted as a crash |
//!
//! The engine imports nothing of the product's documents, and a test keeps it so (`layering`).

mod admission;
mod apalis_backend;
mod attempt;
mod bulk;
mod claim;
mod control_state;
mod database_health;
mod due_keys;
mod fetch;
mod group_commit;
mod heartbeat;
mod isolation;
#[cfg(test)]
mod layering;
mod leader;
mod lease;
mod outcome;
mod rate_queue;
mod ready_notifier;
mod record;
mod renewal;
mod rescue;
mod settle;
mod slots;
mod step;
mod sweep;
mod times;
mod undecodable;

use std::{collections::BTreeMap, sync::Arc};

use dezky_shared::{
    platform::backoff::ReconnectBackoff,
    queue::{job::Queue, schedule::Schedule},
    store::StoreError,
    upstream::Upstream,
};
use dezky_upstreams::circuit_breaker::RateBudget;
use futures::{FutureExt as _, future::BoxFuture};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::times::EngineTimings;
use self::{
    admission::Admission,
    apalis_backend::ApalisWorkers,
    attempt::AttemptRunner,
    claim::Claimer,
    control_state::ControlWatch,
    database_health::DatabaseHealth,
    due_keys::DueKeys,
    fetch::Fetcher,
    heartbeat::Heartbeat,
    isolation::Isolation,
    leader::{Election, Leader},
    lease::LeaseTable,
    rate_queue::RateQueue,
    ready_notifier::ReadyNotifier,
    record::{StepRecord, StepRecorder},
    renewal::LeaseRenewer,
    rescue::Rescue,
    settle::{Settlement, Settler},
    step::StepRunner,
    sweep::Sweep,
};
pub(crate) use self::{bulk::with_timeout, leader::Duty};
use crate::{context::Context, steps::Registry};

/// The configuration of a worker's engine.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The name of this process, for people.
    pub worker: String,
    /// The number of jobs of each queue that run concurrently.
    pub slots: BTreeMap<Queue, usize>,
    /// The rate budget of each upstream, in steps.
    pub budgets: BTreeMap<Upstream, RateBudget>,
    /// Every duration.
    pub times: EngineTimings,
    /// The schedules that the leader runs.
    pub schedules: Vec<Schedule>,
}

/// Runs jobs until `shutdown`, then drains: running jobs may end, and those that do not end in time are released. While
/// this worker leads, it has these duties beside its own.
pub(crate) async fn run(
    context: Arc<Context>,
    registry: Registry,
    duties: Vec<Box<dyn Duty>>,
    config: EngineConfig,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let engine = Engine::new(&context, registry, duties, &config, &shutdown);
    let registering = engine.register();
    if shutdown.run_until_cancelled(registering).await.is_none() {
        return Ok(());
    }
    let (runner, heartbeat) = (engine.runner.clone(), engine.heartbeat.clone());
    // Ends with this function: a job that outlives the drain is rescued.
    let background = CancellationToken::new();
    let background_guard = background.clone().drop_guard();
    let (fetcher, leading) = engine.start(&background);
    tokio::spawn(background.run_until_cancelled_owned({
        let (kill, drain) = (runner.kill.clone(), config.times.drain);
        async move {
            shutdown.cancelled().await;
            tokio::time::sleep(drain).await;
            kill.cancel();
        }
    }));

    let overdue = async {
        runner.kill.cancelled().await;
        tokio::time::sleep(2 * config.times.bulk_deadline).await;
    };
    let drained = async {
        run_jobs(&fetcher, &runner, &config.slots).await?;
        leading.await?;
        anyhow::Ok(())
    };
    let drained = tokio::select! {
        drained = drained => drained,
        () = overdue => {
            tracing::warn!("Could not write the last settlements; leaving the jobs to the rescue");
            return Ok(());
        }
    };
    drop(background_guard);
    heartbeat.deregister().await;
    drained
}

/// Fetches and runs jobs until the fetch loops and all jobs have ended.
async fn run_jobs(
    fetcher: &Arc<Fetcher>,
    runner: &Arc<AttemptRunner>,
    slots: &BTreeMap<Queue, usize>,
) -> anyhow::Result<()> {
    let fetching = TaskTracker::new();
    let mut workers = ApalisWorkers::new(runner.clone());
    for (&queue, &slots) in slots {
        let claimed = workers.add(queue, slots);
        for pool in slots::pools(slots) {
            for _ in 0..fetch::loops(&pool) {
                let fetcher = fetcher.clone();
                fetching.spawn(fetcher.fetch_loop(queue, pool.clone(), claimed.clone()));
            }
        }
    }
    fetching.close();
    workers.run(async move { fetching.wait().await }).await
}

/// The components of a worker, wired and not yet started.
struct Engine {
    health: Arc<DatabaseHealth>,
    control: Arc<ControlWatch>,
    admission: Arc<Admission>,
    renewer: Arc<LeaseRenewer>,
    heartbeat: Arc<Heartbeat>,
    fetcher: Arc<Fetcher>,
    runner: Arc<AttemptRunner>,
    records: mpsc::Receiver<StepRecord>,
    settlements: mpsc::Receiver<Settlement>,
    leader: Leader,
}

impl Engine {
    fn new(
        ctx: &Arc<Context>,
        registry: Registry,
        mut duties: Vec<Box<dyn Duty>>,
        config: &EngineConfig,
        stop: &CancellationToken,
    ) -> Self {
        let (store, ready, times) = (&ctx.store, &ctx.ready, &config.times);
        let worker = config.worker.as_str();
        let health = Arc::new(DatabaseHealth::new(store, times));
        let control = Arc::new(ControlWatch::new(ctx, times));
        let admission = Admission::new(ctx, times, &config.budgets, control.clone());
        let admission = Arc::new(admission);
        let leases = Arc::new(LeaseTable::default());
        let renewer = Arc::new(LeaseRenewer::new(store, times, &health, &leases));
        let heartbeat = Heartbeat::new(ctx, config, &registry, stop);
        let due_keys = DueKeys::new(store);
        let fetcher = Fetcher {
            claimer: Claimer::new(store, times, worker),
            due_keys: due_keys.clone(),
            ready: ready.clone(),
            leases,
            control: control.clone(),
            health: health.clone(),
            times: times.clone(),
            stop: stop.clone(),
        };
        let notifier = Arc::new(ReadyNotifier::new(store, ready, times, stop));
        let (recorder, records) = StepRecorder::new(ctx.clone(), times);
        let rate_queue = RateQueue::new(ctx, &registry, config, &notifier);
        let (settler, settlements) = Settler::new(store, &ctx.changes, times, &health, notifier);
        duties.push(Box::new(rate_queue));
        duties.push(Box::new(Sweep::new(
            due_keys,
            ready,
            control.clone(),
            times,
        )));
        duties.push(Box::new(Rescue::new(ctx, times, &health)));
        let leader = Leader {
            election: Election::new(store, times, worker),
            duties,
            duty_timeout: times.duty_timeout,
            health: health.clone(),
            stop: stop.clone(),
        };
        let runner = AttemptRunner {
            ctx: ctx.clone(),
            registry,
            times: times.clone(),
            worker: worker.to_owned(),
            health: health.clone(),
            renewer: renewer.clone(),
            admission: admission.clone(),
            steps: Arc::new(StepRunner::new(ctx, times, admission.clone())),
            recorder,
            settler,
            isolation: Isolation::default(),
            kill: CancellationToken::new(),
        };
        Self {
            health,
            control,
            admission,
            renewer,
            heartbeat: Arc::new(heartbeat),
            fetcher: Arc::new(fetcher),
            runner: Arc::new(runner),
            records,
            settlements,
            leader,
        }
    }

    /// Registers this worker's credentials and reads the control state, as soon as MongoDB is available.
    async fn register(&self) {
        let mut backoff = ReconnectBackoff::default();
        while let Err(error) = self.try_register().await {
            tracing::warn!(%error, "Could not register with MongoDB; retrying");
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    async fn try_register(&self) -> Result<(), StoreError> {
        self.admission.register_credentials().await?;
        self.control.refresh().await
    }

    /// Starts the loops that run beside the fetch loops, until `background` is cancelled. The leader stops with the fetch
    /// loops instead.
    fn start(self, background: &CancellationToken) -> (Arc<Fetcher>, JoinHandle<()>) {
        let spawn = |task: BoxFuture<'static, ()>| {
            tokio::spawn(background.clone().run_until_cancelled_owned(task))
        };
        let (recorder, settler) = (self.runner.recorder.clone(), self.runner.settler.clone());
        spawn(recorder.record_loop(self.records).boxed());
        spawn(settler.settle_loop(self.settlements).boxed());
        spawn(self.renewer.renewal_loop().boxed());
        spawn(self.control.refresh_loop().boxed());
        spawn(self.heartbeat.heartbeat_loop().boxed());
        spawn(self.health.clock_sync_loop().boxed());
        (self.fetcher, tokio::spawn(self.leader.leader_loop()))
    }
}
