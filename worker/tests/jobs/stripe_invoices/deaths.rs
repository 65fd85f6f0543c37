//! Death of a worker at each write with which an invoice is issued and settled by Stripe.

use bson::doc;
use dezky_shared::{
    invoice::{
        Invoice,
        InvoiceStatus::{Open, Paid},
    },
    queue::args::{IssueInvoice, SettleInvoice},
};
use dezky_sim::proxy::Death::{self, AfterRequest, BeforeRequest};

use crate::{
    dying::FatalWrite,
    scenarios::{customer, draft_of},
    world::World,
};

/// Writes of each stage: the key of the call, its result, and the next stage. Between two writes there is an effect after a
/// key only: any other death before a write leaves the state of one after the write before, and needs no row.
const ISSUING: [(FatalWrite, Death); 16] = [
    (call(&["invoice.create"]), AfterRequest),
    (call(&["invoice.create", "done"]), BeforeRequest),
    (call(&["invoice.create", "done"]), AfterRequest),
    (stage(&["stage\0\u{8}\0\0\0created"]), AfterRequest),
    (call(&["invoice_item.create"]), AfterRequest),
    (call(&["invoice_item.create", "done"]), BeforeRequest),
    (call(&["invoice_item.create", "done"]), AfterRequest),
    (stage(&["stage\0\u{9}\0\0\0itemised"]), AfterRequest),
    (call(&["invoice.finalize"]), AfterRequest),
    (call(&["invoice.finalize", "done"]), BeforeRequest),
    (call(&["invoice.finalize", "done"]), AfterRequest),
    (stage(&["stage\0\u{a}\0\0\0finalized"]), AfterRequest),
    (call(&["invoice.send"]), AfterRequest),
    (call(&["invoice.send", "done"]), BeforeRequest),
    (call(&["invoice.send", "done"]), AfterRequest),
    // The stage is removed.
    (stage(&["stage\0\u{1}\0\0\0\0"]), AfterRequest),
];

const SETTLING: [(FatalWrite, Death); 3] = [
    (call(&["invoice.pay"]), AfterRequest),
    (call(&["invoice.pay", "done"]), BeforeRequest),
    (call(&["invoice.pay", "done"]), AfterRequest),
];

const fn call(texts: &'static [&'static str]) -> FatalWrite {
    FatalWrite {
        collection: "stripe_calls",
        texts,
    }
}

const fn stage(texts: &'static [&'static str]) -> FatalWrite {
    FatalWrite {
        collection: "invoices",
        texts,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_is_issued_and_settled_once_whenever_its_worker_dies() {
    let mut world = World::start().await;
    let tenant = customer(&world).await;
    world.only_lead().await;
    let mut issued: Vec<Invoice> = Vec::new();

    for ((write, death), period) in ISSUING.into_iter().zip(0..) {
        let draft = draft_of(&world, tenant, period).await;
        let args = IssueInvoice {
            tenant_id: tenant,
            invoice_id: draft.id,
        };
        let job = world.harness.enqueue(&args).await;
        world.completed_after_death(&job, write, death).await;

        let about = format!("{write:?} {death:?}");
        let found = world.found(&draft).await;
        assert_eq!((found.status, found.stage), (Open, None), "{about}");
        issued.push(found);
        world.assert_issued_once(&issued, &about);
    }
    for (settled, ((write, death), invoice)) in SETTLING.into_iter().zip(&issued).enumerate() {
        let args = SettleInvoice {
            tenant_id: tenant,
            invoice_id: invoice.id,
        };
        let job = world.harness.enqueue(&args).await;
        world.completed_after_death(&job, write, death).await;

        let about = format!("{write:?} {death:?}");
        assert_eq!(world.found(invoice).await.status, Paid, "{about}");
        let effects = &world.upstreams.stripe.server.effects;
        assert_eq!(effects.count("pay_invoice"), settled + 1, "{about}");
    }
    world.stop().await;
}

impl World {
    async fn found(&self, invoice: &Invoice) -> Invoice {
        let store = &self.harness.context.store;
        let invoices = store.collection::<Invoice>("invoices");
        let found = invoices.find_one(doc! { "_id": invoice.id }).await;
        found.unwrap().unwrap()
    }

    /// Each of these is one invoice at Stripe, with one line and one e-mail.
    fn assert_issued_once(&self, issued: &[Invoice], about: &str) {
        let stripe = &self.upstreams.stripe;
        let at_stripe = stripe.objects("invoice");
        assert_eq!(at_stripe.len(), issued.len(), "{about}");
        let last = &at_stripe[issued.len() - 1];
        assert_eq!(last["total"], 10_000, "{about}");
        let lines = last["lines"]["data"].as_array().map(Vec::len);
        assert_eq!(lines, Some(1), "{about}");
        for operation in [
            "create_invoice",
            "create_invoice_item",
            "finalize_invoice",
            "send_invoice",
        ] {
            let effects = stripe.server.effects.count(operation);
            assert_eq!(effects, issued.len(), "{operation}: {about}");
        }
    }
}
