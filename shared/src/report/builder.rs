//! Adding up of a month, tenant by tenant.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use bson::DateTime;

use super::{
    Change, HealthCount, MAX_TOP, ReportMonth, TopCustomer, movements::Movements,
    paying::RecurringPayment,
};
use crate::{
    billing::month::Month, billing_totals::Scope, subscription_snapshot::SubscriptionSnapshot,
};

/// A tenant at the start and at the end of a month.
#[derive(Debug, Clone, Copy)]
pub struct TenantMonth<'a> {
    /// Snapshot of the month before.
    pub before: Option<&'a SubscriptionSnapshot>,
    /// Snapshot of the month.
    pub after: Option<&'a SubscriptionSnapshot>,
    /// Month in which the tenant paid first, as far as it is known.
    pub first_paid: Option<Month>,
}

/// The sums of a month, of every scope, in the making. Its size grows with the number of partners, not of tenants.
#[derive(Debug)]
pub struct MonthBuilder {
    month: Month,
    summarized_at: DateTime,
    as_of: DateTime,
    scopes: BTreeMap<Scope, ReportMonth>,
}

impl MonthBuilder {
    /// Sums of nothing.
    pub fn new(month: Month, summarized_at: DateTime) -> Self {
        let mut builder = Self {
            month,
            summarized_at,
            as_of: DateTime::from_millis(0),
            scopes: BTreeMap::new(),
        };
        builder.scope(Scope::Platform);
        builder
    }

    /// Counts a tenant. Returns the month in which it paid first, if that is this one.
    pub fn add(&mut self, tenant: TenantMonth<'_>) -> Option<Month> {
        let before = tenant
            .before
            .and_then(SubscriptionSnapshot::recurring_payment);
        let after = tenant
            .after
            .and_then(SubscriptionSnapshot::recurring_payment);
        let earlier = tenant.first_paid.filter(|first| *first < self.month);
        let ends = Ends {
            before: before.as_ref(),
            after: after.as_ref(),
            has_paid: earlier.is_some() || before.is_some(),
        };
        if let Some(snapshot) = tenant.after {
            self.as_of = self.as_of.max(snapshot.taken_at);
        }
        let first = earlier.or_else(|| after.as_ref().map(|_| self.month));
        for scope in scopes_of(tenant) {
            let sums = self.scope(scope);
            ends.count_movements(scope, sums);
            if let Some(first) = first {
                ends.count_cohort(scope, first, sums);
            }
            if let Some(snapshot) = tenant.after.filter(|it| covers(scope, it)) {
                count_state(snapshot, after.as_ref(), sums);
            }
        }
        first.filter(|first| *first == self.month)
    }

    /// The sums, the platform's last.
    pub fn finish(self) -> Vec<ReportMonth> {
        let as_of = self.as_of;
        let sums = self.scopes.into_values().rev();
        sums.map(|sums| ReportMonth { as_of, ..sums }).collect()
    }

    fn scope(&mut self, scope: Scope) -> &mut ReportMonth {
        let (month, summarized_at) = (self.month, self.summarized_at);
        self.scopes.entry(scope).or_insert_with(|| ReportMonth {
            id: ReportMonth::id(month, scope),
            month,
            scope: scope.to_string(),
            as_of: summarized_at,
            summarized_at,
            tenants: 0,
            paying: 0,
            currencies: BTreeMap::new(),
            cohorts: BTreeMap::new(),
            health: BTreeMap::new(),
            top: BTreeMap::new(),
        })
    }
}

/// The platform, and the partners at the start and at the end.
fn scopes_of(tenant: TenantMonth<'_>) -> BTreeSet<Scope> {
    let partner = |it: &SubscriptionSnapshot| it.partner_id.map(Scope::Partner);
    let partners = [tenant.before, tenant.after].map(|it| it.and_then(partner));
    let partners = partners.into_iter().flatten();
    partners.chain([Scope::Platform]).collect()
}

fn covers(scope: Scope, snapshot: &SubscriptionSnapshot) -> bool {
    match scope {
        Scope::Platform => true,
        Scope::Partner(id) => snapshot.partner_id == Some(id),
    }
}

impl RecurringPayment {
    fn is_in(&self, scope: Scope) -> bool {
        match scope {
            Scope::Platform => true,
            Scope::Partner(id) => self.partner_id == Some(id),
        }
    }
}

/// Recurring payment of a tenant at the start and at the end.
struct Ends<'a> {
    before: Option<&'a RecurringPayment>,
    after: Option<&'a RecurringPayment>,
    has_paid: bool,
}

impl Ends<'_> {
    fn count_movements(&self, scope: Scope, sums: &mut ReportMonth) {
        let paying = [self.before, self.after].into_iter().flatten();
        let paying = paying.filter(|it| it.is_in(scope));
        let segments: BTreeSet<(&str, _)> = paying
            .flat_map(|it| {
                let currency = it.currency.as_str();
                [(currency, None), (currency, Some(it.plan))]
            })
            .collect();
        for (currency, plan) in segments {
            let is_in = |it: &&RecurringPayment| {
                it.is_in(scope)
                    && it.currency == currency
                    && plan.is_none_or(|plan| it.plan == plan)
            };
            let amount =
                |it: Option<&RecurringPayment>| it.filter(is_in).map_or(0, |it| it.arr_minor);
            let (before, after) = (amount(self.before), amount(self.after));
            let other = if before == 0 { self.before } else { self.after };
            let change = Change {
                before,
                after,
                is_transfer: other.is_some() && (before == 0 || after == 0),
                has_paid: self.has_paid,
            };
            let of_currency = sums.currencies.entry(currency.to_owned()).or_default();
            let movements: &mut Movements = match plan {
                None => &mut of_currency.total,
                Some(plan) => of_currency.plans.entry(plan.name().to_owned()).or_default(),
            };
            movements.record(change);
        }
    }

    fn count_cohort(&self, scope: Scope, first: Month, sums: &mut ReportMonth) {
        let is_before = self.before.is_some_and(|it| it.is_in(scope));
        let is_after = self.after.is_some_and(|it| it.is_in(scope));
        let has_churned = is_before && self.after.is_none();
        if !is_after && !has_churned {
            return;
        }
        let cohort = sums.cohorts.entry(first.to_string()).or_default();
        cohort.paying += i64::from(is_after);
        cohort.churned += i64::from(has_churned);
    }
}

fn count_state(
    snapshot: &SubscriptionSnapshot,
    paying: Option<&RecurringPayment>,
    sums: &mut ReportMonth,
) {
    let Some(health) = snapshot.health() else {
        return;
    };
    sums.tenants += 1;
    let state: &mut HealthCount = sums.health.entry(health.name().to_owned()).or_default();
    state.tenants += 1;
    let Some(paying) = paying else {
        return;
    };
    sums.paying += 1;
    let arr = state.arr_minor.entry(paying.currency.clone()).or_default();
    *arr = arr.saturating_add(paying.arr_minor);
    let top = sums.top.entry(paying.currency.clone()).or_default();
    let rank = |it: &TopCustomer| (Reverse(it.arr_minor), it.tenant_id);
    let customer = TopCustomer {
        tenant_id: snapshot.tenant_id,
        slug: snapshot.slug.clone(),
        plan: paying.plan.name().to_owned(),
        arr_minor: paying.arr_minor,
    };
    let position = top.partition_point(|it| rank(it) < rank(&customer));
    if position < MAX_TOP {
        top.insert(position, customer);
        top.truncate(MAX_TOP);
    }
}

#[cfg(test)]
mod tests;
