//! Rolling deploys: jobs of a newer build do not disturb a worker of an older one.

use std::time::Duration;

use bson::{Document, doc};
use dezky_shared::{
    queue::{error_code::ErrorCode, job::JobState, priority::Priority},
    store::jobs::JobFilter,
    upstream::Upstream,
};
use dezky_worker::steps::{Registry, Steps};

use crate::{
    admission::pause_upstream,
    harness::{Harness, until},
    script::{Joining, Lone, Script, Single},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_an_unknown_kind_waits_for_a_newer_worker() {
    let mut harness = Harness::new().await;
    harness.times.lease = Duration::from_secs(3);
    let tenant = harness.add_tenant("acme", &[]).await;
    let script = Script::new([]);
    let job = harness.enqueue(&Single::of(&tenant)).await;

    let older = harness.worker_of("older", Registry::default(), 8);
    let waiting = harness.job_until(job.id, |job| job.snoozes > 0).await;
    let steps = Steps::parallel().step("work", script.step());
    let newer = harness.worker_of("newer", Registry::default().register::<Single>(steps), 8);
    let done = harness.finished(job.id).await;
    older.stop().await;
    newer.stop().await;

    assert_eq!(waiting.state, JobState::Available);
    assert_eq!((waiting.attempt, waiting.error), (0, None));
    assert!(waiting.run_at > waiting.updated_at);
    assert_eq!((done.state, done.attempt), (JobState::Completed, 1));
    assert_eq!(script.runs().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_cannot_be_decoded_is_released_uncharged_and_blocks_no_other() {
    let harness = Harness::new().await;
    let tenants = [
        harness.add_tenant("lost", &[]).await,
        harness.add_tenant("waiting", &[]).await,
    ];
    let first = harness.enqueue_unannounced(&Lone { n: 1 }).await;
    let lost = harness.add_orphan(&Single::of(&tenants[0]), true).await;
    let waiting = harness.enqueue_unannounced(&Single::of(&tenants[1])).await;
    // A step state that this build does not know.
    let steps = doc! { "steps": [{ "name": "work", "state": "of_the_next_release" }] };
    let mut others = Vec::new();
    for (job, tenant) in [&lost, &waiting].into_iter().zip(&tenants) {
        harness.edit_job(job.id, steps.clone()).await;
        others.push(harness.enqueue_unannounced(&Single::of(tenant)).await);
    }
    let script = Script::new([]);

    let work = Steps::parallel().step("work", script.step());
    let worker = harness.worker_of("worker", Registry::default().register::<Single>(work), 8);
    for other in others {
        let other = harness.finished(other.id).await;
        assert_eq!(other.state, JobState::Completed);
    }
    worker.stop().await;

    for job in [lost, waiting] {
        let stored = harness.stored_job(job.id).await;
        assert_eq!(stored.get_str("state").unwrap(), "available");
        assert_eq!(stored.get_i32("attempt").unwrap(), 0);
        assert!(stored.get_datetime("runAt").unwrap() > stored.get_datetime("updatedAt").unwrap());
        assert!(!stored.contains_key("lease"));
        assert_eq!(
            stored.get_array("steps").unwrap(),
            steps.get_array("steps").unwrap()
        );
    }
    let listed = harness
        .context
        .jobs
        .list(&JobFilter::default(), 3)
        .await
        .unwrap();
    let oldest = listed.last().map(|job| job.id);
    assert_eq!((listed.len(), oldest), (3, Some(first.id)));
    assert_eq!(script.runs().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn control_documents_of_a_newer_build_stop_neither_jobs_nor_their_rescue() {
    let harness = Harness::new().await;
    let store = &harness.context.store;
    let now = store.now();
    let newer = "of_the_next_release";
    let controls = [
        ("upstreams", doc! { "_id": newer, "letGoAt": now }),
        (
            "queues",
            doc! { "_id": newer, "paused": { "at": now, "by": "operator" } },
        ),
        (
            "workers",
            doc! { "_id": newer, "slots": { newer: 3_i64 }, "seenAt": now },
        ),
        ("probes", doc! { "_id": newer, "outcome": newer }),
    ];
    for (collection, control) in controls {
        let inserted = store.collection(collection).insert_one(control).await;
        inserted.unwrap();
    }
    let tenant = harness.add_tenant("acme", &[]).await;
    let lost = harness.add_orphan(&Lone { n: 1 }, false).await;
    let job = harness.enqueue(&Joining::of(&tenant)).await;
    let script = Script::new([]);

    let steps = Steps::parallel().step("work", script.step());
    let registry = script.for_each_upstream().register::<Lone>(steps);
    let worker = harness.worker_of("worker", registry, 8);
    let (lost, job) = (
        harness.finished(lost.id).await,
        harness.finished(job.id).await,
    );
    worker.stop().await;

    assert_eq!(lost.state, JobState::Completed);
    assert_eq!((job.state, job.snoozes), (JobState::Completed, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_cannot_be_decoded_gives_way_to_the_one_with_its_unique_key() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let lost = harness.add_orphan(&Joining::of(&tenant), true).await;
    let steps = doc! { "steps": [{ "name": "work", "state": "of_the_next_release" }] };
    harness.edit_job(lost.id, steps).await;
    let next = harness.enqueue_unannounced(&Joining::of(&tenant)).await;
    let script = Script::new([]);

    let worker = harness.worker_of("worker", script.for_each_upstream(), 8);
    let next = harness.finished(next.id).await;
    worker.stop().await;

    assert_eq!(next.state, JobState::Completed);
    let lost = harness.stored_job(lost.id).await;
    assert_eq!(lost.get_str("state").unwrap(), "cancelled");
    assert!(!lost.contains_key("lease") && lost.contains_key("expireAt"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_code_of_a_newer_build_is_kept_and_its_job_runs() {
    let harness = Harness::new().await;
    let job = harness.enqueue_unannounced(&Lone { n: 1 }).await;
    let failure = doc! {
        "code": "of_the_next_release",
        "class": "weather",
        "message": "It rains.",
        "detail": "rain",
        "retryable": false,
    };
    let failed =
        doc! { "name": "ended", "state": "error", "attempts": 1, "error": failure.clone() };
    let pending = doc! { "name": "work", "state": "pending", "attempts": 0 };
    let stored = doc! { "error": failure, "steps": [failed.clone(), pending] };
    harness.edit_job(job.id, stored).await;
    let script = Script::new([]);

    let steps = Steps::parallel().step("work", script.step());
    let worker = harness.worker_of("worker", Registry::default().register::<Lone>(steps), 8);
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!((job.state, script.runs().len()), (JobState::Discarded, 1));
    let stored = harness.stored_job(job.id).await;
    let steps = stored.get_array("steps").unwrap();
    assert_eq!(steps[1].as_document().unwrap(), &failed);
    let error = stored.get_document("error").unwrap();
    assert_eq!(error.get_str("code").unwrap(), "of_the_next_release");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_a_newer_build_is_neither_dropped_nor_taken_as_done() {
    let mut harness = Harness::new().await;
    harness.times.lease = Duration::from_secs(3);
    let (known, new) = (Script::new([]), Script::new([]));
    let job = harness.enqueue_unannounced(&Lone { n: 1 }).await;
    let pending = |name: &str| doc! { "name": name, "state": "pending", "attempts": 0 };
    let steps = doc! { "steps": [pending("new"), pending("known")] };
    harness.edit_job(job.id, steps).await;
    let older = Steps::parallel().step("known", known.step());
    let newer = Steps::parallel()
        .step("known", known.step())
        .step("new", new.step());

    let worker = harness.worker_of("older", Registry::default().register::<Lone>(older), 8);
    let waiting = harness.job_until(job.id, |job| job.snoozes > 0).await;
    worker.stop().await;
    let worker = harness.worker_of("newer", Registry::default().register::<Lone>(newer), 8);
    let done = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!((waiting.state, waiting.attempt), (JobState::Available, 0));
    assert!(waiting.step("known").unwrap().state.is_done());
    assert_eq!(waiting.step("new").unwrap().next_at, Some(waiting.run_at));
    assert!(waiting.run_at > waiting.updated_at);
    assert_eq!(done.state, JobState::Completed);
    assert_eq!((known.runs().len(), new.runs().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_starts_over_keeps_a_step_of_a_newer_build() {
    let mut harness = Harness::new().await;
    harness.times.lease = Duration::from_secs(3);
    let tenant = harness.add_tenant("acme", &[]).await;
    let job = harness.enqueue_unannounced(&Joining::of(&tenant)).await;
    let new = doc! { "name": "new", "state": "pending", "attempts": 0 };
    harness.edit_job(job.id, doc! { "steps": [new] }).await;
    let script = Script::blocking([]);

    let worker = harness.worker_of("older", script.for_each_upstream(), 8);
    script.until_runs(3).await;
    harness
        .change_tenant(tenant.id, |tenant| tenant.name.push('2'))
        .await;
    script.release(6);
    script.until_runs(6).await;
    let job = harness.job_until(job.id, |job| job.snoozes > 0).await;
    worker.stop().await;

    assert_eq!(job.state, JobState::Available);
    let names: Vec<&str> = job.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["authentik", "stalwart", "ocis", "new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_due_job_without_a_readable_lock_key_stops_no_sweep() {
    let harness = Harness::new().await;
    let unreadable = harness.enqueue_unannounced(&Lone { n: 1 }).await;
    // In the lane that is swept first.
    let set = doc! { "lockKey": 7, "priority": Priority::Security };
    harness.edit_job(unreadable.id, set).await;
    let other = harness.enqueue_unannounced(&Lone { n: 2 }).await;
    let script = Script::new([]);

    let work = Steps::parallel().step("work", script.step());
    let worker = harness.worker_of("worker", Registry::default().register::<Lone>(work), 8);
    let other = harness.finished(other.id).await;
    worker.stop().await;

    assert_eq!(other.state, JobState::Completed);
    let stored = harness.stored_job(unreadable.id).await;
    assert_eq!(stored.get_str("state").unwrap(), "available");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_claim_is_refused_is_put_off_and_blocks_no_other() {
    for counter in ["attempt", "revision"] {
        let harness = Harness::new().await;
        let tenant = harness.add_tenant("acme", &[]).await;
        let refused = harness.enqueue_unannounced(&Single::of(&tenant)).await;
        let set = doc! { counter: "of_the_next_release" };
        harness.edit_job(refused.id, set.clone()).await;
        let lost = harness.add_orphan(&Lone { n: 1 }, true).await;
        harness.edit_job(lost.id, set).await;
        let other = harness.enqueue_unannounced(&Single::of(&tenant)).await;
        let script = Script::new([]);

        let work = Steps::parallel().step("work", script.step());
        let worker = harness.worker_of("worker", Registry::default().register::<Single>(work), 8);
        let other = harness.finished(other.id).await;
        let released = async || harness.stored_job(lost.id).await;
        let lost = until(released, |job| {
            job.get_str("state").is_ok_and(|state| state == "available")
        })
        .await;
        worker.stop().await;

        assert_eq!(other.state, JobState::Completed, "{counter}");
        let refused = harness.stored_job(refused.id).await;
        assert_eq!(refused.get_str("state").unwrap(), "available");
        let now = harness.context.store.now();
        for job in [refused, lost] {
            assert!(*job.get_datetime("runAt").unwrap() > now, "{counter}");
            assert_eq!(job.get_str(counter).unwrap(), "of_the_next_release");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_of_a_newer_build_hides_no_pause() {
    let harness = Harness::new().await;
    let upstreams = harness.context.store.collection::<Document>("upstreams");
    let newer = doc! { "_id": "of_the_next_release", "fingerprint": 7 };
    upstreams.insert_one(newer).await.unwrap();
    let script = Script::new([]);
    let steps = Steps::parallel().upstream(Upstream::Stalwart, script.step());
    pause_upstream(&harness, Upstream::Stalwart, true).await;

    let worker = harness.worker_of("worker", Registry::default().register::<Lone>(steps), 4);
    let job = harness.enqueue(&Lone { n: 1 }).await;
    let waiting = harness.job_until(job.id, |job| job.snoozes > 0).await;
    pause_upstream(&harness, Upstream::Stalwart, false).await;
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(waiting.error.unwrap().code, ErrorCode::UpstreamPaused);
    assert_eq!(job.state, JobState::Completed);
}
