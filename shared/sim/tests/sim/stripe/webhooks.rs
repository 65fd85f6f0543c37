//! Webhooks: signatures by the official vectors, and deliveries that are lost, repeated and out of order.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use dezky_sim::stripe::{Delivery, WebhookTarget, sign, sign_at};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::Api;

const SIGNATURES: &str = include_str!("../../fixtures/stripe/signatures.json");

#[derive(Deserialize)]
struct Signatures {
    payload: String,
    secret: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    header: String,
}

#[test]
fn a_delivery_is_signed_as_by_the_official_library() {
    let vectors: Signatures = serde_json::from_str(SIGNATURES).unwrap();
    let valid = vectors.cases.iter().find(|case| case.name == "valid");

    let header = sign_at(&vectors.payload, &[vectors.secret], 1_767_225_600);

    assert_eq!(header, valid.unwrap().header);
}

#[derive(Clone, Default)]
struct Received {
    events: Arc<Mutex<Vec<(String, Value)>>>,
    refused: Arc<Mutex<bool>>,
}

impl Received {
    /// Receives webhooks at the returned target.
    async fn listen(&self) -> WebhookTarget {
        async fn receive(
            State(received): State<Received>,
            headers: HeaderMap,
            body: Bytes,
        ) -> StatusCode {
            if *received.refused.lock().unwrap() {
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            let signature = headers["stripe-signature"].to_str().unwrap().to_owned();
            let event = serde_json::from_slice(&body).unwrap();
            received.events.lock().unwrap().push((signature, event));
            StatusCode::OK
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/webhooks", listener.local_addr().unwrap());
        let router = Router::new().route("/webhooks", post(receive));
        let router = router.with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        WebhookTarget {
            url,
            secrets: vec!["whsec_new".to_owned(), "whsec_old".to_owned()],
        }
    }

    fn names(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let name = |(_, event): &(String, Value)| {
            event["data"]["object"]["name"].as_str().unwrap().to_owned()
        };
        events.iter().map(name).collect()
    }
}

#[tokio::test]
async fn events_are_delivered_once_twice_reversed_or_not_at_all() {
    let api = Api::start().await;
    for (delivery, expected) in [
        (Delivery::Once, vec!["a", "b"]),
        (Delivery::Twice, vec!["a", "b", "a", "b"]),
        (Delivery::Reversed, vec!["b", "a"]),
        (Delivery::Lost, vec![]),
    ] {
        let received = Received::default();
        let target = received.listen().await;
        for name in ["a", "b"] {
            api.post("customers", &[("name", name)]).await;
        }

        let statuses = api.sim.deliver(&target, delivery).await.unwrap();

        assert_eq!(received.names(), expected, "{delivery:?}");
        assert!(statuses.iter().all(|status| *status == 200));
    }
}

#[tokio::test]
async fn a_refused_event_is_delivered_again_with_a_signature_for_each_secret() {
    let api = Api::start().await;
    let received = Received::default();
    let target = received.listen().await;
    api.post("customers", &[("name", "a")]).await;

    *received.refused.lock().unwrap() = true;
    let refused = api.sim.deliver(&target, Delivery::Once).await.unwrap();
    *received.refused.lock().unwrap() = false;
    let accepted = api.sim.deliver(&target, Delivery::Once).await.unwrap();
    let nothing = api.sim.deliver(&target, Delivery::Once).await.unwrap();

    assert_eq!((refused, accepted, nothing), (vec![503], vec![200], vec![]));
    let events = received.events.lock().unwrap();
    let (signature, event) = &events[0];
    let (time, _) = signature.split_once(',').unwrap();
    let seconds = time.strip_prefix("t=").unwrap().parse().unwrap();
    assert_eq!(
        *signature,
        sign_at(&event.to_string(), &target.secrets, seconds)
    );
    assert_eq!(signature.matches("v1=").count(), 2);
    assert!(sign("{}", &[]).starts_with("t="));
}

#[tokio::test]
async fn a_registered_endpoint_gets_every_event_also_those_that_it_refused() {
    let api = Api::start().await;
    let received = Received::default();
    *received.refused.lock().unwrap() = true;
    api.post("customers", &[("name", "a")]).await;

    let target = received.listen().await;
    api.sim.register_endpoint(target.clone());
    api.post("customers", &[("name", "b")]).await;
    *received.refused.lock().unwrap() = false;
    api.sim.register_endpoint(target);
    api.post("customers", &[("name", "c")]).await;

    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while received.names().len() < 3 {
        assert!(tokio::time::Instant::now() < deadline, "timeout");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut names = received.names();
    names.sort();
    assert_eq!(names, ["a", "b", "c"]);
}

#[tokio::test]
async fn events_that_a_closed_endpoint_misses_wait() {
    let api = Api::start().await;
    for name in ["a", "b"] {
        api.post("customers", &[("name", name)]).await;
    }
    let closed = WebhookTarget {
        url: "http://127.0.0.1:1/webhooks".to_owned(),
        secrets: Vec::new(),
    };
    let received = Received::default();
    let target = received.listen().await;

    let failed = api.sim.deliver(&closed, Delivery::Once).await;
    let delivered = api.sim.deliver(&target, Delivery::Once).await;

    assert!(failed.is_err());
    assert_eq!(delivered.unwrap(), [200, 200]);
    assert_eq!(received.names(), ["a", "b"]);
}
