//! Limits on the responses that clients have not read yet.

use bson::doc;
use dezky_sim::callers::Caller;
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};

use super::{LONG, Served, limits, read_all, send};
use crate::{
    app::TestApp,
    audit::{event, record},
};

/// A page of about 1 MiB.
const LARGE: &str = "/tenants/demo/audit?limit=100";

/// The app, in which one caller may have 1 MiB of unread responses, and all together 8 MiB.
async fn served() -> (TestApp, Served) {
    let app = TestApp::with_demo().await;
    let demo = Some(app.tenant("demo").await.id);
    let events: Vec<_> = (0..100)
        .map(|n| {
            let mut event = event(demo, n);
            event.after = doc! { "text": "x".repeat(12_000) };
            event
        })
        .collect();
    record(&app, &events).await;
    let mut config = limits(LONG);
    config.response_memory = 8 << 20;
    let served = Served::start_with(app.router.clone(), config);
    (app, served)
}

/// Sends a request on a new connection.
async fn request(app: &TestApp, served: &Served, caller: Caller, line: &str) -> TcpStream {
    let token = app.token(&caller.token());
    let head = format!(
        "{line} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: 0\r\n\r\n"
    );
    send(served.address, head.as_bytes()).await
}

async fn read(app: &TestApp, served: &Served, caller: Caller, line: &str) -> String {
    read_all(&mut request(app, served, caller, line).await).await
}

#[tokio::test]
async fn a_caller_with_too_many_unread_responses_gets_503_until_they_are_read() {
    let (app, served) = served().await;
    let large = format!("GET {LARGE}");
    let get = async |caller| read(&app, &served, caller, &large).await;
    let mut unread = request(&app, &served, Caller::Owner, &large).await;
    unread.read_exact(&mut [0; 15]).await.unwrap();

    let refused = get(Caller::Owner).await;
    let small = read(&app, &served, Caller::Owner, "GET /users/me").await;
    let write = "POST /tenants/demo/reconcile";
    let write = read(&app, &served, Caller::Owner, write).await;
    let other = get(Caller::Operator).await;
    read_all(&mut unread).await;
    let accepted = async { while !get(Caller::Owner).await.starts_with("HTTP/1.1 200 ") {} };
    timeout(LONG, accepted).await.unwrap();

    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(
        refused.contains("\"code\":\"too_many_responses\""),
        "{refused}"
    );
    assert!(refused.contains("retry-after: 10"), "{refused}");
    assert!(small.starts_with("HTTP/1.1 200 "), "{small}");
    assert!(write.starts_with("HTTP/1.1 202 "), "{write}");
    assert!(other.starts_with("HTTP/1.1 200 "), "{other}");
}

#[tokio::test]
async fn a_closed_connection_releases_its_unread_responses() {
    let (app, served) = served().await;
    let large = format!("GET {LARGE}");
    let mut unread = request(&app, &served, Caller::Owner, &large).await;
    unread.read_exact(&mut [0; 15]).await.unwrap();

    drop(unread);
    let accepted = async {
        let get = async || read(&app, &served, Caller::Owner, &large).await;
        while !get().await.starts_with("HTTP/1.1 200 ") {}
    };

    timeout(LONG, accepted).await.unwrap();
}
