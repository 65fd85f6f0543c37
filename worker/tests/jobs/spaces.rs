//! Identity of tenants' spaces: the stored id, never a marker that a member can set.

use std::{collections::BTreeMap, time::Duration};

use bson::{Document, doc};
use dezky_shared::{
    billing::Plan,
    platform::tls::TrustRoots,
    queue::{
        args::CheckSpaces,
        error_code::{ErrorClass, ErrorCode},
        job::Job,
    },
    tenant::{Tenant, TenantStatus},
    upstream::Upstream,
};
use dezky_sim::{
    faults::{Fault, FaultRule},
    ocis::{OcisSim, Role},
};
use http::StatusCode;
use serde_json::json;

use crate::{harness::step, world::World};

fn marker(tenant: &Tenant) -> String {
    format!("project/{}", tenant.id)
}

fn stored(tenant: &Tenant) -> &str {
    tenant.ocis_space_id.as_deref().unwrap()
}

/// An editor of the tenant's space gives it an alias of their own choice, as the server lets them.
async fn set_alias_as_editor(world: &World, tenant: &Tenant, alias: &str) {
    let files = &world.upstreams.ocis;
    files.add_member(stored(tenant), "eve", Role::Editor);
    let url = format!("{}/graph/v1.0/drives/{}", files.server.url, stored(tenant));
    let request = TrustRoots::default()
        .client_builder()
        .build()
        .unwrap()
        .patch(url)
        .basic_auth("eve", Some(OcisSim::PASSWORD))
        .json(&json!({ "driveAlias": alias }));
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
}

fn space_ids(world: &World) -> Vec<String> {
    let spaces = world.upstreams.ocis.spaces().into_iter();
    spaces.map(|space| space.id).collect()
}

/// Requests to oCIS since `before`, by operation.
fn requests_since(world: &World, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut requests = world.upstreams.ocis.server.faults.requests();
    requests.retain(|operation, count| {
        *count -= before.get(operation).copied().unwrap_or_default();
        *count > 0
    });
    requests
}

async fn delete_now(world: &World, tenant: &Tenant) {
    for job in world.delete(tenant.id, Duration::ZERO).await {
        world.completed(&job).await;
    }
    assert_eq!(
        world.tenant(tenant.id).await.status,
        TenantStatus::Terminated
    );
}

