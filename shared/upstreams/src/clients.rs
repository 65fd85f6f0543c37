//! Speaking to the upstreams: what every client shares.
//!
//! [`UpstreamHttp::send`] is the single place with the timeout, the span and the trust; a client reads an [`UpstreamResponse`]
//! and says what it means for its upstream. **A write whose answer is not known is never an ordinary failure**:
//! it is [`ClientError::AnswerLost`], and whoever comes next looks before creating again.

pub mod authentik;
pub mod ocis;
pub mod stalwart;

use std::{fmt, num::IntErrorKind, time::Duration};

use http::{HeaderMap, StatusCode};
use metrics::histogram;
use reqwest::{Method, RequestBuilder};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

pub use crate::lease_deadline::LeaseDeadline;
use dezky_shared::{
    platform::tls::{CONNECT_TIMEOUT, TrustRoots},
    platform::{metrics::UPSTREAM_CALL_DURATION, trace},
    queue::error_code::ErrorCode,
    upstream::Upstream,
};

/// How long a whole call may take, unless configured otherwise.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that an upstream may ask us to wait: more is a mistake of somebody's.
const LONGEST_WAIT: Duration = Duration::from_hours(1);
/// The most bytes of an answer that are read.
const ANSWER_LIMIT: usize = 16 * 1024 * 1024;

/// A call that did not give what was asked. Each variant is something a caller does differently.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// No connection: nothing was sent.
    #[error("{0}: unreachable")]
    Unreachable(FailedCall),
    /// The upstream cannot serve us now; nothing of ours was done.
    #[error("{0}: unavailable")]
    Unavailable(FailedCall),
    /// The upstream wants us to wait.
    #[error("{call}: rate limited")]
    RateLimited {
        /// What was called.
        call: FailedCall,
        /// How long the upstream asked us to wait, if it said so.
        retry_after: Option<Duration>,
    },
    /// The upstream does not accept our credentials.
    #[error("{0}: credentials refused")]
    Credentials(FailedCall),
    /// Our account lacks a permission.
    #[error("{0}: permission missing")]
    Permission(FailedCall),
    /// The upstream refused the request for good.
    #[error("{0}: rejected")]
    Rejected(FailedCall),
    /// What we would create exists already and is not ours.
    #[error("{0}: conflict")]
    Conflict(FailedCall),
    /// A value that only the customer can correct.
    #[error("{call}: {}", code.reason())]
    UserAction {
        /// What was called.
        call: FailedCall,
        /// What is wrong with the value.
        code: ErrorCode,
    },
    /// A write was sent, and whether it happened is not known.
    #[error("{0}: answer lost")]
    AnswerLost(FailedCall),
    /// A write was not begun, because the attempt's trust is too short to finish it.
    #[error("{0}: not begun, the lease's trust ends too soon")]
    TrustExpired(FailedCall),
}

/// Which call failed. Its `detail` is for operators: a client puts nothing there that could hold a secret.
#[derive(Debug, Clone)]
pub struct FailedCall {
    /// Which upstream was called.
    pub upstream: Upstream,
    /// Our name for the operation, such as `create_group`.
    pub operation: &'static str,
    /// The status, when there was an answer.
    pub status: Option<StatusCode>,
    /// The id the upstream knows the request by.
    pub request_id: Option<String>,
    /// What went wrong, for an operator.
    pub detail: String,
}

impl fmt::Display for FailedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.upstream, self.operation)?;
        if let Some(status) = self.status {
            write!(f, " answered {}", status.as_u16())?;
        }
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        Ok(())
    }
}

impl ClientError {
    /// The call that failed.
    pub fn call(&self) -> &FailedCall {
        match self {
            Self::RateLimited { call, .. }
            | Self::UserAction { call, .. }
            | Self::Unreachable(call)
            | Self::Unavailable(call)
            | Self::Credentials(call)
            | Self::Permission(call)
            | Self::Rejected(call)
            | Self::Conflict(call)
            | Self::AnswerLost(call)
            | Self::TrustExpired(call) => call,
        }
    }

    /// The stable code of this failure.
    pub fn code(&self) -> ErrorCode {
        match self {
            // A write that was not begun for want of trust is tried again as if the upstream had been away.
            Self::Unreachable(_) | Self::TrustExpired(_) => ErrorCode::UpstreamUnreachable,
            Self::Unavailable(call) if call.status == Some(StatusCode::UNAUTHORIZED) => {
                ErrorCode::UpstreamIdentityUnavailable
            }
            Self::Unavailable(_) => ErrorCode::UpstreamUnavailable,
            Self::RateLimited { .. } => ErrorCode::UpstreamRateLimited,
            Self::Credentials(_) => ErrorCode::UpstreamCredentialsRefused,
            Self::Permission(_) => ErrorCode::UpstreamPermissionMissing,
            Self::Rejected(_) => ErrorCode::UpstreamRejected,
            Self::Conflict(_) => ErrorCode::UpstreamConflict,
            Self::UserAction { code, .. } => *code,
            Self::AnswerLost(_) => ErrorCode::UpstreamAnswerLost,
        }
    }
}

