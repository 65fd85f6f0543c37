//! A database that was restored to yesterday, while the upstreams are as they are today.

use bson::{Document, doc};
use dezky_shared::{
    queue::error_code::{ErrorClass, ErrorCode},
    store::Store,
    tenant::TenantStatus,
};
use futures::TryStreamExt as _;
use mongodb::IndexModel;

use crate::world::{World, step};

/// A copy of a database as `mongodump` makes one: every collection, its documents and its indexes.
pub(crate) struct Backup(Vec<Copied>);

struct Copied {
    collection: String,
    indexes: Vec<IndexModel>,
    documents: Vec<Document>,
}

impl Backup {
    pub(crate) async fn of(store: &Store) -> Self {
        let mut copied = Vec::new();
        for name in store.database().list_collection_names().await.unwrap() {
            let collection = store.collection::<Document>(&name);
            let indexes = collection.list_indexes().await.unwrap();
            let documents = collection.find(doc! {}).await.unwrap();
            copied.push(Copied {
                collection: name,
                indexes: indexes.try_collect().await.unwrap(),
                documents: documents.try_collect().await.unwrap(),
            });
        }
        Self(copied)
    }

    pub(crate) async fn restore(&self, store: &Store) {
        for copied in &self.0 {
            let collection = store.collection::<Document>(&copied.collection);
            let indexes = copied.indexes.clone();
            collection.create_indexes(indexes).await.unwrap();
            if !copied.documents.is_empty() {
                collection.insert_many(&copied.documents).await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reconciling_after_a_restore_brings_the_upstreams_back_to_what_the_copy_says() {
    let world = World::start().await;
    let suspended = world.active("suspended", &["suspended.test"]).await;
    let deleted = world.active("deleted", &["deleted.test"]).await;
    world.add_member("suspended", "ada");
    let yesterday = Backup::of(&world.harness.context.store).await;
    world.done(&world.suspend(suspended.id).await).await;
    for job in world.delete(deleted.id, std::time::Duration::ZERO).await {
        world.harness.finished(job.id).await;
    }
    world
        .harness
        .tenant_until(deleted.id, |it| it.status == TenantStatus::Terminated)
        .await;
    assert!(!world.user("ada").is_active && world.space(&deleted).is_none());

    let world = world.restored(&yesterday).await;
    let before = world.effects().len();
    let foretold = world.done(&world.dry_run(deleted.id).await).await;
    let untouched = world.effects().len() == before;
    let resumed = world.done(&world.reconcile(suspended.id).await).await;
    let made_again = world.done(&world.reconcile(deleted.id).await).await;

    // What was frozen since is thawed, and what was removed since is there again, empty: each step says so.
    assert!(untouched);
    assert!(world.user("ada").is_active);
    assert!(!world.space(&suspended).unwrap().trashed);
    for name in ["authentik", "ocis"] {
        assert!(!step(&resumed, name).changes.is_empty(), "{resumed:#?}");
    }
    let group = world.upstreams.authentik.group_named("deleted").unwrap();
    assert!(world.space(&deleted).is_some());
    let domains = world.upstreams.stalwart.domains();
    assert!(domains.contains(&"deleted.test".to_owned()));
    for name in ["authentik", "stalwart", "ocis"] {
        let changes = &step(&made_again, name).changes;
        assert!(!changes.is_empty(), "{made_again:#?}");
        assert!(!step(&foretold, name).changes.is_empty(), "{foretold:#?}");
    }
    // The ids of yesterday are replaced by today's.
    let tenant = world.tenant(deleted.id).await;
    assert_eq!(tenant.status, TenantStatus::Active);
    assert_eq!(tenant.authentik_group_id, Some(group.id.to_string()));
    assert_ne!(tenant.ocis_space_id, deleted.ocis_space_id);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_after_the_copy_is_left_alone_and_found_when_its_name_is_used_again() {
    let world = World::start().await;
    let kept = world.active("kept", &["kept.test"]).await;
    let yesterday = Backup::of(&world.harness.context.store).await;
    world
        .harness
        .change_tenant(kept.id, |tenant| {
            tenant.domains.push("more.test".to_owned());
        })
        .await;
    world.done(&world.reconcile(kept.id).await).await;
    let unknown = world.active("later", &["later.test"]).await;
    let holdings = world.holdings();

    let world = world.restored(&yesterday).await;
    let reconciled = world.done(&world.reconcile(kept.id).await).await;
    let untouched = world.holdings() == holdings;
    let again = world.harness.add_tenant("later", &["later.test"]).await;
    let job = world.provision(again.id).await;
    let refused = world
        .harness
        .job_until(job.id, |job| {
            let failed = |name: &str| job.step(name).is_some_and(|step| step.error.is_some());
            let made = job.step("ocis").is_some_and(|step| step.state.is_done());
            failed("authentik") && failed("stalwart") && made
        })
        .await;

    for name in ["authentik", "stalwart", "ocis"] {
        assert!(
            step(&reconciled, name).changes.is_empty(),
            "{reconciled:#?}"
        );
    }
    assert!(untouched);
    for name in ["authentik", "stalwart"] {
        let error = step(&refused, name).error.clone().unwrap();
        assert_eq!(error.class, ErrorClass::Conflict, "{error:#?}");
        assert_eq!(error.code, ErrorCode::UpstreamConflict);
    }
    // Spaces are found by the tenant's id, so the old one stands beside the new.
    assert!(world.space(&unknown).is_some() && world.space(&again).is_some());
    world.stop().await;
}
