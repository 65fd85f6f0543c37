//! Workers that are lost in the middle of an upstream write.

use std::time::Duration;

use dezky_shared::queue::{args::ProvisionTenant, job::JobState};
use dezky_sim::faults::{Fault, FaultRule};
use dezky_worker::{engine::EngineTimings, jobs};

use crate::{
    harness::{Harness, until},
    upstreams::Upstreams,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_its_worker_could_not_record_as_in_doubt_is_not_repeated() {
    let upstreams = Upstreams::start().await;
    let mut config = upstreams.config();
    config.authentik = None;
    config.stalwart = None;
    config.ocis.as_mut().unwrap().timeout = Duration::from_secs(5);
    let mut harness = Harness::with(config).await;
    // The proportions of production, and short periods.
    harness.times = EngineTimings {
        rescue_grace: Duration::from_millis(300),
        rescue_every: Duration::from_millis(100),
        rescue_spread: Duration::from_millis(1),
        sweep_every: Duration::from_millis(100),
        pop_block: Duration::from_millis(100),
        ..EngineTimings::with_lease(Duration::from_secs(3))
    };
    let leader = harness.leader();
    harness.until_leader().await;
    let tenant_id = harness.add_tenant("acme", &[]).await.id;
    // An earlier create may have happened, so the step lists before it creates.
    harness.forget_space(tenant_id).await;
    let faults = &upstreams.ocis.server.faults;
    // The create begins shortly before the lease deadline, times out, and lands after the lease has expired.
    let (late_list, late_create) = (
        Fault::SlowAnswer { millis: 2_200 },
        Fault::SlowEffect { millis: 1_500 },
    );
    faults.add(FaultRule::once("list_spaces", late_list));
    faults.add(FaultRule::once("create_space", late_create));
    let proxy = harness.proxy().await;
    let cut_off = harness.worker_through(&proxy, jobs::registry(), 1).await;

    let job = harness.enqueue(&ProvisionTenant { tenant_id }).await;
    until(
        async || faults.requests().get("list_spaces").copied().unwrap_or(0),
        |requests| *requests > 0,
    )
    .await;
    proxy.hold();
    let next = harness.worker();
    let job = harness.finished(job.id).await;
    until(
        async || faults.outstanding(),
        |outstanding| *outstanding == 0,
    )
    .await;
    proxy.mend();
    for worker in [cut_off, next, leader] {
        worker.stop().await;
    }

    assert_eq!(job.state, JobState::Completed);
    assert_eq!(job.attempts[0].outcome, "rescue");
    let marker = format!("project/{tenant_id}");
    let mut spaces = upstreams.ocis.spaces();
    spaces.retain(|space| space.alias == marker);
    assert_eq!(spaces.len(), 1, "{spaces:#?}");
    let tenant = harness.tenant(tenant_id).await;
    assert_eq!(tenant.ocis_space_id.as_ref(), Some(&spaces[0].id));
}
