//! Scenarios: for each job kind that calls an upstream, a world that needs all of its calls.

mod apps;
mod billing;
mod lists;

use std::time::Duration;

use bson::doc;
use dezky_shared::{
    app::App,
    billing::Plan,
    domain::Domain,
    id::{DomainId, PartnerId, TenantId},
    invitation::Invitation,
    member::{MailAddress, Member},
    queue::{
        args::{
            CheckSpaces, DeprovisionTenant, InvitePartnerMember, LookUpMfa, MeasureAllStorage,
            MeasureStorage, ProvisionDomain, ProvisionMember, ProvisionTenant, ReconcileTenant,
            RemoveDomain, RemoveMember, ResetMemberPassword, ResetMfa, ResumeMember, ResumeTenant,
            SetDmarc, SignOutMember, SuspendMember, SuspendTenant, SyncPartnerTeam,
        },
        job::{Job, JobArgs as _},
    },
};
use dezky_sim::{ocis::Role, stalwart::StalwartSim};
use futures::{FutureExt as _, future::LocalBoxFuture};
use serde_json::json;

use self::lists::unlisted_member;
pub(crate) use self::{apps::*, billing::*, lists::DELETE_MEMBER};
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
    pub(crate) app: Option<App>,
    pub(crate) member: Option<Member>,
}

impl Scene {
    fn of(tenant: TenantId) -> Self {
        Self {
            tenant,
            claim: None,
            partner: None,
            invitation: None,
            app: None,
            member: None,
        }
    }

    fn with_app(app: App) -> Self {
        let mut scene = Self::of(app.tenant_id);
        scene.app = Some(app);
        scene
    }

    fn app(&self) -> &App {
        self.app.as_ref().unwrap()
    }

    fn with(member: Member) -> Self {
        let mut scene = Self::of(member.tenant_id);
        scene.member = Some(member);
        scene
    }

