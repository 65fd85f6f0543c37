//! Query costs of subscriptions, their snapshots, prices and allowances.

use dezky_shared::{
    billing::{Cycle, Plan},
    id::{PriceId, SnapshotId, SubscriptionId},
    store::{VersionedRepository as _, subscriptions::SubscriptionFilter},
    subscription::SubscriptionStatus,
};

use super::{Costs, ONE, PAGE, PAGED, TRIED};

pub(super) async fn measure(costs: &mut Costs<'_>) {
    let fixture = costs.fixture;
    let few = &fixture.tenant_ids[..10];
    let tenant = few[0];
    let filter = SubscriptionFilter::default;
    let filters = [
        filter(),
        SubscriptionFilter {
            tenant_id: Some(tenant),
            ..filter()
        },
        SubscriptionFilter {
            visible: Some(few.to_vec()),
            ..filter()
        },
        SubscriptionFilter {
            status: Some(SubscriptionStatus::Cancelled),
            ..filter()
        },
        SubscriptionFilter {
            plan: Some(Plan::Starter),
            ..filter()
        },
        SubscriptionFilter {
            plan: Some(Plan::Starter),
            status: Some(SubscriptionStatus::Cancelled),
            ..filter()
        },
    ];
    for filter in &filters {
        cost!(costs, TRIED, subscriptions.list(filter, PAGE));
    }
    cost!(costs, ONE, subscriptions.find(SubscriptionId::new()));
    cost!(costs, PAGED, subscriptions.list_for(few));
    cost!(costs, PAGED, subscriptions.list_live(few));
    cost!(
        costs,
        PAGED,
        snapshots.list(
            "2026-11".parse().unwrap(),
            Some(SnapshotId::deterministic(tenant, "2026-11")),
            PAGE
        )
    );
    cost!(costs, ONE, prices.find(PriceId::new()));
    cost!(costs, PAGED, prices.list_page(None, PAGE));
    cost!(costs, PAGED, prices.list_all());
    cost!(costs, PAGED, allowances.list_all());
    cost!(costs, ONE, allowances.of_plan(Plan::Starter));
    cost!(costs, ONE, allowances.find(Plan::Starter));
    cost_in_transaction!(
        costs,
        ONE,
        prices.find_of(Plan::Starter, Cycle::Monthly, "DKK")
    );
}
