//! Export of an audit trail as CSV.

use std::time::Duration;

use bson::doc;
use dezky_shared::{audit::AuditEvent, platform::clock};
use dezky_sim::{callers::Caller, issuer::TokenSpec};
use http_body_util::BodyExt as _;
use tokio::time::sleep;

use super::{event, record};
use crate::app::TestApp;

const TRAIL: &str = "/tenants/demo/audit";

/// The app with `count` events of `demo` in addition to the two from its setup.
async fn with_events(count: i64, change: impl Fn(&mut AuditEvent)) -> TestApp {
    let app = TestApp::with_demo().await;
    let demo = Some(app.tenant("demo").await.id);
    let events = (0..count).map(|n| {
        let mut event = event(demo, n);
        change(&mut event);
        event
    });
    record(&app, &events.collect::<Vec<_>>()).await;
    app
}

async fn csv(app: &TestApp, path: &str, caller: Caller) -> String {
    let response = app
        .client(caller)
        .get(path)
        .header("accept", "text/csv")
        .open()
        .await;
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await.unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn an_export_contains_exactly_the_matching_events() {
    let app = with_events(1_234, |_| {}).await;

    let all = csv(&app, &format!("{TRAIL}?limit=1"), Caller::Owner).await;
    let some = csv(
        &app,
        &format!("{TRAIL}?q=ada&since=1970-01-01T00:00:01Z"),
        Caller::Owner,
    )
    .await;
    let none = csv(
        &app,
        &format!("{TRAIL}?action=tenant.restore"),
        Caller::Owner,
    )
    .await;

    let lines: Vec<&str> = all.split("\r\n").collect();
    assert_eq!(lines.len(), 1 + 2 + 1_234 + 1);
    assert_eq!(lines.last(), Some(&""));
    let fields: Vec<&str> = lines[5].split(',').collect();
    assert_eq!(fields.len(), 22);
    assert_eq!(fields[1], "\"1970-01-01T00:00:01.231Z\"");
    assert_eq!(
        &fields[3..13],
        [
            "tenant",
            "1",
            "Ada Ask",
            "ada@acme.test",
            "dezky-portal",
            "domain.update",
            "domain",
            "2",
            "acme.example",
            "done"
        ]
        .map(|field| format!("\"{field}\""))
    );
    assert_eq!(some.split("\r\n").count(), 1 + 234 + 1);
    assert_eq!(none, format!("{}\r\n", lines[0]));
    // Spreadsheets recognise UTF-8 by the byte order mark.
    assert!(none.starts_with("\u{feff}\"id\",\"at\",\"tenantId\",\"actorKind\","));
}

#[tokio::test]
async fn an_export_is_sent_in_chunks_of_at_most_64_kib() {
    let large = "x".repeat(200_000);
    let app = with_events(40, |event| event.after = doc! { "text": &large }).await;

    let request = app.owner().get(TRAIL).header("accept", "text/csv");
    let mut body = request.open().await.into_body();
    let mut sizes = Vec::new();
    let mut file = Vec::new();
    while let Some(frame) = body.frame().await {
        let chunk = frame.unwrap().into_data().unwrap();
        sizes.push(chunk.len());
        file.extend_from_slice(&chunk);
    }

    assert!(sizes.iter().all(|size| *size <= 64 * 1024), "{sizes:?}");
    let file = String::from_utf8(file).unwrap();
    assert_eq!(file.matches(&large).count(), 40);
    assert_eq!(file.split("\r\n").count(), 1 + 2 + 40 + 1);
}

#[tokio::test]
async fn an_export_is_an_attachment_that_varies_on_accept() {
    let app = TestApp::with_demo().await;

    let file = app
        .owner()
        .get(TRAIL)
        .header("accept", "application/xml, Text/CSV; q=0.9")
        .open()
        .await;
    let page = app.owner().get(TRAIL).header("accept", "*/*").open().await;

    let header = |name: &str| file.headers()[name].to_str().unwrap();
    assert!(header("content-type").starts_with("text/csv"));
    assert_eq!(
        header("content-disposition"),
        "attachment; filename=\"audit-demo.csv\""
    );
    assert_eq!(header("vary"), "accept");
    assert_eq!(page.headers()["content-type"], "application/json");
    assert_eq!(page.headers()["vary"], "accept");
}

#[tokio::test]
async fn the_format_follows_the_qualities_in_accept() {
    let app = TestApp::with_demo().await;

    for (accept, is_csv) in [
        ("text/csv", true),
        ("text/csv, */*", true),
        ("text/csv, application/json;q=0.5", true),
        ("text/csv; charset=utf-8; q=0.9, */*;q=0.1", true),
        ("application/json, text/csv;q=0.5", false),
        ("text/csv;q=0, */*", false),
        ("text/csv;q=0.2, */*;q=0.8", false),
        ("text/*", false),
        ("text/html, */*", false),
    ] {
        let reply = app.owner().get(TRAIL).header("accept", accept).open().await;

        let content_type = reply.headers()["content-type"].to_str().unwrap();
        assert_eq!(content_type.starts_with("text/csv"), is_csv, "{accept}");
    }
}

#[tokio::test]
async fn spreadsheet_formulas_are_escaped_in_an_export() {
    let app = with_events(1, |event| {
        event.actor.name = Some("=HYPERLINK(\"https://evil.test\",\"Invoice\")".to_owned());
        event.target.name = "-2+3".to_owned();
    })
    .await;

    let file = csv(&app, TRAIL, Caller::Owner).await;

    let name = "\"'=HYPERLINK(\"\"https://evil.test\"\",\"\"Invoice\"\")\"";
    assert!(file.contains(name), "{file}");
    assert!(file.contains(",\"'-2+3\","), "{file}");
}

#[tokio::test]
async fn exports_redact_operators_for_tenants() {
    let app = TestApp::with_demo().await;

    let tenants = csv(&app, TRAIL, Caller::Owner).await;
    let operators = csv(&app, "/audit", Caller::Operator).await;

    assert!(!tenants.contains("operator@demo.test"));
    assert!(tenants.contains(",\"Demo operator\","));
    assert!(operators.contains("operator@demo.test"));
}

#[tokio::test]
async fn a_failing_export_aborts_the_body() {
    let app = with_events(3_000, |_| {}).await;
    let response = app
        .owner()
        .get(TRAIL)
        .header("accept", "text/csv")
        .open()
        .await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();

    app.collection("audit_events").drop().await.unwrap();
    let rest = body.collect().await;

    assert!(rest.is_err());
}

#[tokio::test]
async fn concurrent_exports_per_caller_are_limited() {
    let app = with_events(3_000, |_| {}).await;
    let open = async || {
        app.owner()
            .get(TRAIL)
            .header("accept", "text/csv")
            .open()
            .await
    };
    let mut open_exports = Vec::new();
    for _ in 0..20 {
        open_exports.push(open().await);
    }

    let rejected = open().await;
    open_exports.pop();
    let after = open().await;

    assert_eq!(
        (rejected.status().as_u16(), after.status().as_u16()),
        (429, 200)
    );
}

#[tokio::test]
async fn an_export_ends_when_its_token_expires() {
    let app = with_events(3_000, |_| {}).await;
    // With the clock leeway, the token is valid for two more seconds.
    let now = clock::now().timestamp_millis() / 1_000;
    let client = app.client(&TokenSpec {
        issued_at: Some(now - 60),
        expires_in: 60 - 28,
        ..Caller::Owner.token()
    });
    let request = client.get(TRAIL);
    let response = request.header("accept", "text/csv").open().await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();

    sleep(Duration::from_secs(3)).await;
    let rest = body.collect().await;

    assert!(rest.is_err());
}

#[tokio::test]
async fn an_export_ends_when_read_access_is_revoked() {
    let app = with_events(3_000, |_| {}).await;
    let request = app.owner().get(TRAIL);
    let response = request.header("accept", "text/csv").open().await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();

    let owner = doc! { "_id": app.user(Caller::Owner).await.id };
    let nothing = doc! { "$set": { "memberships": [] } };
    let users = app.collection("users");
    users.update_one(owner, nothing).await.unwrap();
    // Permissions are rechecked every three seconds.
    sleep(Duration::from_secs(4)).await;
    let rest = body.collect().await;

    assert!(rest.is_err());
}
