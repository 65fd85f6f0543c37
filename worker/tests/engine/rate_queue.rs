//! Queue for an upstream's rate budget: order, bounds, and a leader that dies while it hands out reservations.

use std::time::Duration;

use bson::doc;
use dezky_shared::{
    id::JobId, platform::clock, queue::job::JobState, store::StoreError, upstream::Upstream,
};
use dezky_upstreams::circuit_breaker::{RESERVATION_HORIZON, RateBudget};

use crate::{
    admission::scripted,
    harness::{Harness, until},
    script::{Lone, Script},
};

/// A harness with a rate budget for the mail server.
async fn with_budget(per_second: f64, burst: u32) -> (Harness, RateBudget) {
    let mut harness = Harness::new().await;
    let budget = RateBudget { per_second, burst };
    harness.budgets.insert(Upstream::Stalwart, budget);
    (harness, budget)
}

/// Jobs with a step that waits for a reservation.
async fn add_waiting_jobs(harness: &Harness, count: i32) -> Vec<JobId> {
    let later = clock::later(harness.context.store.now(), Duration::from_hours(1));
    let mut jobs = Vec::new();
    for n in 0..count {
        let job = harness.enqueue_unannounced(&Lone { n }).await;
        let step = doc! {
            "name": "stalwart", "state": "pending", "attempts": 0, "nextAt": later, "turnAt": later, "asksAgain": true,
        };
        let waiting = doc! { "steps": [step], "runAt": later };
        harness.edit_job(job.id, waiting).await;
        jobs.push(job.id);
    }
    jobs
}

async fn waiting(harness: &Harness) -> Result<u64, StoreError> {
    let waiting = doc! { "steps.asksAgain": true };
    harness.jobs().count_documents(waiting).await
}

/// Runs the jobs with another worker. Each step runs once.
async fn finish(harness: &Harness, jobs: &[JobId]) {
    let script = Script::new([]);
    let worker = harness.worker_of("next", scripted(&script), 8);
    for job in jobs {
        let job = harness.finished(*job).await;
        assert_eq!(
            (job.state, job.attempt),
            (JobState::Completed, 1),
            "{job:#?}"
        );
    }
    worker.stop().await;
    assert_eq!(script.runs().len(), jobs.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn reservations_that_were_not_recorded_are_handed_out_by_the_next_leader() {
    let (harness, budget) = with_budget(10.0, 1).await;
    let jobs = add_waiting_jobs(&harness, 6).await;
    let in_queue =
        doc! { "$or": [{ "state": { "$ne": "available" } }, { "steps.asksAgain": true }] };
    harness.refuse_unless("jobs", in_queue).await;

    let leader = harness.leader_of(scripted(&Script::new([])));
    let breakers = &harness.context.circuits;
    until(
        async || breakers.snapshot(Upstream::Stalwart, budget).await.turn_in,
        Option::is_some,
    )
    .await;
    let left = waiting(&harness).await.unwrap();
    leader.stop().await;
    harness.refuse_unless("jobs", doc! {}).await;

    assert_eq!(left, 6);
    finish(&harness, &jobs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reservations_of_a_leader_that_is_gone_are_used() {
    let (harness, _) = with_budget(10.0, 1).await;
    let jobs = add_waiting_jobs(&harness, 6).await;
    let leader = harness.leader_of(scripted(&Script::new([])));
    until(
        async || waiting(&harness).await.unwrap(),
        |waiting| *waiting == 0,
    )
    .await;
    leader.stop().await;

    finish(&harness, &jobs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_in_a_queue_of_a_newer_build_keeps_no_other_waiting() {
    let (harness, _) = with_budget(10.0, 1).await;
    let jobs = add_waiting_jobs(&harness, 4).await;
    let queue = doc! { "queue": "of_the_next_release" };
    harness.edit_job(jobs[0], queue).await;

    finish(&harness, &jobs[1..]).await;

    assert_eq!(waiting(&harness).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_beyond_the_rate_budget_wait_for_a_reservation_uncharged() {
    let (harness, _) = with_budget(10.0, 2).await;
    let script = Script::new([]);
    let mut jobs = Vec::new();
    for n in 0..8 {
        jobs.push(harness.enqueue(&Lone { n }).await.id);
    }

    let worker = harness.worker_of("worker", scripted(&script), 16);
    let mut snoozes = 0;
    for job in jobs {
        let job = harness.finished(job).await;
        assert_eq!((job.state, job.attempt), (JobState::Completed, 1));
        assert!(job.snoozes <= 2, "a reserved step runs at its reservation");
        snoozes += job.snoozes;
    }
    worker.stop().await;

    assert!(snoozes >= 4, "{snoozes}");
    let runs = script.runs();
    let took = runs[7].at.timestamp_millis() - runs[0].at.timestamp_millis();
    assert!(
        took >= 500,
        "six reservations take at least half a second: {took}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_jobs_does_not_reserve_the_budget_of_later_jobs() {
    let (harness, budget) = with_budget(2.0, 1).await;
    let script = Script::new([]);
    let worker = harness.worker_of("worker", scripted(&script), 16);
    let mut flood = Vec::new();
    for n in 0..60 {
        flood.push(harness.enqueue(&Lone { n }).await.id);
    }
    for job in flood {
        harness
            .job_until(job, |job| job.snoozes > 0 || job.state.is_final())
            .await;
    }

    let breakers = &harness.context.circuits;
    let reserved_in = breakers.snapshot(Upstream::Stalwart, budget).await.turn_in;
    let late = harness.enqueue(&Lone { n: 60 }).await;
    let late = harness
        .job_until(late.id, |job| job.snoozes > 0 || job.state.is_final())
        .await;
    worker.stop().await;

    assert!(
        reserved_in.unwrap() < 2 * RESERVATION_HORIZON,
        "{reserved_in:?}"
    );
    assert!(late.steps[0].queue_full, "{late:#?}");
}
