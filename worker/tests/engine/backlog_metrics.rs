//! Backlog metrics: index-only queries.

use bson::{Document, doc};
use dezky_shared::id::TenantId;
use futures::TryStreamExt as _;

use crate::{
    harness::{Harness, until},
    script::Lone,
};

#[tokio::test(flavor = "multi_thread")]
async fn backlog_metrics_count_only_due_jobs() {
    let mut harness = Harness::new().await;
    harness.times.measure_every = std::time::Duration::from_millis(100);
    let jobs: Vec<String> = (0..2_000)
        .map(|_| format!("tenant:{}", TenantId::new()))
        .collect();
    harness.clone_for_lock_keys(&Lone { n: 1 }, &jobs).await;
    let database = harness.context.store.database().clone();
    let profile = async |level: i32| database.run_command(doc! { "profile": level }).await;
    profile(2).await.unwrap();

    let leader = harness.leader();
    let measured = doc! {
        "command.aggregate": "jobs",
        "command.pipeline.0.$match.queue": "provisioning",
        "command.pipeline.1.$limit": { "$exists": true },
    };
    let queries = async || {
        let profile = database.collection::<Document>("system.profile");
        let found = profile.find(measured.clone()).await.unwrap();
        found.try_collect::<Vec<_>>().await.unwrap()
    };
    let queries = until(queries, |queries| !queries.is_empty()).await;
    leader.stop().await;
    profile(0).await.unwrap();

    let query = &queries[0];
    assert!(
        query.get_i32("keysExamined").unwrap() <= 2_001,
        "{query:#?}"
    );
}
