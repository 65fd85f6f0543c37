//! Suspension of a tenant with thousands of members.

use std::time::{Duration, Instant};

use dezky_sim::bench_output::{per, progress, rate, report};
use mongodb::bson::{Document, doc};
use reqwest::Method;
use serde_json::json;

use crate::world::{World, requests, until_within};

const SLUG: &str = "large";
const MEMBERS: usize = 10_000;
/// One in this many members has a session.
const SESSION_RATIO: usize = 10;
const TIMEOUT: Duration = Duration::from_mins(30);

pub(crate) async fn measure() {
    let world = World::start().await;
    let body = json!({ "slug": SLUG, "name": SLUG, "plan": "business" });
    world.send(Method::POST, "/tenants", Some(&body)).await;
    world.until_active(2).await;
    let authentik = &world.authentik;
    let group = authentik
        .group_named(SLUG)
        .expect("the tenant is active")
        .id;
    for number in 0..MEMBERS {
        let user = authentik.add_user(&format!("{number}@large.test"), &[group]);
        if number % SESSION_RATIO == 0 {
            authentik.add_session(user.pk);
        }
    }

    let (calls, bytes) = (requests(&authentik.server), authentik.server.sent_bytes());
    let began = Instant::now();
    let path = format!("/tenants/{SLUG}/suspend");
    world.send(Method::POST, &path, None).await;
    let tenants = world.database.collection::<Document>("tenants");
    let suspended =
        doc! { "slug": SLUG, "status": "suspended", "provisioningStatus.authentik": "ok" };
    until_within(TIMEOUT, "the tenant is suspended", async || {
        let active = authentik.change(|state| {
            let users = state.users.values();
            users
                .filter(|user| user.is_active && user.groups.contains(&group))
                .count()
        });
        progress(format!("{active} of {MEMBERS} members may sign in"));
        let found = tenants.find_one(suspended.clone()).await;
        active == 0 && found.expect("MongoDB responds").is_some()
    })
    .await;

    let took = began.elapsed();
    let calls = requests(&authentik.server) - calls;
    let bytes = authentik.server.sent_bytes() - bytes;
    report(
        "tenant of 10,000 members: suspended after",
        took.as_secs_f64(),
        "s",
    );
    report(
        "tenant of 10,000 members: rate",
        rate(MEMBERS, took),
        "members/s",
    );
    report(
        "tenant of 10,000 members: calls",
        per(calls, MEMBERS),
        "a member",
    );
    report(
        "tenant of 10,000 members: bytes received",
        per(bytes, MEMBERS),
        "a member",
    );
}
