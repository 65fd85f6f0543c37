//! Query costs of apps.

use super::{Costs, ONE, PAGE, PAGED};

pub(super) async fn measure(costs: &mut Costs<'_>) {
    let fixture = costs.fixture;
    let (id, few) = (fixture.tenant_ids[0], &fixture.tenant_ids[..10]);
    cost!(costs, PAGED, apps.list(id, None, PAGE));
    cost!(costs, PAGED, apps.list_all(id));
    cost!(costs, PAGED, apps.list_providers(id));
    cost!(costs, PAGED, apps.count_open(few));
    cost!(costs, PAGED, apps.count_by_tenant(few));
    cost!(costs, PAGED, apps.count_all_open());
    cost!(costs, ONE, apps.find_of(id, fixture.app_id(0)));
    cost_in_transaction!(costs, PAGED, apps.count_in(id));
}
