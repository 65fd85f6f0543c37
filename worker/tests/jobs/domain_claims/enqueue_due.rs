//! Fan-out of DNS rechecks to all due domains.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use bson::{DateTime, Document, doc};
use dezky_shared::{
    domain::{Dmarc, Domain},
    id::{DomainId, TenantId},
    platform::clock,
    queue::args::{RecheckDomain, RecheckDueDomains},
};

use mongodb::options::Hint;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_is_rechecked_when_due_and_not_before() {
    let world = World::start().await;
    let now = world.harness.context.store.now();
    let tenant = world.active_tenant("acme", &[]).await;
    let due = world.claim(&tenant, "due.test").await;
    let later = world.claim(&tenant, "later.test").await;
    let asked = world.claim(&tenant, "asked.test").await;
    let never = world.claim(&tenant, "never.test").await;
    set_next(&world, &due, clock::earlier(now, Duration::from_secs(5))).await;
    set_next(&world, &later, clock::later(now, Duration::from_mins(5))).await;
    set_next(&world, &asked, now).await;
    let domains = world
        .harness
        .context
        .store
        .collection::<Document>("domains");
    let no_time = doc! { "$unset": { "nextCheckAt": "" } };
    domains
        .update_one(doc! { "_id": never.id }, no_time)
        .await
        .unwrap();
    // A recheck is waiting already, for a later time.
    let args = RecheckDomain {
        tenant_id: tenant.id,
        domain_id: asked.id,
    };
    let waiting = world.harness.enqueue_unannounced(&args).await;
    let far = clock::later(now, Duration::from_mins(30));
    world
        .harness
        .edit_job(waiting.id, doc! { "runAt": far })
        .await;

    let fan_out = world.harness.enqueue(&RecheckDueDomains {}).await;
    let fan_out = world.completed(&fan_out).await;

    assert_eq!(fan_out.steps[0].changes, ["1 DNS checks enqueued"]);
    assert_eq!(rechecked(&world).await, BTreeSet::from([due.id, asked.id]));
    assert_eq!(
        world.harness.job(waiting.id).await.revision,
        waiting.revision
    );
    let soon = clock::later(now, Duration::from_secs(30));
    assert!(world.reload_claim(&due).await.next_check_at.unwrap() > soon);
    world.stop().await;
}

/// Prints the elapsed time.
#[tokio::test(flavor = "multi_thread")]
async fn many_due_domains_are_spread_and_do_not_delay_other_queues() {
    const DOMAINS: usize = 20_000;
    let world = World::start().await;
    let now = world.harness.context.store.now();
    let domains = world.harness.context.store.collection::<Domain>("domains");
    let tenant_id = TenantId::new();
    for batch in 0..DOMAINS / 5_000 {
        let many = (0..5_000).map(|n| {
            let name = format!("d{batch}-{n}.test");
            let mut domain = Domain::claim(tenant_id, &name, Dmarc::default(), now);
            domain.next_check_at = Some(now);
            domain
        });
        domains.insert_many(many).await.unwrap();
    }
    let tenant = world.harness.add_tenant("acme", &[]).await;

    let began = Instant::now();
    let fan_out = world.harness.enqueue(&RecheckDueDomains {}).await;
    let mut slowest = Duration::ZERO;
    let mut others = 0;
    while !world.harness.job(fan_out.id).await.state.is_final() {
        let asked = Instant::now();
        world.completed(&world.provision(tenant.id).await).await;
        slowest = slowest.max(asked.elapsed());
        others += 1;
    }
    let took = began.elapsed();
    world.completed(&fan_out).await;

    eprintln!("{DOMAINS} in {took:.1?}; the slowest of {others} other jobs took {slowest:.1?}");
    assert!(others > 3, "{others}, the slowest took {slowest:?}");
    let jobs = world.harness.jobs();
    // A collection scan: on an index, a job whose state changes meanwhile may be counted twice or not at all.
    let rechecks = jobs
        .count_documents(doc! { "kind": "recheck_domain" })
        .hint(Hint::Keys(doc! { "$natural": 1 }));
    assert_eq!(rechecks.await.unwrap(), DOMAINS as u64);
    let each_minute = jobs
        .aggregate([
            doc! { "$match": { "kind": "recheck_domain" } },
            doc! { "$group": {
                "_id": { "$dateTrunc": { "date": "$runAt", "unit": "minute" } },
                "count": { "$sum": 1 },
            } },
            doc! { "$sort": { "count": -1 } },
            doc! { "$limit": 1 },
        ])
        .hint(Hint::Keys(doc! { "$natural": 1 }))
        .await;
    let mut each_minute = each_minute.unwrap();
    assert!(each_minute.advance().await.unwrap());
    let most = each_minute.deserialize_current().unwrap();
    assert!(most.get_i32("count").unwrap() <= 6_000, "{most}");
    world.stop().await;
}

async fn set_next(world: &World, claim: &Domain, at: DateTime) {
    world.change_claim(claim, doc! { "nextCheckAt": at }).await;
}

/// Domains with a recheck job.
async fn rechecked(world: &World) -> BTreeSet<DomainId> {
    let jobs = world.harness.jobs();
    let asked = jobs.distinct("args.domainId", doc! { "kind": "recheck_domain" });
    let asked = asked.await.unwrap().into_iter();
    asked
        .map(|id| bson::deserialize_from_bson(id).unwrap())
        .collect()
}
