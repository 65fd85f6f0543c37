//! Query costs of idempotency keys, feature flags, queues, upstreams, workers and schedules.

use dezky_shared::{
    queue::job::Queue,
    store::{VersionedRepository as _, idempotency::IdempotencyKey},
    upstream::Upstream,
};

use super::{Costs, ONE, PAGE, PAGED};

pub(super) async fn measure(costs: &mut Costs<'_>) {
    let key = IdempotencyKey {
        id: "none".to_owned(),
        fingerprint: String::new(),
    };
    cost!(costs, ONE, idempotency.find(&key));
    cost!(costs, PAGED, flags.revision());
    cost!(costs, PAGED, flags.all());
    cost!(costs, PAGED, flags.list_page(None, PAGE));
    cost!(costs, ONE, flags.find("none".to_owned()));
    cost_in_transaction!(costs, PAGED, flags.count_in());
    cost!(costs, PAGED, queues.paused());
    cost!(costs, ONE, queues.find(Queue::Dns));
    cost!(costs, PAGED, upstreams.list());
    cost!(costs, ONE, upstreams.find(Upstream::Ocis));
    let now = costs.fixture.now;
    cost!(costs, PAGED, backlog_peaks.list(now));
    cost!(costs, PAGED, workers.list());
    cost!(costs, PAGED, dependencies.list());
    cost!(costs, ONE, schedule_ledger.state("none"));
    cost!(costs, PAGED, schedule_ledger.last("none"));
}
