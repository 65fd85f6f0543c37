//! What a request says about itself.

mod proxies;

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
};

use axum::extract::{ConnectInfo, FromRequestParts};
use dezky_shared::{audit::Origin, platform::trace};
use http::{HeaderMap, header, request::Parts};
use tracing::Span;
use uuid::Uuid;

pub use self::proxies::TrustedProxies;

/// The header with a request's id.
const REQUEST_ID: &str = "x-request-id";
/// The longest id that is taken from a caller.
const REQUEST_ID_LIMIT: usize = 64;
/// How much of a caller's `User-Agent` is kept.
const USER_AGENT_LIMIT: usize = 256;

/// Which request it is, and where it came from. The outermost layer makes it.
#[derive(Debug, Clone, Default)]
pub struct RequestInfo {
    /// The request's name in answers and logs.
    pub id: String,
    /// The trace it belongs to (W3C Trace Context).
    pub traceparent: Option<String>,
    /// Where it came from, by what the proxies say that we trust; nothing where there is no connection.
    pub ip: Option<IpAddr>,
    user_agent: Option<String>,
}

impl RequestInfo {
    /// Reads it from a request that came by way of `proxies`, if it came by any.
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

    /// Makes the request's span part of the caller's trace, or the first of a new one; whatever the request causes
    /// goes on from there.
    pub fn join_trace(&mut self, span: &Span) {
        if let Some(callers) = &self.traceparent {
            trace::set_remote_parent(span, callers);
        }
        if let Some(ours) = trace::traceparent(span) {
            span.record("trace.id", trace::trace_id(&ours));
            self.traceparent = Some(ours);
        }
    }

    /// The same, for the audit trail.
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

/// Short, and harmless in a log.
fn is_sane(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= REQUEST_ID_LIMIT
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// What one header says of the trace; several contradict each other, and a malformed one says nothing.
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
    fn only_a_short_and_harmless_id_is_taken_from_a_caller() {
        assert_eq!(info("x-request-id", "abc-1.2_3").id, "abc-1.2_3");
        for odd in ["", "a b", "a\"b", &"a".repeat(65), "a/b"] {
            assert_ne!(info("x-request-id", odd).id, odd);
            assert_eq!(info("x-request-id", odd).id.len(), 36);
        }
    }

    #[test]
    fn only_one_well_formed_traceparent_is_kept() {
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
