//! Tokens, good ones and bad ones.

use dezky_shared::platform::clock;
use dezky_sim::{
    callers::Caller,
    faults::{Fault, FaultRule},
    issuer::{Audience, Forgery, OPERATOR, PORTAL, Rotation, SigningAlgorithm, TokenSpec},
};
use serde_json::{Value, json};

use crate::app::{Reply, TestApp, own_issuer, shared_issuer};

async fn me(app: &TestApp, spec: &TokenSpec) -> Reply {
    app.get("/users/me").token(&app.token(spec)).send().await
}

fn now() -> i64 {
    clock::now().timestamp_millis() / 1000
}

fn good() -> TokenSpec {
    Caller::Stranger.token()
}

fn forged(forgery: Forgery) -> TokenSpec {
    TokenSpec {
        forgery: Some(forgery),
        ..good()
    }
}

fn claim(name: &str, value: Value) -> TokenSpec {
    TokenSpec {
        claims: [(name.to_owned(), value)].into_iter().collect(),
        ..good()
    }
}

#[tokio::test]
async fn each_bad_token_gets_its_problem_and_changes_nothing() {
    let app = TestApp::start().await;
    let cases = [
        (
            "expired",
            TokenSpec {
                issued_at: Some(now() - 100),
                expires_in: 60,
                ..good()
            },
            "token_expired",
        ),
        (
            "not yet valid",
            TokenSpec {
                not_before: Some(now() + 120),
                ..good()
            },
            "token_not_yet_valid",
        ),
        (
            "another issuer",
            claim("iss", json!("https://elsewhere.test/")),
            "token_wrong_issuer",
        ),
        (
            "another audience",
            TokenSpec {
                audience: Some(Audience::One("grafana".into())),
                ..good()
            },
            "token_wrong_audience",
        ),
        ("no audience", claim("aud", Value::Null), "token_invalid"),
        ("no expiry", claim("exp", Value::Null), "token_invalid"),
        ("no subject", claim("sub", Value::Null), "token_invalid"),
        ("an empty subject", claim("sub", json!("")), "token_invalid"),
        (
            "a subject that is a number",
            claim("sub", json!(7)),
            "token_invalid",
        ),
        ("no issuer", claim("iss", Value::Null), "token_invalid"),
        // Signed with the portal's key under the operators' issuer.
        (
            "the other application's key",
            claim("iss", json!(shared_issuer().url(OPERATOR))),
            "token_invalid",
        ),
        ("alg none", forged(Forgery::AlgNone), "token_invalid"),
        (
            "HS256 with the public key",
            forged(Forgery::HmacWithPublicKey),
            "token_invalid",
        ),
        (
            "a key nobody published",
            forged(Forgery::WrongKey),
            "token_invalid",
        ),
        (
            "an unknown key id",
            forged(Forgery::UnknownKeyId),
            "token_invalid",
        ),
        ("no key id", forged(Forgery::NoKeyId), "token_invalid"),
        (
            "RS512",
            TokenSpec {
                algorithm: SigningAlgorithm::Rs512,
                ..good()
            },
            "token_invalid",
        ),
    ];

    for (what, spec, code) in cases {
        let reply = me(&app, &spec).await;

        assert_eq!(reply.summary(), format!("401 {code}"), "{what}: {reply:?}");
        let challenge = reply.header("www-authenticate").unwrap();
        assert!(
            challenge.starts_with("Bearer error=\"invalid_token\""),
            "{what}: {challenge}"
        );
    }
    assert_eq!(app.count("users").await, 0);
}

#[tokio::test]
async fn claims_about_the_bearer_that_make_no_sense_are_as_good_as_none() {
    let app = TestApp::start().await;
    let odd = [
        ("groups", json!(7)),
        ("groups", json!(["demo", 7])),
        ("email", json!(["a@demo.test"])),
        ("name", json!({ "formatted": "Ada" })),
    ];

    for (name, value) in odd {
        let reply = me(&app, &claim(name, value.clone())).await;

        assert_eq!(reply.status, 200, "{name} {value}: {reply:?}");
    }
}

#[tokio::test]
async fn without_a_bearer_token_the_challenge_names_no_error() {
    let app = TestApp::start().await;
    let without = app.get("/users/me");
    let basic = app.get("/users/me").header("authorization", "Basic YTpi");
    let empty = app.get("/users/me").header("authorization", "Bearer ");
    let twice = app.get("/users/me").token("a").token("b");

    for call in [without, basic, empty, twice] {
        let reply = call.send().await;

        assert_eq!(reply.summary(), "401 token_missing");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    }
}

