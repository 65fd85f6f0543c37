//! Control state: a worker learns of a change from the change feed, and without Redis from a poll.

use std::time::Duration;

use dezky_shared::{platform::change_feed::DocumentChange, queue::job::Queue};
use dezky_sim::stores::Redis;

use crate::{
    admission::{pause_queue, scripted},
    harness::{Harness, until},
    script::{Lone, Script},
};

/// Without the poll beside the change feed.
async fn on_feed_alone(redis: &Redis) -> Harness {
    let mut harness = Harness::on_redis(redis).await;
    harness.times.control_every = Duration::from_hours(1);
    harness
}

/// Waits until a worker follows the control state.
async fn until_subscribed(harness: &Harness) {
    let channel = format!("{}:control", harness.redis.prefix);
    let subscribers = async || {
        let mut connection = harness.redis_connection().await;
        let (_, subscribers): (String, u64) = redis::cmd("PUBSUB")
            .arg("NUMSUB")
            .arg(&channel)
            .query_async(&mut connection)
            .await
            .unwrap();
        subscribers
    };
    until(subscribers, |subscribers| *subscribers == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_queue_goes_on_once_that_is_announced() {
    let directory = tempfile::tempdir().unwrap();
    let redis = Redis::start(directory.path()).await.unwrap();
    let harness = on_feed_alone(&redis).await;
    pause_queue(&harness, Queue::Provisioning, true).await;
    let script = Script::new([]);
    let worker = harness.worker_of("worker", scripted(&script), 4);
    until_subscribed(&harness).await;
    let job = harness.enqueue(&Lone { n: 1 }).await;

    pause_queue(&harness, Queue::Provisioning, false).await;
    let changes = &harness.context.changes;
    changes.publish(&[DocumentChange::Control]).await;
    harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(script.runs().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_queue_goes_on_while_redis_is_unavailable() {
    let directory = tempfile::tempdir().unwrap();
    let mut redis = Redis::start(directory.path()).await.unwrap();
    let harness = on_feed_alone(&redis).await;
    pause_queue(&harness, Queue::Provisioning, true).await;
    let script = Script::new([]);
    let worker = harness.worker_of("worker", scripted(&script), 4);
    until_subscribed(&harness).await;

    redis.kill().await;
    let job = harness.enqueue(&Lone { n: 1 }).await;
    pause_queue(&harness, Queue::Provisioning, false).await;
    harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(script.runs().len(), 1);
}