/// Waits until the tenant's oCIS step failed with a conflict, and returns its detail.
async fn conflict_of(world: &World, job: &Job) -> String {
    let failed = world
        .harness
        .job_until(job.id, |job| {
            job.step("ocis").is_some_and(|step| step.error.is_some())
        })
        .await;
    let error = step(&failed, "ocis").error.clone().unwrap();
    assert_eq!(
        (error.code, error.class),
        (ErrorCode::UpstreamConflict, ErrorClass::Conflict)
    );
    error.detail
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_whose_marker_another_tenants_editor_set_is_reconciled_and_removed_alone() {
    let world = World::start().await;
    let victim = world.active_tenant("acme", &[]).await;
    let other = world.active_tenant("globex", &[]).await;
    set_alias_as_editor(&world, &other, &marker(&victim)).await;

    let reconciled = world.completed(&world.reconcile(victim.id).await).await;
    world.completed(&world.suspend(victim.id).await).await;
    let files = &world.upstreams.ocis;
    let others_space = || {
        let mut spaces = files.spaces().into_iter();
        spaces.find(|space| space.id == stored(&other)).unwrap()
    };
    let while_suspended = others_space();
    delete_now(&world, &victim).await;

    assert!(step(&reconciled, "ocis").changes.is_empty());
    assert!(!while_suspended.trashed && !others_space().trashed);
    assert_eq!(space_ids(&world), [stored(&other)]);
    let repaired = world.completed(&world.reconcile(other.id).await).await;
    assert_eq!(step(&repaired, "ocis").changes, ["marker restored"]);
    world.stop().await;
}

/// Its managers took our account's role, and could undo a suspension.
#[tokio::test(flavor = "multi_thread")]
async fn the_space_of_a_tenant_that_others_alone_manage_is_a_conflict() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let files = &world.upstreams.ocis;
    files.add_member(stored(&tenant), "mia", Role::Manager);
    files.edit_space(stored(&tenant), |space| {
        space.grants.remove(0);
    });

    let reconciled = conflict_of(&world, &world.reconcile(tenant.id).await).await;
    let suspended = conflict_of(&world, &world.suspend(tenant.id).await).await;

    for detail in [reconciled, suspended] {
        assert!(detail.contains(stored(&tenant)), "{detail}");
        assert!(detail.contains("no manager"), "{detail}");
    }
    let space = files.spaces().pop().unwrap();
    assert!(space.trashed);
    assert_eq!(space.grants.len(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_whose_own_editor_changed_the_marker_is_removed_by_its_stored_id() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    set_alias_as_editor(&world, &tenant, "project/precious").await;

    delete_now(&world, &tenant).await;

    assert!(space_ids(&world).is_empty());
    world.stop().await;
}

/// The tenant's own space is unknown, so the only candidate is that of the other tenant.
#[tokio::test(flavor = "multi_thread")]
async fn the_marked_space_of_another_tenant_is_a_conflict_and_is_not_touched() {
    for removes in [false, true] {
        let world = World::start().await;
        let other = world.active_tenant("globex", &[]).await;
        let tenant = world.harness.add_tenant("acme", &[]).await;
        world.harness.forget_space(tenant.id).await;
        let alias = marker(&tenant);
        // Not even members are needed: an operator may have set it.
        let files = &world.upstreams.ocis;
        files.edit_space(stored(&other), |space| space.alias.clone_from(&alias));
        let before = files.spaces();

        let job = if removes {
            let [_freeze, purge] = world.delete(tenant.id, Duration::ZERO).await;
            purge
        } else {
            world.provision(tenant.id).await
        };
        let detail = conflict_of(&world, &job).await;

        assert!(detail.contains(stored(&other)), "{detail}");
        assert!(detail.contains(&other.id.to_string()), "{detail}");
        assert_eq!(
            format!("{:?}", world.upstreams.ocis.spaces()),
            format!("{before:?}")
        );
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_space_that_two_tenants_store_is_touched_for_neither() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let other = world.active_tenant("globex", &[]).await;
    let tenants = world
        .harness
        .context
        .store
        .collection::<Document>("tenants");
    let same = doc! { "$set": { "ocisSpaceId": stored(&tenant) }, "$inc": { "revision": 1_i64 } };
    let changed = tenants.update_one(doc! { "_id": other.id }, same).await;
    assert_eq!(changed.unwrap().modified_count, 1);
    let before = world.effects();

    let [_freeze, purge] = world.delete(other.id, Duration::ZERO).await;
    let purge = conflict_of(&world, &purge).await;
    let reconcile = conflict_of(&world, &world.reconcile(tenant.id).await).await;

    assert!(purge.contains(&tenant.id.to_string()), "{purge}");
    assert!(reconcile.contains(&other.id.to_string()), "{reconcile}");
    let spaces = |effects: Vec<dezky_sim::effects::Effect>| {
        effects
            .iter()
            .filter(|effect| effect.operation.ends_with("_space"))
            .count()
    };
    assert_eq!(spaces(world.effects()), spaces(before));
    world.stop().await;
}

/// The worker died after the create, before its record.
#[tokio::test(flavor = "multi_thread")]
async fn the_space_of_an_unrecorded_create_is_adopted() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    world.harness.forget_space(tenant.id).await;

    let job = world.completed(&world.reconcile(tenant.id).await).await;

    assert!(step(&job, "ocis").changes.is_empty(), "{job:#?}");
    assert_eq!(
        world.tenant(tenant.id).await.ocis_space_id,
        tenant.ocis_space_id
    );
    assert_eq!(space_ids(&world), [stored(&tenant)]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_space_of_an_unrecorded_create_is_removed_with_its_tenant() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    world.harness.forget_space(tenant.id).await;

    delete_now(&world, &tenant).await;

    assert!(space_ids(&world).is_empty());
    world.stop().await;
}

/// The record of a create in the tenant's document exists before the request arrives.
#[tokio::test(flavor = "multi_thread")]
async fn a_create_is_recorded_before_it_is_sent() {
    let world = World::start().await;
    let slow = Fault::SlowEffect { millis: 300 };
    let files = &world.upstreams.ocis.server;
    files.faults.add(FaultRule::once("create_space", slow));
    let tenant = world.harness.add_tenant("acme", &[]).await;

    let job = world.provision(tenant.id).await;
    crate::harness::until(async || files.faults.hits(), |&hits| hits == 1).await;
    let during_the_create = world.tenant(tenant.id).await;
    world.completed(&job).await;

    assert!(tenant.ocis_space_absent && !during_the_create.ocis_space_absent);
    assert_eq!(space_ids(&world).len(), 1);
    world.stop().await;
}

/// The result does not apply to the new plan, but the id of the space holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_space_created_while_the_tenant_changed_is_recorded() {
    let world = World::start().await;
    let slow = Fault::SlowAnswer { millis: 300 };
    let files = &world.upstreams.ocis.server;
    files.faults.add(FaultRule::once("create_space", slow));
    let tenant = world.harness.add_tenant("acme", &[]).await;

    let job = world.provision(tenant.id).await;
    crate::harness::until(async || files.faults.hits(), |&hits| hits == 1).await;
    world
        .harness
        .change_tenant(tenant.id, |tenant| tenant.plan = Plan::Enterprise)
        .await;
    world.completed(&job).await;

    assert_eq!(files.faults.requests().get("list_spaces"), None);
    assert_eq!(space_ids(&world), [stored(&world.tenant(tenant.id).await)]);
    world.stop().await;
}

/// An earlier create lands between the search and the create of a later attempt.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_duplicate_of_a_create_that_landed_late_is_removed() {
    let world = World::start().await;
    let tenant = world.harness.add_tenant("acme", &[]).await;
    world.harness.forget_space(tenant.id).await;
    let files = &world.upstreams.ocis;
    let slow = Fault::SlowAnswer { millis: 500 };
    files
        .server
        .faults
        .add(FaultRule::once("create_space", slow));

    let job = world.provision(tenant.id).await;
    crate::harness::until(async || files.spaces().len(), |&spaces| spaces == 1).await;
    let earlier = files.add_space("acme Ltd", &marker(&tenant), 0);
    let job = world.completed(&job).await;

    let changes = &step(&job, "ocis").changes;
    assert_eq!(changes[..2], ["space created", "duplicate removed"]);
    assert_eq!(space_ids(&world), [earlier.as_str()]);
    assert_eq!(stored(&world.tenant(tenant.id).await), earlier);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_space_with_a_negative_quota_is_repaired_and_not_created_again() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let files = &world.upstreams.ocis;
    files.edit_space(stored(&tenant), |space| space.vanished = true);

    world.completed(&world.reconcile(tenant.id).await).await;

    assert_eq!(space_ids(&world), [stored(&tenant)]);
    assert!(!files.spaces()[0].vanished);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_tenant_costs_one_call_and_a_reconcile_another() {
    let world = World::start().await;
    for number in 0..20 {
        let alias = format!("project/other-{number}");
        world.upstreams.ocis.add_space("Others", &alias, 0);
    }
    // Another tenant's first: a process reads the id of our account once.
    let first = world.active_tenant("globex", &[]).await;
    world.completed(&world.reconcile(first.id).await).await;
    let requests = || world.upstreams.ocis.server.faults.requests();
    let calls = |operation: &str| BTreeMap::from([(operation.to_owned(), 1)]);

    let before = requests();
    let tenant = world.active_tenant("acme", &[]).await;
    let for_the_new_tenant = requests_since(&world, &before);
    let before = requests();
    world.completed(&world.reconcile(tenant.id).await).await;
    let for_a_reconcile = requests_since(&world, &before);

    assert_eq!(for_the_new_tenant, calls("create_space"));
    assert_eq!(for_a_reconcile, calls("find_space"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_removed_before_a_space_was_created_costs_no_call() {
    let world = World::start().await;
    let tenant = world.harness.add_tenant("acme", &[]).await;

    delete_now(&world, &tenant).await;

    assert!(world.upstreams.ocis.server.faults.requests().is_empty());
    let condition = world.tenant(tenant.id).await;
    let condition = condition.condition(Upstream::Ocis).unwrap().clone();
    assert_eq!(condition.reason, dezky_shared::tenant::reason::REMOVED);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daily_check_reports_duplicates_and_strays_and_changes_nothing() {
    let world = World::start().await;
    let sound = world.active_tenant("acme", &[]).await;
    let removed = world.active_tenant("globex", &[]).await;
    delete_now(&world, &removed).await;
    let absent = world.harness.add_tenant("hooli", &[]).await;
    // Its own job looks for it.
    let waiting = world.harness.add_tenant("initech", &[]).await;
    world.harness.forget_space(waiting.id).await;
    let files = &world.upstreams.ocis;
    let duplicate = files.add_space("acme Ltd", &marker(&sound), 7);
    let orphan = files.add_space("globex Ltd", &marker(&removed), 0);
    let unknown = format!("project/{}", dezky_shared::id::TenantId::new());
    let stray = files.add_space("Unknown", &unknown, 0);
    let restored = files.add_space("hooli Ltd", &marker(&absent), 0);
    files.add_space("initech Ltd", &marker(&waiting), 0);
    files.add_space("Team", "project/team", 0);
    let before = world.upstream_state();

    let job = world.harness.enqueue(&CheckSpaces {}).await;
    let job = world.completed(&job).await;

    let changes = &step(&job, "spaces").changes;
    let about = |id: &str| changes.iter().find(|change| change.starts_with(id));
    for id in [&duplicate, &orphan, &stray, &restored] {
        assert!(about(id).is_some(), "{id}: {changes:#?}");
    }
    assert_eq!(changes.len(), 4, "{changes:#?}");
    let about_both = about(&duplicate).unwrap();
    assert!(about_both.contains(stored(&sound)), "{about_both}");
    assert_eq!(world.upstream_state(), before);
    world.stop().await;
}
