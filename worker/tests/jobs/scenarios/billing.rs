//! Scenarios of the payment provider.

use bson::{DateTime, Document, doc};
use dezky_shared::{
    billing::{Cycle, Plan, period::Period},
    feature_flag::NEW_BILLING_ENGINE,
    id::{SetupIntentId, TenantId},
    invoice::{Invoice, InvoicingConfig, Parties},
    invoicing::Enrolment,
    queue::{
        args::{
            CreateSetupIntent, FetchStripeEvents, IssueInvoice, MirrorStripeObject, SetDefaultCard,
            SettleInvoice, SyncBilling, VoidInvoice,
        },
        job::{Job, JobArgs as _},
    },
    setup_intent::SetupIntent,
    store::TransactionError,
    subscription::{Biller, CollectionMethod, NewTerms, Subscription},
};
use dezky_sim::stripe::BilledInvoice;
use dezky_upstreams::clients::stripe::NewInvoice;
use futures::FutureExt as _;

use super::{Scenario, Scene};
use crate::world::World;

/// Creates the customer of a tenant with a VAT id.
pub(crate) const SYNC_BILLING: Scenario = Scenario {
    kind: SyncBilling::KIND,
    prepare: |world| async move { Scene::of(billed(world).await) }.boxed_local(),
    enqueue: |world, scene| world.sync_billing(scene.tenant).boxed_local(),
};

/// Changes the name and the VAT id of a customer with a card.
pub(crate) const SYNC_BILLING_CHANGED: Scenario = Scenario {
    kind: SyncBilling::KIND,
    prepare: |world| {
        async move {
            let tenant = customer(world).await;
            change_customer(world, tenant).await;
            Scene::of(tenant)
        }
        .boxed_local()
    },
    enqueue: |world, scene| world.sync_billing(scene.tenant).boxed_local(),
};

/// Creates a subscription that is charged to a card.
pub(crate) const SELL_BY_CARD: Scenario = Scenario {
    kind: SyncBilling::KIND,
    prepare: |world| {
        async move {
            let tenant = customer(world).await;
            sell_by_card(world, tenant).await;
            Scene::of(tenant)
        }
        .boxed_local()
    },
    enqueue: |world, scene| world.sync_billing(scene.tenant).boxed_local(),
};

/// Changes the price of a subscription that is charged to a card.
pub(crate) const CHANGE_BY_CARD: Scenario = Scenario {
    kind: SyncBilling::KIND,
    prepare: |world| {
        async move {
            let sold = charged(world).await;
            change_subscription(world, &sold, dearer()).await;
            Scene::of(sold.tenant_id)
        }
        .boxed_local()
    },
    enqueue: SELL_BY_CARD.enqueue,
};

/// Ends a subscription that is charged to a card.
pub(crate) const END_BY_CARD: Scenario = Scenario {
    kind: SyncBilling::KIND,
    prepare: |world| {
        async move {
            let sold = charged(world).await;
            change_subscription(world, &sold, doc! { "status": "cancelled" }).await;
            Scene::of(sold.tenant_id)
        }
        .boxed_local()
    },
    enqueue: SELL_BY_CARD.enqueue,
};

/// Reads a subscription again whose payment waits for the customer.
pub(crate) const MIRROR_SUBSCRIPTION: Scenario = Scenario {
    kind: MirrorStripeObject::KIND,
    prepare: |world| {
        async move {
            let tenant = customer(world).await;
            set_card(world, "pm_card_authenticationRequired");
            sell_by_card(world, tenant).await;
            world.completed(&world.sync_billing(tenant).await).await;
            Scene::of(tenant)
        }
        .boxed_local()
    },
    enqueue: |world, scene| {
        async move {
            let subscription = world.upstreams.stripe.objects("subscription").remove(0);
            let args = MirrorStripeObject {
                object_type: "subscription".to_owned(),
                object_id: subscription["id"].as_str().unwrap().to_owned(),
                tenant_id: Some(scene.tenant),
            };
            world.harness.enqueue(&args).await
        }
        .boxed_local()
    },
};

/// Creates a setup intent for a tenant without a customer.
pub(crate) const CREATE_SETUP_INTENT: Scenario = Scenario {
    kind: CreateSetupIntent::KIND,
    prepare: |world| async move { Scene::of(billed(world).await) }.boxed_local(),
    enqueue: |world, scene| async move { enter_card(world, scene.tenant).await.0 }.boxed_local(),
};

