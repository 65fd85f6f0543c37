//! Idempotency keys: replays, misuse, and what they forget.

use dezky_sim::{
    faults::{Fault, FaultRule},
    stripe::Refusal,
};
use http::Method;

use super::Api;

const DAY: i64 = 24 * 60 * 60;

#[tokio::test]
async fn a_key_replays_its_first_result_for_a_day() {
    let api = Api::start().await;
    let form = [("name", "Acme"), ("metadata[tenantId]", "acme")];

    let first = api.keyed("key-1", "customers", &form).await;
    api.sim.advance(DAY - 60);
    let second = api.keyed("key-1", "customers", &form).await;
    api.sim.advance(120);
    let forgotten = api.keyed("key-1", "customers", &form).await;

    assert!(!first.is_replayed());
    assert!(second.is_replayed());
    assert_eq!(first.body, second.body);
    assert!(!forgotten.is_replayed());
    assert_ne!(first.id(), forgotten.id());
    assert_eq!(
        api.sim.server.effects.count_for("create_customer", "acme"),
        2
    );
}

#[tokio::test]
async fn a_key_with_other_parameters_is_refused() {
    let api = Api::start().await;

    let first = api.keyed("key-1", "customers", &[("name", "Acme")]).await;
    let second = api.keyed("key-1", "customers", &[("name", "Nord")]).await;

    assert_eq!(first.status, 200);
    assert_eq!(second.error(), (400, "idempotency_error"));
    assert_eq!(api.sim.objects("customer").len(), 1);
}

#[tokio::test]
async fn a_declined_card_and_an_internal_error_are_replayed() {
    let api = Api::start().await;
    for refusal in [Refusal::card_declined(), Refusal::internal()] {
        let key = format!("key-{}", refusal.status);
        api.sim.refuse_next("create_customer", refusal.clone());

        let first = api.keyed(&key, "customers", &[]).await;
        let second = api.keyed(&key, "customers", &[]).await;

        assert_eq!(
            (first.status, second.status),
            (refusal.status, refusal.status)
        );
        assert!(second.is_replayed());
    }
    assert_eq!(api.sim.objects("customer").len(), 0);
}

#[tokio::test]
async fn a_request_that_did_not_run_leaves_its_key_unused() {
    let api = Api::start().await;
    let refusals = [
        Refusal::key_in_use(),
        Refusal::lock_timeout(),
        Refusal::rate_limit(),
    ];
    for (number, refusal) in refusals.into_iter().enumerate() {
        let key = format!("key-{number}");
        api.sim.refuse_next("create_customer", refusal.clone());

        let refused = api.keyed(&key, "customers", &[]).await;
        let repeated = api.keyed(&key, "customers", &[]).await;

        assert_eq!(refused.error().0, refusal.status);
        assert_eq!(repeated.status, 200);
    }
    let unknown = api.keyed("key-9", "customers", &[("colour", "red")]).await;
    let corrected = api.keyed("key-9", "customers", &[("name", "Acme")]).await;
    assert_eq!(unknown.error(), (400, "parameter_unknown"));
    assert_eq!(corrected.status, 200);
}

#[tokio::test]
async fn a_key_of_a_get_is_ignored() {
    let api = Api::start().await;
    let customer = format!("customers/{}", api.customer().await);

    let first = api.send(Method::GET, &customer, &[], Some("key")).await;
    api.post(&customer, &[("name", "Nord")]).await;
    let second = api.send(Method::GET, &customer, &[], Some("key")).await;

    assert_eq!(first.body["name"], "Acme");
    assert_eq!(second.body["name"], "Nord");
}

#[tokio::test]
async fn an_answer_lost_after_the_effect_is_replayed() {
    let api = Api::start().await;
    let rule = FaultRule::once("create_customer", Fault::Truncated);
    api.sim.server.faults.add(rule);
    let url = format!("{}/v1/customers", api.sim.server.url);
    let lost = api
        .http
        .post(url)
        .bearer_auth(dezky_upstreams::clients::simulated::STRIPE_SECRET_KEY)
        .header("stripe-version", dezky_sim::stripe::API_VERSION)
        .header("idempotency-key", "key-1")
        .form(&[("name", "Acme")])
        .send()
        .await
        .unwrap()
        .json::<serde_json::Value>()
        .await;

    let repeated = api.keyed("key-1", "customers", &[("name", "Acme")]).await;

    assert!(lost.is_err());
    assert!(repeated.is_replayed());
    assert_eq!(api.sim.server.effects.count("create_customer"), 1);
}
