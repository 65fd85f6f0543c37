//! One tenant's backlog never starves another's, by order and not by time.

use dezky_shared::{id::TenantId, queue::job::Queue};
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
async fn behind_ten_thousand_jobs_of_one_tenant_anothers_is_among_the_next() {
    let harness = Harness::new().await;
    let busy = harness.add_tenant("busy", &[]).await.id;
    let other = harness.add_tenant("other", &[]).await.id;
    let backlog = vec![lock_key(busy); 10_000];
    let script = Script::held([]);
    let worker = harness.worker_of("worker", registry(&script), 1);

    harness
        .multiply(&Single { tenant_id: busy }, &backlog)
        .await;
    script.ran(1).await;
    let job = harness.enqueue(&Single { tenant_id: other }).await;
    script.let_go(3);
    let runs = script.ran(3).await;
    script.let_go(10_000);
    worker.begin_stop();
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
        .multiply(&Single { tenant_id: tenant }, &backlog)
        .await;
    let script = Script::new([]);
    let worker = harness.worker_of("worker", registry(&script), 4);
    script.ran(5).await;

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
        "begun as number {place}, asked for at {before}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_high_priority_do_not_starve_a_key_of_low_priority() {
    let harness = Harness::new().await;
    let low = harness.add_tenant("low", &[]).await.id;
    let script = Script::held([]);
    let job = harness.enqueue_silently(&Single { tenant_id: low }).await;
    harness.edit_job(job.id, bson::doc! { "priority": 2 }).await;
    let key = format!("{}:ready:{}", harness.redis.prefix, Queue::Provisioning);
    let mut connection = harness.redis_connection().await;
    // As if it had waited for three minutes behind ever new keys of high priority.
    let three_minutes_ago = dezky_shared::platform::clock::now().timestamp_millis() / 1_000 - 180;
    redis::cmd("ZADD")
        .arg(&key)
        .arg(three_minutes_ago)
        .arg(lock_key(low))
        .exec_async(&mut connection)
        .await
        .unwrap();
    for n in 0..50 {
        let tenant = harness.add_tenant(&format!("high-{n}"), &[]).await.id;
        let urgent = harness
            .enqueue_silently(&Single { tenant_id: tenant })
            .await;
        harness
            .edit_job(urgent.id, bson::doc! { "priority": 0 })
            .await;
        let ready = dezky_shared::queue::ready_set::ReadyKey {
            lock_key: lock_key(tenant),
            priority: 0,
        };
        let queue = Queue::Provisioning;
        harness.context.ready.add(queue, &[ready]).await.unwrap();
    }

    let worker = harness.worker_of("worker", registry(&script), 1);
    let first = script.ran(1).await[0].job;
    script.let_go(100);
    worker.stop().await;

    assert_eq!(first, job.id);
}
