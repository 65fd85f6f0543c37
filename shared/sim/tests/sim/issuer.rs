use std::collections::BTreeSet;

use dezky_shared::platform::{clock, tls::TrustRoots};
use dezky_sim::{
    callers::Caller,
    faults::{Fault, FaultRule},
    issuer::{
        Audience, Forgery, Issuer, IssuerOptions, OPERATOR, PORTAL, Rotation, SigningAlgorithm,
        TokenSpec,
    },
};
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header, errors::ErrorKind, jwk::JwkSet,
};
use serde_json::{Value, json};

async fn issuer() -> Issuer {
    Issuer::start("127.0.0.1:0".parse().unwrap()).await.unwrap()
}

async fn get(url: &str) -> Value {
    let client = TrustRoots::default().client_builder().build().unwrap();
    let response = client.get(url).send().await.unwrap();
    assert_eq!(response.status(), 200, "{url}");
    response.json().await.unwrap()
}

/// A complete verification: discovery, keys, signature, issuer, audience, times.
async fn verify(issuer: &Issuer, application: &str, token: &str) -> Result<Value, ErrorKind> {
    let name = issuer.url(application);
    let discovery = get(&format!("{name}.well-known/openid-configuration")).await;
    assert_eq!(discovery["issuer"], json!(name));
    let keys = get(discovery["jwks_uri"].as_str().unwrap()).await;
    let keys: JwkSet = serde_json::from_value(keys).unwrap();

    let header = decode_header(token).map_err(|error| error.kind().clone())?;
    let id = header.kid.unwrap_or_default();
    let key = keys.find(&id).ok_or(ErrorKind::InvalidKeyFormat)?;
    let mut validation = Validation::new(header.alg);
    validation.algorithms = vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
    validation.algorithms.retain(|algorithm| {
        let published = key
            .common
            .key_algorithm
            .map(|algorithm| algorithm.to_string());
        published.as_deref() == Some(&format!("{algorithm:?}"))
    });
    validation.set_issuer(&[name]);
    validation.set_audience(&[application]);
    validation.validate_nbf = true;
    validation.leeway = 0;
    let key = DecodingKey::from_jwk(key).unwrap();
    decode::<Value>(token, &key, &validation)
        .map(|data| data.claims)
        .map_err(|error| error.kind().clone())
}

fn spec() -> TokenSpec {
    Caller::Member.token()
}

#[tokio::test]
async fn tokens_of_every_algorithm_verify_with_the_published_keys() {
    let issuer = issuer().await;

    for algorithm in [
        SigningAlgorithm::Rs256,
        SigningAlgorithm::Es256,
        SigningAlgorithm::EdDsa,
    ] {
        let token = issuer
            .token(&TokenSpec {
                algorithm,
                ..spec()
            })
            .unwrap();
        let claims = verify(&issuer, PORTAL, &token).await.unwrap();

        assert_eq!(claims["sub"], json!(Caller::Member.subject()));
        assert_eq!(claims["groups"], json!(["demo"]));
        assert_eq!(claims["email"], json!("member@demo.test"));
    }
}

#[tokio::test]
async fn the_claims_match_the_specification() {
    let issuer = issuer().await;
    let now = clock::now().timestamp_millis() / 1000;
    let claims = json!({ "email": null, "acr": "goauthentik.io/providers/oauth2/default" });

    let token = issuer
        .token(&TokenSpec {
            audience: Some(Audience::Many(vec!["other".to_owned(), PORTAL.to_owned()])),
            groups: None,
            issued_at: Some(now - 60),
            expires_in: 120,
            claims: claims.as_object().unwrap().clone(),
            ..spec()
        })
        .unwrap();
    let claims = verify(&issuer, PORTAL, &token).await.unwrap();

    assert_eq!(
        claims,
        json!({
            "iss": issuer.url(PORTAL),
            "sub": Caller::Member.subject(),
            "aud": ["other", PORTAL],
            "azp": PORTAL,
            "iat": now - 60,
            "exp": now + 60,
            "name": "Demo member",
            "acr": "goauthentik.io/providers/oauth2/default",
        })
    );
}

