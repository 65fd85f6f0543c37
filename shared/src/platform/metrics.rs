//! Measuring: the recorder that a process installs, and what shared code measures in whichever process runs it.

use std::time::Duration;

use metrics::{Unit, describe_gauge, describe_histogram, gauge};
pub use metrics_exporter_prometheus::PrometheusHandle;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

/// How long calls of the upstreams took, by `upstream`, `operation` and `outcome`.
pub const UPSTREAM_CALL_DURATION: &str = "dezky_upstream_call_duration_seconds";
/// Which build this is: 1, by `service` and `version`.
const BUILD_INFO: &str = "dezky_build_info";
/// A call may take 10 s.
const UPSTREAM_BUCKETS: [f64; 9] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
/// How often what was measured is tidied up.
const UPKEEP: Duration = Duration::from_secs(5);

/// A histogram and the upper bounds of its buckets.
pub type Buckets<'a> = (&'a str, &'a [f64]);

/// Begins to measure, as `service` in this `version`. Each histogram has its buckets named.
pub fn install(
    service: &'static str,
    version: &'static str,
    histograms: &[Buckets<'_>],
) -> anyhow::Result<PrometheusHandle> {
    let upstream_calls: Buckets<'_> = (UPSTREAM_CALL_DURATION, &UPSTREAM_BUCKETS);
    let mut recorder = PrometheusBuilder::new();
    for (name, buckets) in histograms.iter().chain([&upstream_calls]) {
        recorder = recorder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)?;
    }
    let handle = recorder.install_recorder()?;
    describe_gauge!(BUILD_INFO, "1, with the service and its version as labels.");
    describe_histogram!(
        UPSTREAM_CALL_DURATION,
        Unit::Seconds,
        "Calls of the upstreams, by operation and outcome: a class of statuses, or why there was no answer."
    );
    gauge!(BUILD_INFO, "service" => service, "version" => version).set(1);
    Ok(handle)
}

/// Tidies up for ever.
pub async fn run_upkeep(handle: PrometheusHandle) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        handle.run_upkeep();
    }
}
