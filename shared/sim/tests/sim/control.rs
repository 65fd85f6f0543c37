use std::sync::Arc;

use dezky_shared::platform::tls::TrustRoots;
use dezky_sim::{
    callers::Caller,
    control,
    issuer::{IssuerOptions, PORTAL},
    simulators::{Addresses, Simulators},
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

struct Control {
    url: String,
    client: reqwest::Client,
    simulators: Arc<Simulators>,
}

impl Control {
    async fn start() -> Self {
        let simulators = Simulators::start(&Addresses::free(), IssuerOptions::default()).await;
        let simulators = Arc::new(simulators.unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = control::router(simulators.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let client = TrustRoots::default().client_builder().build().unwrap();
        Self {
            url,
            client,
            simulators,
        }
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> Response {
        let request = self.client.request(method, format!("{}{path}", self.url));
        request.json(body).send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        let response = self.client.get(format!("{}{path}", self.url)).send().await;
        response.unwrap().json().await.unwrap()
    }

    async fn fetch_keys(&self) -> Result<StatusCode, reqwest::Error> {
        let url = self.simulators.issuer.jwks_url(PORTAL);
        Ok(self.client.get(url).send().await?.status())
    }
}

#[tokio::test]
async fn faults_are_added_and_removed() {
    let control = Control::start().await;
    let rule = json!({ "operation": "portal_jwks", "fault": { "kind": "status", "status": 500 } });

    let added = control
        .send(Method::POST, "/upstreams/issuer/faults", &rule)
        .await;
    let while_faulty = control.fetch_keys().await.unwrap();
    let ended = control
        .send(Method::DELETE, "/upstreams/issuer/faults", &Value::Null)
        .await;
    let afterwards = control.fetch_keys().await.unwrap();

    assert_eq!(added.status(), StatusCode::NO_CONTENT);
    assert_eq!(while_faulty, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(ended.status(), StatusCode::NO_CONTENT);
    assert_eq!(afterwards, StatusCode::OK);
    assert_eq!(
        control.get("/upstreams/issuer/requests").await,
        json!({ "portal_jwks": 2 })
    );
}

#[tokio::test]
async fn an_upstream_that_is_down_refuses_connections_until_its_faults_are_removed() {
    let control = Control::start().await;

    control
        .send(Method::POST, "/upstreams/issuer/down", &Value::Null)
        .await;
    while control.fetch_keys().await.is_ok() {}
    control
        .send(Method::DELETE, "/upstreams/issuer/faults", &Value::Null)
        .await;

    while control.fetch_keys().await.is_err() {}
}

#[tokio::test]
async fn a_key_rotation_changes_the_state() {
    let control = Control::start().await;
    let keys = async || {
        let state = control.get("/upstreams/issuer/state").await;
        state[PORTAL]["jwks"]["keys"].as_array().unwrap().len()
    };

    assert_eq!(keys().await, 3);
    control
        .send(Method::POST, "/keys/dezky-portal/rotate", &Value::Null)
        .await;
    assert_eq!(keys().await, 6);
    control
        .send(
            Method::POST,
            "/keys/dezky-portal/rotate?dropOld=true",
            &Value::Null,
        )
        .await;
    assert_eq!(keys().await, 3);
}

#[tokio::test]
async fn a_token_is_signed_according_to_its_specification() {
    let control = Control::start().await;
    let spec = serde_json::to_value(Caller::Operator.token()).unwrap();

    let signed = control.send(Method::POST, "/tokens", &spec).await;
    let signed: Value = signed.json().await.unwrap();

    let claims =
        jsonwebtoken::dangerous::insecure_decode::<Value>(signed["token"].as_str().unwrap());
    let claims = claims.unwrap().claims;
    assert_eq!(claims["aud"], json!("dezky-operator"));
    assert_eq!(claims["groups"], json!(["dezky-platform-admins"]));
}

#[tokio::test]
async fn invalid_requests_are_refused_with_a_reason() {
    let control = Control::start().await;

    let unknown = control.get("/upstreams/unknown/effects").await;
    let application = json!({ "application": "unknown" });
    let no_application = control.send(Method::POST, "/tokens", &application).await;
    let misspelt = control
        .send(Method::POST, "/tokens", &json!({ "subjekt": "x" }))
        .await;

    assert_eq!(unknown, json!({ "error": "unknown upstream unknown" }));
    assert_eq!(no_application.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(misspelt.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn dns_records_are_published_and_removed() {
    let control = Control::start().await;
    let records = json!([
        { "name": "acme.test", "type": "MX", "value": "10 mail.provider.test", "check": "mx" },
        { "name": "acme.test", "type": "TXT", "value": "v=spf1 mx -all" },
    ]);
    let held = async || {
        let dns = control.get("/dns").await;
        let records = dns["records"].as_array().unwrap().clone();
        let of_acme = records.into_iter().filter(|it| it["name"] == "acme.test");
        of_acme.map(|it| it["value"].clone()).collect::<Vec<_>>()
    };

    let published = control.send(Method::POST, "/dns/records", &records).await;
    let both = held().await;
    let taken = json!([records[0]]);
    control.send(Method::DELETE, "/dns/records", &taken).await;
    let one = held().await;

    assert_eq!(published.status(), StatusCode::NO_CONTENT);
    assert_eq!(both, ["10 mail.provider.test", "v=spf1 mx -all"]);
    assert_eq!(one, ["v=spf1 mx -all"]);
}

#[tokio::test]
async fn an_invalid_dns_record_is_refused() {
    let control = Control::start().await;

    let record = json!([{ "name": "acme.test", "type": "MX", "value": "mail.provider.test" }]);
    let refused = control.send(Method::POST, "/dns/records", &record).await;

    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
}