/// Sets a card that was entered in place of another one.
pub(crate) const SET_DEFAULT_CARD: Scenario = Scenario {
    kind: SetDefaultCard::KIND,
    prepare: |world| async move { Scene::of(card_entered(world).await.0) }.boxed_local(),
    enqueue: |world, scene| {
        async move {
            let intent = world.upstreams.stripe.objects("setup_intent").remove(0);
            let args = SetDefaultCard {
                tenant_id: scene.tenant,
                setup_intent_id: intent["id"].as_str().unwrap().to_owned(),
            };
            world.harness.enqueue(&args).await
        }
        .boxed_local()
    },
};

/// Reads a customer again that has got a card.
pub(crate) const MIRROR_CUSTOMER: Scenario = Scenario {
    kind: MirrorStripeObject::KIND,
    prepare: |world| async move { Scene::of(customer(world).await) }.boxed_local(),
    enqueue: |world, scene| {
        async move {
            let customer = world.upstreams.stripe.objects("customer").remove(0);
            let args = MirrorStripeObject {
                object_type: "customer".to_owned(),
                object_id: customer["id"].as_str().unwrap().to_owned(),
                tenant_id: Some(scene.tenant),
            };
            world.harness.enqueue(&args).await
        }
        .boxed_local()
    },
};

/// Reads an invoice that is paid and reduced.
pub(crate) const MIRROR_INVOICE: Scenario = Scenario {
    kind: MirrorStripeObject::KIND,
    prepare: |world| {
        async move {
            let tenant = customer(world).await;
            let stripe = &world.upstreams.stripe;
            let customer = stripe.objects("customer").remove(0);
            let billed = stripe.bill(&BilledInvoice {
                customer: customer["id"].as_str().unwrap().to_owned(),
                currency: "dkk".to_owned(),
                net: 10_000,
                tax: 1_900,
                subscription: None,
                period: (0, 0),
                proration: false,
            });
            let invoice = billed.unwrap();
            let invoice = invoice["id"].as_str().unwrap();
            stripe.pay_invoice(invoice).unwrap();
            stripe.refund(invoice, 1_190).unwrap();
            Scene::of(tenant)
        }
        .boxed_local()
    },
    enqueue: |world, scene| {
        async move {
            let invoice = world.upstreams.stripe.objects("invoice").remove(0);
            let args = MirrorStripeObject {
                object_type: "invoice".to_owned(),
                object_id: invoice["id"].as_str().unwrap().to_owned(),
                tenant_id: Some(scene.tenant),
            };
            world.harness.enqueue(&args).await
        }
        .boxed_local()
    },
};

/// Has Stripe issue and send an invoice.
pub(crate) const ISSUE_INVOICE: Scenario = Scenario {
    kind: IssueInvoice::KIND,
    prepare: |world| async move { Scene::of(drafted(world).await.tenant_id) }.boxed_local(),
    enqueue: |world, scene| {
        async move {
            let args = IssueInvoice {
                tenant_id: scene.tenant,
                invoice_id: only_invoice(world).await.id,
            };
            world.harness.enqueue(&args).await
        }
        .boxed_local()
    },
};

/// Voids an invoice that Stripe has sent.
pub(crate) const VOID_INVOICE: Scenario = Scenario {
    kind: VoidInvoice::KIND,
    prepare: |world| async move { Scene::of(issued(world).await.tenant_id) }.boxed_local(),
    enqueue: |world, scene| {
        async move {
            let args = VoidInvoice {
                tenant_id: scene.tenant,
                invoice_id: only_invoice(world).await.id,
            };
            world.harness.enqueue(&args).await
        }
        .boxed_local()
    },
};

/// Deletes a draft that a lost call has created.
pub(crate) const VOID_DRAFT: Scenario = Scenario {
    kind: VoidInvoice::KIND,
    prepare: |world| {
        async move {
            let invoice = drafted(world).await;
            world
                .completed(&world.sync_billing(invoice.tenant_id).await)
                .await;
            create_draft(world, &invoice).await;
            Scene::of(invoice.tenant_id)
        }
        .boxed_local()
    },
    enqueue: VOID_INVOICE.enqueue,
};

