//! Vectors of movements, and a property: in every month, currency and plan of every scope, they add up.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    billing::{Cycle, Plan},
    id::{PartnerId, SnapshotId, SubscriptionId, TenantId},
    report::Cohort,
    subscription::SubscriptionStatus,
    subscription_snapshot::SubscriptionTerms,
    tenant::TenantStatus,
};

/// Subscription of a tenant at the end of a month.
#[derive(Debug, Clone, Copy)]
struct Bought {
    currency: &'static str,
    plan: Plan,
    cycle: Cycle,
    price_minor: i64,
    partner: Option<u8>,
    status: TenantStatus,
}

fn partner(number: u8) -> PartnerId {
    PartnerId::from_bytes([number; 16])
}

fn tenant(number: u8) -> TenantId {
    TenantId::from_bytes([number; 16])
}

fn month(number: usize) -> Month {
    format!("2026-{:02}", number + 1).parse().unwrap()
}

fn snapshot(number: u8, month: Month, bought: Bought) -> SubscriptionSnapshot {
    let terms = SubscriptionTerms {
        id: SubscriptionId::from_bytes([number; 16]),
        status: SubscriptionStatus::Active,
        plan: bought.plan,
        cycle: bought.cycle,
        seats: 1,
        currency: bought.currency.to_owned(),
        price_minor: bought.price_minor,
    };
    SubscriptionSnapshot {
        id: SnapshotId::deterministic(tenant(number), &month.to_string()),
        month,
        tenant_id: tenant(number),
        slug: format!("tenant-{number}"),
        tenant_status: bought.status,
        plan: bought.plan,
        partner_id: bought.partner.map(partner),
        subscription: Some(terms),
        taken_at: month.end(),
    }
}

/// Sums of every month and scope of tenants' histories, a month for each element.
fn summarize(histories: &[Vec<Option<Bought>>], months: usize) -> Vec<Vec<ReportMonth>> {
    let mut first_paid: BTreeMap<u8, Month> = BTreeMap::new();
    let mut summaries = Vec::new();
    for index in 0..months {
        let mut builder = MonthBuilder::new(month(index), month(index).end());
        for (number, history) in (0_u8..).zip(histories) {
            let at =
                |index: usize| history[index].map(|bought| snapshot(number, month(index), bought));
            let (before, after) = (index.checked_sub(1).and_then(at), at(index));
            let first = builder.add(TenantMonth {
                before: before.as_ref(),
                after: after.as_ref(),
                first_paid: first_paid.get(&number).copied(),
            });
            if let Some(first) = first {
                first_paid.entry(number).or_insert(first);
            }
        }
        summaries.push(builder.finish());
    }
    summaries
}

fn of(summaries: &[ReportMonth], scope: Scope) -> ReportMonth {
    let found = summaries.iter().find(|it| it.scope == scope.to_string());
    found.unwrap().clone()
}

#[expect(clippy::unnecessary_wraps, reason = "an element of a history")]
fn paid(currency: &'static str, price_minor: i64) -> Option<Bought> {
    Some(Bought {
        currency,
        plan: Plan::Business,
        cycle: Cycle::Yearly,
        price_minor,
        partner: None,
        status: TenantStatus::Active,
    })
}

#[test]
fn each_kind_of_movement_is_distinguished() {
    let history = vec![
        paid("DKK", 0),
        paid("DKK", 12_000),
        paid("DKK", 18_000),
        paid("DKK", 0),
        paid("DKK", 6_000),
        paid("EUR", 6_000),
    ];

    let months = summarize(&[history], 6);

    let movement = |index: usize, currency: &str| {
        let sums = of(&months[index], Scope::Platform);
        sums.currencies
            .get(currency)
            .cloned()
            .unwrap_or_default()
            .total
    };
    assert_eq!(movement(1, "DKK").new.arr_minor, 12_000);
    assert_eq!(movement(2, "DKK").expansion.arr_minor, 6_000);
    assert_eq!(movement(3, "DKK").churn.arr_minor, 18_000);
    assert_eq!(movement(4, "DKK").reactivation.arr_minor, 6_000);
    assert_eq!(movement(5, "DKK").transfer_out.arr_minor, 6_000);
    assert_eq!(movement(5, "DKK").churn.arr_minor, 0);
    assert_eq!(movement(5, "EUR").transfer_in.arr_minor, 6_000);
    assert_eq!(movement(5, "EUR").new.arr_minor, 0);
}

#[test]
fn a_tenant_that_changes_its_partner_is_a_transfer_for_both() {
    let with = |partner| paid("DKK", 100).map(|it| Bought { partner, ..it });
    let months = summarize(&[vec![with(Some(1)), with(Some(2)), with(None)]], 3);

    let total = |index: usize, scope| of(&months[index], scope).currencies["DKK"].total;
    let [first, second] = [1, 2].map(|number| Scope::Partner(partner(number)));
    assert_eq!(total(0, first).new.arr_minor, 100);
    assert_eq!(total(1, first).transfer_out.arr_minor, 100);
    assert_eq!(total(1, second).transfer_in.arr_minor, 100);
    assert_eq!(total(2, second).transfer_out.arr_minor, 100);
    let platform = total(1, Scope::Platform);
    assert_eq!(
        (platform.start, platform.end),
        (platform.end, platform.start)
    );
    assert_eq!(platform.transfer_in.arr_minor, 0);
}

