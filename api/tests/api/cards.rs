//! Cards of tenants: the browser gets its secret once, and the card that it entered is set by a job.

use bson::doc;
use dezky_api::config::StripeConfig;
use dezky_shared::{
    id::{JobId, SetupIntentId},
    queue::args::{CreateSetupIntent, SetDefaultCard},
    setup_intent::SetupIntent,
    store::TransactionError,
};
use dezky_sim::callers::Caller;
use futures::FutureExt as _;
use serde_json::{Value, json};

use crate::{
    app::{TestApp, shared_issuer},
    client::{Call, Reply},
};

const CARD: &str = "/tenants/demo/payment-method";
const ENTER: &str = "/tenants/demo/payment-method/setup-intents";
const SECRET: &str = "seti_1_secret_hidden";

fn enter<'a>(app: &'a TestApp, key: &str) -> Call<'a> {
    let owner = app.client(Caller::Owner);
    owner.post_empty(ENTER).idempotency_key(key)
}

/// Does what the job does.
async fn create_at_stripe(app: &TestApp, requested: &Reply) -> SetupIntentId {
    let id: SetupIntentId = requested.body["id"].as_str().unwrap().parse().unwrap();
    let job: JobId = requested.body["job"]["id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let encrypted_for = SetupIntent::encrypted_for(id);
    let encrypted = app.config.encryption_keys.encrypt(encrypted_for, &SECRET);
    let encrypted = encrypted.unwrap();
    let storing = (&app.state.db.setup_intents, id, &encrypted);
    let stored = app.state.store.transaction(storing, |session, storing| {
        let (intents, id, encrypted) = *storing;
        async move {
            let stored = intents.set_created(session, id, "seti_1", encrypted);
            Ok::<_, TransactionError<()>>(stored.await?)
        }
        .boxed()
    });
    stored.await.unwrap();
    app.set_job(job, doc! { "state": "completed" }).await;
    id
}

#[tokio::test]
async fn the_secret_of_a_setup_intent_is_handed_over_once_and_stored_encrypted() {
    let app = TestApp::with_billing().await;

    let requested = enter(&app, "one").await;
    let waiting = enter(&app, "one").wait(1).await;
    create_at_stripe(&app, &requested).await;
    let stored = app.document("setup_intents", doc! {}).await;
    let shown = enter(&app, "one").wait(5).await;
    let again = enter(&app, "one").wait(5).await;
    let left = app.document("setup_intents", doc! {}).await;

    assert_eq!(requested.status, 202, "{requested:?}");
    assert_eq!(waiting.status, 202, "{waiting:?}");
    assert_eq!(waiting.body["id"], requested.body["id"]);
    assert!(!format!("{stored:?}").contains("hidden"));
    assert_eq!(shown.status, 201, "{shown:?}");
    let expected = json!({ "setupIntentId": "seti_1", "clientSecret": SECRET });
    assert_eq!(shown.body, expected);
    assert_eq!(again.status, 201, "{again:?}");
    let expected = json!({
        "setupIntentId": "seti_1", "clientSecret": null, "secretAlreadyShown": true,
    });
    assert_eq!(again.body, expected);
    assert!(!left.contains_key("secret") && left.contains_key("handedOverAt"));
    let jobs = app.jobs().await;
    let job = jobs.iter().find(|job| job.kind == "create_setup_intent");
    let args: CreateSetupIntent = job.unwrap().args().unwrap();
    assert_eq!(
        args.intent_id.to_string(),
        requested.body["id"].as_str().unwrap()
    );
    app.audit_event("paymentMethod.enter").await;
}

#[tokio::test]
async fn a_job_that_failed_and_the_eleventh_card_of_an_hour_are_told() {
    let app = TestApp::with_billing().await;
    let mut entered = Vec::new();
    for number in 0..10 {
        entered.push(enter(&app, &number.to_string()).await);
    }
    let refused = enter(&app, "ten").await;
    let job: JobId = entered[0].body["job"]["id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    app.set_job(job, doc! { "state": "discarded" }).await;
    let failed = enter(&app, "0").wait(5).await;

    assert!(
        entered.iter().all(|reply| reply.status == 202),
        "{entered:?}"
    );
    assert_eq!(refused.summary(), "429 too_many_setup_intents");
    assert_eq!(refused.header("retry-after"), Some("360"));
    assert_eq!(failed.status, 200, "{failed:?}");
    assert_eq!(failed.body["job"]["state"], "discarded");
}

#[tokio::test]
async fn a_card_is_set_by_a_job_and_shown_with_the_publishable_key() {
    let app = TestApp::with_billing().await;
    let owner = app.owner();

    let none = owner.get(CARD).await;
    let set = owner.put(CARD, json!({ "setupIntentId": "seti_1" })).await;
    let account = doc! {
        "_id": app.tenant("demo").await.id, "stripeCustomerId": "cus_1", "syncedAt": app.state.store.now(),
        "defaultCard": {
            "paymentMethodId": "pm_1", "brand": "visa", "last4": "4242", "expMonth": 4, "expYear": 2029,
        },
    };
    let accounts = app.collection("billing_accounts");
    accounts.insert_one(account).await.unwrap();
    let shown = owner.get(CARD).await;

    let expected = json!({ "publishableKey": "pk_test_dezky", "defaultCard": null });
    assert_eq!(none.body, expected);
    assert_eq!(set.status, 202, "{set:?}");
    let jobs = app.jobs().await;
    let job = jobs.iter().find(|job| job.kind == "set_default_card");
    let args: SetDefaultCard = job.unwrap().args().unwrap();
    assert_eq!(args.setup_intent_id, "seti_1");
    app.audit_event("paymentMethod.set").await;
    let card = json!({ "brand": "visa", "last4": "4242", "expMonth": 4, "expYear": 2029 });
    assert_eq!(shown.body["defaultCard"], card);
    assert!(!shown.body.to_string().contains("pm_1"));
}

#[tokio::test]
async fn without_a_publishable_key_there_are_no_cards() {
    let app = TestApp::start_with(shared_issuer(), |config| {
        config.stripe = StripeConfig::default();
    })
    .await;
    app.demo().await;
    let operator = app.operator();

    let replies = [
        operator.get(CARD).await,
        operator.post_empty(ENTER).await,
        operator
            .put(CARD, json!({ "setupIntentId": "seti_1" }))
            .await,
        app.subscribe("demo", json!({ "collectionMethod": "send_invoice" }))
            .await,
    ];

    for reply in replies {
        assert_eq!(reply.summary(), "503 billing_disabled");
        assert_eq!(reply.body["publishableKey"], Value::Null);
    }
}
