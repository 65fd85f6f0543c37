//! Isolation of one worker from MongoDB, while the others have it.
//!
//! The worker has jobs whose writes to oCIS begin late in their lease and take effect after it, and it cannot record that
//! their outcome is in doubt. Another worker takes the jobs over: before these effects, it would create the spaces again.

use std::time::Duration;

use anyhow::Context as _;
use bson::{Document, doc};
use dezky_shared::upstream::Upstream;
use futures::future;
use tokio::time::{Instant, sleep};

use super::{
    load::LoadGenerator,
    operator::CreatedTenant,
    primary::Primary,
    stack::{OCIS_TIMEOUT, REPLICAS, worker_name},
    timings::LEASE,
};
use crate::{
    faults::{Fault, FaultRule, Faults},
    proxy::Proxy,
};

/// Time until the workers know of a pause.
const PAUSE_LAG: Duration = Duration::from_millis(1_200);
/// Tenants created at the beginning, so that both workers have jobs that create spaces.
const TENANTS: usize = 12;
/// Latency of the list that precedes a create: it is answered before the client's timeout. The requests for a list during
/// another one share the next, so most creates begin after two.
const LIST_LATENCY: Duration = OCIS_TIMEOUT.saturating_sub(Duration::from_millis(200));
/// Delay of a create after the client has given up, of the 1.5 s for which such a write stays in doubt.
const EFFECT_DELAY: Duration = Duration::from_millis(1_200);
/// Duration of these faults: two lists, and the beginning of the creates.
const LATE_FOR: Duration = LIST_LATENCY
    .saturating_mul(2)
    .saturating_add(Duration::from_millis(400));
/// Time limit for the first list, under faults.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between the first list and the isolation, in which both workers claim jobs.
const CLAIM_TIME: Duration = Duration::from_millis(150);
/// Duration: past the end of the leases, until another worker has taken the jobs over.
const LASTS: Duration = LEASE.saturating_add(Duration::from_secs(2));
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Time that a fault without a hit is extended by: longer than any backoff caused by the other faults.
const HIT_TIMEOUT: Duration = Duration::from_mins(1);

/// Targets of an isolation.
pub(super) struct Isolation<'a> {
    /// Number of the worker to isolate if there is no leader.
    pub(super) any_worker: usize,
    pub(super) primary: &'a Primary,
    pub(super) proxies: &'a [&'a Proxy],
    pub(super) ocis: &'a Faults,
    pub(super) load: &'a LoadGenerator,
}

/// Waits for the duration of a fault; without a hit by then, waits for one until [`HIT_TIMEOUT`].
pub(super) async fn hold_until_hit(lasts: Duration, has_hit: impl Fn() -> bool) {
    sleep(lasts).await;
    let patience = Instant::now() + HIT_TIMEOUT;
    while !has_hit() && Instant::now() < patience {
        sleep(POLL_INTERVAL).await;
    }
}

impl Isolation<'_> {
    /// Isolates one worker. Returns the number of held chunks of data.
    pub(super) async fn inject(&self) -> anyhow::Result<u64> {
        self.load.pause_upstream(Upstream::Ocis).await;
        sleep(PAUSE_LAG).await;
        let tenants = (0..TENANTS).map(|_| self.load.create_tenant("isolated"));
        for tenant in future::join_all(tenants).await.into_iter().flatten() {
            self.let_it_search(&tenant).await?;
        }
        let rules = [
            rule(
                "list_spaces",
                |millis| Fault::SlowAnswer { millis },
                LIST_LATENCY,
            ),
            rule(
                "create_space",
                |millis| Fault::EffectAfterTimeout { millis },
                EFFECT_DELAY,
            ),
        ];
        for rule in &rules {
            self.ocis.add_first(rule.clone());
        }
        let lists = self.lists();
        self.load.resume_upstream(Upstream::Ocis).await;
        let deadline = Instant::now() + LIST_TIMEOUT;
        while self.lists() == lists && Instant::now() < deadline {
            sleep(POLL_INTERVAL).await;
        }
        sleep(CLAIM_TIME).await;

        let hits = || self.proxies.iter().map(|proxy| proxy.hits()).sum::<u64>();
        let before = hits();
        let worker = worker_name(self.follower().await?);
        for proxy in self.proxies {
            proxy.hold_for(&worker);
        }
        // The worker that takes over finds a quick list, and a create that works.
        sleep(LATE_FOR).await;
        for rule in &rules {
            self.ocis.remove(rule);
        }
        hold_until_hit(LASTS.saturating_sub(LATE_FOR), || hits() > before).await;
        for proxy in self.proxies {
            proxy.mend();
        }
        Ok(hits() - before)
    }

    /// Lets the first attempt search for the space, as if an earlier create could have made one. Otherwise it creates one
    /// at once, before it is isolated.
    async fn let_it_search(&self, tenant: &CreatedTenant) -> anyhow::Result<()> {
        let by_slug = doc! { "slug": &tenant.slug };
        let change = doc! {
            "$unset": { "ocisSpaceAbsent": "", "freshFor": "" },
            "$inc": { "revision": 1_i64 },
        };
        let changed = self.primary.run(async |database| {
            let tenants = database.collection::<Document>("tenants");
            tenants.update_one(by_slug.clone(), change.clone()).await
        });
        changed.await.context("changing a tenant")?;
        Ok(())
    }

    /// Number of a worker that is not the leader: without the leader, the first rescue is late.
    async fn follower(&self) -> anyhow::Result<usize> {
        let leader = self.primary.run(async |database| {
            let leader = database.collection::<Document>("leader");
            leader.find_one(doc! {}).await
        });
        let leader = leader.await.context("reading the leader")?;
        let holder = leader.as_ref().and_then(|it| it.get_str("holder").ok());
        let leads =
            |number: usize| holder.is_some_and(|holder| holder.contains(&worker_name(number)));
        let leader = (0..REPLICAS).find(|number| leads(*number));
        Ok(leader.map_or(self.any_worker, |leader| (leader + 1) % REPLICAS))
    }

    /// Number of requests for a list of spaces.
    fn lists(&self) -> u64 {
        let requests = self.ocis.requests();
        requests.get("list_spaces").copied().unwrap_or_default()
    }
}

fn rule(operation: &str, fault: impl Fn(u64) -> Fault, delay: Duration) -> FaultRule {
    let millis = u64::try_from(delay.as_millis()).expect("a delay is short");
    FaultRule {
        operation: Some(operation.to_owned()),
        ..FaultRule::every(fault(millis))
    }
}
