//! Attacks of one tenant on another one through accounts: nothing is gained or taken away.

use dezky_shared::{
    id::TenantId,
    member::{AccountOrigin, Member},
    queue::{
        error_code::ErrorCode,
        job::{Job, JobState},
    },
    tenant::{Owner, Tenant},
};
use dezky_sim::authentik::User;
use serde_json::json;

use super::{NEXT_PASSWORD, PASSWORD};
use crate::{harness::step, world::World};

/// Password that an attacker's admin was told, or has set since.
pub(super) const KNOWN: &str = "known to an attacker";

impl World {
    /// Runs the job until it is discarded, and asserts that the account was not admitted.
    pub(super) async fn refused_account(&self, job: &Job) -> Job {
        let job = self.harness.finished(job.id).await;
        assert_eq!(job.state, JobState::Discarded, "{job:#?}");
        let error = step(&job, "authentik").error.as_ref().unwrap();
        assert_eq!(error.code, ErrorCode::AccountTaken);
        job
    }

    /// Lets the attacker sign in once with a password of their own.
    pub(super) fn break_in(&self, login: &str) -> User {
        let authentik = &self.upstreams.authentik;
        let pk = self.user(login).pk;
        authentik.change(|state| {
            state.users.get_mut(&pk).unwrap().password = Some(KNOWN.to_owned());
        });
        authentik.sign_in(login, KNOWN).unwrap()
    }

    pub(super) fn members_of(&self, slug: &str) -> Vec<String> {
        let authentik = &self.upstreams.authentik;
        authentik.members(authentik.group_named(slug).unwrap().id)
    }

    /// Gives the tenant a domain, as its proof does.
    pub(super) async fn prove(&self, tenant: TenantId, domain: &str) -> Tenant {
        self.harness
            .change_tenant(tenant, |tenant| tenant.add_domain(domain))
            .await;
        self.completed(&self.provision(tenant).await).await;
        self.tenant(tenant).await
    }

    /// A guest of the tenant `globex`, whose account belongs to `acme`, and the provider of the guest tenant's app.
    async fn guest_with_app(&self) -> (Member, i64) {
        let acme = self.active_tenant("acme", &["acme.test"]).await;
        self.provisioned_member(&acme, "ada").await;
        let globex = self.active_tenant("globex", &[]).await;
        let app = self.active_app(&globex, "wiki").await;
        let guest = self.new_guest(&globex, "ada@acme.test").await;
        self.completed(&self.provision_member(&guest).await).await;
        (guest, app.authentik.provider_pk.unwrap())
    }

