//! Worker heartbeats.

use dezky_worker::steps::{Registry, Steps};

use crate::{
    harness::{Harness, until},
    script::{Lone, Script},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_registers_and_deregisters() {
    let harness = Harness::new().await;
    let script = Script::blocking([]);
    let steps = Steps::parallel().step("work", script.step());
    let registry = Registry::default().register::<Lone>(steps);
    let workers = || harness.context.workers.list();
    harness.enqueue(&Lone { n: 1 }).await;

    let worker = harness.worker_of("one", registry, 3);
    let listed = until(async || workers().await.unwrap(), |all| all.len() == 1).await;
    script.until_runs(1).await;
    worker.request_stop();
    let leaving = until(
        async || workers().await.unwrap(),
        |all| all.iter().all(|worker| worker.stopping),
    )
    .await;
    script.release(1);
    worker.stop().await;
    let left = workers().await.unwrap();

    let now = harness.context.store.now();
    let one = &listed[0];
    assert_eq!((one.name.as_str(), one.stopping), ("one", false));
    assert!(one.is_alive(now) && one.handles("do_it_alone"));
    assert_eq!(one.slots.values().sum::<i64>(), 15);
    assert_eq!((leaving.len(), left.len()), (1, 0));
}
