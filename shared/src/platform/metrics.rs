//! Metrics: installation of the Prometheus recorder, and the metrics that shared code records in every process.

use std::time::Duration;

use metrics::{Unit, describe_gauge, describe_histogram, gauge};
pub use metrics_exporter_prometheus::PrometheusHandle;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

/// Duration of upstream calls, by `upstream`, `operation` and `outcome`.
pub const UPSTREAM_CALL_DURATION: &str = "dezky_upstream_call_duration_seconds";
/// Build information: always 1, labelled with `service` and `version`.
const BUILD_INFO: &str = "dezky_build_info";
/// Calls time out after 10 s.
const UPSTREAM_BUCKETS: [f64; 9] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
/// Interval of the recorder's upkeep.
const UPKEEP: Duration = Duration::from_secs(5);

/// A histogram's name and the upper bounds of its buckets.
pub type Buckets<'a> = (&'a str, &'a [f64]);

/// Installs the recorder for `service` in this `version`, with the given histogram buckets.
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
        "Duration of upstream calls, by operation and outcome: a status class, or the reason for a missing response."
    );
    gauge!(BUILD_INFO, "service" => service, "version" => version).set(1);
    Ok(handle)
}

/// Upkeep loop of the recorder; never returns.
pub async fn run_upkeep(handle: PrometheusHandle) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        handle.run_upkeep();
    }
}
