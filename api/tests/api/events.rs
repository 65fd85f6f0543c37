//! Server-sent event streams.

mod resources;

use std::time::Duration;

use axum::{body::BodyDataStream, response::Response};
use bson::doc;
use dezky_shared::platform::clock;
use dezky_sim::{callers::Caller, issuer::TokenSpec};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::app::TestApp;

/// Upper limit for immediate responses on a slow test machine.
const PROMPT: Duration = Duration::from_secs(10);

/// Client side of an event stream.
struct Events {
    body: BodyDataStream,
    text: String,
}

/// Received event.
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
        assert_eq!(response.headers()["cache-control"], "no-store");
        Self {
            body: response.into_body().into_data_stream(),
            text: String::new(),
        }
    }

    async fn open(app: &TestApp, path: &str, caller: Caller) -> Self {
        Self::of(app.client(caller).get(path).open().await)
    }

    /// Next event, or `None` at the end of the stream.
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

#[tokio::test]
async fn a_job_stream_sends_the_current_state_then_changes_until_final() {
    let app = TestApp::with_demo().await;
    let id = app.first_job().await;
    let path = format!("/jobs/{id}");
    let mut events = Events::open(&app, &format!("{path}/events"), Caller::Member).await;

    let first = events.next().await.unwrap();
    app.set_job(id, doc! { "state": "running" }).await;
    let second = events.next().await.unwrap();
    app.set_job(id, doc! { "state": "completed" }).await;
    let third = events.next().await.unwrap();
    let end = events.next().await;

    let states = [&first, &second, &third].map(|event| {
        assert_eq!(event.name, "job");
        assert_eq!(event.id, event.data["revision"].to_string());
        event.data["state"].as_str().unwrap().to_owned()
    });
    assert_eq!(states, ["available", "running", "completed"]);
    assert_eq!(end, None);
    let shown = app.member().get(&path).await;
    assert_eq!(third.data, shown.body);
}

/// The revision of the tenant in the position of its event.
fn revision_of(event: &Event) -> i64 {
    let (revision, _) = event.id.split_once('-').unwrap();
    revision.parse().unwrap()
}

#[tokio::test]
async fn a_tenant_event_equals_the_get_response() {
    let app = TestApp::with_demo().await;
    let mut events = Events::open(&app, "/tenants/demo/events", Caller::Member).await;

    let first = events.next().await.unwrap();
    app.set_tenant("demo", doc! { "authentikGroupId": "g" })
        .await;
    let second = events.next().await.unwrap();

    let shown = app.member().get("/tenants/demo").await;
    assert_eq!(
        (first.name.as_str(), second.name.as_str()),
        ("tenant", "tenant")
    );
    assert_eq!(second.data, shown.body);
    assert_eq!(revision_of(&second), app.tenant("demo").await.revision);
    assert_ne!(first.id, second.id);
}

#[tokio::test]
async fn a_reconnecting_client_receives_only_newer_events() {
    let app = TestApp::with_demo().await;
    let id = app.first_job().await;
    let path = format!("/jobs/{id}/events");
    let resume = async |last: &str| {
        app.member()
            .get(&path)
            .header("last-event-id", last)
            .open()
            .await
    };

    let mut up_to_date = Events::of(resume("1").await);
    app.set_job(id, doc! { "state": "running" }).await;
    let newer = up_to_date.next().await.unwrap();
    let behind = Events::of(resume("1").await).next().await.unwrap();
    let unknown_id = Events::of(resume("99").await).next().await.unwrap();
    let malformed_id = Events::of(resume("x").await).next().await.unwrap();
    app.set_job(id, doc! { "state": "discarded" }).await;
    let last = Events::of(resume("2").await).next().await.unwrap();
    let nothing_left = resume("3").await.status();

    for event in [newer, behind, unknown_id, malformed_id] {
        assert_eq!(
            (event.id.as_str(), &event.data["state"]),
            ("2", &json!("running"))
        );
    }
    assert_eq!(last.id, "3");
    assert_eq!(nothing_left, 204);
}

#[tokio::test]
async fn a_slow_client_receives_only_the_latest_state() {
    let app = TestApp::with_demo().await;
    let mut events = Events::open(&app, "/tenants/demo/events", Caller::Member).await;
    let first = events.next().await.unwrap();

    for n in 0..20 {
        app.set_tenant("demo", doc! { "industry": n.to_string() })
            .await;
    }
    let next = events.next().await.unwrap();

    let revision = app.tenant("demo").await.revision;
    assert_eq!(revision_of(&next), revision);
    assert_eq!(revision - revision_of(&first), 20);
}

