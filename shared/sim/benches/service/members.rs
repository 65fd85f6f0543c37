//! Members of one tenant: created, suspended and resumed, while another tenant's jobs start in time; and the calls of a
//! reconcile among few tenants and among many.

use std::time::{Duration, Instant};

use dezky_sim::{
    bench_output::{per, progress, rate, report, within},
    copied_tenants::Template,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use mongodb::bson::{Document, doc};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::world::{CONNECTIONS, World, requests, until_within};

const SLUG: &str = "busy";
const OTHER: &str = "other";
const MEMBERS: usize = 1_000;
/// Other tenants of the two reconciles that are compared.
const FEW: usize = 10;
const MANY: usize = 1_000;
/// Pause between two changes of the other tenant.
const PAUSE: Duration = Duration::from_millis(250);
/// Members who are suspended one after another.
const SUSPENDED: usize = 20;
/// Maximum time until a suspended member is locked out.
const MAX_LOCK_OUT_MILLIS: f64 = 1_000.0;
/// Maximum time until a job of the other tenant starts.
const MAX_START_MILLIS: f64 = 1_000.0;
const TIMEOUT: Duration = Duration::from_mins(30);

/// Returns whether all limits hold.
pub(crate) async fn measure() -> bool {
    let world = World::start().await;
    create(&world, SLUG, &["busy.test"]).await;
    create(&world, OTHER, &[]).await;
    let (stop, stopped) = watch::channel(false);
    let work = async {
        life_of_members(&world).await;
        stop.send_replace(true);
    };
    tokio::join!(work, change_other(&world, stopped));
    let starts = within(
        "1,000 members: start of another tenant's job, at most",
        slowest_start(&world).await,
        "ms",
        MAX_START_MILLIS,
    );
    let lock_outs = within(
        "1,000 members: suspended member locked out after, at most",
        slowest_lock_out(&world).await,
        "ms",
        MAX_LOCK_OUT_MILLIS,
    );
    compare_reconciles(&world).await && starts && lock_outs
}

/// Longest time, in milliseconds, from the request to suspend a member until the person can neither sign in, nor open the
/// mailbox, nor use the file server.
async fn slowest_lock_out(world: &World) -> f64 {
    let users = format!("/tenants/{SLUG}/users");
    let request = world.request(Method::GET, &format!("{users}?limit={SUSPENDED}"));
    let response = request.send().await.expect("the api responds");
    let text = response.text().await.expect("the response is complete");
    let page: Value = serde_json::from_str(&text).expect("it is JSON");
    let members = page["items"].as_array().expect("it is a page");
    let mut slowest = Duration::ZERO;
    for member in members {
        let field = |name: &str| member[name].as_str().expect("it has the field");
        let began = Instant::now();
        let path = format!("{users}/{}/suspend", field("id"));
        world.send(Method::POST, &path, None).await;
        until_within(TIMEOUT, "the member is locked out", async || {
            is_locked_out(world, field("email"))
        })
        .await;
        slowest = slowest.max(began.elapsed());
    }
    slowest.as_secs_f64() * 1_000.0
}

fn is_locked_out(world: &World, login: &str) -> bool {
    let account = world.authentik.user_named(login);
    let mailboxes = world.stalwart.accounts();
    let mailbox = mailboxes.iter().find(|mailbox| mailbox.email == login);
    account.is_some_and(|account| !account.is_active)
        && mailbox.is_some_and(|mailbox| !mailbox.can_sign_in)
        && world.ocis.is_enabled(login) == Some(false)
}

/// Creates the members, and suspends and resumes their tenant.
async fn life_of_members(world: &World) {
    let began = Instant::now();
    stream::iter(0..MEMBERS)
        .map(async |n| {
            let local = format!("m{n}");
            let body = json!({ "localPart": local, "name": local, "role": "member" });
            let path = format!("/tenants/{SLUG}/users");
            world.send(Method::POST, &path, Some(&body)).await;
        })
        .buffer_unordered(CONNECTIONS)
        .collect::<Vec<()>>()
        .await;
    report(
        "1,000 members: POST, 64 connections",
        rate(MEMBERS, began.elapsed()),
        "requests/s",
    );
    let members = world.database.collection::<Document>("members");
    until_within(TIMEOUT, "all members are active", async || {
        let active = members.count_documents(doc! { "status": "active" }).await;
        let active = active.expect("MongoDB responds");
        progress(format!("{active} of {MEMBERS} members active"));
        active >= MEMBERS as u64
    })
    .await;
    report(
        "1,000 members: from the first POST until all are active",
        began.elapsed().as_secs_f64(),
        "s",
    );
    for (action, status, name) in [
        (
            "suspend",
            "suspended",
            "1,000 members: tenant suspended after",
        ),
        ("resume", "active", "1,000 members: tenant resumed after"),
    ] {
        let began = Instant::now();
        let path = format!("/tenants/{SLUG}/{action}");
        world.send(Method::POST, &path, None).await;
        until_tenant(world, status).await;
        report(name, began.elapsed().as_secs_f64(), "s");
    }
}

/// Waits until the tenant is in this status in every upstream.
async fn until_tenant(world: &World, status: &str) {
    let tenants = world.database.collection::<Document>("tenants");
    let is_there = doc! {
        "slug": SLUG, "status": status, "provisioningStatus.authentik": "ok",
        "provisioningStatus.stalwart": "ok", "provisioningStatus.ocis": "ok",
    };
    until_within(TIMEOUT, "the tenant is in its state", async || {
        let active = world.authentik.change(|state| {
            let users = state.users.values();
            users.filter(|user| user.is_active).count()
        });
        progress(format!("{status}: {active} accounts may sign in"));
        let found = tenants.find_one(is_there.clone()).await;
        found.expect("MongoDB responds").is_some()
    })
    .await;
}

/// Changes the other tenant until `stopped`.
async fn change_other(world: &World, stopped: watch::Receiver<bool>) {
    let mut number = 0;
    while !*stopped.borrow() {
        number += 1;
        let body = json!({ "name": format!("Other {number}") });
        let path = format!("/tenants/{OTHER}");
        world.send(Method::PATCH, &path, Some(&body)).await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Longest time, in milliseconds, that a job of the other tenant was due before its first attempt. One that waited for
/// an earlier job of the same tenant counts from that one's end.
async fn slowest_start(world: &World) -> f64 {
    let tenants = world.database.collection::<Document>("tenants");
    let other = tenants.find_one(doc! { "slug": OTHER }).await;
    let other = other.expect("MongoDB responds").expect("it exists");
    let jobs = world.database.collection::<Document>("jobs");
    let of_other = doc! { "tenantId": other.get("_id"), "finishedAt": { "$exists": true } };
    let found = jobs.find(of_other).sort(doc! { "_id": 1 }).await;
    let found = found.expect("MongoDB responds").try_collect().await;
    let found: Vec<Document> = found.expect("MongoDB responds");
    let (mut free_since, mut slowest) = (0, 0);
    for job in &found {
        let millis = |document: &Document, field: &str| {
            let at = document.get_datetime(field).expect("it has the time");
            at.timestamp_millis()
        };
        let attempts = job.get_array("attempts").expect("it has attempts");
        if let Some(first) = attempts.first().and_then(|first| first.as_document()) {
            let due = millis(job, "createdAt").max(free_since);
            slowest = slowest.max(millis(first, "startedAt") - due);
        }
        free_since = free_since.max(millis(job, "finishedAt"));
    }
    let slowest = Duration::from_millis(u64::try_from(slowest).unwrap_or(0));
    slowest.as_secs_f64() * 1_000.0
}

/// Reconciles the tenant among few others and among many. Returns whether the numbers of calls are the same.
async fn compare_reconciles(world: &World) -> bool {
    let template = Template {
        slug: OTHER,
        database: &world.database,
        authentik: &world.authentik,
        ocis: &world.ocis,
    };
    template.copy("few", FEW).await.expect("they are stored");
    let few = calls_of_reconcile(world).await;
    template.copy("many", MANY).await.expect("they are stored");
    let many = calls_of_reconcile(world).await;
    report(
        "tenant of 1,000 members: calls of a reconcile among 10 others",
        per(few, 1),
        "calls",
    );
    within(
        "tenant of 1,000 members: calls among 1,000 others to those among 10",
        per(many, 1) / per(few, 1),
        "",
        1.0,
    )
}

async fn calls_of_reconcile(world: &World) -> u64 {
    let calls = || {
        let servers = [
            &world.authentik.server,
            &world.stalwart.server,
            &world.ocis.server,
        ];
        servers.iter().map(|server| requests(server)).sum::<u64>()
    };
    let jobs = world.database.collection::<Document>("jobs");
    let open = doc! { "state": { "$in": ["available", "running"] } };
    let until_idle = async || {
        until_within(TIMEOUT, "all jobs are done", async || {
            let found = jobs.find_one(open.clone()).await;
            found.expect("MongoDB responds").is_none()
        })
        .await;
    };
    until_idle().await;
    let before = calls();
    let path = format!("/tenants/{SLUG}/reconcile");
    world.send(Method::POST, &path, None).await;
    until_idle().await;
    calls() - before
}

async fn create(world: &World, slug: &str, domains: &[&str]) {
    let body = json!({ "slug": slug, "name": slug, "plan": "business", "domains": domains });
    world.send(Method::POST, "/tenants", Some(&body)).await;
    let tenants = world.database.collection::<Document>("tenants");
    let active = doc! { "slug": slug, "status": "active" };
    until_within(TIMEOUT, "the tenant is active", async || {
        let found = tenants.find_one(active.clone()).await;
        found.expect("MongoDB responds").is_some()
    })
    .await;
}