/// Marks an invoice that Stripe has sent as paid.
pub(crate) const SETTLE_INVOICE: Scenario = Scenario {
    kind: SettleInvoice::KIND,
    prepare: VOID_INVOICE.prepare,
    enqueue: |world, scene| {
        async move {
            let args = SettleInvoice {
                tenant_id: scene.tenant,
                invoice_id: only_invoice(world).await.id,
            };
            world.harness.enqueue(&args).await
        }
        .boxed_local()
    },
};

/// Reads the events of a customer again. The jobs of new events call the payment provider, too, and are told apart so.
pub(crate) const FETCH_STRIPE_EVENTS: Scenario = Scenario {
    kind: FetchStripeEvents::KIND,
    prepare: |world| {
        async move {
            let tenant = customer(world).await;
            let before = world.harness.enqueue(&FetchStripeEvents {}).await;
            world.completed(&before).await;
            world.until_idle().await;
            Scene::of(tenant)
        }
        .boxed_local()
    },
    enqueue: |world, _| world.harness.enqueue(&FetchStripeEvents {}).boxed_local(),
};

/// A tenant with a VAT id, without a customer.
pub(crate) async fn billed(world: &World) -> TenantId {
    let harness = &world.harness;
    harness.set_flag(NEW_BILLING_ENGINE, true).await;
    let tenant = world.active_tenant("acme", &[]).await;
    harness
        .change_tenant(tenant.id, |tenant| {
            let info = &mut tenant.billing_info;
            info.company = Some("Acme A/S".to_owned());
            info.country = Some("DK".to_owned());
            info.vat_id = Some("DK13585628".to_owned());
            info.email = Some("billing@acme.test".to_owned());
        })
        .await;
    tenant.id
}

/// A tenant with a customer that has a default card.
pub(crate) async fn customer(world: &World) -> TenantId {
    let tenant = billed(world).await;
    world.completed(&world.sync_billing(tenant).await).await;
    let stripe = &world.upstreams.stripe;
    let customer = stripe.objects("customer").remove(0);
    let customer = customer["id"].as_str().unwrap();
    stripe.add_default_card(customer, "pm_card_visa").unwrap();
    tenant
}

/// Gives the only customer another default card.
pub(crate) fn set_card(world: &World, card: &str) {
    let stripe = &world.upstreams.stripe;
    let customer = stripe.objects("customer").remove(0);
    let customer = customer["id"].as_str().unwrap();
    stripe.add_default_card(customer, card).unwrap();
}

/// Sells a tenant a monthly subscription over DKK 499.00 by card, as the API does.
pub(crate) async fn sell_by_card(world: &World, tenant: TenantId) -> Subscription {
    let store = &world.harness.context.store;
    let now = store.now();
    let terms = NewTerms {
        plan: Plan::Business,
        cycle: Cycle::Monthly,
        seats: 5,
        currency: "DKK".to_owned(),
        price_minor: 49_900,
    };
    let mut sold = Subscription {
        collection_method: CollectionMethod::ChargeAutomatically,
        biller: Biller::Stripe,
        may_recreate: true,
        ..Subscription::new(tenant, terms, now)
    };
    sold.enrol(Enrolment::Sale, now);
    let subscriptions = store.collection::<Subscription>("subscriptions");
    subscriptions.insert_one(&sold).await.unwrap();
    sold
}

/// A subscription that Stripe charges to a card.
pub(crate) async fn charged(world: &World) -> Subscription {
    let tenant = customer(world).await;
    let sold = sell_by_card(world, tenant).await;
    world.completed(&world.sync_billing(tenant).await).await;
    sold
}

/// Other terms: the enterprise plan over DKK 999.00.
pub(crate) fn dearer() -> Document {
    doc! { "plan": "enterprise", "priceMinor": 99_900_i64 }
}

/// Changes fields of a subscription.
pub(crate) async fn change_subscription(world: &World, sold: &Subscription, fields: Document) {
    let store = &world.harness.context.store;
    let subscriptions = store.collection::<Document>("subscriptions");
    let change = doc! { "$set": fields, "$inc": { "revision": 1_i64 } };
    let changed = subscriptions.update_one(doc! { "_id": sold.id }, change);
    assert_eq!(changed.await.unwrap().matched_count, 1);
}

