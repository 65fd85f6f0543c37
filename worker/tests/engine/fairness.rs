//! Fairness: no tenant's backlog starves another tenant, asserted by order rather than by time.

use dezky_shared::id::TenantId;
use dezky_worker::steps::{Registry, Steps};

use crate::{
    harness::{Harness, until},
    script::{Bill, Script, Single},
};

fn registry(script: &Script) -> Registry {
    let steps = || Steps::parallel().step("work", script.step());
    Registry::default()
        .register::<Single>(steps())
        .register::<Bill>(steps())
}

fn lock_key(tenant: TenantId) -> String {
    format!("tenant:{tenant}")
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_jobs_of_one_tenant_do_not_delay_the_job_of_another() {
    let harness = Harness::new().await;
    let busy = harness.add_tenant("busy", &[]).await.id;
    let other = harness.add_tenant("other", &[]).await.id;
    let backlog = vec![lock_key(busy); 10_000];
    let script = Script::blocking([]);
    let worker = harness.worker_of("worker", registry(&script), 1);

    harness
        .clone_for_lock_keys(&Single { tenant_id: busy }, &backlog)
        .await;
    script.until_runs(1).await;
    let job = harness.enqueue(&Single { tenant_id: other }).await;
    script.release(3);
    let runs = script.until_runs(3).await;
    script.release(10_000);
    worker.request_stop();
    worker.stop().await;

    let place = runs.iter().position(|run| run.job == job.id);
    assert!(place.is_some_and(|place| place <= 2), "{place:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_backlog_in_one_queue_does_not_starve_its_jobs_in_another() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("busy", &[]).await.id;
    let backlog = vec![lock_key(tenant); 400];
    harness
        .clone_for_lock_keys(&Single { tenant_id: tenant }, &backlog)
        .await;
    let script = Script::new([]);
    let worker = harness.worker_of("worker", registry(&script), 4);
    script.until_runs(5).await;

    let bill = harness.enqueue(&Bill { tenant_id: tenant }).await;
    let before = script.runs().len();
    let runs = until(
        async || script.runs(),
        |runs| runs.iter().any(|run| run.job == bill.id),
    )
    .await;
    worker.stop().await;

    let place = runs.iter().position(|run| run.job == bill.id).unwrap();
    assert!(
        place - before < 40,
        "started at position {place}, enqueued at {before}"
    );
}
