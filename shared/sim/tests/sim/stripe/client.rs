//! The client against the simulator: no second effect when an answer is lost, and the classification of refusals.

use std::time::Duration;

use dezky_shared::{
    platform::{clock, tls::TrustRoots},
    queue::error_code::ErrorCode,
};
use dezky_sim::{
    faults::{Fault, FaultRule},
    stripe::{Refusal, StripeSim},
};
use dezky_upstreams::clients::{
    ClientError, LeaseDeadline, simulated,
    stripe::{Address, CustomerFields, KeyedError, Stripe, StripeConfig},
};

use super::Api;

fn client(sim: &StripeSim) -> Stripe {
    client_at(&sim.server.url)
}

/// A client of the Stripe at this address.
pub(super) fn client_at(url: &str) -> Stripe {
    let config = StripeConfig {
        base_url: url.to_owned(),
        secret_key: simulated::STRIPE_SECRET_KEY.into(),
        timeout: Duration::from_secs(5),
        automatic_tax: false,
    };
    Stripe::new(&config, &TrustRoots::default()).unwrap()
}

/// Billing details.
pub(super) fn acme() -> CustomerFields {
    CustomerFields {
        name: "Acme".to_owned(),
        email: Some("billing@acme.test".to_owned()),
        address: Address {
            country: Some("DK".to_owned()),
        },
        tenant_id: "acme".to_owned(),
    }
}

/// A keyed call of the client, and the id of the object that it returns.
async fn keyed(
    stripe: &Stripe,
    operation: &str,
    customer: &str,
    key: &str,
) -> Result<String, KeyedError> {
    Ok(match operation {
        "create_customer" => stripe.create_customer("acme", key).await?.id,
        "update_customer" => {
            let updated = stripe.update_customer(customer, &acme(), key).await?;
            updated.unwrap().id
        }
        _ => {
            let created = stripe.create_tax_id(customer, "eu_vat", "DK12345678", key);
            created.await?.unwrap().id
        }
    })
}

#[tokio::test]
async fn no_keyed_call_has_a_second_effect_when_its_answer_is_lost() {
    for operation in ["create_customer", "update_customer", "create_tax_id"] {
        for fault in [
            Fault::AnswerLost,
            Fault::Truncated,
            Fault::Html,
            Fault::EffectAfterTimeout { millis: 0 },
        ] {
            let api = Api::start().await;
            let stripe = client(&api.sim);
            let customer = api.customer().await;
            let effects = &api.sim.server.effects;
            let before = effects.count(operation);
            let faults = &api.sim.server.faults;
            faults.add(FaultRule::once(operation, fault.clone()));
            let about = format!("{operation} with {fault:?}");

            let impatient = match fault {
                Fault::EffectAfterTimeout { .. } => {
                    let ends = clock::boot_time() + Duration::from_millis(300);
                    let deadline = LeaseDeadline::until(ends, Duration::ZERO, Duration::ZERO);
                    stripe.with_deadline(&deadline)
                }
                _ => stripe.clone(),
            };
            let lost = keyed(&impatient, operation, &customer, "key-1").await;
            let lost = lost.unwrap_err();
            while faults.outstanding() > 0 {
                tokio::task::yield_now().await;
            }
            let repeated = keyed(&stripe, operation, &customer, "key-1").await;
            let again = keyed(&stripe, operation, &customer, "key-1").await;

            let is_lost = matches!(lost.error, ClientError::AnswerLost(_));
            assert!(is_lost && !lost.is_key_spent, "{about}: {lost}");
            assert_eq!(repeated.unwrap(), again.unwrap(), "{about}");
            assert_eq!(effects.count(operation), before + 1, "{about}");
        }
    }
}

