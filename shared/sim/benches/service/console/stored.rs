//! The stored tenants and jobs, in bulk: copies of a tenant that was provisioned and of its job.

use dezky_shared::{
    id::{JobId, TenantId},
    queue::{
        error_code::ErrorCode,
        job::{Job, JobFailure, JobState},
    },
};
use dezky_sim::{bench_output::progress, copied_tenants::Template};
use mongodb::bson::{DateTime, Document, deserialize_from_bson, doc};
use reqwest::Method;
use serde_json::json;

use crate::world::World;

const TENANTS: usize = 10_000;
const JOBS: usize = 100_000;
/// Jobs per insert.
const BATCH: usize = 5_000;
/// One in so many jobs was discarded, and one waits for a time far away.
const FEW: usize = 20;
const TEMPLATE: &str = "template";

/// Stores tenants and jobs. Returns the id of a job.
pub(super) async fn fill(world: &World) -> JobId {
    let body = json!({ "slug": TEMPLATE, "name": TEMPLATE, "plan": "business" });
    world.send(Method::POST, "/tenants", Some(&body)).await;
    world.until_active(2).await;
    progress("storing tenants and jobs");
    let template = Template {
        slug: TEMPLATE,
        database: &world.database,
        authentik: &world.authentik,
        ocis: &world.ocis,
    };
    template
        .copy("t", TENANTS)
        .await
        .expect("the tenants are stored");
    let tenants = tenant_ids(world).await;
    let jobs = world.database.collection::<Job>("jobs");
    let done = doc! { "kind": "provision_tenant", "state": "completed" };
    let original = jobs.find_one(done).await.expect("MongoDB responds");
    let original = original.expect("the tenant was provisioned");
    let numbered: Vec<(usize, &TenantId)> = (0..JOBS).zip(tenants.iter().cycle()).collect();
    for batch in numbered.chunks(BATCH) {
        let copies = batch
            .iter()
            .map(|(n, tenant)| copy(&original, *n, **tenant));
        let stored = jobs.insert_many(copies).await;
        stored.expect("MongoDB accepts them");
    }
    original.id
}

/// Ids of the tenants.
async fn tenant_ids(world: &World) -> Vec<TenantId> {
    let tenants = world.database.collection::<Document>("tenants");
    let ids = tenants.distinct("_id", doc! {}).await;
    let ids = ids.expect("MongoDB responds").into_iter();
    ids.map(|id| deserialize_from_bson(id).expect("it is an id"))
        .collect()
}

/// A copy of a completed job, of another tenant: completed, too, or discarded, or waiting.
fn copy(original: &Job, number: usize, tenant: TenantId) -> Job {
    let id = JobId::new();
    let completed = Job {
        id,
        tenant_id: Some(tenant),
        lock_key: format!("job:{id}"),
        unique_key: None,
        ..original.clone()
    };
    match number % FEW {
        0 => Job {
            state: JobState::Discarded,
            error: Some(JobFailure::permanent(
                ErrorCode::UpstreamRejected,
                "400 Bad Request",
            )),
            ..completed
        },
        1 => Job {
            state: JobState::Available,
            run_at: DateTime::from_millis(4_000_000_000_000),
            finished_at: None,
            expire_at: None,
            ..completed
        },
        _ => completed,
    }
}
