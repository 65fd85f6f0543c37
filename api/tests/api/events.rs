//! Streams of events.

use std::time::Duration;

use axum::{body::BodyDataStream, response::Response};
use bson::doc;
use dezky_shared::{id::JobId, platform::clock};
use dezky_sim::{callers::Caller, issuer::TokenSpec};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::app::TestApp;

/// How long what should be prompt may take on a busy machine.
const PROMPT: Duration = Duration::from_secs(10);

/// A stream of events, as a client reads it.
struct Events {
    body: BodyDataStream,
    text: String,
}

/// One event.
#[derive(Debug, PartialEq)]
struct Event {
    name: String,
    id: String,
    data: Value,
}

impl Events {
    fn of(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            body: response.into_body().into_data_stream(),
            text: String::new(),
        }
    }

    async fn open(app: &TestApp, path: &str, caller: Caller) -> Self {
        Self::of(app.get(path).by(caller).open().await)
    }

    /// The next event, or `None` when the stream ends.
    async fn next(&mut self) -> Option<Event> {
        timeout(PROMPT, self.read()).await.unwrap()
    }

    async fn read(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (parse(event), rest.to_owned());
                self.text = rest;
                if event.is_some() {
                    return event;
                }
                continue;
            }
            let bytes = self.body.next().await?.unwrap();
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }
}

/// `None` for a comment.
fn parse(text: &str) -> Option<Event> {
    let field = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(": "));
        lines.find_map(|(field, value)| (field == name).then_some(value))
    };
    Some(Event {
        name: field("event")?.to_owned(),
        id: field("id").unwrap().to_owned(),
        data: serde_json::from_str(field("data").unwrap()).unwrap(),
    })
}

async fn only_job(app: &TestApp) -> JobId {
    app.jobs().await[0].id
}

#[tokio::test]
async fn a_job_is_told_as_it_is_then_as_it_changes_until_it_is_over() {
    let app = TestApp::with_demo().await;
    let id = only_job(&app).await;
    let path = format!("/jobs/{id}");
    let mut events = Events::open(&app, &format!("{path}/events"), Caller::Member).await;

    let first = events.next().await.unwrap();
    app.set_job(id, doc! { "state": "running" }).await;
    let second = events.next().await.unwrap();
    app.set_job(id, doc! { "state": "completed" }).await;
    let third = events.next().await.unwrap();
    let end = events.next().await;

    let told = [&first, &second, &third].map(|event| {
        assert_eq!(event.name, "job");
        assert_eq!(event.id, event.data["revision"].to_string());
        event.data["state"].as_str().unwrap().to_owned()
    });
    assert_eq!(told, ["available", "running", "completed"]);
    assert_eq!(end, None);
    let shown = app.get(&path).by(Caller::Member).send().await;
    assert_eq!(third.data, shown.body);
}

#[tokio::test]
async fn a_tenant_is_told_as_get_shows_it() {
    let app = TestApp::with_demo().await;
    let mut events = Events::open(&app, "/tenants/demo/events", Caller::Member).await;

    let first = events.next().await.unwrap();
    app.set_tenant("demo", doc! { "authentikGroupId": "g" })
        .await;
    let second = events.next().await.unwrap();

    let shown = app.get("/tenants/demo").by(Caller::Member).send().await;
    assert_eq!(
        (first.name.as_str(), second.name.as_str()),
        ("tenant", "tenant")
    );
    assert_eq!(second.data, shown.body);
    assert_eq!(second.id, app.tenant("demo").await.revision.to_string());
    assert_ne!(first.id, second.id);
}

