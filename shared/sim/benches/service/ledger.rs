//! A partner's summary and ledger among a million entries.

use std::time::{Duration, Instant};

use dezky_shared::{
    id::{InvoiceId, LedgerEntryId, PartnerId, TenantId},
    ledger::{EntryKind, LedgerEntry},
    platform::clock,
};
use dezky_sim::{
    bench_output::{grouped, percentile, progress, report, size, within},
    callers::Caller,
};
use futures::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::World;

const PARTNER: &str = "nordic";
/// Entries per insert.
const BATCH: usize = 5_000;
/// Entries that an operator writes, in the order of their numbers: they add up the balances.
const ADJUSTMENTS: usize = 100;
/// Reads of each kind, and how many of them at once.
const READS: usize = 2_000;
const READERS: usize = 8;
/// Age of the oldest entry.
const PERIOD: Duration = Duration::from_hours(365 * 24);
/// Maximum time of a summary.
const MAX_MILLIS: f64 = 50.0;

/// Returns whether the limit holds.
pub(crate) async fn measure() -> bool {
    let count = size(200_000, 1_000_000);
    let world = World::start().await;
    let (partner, staff) = add_partner(&world).await;
    progress(format!("storing {count} ledger entries"));
    store(&world, partner, count).await;
    let name = |part: &str| format!("{} ledger entries: {part}", grouped(count as u64));

    let mut spans = Vec::with_capacity(ADJUSTMENTS);
    for number in 0..ADJUSTMENTS {
        let body =
            json!({ "currency": "DKK", "amountMinor": 100, "reason": format!("Number {number}") });
        let path = format!("/partners/{PARTNER}/ledger");
        let began = Instant::now();
        world.send(Method::POST, &path, Some(&body)).await;
        spans.push(began.elapsed());
    }
    report(
        name("another one written, p50"),
        percentile(&mut spans, 0.5),
        "ms",
    );
    let mut page = read(&world, &staff, "/partner/ledger?limit=100").await;
    report(
        name("first page of the ledger, p99"),
        percentile(&mut page, 0.99),
        "ms",
    );
    let mut summary = read(&world, &staff, "/partner/billing/summary").await;
    within(
        name("a partner's summary, p99"),
        percentile(&mut summary, 0.99),
        "ms",
        MAX_MILLIS,
    )
}

/// A partner, with the token of its owner.
async fn add_partner(world: &World) -> (PartnerId, String) {
    let staff = world.token_of(Caller::Partner);
    let me = world.request_as(&staff, Method::GET, "/users/me");
    let user = object(me).await;
    let body = json!({ "slug": PARTNER, "name": "Nordic", "marginPct": 20 });
    let partner = object(world.request(Method::POST, "/partners").json(&body)).await;
    let path = format!("/users/{}", text(&user, "id"));
    let owns = json!({ "partnerId": partner["id"], "partnerRole": "owner" });
    world.send(Method::PATCH, &path, Some(&owns)).await;
    let id = text(&partner, "id").parse::<PartnerId>();
    (id.expect("it is an id"), staff)
}

async fn object(request: reqwest::RequestBuilder) -> Value {
    let response = request.send().await.expect("the api responds");
    let status = response.status();
    let object: Value = response.json().await.expect("the response is an object");
    assert!(status.is_success(), "{status} {object}");
    object
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().expect("it is a text")
}

/// Stores shares of paid invoices, each of a tenant of its own.
async fn store(world: &World, partner: PartnerId, count: usize) {
    let entries = world.database.collection::<LedgerEntry>("ledger_entries");
    stream::iter((0..count).step_by(BATCH))
        .for_each_concurrent(2, async |from| {
            let batch = (from..count.min(from + BATCH)).map(|number| {
                let share = PERIOD.mul_f64(fraction(number, count));
                accrual(partner, share)
            });
            entries
                .insert_many(batch)
                .await
                .expect("MongoDB accepts them");
        })
        .await;
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn fraction(number: usize, count: usize) -> f64 {
    number as f64 / count as f64
}

/// The share of an invoice that was paid this long ago.
fn accrual(partner: PartnerId, ago: Duration) -> LedgerEntry {
    let at = clock::earlier(clock::now(), ago);
    LedgerEntry {
        id: LedgerEntryId::new(),
        partner_id: partner,
        kind: EntryKind::Accrual,
        currency: "DKK".to_owned(),
        amount_minor: 2_000,
        tenant_id: Some(TenantId::new()),
        invoice_id: Some(InvoiceId::new()),
        sequence: Some(1),
        base_minor: Some(10_000),
        margin_basis_points: Some(2_000),
        reason: None,
        occurred_at: at,
        recorded_at: at,
        payout_id: None,
    }
}

/// Durations of reads of `path` by the partner's staff.
async fn read(world: &World, staff: &str, path: &str) -> Vec<Duration> {
    stream::iter(0..READS)
        .map(async |_| {
            let began = Instant::now();
            object(world.request_as(staff, Method::GET, path)).await;
            began.elapsed()
        })
        .buffer_unordered(READERS)
        .collect()
        .await
}