/// Whether a call can change anything upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationKind {
    /// It only looks: repeating it is free, and losing its answer harmless.
    Read,
    /// It may change something: it needs trust, and its answer matters.
    Write,
}

/// What a call is, for its span, its errors and the decision whether it may begin.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// Our name for it, such as `create_group`.
    pub name: &'static str,
    /// Whether it can change anything.
    pub effect: OperationKind,
}

impl Operation {
    /// An operation that only looks.
    pub const fn read(name: &'static str) -> Self {
        Self {
            name,
            effect: OperationKind::Read,
        }
    }

    /// An operation that may change something.
    pub const fn write(name: &'static str) -> Self {
        Self {
            name,
            effect: OperationKind::Write,
        }
    }
}

/// Whether an `ensure_…` changes what it finds or only says what it would change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Change it.
    Apply,
    /// Change nothing.
    DryRun,
}

/// What an `ensure_…` found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ensured<T> {
    /// The thing itself; `None` only where a dry run found nothing.
    pub value: Option<T>,
    /// What was changed, or would be in a dry run: short phrases an operator reads, such as `group created`. Empty
    /// when all was as it should be.
    pub changes: Vec<String>,
}

/// An HTTP client for one upstream.
#[derive(Debug, Clone)]
pub struct UpstreamHttp {
    client: reqwest::Client,
    upstream: Upstream,
    base_url: String,
    timeout: Duration,
    trust: LeaseDeadline,
}

impl UpstreamHttp {
    /// A client for `upstream`, found below `base_url`. It follows no redirects and uses no proxy.
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
            trust: LeaseDeadline::unlimited(),
        })
    }

    /// The same client, whose writes begin only while `trust` lasts.
    #[must_use]
    pub fn with_deadline(&self, trust: &LeaseDeadline) -> Self {
        Self {
            trust: trust.clone(),
            ..self.clone()
        }
    }

    /// How long its writes may begin, with a record of its calls.
    pub fn trust(&self) -> &LeaseDeadline {
        &self.trust
    }

    /// The address calls go to, without a trailing slash.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Begins a request for `path`, which starts with a slash.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.base_url))
    }

    /// Looks at what the upstream shows to whoever asks how it is, at `path` below `base_url`. It sends no credentials:
    /// some upstreams ban those who come again and again with ones that they refuse.
    pub async fn probe(&self, base_url: &str, path: &str) -> Result<(), ClientError> {
        let request = self.client.get(format!("{base_url}{path}"));
        let answer = self.send(Operation::read("probe"), request).await?;
        if answer.status.is_success() {
            Ok(())
        } else {
            Err(answer.error(""))
        }
    }

    /// Sends a request and reads its whole answer, whatever its status.
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
    pub async fn send(
        &self,
        operation: Operation,
        request: RequestBuilder,
    ) -> Result<UpstreamResponse, ClientError> {
        let request = match trace::traceparent(&tracing::Span::current()) {
            Some(traceparent) => request.header(trace::TRACEPARENT, traceparent),
            None => request,
        };
        let began = Instant::now();
        let answer = self.exchange(operation, request).await;
        let labels = [
            ("upstream", self.upstream.name()),
            ("operation", operation.name),
            ("outcome", outcome(&answer)),
        ];
        histogram!(UPSTREAM_CALL_DURATION, &labels).record(began.elapsed());
        answer
    }

    async fn exchange(
        &self,
        operation: Operation,
        request: RequestBuilder,
    ) -> Result<UpstreamResponse, ClientError> {
        let failed = |detail: &str| FailedCall {
            upstream: self.upstream,
            operation: operation.name,
            status: None,
            request_id: None,
            detail: detail.to_owned(),
        };
        let timeout = match operation.effect {
            OperationKind::Read => self.timeout,
            OperationKind::Write => match self.trust.write_timeout(self.timeout) {
                Some(timeout) => timeout,
                None => return Err(ClientError::TrustExpired(failed(""))),
            },
        };
        // An answer that never came is harmless for a read and undecided for a write.
        let lost = |call| match operation.effect {
            OperationKind::Read => ClientError::Unavailable(call),
            OperationKind::Write => ClientError::AnswerLost(call),
        };

        let exchange = async {
            let mut response = request.send().await.map_err(|error| {
                if error.is_connect() {
                    ClientError::Unreachable(failed("no connection"))
                } else if error.is_builder() {
                    ClientError::Rejected(failed("the request could not be built"))
                } else {
                    lost(failed("the connection ended without an answer"))
                }
            })?;
            let mut answer = UpstreamResponse {
                upstream: self.upstream,
                operation,
                status: response.status(),
                request_id: request_id(response.headers()),
                headers: std::mem::take(response.headers_mut()),
                body: Vec::new(),
            };
            while let Some(chunk) = response
                .chunk()
                .await
                .map_err(|_| lost(answer.failed("the answer broke off")))?
            {
                if answer.body.len() + chunk.len() > ANSWER_LIMIT {
                    return Err(lost(answer.failed("the answer is too large")));
                }
                answer.body.extend_from_slice(&chunk);
            }
            Ok(answer)
        };
        // Not undone when this future is dropped: then nobody learns how the write went.
        if operation.effect == OperationKind::Write {
            self.trust.begin_write();
        }
        let answer = tokio::time::timeout(timeout, exchange).await;
        if operation.effect == OperationKind::Write {
            self.trust.end_write();
        }
        let answer = answer.unwrap_or_else(|_| Err(lost(failed("no answer in time"))))?;

        let span = tracing::Span::current();
        span.record("status", answer.status.as_u16());
        if let Some(id) = &answer.request_id {
            span.record("request_id", id);
            self.trust.note_request_id(id);
        }
        Ok(answer)
    }
}