#[tokio::test]
async fn a_client_that_comes_back_is_told_only_what_is_news() {
    let app = TestApp::with_demo().await;
    let id = only_job(&app).await;
    let path = format!("/jobs/{id}/events");
    let resume = async |last: &str| {
        app.get(&path)
            .by(Caller::Member)
            .header("last-event-id", last)
            .open()
            .await
    };

    let mut knows_all = Events::of(resume("1").await);
    app.set_job(id, doc! { "state": "running" }).await;
    let news = knows_all.next().await.unwrap();
    let behind = Events::of(resume("1").await).next().await.unwrap();
    let from_elsewhere = Events::of(resume("99").await).next().await.unwrap();
    let nonsense = Events::of(resume("x").await).next().await.unwrap();
    app.set_job(id, doc! { "state": "discarded" }).await;
    let over = Events::of(resume("2").await).next().await.unwrap();
    let nothing_left = resume("3").await.status();

    for event in [news, behind, from_elsewhere, nonsense] {
        assert_eq!(
            (event.id.as_str(), &event.data["state"]),
            ("2", &json!("running"))
        );
    }
    assert_eq!(over.id, "3");
    assert_eq!(nothing_left, 204);
}

#[tokio::test]
async fn a_client_that_is_slow_is_told_only_how_things_stand() {
    let app = TestApp::with_demo().await;
    let mut events = Events::open(&app, "/tenants/demo/events", Caller::Member).await;
    let first = events.next().await.unwrap();

    for n in 0..20 {
        app.set_tenant("demo", doc! { "industry": n.to_string() })
            .await;
    }
    let next = events.next().await.unwrap();

    let revision = app.tenant("demo").await.revision;
    assert_eq!(next.id, revision.to_string());
    assert_eq!(revision - first.id.parse::<i64>().unwrap(), 20);
}

#[tokio::test]
async fn a_right_that_is_taken_away_ends_the_stream_though_nothing_else_changes() {
    let app = TestApp::with_demo().await;
    let id = only_job(&app).await;
    for path in [
        "/tenants/demo/events".to_owned(),
        format!("/jobs/{id}/events"),
    ] {
        let set_role = async |role: Value| {
            let member = app.user(Caller::Member).await.id;
            app.patch(&format!("/users/{member}"))
                .by(Caller::Operator)
                .json(&json!({ "tenantRoles": { "demo": role } }))
                .send()
                .await
        };
        set_role(json!("member")).await;
        let mut events = Events::open(&app, &path, Caller::Member).await;
        events.next().await.unwrap();

        let revoked = set_role(Value::Null).await;
        let end = events.next().await;

        assert_eq!(revoked.status, 200, "{revoked:?}");
        assert_eq!(end, None, "{path}");
    }
}

#[tokio::test]
async fn a_caller_who_is_deleted_is_told_nothing_more() {
    let app = TestApp::with_demo().await;
    let mut events = Events::open(&app, "/tenants/demo/events", Caller::Member).await;
    events.next().await.unwrap();

    let member = app.user(Caller::Member).await.id;
    let deleted = app
        .delete(&format!("/users/{member}"))
        .by(Caller::Operator)
        .send()
        .await;
    let end = events.next().await;

    assert_eq!((deleted.status.as_u16(), end), (200, None));
}

#[tokio::test]
async fn a_tenant_that_goes_to_another_partner_is_lost_to_the_first_ones_staff() {
    let app = TestApp::with_demo().await;
    app.with_partner("read-only").await;
    let id = only_job(&app).await;
    for path in [
        format!("/jobs/{id}/events"),
        "/tenants/demo/events".to_owned(),
    ] {
        let partner = app.with_partner("read-only").await;
        assert_eq!(app.tenant("demo").await.partner_id, Some(partner));
        let mut events = Events::open(&app, &path, Caller::Partner).await;
        events.next().await.unwrap();

        app.set_tenant("demo", doc! { "partnerId": bson::Bson::Null })
            .await;

        assert_eq!(events.next().await, None, "{path}");
    }
}

