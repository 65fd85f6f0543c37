//! Metrics and their endpoint.

use std::time::Duration;

use axum::{Router, routing::get};
use dezky_shared::platform::metrics::PrometheusHandle;
use http::{Method, StatusCode, header};
use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

/// Requests by route template, method and status.
const REQUESTS: &str = "http_requests_total";
/// Duration of requests, in seconds.
const DURATION: &str = "http_request_duration_seconds";
/// Rate-limited requests by limit.
const LIMITED: &str = "dezky_requests_limited_total";
/// Names of the rate limits.
const LIMITS: [&str; 6] = [
    "caller",
    "address",
    "failed_sign_in",
    "health",
    "credentials",
    "webhook",
];
/// Gauge: 1 while the rate limits of this process use local buckets, else 0.
pub const LOCAL_ONLY: &str = "dezky_rate_limits_alone";
/// Refused connections by limit.
const REFUSED_CONNECTIONS: &str = "dezky_connections_refused_total";
/// Names of the connection limits.
const CONNECTION_LIMITS: [&str; 2] = ["process", "address"];
/// Refused responses by limit.
const REFUSED_RESPONSES: &str = "dezky_responses_refused_total";
/// Names of the limits on response memory.
const RESPONSE_LIMITS: [&str; 2] = ["process", "caller"];
/// Webhook deliveries by result.
const WEBHOOKS: &str = "dezky_webhook_events_total";
/// Results of a webhook delivery.
const WEBHOOK_RESULTS: [&str; 6] = [
    "stored",
    "known",
    "ignored",
    "bad_signature",
    "wrong_mode",
    "other_content",
];
/// Histogram buckets. Long polls take up to 30 seconds.
const BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 30.0,
];

/// Name of a method in metrics and logs. Clients can send any method: only standard ones have a name.
pub fn method_name(method: &Method) -> &str {
    match *method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::PATCH
        | Method::DELETE
        | Method::OPTIONS => method.as_str(),
        _ => "other",
    }
}

/// Counts a request.
pub fn request(method: &Method, route: &str, status: StatusCode, took: Duration) {
    let labels = [
        ("route", route.to_owned()),
        ("method", method_name(method).to_owned()),
        ("status", status.as_u16().to_string()),
    ];
    counter!(REQUESTS, &labels).increment(1);
    histogram!(DURATION, &labels[..2]).record(took);
}

/// Installs the recorder.
pub fn start() -> anyhow::Result<PrometheusHandle> {
    let version = env!("CARGO_PKG_VERSION");
    let handle =
        dezky_shared::platform::metrics::install(crate::SERVICE, version, &[(DURATION, &BUCKETS)])?;
    describe_counter!(
        REQUESTS,
        Unit::Count,
        "Requests by route template, method and status."
    );
    describe_histogram!(
        DURATION,
        Unit::Seconds,
        "Duration of requests, including long polls."
    );
    describe_counter!(
        LIMITED,
        Unit::Count,
        "Requests rejected with 429 by a rate limit, by limit."
    );
    for limit in LIMITS {
        counter!(LIMITED, "limit" => limit).increment(0);
    }
    describe_counter!(
        REFUSED_CONNECTIONS,
        Unit::Count,
        "Connections refused because there are too many, by limit."
    );
    for limit in CONNECTION_LIMITS {
        counter!(REFUSED_CONNECTIONS, "limit" => limit).increment(0);
    }
    describe_counter!(
        REFUSED_RESPONSES,
        Unit::Count,
        "Responses refused because clients have too many unread ones, by limit."
    );
    for limit in RESPONSE_LIMITS {
        counter!(REFUSED_RESPONSES, "limit" => limit).increment(0);
    }
    describe_counter!(WEBHOOKS, Unit::Count, "Webhook deliveries, by result.");
    for result in WEBHOOK_RESULTS {
        counter!(WEBHOOKS, "result" => result).increment(0);
    }
    describe_gauge!(
        LOCAL_ONLY,
        Unit::Count,
        "Whether rate limits are local to this process, since Redis is unavailable."
    );
    gauge!(LOCAL_ONLY).set(0);
    Ok(handle)
}

/// Counts a rate-limited request.
pub fn rate_limited(limit: &'static str) {
    counter!(LIMITED, "limit" => limit).increment(1);
}

/// Counts a webhook delivery.
pub fn webhook(result: &'static str) {
    counter!(WEBHOOKS, "result" => result).increment(1);
}

/// Counts a refused connection.
pub fn connection_refused(limit: &'static str) {
    counter!(REFUSED_CONNECTIONS, "limit" => limit).increment(1);
}

/// Counts a refused response.
pub fn response_refused(limit: &'static str) {
    counter!(REFUSED_RESPONSES, "limit" => limit).increment(1);
}

/// Endpoint in the Prometheus text format.
pub fn router(handle: PrometheusHandle) -> Router {
    let render = async move || {
        let text = "text/plain; version=0.0.4; charset=utf-8";
        ([(header::CONTENT_TYPE, text)], handle.render())
    };
    Router::new().route("/metrics", get(render))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_standard_methods_have_a_name_in_metrics_and_logs() {
        let long = Method::from_bytes(&[b'X'; 10_000]).unwrap();

        assert_eq!(method_name(&Method::PATCH), "PATCH");
        assert_eq!(method_name(&long), "other");
    }
}