/// Asks for a setup intent, as the API does.
pub(crate) async fn enter_card(world: &World, tenant_id: TenantId) -> (Job, SetupIntentId) {
    let context = &world.harness.context;
    let intent = SetupIntent::new(tenant_id, "test", context.store.now());
    let stored = context.store.transaction(
        (&context.setup_intents, &intent),
        |session, (intents, intent)| {
            async move { Ok::<_, TransactionError<()>>(intents.insert(session, intent).await?) }
                .boxed()
        },
    );
    stored.await.unwrap();
    let args = CreateSetupIntent {
        tenant_id,
        intent_id: intent.id,
    };
    (world.harness.enqueue(&args).await, intent.id)
}

/// A tenant with a card that was entered, beside its default one, and the id of the setup intent.
pub(crate) async fn card_entered(world: &World) -> (TenantId, String) {
    let tenant = customer(world).await;
    world.completed(&enter_card(world, tenant).await.0).await;
    let stripe = &world.upstreams.stripe;
    let intent = stripe.objects("setup_intent").remove(0);
    let id = intent["id"].as_str().unwrap().to_owned();
    stripe.enter_card(&id, "pm_card_mastercard").unwrap();
    (tenant, id)
}

/// Changes the name and the VAT id of the tenant's company.
pub(crate) async fn change_customer(world: &World, tenant: TenantId) {
    let changed = world.harness.change_tenant(tenant, |tenant| {
        let info = &mut tenant.billing_info;
        info.company = Some("Acme Holding A/S".to_owned());
        info.vat_id = Some("DK88146328".to_owned());
    });
    changed.await;
}

/// An invoice over DKK 100.00 of a tenant with a VAT id, which Stripe is to issue.
pub(crate) async fn drafted(world: &World) -> Invoice {
    let tenant = billed(world).await;
    draft_of(world, tenant, 0).await
}

/// Adds the invoice of a period of a tenant, which Stripe is to issue.
pub(crate) async fn draft_of(world: &World, tenant: TenantId, period: i64) -> Invoice {
    let tenant = world.tenant(tenant).await;
    let store = &world.harness.context.store;
    let terms = NewTerms {
        plan: Plan::Business,
        cycle: Cycle::Monthly,
        seats: 5,
        currency: "DKK".to_owned(),
        price_minor: 10_000,
    };
    let subscription = Subscription {
        collection_method: CollectionMethod::SendInvoice,
        ..Subscription::new(tenant.id, terms, store.now())
    };
    let day = |number: i64| DateTime::from_millis(number * 24 * 60 * 60 * 1_000);
    let period = Period {
        start: day(period * 30),
        end: day((period + 1) * 30),
    };
    let parties = Parties {
        tenant: &tenant,
        partner: None,
    };
    let config = InvoicingConfig::default();
    let invoice = Invoice::of_period(&subscription, period, parties, &config, store.now());
    let invoices = store.collection::<Invoice>("invoices");
    invoices.insert_one(&invoice).await.unwrap();
    invoice
}

/// Creates the draft of an invoice at Stripe, as a call does whose answer is lost.
pub(crate) async fn create_draft(world: &World, invoice: &Invoice) {
    let customer = world.upstreams.stripe.objects("customer").remove(0);
    let client = world.harness.context.clients.stripe.as_ref().unwrap();
    let new = NewInvoice {
        customer: customer["id"].as_str().unwrap().to_owned(),
        currency: "dkk".to_owned(),
        days_until_due: 14,
        tenant_id: invoice.tenant_id.to_string(),
        invoice_id: invoice.id.to_string(),
        period_key: "lost".to_owned(),
    };
    client.create_invoice(&new, "lost").await.unwrap();
}

/// An invoice that Stripe has sent.
async fn issued(world: &World) -> Invoice {
    let invoice = drafted(world).await;
    let args = IssueInvoice {
        tenant_id: invoice.tenant_id,
        invoice_id: invoice.id,
    };
    let job = world.harness.enqueue(&args).await;
    world.completed(&job).await;
    world.until_idle().await;
    invoice
}

async fn only_invoice(world: &World) -> Invoice {
    let invoices = world
        .harness
        .context
        .store
        .collection::<Invoice>("invoices");
    invoices.find_one(doc! {}).await.unwrap().unwrap()
}
