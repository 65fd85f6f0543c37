//! Logs and traces.
//!
//! Every process creates spans, so that a request can be followed by its trace id. Spans are exported only if
//! `OTEL_EXPORTER_OTLP_ENDPOINT` is set, in background batches. A slow or unavailable collector costs spans, which are
//! dropped once the buffer is full, and nothing else.

use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource, runtime,
    trace::{SdkTracerProvider, span_processor_with_async_runtime::BatchSpanProcessor},
};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::Targets, fmt, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::platform::{
    config::optional,
    http_url::HttpUrl,
    tls::{CONNECT_TIMEOUT, TrustRoots},
};

/// Response timeout of the collector.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for exporting the last spans at shutdown.
const LAST_SPANS: Duration = Duration::from_secs(2);
/// Crate prefix of exported spans: spans of dependencies are not exported.
const OURS: &str = "dezky";

/// Running telemetry, to be stopped before the process exits.
#[derive(Debug)]
pub struct Telemetry(SdkTracerProvider);

/// Starts logging to standard output, configured by `RUST_LOG` (default `info`) and `LOG_FORMAT` (`json`, the default,
/// or `pretty`), and exports traces to `OTEL_EXPORTER_OTLP_ENDPOINT`, if set, under the name `OTEL_SERVICE_NAME`
/// (default: `service`).
pub fn start(service: &str, trust_roots: &TrustRoots) -> anyhow::Result<Telemetry> {
    let filter = optional::<String>("RUST_LOG")?.unwrap_or_else(|| "info".to_owned());
    let filter =
        EnvFilter::try_new(&filter).map_err(|error| anyhow!("RUST_LOG is not valid: {error}"))?;
    let provider = tracer_provider(service, trust_roots)?;
    let traces = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(OURS))
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_context_activation(false)
        .with_filter(Targets::new().with_target(OURS, LevelFilter::INFO));
    tracing_subscriber::registry()
        .with(logs()?.with_filter(filter))
        .with(traces)
        .init();
    Ok(Telemetry(provider))
}

fn logs() -> anyhow::Result<Box<dyn Layer<Registry> + Send + Sync>> {
    match optional::<String>("LOG_FORMAT")?.as_deref() {
        None | Some("json") => Ok(fmt::layer().json().flatten_event(true).boxed()),
        Some("pretty") => Ok(fmt::layer().boxed()),
        Some(other) => Err(anyhow!(
            "LOG_FORMAT is not valid: expected json or pretty, found {other:?}"
        )),
    }
}

fn tracer_provider(service: &str, trust_roots: &TrustRoots) -> anyhow::Result<SdkTracerProvider> {
    let service = optional("OTEL_SERVICE_NAME")?.unwrap_or_else(|| service.to_owned());
    let resource = Resource::builder().with_service_name(service).build();
    let provider = SdkTracerProvider::builder().with_resource(resource);
    let Some(endpoint) = optional::<HttpUrl>("OTEL_EXPORTER_OTLP_ENDPOINT")? else {
        return Ok(provider.build());
    };
    ensure!(
        !endpoint.path().ends_with("/v1/traces"),
        "OTEL_EXPORTER_OTLP_ENDPOINT is not valid: expected the URL without /v1/traces"
    );
    let client = trust_roots
        .client_builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(EXPORT_TIMEOUT)
        .build()?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        // The variable holds the collector's base URL; the protocol defines the path for traces.
        .with_endpoint(format!("{}/v1/traces", endpoint.base()))
        .build()
        .context("OTEL_EXPORTER_OTLP_ENDPOINT")?;
    let batches = BatchSpanProcessor::builder(exporter, runtime::Tokio).build();
    Ok(provider.with_span_processor(batches).build())
}

impl Telemetry {
    /// Exports the remaining spans, within `LAST_SPANS`.
    pub async fn stop(self) {
        let stopping = tokio::task::spawn_blocking(move || self.0.shutdown());
        let stopped = tokio::time::timeout(LAST_SPANS, stopping).await;
        if !matches!(stopped, Ok(Ok(Ok(())))) {
            tracing::warn!("The last spans could not be exported");
        }
    }
}
