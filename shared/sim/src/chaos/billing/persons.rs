//! Persons at Stripe: customers who pay invoices on its pages, get refunds and dispute payments, and the webhooks of it
//! all, which are repeated, reordered and lost.

use std::time::Duration;

use dezky_upstreams::clients::simulated;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::Value;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::is_settled_by_a_person;
use crate::stripe::{Delivery, StripeSim, WebhookTarget};

/// Pause between two deliveries, in milliseconds.
const PAUSE_MILLIS: std::ops::Range<u64> = 200..600;
/// Time limit of a delivery: an api process that does not answer loses it.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Share of the pauses after which an invoice is paid, or a payment is taken back.
const PAYMENTS: f64 = 0.5;

/// Pays and delivers until `end`. `urls` are those of the api processes.
pub(in crate::chaos) async fn live_at_stripe(
    stripe: &StripeSim,
    urls: &[String],
    seed: u64,
    end: &CancellationToken,
) {
    let mut random = StdRng::seed_from_u64(seed);
    while !end.is_cancelled() {
        if random.random_bool(PAYMENTS) {
            pay(stripe, &mut random);
        }
        let url = &urls[random.random_range(0..urls.len())];
        let target = WebhookTarget {
            url: format!("{url}/webhooks/stripe"),
            secrets: vec![simulated::STRIPE_WEBHOOK_SECRET.to_owned()],
        };
        // An event that was not accepted waits again, and those behind an api process that does not answer are lost.
        let _ = timeout(TIMEOUT, stripe.deliver(&target, delivery(&mut random))).await;
        sleep(Duration::from_millis(random.random_range(PAUSE_MILLIS))).await;
    }
}

fn delivery(random: &mut StdRng) -> Delivery {
    match random.random_range(0..10) {
        ..4 => Delivery::Once,
        4..6 => Delivery::Twice,
        6..8 => Delivery::Reversed,
        _ => Delivery::Lost,
    }
}

/// Pays an open invoice, or refunds, credits or disputes a paid one. Stripe refuses a part: an operator has settled that
/// invoice without a payment.
fn pay(stripe: &StripeSim, random: &mut StdRng) {
    let state = stripe.snapshot();
    let objects = state["objects"].as_array().into_iter().flatten();
    let is_open = random.random_bool(0.6);
    let status = if is_open { "open" } else { "paid" };
    let is_chosen = |object: &&Value| {
        let invoice = object["metadata"]["invoiceId"].as_str();
        object["object"] == "invoice"
            && object["status"] == status
            && invoice.is_some_and(is_settled_by_a_person)
    };
    let invoices: Vec<&Value> = objects.filter(is_chosen).collect();
    let Some(invoice) = invoices.choose(random) else {
        return;
    };
    let id = invoice["id"].as_str().unwrap_or_default();
    let part = invoice["total"].as_i64().unwrap_or_default() / 10 + 1;
    let _ = match random.random_range(0..6) {
        _ if is_open => stripe.pay_invoice(id),
        ..3 => stripe.refund(id, part),
        3 => stripe.credit(id, part, 0, None),
        _ => dispute(stripe, id, random),
    };
}

/// Disputes a payment, which half of the customers win.
fn dispute(
    stripe: &StripeSim,
    invoice: &str,
    random: &mut StdRng,
) -> Result<Value, crate::stripe::Refusal> {
    let dispute = stripe.dispute(invoice)?;
    if random.random_bool(0.5) {
        let id = dispute["id"].as_str().unwrap_or_default();
        return stripe.set_status(id, "won");
    }
    Ok(dispute)
}
