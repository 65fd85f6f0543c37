//! Injected faults, as a client sees them.

use std::time::Duration;

use dezky_shared::platform::tls::TrustRoots;
use dezky_sim::{
    faults::{Fault, FaultRule},
    ocis::OcisSim,
};

async fn create_space(sim: &OcisSim, timeout: Duration) -> reqwest::Result<reqwest::Response> {
    let url = format!("{}/graph/v1.0/drives", sim.server.url);
    let http = TrustRoots::default().client_builder().build()?;
    let request = http.post(url).timeout(timeout);
    let request = request.basic_auth(OcisSim::USER, Some(OcisSim::PASSWORD));
    let request = request.header("content-type", "application/json");
    request.body(r#"{"name":"Acme"}"#).send().await
}

#[tokio::test]
async fn an_effect_after_a_timeout_happens_once_the_client_has_given_up() {
    let sim = OcisSim::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let faults = &sim.server.faults;
    let fault = Fault::EffectAfterTimeout { millis: 200 };
    faults.add(FaultRule::once("create_space", fault));

    let given_up = create_space(&sim, Duration::from_millis(300)).await;
    let pending = faults.outstanding();
    let has_landed = async {
        while faults.outstanding() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let landed = tokio::time::timeout(Duration::from_secs(10), has_landed).await;
    let next = create_space(&sim, Duration::from_secs(10)).await;

    assert!(given_up.unwrap_err().is_timeout());
    assert_eq!(pending, 1);
    assert!(landed.is_ok());
    assert_eq!(sim.spaces().len(), 2);
    assert!(next.unwrap().status().is_success());
}

#[tokio::test]
async fn a_rule_is_removed_without_the_others() {
    let sim = OcisSim::start(([127, 0, 0, 1], 0).into()).await.unwrap();
    let faults = &sim.server.faults;
    let rule = |status| FaultRule {
        operation: Some("create_space".to_owned()),
        ..FaultRule::every(Fault::Status {
            status,
            retry_after: None,
        })
    };
    faults.add(rule(503));
    faults.add_first(rule(429));
    let timeout = Duration::from_secs(10);

    let first = create_space(&sim, timeout).await.unwrap().status();
    faults.remove(&rule(429));
    let second = create_space(&sim, timeout).await.unwrap().status();

    assert_eq!((first.as_u16(), second.as_u16()), (429, 503));
}
