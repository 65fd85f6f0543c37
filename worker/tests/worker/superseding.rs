//! A job that would wait beside another with its unique key gives way to it.

use bson::doc;
use dezky_shared::{
    queue::{
        error_code::ErrorCode,
        job::{Job, JobState},
    },
    tenant::TenantStatus,
};

use crate::{
    harness::Harness,
    script::{Joining, Say, Script},
};

/// Runs a job whose first attempt comes to `say`, while another with its unique key is enqueued.
async fn after(say: Say, changes_intent: bool) -> (Job, Job) {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let old = harness
        .enqueue(&Joining {
            tenant_id: tenant.id,
        })
        .await;
    let script = Script::held([say]);
    let worker = harness.worker_of("worker", script.for_each_upstream(), 8);
    script.ran(3).await;
    if changes_intent {
        harness.change_tenant(tenant.id, |_| {}).await;
    }
    let new = harness
        .enqueue(&Joining {
            tenant_id: tenant.id,
        })
        .await;

    script.let_go(6);
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
async fn a_retry_gives_way() {
    let (old, new) = after(Say::Fail(ErrorCode::Internal), false).await;

    assert_superseded(&old, &new);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snooze_gives_way() {
    let (old, new) = after(Say::Fail(ErrorCode::UpstreamUnavailable), false).await;

    assert_superseded(&old, &new);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_gives_way() {
    let (old, new) = after(Say::Ok, true).await;

    assert_superseded(&old, &new);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_succeeds_does_not_give_way() {
    let (old, new) = after(Say::Ok, false).await;

    assert_eq!(
        (old.state, new.state),
        (JobState::Completed, JobState::Completed)
    );
    assert_eq!(old.superseded_by, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_gives_way() {
    let mut harness = Harness::new().await;
    harness.times.drain = std::time::Duration::ZERO;
    let tenant = harness.add_tenant("acme", &[]).await;
    let old = harness
        .enqueue(&Joining {
            tenant_id: tenant.id,
        })
        .await;
    let script = Script::held([]);
    let worker = harness.worker_of("worker", script.for_each_upstream(), 8);
    script.ran(3).await;
    let new = harness
        .enqueue_silently(&Joining {
            tenant_id: tenant.id,
        })
        .await;

    worker.stop().await;
    let old = harness.job(old.id).await;
    script.let_go(3);
    let next = harness.worker_of("next", script.for_each_upstream(), 8);
    let new = harness.finished(new.id).await;
    next.stop().await;

    assert_superseded(&old, &new);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rescue_gives_way() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let old = harness
        .leave_behind(
            &Joining {
                tenant_id: tenant.id,
            },
            true,
        )
        .await;
    let new = harness
        .enqueue(&Joining {
            tenant_id: tenant.id,
        })
        .await;

    let worker = harness.worker_of("worker", Script::new([]).for_each_upstream(), 8);
    let old = harness.finished(old.id).await;
    let new = harness.finished(new.id).await;
    worker.stop().await;

    assert_superseded(&old, &new);
    assert_eq!(harness.tenant(tenant.id).await.status, TenantStatus::Active);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tenant_of_a_superseded_job_still_waits_for_the_other() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let old = harness
        .leave_behind(
            &Joining {
                tenant_id: tenant.id,
            },
            true,
        )
        .await;
    let new = harness
        .enqueue_silently(&Joining {
            tenant_id: tenant.id,
        })
        .await;
    harness
        .edit_job(new.id, doc! { "runAt": bson::DateTime::MAX })
        .await;

    let leader = harness.leader();
    harness.finished(old.id).await;
    leader.stop().await;

    let after = harness.tenant(tenant.id).await;
    assert_eq!(after.provisioning_status, tenant.provisioning_status);
}
