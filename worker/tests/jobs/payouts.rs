//! Closing of a month: one payout for each partner and currency, whatever is repeated or killed.

use std::time::Duration;

use bson::{DateTime, Document, doc};
use dezky_shared::{
    billing::month::Month,
    id::{LedgerEntryId, PartnerId},
    ledger::Payout,
    queue::{
        args::{BalanceKey, ClosePayouts, ReleasePayout},
        job::{Job, JobState},
    },
    store::TransactionError,
};
use futures::{FutureExt as _, TryStreamExt as _};

use crate::harness::Harness;

fn day(text: &str) -> DateTime {
    DateTime::parse_rfc3339_str(format!("{text}T10:00:00Z")).unwrap()
}

/// Writes entries of these amounts, recorded at this time, with their balance.
async fn write(harness: &Harness, partner: PartnerId, currency: &str, at: &str, amounts: &[i64]) {
    let store = &harness.context.store;
    let entries = amounts.iter().map(|amount| {
        doc! {
            "_id": LedgerEntryId::new(), "partnerId": partner, "kind": "adjustment", "currency": currency,
            "amountMinor": amount, "occurredAt": day(at), "recordedAt": day(at),
        }
    });
    let ledger = store.collection::<Document>("ledger_entries");
    ledger.insert_many(entries).await.unwrap();
    let sum: i64 = amounts.iter().sum();
    let update = doc! {
        "$inc": { "unsettledMinor": sum, "adjustedMinor": sum },
        "$setOnInsert": { "partnerId": partner, "currency": currency },
    };
    let balances = store.collection::<Document>("partner_balances");
    let id = doc! { "_id": format!("{partner}/{currency}") };
    balances.update_one(id, update).upsert(true).await.unwrap();
}

async fn payouts(harness: &Harness) -> Vec<Payout> {
    let payouts = harness.context.store.collection::<Payout>("payouts");
    let found = payouts.find(doc! {}).sort(doc! { "_id": 1 }).await;
    found.unwrap().try_collect().await.unwrap()
}

fn closing(month: Month, dry_run: bool) -> ClosePayouts {
    ClosePayouts {
        month,
        dry_run,
        only: None,
    }
}

async fn close(harness: &Harness, month: &str, dry_run: bool) -> Job {
    let month = month.parse().unwrap();
    let job = harness.enqueue(&closing(month, dry_run)).await;
    let job = harness.finished(job.id).await;
    assert_eq!(job.state, JobState::Completed, "{job:#?}");
    job
}

