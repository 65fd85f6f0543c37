//! Isolation of one worker from MongoDB, while the others have it.
//!
//! The worker has jobs whose writes to oCIS take effect after it has given up on them, and it cannot record that their
//! outcome is in doubt. Once its leases have expired, another worker takes the jobs over.

use std::time::Duration;

use futures::future;
use tokio::time::sleep;

use super::{
    fault_injector::hold_until_hit,
    load::LoadGenerator,
    stack::{LEASE, OCIS_TIMEOUT, worker_name},
};
use crate::{
    faults::{Fault, FaultRule, Faults},
    proxy::Proxy,
};

/// Tenants created at the beginning, so that both workers have jobs that create spaces.
const TENANTS: usize = 12;
/// Latency of the list that precedes a create: it is answered before the client's timeout, and late in the lease.
const LIST_LATENCY: Duration = OCIS_TIMEOUT.saturating_sub(Duration::from_millis(300));
/// Delay of a create after the client has given up, of the 1.5 s for which such a write stays in doubt.
const EFFECT_DELAY: Duration = Duration::from_millis(1_200);
/// Duration: past the end of the leases, until another worker has taken the jobs over.
const LASTS: Duration = LEASE.saturating_add(Duration::from_secs(2));

/// Isolates one worker. Returns the number of held chunks of data.
pub(super) async fn isolate_worker(
    number: usize,
    proxies: &[&Proxy],
    ocis: &Faults,
    load: &LoadGenerator,
) -> u64 {
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
        ocis.add_first(rule.clone());
    }
    future::join_all((0..TENANTS).map(|_| load.create_tenant("isolated"))).await;

    let hits = || proxies.iter().map(|proxy| proxy.hits()).sum::<u64>();
    let before = hits();
    for proxy in proxies {
        proxy.hold_for(&worker_name(number));
    }
    // The worker that takes over finds a quick list, and a create that works.
    sleep(OCIS_TIMEOUT).await;
    for rule in &rules {
        ocis.remove(rule);
    }
    hold_until_hit(LASTS.saturating_sub(OCIS_TIMEOUT), || hits() > before).await;
    for proxy in proxies {
        proxy.mend();
    }
    hits() - before
}

fn rule(operation: &str, fault: impl Fn(u64) -> Fault, delay: Duration) -> FaultRule {
    let millis = u64::try_from(delay.as_millis()).expect("a delay is short");
    FaultRule {
        operation: Some(operation.to_owned()),
        ..FaultRule::every(fault(millis))
    }
}