#[tokio::test]
async fn revoking_access_ends_the_event_stream() {
    let app = TestApp::with_demo().await;
    let id = app.first_job().await;
    for path in [
        "/tenants/demo/events".to_owned(),
        format!("/jobs/{id}/events"),
    ] {
        let set_role = async |role: Value| {
            let member = app.user(Caller::Member).await.id;
            app.set_tenant_roles(member, json!({ "demo": role })).await
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
async fn deleting_a_caller_ends_their_event_stream() {
    let app = TestApp::with_demo().await;
    let mut events = Events::open(&app, "/tenants/demo/events", Caller::Member).await;
    events.next().await.unwrap();

    let member = app.user(Caller::Member).await.id;
    let deleted = app.operator().delete(format!("/users/{member}")).await;
    let end = events.next().await;

    assert_eq!((deleted.status.as_u16(), end), (200, None));
}

#[tokio::test]
async fn reassigning_a_tenant_ends_the_former_partners_access() {
    let app = TestApp::with_demo().await;
    app.with_partner("read-only").await;
    let id = app.first_job().await;
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
async fn terminating_a_partner_ends_its_staffs_event_streams() {
    let app = TestApp::with_demo().await;
    let id = app.first_job().await;
    for path in [
        format!("/jobs/{id}/events"),
        "/tenants/demo/events".to_owned(),
    ] {
        let partner = app.with_partner("read-only").await;
        let partner = app.state.db.partners.find(partner).await.unwrap().unwrap();
        let member = doc! { "authentikSubjectId": Caller::Member.subject() };
        app.set("users", member, doc! { "partnerId": partner.id })
            .await;
        let mut staff_events = Events::open(&app, &path, Caller::Partner).await;
        let mut member_events = Events::open(&app, &path, Caller::Member).await;
        staff_events.next().await.unwrap();
        member_events.next().await.unwrap();

        let ended = app
            .operator()
            .delete(format!("/partners/{}", partner.slug))
            .await;

        assert_eq!(ended.status, 200, "{ended:?}");
        assert_eq!(staff_events.next().await, None, "{path}");
        if path.starts_with("/tenants/") {
            // It had members and apps for the staff; the client connects again without them.
            assert_eq!(member_events.next().await, None, "{path}");
            member_events = Events::open(&app, &path, Caller::Member).await;
            member_events.next().await.unwrap();
        }
        app.set_tenant("demo", doc! { "industry": &path }).await;
        app.set_job(id, doc! { "state": "running" }).await;
        assert!(member_events.next().await.is_some(), "{path}");
    }
}

#[tokio::test]
async fn a_stream_ends_when_its_token_expires() {
    let app = TestApp::with_demo().await;
    let short_lived = TokenSpec {
        // The clock leeway extends a token by 30 seconds.
        issued_at: Some(clock::now().timestamp_millis() / 1_000 - 30),
        expires_in: 3,
        ..Caller::Member.token()
    };
    let opened = app
        .client(&short_lived)
        .get("/tenants/demo/events")
        .open()
        .await;
    let mut events = Events::of(opened);
    events.next().await.unwrap();

    let end = events.next().await;

    assert_eq!(end, None);
}

#[tokio::test]
async fn shutdown_ends_event_streams() {
    let app = TestApp::with_demo().await;
    let mut events = Events::open(&app, "/tenants/demo/events", Caller::Member).await;
    events.next().await.unwrap();

    app.shutdown.cancel();

    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn an_unauthorized_stream_is_rejected_before_it_opens() {
    let app = TestApp::with_demo().await;
    let id = app.first_job().await;
    for path in [
        format!("/jobs/{id}/events"),
        "/tenants/demo/events".to_owned(),
    ] {
        let anonymous = app.anonymous().get(&path).await;
        let stranger = app.stranger().get(&path).await;
        let odd = app.member().get(format!("{path}?from=1")).await;

        assert_eq!(anonymous.summary(), "401 token_missing");
        assert_eq!(stranger.summary(), "404 not_found");
        assert_eq!(
            stranger.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(odd.summary(), "400 invalid_request");
    }
}

#[tokio::test]
async fn a_dropped_stream_releases_its_subscription() {
    let app = TestApp::with_demo().await;
    let mut events = Events::open(&app, "/tenants/demo/events", Caller::Member).await;
    events.next().await.unwrap();
    let during = app.state.watcher.count();

    drop(events);

    // The tenant, its resources and the caller.
    assert_eq!((during, app.state.watcher.count()), (3, 0));
}

#[tokio::test]
async fn a_caller_is_limited_to_20_streams_without_affecting_others() {
    let app = TestApp::with_demo().await;
    let path = "/tenants/demo/events";
    let mut open_streams = Vec::new();
    for _ in 0..20 {
        open_streams.push(Events::open(&app, path, Caller::Member).await);
    }

    let rejected = app.member().get(path).await;
    let other = app.owner().get(path).open().await;
    open_streams.pop();
    let again = app.member().get(path).open().await;

    assert_eq!(rejected.summary(), "429 too_many_streams");
    assert_eq!(rejected.header("retry-after"), Some("10"));
    assert_eq!(
        (other.status().as_u16(), again.status().as_u16()),
        (200, 200)
    );
}

#[tokio::test]
async fn concurrent_streams_per_process_are_limited() {
    let app = TestApp::with_demo().await;
    let path = "/tenants/demo/events";
    let mut permits: Vec<_> = std::iter::from_fn(|| app.state.watcher.acquire_stream()).collect();

    let rejected = app.member().get(path).await;
    let held = permits.len();
    permits.pop();
    let opened = app.member().get(path).open().await;

    assert_eq!(rejected.summary(), "429 too_many_streams");
    assert_eq!((held, opened.status().as_u16()), (10_000, 200));
}
