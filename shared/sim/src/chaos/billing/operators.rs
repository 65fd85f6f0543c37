//! Operators of billing: they sell to tenants, change and cancel subscriptions, invoice tenants, settle invoices, write to
//! partners' ledgers, and pay partners out.
//!
//! Tenants of the first partner are billed from the start, and those of the second one from a third of the run on: their
//! subscriptions are enrolled by the invoice run. Tenants without a partner are never billed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use dezky_shared::{
    billing::month::Month,
    feature_flag::NEW_BILLING_ENGINE,
    id::PartnerId,
    platform::clock,
    store::{MongoConfig, Store},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    is_settled_by_a_person,
    requests::{
        self, ADJUST, CANCEL, CANCEL_PAYOUT, CHANGE, CORRECT, ENTER_CARD, INVOICE, PAY, PAY_OUT,
        PAYOUT_PAID, SELL, SET_CARD, SYNC, VOID, text_of,
    },
};
use crate::{
    chaos::{
        DATABASE,
        client::{Reply, Request, patch, post},
        load::LoadGenerator,
        stack::Stores,
    },
    opening_balance::credit,
    stripe::StripeSim,
};

/// Slug, margin in percent, and currency of the tenants of each partner.
const PARTNERS: [(&str, f64, &str); 2] = [("north", 20.0, "DKK"), ("south", 12.5, "EUR")];
/// Currency of tenants without a partner.
const CURRENCY: &str = "DKK";
/// Months that are over, of each of which a partner is owed something. The last month is none of them: its entries are not
/// final within its grace period.
const CLOSED_MONTHS: usize = 4;
/// Amount that a partner is owed of each, in minor units.
const OPENING_MINOR: i64 = 10_000;
/// Pause between a response and the operator's next request, in milliseconds.
const PAUSE_MILLIS: std::ops::Range<u64> = 150..450;
/// Beginning of the numbers of invoices that Stripe does not send.
const OWN_NUMBER: &str = "DEZKY-";
/// Net amount from which an invoice is corrected, in minor units: more than all corrections of a run.
const CORRECTED_FROM: i64 = 1_000;
/// A test card that is accepted.
const CARD: &str = "pm_card_visa";

/// Partners, and the tenants that are sold to.
#[derive(Debug)]
pub(in crate::chaos) struct Billing {
    partners: Vec<BilledPartner>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct BilledPartner {
    id: String,
    slug: &'static str,
    currency: &'static str,
}

#[derive(Debug, Clone)]
struct BilledTenant {
    slug: String,
    currency: &'static str,
    has_partner: bool,
}

/// Resources that the operators have created.
#[derive(Debug, Default)]
struct Known {
    /// By id.
    tenants: BTreeMap<String, BilledTenant>,
    /// Slugs of tenants for which no card was entered.
    without_card: Vec<String>,
    /// Ids of the subscriptions whose cancellation was not requested.
    subscriptions: Vec<String>,
    /// Number of requested payouts.
    payouts: usize,
}

impl Billing {
    /// Creates the partners with their balances, and has their tenants billed. `length` is that of the run.
    pub(in crate::chaos) async fn start(
        load: &LoadGenerator,
        stores: &Stores,
        length: Duration,
    ) -> anyhow::Result<Self> {
        let config = MongoConfig {
            uri: stores.mongo.uri.clone(),
            database: DATABASE.to_owned(),
        };
        let store = Arc::new(Store::connect(&config).await?);
        let mut partners = Vec::new();
        for (slug, margin, currency) in PARTNERS {
            let id = load.create_partner(slug, margin).await;
            let id = id.context("a partner was refused")?;
            let partner_id: PartnerId = id.parse()?;
            for month in closed_months() {
                credit(&store, partner_id, month, currency, OPENING_MINOR).await?;
            }
            partners.push(BilledPartner { id, slug, currency });
        }
        let billing = Self {
            partners,
            known: Mutex::default(),
        };
        let later = clock::later(clock::now(), length / 3);
        let rules = json!([
            { "partners": [billing.partners[0].id], "value": true },
            { "partners": [billing.partners[1].id], "from": text_of(later), "value": true },
        ]);
        let is_on = load.change_flag(NEW_BILLING_ENGINE, json!({ "rules": rules }));
        ensure!(is_on.await, "the flag of billing was refused");
        Ok(billing)
    }

    /// Runs one operator, who sends no new request after `end`.
    pub(in crate::chaos) async fn operate(
        &self,
        load: &LoadGenerator,
        stripe: &StripeSim,
        seed: u64,
        end: &CancellationToken,
    ) {
        let mut random = StdRng::seed_from_u64(seed);
        while !end.is_cancelled() {
            self.act(load, stripe, &mut random).await;
            sleep(Duration::from_millis(random.random_range(PAUSE_MILLIS))).await;
        }
    }

