//! The scripts: one keeps an open page up to date, the other confirms actions in a dialog.

use bson::doc;
use dezky_sim::callers::Caller;
use http::StatusCode;

use super::browser::{Browser, app};

#[tokio::test]
async fn the_scripts_are_of_the_console_itself() {
    let app = app().await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;

    let page = browser.get("/console").await;

    assert_eq!(page.text.matches("<script").count(), 2);
    assert_eq!(
        page.text.matches(r#"role="status""#).count(),
        1,
        "one live region"
    );
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.contains("script-src 'self'; connect-src 'self';"),
        "{policy}"
    );
    for name in ["live", "confirm"] {
        let path = format!("/console/{name}.js");
        let script = browser.get(&path).await;
        let element = format!(r#"<script src="{path}" defer>"#);
        assert!(page.text.contains(&element), "{}", page.text);
        assert_eq!(script.status, StatusCode::OK);
        assert_eq!(
            script.headers["content-type"],
            "text/javascript; charset=utf-8"
        );
    }
}

#[tokio::test]
async fn a_page_that_only_keeps_itself_up_to_date_does_not_prolong_the_session() {
    let app = app().await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;
    let past = bson::DateTime::from_millis(1);
    app.set("console_sessions", doc! {}, doc! { "seenAt": past })
        .await;

    let updated = browser
        .get_with("/console", &[("x-console-live", "1")])
        .await;
    let before = app.document("console_sessions", doc! {}).await;
    browser.get("/console").await;
    let after = app.document("console_sessions", doc! {}).await;

    assert_eq!(updated.status, StatusCode::OK);
    assert_eq!(before.get_datetime("seenAt").unwrap(), &past);
    assert!(after.get_datetime("seenAt").unwrap() > &past);
}