#[test]
fn cohorts_count_those_that_stay_and_those_that_leave() {
    let months = summarize(
        &[
            vec![paid("DKK", 5), paid("DKK", 5), None],
            vec![paid("DKK", 5), paid("DKK", 0), paid("EUR", 9)],
            vec![None, paid("DKK", 5), paid("DKK", 5)],
        ],
        3,
    );

    let cohort = |index: usize, of_month: &str| {
        let sums = of(&months[index], Scope::Platform);
        sums.cohorts.get(of_month).copied().unwrap_or_default()
    };
    let counted = |paying, churned| Cohort { paying, churned };
    assert_eq!(cohort(0, "2026-01"), counted(2, 0));
    assert_eq!(cohort(1, "2026-01"), counted(1, 1));
    assert_eq!(cohort(2, "2026-01"), counted(1, 1));
    assert_eq!(cohort(1, "2026-02"), counted(1, 0));
    assert_eq!(cohort(2, "2026-02"), counted(1, 0));
}

#[test]
fn the_customers_that_pay_most_are_kept_in_order() {
    let histories: Vec<_> = (1..=60).map(|price| vec![paid("DKK", price)]).collect();

    let months = summarize(&histories, 1);

    let top = &of(&months[0], Scope::Platform).top["DKK"];
    let amounts: Vec<i64> = top.iter().map(|it| it.arr_minor).collect();
    let expected: Vec<i64> = (11..=60).rev().collect();
    assert_eq!(amounts, expected);
}

fn bought() -> impl Strategy<Value = Option<Bought>> {
    let currency = prop::sample::select(vec!["DKK", "EUR", "JPY"]);
    let plan = prop::sample::select(Plan::ALL.to_vec());
    let cycle = prop::sample::select(Cycle::ALL.to_vec());
    let status = prop::sample::select(vec![
        TenantStatus::Active,
        TenantStatus::Active,
        TenantStatus::Suspended,
        TenantStatus::Terminated,
    ]);
    let price = prop_oneof![Just(0_i64), 1_i64..5, 1_i64..1_000_000_000];
    let partner = prop::option::of(0_u8..3);
    let some = (currency, plan, cycle, price, partner, status).prop_map(
        |(currency, plan, cycle, price_minor, partner, status)| Bought {
            currency,
            plan,
            cycle,
            price_minor,
            partner,
            status,
        },
    );
    prop::option::weighted(0.8, some)
}

/// All movements of a month, with their place.
fn all_movements(summaries: &[ReportMonth]) -> BTreeMap<(String, String, String), Movements> {
    let mut all = BTreeMap::new();
    for sums in summaries {
        for (currency, of_currency) in &sums.currencies {
            let total = [(String::new(), of_currency.total)];
            let plans = of_currency.plans.clone();
            for (plan, movements) in plans.into_iter().chain(total) {
                all.insert((sums.scope.clone(), currency.clone(), plan), movements);
            }
        }
    }
    all
}

proptest! {
    #[test]
    fn the_movements_of_a_year_of_sales_in_three_currencies_add_up_in_every_month(
        histories in prop::collection::vec(prop::collection::vec(bought(), 12), 1..25),
    ) {
        let months = summarize(&histories, 12);

        let mut ends: BTreeMap<(String, String, String), i64> = BTreeMap::new();
        for (index, summaries) in months.iter().enumerate() {
            let all = all_movements(summaries);
            for (place, movements) in &all {
                prop_assert_eq!(movements.expected_end(), movements.end.arr_minor, "{:?}", place);
                let start = ends.get(place).copied().unwrap_or(0);
                prop_assert_eq!(movements.start.arr_minor, start, "{} {:?}", index, place);
            }
            // What a place had at the end of the month before is its start, also if nothing is left.
            for (place, end) in &ends {
                prop_assert!(*end == 0 || all.contains_key(place), "{:?}", place);
            }
            ends = all.iter().map(|(place, it)| (place.clone(), it.end.arr_minor)).collect();
            let mut expected: BTreeMap<&str, i64> = BTreeMap::new();
            for history in &histories {
                let live = history[index].filter(|it| it.status != TenantStatus::Terminated);
                if let Some(it) = live.filter(|it| it.price_minor > 0) {
                    *expected.entry(it.currency).or_default() += it.price_minor * it.cycle.per_year();
                }
            }
            let platform = of(summaries, Scope::Platform);
            for (currency, end) in expected {
                prop_assert_eq!(platform.currencies[currency].total.end.arr_minor, end);
            }
        }
    }
}
