//! HTTP/1 server with a replaceable router, and limits for clients that are slow, many or large.

mod connections;
mod lingering_close;
mod quota;
mod response_memory;
mod slow_reader;
mod unread_body;

use std::{io, net::SocketAddr, time::Duration};

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
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

pub(crate) use self::response_memory::{HeldMemory, ResponseMemory, charge_response};
use self::{
    connections::Connections, lingering_close::LingeringClose, quota::Quota,
    response_memory::Unsent, slow_reader::SlowReaderTimeout, unread_body::UnreadBody,
};
use crate::config::ServerConfig;

/// Maximum size of a request head, in bytes; a larger one is 431.
const HEAD_LIMIT: usize = 64 * 1024;
/// Number of callers whose unread responses exhaust the response memory: one may use this part of it.
const CALLERS_AT_LIMIT: usize = 8;
/// Send buffer of a connection in the kernel, in bytes: its contents are not limited by the response memory.
const SEND_BUFFER: u32 = 128 * 1024;
/// Maximum number of connections that wait to be accepted.
const BACKLOG: u32 = 1_024;
/// Timeout of reading a body that no handler reads, in order to keep the connection.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// A listener for [`serve`], whose connections have a bounded send buffer.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves each request with the current value of `router`. Returns once `shutdown` is cancelled and all requests in
/// flight have finished.
pub async fn serve(
    listener: TcpListener,
    router: watch::Receiver<Router>,
    config: ServerConfig,
    shutdown: CancellationToken,
) {
    serve_with_clock(listener, router, config, shutdown, Timestamp::now).await;
}

async fn serve_with_clock(
    mut listener: TcpListener,
    router: watch::Receiver<Router>,
    config: ServerConfig,
    shutdown: CancellationToken,
    clock: fn() -> Timestamp,
) {
    let limits = Connections::new(&config);
    let response_memory = Quota::new(
        config.response_memory,
        config.response_memory / CALLERS_AT_LIMIT,
    );
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
        let unsent = Unsent::new(config.response_timeout);
        let stream = SlowReaderTimeout::new(stream, config.write_timeout, unsent.clone());
        let (router, response_memory) = (router.clone(), response_memory.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            let extensions = request.extensions_mut();
            extensions.insert(ConnectInfo(address));
            extensions.insert(ResponseMemory::new(&response_memory, &unsent));
            let router = router.borrow().clone();
            respond(router, request, clock)
        });
        let connection = http.serve_connection(TokioIo::new(LingeringClose::new(stream)), service);
        let connection = connections.watch(connection);
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
async fn respond(
    router: Router,
    request: Request<Incoming>,
    clock: fn() -> Timestamp,
) -> Result<Response, hyper::Error> {
    let (request, unread) = UnreadBody::track(request);
    let mut response = match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let headers = response.headers_mut();
    if !unread.drain(DRAIN_TIMEOUT).await {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&clock());
    if let Some(date) = date.ok().and_then(|date| date.try_into().ok()) {
        headers.insert(header::DATE, date);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use dezky_shared::platform::tls::TrustRoots;

    use super::*;
    use crate::config::TrustedProxies;

    static SECONDS: AtomicI64 = AtomicI64::new(7_200);

    fn clock() -> Timestamp {
        Timestamp::from_second(SECONDS.load(Ordering::SeqCst)).unwrap()
    }

    #[tokio::test]
    async fn the_date_follows_a_clock_that_is_set_back() {
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (_routers, router) = watch::channel(Router::new());
        let config = ServerConfig {
            max_connections: 10,
            max_connections_per_address: 0,
            header_timeout: Duration::from_secs(20),
            write_timeout: Duration::from_secs(20),
            response_memory: 1024 * 1024,
            response_timeout: Duration::from_secs(20),
            trusted_proxies: TrustedProxies::default(),
        };
        let shutdown = CancellationToken::new();
        tokio::spawn(serve_with_clock(listener, router, config, shutdown, clock));
        let client = TrustRoots::default().client_builder().build().unwrap();
        let date = async || {
            let response = client.get(&url).send().await.unwrap();
            response.headers()[header::DATE].clone()
        };

        let before = date().await;
        SECONDS.store(3_600, Ordering::SeqCst);
        let after = date().await;

        assert_eq!(before, "Thu, 01 Jan 1970 02:00:00 GMT");
        assert_eq!(after, "Thu, 01 Jan 1970 01:00:00 GMT");
    }
}
