//! Serving on a real socket: startup, idle connections and graceful shutdown.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, routing::get};
use dezky_api::{serve::serve, startup_router};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::app::TestApp;

/// Timeout that only a hang exceeds.
const LONG: Duration = Duration::from_secs(20);

struct Served {
    address: SocketAddr,
    routers: watch::Sender<Router>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Served {
    async fn start(router: Router, patience: Duration) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (routers, router) = watch::channel(router);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(listener, router, patience, shutdown.clone()));
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
    let served = Served::start(startup_router(&app.config), LONG).await;

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
    let served = Served::start(Router::new(), Duration::from_millis(100)).await;

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
    let served = Served::start(Router::new().route("/", slow), LONG).await;
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
