//! Death of a process before and after each write of a session: a browser that never saw the response signs in, goes on or
//! signs out as if it had been lost on the way, and no session outlives its sign-out.

use std::time::Duration;

use bson::{DateTime, doc};
use dezky_shared::platform::clock;
use dezky_sim::{
    callers::Caller,
    proxy::{Death, Proxy, is_command},
};
use http::StatusCode;
use tokio::time::sleep;

use super::browser::{Browser, Page, app};
use crate::app::TestApp;

const DEATHS: [Death; 2] = [Death::BeforeRequest, Death::AfterRequest];

/// Waits until the process is dead. The browser receives no response.
async fn dies(proxy: &Proxy, request: impl Future<Output = Page>) {
    let dead = async {
        while !proxy.is_cut() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        page = request => assert!(proxy.is_cut(), "{page:?}"),
        () = dead => {}
    }
}

/// The browser in front of a process that dies at this command on the sessions.
async fn dying<'a>(
    app: &TestApp,
    proxy: &Proxy,
    browser: &Browser<'a>,
    (death, command): (Death, &str),
) -> Browser<'a> {
    let process = app.process_behind(proxy).await;
    proxy.die_at(death, is_command(command, "console_sessions", ""));
    browser.through(&process)
}

#[tokio::test]
async fn an_operator_signs_in_again_whenever_the_process_died_before_the_cookie_was_set() {
    for (death, left) in DEATHS.into_iter().zip([0, 1]) {
        let app = app().await;
        let mut browser = Browser::new(&app);
        let answer = browser.answer_of_issuer(Caller::Operator, "/console").await;
        let proxy = app.proxy().await;
        let mut first = dying(&app, &proxy, &browser, (death, "insert")).await;

        dies(&proxy, first.get(&answer)).await;
        let again = browser.get(&answer).await;
        let sessions = app.count("console_sessions").await;
        let signed_in = browser.sign_in(Caller::Operator, "/console").await;
        let page = browser.get("/console").await;

        // The issuer redeems a code once.
        assert_eq!(
            again.status,
            StatusCode::UNAUTHORIZED,
            "{death:?} {again:?}"
        );
        // No browser has the id of a session that was left: it ends by itself.
        assert_eq!(sessions, left, "{death:?}");
        assert_eq!(signed_in.status, StatusCode::SEE_OTHER, "{death:?}");
        assert_eq!(page.status, StatusCode::OK, "{death:?} {page:?}");
        assert_eq!(app.count("console_sessions").await, left + 1, "{death:?}");
    }
}

#[tokio::test]
async fn a_new_sign_in_ends_the_session_before_it_whenever_the_process_dies() {
    for death in DEATHS {
        let app = app().await;
        let mut browser = Browser::signed_in(&app, Caller::Operator).await;
        let mut thief = browser.clone();
        let answer = browser.answer_of_issuer(Caller::Operator, "/console").await;
        let proxy = app.proxy().await;
        let mut first = dying(&app, &proxy, &browser, (death, "findAndModify")).await;

        dies(&proxy, first.get(&answer)).await;
        let signed_in = browser.sign_in(Caller::Operator, "/console").await;

        assert_eq!(signed_in.status, StatusCode::SEE_OTHER, "{death:?}");
        assert_eq!(browser.get("/console").await.status, StatusCode::OK);
        let stolen = thief.get("/console").await;
        assert_eq!(stolen.status, StatusCode::SEE_OTHER, "{death:?}");
        assert_eq!(app.count("console_sessions").await, 1, "{death:?}");
    }
}

#[tokio::test]
async fn a_sign_out_that_is_repeated_leaves_no_session_whenever_the_process_dies() {
    let answers = [StatusCode::SEE_OTHER, StatusCode::UNAUTHORIZED];
    for (death, answer) in DEATHS.into_iter().zip(answers) {
        let app = app().await;
        let mut browser = Browser::signed_in(&app, Caller::Operator).await;
        let page = browser.get("/console").await;
        let proxy = app.proxy().await;
        let mut first = dying(&app, &proxy, &browser, (death, "findAndModify")).await;

        dies(&proxy, first.submit(&page, "/console/sign-out", &[])).await;
        let again = browser.submit(&page, "/console/sign-out", &[]).await;
        let after = browser.get("/console").await;

        assert_eq!(again.status, answer, "{death:?} {again:?}");
        assert_eq!(app.count("console_sessions").await, 0, "{death:?}");
        assert_eq!(after.status, StatusCode::SEE_OTHER, "{death:?}");
    }
}

#[tokio::test]
async fn a_session_goes_on_whenever_the_process_dies_as_it_is_prolonged() {
    for death in DEATHS {
        let app = app().await;
        let mut browser = Browser::signed_in(&app, Caller::Operator).await;
        let now: DateTime = app.state.store.now();
        let seen_at = clock::earlier(now, Duration::from_mins(2));
        app.set("console_sessions", doc! {}, doc! { "seenAt": seen_at })
            .await;
        let proxy = app.proxy().await;
        let mut first = dying(&app, &proxy, &browser, (death, "update")).await;

        dies(&proxy, first.get("/console")).await;
        let page = browser.get("/console").await;

        assert_eq!(page.status, StatusCode::OK, "{death:?} {page:?}");
        let session = app.document("console_sessions", doc! {}).await;
        assert!(*session.get_datetime("seenAt").unwrap() >= now, "{death:?}");
    }
}
