//! Group completion: jobs that were claimed together are completed by one update, and each keeps what is its own.

use std::{collections::BTreeMap, sync::Arc};

use dezky_shared::{
    id::{JobId, LeaseToken},
    queue::job::{Job, JobState},
};
use dezky_worker::steps::{Registry, StepSuccess, Steps};
use tokio::sync::Semaphore;

use crate::{
    harness::{Harness, Worker},
    script::Lone,
};

/// Jobs that one worker claims before it may complete any.
const JOBS: i32 = 12;

/// The jobs of a worker, and the gate that lets them complete.
struct Group {
    harness: Harness,
    worker: Worker,
    gate: Arc<Semaphore>,
    /// Each claimed job with its number.
    jobs: Vec<(i32, JobId)>,
    /// Ids of the largest part that was claimed together.
    together: Vec<JobId>,
}

impl Group {
    async fn new() -> Self {
        let harness = Harness::new().await;
        let mut jobs = Vec::new();
        for n in 0..JOBS {
            jobs.push((n, harness.enqueue_unannounced(&Lone { n }).await.id));
        }
        let gate = Arc::new(Semaphore::new(0));
        let worker = harness.worker_of("worker", registry(&gate), 32);
        let mut claims: BTreeMap<LeaseToken, Vec<JobId>> = BTreeMap::new();
        for (_, id) in &jobs {
            let started = |job: &Job| job.lease.is_some();
            let job = harness.job_until(*id, started).await;
            claims
                .entry(job.lease.unwrap().token)
                .or_default()
                .push(*id);
        }
        let together = claims.into_values().max_by_key(Vec::len).unwrap();
        assert!(together.len() >= 3, "{together:?}");
        Self {
            harness,
            worker,
            gate,
            jobs,
            together,
        }
    }

    fn complete_all(&self) {
        self.gate.add_permits(self.jobs.len());
    }
}

/// The step of a job reports a change that names it. MongoDB would evaluate the text as an expression.
fn registry(gate: &Arc<Semaphore>) -> Registry {
    let gate = gate.clone();
    Registry::default().register::<Lone>(Steps::parallel().step("work", move |run| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            let Lone { n } = run.job.args().unwrap();
            Ok(StepSuccess::ok("Done", vec![format!("$revision {n}")]))
        }
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_job_of_a_group_keeps_its_own_result() {
    let group = Group::new().await;

    group.complete_all();
    for (n, id) in &group.jobs {
        let job = group.harness.finished(*id).await;

        assert_eq!(job.state, JobState::Completed);
        assert_eq!(job.steps.len(), 1);
        assert_eq!(job.steps[0].changes, [format!("$revision {n}")]);
        let attempts = job.attempts.iter().map(|attempt| attempt.outcome.as_str());
        assert_eq!(attempts.collect::<Vec<_>>(), ["complete"]);
        assert_eq!(job.lease, None);
        let stored = group.harness.stored_job(*id).await;
        assert!(!stored.contains_key("settling"), "{stored}");
    }
    group.worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_group_whose_lease_was_lost_is_left_to_its_new_holder() {
    let group = Group::new().await;
    let (lost, others) = group.together.split_first().unwrap();
    group.harness.steal_lease(*lost).await;
    let before = group.harness.stored_job(*lost).await;

    group.complete_all();
    for id in others {
        group.harness.finished(*id).await;
    }
    group.worker.stop().await;

    assert_eq!(group.harness.stored_job(*lost).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_group_that_mongodb_refuses_does_not_block_the_others() {
    let group = Group::new().await;
    let (refused, others) = group.together.split_first().unwrap();
    group.harness.block_settlement(*refused).await;

    group.complete_all();
    for id in others {
        let job = group.harness.finished(*id).await;
        assert_eq!(job.state, JobState::Completed);
    }
    let meanwhile = group.harness.job(*refused).await.state;
    group.harness.unblock_settlement().await;
    let refused = group.harness.finished(*refused).await;
    group.worker.stop().await;

    assert_eq!(meanwhile, JobState::Running);
    assert_eq!(refused.state, JobState::Completed);
    assert_eq!(refused.attempts.len(), 1);
}
