//! Members of a suspended, resumed, reconciled or deleted tenant.

use std::time::Duration;

use bson::{Document, doc};
use dezky_shared::{
    member::MemberStatus,
    platform::clock,
    tenant::{PerUpstream, ProvisioningState},
};

use dezky_sim::faults::{Fault, FaultRule};

use super::PASSWORD;
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn the_suspensions_of_a_member_and_of_the_tenant_lift_only_themselves() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let ada = world.provisioned_member(&tenant, "ada").await;
    let bob = world.provisioned_member(&tenant, "bob").await;
    let nothing = (false, 403, false);

    world.completed(&world.suspend_member(&ada).await).await;
    world.completed(&world.suspend(tenant.id).await).await;
    assert_eq!(world.access(&tenant, &ada).await, nothing);
    assert_eq!(world.access(&tenant, &bob).await, nothing);

    // The tenant first.
    world.completed(&world.resume(tenant.id).await).await;
    world.until_idle().await;
    assert_eq!(world.access(&tenant, &ada).await, nothing);
    assert_eq!(world.access(&tenant, &bob).await, (true, 200, true));

    // The member first.
    world.completed(&world.suspend(tenant.id).await).await;
    world.completed(&world.resume_member(&ada).await).await;
    assert_eq!(world.access(&tenant, &ada).await, nothing);
    world.completed(&world.resume(tenant.id).await).await;
    world.until_idle().await;
    assert_eq!(world.access(&tenant, &ada).await, (true, 200, true));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_who_is_suspended_while_the_tenant_is_stays_out_of_the_resumed_space() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let ada = world.provisioned_member(&tenant, "ada").await;
    world.completed(&world.suspend(tenant.id).await).await;

    world.completed(&world.suspend_member(&ada).await).await;
    world.completed(&world.resume(tenant.id).await).await;
    world.until_idle().await;

    assert_eq!(world.access(&tenant, &ada).await, (false, 403, false));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconcile_clears_the_failure_of_a_cancelled_job() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let ada = world.provisioned_member(&tenant, "ada").await;
    world.completed(&world.suspend_member(&ada).await).await;
    // As after the cancellation of a job that had nothing left to do.
    let failed = doc! { "provisioningStatus": { "authentik": "error", "stalwart": "error", "ocis": "error" } };
    let members = world
        .harness
        .context
        .store
        .collection::<Document>("members");
    members
        .update_one(doc! { "_id": ada.id }, doc! { "$set": failed })
        .await
        .unwrap();

    world.completed(&world.reconcile(tenant.id).await).await;
    world.until_idle().await;

    let ada = world.member(ada.id).await;
    assert_eq!(
        ada.provisioning_status,
        PerUpstream::all(ProvisioningState::Ok)
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_created_in_a_suspended_tenant_can_use_it_once_it_is_resumed() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.completed(&world.suspend(tenant.id).await).await;
    let ada = world.new_member(&tenant, "ada").await;

    world.completed(&world.provision_member(&ada).await).await;
    assert_eq!(world.access(&tenant, &ada).await, (false, 403, false));
    world.completed(&world.resume(tenant.id).await).await;
    world.until_idle().await;

    assert_eq!(world.access(&tenant, &ada).await, (true, 200, true));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconcile_repairs_what_was_changed_upstream() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let ada = world.provisioned_member(&tenant, "ada").await;
    let bob = world.provisioned_member(&tenant, "bob").await;
    world.completed(&world.suspend_member(&bob).await).await;
    let authentik = &world.upstreams.authentik;
    let (ada_pk, bob_pk) = (
        world.user("ada@acme.test").pk,
        world.user("bob@acme.test").pk,
    );
    authentik.change(|state| {
        state.users.get_mut(&ada_pk).unwrap().groups.clear();
        let bob = state.users.get_mut(&bob_pk).unwrap();
        bob.is_active = true;
        bob.attributes.remove("dezkyFrozenMembers");
    });
    let space = world.space(&tenant).unwrap();
    world.upstreams.ocis.edit_space(&space.id, |space| {
        space.grants.truncate(1);
    });
    let open = serde_json::json!({ "permissions": { "@type": "Inherit" } });
    world
        .upstreams
        .stalwart
        .change_account("bob@acme.test", open);

    world.completed(&world.reconcile(tenant.id).await).await;
    world.until_idle().await;

    assert_eq!(world.access(&tenant, &ada).await, (true, 200, true));
    assert_eq!(world.access(&tenant, &bob).await, (false, 403, false));
    let group = authentik.group_named("acme").unwrap();
    assert!(
        authentik
            .members(group.id)
            .contains(&"ada@acme.test".to_owned())
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconcile_of_members_in_order_enqueues_nothing() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let ada = world.provisioned_member(&tenant, "ada").await;
    let bob = world.provisioned_member(&tenant, "bob").await;
    world.completed(&world.suspend_member(&bob).await).await;
    let effects = world.effects().len();
    let jobs = world.harness.jobs();
    let before = jobs.count_documents(bson::doc! {}).await.unwrap();

    world.completed(&world.reconcile(tenant.id).await).await;
    world.until_idle().await;

    assert_eq!(world.effects().len(), effects);
    assert_eq!(
        jobs.count_documents(bson::doc! {}).await.unwrap(),
        before + 1
    );
    assert!(world.signs_in(&ada.email, PASSWORD));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_members_of_a_deleted_tenant_are_removed_and_their_addresses_free() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let member = world.provisioned_member(&tenant, "ada").await;

    for job in world.delete(tenant.id, Duration::ZERO).await {
        world.completed(&job).await;
    }
    world.until_idle().await;

    let member = world.member(member.id).await;
    assert_eq!(member.status, MemberStatus::Removed);
    assert!(member.mailbox.unwrap().addresses.is_empty());
    assert!(!world.signs_in("ada@acme.test", PASSWORD));
    assert!(world.upstreams.stalwart.accounts().is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_owner_of_a_domain_gets_nothing_of_the_members_of_a_deleted_tenant() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let ada = world.provisioned_member(&tenant, "ada").await;
    let suspended = world.provisioned_member(&tenant, "bob").await;
    world
        .completed(&world.suspend_member(&suspended).await)
        .await;
    let removing = world.provisioned_member(&tenant, "carol").await;
    let later = clock::later(world.harness.context.store.now(), Duration::from_hours(1));
    world
        .completed(&world.delete_member(&removing, later).await)
        .await;
    world.upstreams.ocis.sign_in(&ada.email).unwrap();
    let former = world.upstreams.ocis.account(&ada.email).unwrap();
    let subject = ada.authentik.unwrap().subject;

    for job in world.delete(tenant.id, Duration::ZERO).await {
        world.completed(&job).await;
    }
    world.until_idle().await;

    assert!(world.upstreams.authentik.users().is_empty());
    assert!(world.upstreams.ocis.accounts().is_empty());
    let next = world.active_tenant("next", &["acme.test"]).await;
    let ada = world.provisioned_member(&next, "ada").await;
    assert_eq!(world.access(&next, &ada).await, (true, 200, true));
    assert_ne!(world.upstreams.ocis.account(&ada.email), Some(former));
    assert_ne!(ada.authentik.unwrap().subject, subject);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_tenant_leaves_the_accounts_of_people_who_had_them_or_use_them_elsewhere() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &["acme.test"]).await;
    let globex = world.active_tenant("globex", &["globex.test"]).await;
    let guest = world.provisioned_member(&globex, "eve").await;
    let guest_here = world.new_guest(&acme, &guest.email).await;
    world
        .completed(&world.provision_member(&guest_here).await)
        .await;
    world.upstreams.authentik.add_user("ada@acme.test", &[]);
    world.provisioned_member(&acme, "ada").await;
    world.until_idle().await;

    for job in world.delete(acme.id, Duration::ZERO).await {
        world.completed(&job).await;
    }
    world.until_idle().await;

    assert_eq!(world.access(&globex, &guest).await, (true, 200, true));
    assert!(world.user("ada@acme.test").groups.is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_termination_that_is_repeated_removes_each_account_once() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.provisioned_member(&tenant, "ada").await;
    let faults = &world.upstreams.authentik.server.faults;
    faults.add(FaultRule::once("delete_group", Fault::AnswerLost));
    faults.add(FaultRule::once("delete_user", Fault::AnswerLost));

    for job in world.delete(tenant.id, Duration::ZERO).await {
        world.completed(&job).await;
    }
    world.until_idle().await;

    assert!(world.upstreams.authentik.users().is_empty());
    let effects = &world.upstreams.authentik.server.effects;
    assert_eq!(effects.count("delete_user"), 1);
    assert_eq!(effects.count("delete_group"), 1);
    world.stop().await;
}
