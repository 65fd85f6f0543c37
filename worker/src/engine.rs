//! The life of a job.
//!
//! **MongoDB is the truth.** A job is a document, inserted in the transaction of the change it serves. Redis holds
//! hints and can be wiped at any moment. apalis is the worker's runtime over our own backend; nothing of it is
//! durable.
//!
//! 1. *Ready* ([`dezky_shared::queue::ready_set`]): after the commit, the job's lock key is added to its queue's ready set. A key
//!    there means "there may be work for this key now", once, however many jobs wait behind it.
//! 2. *Claim* (`fetch`, `claim`): each of a queue's loops takes a free slot first, then pops keys, resolves each to its
//!    first due job and claims those with one update by compare-and-set, with a lease whose token fences everything that
//!    follows. A key popped while its lock is held is dropped; the holder adds it again.
//! 3. *Run* (`run`, `step`): the handler reads the tenant **after** the claim, and runs the kind's steps side by side,
//!    each once its upstream may be spoken to (`gate`). The lease is renewed by a task of its own (`lease`); its *trust*
//!    ends before it does, and the upstream clients begin no write that they could not finish within it.
//! 4. *Record* (`record`): a step's end is one transaction that first writes the job, by its token, then the tenant;
//!    what many jobs have to record at the same time shares one.
//! 5. *Settle* (`decide`, `settle`): the job is settled from its steps, in bulk, by the holder only. Strictly after that is
//!    acknowledged, the keys of what was settled that have more due work are added to the ready sets.
//! 6. *Rescue* and *sweep* (`rescue`, `sweep`, `leader`): one worker leads. It takes back jobs whose lease ran
//!    out, and once a second adds due keys that the ready sets do not hold: the guarantee beneath every hint. It also
//!    enqueues what is due of the schedules (`cron`), seals the audit trail (`seal`), and looks at what one should look
//!    at for all (`measure`, `probe`).
//!
//! | order (K a key; A, B fetch loops; J a job of K) | outcome |
//! | --- | --- |
//! | A pops K; J2 is enqueued and K added; B pops K; both resolve J1; A claims it | B matches nothing and drops K; A adds it at its settlement |
//! | the same, B resolves J2 after A's claim | the lock's index refuses B, which drops K |
//! | A settles and finds no more; J2 commits and adds K | K is in the set |
//! | J2 commits; A settles, finds it and adds K; B works it off; the enqueuer adds K late | one empty pop |
//! | J2 commits and its enqueuer dies; or A dies between settling and adding; or a pop's reply is lost | the sweep |
//! | A dies running | the rescue |
//! | K is locked by a job of another queue | hence the settlement adds K to every queue that has work |
//! | the claim's answer is lost | read back by the token; unreadable: rescued, and no crash |

mod admission;
mod apalis_backend;
mod attempt;
mod audit_seal;
mod backlog_metrics;
mod bulk;
mod claim;
mod dependency_checks;
mod fetch;
mod heartbeat;
mod leader;
mod lease;
mod outcome;
mod record;
mod rescue;
mod schedules;
mod settle;
mod step;
mod sweep;
mod times;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
};

use apalis::prelude::{Data, Monitor, ParallelizeExt as _, WorkerBuilder};
use dezky_shared::{
    id::WorkerId,
    platform::backoff::ReconnectBackoff,
    queue::{
        job::{Job, Queue},
        schedule::Schedule,
    },
    store::StoreError,
    upstream::Upstream,
};
use dezky_upstreams::circuit_breaker::RateBudget;
use mongodb::Collection;
use tokio::sync::{RwLock, Semaphore, mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::times::EngineTimings;
use self::{
    admission::ControlState,
    apalis_backend::{Claimed, ClaimedJobs},
    fetch::FETCHERS,
    lease::LeaseTable,
    record::{MAX_GROUP, StepRecord},
    settle::Settlement,
};
use crate::{context::Context, steps::Registry};

/// How a worker runs.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The name of this process, for people.
    pub worker: String,
    /// How many jobs of each queue run at the same time.
    pub slots: BTreeMap<Queue, usize>,
    /// How many steps each upstream is asked to do.
    pub budgets: BTreeMap<Upstream, RateBudget>,
    /// Every span of time.
    pub times: EngineTimings,
    /// What is done again and again.
    pub schedules: Vec<Schedule>,
}

/// A worker's part in the life of jobs.
pub(crate) struct Engine {
    ctx: Arc<Context>,
    registry: Registry,
    times: EngineTimings,
    schedules: Vec<Schedule>,
    budgets: BTreeMap<Upstream, RateBudget>,
    id: WorkerId,
    worker: String,
    jobs: Collection<Job>,
    held: LeaseTable,
    known: watch::Sender<ControlState>,
    recordings: mpsc::Sender<StepRecord>,
    settlements: mpsc::Sender<Settlement>,
    /// Read by all who run, written by one that must run alone.
    turns: Arc<RwLock<()>>,
    /// When a command to MongoDB last failed, in milliseconds of boot time.
    database_failed_at: AtomicU64,
    /// Claim no more.
    stop: CancellationToken,
    /// Let go of what still runs.
    kill: CancellationToken,
}

