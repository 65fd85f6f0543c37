//! Middleware of all routes: request id, tracing span, metrics, CORS, timeout, panic handler and problem responses.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use futures::FutureExt as _;
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use tokio::time::{Instant, timeout};
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::{Instrument as _, Span, field};

use crate::{
    config::{ANY_LOCALHOST, TrustedProxies},
    error::{ApiError, PendingProblem, ProblemCode},
    extract::{RequestInfo, max_wait},
    metrics,
    rate_limits::{RateLimits, limit_by_address},
    response::{Complete, REPLAYED},
    serve::charge_response,
};

/// Timeout of a request, without its wait time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// Header with the request id.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Adds the middleware to `router`. `limits` are the rate limits of preflight requests, which do not reach the router.
pub fn apply<S>(
    router: Router<S>,
    allowed_origins: &[HeaderValue],
    proxies: &TrustedProxies,
    limits: Option<&Arc<RateLimits>>,
) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let router = router
        .layer(from_fn(timeout_and_catch_panic))
        .layer(from_fn(charge_response));
    let router = if allowed_origins.is_empty() {
        router
    } else {
        let limits = limits.cloned();
        router
            .layer(cors(allowed_origins))
            .layer(from_fn_with_state(limits, limit_preflight))
    };
    let router = router.layer(from_fn(require_host));
    let proxies = Arc::new(proxies.clone());
    router.layer(from_fn_with_state(proxies, observe))
}

/// Creates the id and the span of the request, records metrics, and writes problem responses.
async fn observe(
    State(proxies): State<Arc<TrustedProxies>>,
    mut request: Request,
    next: Next,
) -> Response {
    let mut info = RequestInfo::of(&request, &proxies);
    let method = request.method().clone();
    let method_name = metrics::method_name(&method);
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let span = tracing::info_span!(
        "request",
        otel.kind = "server",
        otel.name = format!("{method_name} {route}"),
        request.id = info.id,
        trace.id = field::Empty,
        method = method_name,
        route,
        status = field::Empty,
    );
    info.join_trace(&span);
    let id = info.id.clone();
    request.extensions_mut().insert(info);

    let started = Instant::now();
    async move {
        let response = next.run(request).await;
        let mut response = with_problem(response, &id);
        if let Ok(id) = HeaderValue::try_from(&id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        // Responses depend on the caller, and may hold secrets.
        let headers = response.headers_mut();
        let cache_control = headers.entry(header::CACHE_CONTROL);
        cache_control.or_insert(HeaderValue::from_static("no-store"));
        let took = started.elapsed();
        let status = response.status();
        Span::current().record("status", status.as_u16());
        metrics::request(&method, &route, status, took);
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(duration_ms, "Request finished");
        response
    }
    .instrument(span)
    .await
}

/// Rejects a request with several `Host` headers, and one of HTTP/1.1 without any (RFC 9112, section 3.2).
async fn require_host(request: Request, next: Next) -> Response {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    if hosts > 1 || request.version() == Version::HTTP_11 && hosts == 0 {
        let detail = "Send one Host header.";
        let rejection = ApiError::new(ProblemCode::InvalidRequest).with_detail(detail);
        return rejection.into_response();
    }
    next.run(request).await
}

/// Counts preflight requests, which the CORS layer answers itself, by address. Other requests are counted inside of that
/// layer, so that browsers can read their 429.
async fn limit_preflight(
    State(limits): State<Option<Arc<RateLimits>>>,
    request: Request,
    next: Next,
) -> Response {
    match limits {
        Some(limits) if request.method() == Method::OPTIONS => {
            limit_by_address(State(limits), request, next).await
        }
        _ => next.run(request).await,
    }
}

/// Turns timeouts and panics into problem responses.
async fn timeout_and_catch_panic(request: Request, next: Next) -> Response {
    let limit = REQUEST_TIMEOUT + max_wait(request.headers(), request.uri().query());
    let response = AssertUnwindSafe(timeout(limit, next.run(request))).catch_unwind();
    match response.await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => ApiError::new(ProblemCode::Timeout).into_response(),
        Err(panic) => {
            let cause = anyhow::anyhow!("a handler panicked: {}", message(&*panic));
            ApiError::internal(cause).into_response()
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("unknown panic message")
}

/// Writes the body of a problem response, also for the 404 and 405 of the router.
fn with_problem(mut response: Response, request_id: &str) -> Response {
    if response.extensions_mut().remove::<Complete>().is_some() {
        return response;
    }
    let problem = response.extensions_mut().remove::<PendingProblem>();
    let problem = problem.or_else(|| match response.status() {
        StatusCode::NOT_FOUND => Some(ProblemCode::NotFound.into()),
        StatusCode::METHOD_NOT_ALLOWED => Some(ProblemCode::MethodNotAllowed.into()),
        _ => None,
    });
    match problem {
        Some(problem) => problem.respond(request_id, std::mem::take(response.headers_mut())),
        None => response,
    }
}

/// The origins, and every port of this machine if the list has [`ANY_LOCALHOST`].
fn allow(origins: &[HeaderValue]) -> AllowOrigin {
    let origins = origins.to_vec();
    let any_localhost = origins.iter().any(|origin| origin == ANY_LOCALHOST);
    let prefix = ANY_LOCALHOST.trim_end_matches('*').as_bytes();
    AllowOrigin::predicate(move |origin, _| {
        let port = origin.as_bytes().strip_prefix(prefix);
        let is_localhost = port.is_some_and(|port| port.iter().all(u8::is_ascii_digit));
        origins.contains(origin) || any_localhost && is_localhost
    })
}

fn cors(allowed_origins: &[HeaderValue]) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(allow(allowed_origins))
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("last-event-id"),
            HeaderName::from_static("prefer"),
            HeaderName::from_static("traceparent"),
            REQUEST_ID,
        ])
        .expose_headers([
            header::CONTENT_DISPOSITION,
            header::CONTENT_LOCATION,
            header::ETAG,
            header::LOCATION,
            header::RETRY_AFTER,
            header::WWW_AUTHENTICATE,
            HeaderName::from_static("preference-applied"),
            REPLAYED,
            REQUEST_ID,
        ])
        .max_age(Duration::from_mins(10))
}