    fn member(&self) -> &Member {
        self.member.as_ref().unwrap()
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
    enqueue: |world, scene| world.provision_first(scene.tenant).boxed_local(),
};

/// Provisions a tenant of which no document tells whether an earlier attempt has created anything.
pub(crate) const PROVISION_UNKNOWN: Scenario = Scenario {
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

pub(crate) const PROVISION_MEMBER: Scenario = Scenario {
    kind: ProvisionMember::KIND,
    prepare: |world| new_member(world).boxed_local(),
    enqueue: |world, scene| world.provision_member(scene.member()).boxed_local(),
};

/// Provisions a changed member whose accounts were changed upstream, too.
pub(crate) const PROVISION_MEMBER_CHANGED: Scenario = Scenario {
    kind: ProvisionMember::KIND,
    prepare: |world| changed_member(world).boxed_local(),
    enqueue: |world, scene| world.update_member(scene.member()).boxed_local(),
};

/// Provisions a member of a suspended tenant, with an existing mailbox.
pub(crate) const PROVISION_MEMBER_SUSPENDED: Scenario = Scenario {
    kind: ProvisionMember::KIND,
    prepare: |world| member_of_suspended(world).boxed_local(),
    enqueue: |world, scene| world.provision_member(scene.member()).boxed_local(),
};

pub(crate) const SUSPEND_MEMBER: Scenario = Scenario {
    kind: SuspendMember::KIND,
    prepare: |world| member(world).boxed_local(),
    enqueue: |world, scene| world.suspend_member(scene.member()).boxed_local(),
};

/// Suspends a guest, whose account belongs to another tenant.
pub(crate) const SUSPEND_SHARED_MEMBER: Scenario = Scenario {
    kind: SuspendMember::KIND,
    prepare: |world| shared_member(world).boxed_local(),
    enqueue: |world, scene| world.suspend_member(scene.member()).boxed_local(),
};

pub(crate) const RESUME_MEMBER: Scenario = Scenario {
    kind: ResumeMember::KIND,
    prepare: |world| suspended_member(world).boxed_local(),
    enqueue: |world, scene| world.resume_member(scene.member()).boxed_local(),
};

pub(crate) const REMOVE_MEMBER: Scenario = Scenario {
    kind: RemoveMember::KIND,
    prepare: |world| unlisted_member(world).boxed_local(),
    enqueue: |world, scene| world.remove_member_now(scene.member()).boxed_local(),
};

/// Removes a guest, whose account belongs to another tenant.
pub(crate) const REMOVE_SHARED_MEMBER: Scenario = Scenario {
    kind: RemoveMember::KIND,
    prepare: |world| shared_member(world).boxed_local(),
    enqueue: |world, scene| world.remove_member_now(scene.member()).boxed_local(),
};

pub(crate) const SIGN_OUT_MEMBER: Scenario = Scenario {
    kind: SignOutMember::KIND,
    prepare: |world| member(world).boxed_local(),
    enqueue: |world, scene| world.sign_out_member(scene.member()).boxed_local(),
};

pub(crate) const RESET_PASSWORD: Scenario = Scenario {
    kind: ResetMemberPassword::KIND,
    prepare: |world| member(world).boxed_local(),
    enqueue: |world, scene| world.reset_password(scene.member()).boxed_local(),
};

pub(crate) const CHECK_SPACES: Scenario = Scenario {
    kind: CheckSpaces::KIND,
    prepare: |world| inhabited(world).boxed_local(),
    enqueue: |world, _| world.harness.enqueue(&CheckSpaces {}).boxed_local(),
};

pub(crate) const MEASURE_STORAGE: Scenario = Scenario {
    kind: MeasureStorage::KIND,
    prepare: |world| inhabited(world).boxed_local(),
    enqueue: |world, scene| {
        async {
            let tenant_id = scene.tenant;
            world.harness.enqueue(&MeasureStorage { tenant_id }).await
        }
        .boxed_local()
    },
};

pub(crate) const MEASURE_ALL_STORAGE: Scenario = Scenario {
    kind: MeasureAllStorage::KIND,
    prepare: |world| inhabited(world).boxed_local(),
    enqueue: |world, _| world.harness.enqueue(&MeasureAllStorage {}).boxed_local(),
};

pub(crate) const LOOK_UP_MFA: Scenario = Scenario {
    kind: LookUpMfa::KIND,
    prepare: |world| enrolled(world).boxed_local(),
    enqueue: |world, scene| {
        async {
            let tenant_id = scene.tenant;
            world.harness.enqueue(&LookUpMfa { tenant_id }).await
        }
        .boxed_local()
    },
};

/// Deletes three devices of one person.
pub(crate) const RESET_MFA: Scenario = Scenario {
    kind: ResetMfa::KIND,
    prepare: |world| enrolled(world).boxed_local(),
    enqueue: |world, scene| {
        async {
            let account = world.user("ada@acme.test");
            let user = world.person(&account).await.id;
            world.reset_mfa(scene.tenant, user, false).await
        }
        .boxed_local()
    },
};

pub(crate) const ALL: [&Scenario; 52] = [
    &PROVISION,
    &PROVISION_UNKNOWN,
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
    &PROVISION_APP,
    &PROVISION_APP_SUSPENDED,
    &ROTATE_APP_SECRET,
    &REMOVE_APP,
    &RECONCILE_APPS,
    &SUSPEND_APPS,
    &RESUME_APPS,
    &DEPROVISION_APPS,
    &CHECK_SPACES,
    &MEASURE_STORAGE,
    &MEASURE_ALL_STORAGE,
    &LOOK_UP_MFA,
    &RESET_MFA,
    &PROVISION_MEMBER,
    &PROVISION_MEMBER_CHANGED,
    &PROVISION_MEMBER_SUSPENDED,
    &SUSPEND_MEMBER,
    &SUSPEND_SHARED_MEMBER,
    &RESUME_MEMBER,
    &REMOVE_MEMBER,
    &REMOVE_SHARED_MEMBER,
    &SIGN_OUT_MEMBER,
    &RESET_PASSWORD,
    &DELETE_MEMBER,
    &SYNC_BILLING,
    &SYNC_BILLING_CHANGED,
    &SELL_BY_CARD,
    &CHANGE_BY_CARD,
    &END_BY_CARD,
    &MIRROR_SUBSCRIPTION,
    &CREATE_SETUP_INTENT,
    &SET_DEFAULT_CARD,
    &MIRROR_CUSTOMER,
    &MIRROR_INVOICE,
    &ISSUE_INVOICE,
    &VOID_INVOICE,
    &VOID_DRAFT,
    &SETTLE_INVOICE,
    &FETCH_STRIPE_EVENTS,
];

async fn new_member(world: &World) -> Scene {
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    Scene::with(world.new_member(&tenant, "ada").await)
}

/// A member who is signed in.
async fn member(world: &World) -> Scene {
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let member = world.provisioned_member(&tenant, "ada").await;
    world.sign_in(world.user("ada@acme.test").pk);
    Scene::with(member)
}

async fn changed_member(world: &World) -> Scene {
    let scene = member(world).await;
    let pk = world.user("ada@acme.test").pk;
    world.upstreams.authentik.change(|state| {
        let ada = state.users.get_mut(&pk).unwrap();
        "renamed".clone_into(&mut ada.username);
        ada.groups.clear();
    });
    let tenant = world.tenant(scene.tenant).await;
    let space = world.space(&tenant).unwrap();
    world.upstreams.ocis.edit_space(&space.id, |space| {
        space.grants[1].role = Role::Viewer;
    });
    let changed = world.change_member(scene.member().id, |member| {
        "Ada Lovelace".clone_into(&mut member.name);
        let mailbox = member.mailbox.as_mut().unwrap();
        let alias = MailAddress::new("lovelace", DomainId::from_bytes([1; 16]), "acme.test");
        mailbox.set_aliases(vec![alias]);
        mailbox.quota_bytes = Some(5_000_000_000);
    });
    Scene::with(changed.await)
}

async fn member_of_suspended(world: &World) -> Scene {
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.completed(&world.suspend(tenant.id).await).await;
    world.add_mailbox("ada@acme.test");
    Scene::with(world.new_member(&tenant, "ada").await)
}

async fn suspended_member(world: &World) -> Scene {
    let scene = member(world).await;
    let suspended = world.suspend_member(scene.member()).await;
    world.completed(&suspended).await;
    scene
}

/// A guest of a tenant, signed in to its app: the account belongs to another tenant.
async fn shared_member(world: &World) -> Scene {
    member(world).await;
    let globex = world.active_tenant("globex", &[]).await;
    let app = world.active_app(&globex, "wiki").await;
    let guest = world.new_guest(&globex, "ada@acme.test").await;
    world.completed(&world.provision_member(&guest).await).await;
    world.until_idle().await;
    let ada = world.user("ada@acme.test").pk;
    let provider = app.authentik.provider_pk.unwrap();
    world
        .upstreams
        .authentik
        .add_refresh_token_of(ada, provider);
    Scene::with(world.member(guest.id).await)
}

async fn ordered(world: &World) -> Scene {
    let owner = Some("owner@acme.test");
    let harness = &world.harness;
    let tenant = harness.add_fresh_tenant("acme", &["acme.test"], owner);
    Scene::of(tenant.await.id)
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

async fn enrolled(world: &World) -> Scene {
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let ada = world.add_person("acme", tenant.id, "ada@acme.test").await;
    for device in ["TOTPDevice", "WebAuthnDevice", "StaticDevice"] {
        world.upstreams.authentik.add_device(ada.pk, device, true);
    }
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
