//! Superseding: a job that would become available beside another with its unique key is superseded by it.

use bson::doc;
use dezky_shared::{
    queue::{
        error_code::ErrorCode,
        job::{Job, JobState},
    },
    store::jobs::NewJob,
    tenant::TenantStatus,
};

use crate::{
    harness::{Harness, encryption_keys},
    script::{Joining, Script, Scripted},
};

/// Runs a job whose first attempt ends with `say`, while another with its unique key is enqueued.
async fn after(say: Scripted, changes_desired_state: bool) -> (Job, Job) {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let old = harness.enqueue(&Joining::of(&tenant)).await;
    let script = Script::blocking([say]);
    let worker = harness.worker_of("worker", script.for_each_upstream(), 8);
    script.until_runs(3).await;
    if changes_desired_state {
        harness
            .change_tenant(tenant.id, |tenant| tenant.name.push('2'))
            .await;
    }
    let new = harness.enqueue(&Joining::of(&tenant)).await;

    script.release(6);
    let old = harness.finished(old.id).await;
    let new = harness.finished(new.id).await;
    worker.stop().await;

    assert_eq!(harness.tenant(tenant.id).await.status, TenantStatus::Active);
    (old, new)
}

fn assert_superseded(old: &Job, new: &Job) {
    assert_eq!(old.state, JobState::Cancelled, "{old:#?}");
    assert_eq!(old.error.as_ref().unwrap().code, ErrorCode::Superseded);
    assert_eq!(old.superseded_by, Some(new.id));
    assert!(old.lease.is_none() && old.expire_at.is_some());
    assert_eq!(new.state, JobState::Completed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_superseded() {
    let (old, new) = after(Scripted::Fail(ErrorCode::Internal), false).await;

    assert_superseded(&old, &new);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_with_secrets_keeps_them_beside_a_job_without() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let context = &harness.context;
    let old = NewJob::new(&Joining::of(&tenant), "test", context.store.now()).unwrap();
    let old = old.with_secrets(&encryption_keys(), &"secret").unwrap();
    let old = harness.enqueue_new(&old).await;
    context.ready.notify(std::slice::from_ref(&old)).await;
    let script = Script::blocking([Scripted::Fail(ErrorCode::UpstreamUnavailable)]);
    let worker = harness.worker_of("worker", script.for_each_upstream(), 8);
    script.until_runs(3).await;

    let new = harness.enqueue(&Joining::of(&tenant)).await;
    script.release(3);
    let retried = harness.job_until(old.id, |job| job.snoozes > 0).await;
    script.release(6);
    let old = harness.finished(old.id).await;
    let new = harness.finished(new.id).await;
    worker.stop().await;

    assert!(retried.secrets.is_some());
    assert_eq!(
        (old.state, new.state),
        (JobState::Completed, JobState::Completed)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snoozed_job_is_superseded() {
    let (old, new) = after(Scripted::Fail(ErrorCode::UpstreamUnavailable), false).await;

    assert_superseded(&old, &new);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_job_is_superseded() {
    let (old, new) = after(Scripted::Ok, true).await;

    assert_superseded(&old, &new);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_job_is_not_superseded() {
    let (old, new) = after(Scripted::Ok, false).await;

    assert_eq!(
        (old.state, new.state),
        (JobState::Completed, JobState::Completed)
    );
    assert_eq!(old.superseded_by, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_job_is_superseded() {
    let mut harness = Harness::new().await;
    harness.times.drain = std::time::Duration::ZERO;
    let tenant = harness.add_tenant("acme", &[]).await;
    let old = harness.enqueue(&Joining::of(&tenant)).await;
    let script = Script::blocking([]);
    let worker = harness.worker_of("worker", script.for_each_upstream(), 8);
    script.until_runs(3).await;
    let new = harness.enqueue_unannounced(&Joining::of(&tenant)).await;

    worker.stop().await;
    let old = harness.job(old.id).await;
    script.release(3);
    let next = harness.worker_of("next", script.for_each_upstream(), 8);
    let new = harness.finished(new.id).await;
    next.stop().await;

    assert_superseded(&old, &new);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rescued_job_is_superseded() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let old = harness.add_orphan(&Joining::of(&tenant), true).await;
    let new = harness.enqueue(&Joining::of(&tenant)).await;

    let worker = harness.worker_of("worker", Script::new([]).for_each_upstream(), 8);
    let old = harness.finished(old.id).await;
    let new = harness.finished(new.id).await;
    worker.stop().await;

    assert_superseded(&old, &new);
    assert_eq!(harness.tenant(tenant.id).await.status, TenantStatus::Active);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tenant_of_a_superseded_job_stays_pending_for_the_other() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let old = harness.add_orphan(&Joining::of(&tenant), true).await;
    let new = harness.enqueue_unannounced(&Joining::of(&tenant)).await;
    harness
        .edit_job(new.id, doc! { "runAt": bson::DateTime::MAX })
        .await;

    let leader = harness.leader();
    harness.finished(old.id).await;
    leader.stop().await;

    let after = harness.tenant(tenant.id).await;
    assert_eq!(after.provisioning_status, tenant.provisioning_status);
}