/// Runs jobs until `shutdown`, then drains: what runs may end, what does not end in time is released.
pub async fn run(
    context: Arc<Context>,
    registry: Registry,
    config: EngineConfig,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let (recordings, unrecorded) = mpsc::channel(MAX_GROUP);
    let (settlements, unsettled) = mpsc::channel(1_024);
    let engine = Arc::new(Engine {
        jobs: context.store.collection("jobs"),
        ctx: context,
        registry,
        times: config.times,
        schedules: config.schedules,
        budgets: config.budgets,
        id: WorkerId::new(),
        worker: config.worker,
        held: LeaseTable::default(),
        known: watch::Sender::default(),
        recordings,
        settlements,
        turns: Arc::new(RwLock::new(())),
        database_failed_at: AtomicU64::new(0),
        stop: shutdown.clone(),
        kill: CancellationToken::new(),
    });
    let mut pace = ReconnectBackoff::default();
    while let Err(error) = engine.register_worker().await {
        tracing::warn!(%error, "MongoDB does not answer; trying again");
        let pause = tokio::time::sleep(pace.next_delay());
        if shutdown.run_until_cancelled(pause).await.is_none() {
            return Ok(());
        }
    }

    // Ends with this function: a job that outlives the drain is rescued.
    let background = CancellationToken::new();
    let background_ends = background.clone().drop_guard();
    let spawn = |task: futures::future::BoxFuture<'static, ()>| {
        tokio::spawn(background.clone().run_until_cancelled_owned(task))
    };
    spawn(Box::pin(engine.clone().keep_recording(unrecorded)));
    let settling = engine.clone();
    spawn(Box::pin(async move {
        settling.keep_settling(unsettled).await;
    }));
    let renewing = engine.clone();
    spawn(Box::pin(async move {
        renewing.keep_renewing().await;
    }));
    let following = engine.clone();
    spawn(Box::pin(async move {
        following.keep_following().await;
    }));
    spawn(Box::pin(
        engine.clone().heartbeat_loop(config.slots.clone()),
    ));
    let looking = engine.clone();
    spawn(Box::pin(async move {
        looking.clock_sync_loop().await;
    }));
    let leading = tokio::spawn(engine.clone().keep_leading());

    let killer = engine.clone();
    spawn(Box::pin(async move {
        killer.stop.cancelled().await;
        tokio::time::sleep(killer.times.drain).await;
        killer.kill.cancel();
    }));

    let fetching = TaskTracker::new();
    let running = TaskTracker::new();
    let mut channels = Vec::new();
    let mut monitor = Monitor::new();
    for (queue, slots) in config.slots {
        let (claimed, jobs) = mpsc::channel(slots.max(1));
        channels.push(claimed.clone());
        let free = Arc::new(Semaphore::new(slots));
        for _ in 0..FETCHERS {
            let fetcher = engine.clone();
            fetching.spawn(fetcher.keep_fetching(queue, free.clone(), claimed.clone()));
        }
        monitor = register(monitor, queue, jobs, &engine, &running);
    }
    let drained = async {
        let taken = async move {
            fetching.close();
            fetching.wait().await;
            // Once told, apalis takes no more jobs, so it must have taken those that were claimed last: only an
            // empty channel has all of its places free.
            for channel in channels {
                let _ = channel.reserve_many(channel.max_capacity()).await;
            }
            Ok(())
        };
        monitor.run_with_signal(taken).await?;
        running.close();
        running.wait().await;
        leading.await?;
        Ok(())
    };
    let overdue = async {
        engine.kill.cancelled().await;
        tokio::time::sleep(2 * engine.times.bulk_deadline).await;
    };
    let ended = tokio::select! {
        drained = drained => drained,
        () = overdue => {
            tracing::warn!("MongoDB does not take the last settlements; the jobs will be rescued");
            return Ok(());
        }
    };
    drop(background_ends);
    engine.deregister().await;
    ended
}

/// One apalis worker for a queue.
fn register(
    monitor: Monitor,
    queue: Queue,
    jobs: mpsc::Receiver<Claimed>,
    engine: &Arc<Engine>,
    running: &TaskTracker,
) -> Monitor {
    let engine = engine.clone();
    let running = running.clone();
    // The factory is asked once: our backend gives apalis no error to restart a worker after.
    let jobs = Mutex::new(Some(jobs));
    monitor.register(move |_| {
        let taken = jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        let jobs = taken.unwrap_or_else(|| mpsc::channel(1).1);
        let running = running.clone();
        WorkerBuilder::new(queue.name())
            .backend(ClaimedJobs(jobs))
            .data(engine.clone())
            // Each job in a task of its own: else an error of the backend would cancel them half way.
            .parallelize(move |job| running.spawn(job))
            .build(handle)
    })
}

async fn handle(claimed: Claimed, engine: Data<Arc<Engine>>) {
    let engine: &Arc<Engine> = &engine;
    engine.clone().run(claimed).await;
}

impl Engine {
    /// Says who comes, and learns what the others know.
    async fn register_worker(&self) -> Result<(), StoreError> {
        self.register_credentials().await?;
        self.refresh().await
    }

    /// Follows MongoDB's clock.
    async fn clock_sync_loop(&self) {
        let mut pace = ReconnectBackoff::default();
        loop {
            match self.ctx.store.sync_clock().await {
                Ok(()) => {
                    pace.reset();
                    tokio::time::sleep(self.times.rescue_every).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "MongoDB does not answer; trying again");
                    self.database_failed();
                    tokio::time::sleep(pace.next_delay()).await;
                }
            }
        }
    }
}
