//! Death of a process before and after each write of a session or a form: a browser that never saw the response goes on as
//! if it had been lost on the way, no session outlives its sign-out, and a form has one effect.

use std::time::Duration;

use bson::{DateTime, doc};
use dezky_shared::{id::JobOperationId, platform::clock};
use dezky_sim::{
    callers::Caller,
    proxy::{Death, Proxy, is_command, is_commit_after},
};
use futures::future::join_all;
use http::StatusCode;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::browser::{Browser, Page, app};
use crate::app::TestApp;

/// Time limit for the transaction of a dead process to end.
const DEADLINE: Duration = Duration::from_mins(1);

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

/// A write, by the way in which it kills its process.
type Kill = fn(&Proxy, Death);

/// Each write with each death.
fn rows<const N: usize>(writes: [Kill; N]) -> impl Iterator<Item = (usize, Kill, Death)> {
    let writes = writes.into_iter().enumerate();
    writes.flat_map(|(row, kill)| DEATHS.map(|death| (row, kill, death)))
}

/// Submits a form to a process that dies at a write, and again to one that lives, until MongoDB has ended the transaction of
/// the dead one.
async fn submitted_twice(
    app: &TestApp,
    browser: &Browser<'_>,
    (kill, death): (Kill, Death),
    (page, path, fields): (&Page, &str, &[(&str, &str)]),
) -> Page {
    let proxy = app.proxy().await;
    let process = app.process_behind(&proxy).await;
    kill(&proxy, death);
    let mut first = browser.through(&process);
    dies(&proxy, first.submit(page, path, fields)).await;
    let answered = async {
        loop {
            let answer = browser.clone().submit(page, path, fields).await;
            if answer.status != StatusCode::CONFLICT {
                return answer;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(DEADLINE, answered).await.unwrap()
}

/// Number of audit events of an action.
async fn recorded(app: &TestApp, action: &str) -> usize {
    let actions = app.actions().await.into_iter();
    actions.filter(|name| name == action).count()
}

#[tokio::test]
async fn every_sign_out_is_recorded_before_its_session_ends_whenever_the_process_dies() {
    let writes: [Kill; 2] = [
        |proxy, death| {
            proxy.die_at(
                death,
                is_command("insert", "audit_events", "console.signOut"),
            );
        },
        |proxy, death| {
            let begins = is_command("insert", "audit_events", "console.signOut");
            proxy.die_at(death, is_commit_after(begins));
        },
    ];
    let sign_outs = rows(writes).map(|(row, kill, death)| async move {
        let app = app().await;
        let browser = Browser::signed_in(&app, Caller::Operator).await;
        let page = browser.clone().get("/console").await;
        let form: (&Page, &str, &[(&str, &str)]) = (&page, "/console/sign-out", &[]);

        let out = submitted_twice(&app, &browser, (kill, death), form).await;
        let stolen = browser.clone().get("/console").await;

        // The first request ended no session, so that the repetition has one to end.
        assert_eq!(
            out.status,
            StatusCode::SEE_OTHER,
            "{row} {death:?}: {out:?}"
        );
        assert_eq!(app.count("console_sessions").await, 0, "{row} {death:?}");
        assert_eq!(stolen.status, StatusCode::SEE_OTHER, "{row} {death:?}");
        // An event that was committed is followed by that of the repetition.
        let committed = usize::from(row == 1 && death == Death::AfterRequest);
        let events = recorded(&app, "console.signOut").await;
        assert_eq!(events, 1 + committed, "{row} {death:?}");
    });
    join_all(sign_outs).await;
}

#[tokio::test]
async fn a_rule_is_added_once_whenever_the_process_dies() {
    let writes: [Kill; 3] = [
        |proxy, death| proxy.die_at(death, is_command("update", "flags", "")),
        |proxy, death| proxy.die_at(death, is_command("insert", "audit_events", "flag.update")),
        |proxy, death| {
            let begins = is_command("insert", "audit_events", "flag.update");
            proxy.die_at(death, is_commit_after(begins));
        },
    ];
    let additions = rows(writes).map(|(row, kill, death)| async move {
        let app = app().await;
        let flag = json!({ "key": "beta", "description": "Beta." });
        let created = app.operator().post("/flags", flag).await;
        assert_eq!(created.status, 201, "{created:?}");
        let browser = Browser::signed_in(&app, Caller::Operator).await;
        let page = browser.clone().get("/console/flags/beta").await;
        let fields = [
            ("value", "on"),
            ("tenants", "demo"),
            ("revision", page.hidden("revision")),
        ];
        let form: (&Page, &str, &[(&str, &str)]) = (&page, "/console/flags/beta/add-rule", &fields);

        let answer = submitted_twice(&app, &browser, (kill, death), form).await;

        // The page is of an earlier version of the flag than the one that was committed.
        let expected = if row == 2 && death == Death::AfterRequest {
            StatusCode::PRECONDITION_FAILED
        } else {
            StatusCode::SEE_OTHER
        };
        assert_eq!(answer.status, expected, "{row} {death:?}: {answer:?}");
        let stored = app.operator().get("/flags/beta").await;
        let demo = app.tenant("demo").await.id;
        let rules = json!([{ "tenants": [demo], "value": true }]);
        assert_eq!(stored.body["rules"], rules, "{row} {death:?}");
        assert_eq!(recorded(&app, "flag.update").await, 1, "{row} {death:?}");
    });
    join_all(additions).await;
}

#[tokio::test]
async fn a_bulk_dismissal_starts_once_whenever_the_process_dies() {
    let writes: [Kill; 3] = [
        |proxy, death| proxy.die_at(death, is_command("insert", "job_operations", "")),
        |proxy, death| proxy.die_at(death, is_command("insert", "job_operation_items", "")),
        |proxy, death| {
            let begins = is_command("insert", "job_operations", "");
            proxy.die_at(death, is_commit_after(begins));
        },
    ];
    let dismissals = rows(writes).map(|(row, kill, death)| async move {
        let app = app().await;
        let job = app.first_job().await;
        app.set_job(job, doc! { "state": "discarded" }).await;
        let browser = Browser::signed_in(&app, Caller::Operator).await;
        let list = browser.clone().get("/console/jobs?state=discarded").await;
        let path = "/console/jobs/matching";
        let selection = [("action", "dismiss"), ("state", "discarded")];
        let preview = browser.clone().submit(&list, path, &selection).await;
        let confirmed = [("expected", "1"), ("typed", "1"), ("rate", "10")];
        let fields = [&selection[..], &confirmed[..]].concat();
        let form: (&Page, &str, &[(&str, &str)]) = (&preview, path, &fields);

        let answer = submitted_twice(&app, &browser, (kill, death), form).await;

        let operation = app.document("job_operations", doc! {}).await;
        let id = operation.get("_id").cloned().unwrap();
        let id: JobOperationId = bson::deserialize_from_bson(id).unwrap();
        assert_eq!(
            answer.status,
            StatusCode::SEE_OTHER,
            "{row} {death:?}: {answer:?}"
        );
        assert_eq!(answer.location(), format!("/console/operations/{id}"));
        assert_eq!(app.count("job_operations").await, 1, "{row} {death:?}");
        assert_eq!(app.count("job_operation_items").await, 1, "{row} {death:?}");
        let kinds = app.kinds().await.into_iter();
        let started = kinds.filter(|kind| kind == "run_job_operation");
        assert_eq!(started.count(), 1, "{row} {death:?}");
        assert_eq!(
            recorded(&app, "jobOperation.create").await,
            1,
            "{row} {death:?}"
        );
    });
    join_all(dismissals).await;
}
