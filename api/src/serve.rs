//! HTTP/1 server with a replaceable router, and limits for clients that are slow, many or large.

mod connections;
mod slow_reader;
mod unread_body;

use std::time::Duration;

use axum::{
    Router,
    extract::{ConnectInfo, Request},
    response::Response,
    serve::Listener,
};
use http::{HeaderValue, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use self::{connections::Connections, slow_reader::SlowReaderTimeout, unread_body::UnreadBody};
use crate::config::ServerConfig;

/// Maximum size of a request head, in bytes; a larger one is 431.
const HEAD_LIMIT: usize = 64 * 1024;
/// Timeout of reading a body that no handler reads, in order to keep the connection.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves each request with the current value of `router`. Returns once `shutdown` is cancelled and all requests in
/// flight have finished.
pub async fn serve(
    mut listener: TcpListener,
    router: watch::Receiver<Router>,
    config: ServerConfig,
    shutdown: CancellationToken,
) {
    let (limits, write_timeout) = (Connections::new(&config), config.write_timeout);
    let connections = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_header_size(HEAD_LIMIT)
        .max_buf_size(HEAD_LIMIT)
        // hyper's own clock does not follow a clock that is set back.
        .auto_date_header(false);

    // axum's `accept` retries on aborted connections and on a lack of file descriptors.
    while let Some((stream, address)) = shutdown
        .run_until_cancelled(Listener::accept(&mut listener))
        .await
    {
        let permit = match limits.acquire(address.ip()) {
            Ok(permit) => permit,
            Err(rejection) => {
                rejection.send(stream);
                continue;
            }
        };
        let router = router.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(address));
            let router = router.borrow().clone();
            respond(router, request)
        });
        let stream = TokioIo::new(SlowReaderTimeout::new(stream, write_timeout));
        let connection = connections.watch(http.serve_connection(stream, service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "Connection failed");
            }
            drop(permit);
        });
    }
    drop(listener);
    connections.shutdown().await;
}

/// The router's response, with `Date`, and with `Connection: close` if the connection cannot be used again.
async fn respond(router: Router, request: Request<Incoming>) -> Result<Response, hyper::Error> {
    let (request, unread) = UnreadBody::track(request);
    let mut response = match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let headers = response.headers_mut();
    if !unread.drain(DRAIN_TIMEOUT).await {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now());
    if let Some(date) = date.ok().and_then(|date| date.try_into().ok()) {
        headers.insert(header::DATE, date);
    }
    Ok(response)
}