#[tokio::test]
async fn refusals_are_classified_by_status_type_and_code() {
    let of = |status: u16, kind: &str, code: &str| Refusal {
        status,
        kind: kind.to_owned(),
        code: (!code.is_empty()).then(|| code.into()),
        ..Refusal::internal()
    };
    let invalid = "invalid_request_error";
    for (refusal, code, is_key_spent) in [
        (Refusal::card_declined(), ErrorCode::PaymentRefused, true),
        (Refusal::key_in_use(), ErrorCode::UpstreamUnavailable, false),
        (
            Refusal::lock_timeout(),
            ErrorCode::UpstreamRateLimited,
            false,
        ),
        (Refusal::rate_limit(), ErrorCode::UpstreamRateLimited, false),
        (Refusal::internal(), ErrorCode::UpstreamUnavailable, false),
        (
            Refusal::permission(),
            ErrorCode::UpstreamPermissionMissing,
            false,
        ),
        (
            of(401, invalid, ""),
            ErrorCode::UpstreamCredentialsRefused,
            false,
        ),
        (
            of(424, "api_error", ""),
            ErrorCode::UpstreamUnavailable,
            false,
        ),
        (
            of(503, "api_error", ""),
            ErrorCode::UpstreamUnavailable,
            false,
        ),
        (
            of(400, "idempotency_error", ""),
            ErrorCode::IdempotencyMisused,
            true,
        ),
        (
            of(400, invalid, "livemode_mismatch"),
            ErrorCode::PaymentProviderMode,
            true,
        ),
        (
            of(400, invalid, "email_invalid"),
            ErrorCode::UpstreamRejected,
            true,
        ),
    ] {
        let api = Api::start().await;
        let stripe = client(&api.sim);
        api.sim.refuse_next("create_customer", refusal.clone());

        let refused = stripe.create_customer("acme", "key-1").await.unwrap_err();

        assert_eq!(refused.error.code(), code, "{refusal:?}");
        assert_eq!(refused.is_key_spent, is_key_spent, "{refusal:?}");
        assert_eq!(api.sim.server.effects.count("create_customer"), 0);
    }
}

#[tokio::test]
async fn an_error_page_of_a_proxy_counts_as_unavailable() {
    let api = Api::start().await;
    let stripe = client(&api.sim);
    for status in [404, 409, 500, 502, 504] {
        let fault = Fault::Status {
            status,
            retry_after: None,
        };
        let rule = FaultRule::once("create_customer", fault);
        api.sim.server.faults.add(rule);

        let failed = stripe.create_customer("acme", "key-1").await.unwrap_err();

        assert_eq!(
            failed.error.code(),
            ErrorCode::UpstreamUnavailable,
            "{status}"
        );
        assert!(!failed.is_key_spent, "{status}");
    }
}

#[tokio::test]
async fn an_internal_error_that_is_replayed_spends_its_key() {
    let api = Api::start().await;
    let stripe = client(&api.sim);
    api.sim.refuse_next("create_customer", Refusal::internal());

    let first = stripe.create_customer("acme", "key-1").await.unwrap_err();
    let second = stripe.create_customer("acme", "key-1").await.unwrap_err();
    let third = stripe.create_customer("acme", "key-2").await;

    assert!(!first.is_key_spent);
    assert!(second.is_key_spent);
    assert!(third.is_ok());
}

#[tokio::test]
async fn a_key_with_another_request_is_a_misuse_that_changes_nothing() {
    let api = Api::start().await;
    let stripe = client(&api.sim);
    stripe.create_customer("acme", "key-1").await.unwrap();
    let misused = stripe.create_customer("nord", "key-1").await.unwrap_err();

    assert_eq!(misused.error.code(), ErrorCode::IdempotencyMisused);
    assert_eq!(api.sim.server.effects.count("create_customer"), 1);
}

#[tokio::test]
async fn deleted_objects_are_not_errors() {
    let api = Api::start().await;
    let stripe = client(&api.sim);
    let customer = stripe.create_customer("acme", "key-1").await.unwrap().id;
    api.sim.delete_customer(&customer).unwrap();

    let read = stripe.retrieve_customer(&customer).await.unwrap();
    let unknown = stripe.retrieve_customer("cus_other").await.unwrap();
    let updated = stripe.update_customer(&customer, &acme(), "key-2").await;
    let tax_id = stripe.delete_tax_id(&customer, "txi_other").await.unwrap();

    assert_eq!((read, unknown), (None, None));
    assert_eq!(updated.unwrap(), None);
    assert!(!tax_id);
}