    async fn act(&self, load: &LoadGenerator, stripe: &StripeSim, random: &mut StdRng) {
        match random.random_range(0..100) {
            ..14 => self.create_tenant(load, random).await,
            14..36 => self.sell(load, random).await,
            36..44 => self.change(load, random).await,
            44..47 => self.cancel(load, random).await,
            47..55 => self.invoice(load, random).await,
            55..68 => self.sync(load, random).await,
            68..77 => self.enter_card(load, stripe, random).await,
            77..90 => self.settle_invoice(load, random).await,
            90..93 => self.adjust_ledger(load, random).await,
            93..97 => self.request_payout(load, random).await,
            _ => settle_payout(load, random).await,
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn any_tenant(&self, random: &mut StdRng) -> Option<BilledTenant> {
        let known = self.known();
        let tenants: Vec<&BilledTenant> = known.tenants.values().collect();
        tenants.choose(random).copied().cloned()
    }

    /// Creates a tenant, which all customers may change. One in five has no partner.
    async fn create_tenant(&self, load: &LoadGenerator, random: &mut StdRng) {
        let slug = format!("shop-{}", load.number());
        let mut body = json!({ "slug": slug, "name": format!("{slug} Ltd"), "plan": "business" });
        let partner = self.partners.get(random.random_range(0..5_usize) / 2);
        if let Some(partner) = partner {
            body["partnerId"] = json!(partner.id);
        }
        let request = post("/tenants".to_owned(), Some(body));
        let reply = load.send("create", request, random).await;
        let Some(reply) = reply.filter(Reply::is_accepted) else {
            return;
        };
        load.remember("create", "/tenants", &reply);
        let Some(id) = reply.id else { return };
        let mut known = self.known();
        if partner.is_some() {
            known.without_card.push(slug.clone());
        }
        let tenant = BilledTenant {
            slug,
            currency: partner.map_or(CURRENCY, |partner| partner.currency),
            has_partner: partner.is_some(),
        };
        known.tenants.insert(id, tenant);
    }

    async fn sell(&self, load: &LoadGenerator, random: &mut StdRng) {
        let Some(tenant) = self.any_tenant(random) else {
            return self.create_tenant(load, random).await;
        };
        let BilledTenant {
            slug,
            currency,
            has_partner,
        } = tenant;
        let body = requests::sale(&slug, currency, has_partner, load.number(), random);
        let request = post("/subscriptions".to_owned(), Some(body));
        let reply = load.send(SELL, request, random).await;
        let sold = reply.filter(Reply::is_accepted).and_then(|reply| reply.id);
        self.known().subscriptions.extend(sold);
    }

    async fn change(&self, load: &LoadGenerator, random: &mut StdRng) {
        let chosen = self.known().subscriptions.choose(random).cloned();
        let Some(id) = chosen else { return };
        let body = requests::change(load.number(), random);
        let request = patch(format!("/subscriptions/{id}"), body);
        load.send(CHANGE, request, random).await;
    }

    /// At most once per subscription.
    async fn cancel(&self, load: &LoadGenerator, random: &mut StdRng) {
        let Some(id) = taken(&mut self.known().subscriptions, random) else {
            return;
        };
        let request = Request::new(Method::DELETE, format!("/subscriptions/{id}"), None);
        load.send(CANCEL, request, random).await;
    }

    /// Invoices a tenant, or all of them.
    async fn invoice(&self, load: &LoadGenerator, random: &mut StdRng) {
        if random.random_bool(0.2) {
            load.invoice_all().await;
            return;
        }
        let Some(tenant) = self.any_tenant(random) else {
            return;
        };
        let path = format!("/tenants/{}/billing/invoice", tenant.slug);
        let request = post(path, Some(requests::invoice_run(random)));
        load.send(INVOICE, request, random).await;
    }

    /// Syncs the customer of a tenant, or reads the events that no webhook delivered.
    async fn sync(&self, load: &LoadGenerator, random: &mut StdRng) {
        if random.random_bool(0.1) {
            load.fetch_stripe_events().await;
            return;
        }
        let Some(tenant) = self.any_tenant(random) else {
            return;
        };
        let path = format!("/tenants/{}/billing/sync", tenant.slug);
        load.send(SYNC, post(path, None), random).await;
    }

    /// Enters a card for a tenant as a person does in the browser, and sets it. At most once per tenant: the number of
    /// cards is limited.
    async fn enter_card(&self, load: &LoadGenerator, stripe: &StripeSim, random: &mut StdRng) {
        let Some(slug) = taken(&mut self.known().without_card, random) else {
            return;
        };
        let path = format!("/tenants/{slug}/payment-method");
        let request = post(format!("{path}/setup-intents"), None).waiting();
        let Some(reply) = load.send(ENTER_CARD, request, random).await else {
            return;
        };
        if reply.code.as_deref() == Some("billing_off") {
            self.known().without_card.push(slug);
            return;
        }
        // Without an id of Stripe, the job took longer than the wait.
        let Some(intent) = reply.id.filter(|id| id.starts_with("seti_")) else {
            return;
        };
        if stripe.enter_card(&intent, CARD).is_ok() {
            let body = json!({ "setupIntentId": intent });
            let request = Request::new(Method::PUT, path, Some(body));
            load.send(SET_CARD, request, random).await;
        }
    }

    /// Marks an invoice as paid, voids it, or corrects a paid one.
    async fn settle_invoice(&self, load: &LoadGenerator, random: &mut StdRng) {
        let is_correction = random.random_bool(0.25);
        let status = if is_correction { "paid" } else { "open" };
        let path = format!("/invoices?status={status}&limit=100");
        let invoices = load.client.list(&path, random).await;
        let Some(invoice) = invoices.choose(random) else {
            return;
        };
        let (id, tenant) = (text(invoice, "id"), text(invoice, "tenantId"));
        let known = self.known().tenants.get(tenant).cloned();
        let Some(tenant) = known else { return };
        let path = format!("/tenants/{}/invoices", tenant.slug);
        if is_correction {
            if invoice["subtotalMinor"].as_i64() >= Some(CORRECTED_FROM) {
                load.send(CORRECT, post(path, Some(correction(id))), random)
                    .await;
            }
            return;
        }
        let is_own = text(invoice, "number").starts_with(OWN_NUMBER);
        if !is_own && is_settled_by_a_person(id) {
            return;
        }
        let (action, request) = if random.random_bool(0.7) {
            let body = json!({ "reference": "Transfer" });
            (PAY, post(format!("{path}/{id}/mark-paid"), Some(body)))
        } else {
            let body = json!({ "reason": "Mistake" });
            (VOID, post(format!("{path}/{id}/void"), Some(body)))
        };
        load.send(action, request, random).await;
    }

    async fn adjust_ledger(&self, load: &LoadGenerator, random: &mut StdRng) {
        let Some(partner) = self.partners.choose(random) else {
            return;
        };
        let amount = random.random_range(1..500) * if random.random_bool(0.5) { 1 } else { -1 };
        let body =
            json!({ "currency": partner.currency, "amountMinor": amount, "reason": "Goodwill" });
        let request = post(format!("/partners/{}/ledger", partner.slug), Some(body));
        load.send(ADJUST, request, random).await;
    }

    /// Requests the payouts of all months, the oldest one first: a payout settles what is left of the months before.
    async fn request_payout(&self, load: &LoadGenerator, random: &mut StdRng) {
        let number = {
            let mut known = self.known();
            known.payouts += 1;
            known.payouts - 1
        };
        let partner = &self.partners[number % self.partners.len()];
        let month = closed_months()[(number / self.partners.len()) % CLOSED_MONTHS];
        let body = json!({
            "partner": partner.slug, "currency": partner.currency, "month": month.to_string(),
        });
        let request = post("/payouts".to_owned(), Some(body));
        load.send(PAY_OUT, request, random).await;
    }
}

/// Marks a pending payout as paid, or cancels it.
async fn settle_payout(load: &LoadGenerator, random: &mut StdRng) {
    let payouts = load.client.list("/payouts?limit=100", random).await;
    let pending = payouts.iter().filter(|it| it["status"] == "pending");
    let pending: Vec<&Value> = pending.collect();
    let Some(payout) = pending.choose(random) else {
        return;
    };
    let path = format!("/payouts/{}", text(payout, "id"));
    let (action, request) = if random.random_bool(0.6) {
        let body = json!({ "reference": "Transfer" });
        (PAYOUT_PAID, post(format!("{path}/mark-paid"), Some(body)))
    } else {
        (CANCEL_PAYOUT, post(format!("{path}/cancel"), None))
    };
    load.send(action, request, random).await;
}

/// The months that are over, the oldest one first.
fn closed_months() -> Vec<Month> {
    let last = Month::of(clock::now()).previous();
    let before = std::iter::successors(Some(last.previous()), |month| Some(month.previous()));
    let mut months: Vec<Month> = before.take(CLOSED_MONTHS).collect();
    months.reverse();
    months
}

fn correction(invoice: &str) -> Value {
    let line = json!({ "description": "Goodwill", "amountMinor": -1 });
    json!({ "reason": "Goodwill", "corrects": invoice, "lines": [line] })
}

/// Removes any item.
fn taken(items: &mut Vec<String>, random: &mut StdRng) -> Option<String> {
    if items.is_empty() {
        return None;
    }
    let position = random.random_range(0..items.len());
    Some(items.swap_remove(position))
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closed_months_are_final_and_end_before_the_last_month() {
        let months = closed_months();

        let current = Month::of(clock::now());
        assert_eq!(months.len(), CLOSED_MONTHS);
        assert_eq!(months[CLOSED_MONTHS - 1], current.previous().previous());
        assert!(months.is_sorted());
    }
}
