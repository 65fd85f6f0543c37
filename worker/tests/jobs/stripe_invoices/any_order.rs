//! Events of payments, refunds, credit notes and disputes that are repeated, reordered and lost: the ledger ends as if each had
//! been told once, and agrees with the stored invoices at every moment.

use std::{cell::Cell, collections::BTreeMap, slice, time::Duration};

use bson::{Document, doc};
use dezky_shared::{
    id::InvoiceId,
    invoice::{Invoice, InvoiceStatus::Paid},
    ledger::LedgerEntry,
    money::{net_of_gross, partner_cut},
    store::TransactionError,
};
use dezky_sim::stripe::StripeSim;
use futures::{FutureExt as _, TryStreamExt as _};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};
use serde_json::Value;
use tokio::{runtime::Runtime, time::sleep};

use super::{Sale, id_of};
use crate::world::World;

/// Amounts of an invoice, as [`World::bill`] issues it.
const NET: i64 = 10_000;
const TOTAL: i64 = 11_900;
/// Margin whose shares have to be rounded.
const MARGIN: i32 = 1_250;
/// Invoices of a story.
const INVOICES: usize = 2;

/// A change at Stripe. A second payment changes nothing, and neither does another change before the payment.
#[derive(Debug, Clone, Copy)]
enum Change {
    Pay,
    Refund { gross: i64 },
    FailRefund,
    Credit { net: i64, is_refunded: bool },
    Dispute,
    EndDispute { is_won: bool },
}

/// Delivery of the events of a change.
#[derive(Debug, Clone, Copy)]
enum Told {
    Once,
    Twice,
    Reversed,
    /// After those of all other changes, the last one first.
    Late,
    Never,
}

/// A change of one of the invoices.
#[derive(Debug, Clone, Copy)]
struct Step {
    invoice: usize,
    change: Change,
    told: Told,
}

fn any_step() -> impl Strategy<Value = Step> {
    let change = prop_oneof![
        4 => Just(Change::Pay),
        3 => (1_i64..6_000).prop_map(|gross| Change::Refund { gross }),
        1 => Just(Change::FailRefund),
        2 => (1_i64..3_000, any::<bool>())
            .prop_map(|(net, is_refunded)| Change::Credit { net, is_refunded }),
        2 => Just(Change::Dispute),
        2 => any::<bool>().prop_map(|is_won| Change::EndDispute { is_won }),
    ];
    let told = select(vec![
        Told::Once,
        Told::Twice,
        Told::Reversed,
        Told::Late,
        Told::Never,
    ]);
    (0..INVOICES, change, told).prop_map(|(invoice, change, told)| Step {
        invoice,
        change,
        told,
    })
}

/// An invoice as it should end.
struct Expected {
    id: String,
    is_paid: bool,
    credited: i64,
    refunds: Vec<(String, i64)>,
    dispute: Option<String>,
}

impl Expected {
    fn new(id: String) -> Self {
        Self {
            id,
            is_paid: false,
            credited: 0,
            refunds: Vec::new(),
            dispute: None,
        }
    }

    /// Makes the change at Stripe.
    fn apply(&mut self, stripe: &StripeSim, change: Change) {
        let is_payment = matches!(change, Change::Pay);
        if is_payment == self.is_paid {
            return;
        }
        let id = self.id.as_str();
        match change {
            Change::Pay => {
                stripe.pay_invoice(id).unwrap();
                self.is_paid = true;
            }
            Change::Refund { gross } => {
                let refund = id_of(&stripe.refund(id, gross).unwrap());
                self.refunds.push((refund, gross));
            }
            Change::FailRefund => {
                if let Some((refund, _)) = self.refunds.pop() {
                    stripe.set_status(&refund, "failed").unwrap();
                }
            }
            Change::Credit { net, is_refunded } => {
                let tax = net * 19 / 100;
                // A refund that a note names counts as that note.
                let refund = is_refunded.then(|| id_of(&stripe.refund(id, net + tax).unwrap()));
                stripe.credit(id, net, tax, refund.as_deref()).unwrap();
                self.credited += net;
            }
            Change::Dispute => {
                if self.dispute.is_none() {
                    self.dispute = Some(id_of(&stripe.dispute(id).unwrap()));
                }
            }
            Change::EndDispute { is_won } => {
                let status = if is_won { "won" } else { "lost" };
                if let Some(dispute) = &self.dispute {
                    stripe.set_status(dispute, status).unwrap();
                }
                if is_won {
                    self.dispute = None;
                }
            }
        }
    }

    /// Net amount that is left of it.
    fn net(&self) -> i64 {
        if !self.is_paid {
            return 0;
        }
        let refunded: i64 = self.refunds.iter().map(|(_, gross)| gross).sum();
        let disputed = if self.dispute.is_some() { TOTAL } else { 0 };
        let reduced = net_of_gross(refunded + disputed, NET, TOTAL);
        (NET - self.credited - reduced).max(0)
    }
}

#[test]
fn changes_told_in_any_way_end_in_the_same_ledger_which_agrees_at_every_moment() {
    let runtime = Runtime::new().unwrap();
    let (world, sale) = runtime.block_on(async {
        let world = World::start().await;
        let sale = world.sold().await;
        world.set_margin(MARGIN).await;
        world.catch_up().await;
        let latency = Duration::from_millis(20);
        world.upstreams.stripe.server.faults.set_latency(latency);
        (world, sale)
    });
    let period = Cell::new(0);
    let mut runner = TestRunner::new(Config {
        cases: 8,
        max_shrink_iters: 8,
        failure_persistence: None,
        ..Config::default()
    });

    runner
        .run(&vec(any_step(), 2..8), |steps| {
            let first = period.replace(period.get() + 2);
            runtime.block_on(async {
                tokio::select! {
                    () = world.tell(&sale, first, &steps) => {}
                    () = world.shares_agree() => {}
                }
            });
            Ok(())
        })
        .unwrap();
    runtime.block_on(world.stop());
}

