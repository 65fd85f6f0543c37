//! Query costs of what is stored about the payment provider.

use dezky_shared::{
    store::webhook_events::WebhookEventFilter,
    webhook_event::{EventPosition, EventState},
};

use super::{Costs, ONE, PAGE, PAGED, TRIED};

pub(super) async fn measure(costs: &mut Costs<'_>) {
    let tenant = costs.fixture.tenant_ids[95];
    cost!(costs, ONE, billing_accounts.find(tenant));
    for customer in ["cus_95", "cus_95_former", "cus_of_none"] {
        cost!(costs, ONE, billing_accounts.find_by_customer(customer));
    }
    cost!(
        costs,
        PAGED,
        billing_accounts.list_customers(Some(tenant), PAGE)
    );
    let fixture = costs.fixture;
    let few = &fixture.tenant_ids[90..100];
    cost!(costs, PAGED, billing_accounts.with_customer(few));
    cost!(costs, PAGED, subscriptions.list_by_card(None, PAGE));
    cost!(costs, ONE, stripe_calls.find("customer.create:95"));
    let now = costs.fixture.now;
    cost_in_transaction!(costs, PAGE, setup_intents.count_recent(tenant, now));
    cost!(costs, ONE, webhook_events.known(&["evt_95", "evt_of_none"]));
    cost!(costs, ONE, webhook_events.list_waiting("cus_9", PAGE));
    let last = costs.fixture.in_seconds(90_000);
    let created = "customer.created";
    cost!(costs, ONE, webhook_events.is_missed_waiting(created, now));
    cost!(costs, TRIED, webhook_events.list_stale(last, PAGE));
    let after = EventPosition {
        received_at: last,
        id: "evt_90000".to_owned(),
    };
    for state in [None, Some(EventState::Received)] {
        for after in [None, Some(after.clone())] {
            let filter = WebhookEventFilter { state, after };
            cost!(costs, TRIED, webhook_events.list(&filter, PAGE));
        }
    }
}
