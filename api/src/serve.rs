//! Serving requests: from the process's first moment, and for no connection that says nothing.

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

/// Serves what `router` holds at the time of each request. Ends when `shutdown` is cancelled and the requests that
/// are under way by then have ended.
///
/// A connection is closed when the head of a request, the next one included, takes longer than `patience`.
pub async fn serve(
    mut listener: TcpListener,
    router: watch::Receiver<Router>,
    patience: Duration,
    shutdown: CancellationToken,
) {
    let connections = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience);

    // This `accept` outlives connections that broke off at once, and a want of file handles.
    while let Some((stream, address)) = shutdown
        .run_until_cancelled(Listener::accept(&mut listener))
        .await
    {
        let router = router.clone();
        let answer = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(address));
            let router = router.borrow().clone();
            router.oneshot(request)
        });
        let connection = connections.watch(http.serve_connection(TokioIo::new(stream), answer));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "A connection broke off");
            }
        });
    }
    drop(listener);
    connections.shutdown().await;
}
