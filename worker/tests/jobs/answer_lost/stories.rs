//! Stories: tenant histories that together make every write of every client.

use std::time::Duration;

use bson::doc;
use dezky_shared::{
    billing::Plan,
    id::TenantId,
    queue::{
        args::{IssueInvoice, SetDefaultCard, SettleInvoice, VoidInvoice},
        job::JobArgs,
    },
    tenant::TenantStatus,
};
use dezky_sim::{ocis::Role, stalwart::StalwartSim};
use futures::{FutureExt as _, future::LocalBoxFuture};
use serde_json::json;

use crate::{apps::NEW_SECRET, scenarios, world::World};

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

pub(super) const STORIES: [Story; 20] = [
    story!("a new tenant with an owner and two domains", begin),
    story!("a changed plan and name", change),
    story!("suspended", suspend),
    story!("suspended and resumed", resume),
    story!("repaired", repair),
    story!("a released domain", release_domain),
    story!("a domain with reports", own_domain),
    story!("a domain revoked by an operator", revoke_domain),
    story!("on a partner's team, and removed", join_and_leave),
    story!("a reset of second factors", reset_mfa),
    story!("an app, changed, with a new secret, and removed", use_app),
    story!("apps repaired", repair_apps),
    story!("apps suspended and resumed", suspend_apps),
    story!("deleted", delete),
    story!("a member, changed and removed", employ),
    story!("a member of two tenants", share),
    story!("a customer, changed", pay),
    story!("a card, entered and set", enter_card),
    story!("a card subscription, sold, changed and ended", subscribe),
    story!("invoices, sent, paid, voided and deleted", invoice),
];

async fn pay(world: &World) -> TenantId {
    let tenant = scenarios::customer(world).await;
    scenarios::change_customer(world, tenant).await;
    world.completed(&world.sync_billing(tenant).await).await;
    tenant
}

async fn enter_card(world: &World) -> TenantId {
    let (tenant_id, setup_intent_id) = scenarios::card_entered(world).await;
    let args = SetDefaultCard {
        tenant_id,
        setup_intent_id,
    };
    world.completed(&world.harness.enqueue(&args).await).await;
    tenant_id
}

async fn subscribe(world: &World) -> TenantId {
    let sold = scenarios::charged(world).await;
    let tenant = sold.tenant_id;
    for change in [scenarios::dearer(), doc! { "status": "cancelled" }] {
        scenarios::change_subscription(world, &sold, change).await;
        world.completed(&world.sync_billing(tenant).await).await;
    }
    tenant
}

async fn invoice(world: &World) -> TenantId {
    let paid = scenarios::drafted(world).await;
    let tenant_id = paid.tenant_id;
    let voided = scenarios::draft_of(world, tenant_id, 1).await;
    let deleted = scenarios::draft_of(world, tenant_id, 2).await;
    for invoice_id in [paid.id, voided.id] {
        let issue = IssueInvoice {
            tenant_id,
            invoice_id,
        };
        finished(world, &issue).await;
    }
    scenarios::create_draft(world, &deleted).await;
    let settle = SettleInvoice {
        tenant_id,
        invoice_id: paid.id,
    };
    finished(world, &settle).await;
    for invoice_id in [voided.id, deleted.id] {
        let void = VoidInvoice {
            tenant_id,
            invoice_id,
        };
        finished(world, &void).await;
    }
    tenant_id
}

/// Runs a job, and the one that follows it.
async fn finished(world: &World, args: &impl JobArgs) {
    world.completed(&world.harness.enqueue(args).await).await;
    world.until_idle().await;
}

async fn begin(world: &World) -> TenantId {
    let domains = ["acme.test", "acme-mail.test"];
    let owner = Some("owner@acme.test");
    let harness = &world.harness;
    let tenant = harness.add_fresh_tenant("acme", &domains, owner).await;
    world
        .completed(&world.provision_first(tenant.id).await)
        .await;
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

async fn reset_mfa(world: &World) -> TenantId {
    let tenant = world.active_tenant("acme", &[]).await;
    let ada = world.add_person("acme", tenant.id, "ada@acme.test").await;
    for device in ["TOTPDevice", "StaticDevice"] {
        world.upstreams.authentik.add_device(ada.pk, device, true);
    }
    let user = world.person(&ada).await.id;
    let job = world.reset_mfa(tenant.id, user, false).await;
    world.completed(&job).await;
    tenant.id
}

async fn employ(world: &World) -> TenantId {
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let ada = world.provisioned_member(&tenant, "ada").await;
    world
        .change_member(ada.id, |member| {
            "Ada Lovelace".clone_into(&mut member.name);
        })
        .await;
    world.completed(&world.update_member(&ada).await).await;
    world.completed(&world.reset_password(&ada).await).await;
    world.completed(&world.suspend_member(&ada).await).await;
    world.completed(&world.resume_member(&ada).await).await;
    world.completed(&world.remove_member_now(&ada).await).await;
    tenant.id
}

async fn share(world: &World) -> TenantId {
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let globex = world.active_tenant("globex", &[]).await;
    let ada = world.provisioned_member(&tenant, "ada").await;
    world.sign_in(world.user("ada@acme.test").pk);
    let guest = world.new_guest(&globex, "ada@acme.test").await;
    world.completed(&world.provision_member(&guest).await).await;
    world.until_idle().await;
    world.completed(&world.suspend_member(&ada).await).await;
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

async fn use_app(world: &World) -> TenantId {
    let tenant = world.active_tenant("acme", &[]).await;
    let app = world.active_app(&tenant, "wiki").await;
    world.change_app(&app, doc! { "name": "Handbook" }).await;
    let change = world.provision_without_secret(&app).await;
    world.completed(&change).await;
    let rotate = world.rotate_secret(&app, NEW_SECRET).await;
    world.completed(&rotate).await;
    world.completed(&world.remove_app(&app).await).await;
    tenant.id
}

async fn repair_apps(world: &World) -> TenantId {
    let scene = (scenarios::RECONCILE_APPS.prepare)(world).await;
    world.completed(&world.reconcile(scene.tenant).await).await;
    scene.tenant
}

async fn suspend_apps(world: &World) -> TenantId {
    let tenant = world.active_tenant("acme", &[]).await;
    world.active_app(&tenant, "wiki").await;
    world.completed(&world.suspend(tenant.id).await).await;
    world.completed(&world.resume(tenant.id).await).await;
    tenant.id
}
