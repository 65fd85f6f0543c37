//! HTTP transport of the upstream clients.

use std::time::Duration;

use dezky_shared::{
    platform::{
        metrics::UPSTREAM_CALL_DURATION,
        tls::{CONNECT_TIMEOUT, TrustRoots},
        trace,
    },
    upstream::Upstream,
};
use http::HeaderMap;
use metrics::histogram;
use reqwest::{Method, RequestBuilder};
use tokio::{sync::mpsc, time::Instant};

use super::{ClientError, FailedCall, LeaseDeadline, UpstreamResponse, connect_failure};

/// Maximum size of a response body.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// Kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationKind {
    /// Reads only: repeatable, and a lost response is harmless.
    Read,
    /// May change something: bound by the lease deadline, and a lost response matters.
    Write,
}

/// Operation: names a call in spans and errors, and determines whether it may begin.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// Name, such as `create_group`.
    pub name: &'static str,
    /// Kind of operation.
    pub kind: OperationKind,
}

impl Operation {
    /// A read operation.
    pub const fn read(name: &'static str) -> Self {
        Self {
            name,
            kind: OperationKind::Read,
        }
    }

    /// A write operation.
    pub const fn write(name: &'static str) -> Self {
        Self {
            name,
            kind: OperationKind::Write,
        }
    }
}

/// Destination of a successful response's body that is too large to be held in memory.
#[derive(Debug, Clone)]
pub struct BodySink {
    /// Receives the body, chunk by chunk. If the receiver is dropped, the rest is not read.
    pub chunks: mpsc::Sender<Vec<u8>>,
    /// Timeout of the whole call, in place of the client's.
    pub timeout: Duration,
}

/// HTTP client of one upstream.
#[derive(Debug, Clone)]
pub struct UpstreamHttp {
    client: reqwest::Client,
    upstream: Upstream,
    base_url: String,
    timeout: Duration,
    deadline: LeaseDeadline,
}

impl UpstreamHttp {
    /// A client of `upstream` at `base_url`. It follows no redirects and uses no proxy.
    pub fn new(
        upstream: Upstream,
        base_url: &str,
        timeout: Duration,
        trust_roots: &TrustRoots,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            client: trust_roots
                .client_builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .build()?,
            upstream,
            base_url: base_url.trim_end_matches('/').to_owned(),
            timeout,
            deadline: LeaseDeadline::unlimited(),
        })
    }

    /// A copy of the client bound to `deadline`: it begins no write that could outlast the lease.
    #[must_use]
    pub fn with_deadline(&self, deadline: &LeaseDeadline) -> Self {
        Self {
            deadline: deadline.clone(),
            ..self.clone()
        }
    }

    /// The lease deadline, which also records the calls.
    pub fn deadline(&self) -> &LeaseDeadline {
        &self.deadline
    }

    /// Base URL, without a trailing slash.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Builds a request for `path`, which starts with a slash.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.request_to(method, &format!("{}{path}", self.base_url))
    }

    /// Builds a request for a URL of the upstream that is not below the base URL.
    pub fn request_to(&self, method: Method, url: &str) -> RequestBuilder {
        self.client.request(method, url)
    }

    /// Calls the upstream's unauthenticated health endpoint at `path` below `base_url`. Sending credentials could get
    /// us banned: some upstreams ban clients that keep sending refused ones.
    pub async fn probe(&self, base_url: &str, path: &str) -> Result<(), ClientError> {
        let request = self.request_to(Method::GET, &format!("{base_url}{path}"));
        let response = self.send(Operation::read("probe"), request).await?;
        if response.status.is_success() {
            Ok(())
        } else {
            Err(response.error(""))
        }
    }

    /// Sends a request and reads the whole response, whatever its status.
    pub async fn send(
        &self,
        operation: Operation,
        request: RequestBuilder,
    ) -> Result<UpstreamResponse, ClientError> {
        self.send_into(operation, request, None).await
    }

    /// Like [`send`](Self::send), but the body of a successful response goes to `sink`, if there is one, without a limit
    /// on its size. The returned body is empty then.
    #[tracing::instrument(
        name = "upstream",
        skip_all,
        fields(
            otel.kind = "client",
            otel.name = format!("{} {}", self.upstream, operation.name),
            upstream = %self.upstream,
            operation = operation.name,
            status,
            request_id,
        )
    )]
    pub async fn send_into(
        &self,
        operation: Operation,
        request: RequestBuilder,
        sink: Option<&BodySink>,
    ) -> Result<UpstreamResponse, ClientError> {
        let request = match trace::traceparent(&tracing::Span::current()) {
            Some(traceparent) => request.header(trace::TRACEPARENT, traceparent),
            None => request,
        };
        let began = Instant::now();
        let response = self.exchange(operation, request, sink).await;
        let labels = [
            ("upstream", self.upstream.name()),
            ("operation", operation.name),
            ("outcome", outcome(&response)),
        ];
        histogram!(UPSTREAM_CALL_DURATION, &labels).record(began.elapsed());
        response
    }

    async fn exchange(
        &self,
        operation: Operation,
        request: RequestBuilder,
        sink: Option<&BodySink>,
    ) -> Result<UpstreamResponse, ClientError> {
        let failed = |detail: &str| FailedCall {
            upstream: self.upstream,
            operation: operation.name,
            status: None,
            request_id: None,
            detail: detail.to_owned(),
        };
        let timeout = sink.map_or(self.timeout, |sink| sink.timeout);
        let timeout = match operation.kind {
            OperationKind::Read => timeout,
            OperationKind::Write => match self.deadline.write_timeout(timeout) {
                Some(timeout) => timeout,
                None => return Err(ClientError::LeaseExpiring(failed(""))),
            },
        };
        // A missing response is harmless for a read and an unknown outcome for a write.
        let lost = |call| match operation.kind {
            OperationKind::Read => ClientError::Unavailable(call),
            OperationKind::Write => ClientError::AnswerLost(call),
        };

        let exchange = async {
            let mut reply = request.send().await.map_err(|error| {
                if error.is_connect() {
                    ClientError::Unreachable(failed(connect_failure(&error)))
                } else if error.is_builder() {
                    ClientError::Rejected(failed("the request could not be built"))
                } else {
                    lost(failed("the connection closed without a response"))
                }
            })?;
            let mut response = UpstreamResponse {
                upstream: self.upstream,
                operation,
                status: reply.status(),
                request_id: request_id(reply.headers()),
                headers: std::mem::take(reply.headers_mut()),
                body: Vec::new(),
            };
            while let Some(chunk) = reply
                .chunk()
                .await
                .map_err(|_| lost(response.failed("the response was truncated")))?
            {
                if let Some(sink) = sink.filter(|_| response.status.is_success()) {
                    if sink.chunks.send(chunk.to_vec()).await.is_err() {
                        break;
                    }
                    continue;
                }
                if response.body.len() + chunk.len() > MAX_BODY {
                    return Err(response.unreadable("it is too large"));
                }
                response.body.extend_from_slice(&chunk);
            }
            Ok(response)
        };
        let is_write = operation.kind == OperationKind::Write;
        // Not undone if this future is dropped: then the outcome stays unknown.
        self.deadline.begin_call(is_write);
        let response = tokio::time::timeout(timeout, exchange).await;
        let is_answered = matches!(response, Ok(Ok(_) | Err(ClientError::InvalidResponse(_))));
        self.deadline.end_call(is_write, is_answered);
        let response = response.unwrap_or_else(|_| Err(lost(failed("no response in time"))))?;

        let span = tracing::Span::current();
        span.record("status", response.status.as_u16());
        if let Some(id) = &response.request_id {
            span.record("request_id", id);
            self.deadline.note_request_id(id);
        }
        Ok(response)
    }
}

