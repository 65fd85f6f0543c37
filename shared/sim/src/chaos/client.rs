//! HTTP client that repeats a request with its idempotency key until it has a response.

use std::time::Duration;

use anyhow::bail;
use rand::{Rng as _, rngs::StdRng};
use reqwest::{Method, StatusCode};
use secrecy::SecretString;
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// Timeout of one attempt.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Time after which a client gives up: longer than any fault lasts.
const GIVE_UP_AFTER: Duration = Duration::from_mins(1);
/// Delay between two attempts, in milliseconds.
const RETRY_DELAY_MILLIS: std::ops::Range<u64> = 50..400;
/// Preference of a request that waits: shorter than the timeout.
const WAIT: &str = "wait=2";
/// Members of a response that hold a one-time secret.
const SECRETS: [&str; 2] = ["oneTimePassword", "clientSecret"];

/// Client of all api processes: each attempt goes to a random one.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) http: reqwest::Client,
    pub(super) urls: Vec<String>,
    pub(super) operator: String,
}

/// A request to the api.
#[derive(Debug, Clone)]
pub(super) struct Request {
    method: Method,
    pub(super) path: String,
    body: Option<Body>,
    is_waiting: bool,
}

/// Body of a request.
#[derive(Debug, Clone)]
enum Body {
    Json(Value),
    /// JSON lines, as a file.
    Lines(String),
}

/// The relevant parts of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// Problem code of an error response.
    pub(super) code: Option<String>,
    /// Id of the object that the response shows; that at Stripe for a setup intent.
    pub(super) id: Option<String>,
    /// Slug of the tenant.
    pub(super) slug: Option<String>,
    /// Id of the job that carries out the change.
    pub(super) job: Option<String>,
}

/// Number of attempts of a request, and its final response.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) attempts: u32,
    pub(super) reply: Option<Reply>,
    /// The one-time secret of the response, which a replay does not have.
    pub(super) secret: Option<SecretString>,
}

/// A `POST` request.
pub(super) fn post(path: String, body: Option<Value>) -> Request {
    Request::new(Method::POST, path, body)
}

/// A `PATCH` request.
pub(super) fn patch(path: String, body: Value) -> Request {
    Request::new(Method::PATCH, path, Some(body))
}

impl Request {
    pub(super) fn new(method: Method, path: String, body: Option<Value>) -> Self {
        Self {
            method,
            path,
            body: body.map(Body::Json),
            is_waiting: false,
        }
    }

    /// Waits for the job of the request. Its response depends on how far the job is, and so is not replayed.
    pub(super) fn waiting(self) -> Self {
        Self {
            is_waiting: true,
            ..self
        }
    }

    /// Whether the response to a replay is the original one.
    pub(super) fn is_replayable(&self) -> bool {
        !self.is_waiting
    }

    /// An upload of a file of JSON lines.
    pub(super) fn upload(path: String, rows: &[Value]) -> Self {
        let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        Self {
            method: Method::POST,
            path,
            body: Some(Body::Lines(lines.join("\n"))),
            is_waiting: false,
        }
    }
}

impl Client {
    /// Registers the operator as a user.
    pub(super) async fn register_operator(&self) -> anyhow::Result<()> {
        let me = Request::new(Method::GET, "/users/me".to_owned(), None);
        match self.send_once(&self.urls[0], "chaos", &me).await {
            Some((reply, _)) if reply.is_accepted() => Ok(()),
            reply => bail!("the operator cannot sign in: {reply:?}"),
        }
    }

    /// Sends a request until the response is not retryable, or [`GIVE_UP_AFTER`] has passed.
    pub(super) async fn send_with_retries(
        &self,
        id: &str,
        request: &Request,
        random: &mut StdRng,
    ) -> Exchange {
        let mut attempts = 0;
        let started = Instant::now();
        loop {
            attempts += 1;
            let url = &self.urls[random.random_range(0..self.urls.len())];
            let received = self.send_once(url, id, request).await;
            let received = received.filter(|(reply, _)| !reply.is_retryable());
            if received.is_some() || started.elapsed() > GIVE_UP_AFTER {
                let (reply, secret) = received.unzip();
                return Exchange {
                    attempts,
                    reply,
                    secret: secret.flatten(),
                };
            }
            sleep(Duration::from_millis(
                random.random_range(RETRY_DELAY_MILLIS),
            ))
            .await;
        }
    }

    /// The items of a list, from any api process; none if it does not answer.
    pub(super) async fn list(&self, path: &str, random: &mut StdRng) -> Vec<Value> {
        let url = &self.urls[random.random_range(0..self.urls.len())];
        let request = self.http.get(format!("{url}{path}"));
        let request = request.bearer_auth(&self.operator).timeout(TIMEOUT);
        let Ok(response) = request.send().await else {
            return Vec::new();
        };
        let mut page: Value = response.json().await.unwrap_or_default();
        match page["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        }
    }

    /// The response, and its one-time secret.
    async fn send_once(
        &self,
        url: &str,
        id: &str,
        request: &Request,
    ) -> Option<(Reply, Option<SecretString>)> {
        let mut sent = self
            .http
            .request(request.method.clone(), format!("{url}{}", request.path))
            .bearer_auth(&self.operator)
            .header("idempotency-key", id)
            .header("x-request-id", id)
            .timeout(TIMEOUT);
        sent = match &request.body {
            None => sent,
            Some(Body::Json(body)) => sent.json(body),
            Some(Body::Lines(lines)) => sent
                .header("content-type", "application/x-ndjson")
                .body(lines.clone()),
        };
        if request.is_waiting {
            sent = sent.header("prefer", WAIT);
        }
        let reply = sent.send().await.ok()?;
        let status = reply.status();
        let body: Value = reply.json().await.ok()?;
        let text = |pointer: &str| body.pointer(pointer)?.as_str().map(str::to_owned);
        let about_job = request.path.starts_with("/jobs/");
        let reply = Reply {
            status,
            code: text("/code"),
            id: text("/id").or_else(|| text("/setupIntentId")),
            slug: text("/slug"),
            job: if about_job {
                text("/id")
            } else {
                text("/job/id")
            },
        };
        let mut secrets = SECRETS.iter().filter_map(|name| body[name].as_str());
        Some((reply, secrets.next().map(SecretString::from)))
    }
}

impl Reply {
    /// Whether the status is 2xx.
    pub(super) fn is_accepted(&self) -> bool {
        self.status.is_success()
    }

    /// Whether a retry may get another response.
    fn is_retryable(&self) -> bool {
        self.status.is_server_error()
            || self.status == StatusCode::TOO_MANY_REQUESTS
            || self.status == StatusCode::REQUEST_TIMEOUT
            || self.code.as_deref() == Some("idempotency_in_progress")
    }
}