async fn unsettled(harness: &Harness, partner: PartnerId) -> (i64, i64) {
    let balances = harness.context.ledger.list_balances(partner).await.unwrap();
    (balances[0].unsettled_minor, balances[0].pending_minor)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_is_closed_once_and_what_is_not_owed_is_carried_over() {
    let harness = Harness::new().await;
    let [partner, owing] = [PartnerId::new(), PartnerId::new()];
    write(&harness, partner, "DKK", "2025-01-10", &[2_000, -667]).await;
    write(&harness, partner, "DKK", "2025-02-03", &[100]).await;
    write(&harness, owing, "EUR", "2025-01-10", &[50, -80]).await;
    let worker = harness.worker();

    let dry = close(&harness, "2025-01", true).await;
    let none = payouts(&harness).await.len();
    close(&harness, "2025-01", false).await;
    close(&harness, "2025-01", false).await;
    let january = payouts(&harness).await;
    let after_january = unsettled(&harness, partner).await;
    write(&harness, owing, "EUR", "2025-02-10", &[100]).await;
    close(&harness, "2025-02", false).await;
    worker.stop().await;

    assert_eq!(dry.steps[0].changes.len(), 1);
    assert_eq!(none, 0);
    assert_eq!(january.len(), 1);
    let first = &january[0];
    assert_eq!((first.partner_id, first.amount_minor), (partner, 1_333));
    assert_eq!(
        (first.entry_count, first.month.to_string()),
        (2, "2025-01".to_owned())
    );
    assert_eq!(after_january, (100, 1_333));
    let mut february: Vec<(PartnerId, i64, i64)> = payouts(&harness).await[1..]
        .iter()
        .map(|payout| (payout.partner_id, payout.amount_minor, payout.entry_count))
        .collect();
    february.sort();
    // With the entries of January that were carried over.
    let mut expected = [(partner, 100, 1), (owing, 70, 3)];
    expected.sort();
    assert_eq!(february, expected);
    assert_eq!(unsettled(&harness, partner).await, (0, 1_433));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closing_that_dies_between_its_writes_is_finished_by_the_next_attempt() {
    let harness = Harness::new().await;
    let partner = PartnerId::new();
    // More than are marked in one transaction.
    write(&harness, partner, "DKK", "2025-01-10", &vec![1; 2_500]).await;
    harness
        .refuse_unless("payouts", doc! { "accepted": true })
        .await;
    let worker = harness.worker();
    let args = closing("2025-01".parse().unwrap(), false);

    let job = harness.enqueue(&args).await;
    harness
        .job_until(job.id, |job| !job.attempts.is_empty())
        .await;
    let marked = doc! { "payoutId": { "$exists": true } };
    let entries = harness
        .context
        .store
        .collection::<Document>("ledger_entries");
    let marked = entries.count_documents(marked).await.unwrap();
    let before = unsettled(&harness, partner).await;
    harness.refuse_unless("payouts", doc! {}).await;
    let job = harness.finished(job.id).await;
    worker.stop().await;

    assert_eq!(job.state, JobState::Completed, "{job:#?}");
    assert_eq!((marked, before), (2_500, (2_500, 0)));
    let payouts = payouts(&harness).await;
    assert_eq!(payouts.len(), 1);
    assert_eq!(
        (payouts[0].amount_minor, payouts[0].entry_count),
        (2_500, 2_500)
    );
    assert_eq!(unsettled(&harness, partner).await, (0, 2_500));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_entries_than_an_attempt_has_time_for_are_settled_and_released_by_several() {
    let mut harness = Harness::new().await;
    harness.times.yield_after = Duration::ZERO;
    let [partner, other] = [PartnerId::new(), PartnerId::new()];
    write(&harness, partner, "DKK", "2025-01-10", &vec![1; 2_500]).await;
    write(&harness, other, "DKK", "2025-01-10", &[50]).await;
    let worker = harness.worker();

    close(&harness, "2025-01", false).await;
    let january = payouts(&harness).await;
    let large = january.iter().find(|it| it.partner_id == partner);
    let large = large.unwrap();
    cancel(&harness, large).await;
    let payout_id = large.id;
    let release = harness.enqueue(&ReleasePayout { payout_id }).await;
    let release = harness.finished(release.id).await;
    worker.stop().await;

    assert_eq!(january.len(), 2);
    assert_eq!((large.amount_minor, large.entry_count), (2_500, 2_500));
    assert_eq!(release.state, JobState::Completed, "{release:#?}");
    let marked = doc! { "payoutId": payout_id };
    let store = &harness.context.store;
    let entries = store.collection::<Document>("ledger_entries");
    assert_eq!(entries.count_documents(marked).await.unwrap(), 0);
    assert_eq!(unsettled(&harness, partner).await, (2_500, 0));
    assert_eq!(unsettled(&harness, other).await, (0, 50));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_balance_is_closed_by_request_and_released_by_a_cancellation() {
    let harness = Harness::new().await;
    let [partner, other] = [PartnerId::new(), PartnerId::new()];
    // More than are released in one transaction.
    write(&harness, partner, "DKK", "2025-01-10", &vec![1; 1_500]).await;
    write(&harness, other, "DKK", "2025-01-10", &[50]).await;
    let month: Month = "2025-01".parse().unwrap();
    let args = ClosePayouts {
        only: Some(BalanceKey {
            partner_id: partner,
            currency: "DKK".to_owned(),
        }),
        ..closing(month, false)
    };
    let worker = harness.worker();
    let done = async |job: Job| {
        let job = harness.finished(job.id).await;
        assert_eq!(job.state, JobState::Completed, "{job:#?}");
    };

    done(harness.enqueue(&args).await).await;
    let first = payouts(&harness).await;
    cancel(&harness, &first[0]).await;
    let payout_id = first[0].id;
    done(harness.enqueue(&ReleasePayout { payout_id }).await).await;
    close(&harness, "2025-02", false).await;
    worker.stop().await;

    let amounts = |payouts: &[Payout]| -> Vec<(PartnerId, i64)> {
        let amounts = payouts.iter().map(|it| (it.partner_id, it.amount_minor));
        amounts.collect()
    };
    assert_eq!(amounts(&first), [(partner, 1_500)]);
    let mut february = amounts(&payouts(&harness).await[1..]);
    february.sort();
    let mut expected = [(partner, 1_500), (other, 50)];
    expected.sort();
    assert_eq!(february, expected);
    assert_eq!(unsettled(&harness, partner).await, (0, 1_500));
}

/// Cancels a payout, as the api does.
async fn cancel(harness: &Harness, payout: &Payout) {
    let store = &harness.context.store;
    let cancelled = doc! { "$set": { "status": "cancelled" } };
    let payouts = store.collection::<Document>("payouts");
    let filter = doc! { "_id": payout.id };
    payouts.update_one(filter, cancelled).await.unwrap();
    let work = (&harness.context.ledger, payout);
    let moved = store.transaction(work, |session, (ledger, payout)| {
        async move { Ok::<_, TransactionError<()>>(ledger.cancel_payout(session, payout).await?) }
            .boxed()
    });
    moved.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balance_that_cannot_be_decoded_delays_no_other_and_is_carried_over() {
    let harness = Harness::new().await;
    let mut partners = [PartnerId::new(), PartnerId::new()];
    // The balances are read in this order.
    partners.sort_unstable_by_key(ToString::to_string);
    let [undecodable, other] = partners;
    for partner in partners {
        write(&harness, partner, "DKK", "2025-01-10", &[100]).await;
    }
    let store = &harness.context.store;
    let balances = store.collection::<Document>("partner_balances");
    let first = doc! { "_id": format!("{undecodable}/DKK") };
    let damage = doc! { "$set": { "unsettledMinor": "of_a_newer_build" } };
    balances.update_one(first.clone(), damage).await.unwrap();
    let worker = harness.worker();

    close(&harness, "2025-01", false).await;
    let january = payouts(&harness).await;
    let repair = doc! { "$set": { "unsettledMinor": 100_i64 } };
    balances.update_one(first, repair).await.unwrap();
    close(&harness, "2025-02", false).await;
    worker.stop().await;

    let partners: Vec<PartnerId> = january.iter().map(|payout| payout.partner_id).collect();
    assert_eq!(partners, [other]);
    let all = payouts(&harness).await;
    let mut carried_over = all.iter().filter(|it| it.partner_id == undecodable);
    assert_eq!(carried_over.next().unwrap().amount_minor, 100);
    assert_eq!(all.len(), 2);
}