#[tokio::test]
async fn what_is_no_token_at_all_is_invalid() {
    let app = TestApp::start().await;

    for nonsense in ["x", "a.b.c", "....", "e30.e30.", &"a".repeat(5000)] {
        let reply = app.get("/users/me").token(nonsense).send().await;

        assert_eq!(reply.summary(), "401 token_invalid", "{nonsense}");
    }
}

#[tokio::test]
async fn good_tokens_of_every_algorithm_and_form_of_audience_are_taken() {
    let app = TestApp::start().await;
    let many = Audience::Many(vec!["grafana".into(), "dezky-portal".into()]);
    let specs = [
        good(),
        TokenSpec {
            algorithm: SigningAlgorithm::Es256,
            ..good()
        },
        TokenSpec {
            algorithm: SigningAlgorithm::EdDsa,
            ..good()
        },
        TokenSpec {
            audience: Some(many),
            ..good()
        },
        TokenSpec {
            issued_at: Some(now() - 75),
            expires_in: 60,
            ..good()
        },
        TokenSpec {
            not_before: Some(now() + 15),
            ..good()
        },
    ];

    for spec in specs {
        let reply = me(&app, &spec).await;

        assert_eq!(reply.status, 200, "{spec:?} {reply:?}");
    }
}

#[tokio::test]
async fn a_key_that_two_issuers_publish_verifies_tokens_of_both() {
    let issuer = own_issuer().await;
    let app = TestApp::start_with(issuer.clone(), |_| {}).await;
    let crossed = claim("iss", json!(issuer.url(OPERATOR)));
    assert_eq!(me(&app, &crossed).await.status, 401);

    issuer.share_keys(PORTAL, OPERATOR).unwrap();

    let app = TestApp::start_with(issuer, |_| {}).await;
    assert_eq!(me(&app, &crossed).await.status, 200);
}

#[tokio::test]
async fn new_keys_are_found_and_unknown_ones_are_not_asked_for_again_and_again() {
    let issuer = own_issuer().await;
    let app = TestApp::start_with(issuer.clone(), |_| {}).await;
    assert_eq!(me(&app, &good()).await.status, 200);

    issuer.rotate(PORTAL, Rotation::DropOld).unwrap();

    assert_eq!(me(&app, &good()).await.status, 200);
    for _ in 0..20 {
        assert_eq!(me(&app, &forged(Forgery::UnknownKeyId)).await.status, 401);
    }
    assert_eq!(issuer.jwks_requests(PORTAL), 2);
}

#[tokio::test]
async fn old_keys_stay_good_while_the_issuer_is_away_and_unknown_ones_are_not_refused_for_good() {
    let issuer = own_issuer().await;
    let app = TestApp::start_with(issuer.clone(), |_| {}).await;
    assert_eq!(me(&app, &good()).await.status, 200);
    let gone = Fault::Status {
        status: 503,
        retry_after: None,
    };
    issuer.server.faults.add(FaultRule::every(gone));

    let known = me(&app, &good()).await;
    let unknown = me(&app, &forged(Forgery::UnknownKeyId)).await;

    assert_eq!(known.status, 200);
    assert_eq!(unknown.summary(), "503 identity_unavailable");
    assert_eq!(unknown.body["retryable"], true);
}

#[tokio::test]
async fn keys_can_be_fetched_under_another_name_than_the_issuers() {
    let issuer = own_issuer().await;
    let jwks_url = issuer.jwks_url(PORTAL);
    let app = TestApp::start_with(issuer, |config| {
        config.auth.issuers.truncate(1);
        config.auth.issuers[0].name = "https://auth.dezky.test/portal/".to_owned();
        config.auth.issuers[0].jwks_url = Some(jwks_url);
    })
    .await;

    let reply = me(
        &app,
        &claim("iss", json!("https://auth.dezky.test/portal/")),
    )
    .await;

    assert_eq!(reply.status, 200, "{reply:?}");
}

#[tokio::test]
async fn somebody_who_was_never_seen_is_sent_to_users_me() {
    let app = TestApp::start().await;

    let before = app.get("/tenants").by(Caller::Stranger).send().await;
    app.sign_in(Caller::Stranger).await;
    let after = app.get("/tenants").by(Caller::Stranger).send().await;

    assert_eq!(before.summary(), "403 user_unknown");
    assert_eq!(after.status, 200);
}
