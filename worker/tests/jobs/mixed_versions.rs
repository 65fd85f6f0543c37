//! Rolling deploys: builds of different versions read and write the same documents.

use std::{fs, path::Path, time::Duration};

use bson::{Bson, Document, doc};
use dezky_shared::{
    billing::Price,
    domain::Domain,
    feature_flag::Flag,
    id::{JobId, TenantId},
    partner::Partner,
    platform::clock,
    queue::job::{Job, JobState},
    subscription::Subscription,
    tenant::{ProvisioningState, Tenant, TenantStatus},
    user::User,
};
use futures::TryStreamExt as _;
use serde::de::DeserializeOwned;

use crate::world::World;

/// The tenant of the fixtures.
fn tenant_id() -> TenantId {
    TenantId::from_bytes([7; 16])
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_of_an_older_build_are_processed() {
    for waiting in ["older_job.json", "older_job_half_done.json"] {
        let world = World::start().await;
        world.insert("tenants", fixture("older_tenant.json")).await;
        let id = world.insert("jobs", fixture(waiting)).await;

        let job = world.harness.finished(id).await;

        assert_eq!(job.state, JobState::Completed, "{job:#?}");
        let steps: Vec<&str> = job.steps.iter().map(|step| &*step.name).collect();
        // Behind them, a step that this build does not run.
        assert_eq!(steps[..3], ["authentik", "stalwart", "ocis"]);
        let tenant = world.tenant(tenant_id()).await;
        assert_eq!(tenant.status, TenantStatus::Active);
        assert_eq!(tenant.provisioning_status.ocis, ProvisioningState::Ok);
        assert_eq!(world.upstreams.stalwart.domains(), ["acme.test"]);
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_a_newer_build_are_preserved() {
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
        .owned_domain(&world.tenant(tenant_id()).await, "more.test")
        .await;
    let set = doc! { "fromTheFuture": newer.clone() };
    world.change_claim(&claim, set).await;
    world.completed(&world.provision_domain(&claim).await).await;
    world.until_idle().await;

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

/// Documents of every collection as the build of November 2026 (0.1.0) stored them: an active tenant, a tenant whose job
/// waits for oCIS, a partner, a domain, subscriptions, flags, and a sealed audit trail.
#[tokio::test(flavor = "multi_thread")]
async fn documents_of_the_previous_build_are_read_and_its_waiting_job_completes() {
    let world = World::start().await;
    let stored = fixture("stored_documents.json");
    for (collection, documents) in &stored {
        for document in documents.as_array().unwrap() {
            let document = document.as_document().unwrap().clone();
            if collection != "jobs" || document.get_str("state").ok() != Some("available") {
                world.replace(collection, document).await;
            }
        }
    }
    let mut job = waiting_job(&stored);
    let now = world.harness.context.store.now();
    job.insert("runAt", now);
    job.insert("giveUpAt", clock::later(now, Duration::from_hours(24)));

    let id = world.insert("jobs", job).await;
    let job = world.harness.finished(id).await;

    assert_eq!(job.state, JobState::Completed, "{job:#?}");
    let tenant = world.tenant(job.tenant_id.unwrap()).await;
    assert_eq!(tenant.slug, "halfway");
    assert_eq!(tenant.status, TenantStatus::Active);
    let spaces = world.upstreams.ocis.spaces();
    assert!(spaces.iter().any(|space| space.name == "Halfway Ltd"));
    world.reads_all::<Tenant>("tenants", &stored).await;
    world.reads_all::<Domain>("domains", &stored).await;
    world.reads_all::<User>("users", &stored).await;
    world.reads_all::<Partner>("partners", &stored).await;
    world.reads_all::<Price>("prices", &stored).await;
    world
        .reads_all::<Subscription>("subscriptions", &stored)
        .await;
    world.reads_all::<Flag>("flags", &stored).await;
    world.reads_all::<Job>("jobs", &stored).await;
    for tenant in [None, Some(tenant.id)] {
        assert_eq!(world.harness.verify(tenant).await.problems, []);
    }
    world.stop().await;
}

impl World {
    /// Inserts a document as another build would.
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

impl World {
    async fn replace(&self, collection: &str, document: Document) {
        let store = &self.harness.context.store;
        let id = document.get("_id").unwrap().clone();
        store
            .collection::<Document>(collection)
            .replace_one(doc! { "_id": id }, document)
            .upsert(true)
            .await
            .unwrap();
    }

    /// Asserts that every stored document of `collection` decodes as `T`.
    async fn reads_all<T: DeserializeOwned + Send + Sync>(
        &self,
        collection: &str,
        stored: &Document,
    ) {
        let documents = self.harness.context.store.collection::<T>(collection);
        let ids: Vec<Bson> = stored
            .get_array(collection)
            .unwrap()
            .iter()
            .map(|document| document.as_document().unwrap().get("_id").unwrap().clone())
            .collect();
        let expected = ids.len();
        let found = documents
            .find(doc! { "_id": { "$in": ids } })
            .await
            .unwrap()
            .try_collect::<Vec<T>>()
            .await
            .unwrap();
        assert_eq!(found.len(), expected, "{collection}");
    }
}

/// The job of the fixture that has not ended.
fn waiting_job(stored: &Document) -> Document {
    let jobs = stored.get_array("jobs").unwrap().iter();
    let mut jobs = jobs.filter_map(Bson::as_document);
    jobs.find(|job| job.get_str("state").ok() == Some("available"))
        .unwrap()
        .clone()
}

fn fixture(name: &str) -> Document {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}
