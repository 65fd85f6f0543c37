//! The audit trail as a file, and its verification.

use bson::doc;
use dezky_sim::callers::Caller;
use http::StatusCode;

use super::browser::{Browser, app};
use crate::audit::{seal, tamper};

#[tokio::test]
async fn the_events_that_match_are_downloaded_as_a_file_after_the_sign_in() {
    let app = app().await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;
    let list = browser.get("/console/audit?action=tenant.create").await;
    let path = "/console/audit.csv?action=tenant.create";

    let file = browser.get(path).await;
    let unknown = browser.get("/console/audit.csv?tenant=missing").await;
    let stranger = Browser::new(&app).get(path).await;

    assert!(
        list.text.contains(&format!("href=\"{path}\"")),
        "{}",
        list.text
    );
    assert_eq!(file.status, StatusCode::OK, "{file:?}");
    let media_type = file.headers["content-type"].to_str().unwrap();
    assert!(media_type.starts_with("text/csv"), "{media_type}");
    let disposition = file.headers["content-disposition"].to_str().unwrap();
    assert!(disposition.starts_with("attachment"), "{disposition}");
    let lines: Vec<&str> = file.text.trim_end().split("\r\n").collect();
    assert_eq!(lines.len(), 2, "a heading and one event: {}", file.text);
    assert!(lines[1].contains("\"tenant.create\""), "{}", file.text);
    assert!(unknown.status.is_client_error(), "{unknown:?}");
    assert_eq!(stranger.status, StatusCode::SEE_OTHER);
    assert!(!stranger.text.contains("tenant.create"));
}

#[tokio::test]
async fn a_trail_is_verified_and_a_changed_event_is_named() {
    let app = app().await;
    let demo = app.tenant("demo").await.id;
    seal(&app, Some(demo)).await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;
    let path = "/console/audit/verify?tenant=demo";

    let platform = browser.get("/console/audit/verify").await;
    let intact = browser.get(path).await;
    tamper(&app, 1, doc! { "after": { "name": "Other" } }).await;
    let changed = browser.get(path).await;
    let missing = browser.get("/console/audit/verify?tenant=missing").await;

    assert_eq!(platform.status, StatusCode::OK, "{platform:?}");
    assert!(
        intact.text.contains("The trail is intact"),
        "{}",
        intact.text
    );
    assert!(intact.text.contains("href=\"/console/audit?tenant=demo\""));
    // It is not verified again every few seconds.
    assert!(!intact.text.contains("live.js"), "{}", intact.text);
    assert!(changed.text.contains("1 problem found"), "{}", changed.text);
    assert!(changed.text.contains("changed"), "{}", changed.text);
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
}