#[tokio::test]
async fn every_invalid_token_is_refused_for_its_own_reason() {
    let issuer = issuer().await;
    let now = clock::now().timestamp_millis() / 1000;
    let other_audience = Some(Audience::One("dezky-website".to_owned()));
    let forged = |forgery| TokenSpec {
        forgery: Some(forgery),
        ..spec()
    };
    let cases = [
        (
            "expired",
            TokenSpec {
                expires_in: -1,
                ..spec()
            },
        ),
        (
            "not yet valid",
            TokenSpec {
                not_before: Some(now + 60),
                ..spec()
            },
        ),
        (
            "for another audience",
            TokenSpec {
                audience: other_audience,
                ..spec()
            },
        ),
        (
            "by another issuer",
            TokenSpec {
                application: OPERATOR.to_owned(),
                ..spec()
            },
        ),
        (
            "another algorithm",
            TokenSpec {
                algorithm: SigningAlgorithm::Rs512,
                ..spec()
            },
        ),
        ("no signature", forged(Forgery::AlgNone)),
        ("HS256", forged(Forgery::HmacWithPublicKey)),
        ("wrong key", forged(Forgery::WrongKey)),
        ("unknown key", forged(Forgery::UnknownKeyId)),
        ("no key named", forged(Forgery::NoKeyId)),
    ];

    let mut reasons = Vec::new();
    for (case, spec) in cases {
        let token = issuer.token(&spec).unwrap();
        let refused = verify(&issuer, PORTAL, &token).await.expect_err(case);
        reasons.push((case, format!("{refused:?}")));
    }

    let reasons: Vec<(&str, &str)> = reasons
        .iter()
        .map(|(case, reason)| (*case, reason.split('(').next().unwrap()))
        .collect();
    assert_eq!(
        reasons,
        [
            ("expired", "ExpiredSignature"),
            ("not yet valid", "ImmatureSignature"),
            ("for another audience", "InvalidAudience"),
            ("by another issuer", "InvalidKeyFormat"),
            ("another algorithm", "InvalidAlgorithm"),
            ("no signature", "Json"),
            ("HS256", "InvalidAlgorithm"),
            ("wrong key", "InvalidSignature"),
            ("unknown key", "InvalidKeyFormat"),
            ("no key named", "InvalidKeyFormat"),
        ]
    );
}

#[tokio::test]
async fn a_rotation_keeps_or_drops_the_old_keys() {
    let issuer = issuer().await;
    let first = issuer.token(&spec()).unwrap();

    issuer.rotate(PORTAL, Rotation::KeepOld).unwrap();
    let second = issuer.token(&spec()).unwrap();

    assert_ne!(
        decode_header(&first).unwrap().kid,
        decode_header(&second).unwrap().kid
    );
    verify(&issuer, PORTAL, &first).await.unwrap();
    verify(&issuer, PORTAL, &second).await.unwrap();

    issuer.rotate(PORTAL, Rotation::DropOld).unwrap();

    let refused = verify(&issuer, PORTAL, &second).await.unwrap_err();
    assert_eq!(refused, ErrorKind::InvalidKeyFormat);
}

#[tokio::test]
async fn each_application_has_its_own_keys_until_they_are_shared() {
    let issuer = issuer().await;
    let ids = async |application| -> BTreeSet<String> {
        let keys = get(&issuer.jwks_url(application)).await;
        let keys = keys["keys"].as_array().unwrap();
        keys.iter()
            .map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect()
    };

    assert!(ids(PORTAL).await.is_disjoint(&ids(OPERATOR).await));

    issuer.share_keys(PORTAL, OPERATOR).unwrap();

    assert!(ids(PORTAL).await.is_subset(&ids(OPERATOR).await));
}

#[tokio::test]
async fn stored_keys_survive_the_issuer() {
    let directory = tempfile::tempdir().unwrap();
    let options = IssuerOptions {
        public_url: Some("http://issuer.test".to_owned()),
        keys: Some(directory.path().to_owned()),
    };
    let address = "127.0.0.1:0".parse().unwrap();
    let before = Issuer::start_with(address, options.clone()).await.unwrap();
    before.rotate(PORTAL, Rotation::KeepOld).unwrap();

    let after = Issuer::start_with(address, options).await.unwrap();

    assert_eq!(before.snapshot(), after.snapshot());
    assert_eq!(
        after.url(PORTAL),
        "http://issuer.test/application/o/dezky-portal/"
    );
}

#[tokio::test]
async fn jwks_requests_are_counted_and_can_fail() {
    let issuer = issuer().await;
    let refuse = Fault::Status {
        status: 503,
        retry_after: None,
    };
    issuer
        .server
        .faults
        .add(FaultRule::once("portal_jwks", refuse));
    let client = TrustRoots::default().client_builder().build().unwrap();

    let refused = client.get(issuer.jwks_url(PORTAL)).send().await.unwrap();

    assert_eq!(refused.status(), 503);
    get(&issuer.jwks_url(PORTAL)).await;
    get(&issuer.jwks_url(OPERATOR)).await;
    assert_eq!(issuer.jwks_requests(PORTAL), 2);
    assert_eq!(issuer.jwks_requests(OPERATOR), 1);
}