/// Outcome label of the metric.
fn outcome(response: &Result<UpstreamResponse, ClientError>) -> &'static str {
    match response {
        Ok(response) => match response.status.as_u16() {
            ..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            500.. => "5xx",
        },
        Err(ClientError::Unreachable(_)) => "unreachable",
        Err(ClientError::LeaseExpiring(_)) => "not_begun",
        Err(ClientError::Rejected(_)) => "not_built",
        Err(ClientError::InvalidResponse(_)) => "invalid",
        Err(_) => "no_answer",
    }
}

fn request_id(headers: &HeaderMap) -> Option<String> {
    let names = ["x-request-id", "x-authentik-id", "request-id"];
    let value = names.iter().find_map(|name| headers.get(*name))?;
    Some(value.to_str().ok()?.chars().take(128).collect())
}

#[cfg(test)]
mod tests {
    use wiremock::{Mock, MockServer, ResponseTemplate, matchers::any};

    use super::*;

    /// The error of a call whose response is one byte too large.
    async fn too_large(operation: Operation) -> (ClientError, LeaseDeadline) {
        let server = MockServer::start().await;
        let response = ResponseTemplate::new(200).set_body_bytes(vec![b' '; MAX_BODY + 1]);
        Mock::given(any())
            .respond_with(response)
            .mount(&server)
            .await;
        let deadline = LeaseDeadline::unlimited();
        let (url, timeout) = (server.uri(), Duration::from_mins(1));
        let http = UpstreamHttp::new(Upstream::Ocis, &url, timeout, &TrustRoots::default());
        let http = http.unwrap().with_deadline(&deadline);
        let request = http.request(Method::GET, "/");
        let error = http.send(operation, request).await.unwrap_err();
        (error, deadline)
    }

    #[tokio::test]
    async fn a_response_that_is_too_large_is_an_answer_to_a_read_and_an_unknown_outcome_of_a_write()
    {
        let (read, reading) = too_large(Operation::read("read")).await;
        let (write, _) = too_large(Operation::write("write")).await;

        assert!(matches!(read, ClientError::InvalidResponse(_)), "{read}");
        assert!(reading.has_answered_calls());
        assert!(matches!(write, ClientError::AnswerLost(_)), "{write}");
    }
}
