//! Logs and traces.
//!
//! Every process traces, so that a request can be followed through the system by its trace's id. What was traced is
//! sent away only where `OTEL_EXPORTER_OTLP_ENDPOINT` says where to: in batches, beside the work. A collector that is
//! slow or away costs spans, which are dropped once too many wait, and nothing else.

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
    tls::{CONNECT_TIMEOUT, TrustRoots},
};

/// How long a collector may take to answer.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long sending the last spans may hold up the end of the process.
const LAST_SPANS: Duration = Duration::from_secs(2);
/// What our own crates' names begin with: others' spans are none of our traces'.
const OURS: &str = "dezky";

/// What a process has to end before it ends.
#[derive(Debug)]
pub struct Telemetry(SdkTracerProvider);

/// Sends logs to standard output, as `RUST_LOG` (default `info`) and `LOG_FORMAT` (`json`, the default, or `pretty`)
/// say, and traces to `OTEL_EXPORTER_OTLP_ENDPOINT`, if any, as those of `OTEL_SERVICE_NAME` (default: `service`).
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
    let Some(endpoint) = optional::<String>("OTEL_EXPORTER_OTLP_ENDPOINT")? else {
        return Ok(provider.build());
    };
    ensure!(
        endpoint.starts_with("http://") || endpoint.starts_with("https://"),
        "OTEL_EXPORTER_OTLP_ENDPOINT is not valid: expected http://host:4318"
    );
    let client = trust_roots
        .client_builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(EXPORT_TIMEOUT)
        .build()?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        // The variable names the collector; where it takes traces is the protocol's to say.
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .build()
        .context("OTEL_EXPORTER_OTLP_ENDPOINT")?;
    let batches = BatchSpanProcessor::builder(exporter, runtime::Tokio).build();
    Ok(provider.with_span_processor(batches).build())
}

impl Telemetry {
    /// Sends the spans that still wait, within a moment.
    pub async fn stop(self) {
        let stopping = tokio::task::spawn_blocking(move || self.0.shutdown());
        let stopped = tokio::time::timeout(LAST_SPANS, stopping).await;
        if !matches!(stopped, Ok(Ok(Ok(())))) {
            tracing::warn!("The last spans were not taken");
        }
    }
}
