//! What is measured, and the port on which it is read.

use std::time::Duration;

use crate::rate_limits::limiter;
use axum::{Router, routing::get};
use dezky_shared::platform::metrics::PrometheusHandle;
use http::{Method, StatusCode, header};
use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

/// Requests, by route template, method and status.
const REQUESTS: &str = "http_requests_total";
/// How long they took, in seconds.
const DURATION: &str = "http_request_duration_seconds";
/// Requests that were over a limit, by limit.
const LIMITED: &str = "dezky_requests_limited_total";
/// The limits that there are.
const LIMITS: [&str; 3] = ["caller", "address", "failed_sign_in"];
/// Requests that wait take up to half a minute.
const BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 30.0,
];

/// Counts a request.
pub fn request(method: &Method, route: &str, status: StatusCode, took: Duration) {
    // A method may be any word: only those that exist get a series of their own.
    let method = match *method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::PATCH
        | Method::DELETE
        | Method::OPTIONS => method.as_str().to_owned(),
        _ => "other".to_owned(),
    };
    let labels = [
        ("route", route.to_owned()),
        ("method", method),
        ("status", status.as_u16().to_string()),
    ];
    counter!(REQUESTS, &labels).increment(1);
    histogram!(DURATION, &labels[..2]).record(took);
}

/// Begins to measure.
pub fn start() -> anyhow::Result<PrometheusHandle> {
    let version = env!("CARGO_PKG_VERSION");
    let handle =
        dezky_shared::platform::metrics::install(crate::SERVICE, version, &[(DURATION, &BUCKETS)])?;
    describe_counter!(
        REQUESTS,
        Unit::Count,
        "Requests answered, by route template, method and status."
    );
    describe_histogram!(
        DURATION,
        Unit::Seconds,
        "How long requests took, those included that waited for a change."
    );
    describe_counter!(
        LIMITED,
        Unit::Count,
        "Requests refused with 429 because they were over a limit, by limit."
    );
    for limit in LIMITS {
        counter!(LIMITED, "limit" => limit).increment(0);
    }
    describe_gauge!(
        limiter::LOCAL_ONLY,
        Unit::Count,
        "Whether this process counts requests alone, since Redis does not answer in time."
    );
    gauge!(limiter::LOCAL_ONLY).set(0);
    Ok(handle)
}

/// Counts a request that was over a limit.
pub fn rate_limited(limit: &'static str) {
    counter!(LIMITED, "limit" => limit).increment(1);
}

/// Shows what was measured, as Prometheus reads it.
pub fn router(handle: PrometheusHandle) -> Router {
    let render = async move || {
        let text = "text/plain; version=0.0.4; charset=utf-8";
        ([(header::CONTENT_TYPE, text)], handle.render())
    };
    Router::new().route("/metrics", get(render))
}
