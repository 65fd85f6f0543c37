//! Handling of a 401, with an app token and with access tokens.

use std::time::Duration;

use dezky_sim::{
    faults::{Fault, FaultRule},
    ocis::OcisSim,
};
use dezky_upstreams::clients::{ClientError, ocis::Ocis};
use futures::future::join_all;

use super::{MARKER, app_token, client, create, oidc, only, requests_for, start};

/// Polls until the error is a credentials error.
async fn until_credentials(ocis: &Ocis) -> ClientError {
    let wait = async {
        loop {
            match ocis.check().await {
                Err(error @ ClientError::Credentials(_)) => return error,
                Err(ClientError::Unavailable(_)) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_refused_app_token_is_an_outage_until_the_grace_period_ends() {
    let sim = start().await;
    let mut config = app_token(&sim.server.url);
    config.refusal_grace = Duration::from_millis(200);
    let ocis = client(&config);
    sim.reject_credentials(true);

    let first = ocis.check().await.unwrap_err();
    // Clones share their state.
    let last = until_credentials(&ocis.clone()).await;
    sim.reject_credentials(false);
    ocis.check().await.unwrap();
    sim.reject_credentials(true);
    let after_a_success = ocis.check().await.unwrap_err();

    assert!(matches!(first, ClientError::Unavailable(_)), "{first:?}");
    assert!(!last.to_string().contains(OcisSim::PASSWORD));
    assert!(
        matches!(after_a_success, ClientError::Unavailable(_)),
        "{after_a_success:?}"
    );
}

#[tokio::test]
async fn a_refused_app_token_is_not_sent_twice() {
    let sim = start().await;
    sim.reject_credentials(true);

    client(&app_token(&sim.server.url))
        .check()
        .await
        .unwrap_err();

    assert_eq!(requests_for(&sim, "check"), 1);
}

#[tokio::test]
async fn all_callers_share_one_access_token() {
    let sim = start().await;
    let ocis = client(&oidc(&sim, |_| {}));

    let results = join_all((0..8).map(|_| {
        let ocis = ocis.clone();
        async move { ocis.check().await }
    }))
    .await;

    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(requests_for(&sim, "fetch_token"), 1);
}

#[tokio::test]
async fn an_access_token_is_renewed_shortly_before_it_expires() {
    let sim = start().await;
    sim.set_token_lifetime(Duration::from_secs(1));
    let ocis = client(&oidc(&sim, |_| {}));

    let calls = async {
        while requests_for(&sim, "fetch_token") < 3 {
            ocis.check().await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };

    tokio::time::timeout(Duration::from_secs(10), calls)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_refused_access_token_is_renewed_once_and_the_call_is_retried() {
    let sim = start().await;
    let ocis = client(&oidc(&sim, |_| {}));
    ocis.check().await.unwrap();
    sim.expire_tokens();

    let results = join_all((0..4).map(|_| ocis.check())).await;

    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(requests_for(&sim, "fetch_token"), 2);
}

#[tokio::test]
async fn a_write_with_an_expired_token_happens_once() {
    let sim = start().await;
    let ocis = client(&oidc(&sim, |_| {}));
    let refused = Fault::Status {
        status: 401,
        retry_after: None,
    };
    sim.server
        .faults
        .add(FaultRule::once("create_space", refused));

    create(&ocis).await.unwrap();

    assert_eq!(only(sim.spaces()).alias, MARKER);
    assert_eq!(requests_for(&sim, "create_space"), 2);
    assert_eq!(sim.server.effects.count("create_space"), 1);
}

#[tokio::test]
async fn a_refused_new_access_token_is_an_outage() {
    let sim = start().await;
    sim.idp_down(true);

    let error = client(&oidc(&sim, |_| {})).check().await.unwrap_err();

    assert!(matches!(error, ClientError::Unavailable(_)), "{error:?}");
    assert_eq!(requests_for(&sim, "check"), 2);
    assert_eq!(requests_for(&sim, "fetch_token"), 2);
}

#[tokio::test]
async fn a_verified_access_token_survives_an_outage_of_the_identity_provider() {
    let sim = start().await;
    let ocis = client(&oidc(&sim, |_| {}));
    ocis.check().await.unwrap();
    sim.idp_down(true);

    ocis.check().await.unwrap();

    assert_eq!(requests_for(&sim, "fetch_token"), 1);
}

#[tokio::test]
async fn a_refusal_by_the_token_endpoint_is_a_credentials_error() {
    let sim = start().await;
    let wrong_password = oidc(&sim, |login| {
        login.password = "not-the-app-password".to_owned().into();
    });

    let grant = client(&wrong_password).check().await.unwrap_err();
    sim.refuse_client(true);
    let refused = client(&oidc(&sim, |_| {})).check().await.unwrap_err();

    assert!(matches!(grant, ClientError::Credentials(_)), "{grant:?}");
    assert!(grant.call().detail.ends_with("invalid_grant"), "{grant}");
    assert!(!grant.to_string().contains("not-the-app-password"));
    assert!(
        matches!(refused, ClientError::Credentials(_)),
        "{refused:?}"
    );
    assert!(
        refused.call().detail.ends_with("invalid_client"),
        "{refused}"
    );
    assert_eq!(requests_for(&sim, "check"), 0);
}

#[tokio::test]
async fn a_failing_token_endpoint_is_an_outage() {
    let sim = start().await;
    let ocis = client(&oidc(&sim, |_| {}));
    let nowhere = oidc(&sim, |login| {
        login.token_url = "http://127.0.0.1:9/token".parse().unwrap();
    });
    let elsewhere = oidc(&sim, |login| {
        login.token_url = format!("{}/sim-idp/elsewhere", sim.server.url)
            .parse()
            .unwrap();
    });
    let broken = [
        Fault::Status {
            status: 503,
            retry_after: None,
        },
        Fault::Status {
            status: 404,
            retry_after: None,
        },
        Fault::Reset,
        Fault::Html,
    ];

    let unreachable = client(&nowhere).check().await.unwrap_err();
    let unknown = client(&elsewhere).check().await.unwrap_err();

    assert!(
        matches!(unreachable, ClientError::Unreachable(_)),
        "{unreachable:?}"
    );
    // The simulator requires credentials everywhere else.
    assert!(
        matches!(unknown, ClientError::Credentials(_)),
        "{unknown:?}"
    );
    for fault in broken {
        sim.server
            .faults
            .add(FaultRule::once("fetch_token", fault.clone()));
        let error = ocis.check().await.unwrap_err();
        assert!(
            matches!(error, ClientError::Unavailable(_)),
            "{fault:?}: {error:?}"
        );
    }
    ocis.check().await.unwrap();
}

#[tokio::test]
async fn waiting_for_a_token_is_limited_by_the_call_timeout() {
    let sim = start().await;
    let mut config = oidc(&sim, |_| {});
    config.timeout = Duration::from_millis(500);
    let ocis = client(&config);
    sim.server.faults.add(FaultRule {
        operation: Some("fetch_token".to_owned()),
        ..FaultRule::every(Fault::SlowAnswer { millis: 60_000 })
    });

    let all = join_all((0..20).map(|_| ocis.check()));
    let results = tokio::time::timeout(Duration::from_secs(5), all)
        .await
        .expect("the callers wait concurrently");

    for result in results {
        assert!(
            matches!(result, Err(ClientError::Unavailable(_))),
            "{result:?}"
        );
    }
}

#[tokio::test]
async fn an_unresolvable_account_is_explained() {
    let sim = start().await;
    let config = oidc(&sim, |login| "openid".clone_into(&mut login.scope));

    let error = client(&config).check().await.unwrap_err();

    assert!(matches!(error, ClientError::Unavailable(_)), "{error:?}");
    assert!(error.call().detail.contains("scopes"), "{error}");
}
