//! Growth: the drain rate over a small and a large collection of stored jobs.

use bson::{Document, doc};
use dezky_sim::bench_output::report;
use futures::{StreamExt as _, stream};

use crate::{
    throughput::drain,
    world::{Noop, World},
};

const JOBS: usize = 10_000;
const BATCH: usize = 5_000;

pub(crate) async fn measure(world: &World) {
    // The first run is a warm-up.
    let mut rates = Vec::new();
    for stored in [1_000, 1_000, 1_000_000] {
        store(world, stored).await;
        world
            .enqueue_all((0..JOBS).map(|_| Noop { lock: None }))
            .await;
        rates.push(drain(world, JOBS, 200).await);
    }
    let [_, few, many] = rates[..] else { return };
    report("drain, 1,000 jobs stored", few, "jobs/s");
    report("drain, 1,000,000 jobs stored", many, "jobs/s");
    report("drain, 1,000,000 stored to 1,000 stored", many / few, "");
}

/// Fills the collection up to `count` jobs: most completed, a tenth scheduled for the next day.
async fn store(world: &World, count: usize) {
    let job = world.enqueue(&Noop { lock: None }).await;
    drain(world, 1, 1).await;
    let jobs = world.context.store.collection::<Document>("jobs");
    let done = jobs
        .find_one(doc! { "_id": job.id })
        .await
        .expect("MongoDB answers")
        .expect("it is stored");
    let stored = jobs
        .estimated_document_count()
        .await
        .expect("MongoDB answers");
    let missing = count.saturating_sub(usize::try_from(stored).unwrap_or(usize::MAX));
    let later = dezky_shared::platform::clock::later(
        world.context.store.now(),
        std::time::Duration::from_hours(24),
    );
    stream::iter((0..missing).step_by(BATCH))
        .for_each_concurrent(4, async |from| {
            let batch = (from..missing.min(from + BATCH)).map(|n| {
                let mut copy = done.clone();
                let id = dezky_shared::id::JobId::new();
                copy.insert("_id", id);
                copy.insert("lockKey", format!("job:{id}"));
                if n % 10 == 0 {
                    copy.insert("state", "available");
                    copy.insert("queue", "billing");
                    copy.insert("runAt", later);
                }
                copy
            });
            jobs.insert_many(batch).await.expect("MongoDB accepts them");
        })
        .await;
}
