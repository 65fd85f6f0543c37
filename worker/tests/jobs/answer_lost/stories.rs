//! Stories: tenant histories that together make every write of every client.

use std::time::Duration;

use bson::doc;
use dezky_shared::{
    billing::Plan,
    id::TenantId,
    tenant::{Owner, TenantStatus},
};
use dezky_sim::{ocis::Role, stalwart::StalwartSim};
use futures::{FutureExt as _, future::LocalBoxFuture};
use serde_json::json;

use crate::world::World;

/// A tenant history that ends with all jobs final.
pub(super) struct Story {
    pub(super) name: &'static str,
    pub(super) tell: fn(&World) -> LocalBoxFuture<'_, TenantId>,
}

macro_rules! story {
    ($name:literal, $tell:ident) => {
        Story {
            name: $name,
            tell: |world| $tell(world).boxed_local(),
        }
    };
}

pub(super) const STORIES: [Story; 10] = [
    story!("a new tenant with an owner and two domains", begin),
    story!("a changed plan and name", change),
    story!("suspended", suspend),
    story!("suspended and resumed", resume),
    story!("repaired", repair),
    story!("a released domain", release_domain),
    story!("a domain with reports", own_domain),
    story!("a domain revoked by an operator", revoke_domain),
    story!("on a partner's team, and removed", join_and_leave),
    story!("deleted", delete),
];

async fn begin(world: &World) -> TenantId {
    let tenant = world
        .harness
        .add_tenant("acme", &["acme.test", "acme-mail.test"])
        .await;
    world
        .harness
        .change_tenant(tenant.id, |tenant| {
            tenant.owner = Some(Owner {
                email: "owner@acme.test".to_owned(),
                name: "Olive Owner".to_owned(),
                subject: None,
            });
        })
        .await;
    world.completed(&world.provision(tenant.id).await).await;
    tenant.id
}

async fn change(world: &World) -> TenantId {
    let tenant = world.active_tenant("acme", &[]).await;
    world
        .harness
        .change_tenant(tenant.id, |tenant| {
            tenant.plan = Plan::Enterprise;
            "Acme Holding".clone_into(&mut tenant.name);
        })
        .await;
    world.completed(&world.provision(tenant.id).await).await;
    tenant.id
}

async fn suspend(world: &World) -> TenantId {
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let ada = world.add_member("acme", "ada@acme.test");
    world.add_member("acme", "bob@acme.test");
    world.add_mailbox("ada@acme.test");
    world.add_mailbox("bob@acme.test");
    world.completed(&world.suspend(tenant.id).await).await;
    // A login in progress.
    world.sign_in(ada.pk);
    world.completed(&world.reconcile(tenant.id).await).await;
    tenant.id
}

async fn resume(world: &World) -> TenantId {
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.add_member("acme", "ada@acme.test");
    let bob = world.add_member("acme", "bob@acme.test");
    world.add_mailbox("ada@acme.test");
    world.completed(&world.suspend(tenant.id).await).await;
    world.upstreams.authentik.change(|state| {
        let marks = json!([tenant.id.to_string(), "another-suspended-tenant"]);
        let bob = state.users.get_mut(&bob.pk).unwrap();
        bob.attributes.insert("dezkyFrozenBy".to_owned(), marks);
    });
    world.completed(&world.resume(tenant.id).await).await;
    tenant.id
}

async fn repair(world: &World) -> TenantId {
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.upstreams.authentik.change(|state| {
        let group = state.groups.values_mut().next().unwrap();
        group.attributes.clear();
    });
    let manual = json!({ "dkimManagement": { "@type": "Manual" } });
    world.upstreams.stalwart.change_domain("acme.test", manual);
    world.upstreams.stalwart.describe_domain("acme.test", "");
    let space = world.space(&tenant).unwrap();
    let files = &world.upstreams.ocis;
    files.add_member(&space.id, "mia", Role::Manager);
    world.completed(&world.reconcile(tenant.id).await).await;
    tenant.id
}

async fn release_domain(world: &World) -> TenantId {
    let tenant = world
        .active_tenant("acme", &["acme.test", "acme-mail.test"])
        .await;
    world
        .harness
        .change_tenant(tenant.id, |tenant| {
            tenant.former_domains = tenant.domains.split_off(1);
        })
        .await;
    world.completed(&world.provision(tenant.id).await).await;
    tenant.id
}

async fn own_domain(world: &World) -> TenantId {
    let tenant = world.active_tenant("acme", &[]).await;
    let claim = world.owned_domain(&tenant, "acme.test").await;
    let reports = doc! { "dmarc": { "policy": "reject", "rua": "reports@acme.test" } };
    world.change_claim(&claim, reports).await;
    world.completed(&world.provision_domain(&claim).await).await;
    world.until_idle().await;
    tenant.id
}

async fn revoke_domain(world: &World) -> TenantId {
    let tenant = world.active_tenant("acme", &[]).await;
    let claim = world.owned_domain(&tenant, "acme.test").await;
    world.completed(&world.provision_domain(&claim).await).await;
    world.completed(&world.remove_domain(&claim).await).await;
    world.until_idle().await;
    tenant.id
}

async fn join_and_leave(world: &World) -> TenantId {
    let tenant = world.active_tenant("acme", &[]).await;
    let ada = world.add_member("acme", "ada@acme.test");
    let partner = world.add_partner("nordic").await;
    world.attach(tenant.id, &partner).await;
    let invitation = world
        .add_accepted_invitation(&partner, "ada@acme.test")
        .await;
    world.completed(&world.invite(&invitation).await).await;
    world.remove_team_member(&ada).await;
    world.completed(&world.sync_team(partner.id).await).await;
    tenant.id
}

async fn delete(world: &World) -> TenantId {
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.add_member("acme", "ada@acme.test");
    world.add_mailbox("ada@acme.test");
    let mail = &world.upstreams.stalwart;
    let elsewhere = StalwartSim::OWN_DOMAIN;
    mail.add_list("all@acme.test", &[]);
    mail.add_list(&format!("news@{elsewhere}"), &["news@acme.test"]);
    let postmaster = format!("postmaster@{elsewhere}");
    mail.add_account(
        &postmaster,
        "correct horse battery",
        &["postmaster@acme.test"],
        json!({}),
    );
    for job in world.delete(tenant.id, Duration::ZERO).await {
        world.completed(&job).await;
    }
    assert_eq!(
        world.tenant(tenant.id).await.status,
        TenantStatus::Terminated
    );
    tenant.id
}
