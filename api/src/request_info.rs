//! Request id, trace context and origin of a request.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
};

use axum::extract::{ConnectInfo, FromRequestParts};
use dezky_shared::{audit::Origin, platform::trace};
use http::{HeaderMap, header, request::Parts};
use tracing::Span;
use uuid::Uuid;

use crate::config::TrustedProxies;

/// Header with the request id.
const REQUEST_ID: &str = "x-request-id";
/// Maximum length of a request id from a client.
const REQUEST_ID_LIMIT: usize = 64;
/// Maximum length of a stored `User-Agent`.
const USER_AGENT_LIMIT: usize = 256;

/// Request id, trace context and origin. Created by the outermost layer.
#[derive(Debug, Clone, Default)]
pub struct RequestInfo {
    /// Request id, in responses and logs.
    pub id: String,
    /// Trace context (W3C `traceparent`).
    pub traceparent: Option<String>,
    /// Client address, as reported by trusted proxies. `None` without a connection.
    pub ip: Option<IpAddr>,
    user_agent: Option<String>,
}

impl RequestInfo {
    /// Reads the headers and the peer address of a request.
    pub fn of<B>(request: &http::Request<B>, proxies: &TrustedProxies) -> Self {
        let headers = request.headers();
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let id = text(REQUEST_ID)
            .filter(|id| is_sane(id))
            .map_or_else(|| Uuid::now_v7().hyphenated().to_string(), str::to_owned);
        Self {
            id,
            traceparent: traceparent(headers),
            ip: request
                .extensions()
                .get::<ConnectInfo<SocketAddr>>()
                .map(|ConnectInfo(peer)| proxies.origin(peer.ip(), headers)),
            user_agent: text(header::USER_AGENT.as_str())
                .map(|agent| agent.chars().take(USER_AGENT_LIMIT).collect()),
        }
    }

    /// Continues the trace of the client, or starts a new one. Jobs of the request continue it.
    pub fn join_trace(&mut self, span: &Span) {
        if let Some(parent) = &self.traceparent {
            trace::set_remote_parent(span, parent);
        }
        if let Some(own) = trace::traceparent(span) {
            span.record("trace.id", trace::trace_id(&own));
            self.traceparent = Some(own);
        }
    }

    /// The origin for the audit trail.
    pub fn origin(&self) -> Origin {
        Origin {
            request_id: Some(self.id.clone()),
            ip: self.ip.map(|ip| ip.to_string()),
            user_agent: self.user_agent.clone(),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for RequestInfo {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

/// Whether a request id is short and safe to log.
fn is_sane(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= REQUEST_ID_LIMIT
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// The `traceparent` header, if there is exactly one and it is well-formed.
fn traceparent(headers: &HeaderMap) -> Option<String> {
    let mut all = headers.get_all(trace::TRACEPARENT).iter();
    let text = all.next()?.to_str().ok()?;
    (all.next().is_none() && trace::is_traceparent(text)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, value: &str) -> RequestInfo {
        let request = http::Request::builder().header(name, value);
        RequestInfo::of(&request.body(()).unwrap(), &TrustedProxies::default())
    }

    #[test]
    fn unsafe_request_ids_are_replaced() {
        assert_eq!(info("x-request-id", "abc-1.2_3").id, "abc-1.2_3");
        for odd in ["", "a b", "a\"b", &"a".repeat(65), "a/b"] {
            assert_ne!(info("x-request-id", odd).id, odd);
            assert_eq!(info("x-request-id", odd).id.len(), 36);
        }
    }

    #[test]
    fn malformed_and_duplicate_traceparents_are_ignored() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(info("traceparent", good).traceparent.as_deref(), Some(good));
        let odd = "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01";
        assert_eq!(info("traceparent", odd).traceparent, None);
        let two = http::Request::builder()
            .header("traceparent", good)
            .header("traceparent", good);
        let two = RequestInfo::of(&two.body(()).unwrap(), &TrustedProxies::default());
        assert_eq!(two.traceparent, None);
    }
}
