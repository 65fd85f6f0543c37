//! Events of the members, apps, domains and invoices of a tenant.

use std::time::Duration;

use bson::{DateTime, Document, doc};
use dezky_shared::{id::MemberId, platform::clock};
use dezky_sim::callers::Caller;
use serde_json::{Value, json};

use super::{Event, Events};
use crate::{app::TestApp, client::Reply};

const STREAM: &str = "/tenants/demo/events";

impl Events {
    /// The next event of this name.
    async fn next_named(&mut self, name: &str) -> Event {
        loop {
            let event = self.next().await.unwrap();
            if event.name == name {
                return event;
            }
        }
    }
}

async fn create_member(app: &TestApp, local_part: &str) -> String {
    let new = json!({ "localPart": local_part, "name": "Ada King", "role": "member" });
    id_of(&app.owner().post("/tenants/demo/users", new).await)
}

fn id_of(reply: &Reply) -> String {
    assert!(reply.status.is_success(), "{reply:?}");
    reply.body["id"].as_str().unwrap().to_owned()
}

/// Changes a member as a job does, at this time.
async fn change(app: &TestApp, id: &str, name: &str, at: DateTime) {
    let id: MemberId = id.parse().unwrap();
    let change = doc! { "$set": { "name": name, "updatedAt": at }, "$inc": { "revision": 1_i64 } };
    let members = app.state.store.collection::<Document>("members");
    members
        .update_one(doc! { "_id": id }, change)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_change_of_a_resource_is_an_event_with_the_resource() {
    let app = TestApp::with_demo().await;
    let before = create_member(&app, "bob").await;
    let mut events = Events::open(&app, STREAM, Caller::Owner).await;
    events.next().await.unwrap();

    let ada = create_member(&app, "ada").await;
    let of_member = events.next_named("member").await;
    let wiki =
        json!({ "name": "Wiki", "slug": "wiki", "redirectUris": ["https://wiki.test/callback"] });
    let wiki = id_of(&app.owner().post("/tenants/demo/apps", wiki).await);
    let of_app = events.next_named("app").await;
    let domain = json!({ "name": "shop.test" });
    id_of(&app.owner().post("/tenants/demo/domains", domain).await);
    let of_domain = events.next_named("domain").await;
    change(&app, &before, "Bob Stone", app.state.store.now()).await;
    let of_change = events.next_named("member").await;

    let get = async |path: String| app.owner().get(format!("/tenants/demo/{path}")).await.body;
    let shown: [(Event, Value); 4] = [
        (of_member, get(format!("users/{ada}")).await),
        (of_app, get(format!("apps/{wiki}")).await),
        (of_domain, get("domains/shop.test".to_owned()).await),
        (of_change, get(format!("users/{before}")).await),
    ];
    for (event, shown) in shown {
        assert_eq!(event.data["id"], shown["id"]);
        assert_eq!(event.data["revision"], shown["revision"]);
        assert_eq!(event.data, shown);
        assert!(event.id.contains('-'), "{}", event.id);
    }
}

#[tokio::test]
async fn a_plain_member_receives_the_events_of_domains_alone() {
    let app = TestApp::with_demo().await;
    let mut events = Events::open(&app, STREAM, Caller::Member).await;
    events.next().await.unwrap();

    create_member(&app, "ada").await;
    let domain = json!({ "name": "shop.test" });
    id_of(&app.owner().post("/tenants/demo/domains", domain).await);

    // A member would have come first.
    let mut next = events.next().await.unwrap();
    while next.name == "tenant" {
        next = events.next().await.unwrap();
    }
    assert_eq!(
        (next.name.as_str(), &next.data["name"]),
        ("domain", &json!("shop.test"))
    );
}

#[tokio::test]
async fn an_invoice_is_an_event_for_those_who_may_list_invoices() {
    let app = TestApp::with_demo().await;
    app.with_partner("read-only").await;
    let mut of_owner = Events::open(&app, STREAM, Caller::Owner).await;
    let mut of_staff = Events::open(&app, STREAM, Caller::Partner).await;
    of_owner.next().await.unwrap();
    of_staff.next().await.unwrap();

    let lines = json!([{ "description": "Setup", "amountMinor": 100 }]);
    let new = json!({ "lines": lines, "reason": "New", "currency": "DKK" });
    let id = id_of(&app.operator().post("/tenants/demo/invoices", new).await);
    let created = of_owner.next_named("invoice").await;
    let ada = create_member(&app, "ada").await;

    let listed = app.owner().get("/tenants/demo/invoices").await.body["items"][0].clone();
    assert_eq!((&created.data, &created.data["id"]), (&listed, &json!(id)));
    // An invoice would have come first.
    let mut next = of_staff.next().await.unwrap();
    while next.name == "tenant" {
        next = of_staff.next().await.unwrap();
    }
    assert_eq!(
        (next.name.as_str(), &next.data["id"]),
        ("member", &json!(ada))
    );
}

#[tokio::test]
async fn the_resources_of_another_tenant_are_no_events() {
    let app = TestApp::with_demo().await;
    let other =
        json!({ "slug": "other", "name": "Other", "plan": "business", "domains": ["other.test"] });
    id_of(&app.operator().post("/tenants", other).await);
    let mut events = Events::open(&app, STREAM, Caller::Owner).await;
    events.next().await.unwrap();

    let new = json!({ "localPart": "eve", "name": "Eve", "role": "member" });
    id_of(&app.operator().post("/tenants/other/users", new).await);
    let ada = create_member(&app, "ada").await;

    assert_eq!(events.next_named("member").await.data["id"], json!(ada));
}

#[tokio::test]
async fn a_reconnecting_client_receives_what_changed_meanwhile() {
    let app = TestApp::with_demo().await;
    let mut events = Events::open(&app, STREAM, Caller::Owner).await;
    let mut last = events.next().await.unwrap();

    // The event of the tenant is the last one received first, and then that of a member.
    let mut known: Vec<String> = Vec::new();
    for (last_name, local_part) in [("tenant", "ada"), ("member", "bob")] {
        assert_eq!(last.name, last_name);
        drop(events);
        let changed = create_member(&app, local_part).await;
        let resumed = app.owner().get(STREAM).header("last-event-id", &last.id);
        events = Events::of(resumed.open().await);

        last = events.next_named("member").await;
        // Possibly again, since it was changed shortly before.
        while known.iter().any(|id| last.data["id"] == json!(id)) {
            last = events.next_named("member").await;
        }
        assert_eq!(last.data["id"], json!(changed));
        known.push(changed);
    }
}

#[tokio::test]
async fn a_change_that_is_committed_late_is_not_missed() {
    let app = TestApp::with_demo().await;
    let (ada, bob) = (
        create_member(&app, "ada").await,
        create_member(&app, "bob").await,
    );
    let mut events = Events::open(&app, STREAM, Caller::Owner).await;
    events.next().await.unwrap();
    let now = app.state.store.now();

    change(&app, &ada, "Ada Lovelace", now).await;
    events.next_named("member").await;
    // A transaction that read the clock before the other.
    let earlier = clock::earlier(now, Duration::from_millis(500));
    change(&app, &bob, "Bob Stone", earlier).await;

    let late = events.next_named("member").await;
    assert_eq!(
        (&late.data["id"], &late.data["name"]),
        (&json!(bob), &json!("Bob Stone"))
    );
}

#[tokio::test]
async fn more_changes_than_are_sent_are_announced() {
    const MEMBERS: usize = 201;
    let app = TestApp::with_demo().await;
    let ada = create_member(&app, "ada").await;
    let mut events = Events::open(&app, STREAM, Caller::Owner).await;
    events.next().await.unwrap();

    let members = app.state.store.collection::<Document>("members");
    let id: MemberId = ada.parse().unwrap();
    let template = members.find_one(doc! { "_id": id }).await.unwrap().unwrap();
    let copies = (0..MEMBERS).map(|n| {
        let mut copy = template.clone();
        copy.insert("_id", MemberId::new());
        copy.insert("email", format!("m{n}@demo.test"));
        copy.insert("updatedAt", app.state.store.now());
        copy.remove("mailbox");
        copy
    });
    let copies: Vec<Document> = copies.collect();
    members.insert_many(copies).await.unwrap();

    let overflow = events.next_named("overflow").await;
    assert_eq!(overflow.data, json!({ "parts": "member" }));
    assert_eq!(events.next().await.unwrap().name, "member");
}
