//! What happens to tenants, told so that every write is made by one of the stories.

use std::time::Duration;

use bson::doc;
use dezky_shared::{
    billing::Plan,
    id::TenantId,
    tenant::{Owner, TenantStatus},
};
use dezky_sim::stalwart::StalwartSim;
use futures::{FutureExt as _, future::LocalBoxFuture};
use serde_json::json;

use crate::world::World;

/// Something that happens to a tenant, from its beginning to an end in which nothing is left to do.
pub(super) struct Story {
    pub(super) name: &'static str,
    pub(super) tell: fn(&World) -> LocalBoxFuture<'_, TenantId>,
}

pub(super) const STORIES: [Story; 10] = [
    Story {
        name: "a new tenant with an owner and two domains",
        tell: |world| begin(world).boxed_local(),
    },
    Story {
        name: "another plan and name",
        tell: |world| change(world).boxed_local(),
    },
    Story {
        name: "suspended",
        tell: |world| suspend(world).boxed_local(),
    },
    Story {
        name: "suspended and resumed",
        tell: |world| resume(world).boxed_local(),
    },
    Story {
        name: "repaired",
        tell: |world| repair(world).boxed_local(),
    },
    Story {
        name: "a domain given up",
        tell: |world| give_up_domain(world).boxed_local(),
    },
    Story {
        name: "a domain with reports",
        tell: |world| own_domain(world).boxed_local(),
    },
    Story {
        name: "a domain taken away",
        tell: |world| take_domain_away(world).boxed_local(),
    },
    Story {
        name: "on a partner's team, and removed",
        tell: |world| come_and_go(world).boxed_local(),
    },
    Story {
        name: "deleted",
        tell: |world| delete(world).boxed_local(),
    },
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
    world.done(&world.provision(tenant.id).await).await;
    tenant.id
}

async fn change(world: &World) -> TenantId {
    let tenant = world.active("acme", &[]).await;
    world
        .harness
        .change_tenant(tenant.id, |tenant| {
            tenant.plan = Plan::Enterprise;
            "Acme Holding".clone_into(&mut tenant.name);
        })
        .await;
    world.done(&world.provision(tenant.id).await).await;
    tenant.id
}

async fn suspend(world: &World) -> TenantId {
    let tenant = world.active("acme", &["acme.test"]).await;
    let ada = world.add_member("acme", "ada@acme.test");
    world.add_member("acme", "bob@acme.test");
    world.add_mailbox("ada@acme.test");
    world.add_mailbox("bob@acme.test");
    world.done(&world.suspend(tenant.id).await).await;
    // A login that was under way.
    world.sign_in(ada.pk);
    world.done(&world.reconcile(tenant.id).await).await;
    tenant.id
}

async fn resume(world: &World) -> TenantId {
    let tenant = world.active("acme", &["acme.test"]).await;
    world.add_member("acme", "ada@acme.test");
    let bob = world.add_member("acme", "bob@acme.test");
    world.add_mailbox("ada@acme.test");
    world.done(&world.suspend(tenant.id).await).await;
    world.upstreams.authentik.change(|state| {
        let marks = json!([tenant.id.to_string(), "another-suspended-tenant"]);
        let bob = state.users.get_mut(&bob.pk).unwrap();
        bob.attributes.insert("dezkyFrozenBy".to_owned(), marks);
    });
    world.done(&world.resume(tenant.id).await).await;
    tenant.id
}

async fn repair(world: &World) -> TenantId {
    let tenant = world.active("acme", &["acme.test"]).await;
    world.upstreams.authentik.change(|state| {
        let group = state.groups.values_mut().next().unwrap();
        group.attributes.clear();
    });
    let manual = json!({ "dkimManagement": { "@type": "Manual" } });
    world.upstreams.stalwart.change_domain("acme.test", manual);
    world.done(&world.reconcile(tenant.id).await).await;
    tenant.id
}

async fn give_up_domain(world: &World) -> TenantId {
    let tenant = world.active("acme", &["acme.test", "acme-mail.test"]).await;
    world
        .harness
        .change_tenant(tenant.id, |tenant| {
            tenant.former_domains = tenant.domains.split_off(1);
        })
        .await;
    world.done(&world.provision(tenant.id).await).await;
    tenant.id
}

async fn own_domain(world: &World) -> TenantId {
    let tenant = world.active("acme", &[]).await;
    let claim = world.vouched(&tenant, "acme.test").await;
    let reports = doc! { "dmarc": { "policy": "reject", "rua": "reports@acme.test" } };
    world.change_claim(&claim, reports).await;
    world.done(&world.make_domain(&claim).await).await;
    world.quiet().await;
    tenant.id
}

async fn take_domain_away(world: &World) -> TenantId {
    let tenant = world.active("acme", &[]).await;
    let claim = world.vouched(&tenant, "acme.test").await;
    world.done(&world.make_domain(&claim).await).await;
    world.done(&world.remove_domain(&claim).await).await;
    world.quiet().await;
    tenant.id
}

async fn come_and_go(world: &World) -> TenantId {
    let tenant = world.active("acme", &[]).await;
    let ada = world.add_member("acme", "ada@acme.test");
    let partner = world.add_partner("nordic").await;
    world.attach(tenant.id, &partner).await;
    let invitation = world.add_invitation(&partner, "ada@acme.test").await;
    world.done(&world.invite(&invitation).await).await;
    world.dismiss(&ada).await;
    world.done(&world.sync_team(partner.id).await).await;
    tenant.id
}

async fn delete(world: &World) -> TenantId {
    let tenant = world.active("acme", &["acme.test"]).await;
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
        world.done(&job).await;
    }
    assert_eq!(
        world.tenant(tenant.id).await.status,
        TenantStatus::Terminated
    );
    tenant.id
}