/// How a call went, as metrics name it.
fn outcome(answer: &Result<UpstreamResponse, ClientError>) -> &'static str {
    match answer {
        Ok(answer) => match answer.status.as_u16() {
            ..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            500.. => "5xx",
        },
        Err(ClientError::Unreachable(_)) => "unreachable",
        Err(ClientError::TrustExpired(_)) => "not_begun",
        Err(ClientError::Rejected(_)) => "not_built",
        Err(_) => "no_answer",
    }
}

fn request_id(headers: &HeaderMap) -> Option<String> {
    let names = ["x-request-id", "x-authentik-id", "request-id"];
    let value = names.iter().find_map(|name| headers.get(*name))?;
    Some(value.to_str().ok()?.chars().take(128).collect())
}

/// What an upstream answered.
#[derive(Debug)]
pub struct UpstreamResponse {
    upstream: Upstream,
    operation: Operation,
    /// The status of the answer.
    pub status: StatusCode,
    /// The headers of the answer.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
    request_id: Option<String>,
}

impl UpstreamResponse {
    /// The body of a successful answer.
    ///
    /// One that cannot be read means that the outcome of a write is not known.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(|error| self.unreadable(&error.to_string()))
    }

    /// A successful answer with a body that makes no sense.
    pub fn unreadable(&self, detail: &str) -> ClientError {
        let call = self.failed(&format!("unreadable answer: {detail}"));
        match self.operation.effect {
            OperationKind::Read => ClientError::Unavailable(call),
            OperationKind::Write => ClientError::AnswerLost(call),
        }
    }

    /// What this status means where the upstream has no custom of its own.
    ///
    /// A gateway that gave up on a write (502, 504) leaves its outcome unknown.
    pub fn error(&self, detail: &str) -> ClientError {
        let call = self.failed(detail);
        match self.status.as_u16() {
            401 => ClientError::Credentials(call),
            403 => ClientError::Permission(call),
            408 | 425 | 429 => ClientError::RateLimited {
                call,
                retry_after: self.retry_after(),
            },
            502 | 504 if self.operation.effect == OperationKind::Write => {
                ClientError::AnswerLost(call)
            }
            500..=599 => ClientError::Unavailable(call),
            200..=299 => self.unreadable(detail),
            _ => ClientError::Rejected(call),
        }
    }

    /// The description of this call, for an error a client makes itself.
    pub fn failed(&self, detail: &str) -> FailedCall {
        FailedCall {
            upstream: self.upstream,
            operation: self.operation.name,
            status: Some(self.status),
            request_id: self.request_id.clone(),
            detail: detail.chars().take(500).collect(),
        }
    }

    /// `Retry-After` in seconds (RFC 9110, section 10.2.3), an hour at most; a date is not understood.
    pub fn retry_after(&self) -> Option<Duration> {
        seconds(self.headers.get(http::header::RETRY_AFTER)?.to_str().ok()?)
    }
}

fn seconds(value: &str) -> Option<Duration> {
    let seconds = match value.trim().parse::<u64>() {
        Ok(seconds) => seconds,
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => u64::MAX,
        Err(_) => return None,
    };
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

/// A name for credentials by which nobody can guess them, so that workers notice when they were changed.
pub(crate) fn fingerprint(credentials: &[&str]) -> String {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    for part in credentials {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let short = u64::from_be_bytes(
        digest[..8]
            .try_into()
            .expect("a SHA-256 digest has 32 bytes"),
    );
    format!("{short:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_may_ask_for_an_hour_at_most() {
        for (value, wait) in [
            ("0", Some(Duration::ZERO)),
            (" 7 ", Some(Duration::from_secs(7))),
            ("3601", Some(LONGEST_WAIT)),
            ("18446744073709551615", Some(LONGEST_WAIT)),
            ("99999999999999999999999", Some(LONGEST_WAIT)),
            ("-1", None),
            ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ] {
            assert_eq!(seconds(value), wait, "{value}");
        }
    }
}
