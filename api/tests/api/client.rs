//! HTTP client of the app under test: `app.operator().post("/tenants", json!({ … })).await`.

use std::{
    borrow::Borrow,
    net::{IpAddr, SocketAddr},
    pin::Pin,
};

use axum::{Router, body::Body, extract::ConnectInfo, response::Response};
use dezky_sim::{callers::Caller, issuer::TokenSpec};
use futures::future::join_all;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::{app::TestApp, documented, personas::Persona};

/// Identity that a client can sign in with.
pub(crate) trait Identity {
    /// Token to sign in with; `None` for an anonymous caller.
    fn token_spec(&self) -> Option<TokenSpec>;
}

impl Identity for Caller {
    fn token_spec(&self) -> Option<TokenSpec> {
        Some(self.token())
    }
}

impl Identity for Persona {
    fn token_spec(&self) -> Option<TokenSpec> {
        self.token()
    }
}

impl Identity for &TokenSpec {
    fn token_spec(&self) -> Option<TokenSpec> {
        Some((*self).clone())
    }
}

/// HTTP client that sends every request with one bearer token, or with none.
#[derive(Debug, Clone)]
pub(crate) struct Client<'a> {
    app: &'a TestApp,
    token: Option<String>,
}

impl TestApp {
    /// Client signed in as `identity`. All its requests carry the same token.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a caller, a persona or a token reads best without a borrow"
    )]
    pub(crate) fn client(&self, identity: impl Identity) -> Client<'_> {
        let token = identity.token_spec().map(|spec| self.token(&spec));
        Client { app: self, token }
    }

    pub(crate) fn operator(&self) -> Client<'_> {
        self.client(Caller::Operator)
    }

    /// The owner of `demo`.
    pub(crate) fn owner(&self) -> Client<'_> {
        self.client(Caller::Owner)
    }

    /// A member of `demo`.
    pub(crate) fn member(&self) -> Client<'_> {
        self.client(Caller::Member)
    }

    /// A signed-in user without memberships.
    pub(crate) fn stranger(&self) -> Client<'_> {
        self.client(Caller::Stranger)
    }

    /// Partner staff, after [`TestApp::with_partner`].
    pub(crate) fn partner(&self) -> Client<'_> {
        self.client(Caller::Partner)
    }

    pub(crate) fn anonymous(&self) -> Client<'_> {
        self.client(Persona::Anonymous)
    }

    pub(crate) fn with_token(&self, token: &str) -> Client<'_> {
        Client {
            app: self,
            token: Some(token.to_owned()),
        }
    }
}

impl<'a> Client<'a> {
    pub(crate) fn get(&self, path: impl AsRef<str>) -> Call<'a> {
        self.request(Method::GET, path)
    }

    pub(crate) fn delete(&self, path: impl AsRef<str>) -> Call<'a> {
        self.request(Method::DELETE, path)
    }

    pub(crate) fn post(&self, path: impl AsRef<str>, json: impl Borrow<Value>) -> Call<'a> {
        self.request(Method::POST, path).json(json)
    }

    /// `POST` without a body.
    pub(crate) fn post_empty(&self, path: impl AsRef<str>) -> Call<'a> {
        self.request(Method::POST, path)
    }

    pub(crate) fn put(&self, path: impl AsRef<str>, json: impl Borrow<Value>) -> Call<'a> {
        self.request(Method::PUT, path).json(json)
    }

    pub(crate) fn patch(&self, path: impl AsRef<str>, json: impl Borrow<Value>) -> Call<'a> {
        self.request(Method::PATCH, path).json(json)
    }

    /// Request with any method, without a body.
    pub(crate) fn request(&self, method: Method, path: impl AsRef<str>) -> Call<'a> {
        let call = Call {
            app: self.app,
            method,
            path: path.as_ref().to_owned(),
            headers: vec![],
            body: vec![],
            address: None,
            router: None,
        };
        match &self.token {
            Some(token) => call.header("authorization", &format!("Bearer {token}")),
            None => call,
        }
    }
}

/// Request under construction. Awaiting it sends it.
#[derive(Debug, Clone)]
#[must_use = "a request is sent when it is awaited"]
pub(crate) struct Call<'a> {
    app: &'a TestApp,
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    address: Option<IpAddr>,
    router: Option<Router>,
}

