//! The apalis runtime over the engine's own backend: a bounded channel that the fetch loops fill and no error ends.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use apalis::prelude::{Data, Monitor, ParallelizeExt as _, WorkerBuilder};
use apalis_core::{
    backend::{Backend, BackendConfig, finalize::Ephemeral},
    task::{Task, task_id::RandomId},
    worker::context::WorkerContext,
};
use dezky_shared::queue::job::Queue;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tower::layer::util::Identity;

use super::{attempt::AttemptRunner, claim::Claimed};

/// The apalis workers of this process, one for each queue.
pub(super) struct ApalisWorkers {
    runner: Arc<AttemptRunner>,
    monitor: Monitor,
    channels: Vec<mpsc::Sender<Claimed>>,
    running: TaskTracker,
}

impl ApalisWorkers {
    pub(super) fn new(runner: Arc<AttemptRunner>) -> Self {
        Self {
            runner,
            monitor: Monitor::new(),
            channels: Vec::new(),
            running: TaskTracker::new(),
        }
    }

    /// Adds the worker of a queue. Jobs sent to the channel are run.
    pub(super) fn add(&mut self, queue: Queue, slots: usize) -> mpsc::Sender<Claimed> {
        let (claimed, jobs) = mpsc::channel(slots.max(1));
        self.channels.push(claimed.clone());
        let (runner, running) = (self.runner.clone(), self.running.clone());
        // The factory is called once: apalis restarts a worker only after an error of its backend.
        let jobs = Mutex::new(Some(jobs));
        let monitor = std::mem::replace(&mut self.monitor, Monitor::new());
        self.monitor = monitor.register(move |_| {
            let jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
            let jobs = jobs.unwrap_or_else(|| mpsc::channel(1).1);
            let running = running.clone();
            WorkerBuilder::new(queue.name())
                .backend(ClaimedJobs(jobs))
                .data(runner.clone())
                // Each job in a task of its own: otherwise an error of the backend would cancel it.
                .parallelize(move |job| running.spawn(job))
                .build(handle)
        });
        claimed
    }

    /// Runs the workers until `fetched`, the end of the fetch loops, and all jobs are done.
    pub(super) async fn run(self, fetched: impl Future<Output = ()> + Send) -> anyhow::Result<()> {
        let channels = self.channels;
        let taken = async move {
            fetched.await;
            // After the signal apalis takes no more jobs, so it must have taken the last. Only an empty channel has all
            // of its capacity free.
            for channel in channels {
                let _ = channel.reserve_many(channel.max_capacity()).await;
            }
            Ok(())
        };
        self.monitor.run_with_signal(taken).await?;
        self.running.close();
        self.running.wait().await;
        Ok(())
    }
}

async fn handle(claimed: Claimed, runner: Data<Arc<AttemptRunner>>) {
    let runner: &Arc<AttemptRunner> = &runner;
    runner.clone().run(claimed).await;
}

/// The receiving end of a queue's channel.
#[derive(Debug)]
struct ClaimedJobs(mpsc::Receiver<Claimed>);

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