    /// A guest of a tenant without a domain, whose account that tenant created and has entered.
    pub(super) async fn planted(&self, slug: &str, login: &str) -> Member {
        let tenant = self.active_tenant(slug, &[]).await;
        let member = self.new_guest(&tenant, login).await;
        self.completed(&self.provision_member(&member).await).await;
        self.break_in(login);
        member
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_whose_password_a_tenant_knows_opens_no_other_tenant() {
    let world = World::start().await;
    world.planted("mallory", "freelancer@mail.test").await;
    let acme = world.active_tenant("acme", &["acme.test"]).await;

    let guest = world.new_guest(&acme, "freelancer@mail.test").await;
    world
        .refused_account(&world.provision_member(&guest).await)
        .await;

    assert_eq!(world.members_of("acme"), [""; 0]);
    assert!(!world.sees_space(&acme, "freelancer@mail.test"));
    assert_eq!(world.member(guest.id).await.user_id, None);
    assert!(world.signs_in("freelancer@mail.test", KNOWN));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_not_laundered_by_two_tenants_that_add_and_remove_the_same_login() {
    let world = World::start().await;
    let first = world.planted("mallory", "ceo@acme.test").await;
    let accomplice = world.active_tenant("accomplice", &[]).await;
    let second = world.new_guest(&accomplice, "ceo@acme.test").await;
    world
        .refused_account(&world.provision_member(&second).await)
        .await;
    for member in [&first, &second] {
        world
            .completed(&world.remove_member_now(member).await)
            .await;
    }
    let acme = world.active_tenant("acme", &["acme.test"]).await;

    let ceo = world.provisioned_member(&acme, "ceo").await;

    assert!(!world.signs_in("ceo@acme.test", KNOWN));
    assert_eq!(world.access(&acme, &ceo).await, (true, 200, true));
    let account = world.member(ceo.id).await.authentik.unwrap();
    assert_eq!(account.origin, AccountOrigin::Created);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mark_of_an_account_outlives_its_member() {
    let world = World::start().await;
    let member = world.planted("mallory", "freelancer@mail.test").await;
    let admins = world.upstreams.authentik.add_group("auditors", &json!({}));
    world.join("freelancer@mail.test", "auditors");
    world
        .completed(&world.remove_member_now(&member).await)
        .await;
    let pk = world.user("freelancer@mail.test").pk;
    world.upstreams.authentik.change(|state| {
        let user = state.users.get_mut(&pk).unwrap();
        assert!(user.groups.remove(&admins.id));
        assert!(user.groups.is_empty());
    });
    let acme = world.active_tenant("acme", &["acme.test"]).await;

    let guest = world.new_guest(&acme, "freelancer@mail.test").await;
    world
        .refused_account(&world.provision_member(&guest).await)
        .await;

    assert_eq!(world.members_of("acme"), [""; 0]);
    assert!(!world.sees_space(&acme, "freelancer@mail.test"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_a_tenant_created_does_not_become_the_owner_of_another() {
    let world = World::start().await;
    // Never used, so that only the mark tells.
    let mallory = world.active_tenant("mallory", &[]).await;
    let planted = world.new_guest(&mallory, "founder@newco.test").await;
    world
        .completed(&world.provision_member(&planted).await)
        .await;
    let newco = world.harness.add_tenant("newco", &[]).await;
    let with_owner = |tenant: &mut Tenant| {
        tenant.owner = Some(Owner {
            email: "Founder@newco.test".to_owned(),
            name: "Founder".to_owned(),
            subject: None,
        });
    };
    let newco = world.harness.change_tenant(newco.id, with_owner).await;

    world
        .refused_account(&world.provision(newco.id).await)
        .await;

    assert_eq!(world.members_of("newco"), [""; 0]);
    let person = world.user_of(&planted).await;
    assert_eq!(person.role_in(newco.id), None);
    assert_eq!(world.tenant(newco.id).await.owner.unwrap().subject, None);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_a_tenant_created_does_not_join_a_partners_team() {
    let world = World::start().await;
    world.upstreams.authentik.set_recovery_flow(true);
    world.planted("mallory", "nea@nordic.test").await;
    let partner = world.add_partner("nordic").await;
    let invitation = world
        .add_accepted_invitation(&partner, "nea@nordic.test")
        .await;

    let job = world.invite(&invitation).await;
    let job = world.harness.finished(job.id).await;

    assert_eq!(job.error.unwrap().code, ErrorCode::AccountTaken);
    let pk = world.user("nea@nordic.test").pk;
    assert_eq!(world.upstreams.authentik.recovery_link(pk), None);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_in_a_domain_of_another_tenant_is_not_created() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &["acme.test"]).await;
    let mallory = world.active_tenant("mallory", &[]).await;

    let squatter = world.new_guest(&mallory, "newhire@acme.test").await;
    world
        .refused_account(&world.provision_member(&squatter).await)
        .await;

    assert!(world.upstreams.authentik.users().is_empty());
    assert!(world.upstreams.ocis.accounts().is_empty());
    let newhire = world.provisioned_member(&acme, "newhire").await;
    assert_eq!(world.access(&acme, &newhire).await, (true, 200, true));
    let files = world.member(newhire.id).await.ocis.unwrap();
    assert_eq!(files.origin, AccountOrigin::Created);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_other_tenants_add_take_nothing_from_the_owner_of_the_domain() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &["acme.test"]).await;
    let mallory = world.active_tenant("mallory", &[]).await;
    // One address before its account exists, one after.
    world.new_guest(&mallory, "ada@acme.test").await;
    let ada = world.new_member(&acme, "ada").await;
    world.completed(&world.provision_member(&ada).await).await;
    let bob = world.provisioned_member(&acme, "bob").await;
    let guest = world.new_guest(&mallory, "bob@acme.test").await;
    world.completed(&world.provision_member(&guest).await).await;
    world.until_idle().await;
    assert_eq!(world.members_of("mallory"), ["bob@acme.test"]);

    for member in [&ada, &bob] {
        world.completed(&world.reset_password(member).await).await;
        assert!(world.signs_in(&member.email, NEXT_PASSWORD));
        world.completed(&world.suspend_member(member).await).await;
        world.until_idle().await;
        assert!(!world.signs_in(&member.email, NEXT_PASSWORD));
        world
            .completed(&world.remove_member_now(member).await)
            .await;
    }

    world.until_idle().await;
    assert!(world.upstreams.authentik.users().is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_employee_who_joins_another_tenant_stays_locked_out() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &["acme.test"]).await;
    let employee = world.provisioned_member(&acme, "ada").await;
    world
        .completed(&world.suspend_member(&employee).await)
        .await;
    let trial = world.active_tenant("trial", &[]).await;

    let accomplice = world.new_guest(&trial, "ada@acme.test").await;
    world
        .completed(&world.provision_member(&accomplice).await)
        .await;
    world.until_idle().await;

    assert!(!world.signs_in("ada@acme.test", PASSWORD));
    let files = &world.upstreams.ocis;
    assert_eq!(files.is_enabled("ada@acme.test"), Some(false));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_signs_a_guest_out_of_the_own_apps_alone() {
    let world = World::start().await;
    let (guest, provider) = world.guest_with_app().await;
    let ada = world.user("ada@acme.test");
    let authentik = &world.upstreams.authentik;
    world.sign_in(ada.pk);
    authentik.add_refresh_token_of(ada.pk, provider);
    let before = authentik.signed_in_with(ada.pk);

    world.completed(&world.sign_out_member(&guest).await).await;

    assert_eq!(authentik.signed_in_with(ada.pk), before - 1);
    assert_eq!(authentik.app_passwords(ada.pk), 1);
    let ended = world.member(guest.id).await.signed_out.unwrap();
    assert_eq!(
        (ended.sessions, ended.tokens, ended.apps_only),
        (0, 1, true)
    );

    // A suspension and a removal take no more.
    authentik.add_refresh_token_of(ada.pk, provider);
    world.completed(&world.suspend_member(&guest).await).await;
    assert_eq!(authentik.signed_in_with(ada.pk), before - 1);
    let suspended = world.member(guest.id).await;
    assert_eq!(suspended.left_generation, Some(suspended.generation));
    world
        .completed(&world.remove_member_now(&guest).await)
        .await;
    assert_eq!(authentik.signed_in_with(ada.pk), before - 1);
    assert!(world.signs_in("ada@acme.test", PASSWORD));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_leaves_the_group_before_the_tokens_end() {
    let world = World::start().await;
    let (guest, provider) = world.guest_with_app().await;
    let authentik = &world.upstreams.authentik;
    let ada = world.user("ada@acme.test").pk;
    authentik.add_refresh_token_of(ada, provider);

    world.completed(&world.suspend_member(&guest).await).await;

    let effects = authentik.server.effects.all();
    let place = |operation| {
        let mut effects = effects.iter();
        effects.position(|effect| effect.operation == operation)
    };
    assert!(place("remove_member").unwrap() < place("delete_refresh_token").unwrap());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_in_a_group_of_no_tenant_is_never_the_tenants() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &["acme.test"]).await;
    let ada = world.provisioned_member(&acme, "ada").await;
    world.upstreams.ocis.sign_in("ada@acme.test").unwrap();
    world
        .upstreams
        .authentik
        .add_group("dezky-platform-admins", &json!({}));
    world.join("ada@acme.test", "dezky-platform-admins");

    world.completed(&world.reset_password(&ada).await).await;
    assert!(world.signs_in("ada@acme.test", PASSWORD));
    world.completed(&world.suspend_member(&ada).await).await;
    assert!(world.signs_in("ada@acme.test", PASSWORD));
    assert_eq!(world.upstreams.ocis.is_enabled("ada@acme.test"), Some(true));
    world.completed(&world.remove_member_now(&ada).await).await;

    assert!(world.signs_in("ada@acme.test", PASSWORD));
    assert_eq!(world.upstreams.ocis.accounts(), ["ada@acme.test"]);
    world.stop().await;
}