impl Call<'_> {
    /// Sends the request to another process of the same service.
    pub(crate) fn through(mut self, router: &Router) -> Self {
        self.router = Some(router.clone());
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn idempotency_key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    pub(crate) fn if_match(self, etag: &str) -> Self {
        self.header("if-match", etag)
    }

    pub(crate) fn if_none_match(self, etag: &str) -> Self {
        self.header("if-none-match", etag)
    }

    /// `Prefer: wait`, in seconds.
    pub(crate) fn wait(self, seconds: u64) -> Self {
        self.header("prefer", &format!("wait={seconds}"))
    }

    pub(crate) fn json(self, body: impl Borrow<Value>) -> Self {
        self.body("application/json", body.borrow().to_string())
    }

    pub(crate) fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("content-type", content_type)
    }

    /// Client address of the connection. Without one, the request carries no address.
    pub(crate) fn sent_from(mut self, address: &str) -> Self {
        self.address = Some(address.parse().unwrap());
        self
    }

    /// Sends the request and returns the response with its body unread, for streams.
    pub(crate) async fn open(self) -> Response {
        let mut request = Request::builder().method(self.method).uri(&self.path);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if !self.headers.iter().any(|(name, _)| name == "host") {
            request = request.header("host", "api.test");
        }
        if let Some(address) = self.address {
            request = request.extension(ConnectInfo(SocketAddr::from((address, 4_000))));
        }
        let request = request.body(Body::from(self.body)).unwrap();
        let router = self.router.unwrap_or_else(|| self.app.router.clone());
        router.oneshot(request).await.unwrap()
    }

    /// The future itself, where several requests are joined.
    pub(crate) async fn send(self) -> Reply {
        let (method, path) = (self.method.clone(), self.path.clone());
        let (parts, body) = self.open().await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let reply = Reply {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        };
        documented::check(&method, &path, &reply);
        reply
    }
}

impl<'a> IntoFuture for Call<'a> {
    type Output = Reply;
    type IntoFuture = Pin<Box<dyn Future<Output = Reply> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// Sends all requests concurrently.
pub(crate) async fn send_all<'a>(calls: impl IntoIterator<Item = Call<'a>>) -> Vec<Reply> {
    join_all(calls.into_iter().map(Call::send)).await
}

/// Sorted summaries of replies to concurrent requests.
pub(crate) fn sorted_summaries<'a>(replies: impl IntoIterator<Item = &'a Reply>) -> Vec<String> {
    let mut summaries: Vec<String> = replies.into_iter().map(Reply::summary).collect();
    summaries.sort();
    summaries
}

/// `body` without its human-readable messages, which must not be empty.
pub(crate) fn without_messages(mut body: Value) -> Value {
    match &mut body {
        Value::Object(fields) => {
            if let Some(message) = fields.remove("message") {
                assert_ne!(message.as_str().unwrap(), "");
            }
            for value in fields.values_mut() {
                *value = without_messages(value.take());
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = without_messages(item.take());
            }
        }
        _ => {}
    }
    body
}

/// Response with its JSON body.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn etag(&self) -> &str {
        self.header("etag").unwrap()
    }

    /// Whether the response is a stored one, returned for a repeated idempotency key.
    pub(crate) fn is_replayed(&self) -> bool {
        self.header("idempotency-replayed") == Some("true")
    }

    /// Items of a page.
    pub(crate) fn items(&self) -> &[Value] {
        self.body["items"].as_array().unwrap()
    }

    /// The string at `pointer` in every item of a page; "-" where it is absent.
    pub(crate) fn texts<'a>(&'a self, pointer: &str) -> Vec<&'a str> {
        let text = |item: &'a Value| item.pointer(pointer).and_then(Value::as_str);
        self.items()
            .iter()
            .map(|item| text(item).unwrap_or("-"))
            .collect()
    }

    /// Pointer (or query parameter) and code of each field error of a problem.
    pub(crate) fn errors<'a>(&'a self) -> Vec<(&'a str, &'a str)> {
        let errors = self.body["errors"].as_array().into_iter().flatten();
        let location = |error: &'a Value| error["pointer"].as_str().or(error["parameter"].as_str());
        errors
            .map(|error| (location(error).unwrap(), error["code"].as_str().unwrap()))
            .collect()
    }

    /// Status, followed by the code of a problem: `409 slug_taken`.
    pub(crate) fn summary(&self) -> String {
        format!("{} {}", self.status.as_u16(), self.code())
            .trim()
            .to_owned()
    }
}
