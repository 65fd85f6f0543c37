//! One job that makes many: a child for each of a list, however long, also when the worker dies half way.
//!
//! A child's id follows from its parent and its subject, so making it twice makes one. The subject of the last child
//! made is kept in the job's progress, and the next attempt goes on after it: an attempt that runs out of time hands
//! the rest to the next, at no cost.

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

use crate::steps::{StepContext, StepFailure, StepSuccess, UpstreamRefs};

/// How many children are held in memory and inserted together.
const BATCH: usize = 1_000;

/// One of many.
#[derive(Debug, Clone)]
pub struct Child {
    /// What it is about: its place in the list, and what its id is made from.
    pub subject: String,
    /// What does it.
    pub job: NewJob,
}

/// How many there are, and over what time.
#[derive(Debug, Clone, Copy)]
pub struct FanOut {
    /// What they are, for people: `tenants`.
    pub noun: &'static str,
    /// About how many, for people.
    pub total: u64,
    /// From when the job was enqueued, over how long they are spread.
    pub spread: Duration,
}

impl FanOut {
    /// The subject after which this attempt goes on.
    pub fn cursor<S: std::str::FromStr>(run: &StepContext) -> Option<S> {
        run.job.progress.as_ref()?.cursor.as_ref()?.parse().ok()
    }

    /// Enqueues `children`, which stand in the order of their list and begin after [`FanOut::resumes_after`].
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
        Ok(StepSuccess::ok(
            reason::NO_TENANT,
            Vec::new(),
            UpstreamRefs::default(),
        ))
    }

    async fn enqueue(self, run: &StepContext, batch: Vec<Child>) -> Result<(), StepFailure> {
        let spread = |child: Child| {
            let wait = self.spread.mul_f64(place_of(&child.subject));
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

/// Where in the window a subject has its place, from 0 to 1: the same each time, so that it comes at even intervals.
fn place_of(subject: &str) -> f64 {
    let digest: [u8; 32] = Sha256::digest(subject).into();
    let [a, b, c, d, ..] = digest;
    f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_spread_evenly_and_each_keeps_its_place() {
        let places: Vec<f64> = (0..10_000)
            .map(|n| place_of(&format!("subject {n}")))
            .collect();

        for tenth in 0..10 {
            let from = f64::from(tenth) / 10.0;
            let here = places
                .iter()
                .filter(|place| (from..from + 0.1).contains(*place))
                .count();
            assert!((900..1_100).contains(&here), "{tenth}: {here}");
        }
        assert_eq!(place_of("acme").to_bits(), place_of("acme").to_bits());
    }
}
