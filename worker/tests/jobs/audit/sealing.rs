//! Audit sealing: each event is chained exactly once, across crashes.

use std::time::Duration;

use dezky_shared::{id::TenantId, store::audit::SEAL_BATCH};
use dezky_worker::steps::Registry;
use futures::future::join_all;

use super::event;
use crate::harness::{Harness, until};

/// Waits until all events are sealed.
async fn all_sealed(harness: &Harness) {
    until(
        async || harness.context.audit.backlog().await.unwrap().events,
        |&events| events == 0,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_seals_each_trail_in_its_own_chain() {
    let harness = Harness::new().await;
    let (acme, globex) = (Some(TenantId::new()), Some(TenantId::new()));
    let now = harness.context.store.now();
    for (trail, count) in [(acme, 3), (globex, SEAL_BATCH + 1), (None, 2)] {
        harness.record_events(trail, count, now).await;
    }

    let leader = harness.leader();
    all_sealed(&harness).await;
    harness.record_events(acme, 4, now).await;
    all_sealed(&harness).await;
    leader.stop().await;

    for (trail, count) in [(acme, 7), (globex, SEAL_BATCH as u64 + 1), (None, 2)] {
        let found = harness.verify(trail).await;
        assert_eq!(found.problems, []);
        assert_eq!((found.checked, found.unsealed), (count, 0));
        assert_eq!(found.first_seq, Some(1));
        assert_eq!(u64::try_from(found.chain.head.seq), Ok(count));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_committed_late_is_sealed_after_the_events_already_sealed() {
    let harness = Harness::new().await;
    let now = harness.context.store.now();
    let late = event(None, now);
    harness.record_events(None, 2, now).await;
    let audit = &harness.context.audit;
    audit.seal(&[None]).await.unwrap().unwrap();
    harness.record(std::slice::from_ref(&late)).await;

    let sealed = audit.seal(&[None]).await.unwrap().unwrap();

    let first = &harness.events_about("job").await[0];
    assert_eq!(first.get("_id"), Some(&late.id.into()));
    assert_eq!(first.get_i64("seq").unwrap(), 3);
    assert_eq!((sealed[0].events, sealed[0].chain.head.seq), (1, 3));
    assert_eq!(harness.verify(None).await.problems, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_concurrent_sealers_exactly_one_succeeds() {
    let harness = Harness::new().await;
    let now = harness.context.store.now();
    let mut sealed = 0;

    for _ in 0..10 {
        harness.record_events(None, 5, now).await;
        let audit = &harness.context.audit;
        let all = join_all((0..8).map(|_| audit.seal(&[None]))).await;
        let done = all
            .into_iter()
            .flat_map(|one| one.unwrap().unwrap_or_default());
        sealed += done.map(|one| one.events).sum::<usize>();
    }

    let found = harness.verify(None).await;
    assert_eq!(found.problems, []);
    assert_eq!((sealed, found.checked), (50, 50));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_trail_is_sealed_completely_in_one_run() {
    let mut harness = Harness::new().await;
    harness.times.seal_every = Duration::from_hours(1);
    let now = harness.context.store.now();
    let trail = Some(TenantId::new());
    let count = SEAL_BATCH * 3;
    harness.record_events(trail, count, now).await;

    let leader = harness.leader();
    all_sealed(&harness).await;
    leader.stop().await;

    assert_eq!(harness.verify(trail).await.checked, count as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn trails_are_sealed_together_up_to_the_batch_size() {
    let harness = Harness::new().await;
    let now = harness.context.store.now();
    let trails = [None, Some(TenantId::new()), Some(TenantId::new())];
    for trail in trails {
        harness.record_events(trail, 10, now).await;
    }
    let audit = &harness.context.audit;

    let sealed = audit.seal(&trails).await.unwrap().unwrap();
    harness.record_events(trails[1], SEAL_BATCH, now).await;
    let too_much = audit.seal(&trails).await.unwrap();
    let alone = audit.seal(&trails[1..2]).await.unwrap().unwrap();

    let heads: Vec<_> = sealed.iter().map(|one| one.chain.head.seq).collect();
    assert_eq!(heads, [10, 10, 10]);
    assert_eq!(too_much, None);
    assert_eq!(alone[0].events, SEAL_BATCH);
    for trail in trails {
        assert_eq!(harness.verify(trail).await.problems, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_leader_continues_the_chain_of_a_crashed_leader() {
    let harness = Harness::new().await;
    let now = harness.context.store.now();
    let trails = [None, Some(TenantId::new()), Some(TenantId::new())];
    let per_trail = SEAL_BATCH * 3;
    for trail in trails {
        harness.record_events(trail, per_trail, now).await;
    }

    for sealed in [1, 2] {
        let crashing = harness.crashable_worker(Registry::default(), 1);
        let total = u32::try_from(per_trail * trails.len()).unwrap();
        let some = u32::try_from(sealed * SEAL_BATCH).unwrap();
        until(
            async || harness.context.audit.backlog().await.unwrap().events,
            |&events| events <= total - some,
        )
        .await;
        crashing.crash();
    }
    let leader = harness.leader();
    all_sealed(&harness).await;
    leader.stop().await;

    for trail in trails {
        let found = harness.verify(trail).await;
        assert_eq!(found.problems, []);
        assert_eq!(found.checked, per_trail as u64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trail_that_cannot_be_sealed_does_not_block_others() {
    let harness = Harness::new().await;
    let now = harness.context.store.now();
    let (broken, well) = (Some(TenantId::new()), Some(TenantId::new()));
    harness.record_events(broken, 2, now).await;
    let audit = &harness.context.audit;
    audit.seal(&[broken]).await.unwrap();
    // The head of the chain was tampered with.
    let chains = harness
        .context
        .store
        .collection::<bson::Document>("audit_chains");
    chains.delete_many(bson::doc! {}).await.unwrap();
    harness.record_events(broken, 1, now).await;
    harness.record_events(well, 1, now).await;

    let leader = harness.leader();
    until(
        async || harness.verify(well).await.checked,
        |&checked| checked == 1,
    )
    .await;
    leader.stop().await;

    assert!(audit.seal(&[broken]).await.is_err());
    assert_eq!(harness.verify(broken).await.problems.len(), 1);
    assert_eq!(audit.backlog().await.unwrap().events, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn unsealed_events_are_found_without_reading_sealed_ones() {
    let harness = Harness::new().await;
    let now = harness.context.store.now();
    harness.record_events(None, 400, now).await;
    while harness.context.audit.seal(&[None]).await.unwrap() != Some(Vec::new()) {}
    let tenant = Some(TenantId::new());
    harness.record_events(tenant, 400, now).await;
    let database = harness.context.store.database();
    let profile = async |level: i32| database.run_command(bson::doc! { "profile": level }).await;
    profile(2).await.unwrap();

    let trails = harness.context.audit.list_unsealed().await.unwrap();

    profile(0).await.unwrap();
    assert_eq!(trails, [tenant]);
    let profile = database.collection::<bson::Document>("system.profile");
    let query = bson::doc! { "command.aggregate": "audit_events" };
    let query = profile.find_one(query).await.unwrap().unwrap();
    assert!(query.get_i32("keysExamined").unwrap() <= 3, "{query:#?}");
}
