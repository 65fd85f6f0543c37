//! Missing permissions: an upstream that denies an operation is published, and a resume releases the held jobs.

use std::time::Duration;

use dezky_shared::{queue::job::JobState, tenant::TenantStatus, upstream::Upstream};
use dezky_sim::faults::{Fault, FaultRule};

use crate::{
    admission::pause_upstream,
    harness::{Harness, until},
    upstreams::Upstreams,
};

/// As an operator who resumes the upstream.
async fn resume(harness: &Harness) {
    pause_upstream(harness, Upstream::Authentik, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_is_published_and_a_resume_releases_the_held_jobs() {
    let upstreams = Upstreams::start().await;
    let mut harness = Harness::with_upstreams(&upstreams).await;
    harness.times.hold_backoff = Duration::from_hours(1);
    harness.times.measure_every = Duration::from_millis(100);
    let faults = &upstreams.authentik.server.faults;
    let requests = || faults.requests().values().sum::<u64>();
    let state = async || {
        let upstreams = &harness.context.upstreams;
        upstreams.find(Upstream::Authentik).await.unwrap()
    };
    faults.add(FaultRule::every(Fault::Status {
        status: 403,
        retry_after: None,
    }));
    let jobs = harness.add_provisioning(3).await;
    let worker = harness.worker();
    let is_missing = until(state, |state| {
        let missing = state.permission.as_ref();
        missing.is_some_and(|missing| missing.jobs == 3)
    })
    .await;
    let refused = requests();

    // The permission is still missing: each job is refused once more, and held again.
    resume(&harness).await;
    until(state, |state| state.let_go_at.is_none()).await;
    let refused_again = requests();
    faults.clear();
    resume(&harness).await;
    for (tenant, job) in &jobs {
        harness
            .tenant_until(tenant.id, |tenant| tenant.status == TenantStatus::Active)
            .await;
        assert_eq!(harness.finished(*job).await.state, JobState::Completed);
    }
    until(state, |state| state.permission.is_none()).await;
    worker.stop().await;

    let missing = is_missing.permission.unwrap();
    assert!(missing.operation.is_some());
    assert!(missing.detail.contains("permission missing"), "{missing:?}");
    assert_eq!(refused_again, 2 * refused);
}
