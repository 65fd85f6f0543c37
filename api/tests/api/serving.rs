//! Serving on a real socket: startup, idle connections and graceful shutdown.

mod unread_responses;

use std::{net::SocketAddr, time::Duration};

use axum::{Router, routing::get};
use dezky_api::{
    config::{ServerConfig, TrustedProxies},
    serve::{listen, serve},
    startup_router,
};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::app::TestApp;

/// Timeout that only a hang exceeds.
const LONG: Duration = Duration::from_secs(20);

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const CLOSING: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

fn limits(header_timeout: Duration) -> ServerConfig {
    ServerConfig {
        max_connections: 1_000,
        max_connections_per_address: 0,
        header_timeout,
        write_timeout: LONG,
        response_memory: 256 * 1024 * 1024,
        response_timeout: LONG,
        trusted_proxies: TrustedProxies::default(),
    }
}

fn ok() -> Router {
    Router::new().route("/", get(async || axum::Json("ok")))
}

struct Served {
    address: SocketAddr,
    routers: watch::Sender<Router>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Served {
    fn start(router: Router, header_timeout: Duration) -> Self {
        Self::start_with(router, limits(header_timeout))
    }

    fn start_with(router: Router, config: ServerConfig) -> Self {
        let listener = listen(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let (routers, router) = watch::channel(router);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(listener, router, config, shutdown.clone()));
        Self {
            address,
            routers,
            shutdown,
            task,
        }
    }

    async fn get(&self, path: &str) -> (StatusCode, HeaderMap, Value) {
        let url = format!("http://{}{path}", self.address);
        let response = reqwest::get(url).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        (status, headers, response.json().await.unwrap())
    }
}

#[tokio::test]
async fn only_health_is_served_during_startup() {
    let app = TestApp::start().await;
    let served = Served::start(startup_router(&app.config), LONG);

    let (alive, _, health) = served.get("/healthz").await;
    let (ready, _, readiness) = served.get("/readyz").await;
    let (other, headers, problem) = served.get("/tenants").await;
    served
        .routers
        .send_modify(|router| *router = app.router.clone());
    let (ready_now, _, _) = served.get("/readyz").await;
    let (signed_out, _, _) = served.get("/tenants").await;

    assert_eq!((alive.as_u16(), &health["status"]), (200, &"ok".into()));
    assert_eq!(
        (ready.as_u16(), &readiness["status"]),
        (503, &"unready".into())
    );
    assert_eq!(
        (other.as_u16(), &problem["code"]),
        (503, &"starting".into())
    );
    assert_eq!(headers["retry-after"], "5");
    assert_eq!(headers["content-type"], "application/problem+json");
    assert_eq!((ready_now.as_u16(), signed_out.as_u16()), (200, 401));
}

#[tokio::test]
async fn connections_with_an_incomplete_request_head_are_closed() {
    let served = Served::start(Router::new(), Duration::from_millis(100));

    for head in [
        "",
        "GET /healthz HTTP/1.1\r\nhost: a",
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        let mut connection = TcpStream::connect(served.address).await.unwrap();
        connection.write_all(head.as_bytes()).await.unwrap();

        let mut received = Vec::new();
        let closed = timeout(LONG, connection.read_to_end(&mut received)).await;

        assert!(closed.is_ok(), "{head:?}");
    }
}

#[tokio::test]
async fn in_flight_requests_complete_before_shutdown() {
    let (began, began_seen) = watch::channel(false);
    let finish = CancellationToken::new();
    let slow = {
        let finish = finish.clone();
        get(async move || {
            began.send_replace(true);
            finish.cancelled().await;
            "done"
        })
    };
    let served = Served::start(Router::new().route("/", slow), LONG);
    let url = format!("http://{}/", served.address);
    let reply = tokio::spawn(async move { reqwest::get(url).await.unwrap().text().await.unwrap() });
    began_seen.clone().wait_for(|began| *began).await.unwrap();

    served.shutdown.cancel();
    while TcpStream::connect(served.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    finish.cancel();

    assert_eq!(reply.await.unwrap(), "done");
    timeout(LONG, served.task).await.unwrap().unwrap();
}

/// Reads until the connection is closed.
async fn read_all(connection: &mut TcpStream) -> String {
    let mut received = Vec::new();
    // A reset after the response counts as a close.
    let _ = timeout(LONG, connection.read_to_end(&mut received))
        .await
        .unwrap();
    String::from_utf8(received).unwrap()
}

/// Sends raw bytes on a new connection.
async fn send(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(bytes).await.unwrap();
    connection
}

#[tokio::test]
async fn excess_connections_get_503_and_a_closed_one_makes_room() {
    for change in [
        |config: &mut ServerConfig| config.max_connections = 2,
        |config: &mut ServerConfig| config.max_connections_per_address = 2,
    ] {
        let mut config = limits(LONG);
        change(&mut config);
        let served = Served::start_with(ok(), config);
        let open = || send(served.address, REQUEST);
        let mut held = [open().await, open().await];
        for connection in &mut held {
            connection.read_exact(&mut [0; 15]).await.unwrap();
        }

        let refused = read_all(&mut open().await).await;
        drop(held);
        let accepted = async {
            let open = async || read_all(&mut send(served.address, CLOSING).await).await;
            while !open().await.starts_with("HTTP/1.1 200 ") {}
        };
        timeout(LONG, accepted).await.unwrap();

        assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
        assert!(
            refused.contains("\"code\":\"too_many_connections\""),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn trusted_proxies_have_no_connection_limit_by_address() {
    let mut config = limits(LONG);
    config.max_connections_per_address = 1;
    config.trusted_proxies = TrustedProxies::new(&["127.0.0.1"]).unwrap();
    let served = Served::start_with(ok(), config);

    let mut held = Vec::new();
    for _ in 0..3 {
        let mut connection = send(served.address, REQUEST).await;
        let mut status = [0; 15];
        connection.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200 OK");
        held.push(connection);
    }
}

#[tokio::test]
async fn a_head_of_more_than_64_kib_is_431() {
    let served = Served::start(ok(), LONG);
    let head = |size| {
        format!(
            "GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\nconnection: close\r\n\r\n",
            "x".repeat(size)
        )
    };

    let large = read_all(&mut send(served.address, head(60_000).as_bytes()).await).await;
    let too_large = read_all(&mut send(served.address, head(66_000).as_bytes()).await).await;

    assert!(large.starts_with("HTTP/1.1 200 "), "{large}");
    assert!(too_large.starts_with("HTTP/1.1 431 "), "{too_large}");
}

#[tokio::test]
async fn a_client_that_does_not_read_its_response_is_disconnected() {
    let (dropped, dropped_seen) = watch::channel(false);
    let guard = std::sync::Arc::new(dropped);
    let large = get(async move || {
        let guard = guard.clone();
        let chunks = futures::stream::repeat_with(move || {
            let _open = &guard;
            Ok::<_, std::convert::Infallible>(vec![0_u8; 1 << 20])
        });
        axum::body::Body::from_stream(chunks)
    });
    let mut config = limits(LONG);
    config.write_timeout = Duration::from_millis(100);
    let served = Served::start_with(Router::new().route("/", large), config);

    let mut connection = send(served.address, REQUEST).await;
    connection.read_exact(&mut [0; 15]).await.unwrap();
    served.routers.send_modify(|router| *router = Router::new());
    let mut dropped_seen = dropped_seen;
    let closed = timeout(LONG, async {
        while dropped_seen.changed().await.is_ok() {}
    })
    .await;

    assert!(closed.is_ok(), "the response is still held");
    drop(connection);
}

#[tokio::test]
async fn a_refused_request_keeps_its_connection_unless_its_body_is_large() {
    let served = Served::start(Router::new(), LONG);
    let post = |size: usize| {
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n");
        [head.as_bytes(), &vec![b'x'; size]].concat()
    };

    let small = [post(10_000), post(0), CLOSING.to_vec()].concat();
    let small = read_all(&mut send(served.address, &small).await).await;
    let large = read_all(&mut send(served.address, &post(1_000_000)[..1_000]).await).await;

    assert_eq!(small.matches("HTTP/1.1 404 ").count(), 3, "{small}");
    assert_eq!(small.matches("connection: close").count(), 1, "{small}");
    assert!(large.contains("connection: close"), "{large}");
}

#[tokio::test]
async fn a_refused_client_that_still_sends_its_body_is_not_reset() {
    let served = Served::start(Router::new(), LONG);
    let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n";
    let mut client = send(served.address, head).await;
    let mut response = vec![0; 15];
    client.read_exact(&mut response).await.unwrap();

    let sent = client.write_all(&vec![b'x'; 1_000_000]).await;
    let rest = timeout(LONG, client.read_to_end(&mut response)).await;

    assert!(sent.is_ok(), "{sent:?}");
    assert!(rest.unwrap().is_ok());
    let response = String::from_utf8(response).unwrap();
    assert!(response.starts_with("HTTP/1.1 404 "), "{response}");
    assert!(response.contains("connection: close"), "{response}");
}

#[tokio::test]
async fn a_client_that_is_disconnected_has_a_second_to_stop_sending() {
    let served = Served::start(ok(), LONG);
    let mut client = send(served.address, CLOSING).await;
    let mut response = Vec::new();
    timeout(LONG, client.read_to_end(&mut response))
        .await
        .unwrap()
        .unwrap();

    let reset = async { while client.write_all(b"x").await.is_ok() {} };

    timeout(LONG, reset).await.unwrap();
}

#[tokio::test]
async fn a_response_has_a_date() {
    let served = Served::start(ok(), LONG);

    let response = read_all(&mut send(served.address, CLOSING).await).await;

    let date = response
        .lines()
        .find_map(|line| line.strip_prefix("date: "))
        .unwrap();
    let date = jiff::fmt::rfc2822::parse(date).unwrap().timestamp();
    let age = jiff::Timestamp::now().as_second() - date.as_second();
    assert!((0..60).contains(&age), "{age}");
}
