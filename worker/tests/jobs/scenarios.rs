//! Scenarios: for each job kind that calls an upstream, a world that needs all of its calls.

use std::time::Duration;

use bson::doc;
use dezky_shared::{
    billing::Plan,
    domain::Domain,
    id::{PartnerId, TenantId},
    invitation::Invitation,
    queue::{
        args::{
            CheckSpaces, DeprovisionTenant, InvitePartnerMember, ProvisionDomain, ProvisionTenant,
            ReconcileTenant, RemoveDomain, ResumeTenant, SetDmarc, SuspendTenant, SyncPartnerTeam,
        },
        job::{Job, JobArgs as _},
    },
    tenant::Owner,
};
use dezky_sim::{ocis::Role, stalwart::StalwartSim};
use futures::{FutureExt as _, future::LocalBoxFuture};
use serde_json::json;

use crate::world::World;

/// A job kind with its world.
pub(crate) struct Scenario {
    pub(crate) kind: &'static str,
    /// Prepares the world for the job.
    pub(crate) prepare: fn(&World) -> LocalBoxFuture<'_, Scene>,
    /// Enqueues the job.
    pub(crate) enqueue: for<'a> fn(&'a World, &'a Scene) -> LocalBoxFuture<'a, Job>,
}

/// The subjects of a job.
pub(crate) struct Scene {
    pub(crate) tenant: TenantId,
    pub(crate) claim: Option<Domain>,
    pub(crate) partner: Option<PartnerId>,
    pub(crate) invitation: Option<Invitation>,
}

impl Scene {
    fn of(tenant: TenantId) -> Self {
        Self {
            tenant,
            claim: None,
            partner: None,
            invitation: None,
        }
    }

    fn about(claim: Domain) -> Self {
        let mut scene = Self::of(claim.tenant_id);
        scene.claim = Some(claim);
        scene
    }

    fn claim(&self) -> &Domain {
        self.claim.as_ref().unwrap()
    }
}

pub(crate) const PROVISION: Scenario = Scenario {
    kind: ProvisionTenant::KIND,
    prepare: |world| ordered(world).boxed_local(),
    enqueue: |world, scene| world.provision(scene.tenant).boxed_local(),
};

/// Changes an existing tenant.
pub(crate) const PROVISION_CHANGED: Scenario = Scenario {
    kind: ProvisionTenant::KIND,
    prepare: |world| changed(world).boxed_local(),
    enqueue: |world, scene| world.provision(scene.tenant).boxed_local(),
};

pub(crate) const RECONCILE: Scenario = Scenario {
    kind: ReconcileTenant::KIND,
    prepare: |world| damaged(world).boxed_local(),
    enqueue: |world, scene| world.reconcile(scene.tenant).boxed_local(),
};

/// Reconciles a suspended tenant with a member who signed in meanwhile.
pub(crate) const RECONCILE_SUSPENDED: Scenario = Scenario {
    kind: ReconcileTenant::KIND,
    prepare: |world| suspended_too_late(world).boxed_local(),
    enqueue: |world, scene| world.reconcile(scene.tenant).boxed_local(),
};

pub(crate) const SUSPEND: Scenario = Scenario {
    kind: SuspendTenant::KIND,
    prepare: |world| inhabited(world).boxed_local(),
    enqueue: |world, scene| world.suspend(scene.tenant).boxed_local(),
};

pub(crate) const RESUME: Scenario = Scenario {
    kind: ResumeTenant::KIND,
    prepare: |world| suspended(world).boxed_local(),
    enqueue: |world, scene| world.resume(scene.tenant).boxed_local(),
};

pub(crate) const DEPROVISION: Scenario = Scenario {
    kind: DeprovisionTenant::KIND,
    prepare: |world| to_be_purged(world).boxed_local(),
    enqueue: |world, scene| world.purge(scene.tenant).boxed_local(),
};

pub(crate) const PROVISION_DOMAIN: Scenario = Scenario {
    kind: ProvisionDomain::KIND,
    prepare: |world| claimed(world).boxed_local(),
    enqueue: |world, scene| world.provision_domain(scene.claim()).boxed_local(),
};

pub(crate) const SET_DMARC: Scenario = Scenario {
    kind: SetDmarc::KIND,
    prepare: |world| served(world).boxed_local(),
    enqueue: |world, scene| set_dmarc(world, scene.claim()).boxed_local(),
};

pub(crate) const REMOVE_DOMAIN: Scenario = Scenario {
    kind: RemoveDomain::KIND,
    prepare: |world| served(world).boxed_local(),
    enqueue: |world, scene| world.remove_domain(scene.claim()).boxed_local(),
};

/// Invites an existing account that a suspended tenant has frozen. No link is created, as a lost response would create
/// it twice.
pub(crate) const INVITE: Scenario = Scenario {
    kind: InvitePartnerMember::KIND,
    prepare: |world| invited(world).boxed_local(),
    enqueue: |world, scene| {
        world
            .invite(scene.invitation.as_ref().unwrap())
            .boxed_local()
    },
};

/// Synchronises a team after one member left and another joined.
pub(crate) const SYNC_TEAM: Scenario = Scenario {
    kind: SyncPartnerTeam::KIND,
    prepare: |world| staff_changed(world).boxed_local(),
    enqueue: |world, scene| world.sync_team(scene.partner.unwrap()).boxed_local(),
};

pub(crate) const CHECK_SPACES: Scenario = Scenario {
    kind: CheckSpaces::KIND,
    prepare: |world| inhabited(world).boxed_local(),
    enqueue: |world, _| world.harness.enqueue(&CheckSpaces {}).boxed_local(),
};