#[tokio::test]
async fn an_id_that_would_change_the_path_is_not_sent() {
    let api = Api::start().await;
    let stripe = client(&api.sim);

    for id in [
        "",
        "cus_1/tax_ids",
        "../events",
        "cus_1?expand[]=x",
        "cus 1",
    ] {
        let refused = stripe.retrieve_customer(id).await.unwrap_err();

        assert_eq!(refused.code(), ErrorCode::UpstreamRejected, "{id}");
    }
    assert!(api.sim.server.faults.requests().is_empty());
}

#[tokio::test]
async fn a_call_that_could_outlast_the_lease_is_not_sent() {
    let api = Api::start().await;
    let ended = LeaseDeadline::until(clock::boot_time(), Duration::ZERO, Duration::from_secs(1));
    let stripe = client(&api.sim).with_deadline(&ended);

    let refused = stripe.create_customer("acme", "key-1").await.unwrap_err();

    assert!(matches!(refused.error, ClientError::LeaseExpiring(_)));
    assert!(api.sim.server.faults.requests().is_empty());
}

#[tokio::test]
async fn no_error_contains_a_secret_or_an_address() {
    let api = Api::start().await;
    let stripe = client(&api.sim);
    let customer = api.customer().await;
    let intent = api.setup_intent(&customer).await;
    let mut refusal = api
        .sim
        .enter_card(&intent, "pm_card_visa_chargeDeclined")
        .unwrap_err();
    refusal.message = "The address billing@acme.test is refused.".to_owned();
    refusal.param = Some("billing@acme.test".into());
    api.sim.refuse_next("update_customer", refusal);

    let failed = stripe.update_customer(&customer, &acme(), "key-1").await;

    let text = format!("{0} {0:?}", failed.unwrap_err());
    assert!(text.contains("card_declined"), "{text}");
    for hidden in ["_secret_", "acme.test", simulated::STRIPE_SECRET_KEY] {
        assert!(!text.contains(hidden), "{text}");
    }
}

#[tokio::test]
async fn events_are_listed_newest_first_in_pages() {
    let api = Api::start().await;
    let stripe = client(&api.sim);
    for _ in 0..120 {
        api.customer().await;
    }

    let first = stripe.list_events(0, None).await.unwrap();
    let last = first.data.last().unwrap();
    let second = stripe.list_events(0, Some(&last.id)).await.unwrap();
    let later = stripe
        .list_events(last.created + 3_600, None)
        .await
        .unwrap();

    assert_eq!((first.data.len(), first.has_more), (100, true));
    assert_eq!((second.data.len(), second.has_more), (20, false));
    assert_eq!(first.data[0].kind, "customer.created");
    assert_eq!(first.data[0].object().object, "customer");
    assert!(later.data.is_empty());
}

#[tokio::test]
async fn the_setup_is_checked_with_the_key() {
    let api = Api::start().await;
    let stripe = client(&api.sim);

    stripe.probe().await.unwrap();
    let checks = stripe.check_setup().await;

    let accepted = format!("{checks:?}");
    assert!(accepted.contains("accepted, test mode"), "{accepted}");
    api.sim.refuse_next("list_events", Refusal::permission());
    let refused = format!("{:?}", stripe.check_setup().await);
    assert!(refused.contains("STRIPE_SECRET_KEY"), "{refused}");
}

#[tokio::test]
async fn the_customer_of_a_tenant_is_found_among_the_created_ones() {
    let api = Api::start().await;
    let stripe = client(&api.sim);
    let customer = stripe.create_customer("acme", "key-1").await.unwrap().id;
    for _ in 0..120 {
        api.customer().await;
    }

    let first = stripe.list_created_customers(0, None).await.unwrap();
    let after = first.data.last().unwrap().id.as_str();
    let second = stripe.list_created_customers(0, Some(after)).await;
    let second = second.unwrap();

    assert_eq!((first.created_for("acme"), first.has_more), (None, true));
    assert_eq!(second.created_for("acme"), Some(customer.as_str()));
    assert_eq!((second.created_for("nord"), second.has_more), (None, false));
}
