//! Query costs of domains.

use std::time::Duration;

use dezky_shared::platform::clock;

use super::{Costs, ONE, PAGE, PAGED};

pub(super) async fn measure(costs: &mut Costs<'_>) {
    let fixture = costs.fixture;
    let (id, few) = (fixture.tenant_ids[0], &fixture.tenant_ids[..10]);
    let later = clock::later(fixture.now, Duration::from_hours(1));
    cost!(costs, PAGED, domains.list(id, None, PAGE));
    cost!(costs, PAGED, domains.list_owned(id));
    cost!(costs, PAGED, domains.count_owned(id));
    cost!(costs, PAGED, domains.count_by_status(few));
    cost!(costs, PAGED, domains.list_needing_attention(id));
    cost!(costs, ONE, domains.find(fixture.domain_ids[0]));
    cost!(costs, PAGED, domains.revisions(&fixture.domain_ids[..2]));
    cost!(costs, ONE, domains.find_by_name(id, "t0.test"));
    cost!(costs, PAGED, domains.list_due(later, PAGE));
    cost_in_transaction!(costs, ONE, domains.find_owner("t9.test"));
    cost_in_transaction!(costs, PAGED, domains.list_in(id));
    let now = fixture.now;
    cost_in_transaction!(
        costs,
        PAGED,
        domains.recheck_competing_claims(&["t9.test".to_owned()], now)
    );
    let tenant = &fixture.tenants.find(id).await.unwrap().unwrap();
    cost_in_transaction!(costs, PAGED, domains.backfill(&mut tenant.clone(), now));
}
