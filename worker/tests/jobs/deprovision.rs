//! Deprovisioning: frozen immediately, purged when due, and no foreign resource removed.

use std::time::Duration;

use dezky_shared::{
    queue::args::DeprovisionTenant,
    tenant::{ProvisioningState, TenantStatus, reason},
    upstream::Upstream,
};
use dezky_sim::{
    faults::{Fault, FaultRule},
    stalwart::StalwartSim,
};
use serde_json::json;

use crate::{harness::step, upstreams::Upstreams, world::World};

/// Longer than any test.
const LATER: Duration = Duration::from_hours(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_tenant_is_only_frozen_until_its_purge_is_due() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.add_member("acme", "ada@acme.test");
    world.add_mailbox("ada@acme.test");

    let [freeze, _purge] = world.delete(tenant.id, LATER).await;
    world.completed(&freeze).await;
    // A purge that is requested too early.
    let early = world
        .harness
        .enqueue(&DeprovisionTenant {
            tenant_id: tenant.id,
        })
        .await;
    world.completed(&early).await;

    assert_eq!(
        world.tenant(tenant.id).await.status,
        TenantStatus::Terminating
    );
    assert!(world.upstreams.authentik.group_named("acme").is_some());
    assert!(!world.user("ada@acme.test").is_active);
    assert!(!world.mailbox_is_open("ada@acme.test"));
    assert!(world.space(&tenant).unwrap().trashed);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_tenant_is_as_before_its_deletion() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.add_member("acme", "ada@acme.test");
    world.add_mailbox("ada@acme.test");
    let [freeze, _purge] = world.delete(tenant.id, LATER).await;
    world.completed(&freeze).await;

    let restore = world.restore(tenant.id).await;
    world.completed(&restore).await;
    // The scheduled purge still runs.
    let purge = world
        .harness
        .enqueue(&DeprovisionTenant {
            tenant_id: tenant.id,
        })
        .await;
    let purge = world.completed(&purge).await;

    assert!(
        purge.steps.iter().all(|step| step.changes.is_empty()),
        "{purge:#?}"
    );
    assert_eq!(world.tenant(tenant.id).await.status, TenantStatus::Active);
    assert!(world.user("ada@acme.test").is_active);
    assert!(world.mailbox_is_open("ada@acme.test"));
    assert!(!world.space(&tenant).unwrap().trashed);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_removes_all_resources_of_the_tenant_and_no_others() {
    let world = World::start().await;
    let Upstreams {
        authentik,
        stalwart,
        ocis,
        ..
    } = &world.upstreams;
    let foreign_group = authentik.add_group("acme-friends", &json!({}));
    stalwart.add_domain("friends.test", json!({ "description": "another owner's" }));
    ocis.add_space("acme Ltd", "project/acme", 7);
    let other = world.active_tenant("globex", &["globex.test"]).await;
    world.add_member("globex", "gus@globex.test");
    world.add_mailbox("gus@globex.test");
    let foreign = world.upstream_state();
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let ada = world.add_member("acme", "ada@acme.test");
    world.add_mailbox("ada@acme.test");
    stalwart.add_list("all@acme.test", &[]);
    let postmaster = format!("postmaster@{}", StalwartSim::OWN_DOMAIN);
    stalwart.add_account(
        &postmaster,
        "correct horse battery",
        &["abuse@acme.test"],
        json!({}),
    );

    let [freeze, _later] = world.delete(tenant.id, LATER).await;
    world.completed(&freeze).await;
    let purge = world.completed(&world.purge(tenant.id).await).await;

    let terminated = world.tenant(tenant.id).await;
    assert_eq!(terminated.status, TenantStatus::Terminated);
    assert_eq!(terminated.slug, "acme", "the slug stays reserved");
    assert!(terminated.domains.is_empty());
    assert_eq!(
        (terminated.authentik_group_id, terminated.ocis_space_id),
        (None, None)
    );
    assert_eq!(step(&purge, "authentik").changes, ["group deleted"]);
    assert_eq!(step(&purge, "ocis").changes, ["space purged"]);
    assert_eq!(authentik.groups().len(), 2);
    assert!(authentik.group_named(&foreign_group.name).is_some());
    assert_eq!(stalwart.domains(), ["friends.test", "globex.test"]);
    assert!(stalwart.lists().is_empty());
    let mailboxes: Vec<_> = stalwart
        .accounts()
        .into_iter()
        .map(|it| (it.email, it.aliases))
        .collect();
    assert_eq!(
        mailboxes,
        [("gus@globex.test".to_owned(), vec![]), (postmaster, vec![])]
    );
    // The accounts of its members are kept, but frozen.
    let ada = authentik
        .users()
        .into_iter()
        .find(|user| user.pk == ada.pk)
        .unwrap();
    assert!(!ada.is_active && ada.groups.is_empty());
    let now = world.upstream_state();
    assert_eq!(now[0]["groups"], foreign[0]["groups"]);
    assert_eq!(now[1]["domains"], foreign[1]["domains"]);
    assert_eq!(now[2]["drives"], foreign[2]["drives"]);
    assert!(world.user("gus@globex.test").is_active && world.mailbox_is_open("gus@globex.test"));
    assert_eq!(world.tenant(other.id).await.status, TenantStatus::Active);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_immediate_purge_leaves_no_member_signed_in() {
    let world = World::start().await;
    world.active_tenant("globex", &[]).await;
    world.add_member("globex", "gus@globex.test");
    let tenant = world.active_tenant("acme", &[]).await;
    let ada = world.add_member("acme", "ada@acme.test");
    world.join("gus@globex.test", "acme");

    for job in world.delete(tenant.id, Duration::ZERO).await {
        world.completed(&job).await;
    }

    assert_eq!(
        world.tenant(tenant.id).await.status,
        TenantStatus::Terminated
    );
    assert!(!world.user("ada@acme.test").is_active);
    assert_eq!(world.upstreams.authentik.signed_in_with(ada.pk), 0);
    assert!(
        world.user("gus@globex.test").is_active,
        "a member of another tenant keeps access"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_domains_of_a_terminated_tenant_are_available_to_others() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let domains = world.harness.backfill_domains(tenant.id).await;
    for job in world.delete(tenant.id, Duration::ZERO).await {
        world.completed(&job).await;
    }

    let heir = world.active_tenant("acme-two", &["acme.test"]).await;
    // A late job of the old tenant does not affect the domain of the new one.
    world.completed(&world.reconcile(tenant.id).await).await;

    assert_eq!(world.upstreams.stalwart.domains(), ["acme.test"]);
    assert_eq!(heir.stalwart_domain.as_deref(), Some("acme.test"));
    assert_eq!(domains.len(), 1);
    let repository = &world.harness.context.domains;
    assert_eq!(repository.count_owned(tenant.id).await.unwrap(), 0);
    assert_eq!(world.harness.backfill_domains(heir.id).await.len(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_continues_after_an_upstream_outage() {
    let world = World::start_with(|config, _| {
        config.stalwart.as_mut().unwrap().timeout = Duration::from_millis(400);
    })
    .await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let [freeze, _later] = world.delete(tenant.id, LATER).await;
    world.completed(&freeze).await;
    // It ends last, with a failure.
    let too_slow = FaultRule::every(Fault::SlowAnswer { millis: 1_000 });
    world.upstreams.stalwart.server.faults.add(too_slow);

    let purge = world.purge(tenant.id).await;
    let waiting = world
        .harness
        .tenant_until(tenant.id, |tenant| {
            let state = &tenant.provisioning_status;
            let is_gone = |upstream| {
                let condition = tenant.condition(upstream);
                condition.is_some_and(|condition| condition.reason == reason::REMOVED)
            };
            state.stalwart == ProvisioningState::Error
                && is_gone(Upstream::Authentik)
                && is_gone(Upstream::Ocis)
        })
        .await;
    world.upstreams.stalwart.server.faults.clear();
    world.completed(&purge).await;

    assert_eq!(waiting.status, TenantStatus::Terminating);
    let condition = waiting.condition(Upstream::Stalwart).unwrap();
    assert!(condition.next_attempt_at.is_some());
    assert_eq!(
        world.tenant(tenant.id).await.status,
        TenantStatus::Terminated
    );
    assert!(world.upstreams.stalwart.domains().is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_leaves_foreign_resources_that_the_tenant_never_owned() {
    let world = World::start().await;
    let Upstreams {
        authentik,
        stalwart,
        ocis,
        ..
    } = &world.upstreams;
    stalwart.add_domain("foreign.test", json!({ "description": "not ours" }));
    world.add_mailbox("mia@foreign.test");
    authentik.add_group("acme", &json!({}));
    let foreign = world.upstream_state();
    let tenant = world
        .harness
        .add_tenant("acme", &["foreign.test", "acme.test"])
        .await;
    let provision = world.provision(tenant.id).await;
    world
        .harness
        .job_until(provision.id, |job| job.attempt > 1)
        .await;

    for job in world.delete(tenant.id, Duration::ZERO).await {
        world.completed(&job).await;
    }

    assert_eq!(
        world.tenant(tenant.id).await.status,
        TenantStatus::Terminated
    );
    assert_eq!(world.upstream_state(), foreign);
    assert!(ocis.spaces().is_empty());
    world.stop().await;
}
