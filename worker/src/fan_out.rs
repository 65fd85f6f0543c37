//! Fan-out: a job enqueues one child job per item of a list of any length, surviving crashes.
//!
//! A child's id is derived from its parent and its subject, so a repeated enqueue is a no-op. The subject of the last child
//! is the cursor in the job's progress, from which the next attempt continues: an attempt that runs out of time leaves
//! the rest to the next, uncharged.

use std::{pin::pin, time::Duration};

use dezky_shared::{
    platform::clock,
    queue::job::{Job, Progress},
    store::jobs::NewJob,
    tenant::reason,
};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::steps::{StepContext, StepFailure, StepSuccess};

/// Children held in memory and inserted per batch.
const BATCH: usize = 1_000;

/// A child job.
#[derive(Debug, Clone)]
pub struct Child {
    /// Key of the item: the cursor in the ordered list, and the source of the job id.
    pub subject: String,
    /// The job to enqueue.
    pub job: NewJob,
}

/// Parameters of a fan-out.
#[derive(Debug, Clone, Copy)]
pub struct FanOut {
    /// Noun for the progress note: `tenants`.
    pub noun: &'static str,
    /// Estimated number of items, for the progress.
    pub total: u64,
    /// Window over which the children are spread, from the creation of the parent.
    pub spread: Duration,
}

impl FanOut {
    /// Cursor: the subject after which this attempt continues.
    pub fn cursor<S: std::str::FromStr>(run: &StepContext) -> Option<S> {
        run.job.progress.as_ref()?.cursor.as_ref()?.parse().ok()
    }

    /// Enqueues `children`, which are ordered by subject and start after [`FanOut::cursor`].
    pub async fn run(
        self,
        run: &StepContext,
        children: impl Stream<Item = Result<Child, StepFailure>> + Send,
    ) -> Result<StepSuccess, StepFailure> {
        let mut done = run.job.progress.as_ref().map_or(0, |before| before.done);
        let mut batches = pin!(children.try_chunks(BATCH));
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(|error| error.1)?;
            done += i64::try_from(batch.len()).unwrap_or(0);
            let last = batch.last().map(|child| child.subject.clone());
            self.enqueue(run, batch).await?;
            run.save_progress(&self.progress(done, last)).await?;
            if Instant::now() >= run.yield_after {
                return Ok(StepSuccess::continue_at(run.ctx.store.now()));
            }
        }
        let all = Progress {
            total: done,
            ..self.progress(done, None)
        };
        run.save_progress(&all).await?;
        Ok(StepSuccess::ok(reason::NO_TENANT, Vec::new()))
    }

    async fn enqueue(self, run: &StepContext, batch: Vec<Child>) -> Result<(), StepFailure> {
        let spread = |child: Child| {
            let wait = self.spread.mul_f64(position_of(&child.subject));
            let job = child.job.child_of(&run.job, &child.subject);
            job.run_at(clock::later(run.job.created_at, wait))
        };
        let children: Vec<NewJob> = batch.into_iter().map(spread).collect();
        run.ctx.jobs.enqueue_many(&children).await?;
        let jobs: Vec<Job> = children.iter().map(|child| child.job().clone()).collect();
        run.ctx.ready.notify(&jobs).await;
        Ok(())
    }

    fn progress(self, done: i64, cursor: Option<String>) -> Progress {
        Progress {
            done,
            total: i64::try_from(self.total).unwrap_or(i64::MAX).max(done),
            note: self.noun.to_owned(),
            cursor,
        }
    }
}

/// Position of a subject in the window, from 0 to 1. Deterministic, so that periodic children run at even intervals.
fn position_of(subject: &str) -> f64 {
    let digest: [u8; 32] = Sha256::digest(subject).into();
    let [a, b, c, d, ..] = digest;
    f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_spread_evenly_at_fixed_positions() {
        let positions: Vec<f64> = (0..10_000)
            .map(|n| position_of(&format!("subject {n}")))
            .collect();

        for tenth in 0..10 {
            let from = f64::from(tenth) / 10.0;
            let here = positions
                .iter()
                .filter(|position| (from..from + 0.1).contains(*position))
                .count();
            assert!((900..1_100).contains(&here), "{tenth}: {here}");
        }
        assert_eq!(position_of("acme").to_bits(), position_of("acme").to_bits());
    }
}