#[tokio::test]
async fn a_partner_that_is_terminated_ends_the_streams_of_its_staff_who_have_no_other_right() {
    let app = TestApp::with_demo().await;
    let id = only_job(&app).await;
    for path in [
        format!("/jobs/{id}/events"),
        "/tenants/demo/events".to_owned(),
    ] {
        let partner = app.with_partner("read-only").await;
        let partner = app.state.partners.find(partner).await.unwrap().unwrap();
        let members = app.collection("users");
        let member = doc! { "authentikSubjectId": Caller::Member.subject() };
        let works_there = doc! { "$set": { "partnerId": partner.id } };
        members.update_one(member, works_there).await.unwrap();
        let mut of_staff = Events::open(&app, &path, Caller::Partner).await;
        let mut of_member = Events::open(&app, &path, Caller::Member).await;
        of_staff.next().await.unwrap();
        of_member.next().await.unwrap();

        let ended = app
            .delete(&format!("/partners/{}", partner.slug))
            .by(Caller::Operator)
            .send()
            .await;

        assert_eq!(ended.status, 200, "{ended:?}");
        assert_eq!(of_staff.next().await, None, "{path}");
        app.set_tenant("demo", doc! { "industry": &path }).await;
        app.set_job(id, doc! { "state": "running" }).await;
        assert!(of_member.next().await.is_some(), "{path}");
    }
}

#[tokio::test]
async fn a_stream_ends_with_the_token_it_was_opened_with() {
    let app = TestApp::with_demo().await;
    let soon = TokenSpec {
        // A token counts for half a minute longer than it says.
        issued_at: Some(clock::now().timestamp_millis() / 1_000 - 30),
        expires_in: 3,
        ..Caller::Member.token()
    };
    let opened = app
        .get("/tenants/demo/events")
        .token(&app.token(&soon))
        .open()
        .await;
    let mut events = Events::of(opened);
    events.next().await.unwrap();

    let end = events.next().await;

    assert_eq!(end, None);
}

#[tokio::test]
async fn when_the_process_is_to_end_the_streams_end() {
    let app = TestApp::with_demo().await;
    let mut events = Events::open(&app, "/tenants/demo/events", Caller::Member).await;
    events.next().await.unwrap();

    app.shutdown.cancel();

    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn what_may_not_be_seen_is_refused_before_there_is_a_stream() {
    let app = TestApp::with_demo().await;
    let id = only_job(&app).await;
    for path in [
        format!("/jobs/{id}/events"),
        "/tenants/demo/events".to_owned(),
    ] {
        let nobody = app.get(&path).send().await;
        let stranger = app.get(&path).by(Caller::Stranger).send().await;
        let odd = app
            .get(&format!("{path}?from=1"))
            .by(Caller::Member)
            .send()
            .await;

        assert_eq!(nobody.summary(), "401 token_missing");
        assert_eq!(stranger.summary(), "404 not_found");
        assert_eq!(
            stranger.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(odd.summary(), "400 invalid_request");
    }
}

#[tokio::test]
async fn a_stream_that_nobody_reads_any_more_is_waited_for_no_more() {
    let app = TestApp::with_demo().await;
    let mut events = Events::open(&app, "/tenants/demo/events", Caller::Member).await;
    events.next().await.unwrap();
    let during = app.state.waiting.count();

    drop(events);

    assert_eq!((during, app.state.waiting.count()), (2, 0));
}

#[tokio::test]
async fn one_caller_holds_twenty_streams_and_keeps_no_other_from_theirs() {
    let app = TestApp::with_demo().await;
    let path = "/tenants/demo/events";
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(Events::open(&app, path, Caller::Member).await);
    }

    let refused = app.get(path).by(Caller::Member).send().await;
    let other = app.get(path).by(Caller::Owner).open().await;
    held.pop();
    let again = app.get(path).by(Caller::Member).open().await;

    assert_eq!(refused.summary(), "429 too_many_streams");
    assert_eq!(refused.header("retry-after"), Some("10"));
    assert_eq!(
        (other.status().as_u16(), again.status().as_u16()),
        (200, 200)
    );
}

#[tokio::test]
async fn a_process_holds_only_so_many_streams() {
    let app = TestApp::with_demo().await;
    let path = "/tenants/demo/events";
    let mut places: Vec<_> = std::iter::from_fn(|| app.state.waiting.acquire_stream()).collect();

    let refused = app.get(path).by(Caller::Member).send().await;
    let held = places.len();
    places.pop();
    let opened = app.get(path).by(Caller::Member).open().await;

    assert_eq!(refused.summary(), "429 too_many_streams");
    assert_eq!((held, opened.status().as_u16()), (10_000, 200));
}
