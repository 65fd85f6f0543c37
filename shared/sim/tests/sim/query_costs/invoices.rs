//! Query costs of invoices, and of the subscriptions that the invoice run selects.

use std::time::Duration;

use dezky_shared::{
    billing::period::Period,
    billing_totals::Scope,
    id::{InvoiceId, PayoutId, SubscriptionId},
    invoice::InvoiceStatus,
    ledger::PayoutStatus,
    platform::clock,
    store::{invoices::InvoiceFilter, ledger::Closing, payouts::PayoutFilter},
};
use futures::{StreamExt as _, TryStreamExt as _};

use super::{Costs, ONE, PAGE, PAGED, TRIED};

pub(super) async fn measure(costs: &mut Costs<'_>) {
    let fixture = costs.fixture;
    let tenant = fixture.tenant_ids[95];
    let (invoice, subscription) = (
        InvoiceId::from_bytes(tenant.bytes()),
        SubscriptionId::from_bytes(tenant.bytes()),
    );
    let now = fixture.now;
    let soon = clock::later(now, Duration::from_secs(20));
    let all = async {
        let due = fixture.subscriptions.list_due(Some(now), soon).await?;
        due.try_collect::<Vec<_>>().await
    };
    let due = costs.of("subscriptions.list_due(", PAGED, all).await;
    assert_eq!(due.len(), 20);
    let all = async {
        let new = fixture.subscriptions.list_not_enrolled(None, PAGE).await?;
        new.try_collect::<Vec<_>>().await
    };
    let new = costs
        .of("subscriptions.list_not_enrolled(", PAGED, all)
        .await;
    assert_eq!(new.len(), 10);
    cost_in_transaction!(costs, ONE, subscriptions.find_live(tenant));
    let filter = InvoiceFilter::default;
    let filters = [
        filter(),
        InvoiceFilter {
            tenant_id: Some(tenant),
            ..filter()
        },
        InvoiceFilter {
            status: Some(InvoiceStatus::Open),
            ..filter()
        },
        InvoiceFilter {
            tenant_id: Some(tenant),
            status: Some(InvoiceStatus::Open),
            before: Some(InvoiceId::new()),
            ..filter()
        },
        InvoiceFilter {
            partner_id: Some(fixture.partner_ids[0]),
            ..filter()
        },
        InvoiceFilter {
            partner_id: Some(fixture.partner_ids[0]),
            status: Some(InvoiceStatus::Open),
            ..filter()
        },
    ];
    for filter in &filters {
        cost!(costs, TRIED, invoices.list(filter, PAGE));
    }
    cost!(costs, ONE, invoices.find_of(tenant, invoice));
    cost!(costs, ONE, invoices.list_open(tenant));
    cost!(costs, PAGED, invoices.list_unsent(soon, now, PAGE));
    let [from, until] = [90, 110].map(|n| clock::later(now, Duration::from_secs(n)));
    let all = async {
        let invoices = &fixture.invoices;
        let overdue = invoices.list_newly_overdue(Some(from), until).await?;
        overdue.try_collect::<Vec<_>>().await
    };
    let overdue = costs.of("invoices.list_newly_overdue(", PAGED, all).await;
    assert_eq!(overdue.len(), 4);
    cost_in_transaction!(costs, ONE, invoices.find_of_in(tenant, invoice));
    cost_in_transaction!(costs, ONE, invoices.find_of_period("none"));
    let period = Period {
        start: now,
        end: soon,
    };
    cost_in_transaction!(costs, ONE, invoices.list_overlapping(subscription, period));
    cost_in_transaction!(costs, ONE, invoices.find_mirror("in_95"));
    cost_in_transaction!(costs, ONE, subscriptions.find_of_stripe(tenant, "sub_95"));
    cost_in_transaction!(costs, ONE, invoices.has_overdue(subscription));
    cost_in_transaction!(costs, PAGED, invoices.mark_overdue(subscription, now, now));
    ledger(costs).await;
}

async fn ledger(costs: &mut Costs<'_>) {
    let fixture = costs.fixture;
    let (partner, now) = (fixture.partner_ids[7], fixture.now);
    let closing = Closing {
        partner_id: partner,
        currency: "DKK",
        before: clock::later(now, Duration::from_secs(1)),
        payout_id: PayoutId::new(),
    };
    let paid = fixture.invoices.find_of(
        fixture.tenant_ids[70],
        InvoiceId::from_bytes(fixture.tenant_ids[70].bytes()),
    );
    let paid = &paid.await.unwrap().unwrap();
    cost!(costs, PAGED, ledger.list_balances(partner));
    cost_in_transaction!(costs, ONE, ledger.find_balance(partner, "DKK"));
    cost!(costs, PAGED, ledger.list_entries(partner, None, PAGE));
    cost!(costs, PAGED, ledger.sum_closing(closing));
    cost!(costs, PAGED, ledger.sum_marked(closing));
    let first = async {
        let balances = fixture.ledger.all_balances(Some("none")).await?;
        balances.take(1).try_collect::<Vec<_>>().await
    };
    costs.of("ledger.all_balances(", PAGED, first).await;
    cost_in_transaction!(costs, PAGED, ledger.mark_settled(closing, PAGE));
    cost_in_transaction!(costs, PAGED, ledger.settle_invoice(paid, now));
    let payout = &fixture
        .payouts
        .list(&PayoutFilter::default(), 1)
        .await
        .unwrap()[0];
    cost_in_transaction!(costs, PAGED, ledger.release(payout, PAGE));
    cost_in_transaction!(costs, ONE, ledger.pay_out(payout));
    let month = "2026-11".parse().unwrap();
    for scope in [Scope::Platform, Scope::Partner(partner)] {
        // The platform's totals are spread over 16 documents a month and currency.
        cost!(costs, PAGED, billing_totals.list(scope, month, month));
    }
    // More than the limit: as many are read as are needed to know that.
    cost!(
        costs,
        PAGED,
        billing_totals.list_of_partners(month, month, PAGE)
    );
    let filters = [
        PayoutFilter::default(),
        PayoutFilter {
            partner_id: Some(partner),
            ..PayoutFilter::default()
        },
        PayoutFilter {
            status: Some(PayoutStatus::Pending),
            ..PayoutFilter::default()
        },
    ];
    for filter in &filters {
        cost!(costs, PAGED, payouts.list(filter, PAGE));
    }
}