pub(crate) const ALL: [&Scenario; 13] = [
    &PROVISION,
    &PROVISION_CHANGED,
    &RECONCILE,
    &RECONCILE_SUSPENDED,
    &SUSPEND,
    &RESUME,
    &DEPROVISION,
    &PROVISION_DOMAIN,
    &SET_DMARC,
    &REMOVE_DOMAIN,
    &INVITE,
    &SYNC_TEAM,
    &CHECK_SPACES,
];

async fn ordered(world: &World) -> Scene {
    let harness = &world.harness;
    let tenant = harness.add_tenant("acme", &["acme.test"]).await;
    harness
        .change_tenant(tenant.id, |tenant| {
            tenant.owner = Some(Owner {
                email: "owner@acme.test".to_owned(),
                name: "Olive Owner".to_owned(),
                subject: None,
            });
        })
        .await;
    Scene::of(tenant.id)
}

async fn changed(world: &World) -> Scene {
    let tenant = world
        .active_tenant("acme", &["acme.test", "acme-mail.test"])
        .await;
    world
        .harness
        .change_tenant(tenant.id, |tenant| {
            tenant.plan = Plan::Enterprise;
            "Acme Holding".clone_into(&mut tenant.name);
            tenant.former_domains = tenant.domains.split_off(1);
        })
        .await;
    Scene::of(tenant.id)
}

async fn damaged(world: &World) -> Scene {
    let scene = inhabited(world).await;
    world.upstreams.authentik.change(|state| {
        let group = state.groups.values_mut().next().unwrap();
        group.attributes.clear();
    });
    let manual = json!({ "dkimManagement": { "@type": "Manual" } });
    world.upstreams.stalwart.change_domain("acme.test", manual);
    let tenant = world.tenant(scene.tenant).await;
    let space = world.space(&tenant).unwrap();
    let files = &world.upstreams.ocis;
    files.edit_space(&space.id, |space| "Renamed".clone_into(&mut space.name));
    files.add_member(&space.id, "mia", Role::Manager);
    scene
}

async fn inhabited(world: &World) -> Scene {
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.add_member("acme", "ada@acme.test");
    world.add_mailbox("ada@acme.test");
    Scene::of(tenant.id)
}

async fn suspended(world: &World) -> Scene {
    let scene = inhabited(world).await;
    let bob = world.add_member("acme", "bob@acme.test");
    world.completed(&world.suspend(scene.tenant).await).await;
    world.upstreams.authentik.change(|state| {
        let marks = json!([scene.tenant.to_string(), "another-suspended-tenant"]);
        let bob = state.users.get_mut(&bob.pk).unwrap();
        bob.attributes.insert("dezkyFrozenBy".to_owned(), marks);
    });
    scene
}

async fn suspended_too_late(world: &World) -> Scene {
    let scene = inhabited(world).await;
    world.completed(&world.suspend(scene.tenant).await).await;
    world.sign_in(world.user("ada@acme.test").pk);
    scene
}

async fn to_be_purged(world: &World) -> Scene {
    let scene = inhabited(world).await;
    let mail = &world.upstreams.stalwart;
    let elsewhere = StalwartSim::OWN_DOMAIN;
    mail.add_list("all@acme.test", &[]);
    mail.add_list(&format!("news@{elsewhere}"), &["news@acme.test"]);
    mail.add_account(
        &format!("postmaster@{elsewhere}"),
        "correct horse battery",
        &["postmaster@acme.test"],
        json!({}),
    );
    let [freeze, later] = world.delete(scene.tenant, Duration::from_hours(1)).await;
    world.completed(&freeze).await;
    // The job of the scenario purges it.
    let scheduled = doc! { "_id": later.id };
    world.harness.jobs().delete_one(scheduled).await.unwrap();
    scene
}

async fn claimed(world: &World) -> Scene {
    let tenant = world.active_tenant("acme", &[]).await;
    let claim = world.owned_domain(&tenant, "acme.test").await;
    let reports = doc! { "dmarc": { "policy": "reject", "rua": "reports@acme.test" } };
    world.change_claim(&claim, reports).await;
    Scene::about(claim)
}

async fn served(world: &World) -> Scene {
    let tenant = world.active_tenant("acme", &[]).await;
    let claim = world.owned_domain(&tenant, "acme.test").await;
    world.completed(&world.provision_domain(&claim).await).await;
    world.until_idle().await;
    Scene::about(claim)
}

async fn set_dmarc(world: &World, claim: &Domain) -> Job {
    let policy = doc! { "dmarc": { "policy": "reject", "rua": "reports@acme.test" } };
    world.change_claim(claim, policy).await;
    let args = SetDmarc {
        tenant_id: claim.tenant_id,
        domain_id: claim.id,
    };
    world.harness.enqueue(&args).await
}

async fn invited(world: &World) -> Scene {
    let scene = inhabited(world).await;
    world.completed(&world.suspend(scene.tenant).await).await;
    let partner = world.add_partner("nordic").await;
    world.attach(scene.tenant, &partner).await;
    let invitation = world
        .add_accepted_invitation(&partner, "ada@acme.test")
        .await;
    Scene {
        invitation: Some(invitation),
        ..scene
    }
}

async fn staff_changed(world: &World) -> Scene {
    let tenant = world.active_tenant("acme", &[]).await;
    let partner = world.add_partner("nordic").await;
    let gone = world.add_team_member(&partner, "gone@nordic.test").await;
    world.completed(&world.sync_team(partner.id).await).await;
    world.sign_in(gone.pk);
    world.remove_team_member(&gone).await;
    world.add_team_member(&partner, "new@nordic.test").await;
    Scene {
        partner: Some(partner.id),
        ..Scene::of(tenant.id)
    }
}
