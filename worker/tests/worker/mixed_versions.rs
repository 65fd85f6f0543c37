//! While a deploy rolls out, builds of several ages read and write the same documents.

use std::{fs, path::Path, time::Duration};

use bson::{Bson, Document, doc};
use dezky_shared::{
    id::{JobId, TenantId},
    queue::job::JobState,
    tenant::{ProvisioningState, TenantStatus},
};
use dezky_worker::steps::{Registry, Steps};

use crate::{
    harness::Harness,
    script::{Lone, Script, Single},
    world::World,
};

/// The tenant of the fixtures.
fn tenant_id() -> TenantId {
    TenantId::from_bytes([7; 16])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_and_a_tenant_of_an_older_build_come_to_their_end() {
    for waiting in ["older_job.json", "older_job_half_done.json"] {
        let world = World::start().await;
        world.insert("tenants", fixture("older_tenant.json")).await;
        let id = world.insert("jobs", fixture(waiting)).await;

        let job = world.harness.finished(id).await;

        assert_eq!(job.state, JobState::Completed, "{job:#?}");
        let steps: Vec<&str> = job.steps.iter().map(|step| &*step.name).collect();
        assert_eq!(steps, ["authentik", "stalwart", "ocis"]);
        let tenant = world.tenant(tenant_id()).await;
        assert_eq!(tenant.status, TenantStatus::Active);
        assert_eq!(tenant.provisioning_status.ocis, ProvisioningState::Ok);
        assert_eq!(world.upstreams.stalwart.domains(), ["acme.test"]);
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_a_newer_build_wrote_are_left_alone() {
    let newer = doc! { "since": "the next release", "list": [1, 2, 3] };
    let world = World::start().await;
    let mut tenant = fixture("older_tenant.json");
    tenant.insert("fromTheFuture", newer.clone());
    let mut job = fixture("older_job.json");
    job.insert("fromTheFuture", newer.clone());
    world.insert("tenants", tenant).await;

    let id = world.insert("jobs", job).await;
    world.harness.finished(id).await;
    let claim = world
        .vouched(&world.tenant(tenant_id()).await, "more.test")
        .await;
    let set = doc! { "fromTheFuture": newer.clone() };
    world.change_claim(&claim, set).await;
    world.done(&world.make_domain(&claim).await).await;
    world.quiet().await;

    let documents = [
        ("jobs", Bson::from(id)),
        ("tenants", tenant_id().into()),
        ("domains", claim.id.into()),
    ];
    for (collection, id) in documents {
        let stored = world
            .harness
            .context
            .store
            .collection::<Document>(collection);
        let stored = stored.find_one(doc! { "_id": id }).await.unwrap().unwrap();
        assert_eq!(
            stored.get_document("fromTheFuture").unwrap(),
            &newer,
            "{collection}"
        );
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_newer_build_waits_for_a_worker_that_knows_its_kind() {
    let mut harness = Harness::new().await;
    harness.times.lease = Duration::from_secs(3);
    let tenant = harness.add_tenant("acme", &[]).await;
    let script = Script::new([]);
    let job = harness
        .enqueue(&Single {
            tenant_id: tenant.id,
        })
        .await;

    let older = harness.worker_of("older", Registry::default(), 8);
    let waiting = harness.job_until(job.id, |job| job.snoozes > 0).await;
    let steps = Steps::parallel().step("work", script.step());
    let newer = harness.worker_of("newer", Registry::default().register::<Single>(steps), 8);
    let done = harness.finished(job.id).await;
    older.stop().await;
    newer.stop().await;

    assert_eq!(waiting.state, JobState::Available);
    assert_eq!((waiting.attempt, waiting.error), (0, None));
    assert!(waiting.run_at > waiting.updated_at);
    assert_eq!((done.state, done.attempt), (JobState::Completed, 1));
    assert_eq!(script.runs().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_this_build_cannot_read_is_in_no_other_jobs_way() {
    let harness = Harness::new().await;
    let script = Script::new([]);
    let left = harness.leave_behind(&Lone { n: 1 }, true).await;
    let stranger = harness.leave_behind(&Lone { n: 2 }, true).await;
    let unclaimed = harness.enqueue_silently(&Lone { n: 3 }).await;
    let unknown = doc! { "error": { "code": "of_the_next_release" } };
    for job in [&stranger, &unclaimed] {
        harness.edit_job(job.id, unknown.clone()).await;
    }
    let waiting = harness.enqueue_silently(&Lone { n: 4 }).await;

    let steps = Steps::parallel().step("work", script.step());
    let registry = Registry::default().register::<Lone>(steps);
    let worker = harness.worker_of("worker", registry, 8);
    let others = [
        harness.finished(left.id).await,
        harness.finished(waiting.id).await,
    ];
    worker.stop().await;

    assert!(others.iter().all(|job| job.state == JobState::Completed));
    for job in [stranger, unclaimed] {
        let stored = harness.stored_job(job.id).await;
        assert_eq!(stored.get_str("state").unwrap(), "running");
    }
}

impl World {
    /// Puts a document there as another build would, and says so.
    async fn insert(&self, collection: &str, document: Document) -> JobId {
        let store = &self.harness.context.store;
        let id = document.get("_id").unwrap().clone();
        store
            .collection::<Document>(collection)
            .insert_one(&document)
            .await
            .unwrap();
        bson::deserialize_from_bson(id).unwrap()
    }
}

fn fixture(name: &str) -> Document {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}
