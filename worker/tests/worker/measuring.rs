//! What the leader measures costs no look at a document.

use bson::{Document, doc};
use dezky_shared::id::TenantId;
use futures::TryStreamExt as _;

use crate::{
    harness::{Harness, until},
    script::Lone,
};

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_measured_by_what_is_due_alone() {
    let mut harness = Harness::new().await;
    harness.times.measure_every = std::time::Duration::from_millis(100);
    let jobs: Vec<String> = (0..2_000)
        .map(|_| format!("tenant:{}", TenantId::new()))
        .collect();
    harness.multiply(&Lone { n: 1 }, &jobs).await;
    let database = harness.context.store.database().clone();
    let profile = async |level: i32| database.run_command(doc! { "profile": level }).await;
    profile(2).await.unwrap();

    let leader = harness.leader();
    let measured = doc! {
        "command.aggregate": "jobs",
        "command.pipeline.0.$match.queue": "provisioning",
        "command.pipeline.1.$limit": { "$exists": true },
    };
    let looks = async || {
        let looks = database.collection::<Document>("system.profile");
        let found = looks.find(measured.clone()).await.unwrap();
        found.try_collect::<Vec<_>>().await.unwrap()
    };
    let looks = until(looks, |looks| !looks.is_empty()).await;
    leader.stop().await;
    profile(0).await.unwrap();

    let look = &looks[0];
    assert!(look.get_i32("keysExamined").unwrap() <= 2_001, "{look:#?}");
}
