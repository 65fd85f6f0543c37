//! Restore of an older database backup, while the upstreams keep their current state.

use bson::{Document, doc};
use dezky_shared::{
    queue::error_code::{ErrorClass, ErrorCode},
    store::Store,
    tenant::TenantStatus,
};
use futures::TryStreamExt as _;
use mongodb::IndexModel;

use crate::{harness::step, world::World};

/// A database backup as by `mongodump`: documents and indexes of every collection.
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
async fn reconciliation_after_a_restore_converges_the_upstreams_to_the_backup() {
    let world = World::start().await;
    let suspended = world.active_tenant("suspended", &["suspended.test"]).await;
    let deleted = world.active_tenant("deleted", &["deleted.test"]).await;
    world.add_member("suspended", "ada");
    let backup = Backup::of(&world.harness.context.store).await;
    world.completed(&world.suspend(suspended.id).await).await;
    for job in world.delete(deleted.id, std::time::Duration::ZERO).await {
        world.harness.finished(job.id).await;
    }
    world
        .harness
        .tenant_until(deleted.id, |it| it.status == TenantStatus::Terminated)
        .await;
    assert!(!world.user("ada").is_active && world.space(&deleted).is_none());

    let world = world.with_restored_stores(&backup).await;
    let before = world.effects().len();
    let predicted = world.completed(&world.dry_run(deleted.id).await).await;
    let untouched = world.effects().len() == before;
    let resumed = world.completed(&world.reconcile(suspended.id).await).await;
    let recreated = world.completed(&world.reconcile(deleted.id).await).await;

    // Resources frozen since the backup are unfrozen, and removed ones are recreated empty; each step reports it.
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
        let changes = &step(&recreated, name).changes;
        assert!(!changes.is_empty(), "{recreated:#?}");
        assert!(!step(&predicted, name).changes.is_empty(), "{predicted:#?}");
    }
    // The ids of the backup are replaced by the current ones.
    let tenant = world.tenant(deleted.id).await;
    assert_eq!(tenant.status, TenantStatus::Active);
    assert_eq!(tenant.authentik_group_id, Some(group.id.to_string()));
    assert_ne!(tenant.ocis_space_id, deleted.ocis_space_id);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_newer_than_the_backup_are_kept_and_conflict_when_their_name_is_reused() {
    let world = World::start().await;
    let kept = world.active_tenant("kept", &["kept.test"]).await;
    let backup = Backup::of(&world.harness.context.store).await;
    world
        .harness
        .change_tenant(kept.id, |tenant| {
            tenant.domains.push("more.test".to_owned());
        })
        .await;
    world.completed(&world.reconcile(kept.id).await).await;
    let unknown = world.active_tenant("later", &["later.test"]).await;
    let holdings = world.upstream_state();

    let world = world.with_restored_stores(&backup).await;
    let reconciled = world.completed(&world.reconcile(kept.id).await).await;
    let untouched = world.upstream_state() == holdings;
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
    // Spaces are identified by tenant id, so both exist.
    assert!(world.space(&unknown).is_some() && world.space(&again).is_some());
    world.stop().await;
}
