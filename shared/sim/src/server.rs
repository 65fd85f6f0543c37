//! HTTP server of a simulator: fault injection in front of its router.

use std::{
    collections::BTreeMap,
    future, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody as _},
    response::{IntoResponse, Response},
};
use futures::StreamExt as _;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt as _;

use crate::{
    effects::Effects,
    faults::{Fault, Faults},
};

/// Classification of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Classified {
    /// Operation, by the client's name for it: `create_group`.
    pub operation: &'static str,
    /// Whether the operation may change state.
    pub write: bool,
}

/// Response extension that closes the connection instead of sending the response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HangUp;

/// Classifies a request.
pub type Classify = fn(&Method, path: &str, headers: &HeaderMap, body: &[u8]) -> Classified;

/// A running simulator. Dropping it stops the server.
#[derive(Debug)]
pub struct Server {
    /// Base URL: `http://127.0.0.1:PORT`.
    pub url: String,
    /// Injected faults.
    pub faults: Faults,
    /// Recorded effects.
    pub effects: Effects,
    traces: Traces,
    sent: Arc<AtomicU64>,
    _stop: DropGuard,
}

/// Last `traceparent` received per operation.
type Traces = Arc<Mutex<BTreeMap<&'static str, String>>>;

impl Server {
    /// Last `traceparent` received for `operation`.
    pub fn traceparent(&self, operation: &str) -> Option<String> {
        let traces = self.traces.lock().unwrap_or_else(PoisonError::into_inner);
        traces.get(operation).cloned()
    }

    /// Size of all response bodies so far, in bytes.
    pub fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Serves `router` on `address`; port 0 selects any free port.
    pub async fn start(
        address: SocketAddr,
        router: Router,
        classify: Classify,
        effects: Effects,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let faults = Faults::default();
        let traces = Traces::default();
        let sent = Arc::new(AtomicU64::new(0));
        let stop = CancellationToken::new();
        let service = Service {
            router,
            classify,
            faults: faults.clone(),
            traces: traces.clone(),
            sent: sent.clone(),
        };
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(service.listen(listener, address)),
        );
        Ok(Self {
            url: format!("http://{address}"),
            faults,
            effects,
            traces,
            sent,
            _stop: stop.drop_guard(),
        })
    }
}

#[derive(Clone)]
struct Service {
    router: Router,
    classify: Classify,
    faults: Faults,
    traces: Traces,
    sent: Arc<AtomicU64>,
}

impl Service {
    /// Accept loop. Interrupted while the upstream is down.
    async fn listen(self, listener: TcpListener, address: SocketAddr) {
        let mut listener = Some(listener);
        // Dropped with the listener: going down closes the open connections.
        let mut connections = JoinSet::new();
        let mut look = tokio::time::interval(Duration::from_millis(5));
        loop {
            let down = self.faults.is_down();
            if down && listener.is_some() {
                listener = None;
                self.faults.ended(connections.len());
                connections = JoinSet::new();
            }
            if !down && listener.is_none() {
                listener = TcpListener::bind(address).await.ok();
            }
            let accept = async {
                match &listener {
                    Some(listener) => listener.accept().await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                _ = look.tick() => {}
                Some(_) = connections.join_next() => {}
                Ok((stream, _)) = accept => {
                    let service = self.clone();
                    connections.spawn(async move {
                        let answer = hyper::service::service_fn(move |request| service.clone().answer(request));
                        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                        // Errors mean that a fault or the client closed the connection.
                        let _ = connection.await;
                    });
                }
            }
        }
    }

    /// Applies the fault, if any, and runs the request. An error closes the connection without a response.
    async fn answer(self, request: Request<hyper::body::Incoming>) -> Result<Response, io::Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let classified = (self.classify)(&parts.method, parts.uri.path(), &parts.headers, &body);
        self.record_trace(classified.operation, &parts.headers);
        let fault = self
            .faults
            .next_fault(classified.operation, classified.write);
        let request = Request::from_parts(parts, Body::from(body));

        match fault {
            Some(Fault::Reset) => return Err(io::Error::other("injected connection reset")),
            Some(Fault::Status {
                status,
                retry_after,
            }) => return Ok(refusal(status, retry_after)),
            Some(Fault::SlowEffect { millis }) => {
                // A detached task, so that the effect happens even if the client disconnects.
                let late = tokio::spawn(self.run_late(request, millis));
                return late.await.map_err(io::Error::other);
            }
            Some(Fault::EffectAfterTimeout { millis }) => {
                let connected = CancellationToken::new();
                let disconnected = connected.clone();
                tokio::spawn(async move {
                    disconnected.cancelled().await;
                    self.run_late(request, millis).await
                });
                // Cancelled when this future is dropped, that is when the client disconnects.
                let _connected = connected.drop_guard();
                return future::pending().await;
            }
            _ => {}
        }
        // A detached task again: the effect happens even if the client disconnects.
        let latency = self.faults.latency();
        let response = tokio::spawn(self.run(request))
            .await
            .map_err(io::Error::other)?;
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        if response.extensions().get::<HangUp>().is_some() {
            return Err(io::Error::other("connection closed by the simulator"));
        }
        match fault {
            Some(Fault::AnswerLost) => Err(io::Error::other("injected loss of the response")),
            Some(Fault::SlowAnswer { millis }) => {
                tokio::time::sleep(Fault::delay(millis)).await;
                Ok(response)
            }
            Some(Fault::Html) => Ok((
                [(header::CONTENT_TYPE, "text/html")],
                "<html><body>It works</body></html>",
            )
                .into_response()),
            Some(Fault::Truncated) => {
                let body = response
                    .into_body()
                    .collect()
                    .await
                    .map_err(io::Error::other)?
                    .to_bytes();
                let half: Bytes = body.slice(..body.len() / 2);
                Ok(([(header::CONTENT_TYPE, "application/json")], half).into_response())
            }
            Some(Fault::Endless) => {
                // A string that begins with the first quote and has no other one.
                let begin = futures::stream::once(async { Bytes::from_static(b"\"") });
                let chunks =
                    begin.chain(futures::stream::repeat(Bytes::from_static(&[b'a'; 4096])));
                let body = Body::from_stream(chunks.map(Ok::<_, io::Error>));
                Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
            }
            _ => Ok(response),
        }
    }

    fn record_trace(&self, operation: &'static str, headers: &HeaderMap) {
        let traceparent = headers.get("traceparent").map(HeaderValue::to_str);
        if let Some(Ok(traceparent)) = traceparent {
            let mut traces = self.traces.lock().unwrap_or_else(PoisonError::into_inner);
            traces.insert(operation, traceparent.to_owned());
        }
    }

    /// Runs the request after a delay.
    async fn run_late(self, request: Request<Body>, millis: u64) -> Response {
        tokio::time::sleep(Fault::delay(millis)).await;
        let faults = self.faults.clone();
        let response = self.run(request).await;
        faults.landed();
        response
    }

    async fn run(self, request: Request<Body>) -> Response {
        let wrong_date = self.faults.wrong_date();
        let mut response = match self.router.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        // Without the header, the HTTP server adds the right time.
        if let Some(date) = wrong_date.and_then(|date| HeaderValue::from_str(&date).ok()) {
            response.headers_mut().insert(header::DATE, date);
        }
        let size = response.body().size_hint().exact().unwrap_or_default();
        self.sent.fetch_add(size, Ordering::Relaxed);
        response
    }
}

fn refusal(status: u16, retry_after: Option<u64>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = status.into_response();
    if let Some(seconds) = retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }
    response
}
