//! What many jobs have to record at the same time is written together, and a setback concerns its own job.

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

/// Jobs whose steps are all under way.
async fn under_way(harness: &Harness) -> Vec<(Tenant, JobId)> {
    let mut jobs = Vec::new();
    for n in 0..JOBS {
        let tenant = harness.add_tenant(&format!("tenant-{n}"), &[]).await;
        let args = Joining {
            tenant_id: tenant.id,
        };
        jobs.push((tenant, harness.enqueue(&args).await.id));
    }
    jobs
}

#[tokio::test(flavor = "multi_thread")]
async fn of_jobs_that_record_at_once_one_that_lost_its_lease_and_one_with_a_new_intent_hold_up_no_other()
 {
    let harness = Harness::new().await;
    let jobs = under_way(&harness).await;
    let script = Script::held([]);
    let worker = harness.worker_of("worker", script.for_each_upstream(), JOBS);
    script.ran(3 * JOBS).await;
    let (lost, changed) = (&jobs[0], &jobs[1]);
    let thief = harness.steal(lost.1).await;
    harness.change_tenant(changed.0.id, |_| {}).await;

    // Those of the changed one are run once more.
    script.let_go(3 * JOBS + 3);
    for (tenant, job) in &jobs[1..] {
        assert_eq!(harness.finished(*job).await.state, JobState::Completed);
        let tenant = harness.tenant(tenant.id).await;
        assert_eq!(tenant.status, TenantStatus::Active);
        assert_eq!(tenant.generation, tenant.conditions[0].observed_generation);
    }
    until(async || script.inside(), |inside| *inside == 0).await;
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
async fn a_tenant_that_is_written_meanwhile_keeps_what_was_written() {
    let harness = Harness::new().await;
    let jobs = under_way(&harness).await;
    let script = Script::held([]);
    let worker = harness.worker_of("worker", script.for_each_upstream(), JOBS);
    script.ran(3 * JOBS).await;
    // The intent stays what it was: another version, and no other generation.
    let tenants = harness
        .context
        .store
        .collection::<bson::Document>("tenants");
    let written = doc! { "$set": { "industry": "Shipping" }, "$inc": { "revision": 1_i64 } };
    tenants
        .update_many(
            doc! { "slug": { "$in": ["tenant-3", "tenant-7"] } },
            written,
        )
        .await
        .unwrap();

    script.let_go(3 * JOBS);
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
