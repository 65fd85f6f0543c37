//! HTTP client that repeats a request with its idempotency key until it has a response.

use std::time::Duration;

use anyhow::bail;
use rand::{Rng as _, rngs::StdRng};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// Timeout of one attempt.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Time after which a client gives up: longer than any fault lasts.
const GIVE_UP_AFTER: Duration = Duration::from_mins(1);
/// Delay between two attempts, in milliseconds.
const RETRY_DELAY_MILLIS: std::ops::Range<u64> = 50..400;

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
    path: String,
    body: Option<Value>,
}

/// The relevant parts of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// Problem code of an error response.
    pub(super) code: Option<String>,
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
}

impl Request {
    pub(super) fn new(method: Method, path: String, body: Option<Value>) -> Self {
        Self { method, path, body }
    }
}

impl Client {
    /// Registers the operator as a user.
    pub(super) async fn register_operator(&self) -> anyhow::Result<()> {
        let me = Request::new(Method::GET, "/users/me".to_owned(), None);
        match self.send_once(&self.urls[0], "chaos", &me).await {
            Some(reply) if reply.is_accepted() => Ok(()),
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
            let reply = self.send_once(url, id, request).await;
            let reply = reply.filter(|reply| !reply.is_retryable());
            if reply.is_some() || started.elapsed() > GIVE_UP_AFTER {
                return Exchange { attempts, reply };
            }
            sleep(Duration::from_millis(
                random.random_range(RETRY_DELAY_MILLIS),
            ))
            .await;
        }
    }

    async fn send_once(&self, url: &str, id: &str, request: &Request) -> Option<Reply> {
        let mut sent = self
            .http
            .request(request.method.clone(), format!("{url}{}", request.path))
            .bearer_auth(&self.operator)
            .header("idempotency-key", id)
            .header("x-request-id", id)
            .timeout(TIMEOUT);
        if let Some(body) = &request.body {
            sent = sent.json(body);
        }
        let reply = sent.send().await.ok()?;
        let status = reply.status();
        let body: Value = reply.json().await.ok()?;
        let text = |pointer: &str| body.pointer(pointer)?.as_str().map(str::to_owned);
        let about_job = request.path.starts_with("/jobs/");
        Some(Reply {
            status,
            code: text("/code"),
            slug: text("/slug"),
            job: if about_job {
                text("/id")
            } else {
                text("/job/id")
            },
        })
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
