//! Group commit: concurrent step records share a transaction, and a conflict affects only its own job.

use bson::doc;
use dezky_shared::{
    id::JobId,
    queue::job::{JobState, Step, StepState},
    tenant::{Tenant, TenantStatus},
};

use crate::{
    harness::{Harness, until},
    script::{Joining, Script},
};

const JOBS: usize = 12;

/// Jobs whose steps are all running.
async fn with_running_steps(harness: &Harness) -> Vec<(Tenant, JobId)> {
    let mut jobs = Vec::new();
    for n in 0..JOBS {
        let tenant = harness.add_tenant(&format!("tenant-{n}"), &[]).await;
        let args = Joining::of(&tenant);
        jobs.push((tenant, harness.enqueue(&args).await.id));
    }
    jobs
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lease_and_a_changed_desired_state_in_a_group_do_not_affect_its_other_jobs() {
    let harness = Harness::new().await;
    let jobs = with_running_steps(&harness).await;
    let script = Script::blocking([]);
    let worker = harness.worker_of("worker", script.for_each_upstream(), 2 * JOBS);
    script.until_runs(3 * JOBS).await;
    let (lost, changed) = (&jobs[0], &jobs[1]);
    let thief = harness.steal_lease(lost.1).await;
    harness
        .change_tenant(changed.0.id, |tenant| tenant.name.push('2'))
        .await;

    // The steps of the changed tenant run again.
    script.release(3 * JOBS + 3);
    for (tenant, job) in &jobs[1..] {
        assert_eq!(harness.finished(*job).await.state, JobState::Completed);
        let tenant = harness.tenant(tenant.id).await;
        assert_eq!(tenant.status, TenantStatus::Active);
        assert_eq!(tenant.generation, tenant.conditions[0].observed_generation);
    }
    until(async || script.running(), |running| *running == 0).await;
    worker.stop().await;

    assert_eq!(script.runs().len(), 3 * JOBS + 3);
    let left = harness.job(lost.1).await;
    let is_open = |step: &Step| step.state == StepState::Pending;
    assert!(left.steps.iter().all(is_open), "{:#?}", left.steps);
    assert_eq!(left.lease.unwrap().token, thief);
    assert_eq!(harness.tenant(lost.0.id).await, lost.0);
    let store = &harness.context.store;
    let events = store.collection::<bson::Document>("audit_events");
    let activated = events.count_documents(doc! { "action": "tenant.activated" });
    assert_eq!(activated.await.unwrap(), JOBS as u64 - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_no_upstream_holds_is_preserved_and_restarts_no_job() {
    let harness = Harness::new().await;
    let jobs = with_running_steps(&harness).await;
    let script = Script::blocking([]);
    let worker = harness.worker_of("worker", script.for_each_upstream(), 2 * JOBS);
    script.until_runs(3 * JOBS).await;
    // As the API does: a new generation with the same desired state.
    let tenants = harness
        .context
        .store
        .collection::<bson::Document>("tenants");
    let written = doc! {
        "$set": { "industry": "Shipping" },
        "$inc": { "generation": 1_i64, "revision": 1_i64 },
    };
    tenants
        .update_many(
            doc! { "slug": { "$in": ["tenant-3", "tenant-7"] } },
            written,
        )
        .await
        .unwrap();

    script.release(3 * JOBS);
    for (tenant, job) in &jobs {
        assert_eq!(harness.finished(*job).await.state, JobState::Completed);
        let now = harness.tenant(tenant.id).await;
        let is_written = ["tenant-3", "tenant-7"].contains(&now.slug.as_str());
        assert_eq!(now.status, TenantStatus::Active);
        assert_eq!(now.industry.is_some(), is_written, "{}", now.slug);
    }
    worker.stop().await;

    assert_eq!(script.runs().len(), 3 * JOBS);
}
