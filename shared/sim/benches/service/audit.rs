//! Audit trail of a million events: sealing, verification and export, and the api's peak memory.

use std::time::{Duration, Instant};

use dezky_shared::{
    audit::{Action, Actor, ActorKind, AuditEvent, Origin, Target},
    id::TenantId,
    platform::clock,
    tenant::Tenant,
};
use dezky_sim::bench_output::{rate, report};
use futures::{StreamExt as _, stream};
use mongodb::bson::{Document, doc, serialize_to_document};
use reqwest::{Method, header};
use serde_json::Value;

use crate::{memory, world::World};

const TENANT: &str = "t-1";
const EVENTS: usize = 1_000_000;
/// Events per insert.
const BATCH: usize = 5_000;

pub(crate) async fn export(world: &World) {
    let tenants = world.database.collection::<Tenant>("tenants");
    let tenant = tenants.find_one(doc! { "slug": TENANT }).await;
    let tenant = tenant
        .expect("MongoDB responds")
        .expect("the tenant exists");
    insert(world, tenant.id, EVENTS).await;

    let began = Instant::now();
    let events = world.database.collection::<Document>("audit_events");
    let waiting = async || events.find_one(doc! { "sealed": false }).await;
    while waiting().await.expect("MongoDB responds").is_some() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    report("audit: sealing", rate(EVENTS, began.elapsed()), "events/s");

    let began = Instant::now();
    let path = format!("/tenants/{TENANT}/audit/verify");
    let response = world.request(Method::GET, &path).send().await;
    let found: Value = response
        .expect("the api responds")
        .json()
        .await
        .expect("whole");
    assert_eq!(found["ok"], true, "{found}");
    report(
        "audit: verifying",
        rate(EVENTS, began.elapsed()),
        "events/s",
    );

    let began = Instant::now();
    let request = world.request(Method::GET, &format!("/tenants/{TENANT}/audit"));
    let response = request.header(header::ACCEPT, "text/csv").send().await;
    let mut body = response.expect("the api responds").bytes_stream();
    let mut lines = 0;
    while let Some(piece) = body.next().await {
        let piece = piece.expect("the export is whole");
        lines += piece.split(|byte| *byte == b'\n').count() - 1;
    }
    assert!(lines > EVENTS, "{lines} lines");
    report(
        "audit: CSV export",
        rate(EVENTS, began.elapsed()),
        "events/s",
    );
    report(
        "audit: the most memory the api has used",
        memory::peak_megabytes(&world.api),
        "MB",
    );
}

/// Stores events of a tenant, which are to be sealed.
pub(crate) async fn insert(world: &World, tenant: TenantId, count: usize) {
    let events = world.database.collection::<Document>("audit_events");
    let batches = stream::iter((0..count).step_by(BATCH));
    batches
        .for_each_concurrent(2, async |from| {
            let batch = (from..count.min(from + BATCH)).map(|n| event(tenant, n));
            events.insert_many(batch).await.expect("MongoDB responds");
        })
        .await;
}

fn event(tenant: TenantId, n: usize) -> Document {
    let actor = Actor {
        id: "01990000-0000-7000-8000-000000000000".to_owned(),
        name: Some("Ada Ask".to_owned()),
        email: Some("ada@acme.test".to_owned()),
        kind: ActorKind::Tenant,
        audience: vec!["dezky-portal".to_owned()],
    };
    let target = Target {
        kind: "tenant".to_owned(),
        id: tenant.to_string(),
        name: TENANT.to_owned(),
    };
    let origin = Origin {
        request_id: Some(n.to_string()),
        ip: Some("203.0.113.9".to_owned()),
        user_agent: Some("benchmark".to_owned()),
    };
    let mut event = AuditEvent::new(clock::now(), actor, Action::TenantUpdate, target, origin);
    event.tenant_id = Some(tenant);
    event.before = doc! { "name": format!("Name {n}") };
    event.after = doc! { "name": format!("Name {}", n + 1) };
    serialize_to_document(&event).expect("it can be stored")
}
