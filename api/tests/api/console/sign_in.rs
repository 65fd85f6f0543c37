//! Sign-in, sessions and sign-out.

use bson::doc;
use dezky_sim::callers::Caller;
use http::StatusCode;

use super::browser::{Browser, app};
use crate::app::TestApp;

/// Name of the session's cookie.
const SESSION: &str = "__Host-dezky_console";

#[tokio::test]
async fn an_operator_signs_in_works_and_signs_out_here_and_at_the_issuer() {
    let app = app().await;
    let mut browser = Browser::new(&app);

    let stranger = browser.get("/console/jobs?state=discarded").await;
    assert_eq!(stranger.status, StatusCode::SEE_OTHER);
    let return_to = "/console/sign-in?return_to=%2Fconsole%2Fjobs%3Fstate%3Ddiscarded";
    assert_eq!(stranger.location(), return_to);

    let signed_in = browser.sign_in(Caller::Operator, "/console/jobs").await;
    assert_eq!(signed_in.location(), "/console/jobs");
    let cookies = signed_in.cookies();
    assert!(cookies[0].starts_with(SESSION), "{cookies:?}");
    assert!(
        cookies[0].ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=28800; Secure"),
        "{cookies:?}"
    );
    assert_eq!(browser.cookies.len(), 1, "the attempt's cookie is removed");
    let stored = app.document("console_sessions", doc! {}).await;
    let id = &browser.cookies[SESSION];
    assert!(!format!("{stored:?}").contains(id.as_str()));

    let page = browser.get("/console").await;
    assert_eq!(page.status, StatusCode::OK, "{page:?}");
    assert!(page.text.contains("Demo operator (admin)"), "{}", page.text);
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert!(policy.ends_with("frame-ancestors 'none'"), "{policy}");
    assert_eq!(page.headers["cache-control"], "no-store");

    let event = app.audit_event("console.signIn").await;
    let actor = event.get_document("actor").unwrap();
    assert_eq!(actor.get_str("name").unwrap(), "Demo operator");

    let mut thief = browser.clone();
    let out = browser.submit(&page, "/console/sign-out", &[]).await;
    let issuer = app.issuer.url("dezky-operator");
    assert!(out.location().starts_with(&format!("{issuer}end-session/")));
    assert!(out.location().contains("id_token_hint="));
    app.audit_event("console.signOut").await;
    assert!(browser.cookies.is_empty());
    assert_eq!(app.count("console_sessions").await, 0);
    let stolen = thief.get("/console").await;
    assert_eq!(stolen.status, StatusCode::SEE_OTHER);
    let stolen = thief.submit(&page, "/console/sign-out", &[]).await;
    assert_eq!(stolen.status, StatusCode::UNAUTHORIZED);
    assert!(stolen.text.contains("Sign in"), "{}", stolen.text);
}

#[tokio::test]
async fn an_answer_of_the_issuer_is_accepted_once_and_by_the_browser_that_asked() {
    let app = app().await;
    let mut browser = Browser::new(&app);

    let answer = browser.answer_of_issuer(Caller::Operator, "/console").await;
    let other = Browser::new(&app).get(&answer).await;
    let begun = browser.cookies.clone();
    // An id that was planted before the sign-in does not become the session's.
    browser
        .cookies
        .insert(SESSION.to_owned(), "planted".to_owned());
    let first = browser.get(&answer).await;
    let session = browser.cookies[SESSION].clone();
    browser.cookies.extend(begun);
    let again = browser.get(&answer).await;
    let mut mixed_up = Browser::new(&app);
    let elsewhere = mixed_up
        .answer_of_issuer(Caller::Operator, "/console")
        .await;
    let elsewhere = elsewhere.replace("iss=", "iss=https%3A%2F%2Fevil.test%2F&was=");
    let elsewhere = mixed_up.get(&elsewhere).await;

    assert_eq!(other.status, StatusCode::UNAUTHORIZED);
    assert_eq!(first.status, StatusCode::SEE_OTHER);
    assert_ne!(session, "planted");
    assert_eq!(again.status, StatusCode::UNAUTHORIZED, "{again:?}");
    assert_eq!(elsewhere.status, StatusCode::UNAUTHORIZED);
    let renewed = Browser::signed_in(&app, Caller::Operator).await;
    assert_ne!(renewed.cookies[SESSION], session);
}

#[tokio::test]
async fn only_operators_have_a_session_and_a_revoked_one_loses_it() {
    let app = app().await;
    let refused = Browser::new(&app)
        .sign_in(Caller::OperatorWithoutFlag, "/console")
        .await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.cookies().is_empty());

    let mut browser = Browser::signed_in(&app, Caller::Operator).await;
    let page = browser.get("/console/tenants/demo").await;
    let id = app.user(Caller::Operator).await.id;
    app.set_user(id, doc! { "platformAdmin": false }).await;
    let action = browser
        .submit(&page, "/console/tenants/demo/reconcile", &[])
        .await;
    assert_eq!(action.status, StatusCode::FORBIDDEN);
    assert_eq!(app.count("console_sessions").await, 0);
    let read = browser.get("/console/tenants").await;
    assert_eq!(read.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn an_idle_session_ends() {
    let app = app().await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;
    let past = bson::DateTime::from_millis(1);

    app.set("console_sessions", doc! {}, doc! { "expireAt": past })
        .await;

    let page = browser.get("/console").await;
    assert_eq!(page.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn no_sign_in_leads_to_another_origin() {
    let app = app().await;

    for target in [
        "https://evil.test/",
        "//evil.test",
        "/console/..//evil.test",
        "/console.evil.test",
    ] {
        let signed_in = Browser::new(&app).sign_in(Caller::Operator, target).await;
        assert_eq!(signed_in.location(), "/console", "{target}");
    }
}

#[tokio::test]
async fn the_console_is_off_without_an_address_and_not_in_the_document() {
    let app = TestApp::with_operator().await;

    let page = Browser::new(&app).get("/console").await;
    let document = app.openapi().await;

    assert_eq!(page.status, StatusCode::NOT_FOUND);
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.keys().all(|path| !path.starts_with("/console")));
}