impl World {
    /// Makes the changes to new invoices, whose periods begin with `first`, tells them, and compares the ledger.
    async fn tell(&self, sale: &Sale, first: i64, steps: &[Step]) {
        let stripe = &self.upstreams.stripe;
        let mut told = stripe.objects("event").len();
        let mut bills: [Expected; INVOICES] =
            [first, first + 1].map(|period| Expected::new(self.bill(sale, period)));
        let mut late = Vec::new();
        for step in steps {
            bills[step.invoice].apply(stripe, step.change);
            let mut events = stripe.objects("event").split_off(told);
            told += events.len();
            match step.told {
                Told::Once => self.receive(&events).await,
                Told::Twice => {
                    self.receive(&events).await;
                    self.receive(&events).await;
                }
                Told::Reversed => {
                    events.reverse();
                    self.receive(&events).await;
                }
                Told::Late => late.extend(events),
                Told::Never => {}
            }
        }
        late.reverse();
        self.receive(&late).await;
        self.catch_up().await;

        let (invoices, shares) = self.ledger().await;
        for bill in &bills {
            let invoice = invoices.iter().find(|it| it.stripe_id() == bill.id);
            let invoice = invoice.unwrap();
            assert_eq!(invoice.share_base_minor(), bill.net(), "{steps:?}");
            let share = shares.get(&invoice.id).copied().unwrap_or_default();
            assert_eq!(share, partner_cut(bill.net(), MARGIN), "{steps:?}");
        }
    }

    /// Compares the share in each invoice with the sum of its entries, again and again.
    async fn shares_agree(&self) {
        loop {
            let (invoices, shares) = self.ledger().await;
            for invoice in invoices {
                let sum = shares.get(&invoice.id).copied().unwrap_or_default();
                let share = partner_cut(invoice.share_base_minor(), invoice.margin_basis_points);
                assert_eq!(sum, share, "{invoice:#?}");
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// All invoices, and the sums of their entries, at one moment.
    async fn ledger(&self) -> (Vec<Invoice>, BTreeMap<InvoiceId, i64>) {
        let store = &self.harness.context.store;
        let collections = (
            store.collection::<Invoice>("invoices"),
            store.collection::<LedgerEntry>("ledger_entries"),
        );
        let read = store.transaction(collections, |session, (invoices, entries)| {
            async move {
                let mut found = invoices.find(doc! {}).session(&mut *session).await?;
                let invoices: Vec<Invoice> = found.stream(&mut *session).try_collect().await?;
                let mut found = entries.find(doc! {}).session(&mut *session).await?;
                let entries: Vec<LedgerEntry> = found.stream(&mut *session).try_collect().await?;
                Ok::<_, TransactionError<()>>((invoices, entries))
            }
            .boxed()
        });
        let (invoices, entries) = read.await.unwrap();
        let mut shares = BTreeMap::new();
        for entry in entries {
            let invoice = entry.invoice_id.unwrap();
            *shares.entry(invoice).or_default() += entry.amount_minor;
        }
        (invoices, shares)
    }
}

/// Stripe answers only after all of them were received.
#[tokio::test(flavor = "multi_thread")]
async fn repeated_events_in_any_order_are_followed_once_each_while_stripe_is_slow() {
    let world = World::start().await;
    let sale = world.sold().await;
    let stripe = &world.upstreams.stripe;
    let known = stripe.objects("event").len();
    let bills: Vec<String> = (0..8).map(|period| world.bill(&sale, period)).collect();
    for bill in &bills {
        world.pay(bill);
    }
    let mut events = stripe.objects("event").split_off(known);
    // By the last digit of their numbers first.
    events.sort_by_key(|event| id_of(event).chars().rev().collect::<String>());
    let again: Vec<Value> = events.iter().rev().cloned().collect();
    let stored = world
        .harness
        .context
        .store
        .collection::<Document>("webhook_events");
    let waiting = doc! { "state": "received" };

    stripe
        .server
        .faults
        .set_latency(Duration::from_millis(1_500));
    for event in events.iter().chain(&again) {
        world.receive(slice::from_ref(event)).await;
    }
    let behind = stored.count_documents(waiting.clone()).await.unwrap();
    stripe.server.faults.set_latency(Duration::ZERO);
    world.until_idle().await;

    assert!(behind > 0);
    let count = stored.count_documents(doc! {}).await.unwrap();
    assert_eq!(count, events.len() as u64);
    assert_eq!(stored.count_documents(waiting).await.unwrap(), 0);
    let (invoices, shares) = world.ledger().await;
    assert_eq!(invoices.len(), bills.len());
    assert!(invoices.iter().all(|invoice| invoice.status == Paid));
    assert_eq!(shares.len(), bills.len());
    let entries = world
        .harness
        .context
        .store
        .collection::<Document>("ledger_entries");
    let entries = entries.count_documents(doc! { "amountMinor": 2_000_i64 });
    assert_eq!(entries.await.unwrap(), bills.len() as u64);
    world.stop().await;
}
