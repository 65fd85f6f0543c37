//! HTTP/1 server with a replaceable router and a timeout for request heads.

use std::time::Duration;

use axum::{
    Router,
    extract::{ConnectInfo, Request},
    serve::Listener,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// Serves each request with the current value of `router`. Returns once `shutdown` is cancelled and all requests in
/// flight have finished.
///
/// A connection is closed if the head of its next request takes longer than `header_timeout`.
pub async fn serve(
    mut listener: TcpListener,
    router: watch::Receiver<Router>,
    header_timeout: Duration,
    shutdown: CancellationToken,
) {
    let connections = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(header_timeout);

    // axum's `accept` retries on aborted connections and on a lack of file descriptors.
    while let Some((stream, address)) = shutdown
        .run_until_cancelled(Listener::accept(&mut listener))
        .await
    {
        let router = router.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(address));
            let router = router.borrow().clone();
            router.oneshot(request)
        });
        let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "Connection failed");
            }
        });
    }
    drop(listener);
    connections.shutdown().await;
}
