//! OTLP collector over HTTP that stores the received traces.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value,
};
use prost::Message as _;
use tokio::net::TcpListener;

/// The relevant fields of a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    /// Service name of the process.
    pub(crate) service: String,
    pub(crate) name: String,
    /// Hexadecimal, as in a `traceparent`.
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
}

/// The collector. It ends with the test's runtime.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) url: String,
    received: Received,
}

/// Received telemetry: the spans, and the bodies of all requests.
type Received = Arc<Mutex<(Vec<Span>, Vec<u8>)>>;

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let received = Received::default();
        let router = Router::new()
            .route("/v1/traces", post(take))
            .with_state(received.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, received }
    }

    /// Spans of one trace received so far.
    pub(crate) fn trace(&self, trace: &str) -> Vec<Span> {
        let (spans, _) = &*self.received.lock().unwrap();
        let of_it = spans.iter().filter(|span| span.trace == trace);
        of_it.cloned().collect()
    }

    /// Bodies of all requests received so far, as text.
    pub(crate) fn text(&self) -> String {
        let (_, bodies) = &*self.received.lock().unwrap();
        String::from_utf8_lossy(bodies).into_owned()
    }
}

async fn take(State(received): State<Received>, body: Bytes) {
    received.lock().unwrap().1.extend_from_slice(&body);
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for of_resource in request.resource_spans {
        let attributes = of_resource.resource.unwrap().attributes;
        let service = attributes
            .into_iter()
            .find(|attribute| attribute.key == "service.name");
        let service = match service.unwrap().value.unwrap().value.unwrap() {
            Value::StringValue(service) => service,
            other => panic!("{other:?}"),
        };
        let all = of_resource.scope_spans.into_iter();
        let taken = all.flat_map(|of_scope| of_scope.spans).map(|span| Span {
            service: service.clone(),
            name: span.name,
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
        });
        received.lock().unwrap().0.extend(taken);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
