//! A client as it should be: it sends the same request, with the same idempotency key, until it is answered.

use std::time::Duration;

use anyhow::bail;
use rand::{Rng as _, rngs::StdRng};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// How long a client waits for one answer.
const TIMEOUT: Duration = Duration::from_secs(4);
/// How long it goes on asking: longer than anything lasts that goes wrong.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long it waits before it asks again, in milliseconds.
const PAUSE: std::ops::Range<u64> = 50..400;

/// Speaks to whichever api answers.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) http: reqwest::Client,
    pub(super) urls: Vec<String>,
    pub(super) operator: String,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Request {
    method: Method,
    path: String,
    body: Option<Value>,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) status: StatusCode,
    /// The code of a refusal.
    pub(super) code: Option<String>,
    /// The tenant's slug.
    pub(super) slug: Option<String>,
    /// The job that carries it out.
    pub(super) job: Option<String>,
}

/// What became of a request.
#[derive(Debug)]
pub(super) struct Fate {
    pub(super) tries: u32,
    pub(super) answer: Option<Answered>,
}

impl Request {
    pub(super) fn new(method: Method, path: String, body: Option<Value>) -> Self {
        Self { method, path, body }
    }
}

impl Client {
    /// Introduces the operator.
    pub(super) async fn introduce(&self) -> anyhow::Result<()> {
        let me = Request::new(Method::GET, "/users/me".to_owned(), None);
        match self.send(&self.urls[0], "chaos", &me).await {
            Some(answer) if answer.is_accepted() => Ok(()),
            answer => bail!("the operator is not let in: {answer:?}"),
        }
    }

    /// Asks until there is an answer that asking again would not change.
    pub(super) async fn ask(&self, id: &str, request: &Request, random: &mut StdRng) -> Fate {
        let mut tries = 0;
        let begun = Instant::now();
        loop {
            tries += 1;
            let url = &self.urls[random.random_range(0..self.urls.len())];
            let answer = self.send(url, id, request).await;
            let answer = answer.filter(|answer| !answer.is_passing());
            if answer.is_some() || begun.elapsed() > PATIENCE {
                return Fate { tries, answer };
            }
            sleep(Duration::from_millis(random.random_range(PAUSE))).await;
        }
    }

    async fn send(&self, url: &str, id: &str, request: &Request) -> Option<Answered> {
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
        let answer = sent.send().await.ok()?;
        let status = answer.status();
        let body: Value = answer.json().await.ok()?;
        let text = |pointer: &str| body.pointer(pointer)?.as_str().map(str::to_owned);
        let about_job = request.path.starts_with("/jobs/");
        Some(Answered {
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

impl Answered {
    /// Whether it may be another the next time.
    fn is_passing(&self) -> bool {
        self.status.is_server_error()
            || self.status == StatusCode::TOO_MANY_REQUESTS
            || self.status == StatusCode::REQUEST_TIMEOUT
            || self.code.as_deref() == Some("idempotency_in_progress")
    }
}
