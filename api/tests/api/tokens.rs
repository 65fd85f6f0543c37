//! Token verification.

use std::collections::BTreeSet;

use dezky_shared::{id::UserId, platform::clock};
use dezky_sim::{
    callers::Caller,
    faults::{Fault, FaultRule},
    issuer::{Audience, Forgery, OPERATOR, PORTAL, Rotation, SigningAlgorithm, TokenSpec},
};
use serde_json::{Value, json};

use crate::app::{TestApp, own_issuer, shared_issuer};
use crate::client::{Reply, send_all};

async fn me(app: &TestApp, spec: &TokenSpec) -> Reply {
    app.client(spec).get("/users/me").await
}

fn now() -> i64 {
    clock::now().timestamp_millis() / 1000
}

fn valid() -> TokenSpec {
    Caller::Stranger.token()
}

fn forged(forgery: Forgery) -> TokenSpec {
    TokenSpec {
        forgery: Some(forgery),
        ..valid()
    }
}

fn claim(name: &str, value: Value) -> TokenSpec {
    TokenSpec {
        claims: [(name.to_owned(), value)].into_iter().collect(),
        ..valid()
    }
}

#[tokio::test]
async fn each_kind_of_invalid_token_has_its_problem_code() {
    let app = TestApp::start().await;
    let cases = [
        (
            "expired",
            TokenSpec {
                issued_at: Some(now() - 100),
                expires_in: 60,
                ..valid()
            },
            "token_expired",
        ),
        (
            "not yet valid",
            TokenSpec {
                not_before: Some(now() + 120),
                ..valid()
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
                ..valid()
            },
            "token_wrong_audience",
        ),
        (
            "the audience of another issuer",
            TokenSpec {
                audience: Some(Audience::One(OPERATOR.into())),
                ..valid()
            },
            "token_wrong_audience",
        ),
        (
            "issued in the future",
            TokenSpec {
                issued_at: Some(now() + 120),
                ..valid()
            },
            "token_not_yet_valid",
        ),
        (
            "a hash as subject",
            claim("sub", json!("ab".repeat(32))),
            "token_wrong_subject",
        ),
        (
            "a subject in another spelling",
            claim("sub", json!(valid().subject.to_uppercase() + "A")),
            "token_wrong_subject",
        ),
        (
            "an extension that must be understood",
            forged(Forgery::CriticalExtension),
            "token_invalid",
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
        // Signed with the portal's key, issued under the operators' issuer.
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
            "an unpublished key",
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
                ..valid()
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
async fn malformed_profile_claims_are_ignored() {
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
async fn a_missing_token_is_challenged_without_an_error_code() {
    let app = TestApp::start().await;
    let without = || app.anonymous().get("/users/me");
    let basic = without().header("authorization", "Basic YTpi");
    let empty = without().header("authorization", "Bearer ");
    let twice = app
        .with_token("a")
        .get("/users/me")
        .header("authorization", "Bearer b");

    for call in [without(), basic, empty, twice] {
        let reply = call.await;

        assert_eq!(reply.summary(), "401 token_missing");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    }
}

#[tokio::test]
async fn malformed_tokens_are_invalid() {
    let app = TestApp::start().await;

    for nonsense in ["x", "a.b.c", "....", "e30.e30.", &"a".repeat(5000)] {
        let reply = app.with_token(nonsense).get("/users/me").await;

        assert_eq!(reply.summary(), "401 token_invalid", "{nonsense}");
    }
}

#[tokio::test]
async fn valid_tokens_of_every_algorithm_and_audience_form_are_accepted() {
    let app = TestApp::start().await;
    let many = Audience::Many(vec!["grafana".into(), "dezky-portal".into()]);
    let specs = [
        valid(),
        TokenSpec {
            algorithm: SigningAlgorithm::Es256,
            ..valid()
        },
        TokenSpec {
            algorithm: SigningAlgorithm::EdDsa,
            ..valid()
        },
        TokenSpec {
            audience: Some(many),
            ..valid()
        },
        TokenSpec {
            issued_at: Some(now() - 75),
            expires_in: 60,
            ..valid()
        },
        TokenSpec {
            not_before: Some(now() + 15),
            ..valid()
        },
    ];

    for spec in specs {
        let reply = me(&app, &spec).await;

        assert_eq!(reply.status, 200, "{spec:?} {reply:?}");
    }
}

#[tokio::test]
async fn a_key_published_by_two_issuers_verifies_tokens_of_both() {
    let issuer = own_issuer().await;
    let app = TestApp::start_with(issuer.clone(), |_| {}).await;
    let crossed = TokenSpec {
        audience: Some(Audience::One(OPERATOR.into())),
        ..claim("iss", json!(issuer.url(OPERATOR)))
    };
    assert_eq!(me(&app, &crossed).await.status, 401);

    issuer.share_keys(PORTAL, OPERATOR).unwrap();

    let app = TestApp::start_with(issuer, |_| {}).await;
    assert_eq!(me(&app, &crossed).await.status, 200);
}

#[tokio::test]
async fn an_audience_of_another_issuer_gives_no_rights() {
    let app = TestApp::with_operator().await;
    let from_portal = TokenSpec {
        application: PORTAL.to_owned(),
        audience: Some(Audience::Many(vec![PORTAL.into(), OPERATOR.into()])),
        ..Caller::Operator.token()
    };

    let profile = app.client(&from_portal).get("/users/me").await;
    let operators = app.client(&from_portal).get("/partners").await;

    assert_eq!(profile.status, 200, "{profile:?}");
    assert_eq!(operators.summary(), "403 forbidden");
    assert_eq!(app.operator().get("/partners").await.status, 200);
}

#[tokio::test]
async fn each_rotation_is_found_at_once_and_unknown_key_ids_are_limited() {
    let issuer = own_issuer().await;
    let app = TestApp::start_with(issuer.clone(), |_| {}).await;
    assert_eq!(me(&app, &valid()).await.status, 200);

    for _ in 0..3 {
        issuer.rotate(PORTAL, Rotation::DropOld).unwrap();
        assert_eq!(me(&app, &valid()).await.status, 200);
    }

    assert_eq!(issuer.jwks_requests(PORTAL), 4);
    let mut codes = Vec::new();
    for _ in 0..20 {
        let reply = me(&app, &forged(Forgery::UnknownKeyId)).await;
        codes.push(reply.summary());
    }
    // Once the issuer is not asked any more, it may publish the key of a token.
    assert_eq!(codes[0], "401 token_invalid");
    let unknown = codes.iter().filter(|code| *code != "401 token_invalid");
    let unknown: BTreeSet<_> = unknown.map(String::as_str).collect();
    assert_eq!(unknown, BTreeSet::from(["503 identity_unavailable"]));
    let asked = issuer.jwks_requests(PORTAL);
    assert!((5..15).contains(&asked), "{asked}");
}

#[tokio::test]
async fn an_empty_or_endless_key_set_does_not_replace_a_good_one() {
    let issuer = own_issuer().await;
    let app = TestApp::start_with(issuer.clone(), |_| {}).await;
    let token = app.token(&valid());
    let unknown = forged(Forgery::UnknownKeyId);
    let good = || app.with_token(&token).get("/users/me");
    assert_eq!(good().await.status, 200);
    let endless = FaultRule::once("portal_jwks", Fault::Endless);
    issuer.server.faults.add(endless);

    let during_endless = me(&app, &unknown).await;
    let after_endless = good().await;
    let unknown = app.token(&unknown);
    issuer.withdraw_keys(PORTAL).unwrap();
    let during_empty = app.with_token(&unknown).get("/users/me").await;
    let after_empty = good().await;

    for reply in [during_endless, during_empty] {
        assert_eq!(reply.summary(), "503 identity_unavailable");
    }
    assert_eq!(after_endless.status, 200);
    assert_eq!(after_empty.status, 200);
}

#[tokio::test]
async fn cached_keys_stay_valid_during_an_issuer_outage_and_unknown_keys_get_503() {
    let issuer = own_issuer().await;
    let app = TestApp::start_with(issuer.clone(), |_| {}).await;
    assert_eq!(me(&app, &valid()).await.status, 200);
    let gone = Fault::Status {
        status: 503,
        retry_after: None,
    };
    issuer.server.faults.add(FaultRule::every(gone));

    let cached = me(&app, &valid()).await;
    let unknown = me(&app, &forged(Forgery::UnknownKeyId)).await;

    assert_eq!(cached.status, 200);
    assert_eq!(unknown.summary(), "503 identity_unavailable");
    assert_eq!(unknown.body["retryable"], true);
}

#[tokio::test]
async fn the_jwks_url_may_differ_from_the_issuer_name() {
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
async fn the_first_requests_of_a_person_create_their_user_once() {
    let app = TestApp::start().await;
    let client = app.stranger();

    let paths = ["/users/me", "/tenants", "/subscriptions", "/plans"];
    let replies = send_all(paths.map(|path| client.get(path))).await;

    for (path, reply) in paths.iter().zip(&replies) {
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    }
    assert_eq!(app.count("users").await, 1);
}

#[tokio::test]
async fn the_first_request_of_a_person_applies_the_groups_in_their_token() {
    let app = TestApp::with_demo().await;
    let token = TokenSpec {
        subject: UserId::new().to_string(),
        ..claim("groups", json!(["demo"]))
    };

    let tenant = app.client(&token).get("/tenants/demo").await;

    assert_eq!(tenant.status, 200, "{}", tenant.body);
}

#[tokio::test]
async fn an_issuer_with_another_subject_mode_is_reported() {
    let app = TestApp::with_operator().await;
    let hashed = claim("sub", json!("ab".repeat(32)));
    let checks = async || {
        let status = app.operator().get("/infrastructure").await;
        status.body["issuers"].clone()
    };
    let portal = app.issuer.url(PORTAL);

    let before = checks().await;
    let refused = me(&app, &hashed).await;
    let degraded = app.anonymous().get("/readyz").await;
    let during = checks().await;
    let accepted = me(&app, &valid()).await;
    let repaired = app.anonymous().get("/readyz").await;

    assert_eq!(before[0], json!({ "name": portal, "subject": "unchecked" }));
    assert_eq!(before[1]["subject"], "uuid");
    assert_eq!(refused.summary(), "401 token_wrong_subject");
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(detail.contains("Based on the User's UUID"), "{detail}");
    assert_eq!(during[0]["subject"], "other");
    let error = during[0]["error"].as_str().unwrap();
    assert!(error.contains("subject mode"), "{error}");
    assert_eq!(degraded.status, 200);
    assert_eq!(degraded.body["status"], "degraded");
    let detail = degraded.body["identity"]["detail"].as_str().unwrap();
    assert!(detail.contains(&portal), "{detail}");
    assert_eq!(accepted.status, 200);
    assert_eq!(repaired.body["status"], "ready");
    assert_eq!(app.count("users").await, 2);
}
