//! Ownership of accounts, the tenant's own and others: suspension, purge, second factors,
//! and the reclaim of what was left behind.

use std::time::Duration;

use dezky_shared::{
    id::TenantId,
    member::{AccountOrigin, MemberStatus},
    platform::clock,
    store::TransactionError,
    tenant::{Owner, Tenant},
    user::Role,
};
use dezky_sim::faults::{Fault, FaultRule};
use futures::FutureExt as _;
use serde_json::json;

use super::{PASSWORD, attacks::KNOWN};
use crate::{harness::step, world::World};

impl World {
    /// Deletes a tenant while the identity provider refuses to delete accounts.
    async fn delete_but_leave_accounts(&self, tenant: TenantId) {
        let refused = FaultRule {
            operation: Some("delete_user".to_owned()),
            ..FaultRule::every(Fault::Status {
                status: 400,
                retry_after: None,
            })
        };
        let faults = &self.upstreams.authentik.server.faults;
        faults.add(refused.clone());
        for job in self.delete(tenant, Duration::ZERO).await {
            self.completed(&job).await;
        }
        self.until_idle().await;
        faults.remove(&refused);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_keeps_a_files_user_that_the_member_did_not_create() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &["acme.test"]).await;
    world.upstreams.ocis.add_account("ada@acme.test");
    let ada = world.provisioned_member(&acme, "ada").await;

    world.completed(&world.remove_member_now(&ada).await).await;

    assert!(world.upstreams.authentik.users().is_empty());
    assert_eq!(world.upstreams.ocis.accounts(), ["ada@acme.test"]);
    assert!(!world.sees_space(&acme, "ada@acme.test"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_who_returns_reclaims_the_accounts_in_the_own_domain() {
    let world = World::start().await;
    let former = world.active_tenant("former", &["acme.test"]).await;
    let old = world.provisioned_member(&former, "ada").await;
    let pk = world.break_in("ada@acme.test").pk;
    let authentik = &world.upstreams.authentik;
    authentik.add_api_token(pk, "app_password");
    authentik.add_device(pk, "WebAuthnDevice", true);
    world.delete_but_leave_accounts(former.id).await;
    assert_eq!(world.member(old.id).await.status, MemberStatus::Removed);
    let acme = world.active_tenant("acme", &["acme.test"]).await;

    let ada = world.provisioned_member(&acme, "ada").await;

    assert_eq!(world.user("ada@acme.test").pk, pk);
    assert!(!world.signs_in("ada@acme.test", KNOWN));
    assert_eq!(world.access(&acme, &ada).await, (true, 200, true));
    assert!(authentik.devices(pk).is_empty());
    assert_eq!(authentik.app_passwords(pk), 0);
    let account = world.member(ada.id).await.authentik.unwrap();
    assert_eq!(account.origin, AccountOrigin::Created);
    world.completed(&world.suspend_member(&ada).await).await;
    assert_eq!(world.access(&acme, &ada).await, (false, 403, false));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_was_scheduled_before_the_tenant_is_terminated_happens_with_it() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &["acme.test"]).await;
    let leaver = world.provisioned_member(&acme, "ada").await;
    let later = clock::later(world.harness.context.store.now(), Duration::from_hours(1));
    world
        .completed(&world.delete_member(&leaver, later).await)
        .await;
    for job in world.delete(acme.id, Duration::ZERO).await {
        world.completed(&job).await;
    }

    world.until_idle().await;

    // The purge that was scheduled finds nothing to do.
    let purge = world.completed(&world.purge_member(&leaver).await).await;

    assert!(purge.steps.iter().all(|step| step.changes.is_empty()));
    assert!(world.upstreams.authentik.users().is_empty());
    assert!(world.upstreams.ocis.accounts().is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_returns_reclaims_the_account_with_a_password_that_is_not_told() {
    let world = World::start().await;
    let former = world.active_tenant("former", &["acme.test"]).await;
    world.provisioned_member(&former, "ada").await;
    world.break_in("ada@acme.test");
    world.delete_but_leave_accounts(former.id).await;
    let acme = world.harness.add_tenant("acme", &["acme.test"]).await;
    let with_owner = |tenant: &mut Tenant| {
        tenant.owner = Some(Owner {
            email: "ada@acme.test".to_owned(),
            name: "Ada".to_owned(),
            subject: None,
        });
    };
    world.harness.change_tenant(acme.id, with_owner).await;

    world.completed(&world.provision(acme.id).await).await;

    let owner = world.user("ada@acme.test");
    assert!(owner.is_active);
    assert!(!world.signs_in("ada@acme.test", KNOWN));
    assert_eq!(world.members_of("acme"), ["ada@acme.test"]);
    assert!(owner.attributes.is_empty(), "{:?}", owner.attributes);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_another_tenant_still_uses_is_not_reclaimed() {
    let world = World::start().await;
    let guest = world.planted("globex", "ada@acme.test").await;
    let acme = world.active_tenant("acme", &[]).await;
    let acme = world.prove(acme.id, "acme.test").await;

    let ada = world.new_guest(&acme, "ada@acme.test").await;
    world
        .refused_account(&world.provision_member(&ada).await)
        .await;
    assert!(world.signs_in("ada@acme.test", KNOWN));
    // Once that tenant has removed its member, nothing is left of it.
    world
        .completed(&world.remove_member_now(&guest).await)
        .await;
    world.completed(&world.provision_member(&ada).await).await;

    assert!(!world.signs_in("ada@acme.test", KNOWN));
    assert!(world.signs_in("ada@acme.test", PASSWORD));
    assert_eq!(world.members_of("globex"), [""; 0]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suspension_of_a_tenant_deactivates_only_the_accounts_that_it_created() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &["acme.test"]).await;
    let created = world.provisioned_member(&acme, "ada").await;
    let authentik = &world.upstreams.authentik;
    let grace = authentik.add_user("grace@work.test", &[]);
    let adopted = world.new_guest(&acme, "grace@work.test").await;
    world
        .completed(&world.provision_member(&adopted).await)
        .await;

    world.completed(&world.suspend(acme.id).await).await;
    world.completed(&world.update_member(&adopted).await).await;
    world.until_idle().await;

    assert!(!world.user(&created.email).is_active);
    let kept = world.user("grace@work.test");
    assert!(kept.is_active);
    assert_eq!(kept.attributes, grace.attributes);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_frozen_with_one_tenant_signs_in_once_another_has_them() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &["acme.test"]).await;
    world.provisioned_member(&acme, "ada").await;
    world.completed(&world.suspend(acme.id).await).await;
    assert!(!world.signs_in("ada@acme.test", PASSWORD));
    let globex = world.active_tenant("globex", &[]).await;

    let guest = world.new_guest(&globex, "ada@acme.test").await;
    world.completed(&world.provision_member(&guest).await).await;

    assert!(world.signs_in("ada@acme.test", PASSWORD));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_who_is_removed_before_the_account_is_known_loses_the_role() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &["acme.test"]).await;
    let known = world.add_person("acme", acme.id, "ada@acme.test").await;
    let adopted = world.new_guest(&acme, "ada@acme.test").await;
    assert!(world.person(&known).await.role_in(acme.id).is_some());
    assert_eq!(adopted.role, Role::Member);

    // Never provisioned.
    world.completed(&world.suspend_member(&adopted).await).await;

    let person = world.person(&known).await;
    assert_eq!(person.role_in(acme.id), None);
    let membership = &person.memberships[&acme.id];
    assert_eq!(membership.member_id, Some(adopted.id));
    assert_eq!(world.members_of("acme"), [""; 0]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_has_begun_is_recorded_and_none_begins_after_a_restore() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &["acme.test"]).await;
    let ada = world.provisioned_member(&acme, "ada").await;
    let bob = world.provisioned_member(&acme, "bob").await;

    world.completed(&world.remove_member_now(&ada).await).await;

    assert!(world.member(ada.id).await.purge_started_at.is_some());
    let context = &world.harness.context;
    let now = context.store.now();
    let begun: Result<bool, TransactionError<()>> = context
        .store
        .transaction(&context.members, |session, members| {
            async move { Ok(members.begin_purge(session, bob.id, now).await?) }.boxed()
        })
        .await;
    assert!(!begun.unwrap());
    assert_eq!(world.member(bob.id).await.purge_started_at, None);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn second_factors_of_an_account_that_is_not_the_tenants_are_not_reset() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &["acme.test"]).await;
    let created = world.provisioned_member(&acme, "ada").await;
    let authentik = &world.upstreams.authentik;
    authentik.add_user("grace@work.test", &[]);
    authentik.add_user("operator@dezky.test", &[]);
    authentik.add_group("dezky-platform-admins", &json!({}));
    world.join("operator@dezky.test", "dezky-platform-admins");
    let mut members = vec![created];
    for login in ["grace@work.test", "operator@dezky.test"] {
        let adopted = world.new_guest(&acme, login).await;
        world
            .completed(&world.provision_member(&adopted).await)
            .await;
        members.push(adopted);
    }
    for member in &members {
        let pk = world.user(&member.email).pk;
        authentik.add_device(pk, "TOTPDevice", true);
    }

    let mut left = Vec::new();
    for member in &members {
        let user = world.user_of(member).await.id;
        world
            .completed(&world.reset_mfa(acme.id, user, false).await)
            .await;
        left.push(authentik.devices(world.user(&member.email).pk).len());
    }

    assert_eq!(left, [0, 1, 1]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_member_loses_app_passwords_and_app_tokens_of_the_files_server() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &["acme.test"]).await;
    let ada = world.provisioned_member(&acme, "ada").await;
    let bob = world.provisioned_member(&acme, "bob").await;
    let (authentik, files) = (&world.upstreams.authentik, &world.upstreams.ocis);
    let pk = world.user("ada@acme.test").pk;
    authentik.add_api_token(pk, "app_password");
    let other = world.user("bob@acme.test").pk;
    authentik.add_api_token(other, "app_password");

    world.completed(&world.suspend_member(&ada).await).await;

    assert_eq!(authentik.app_passwords(pk), 0);
    assert_eq!(authentik.app_passwords(other), 1);
    assert_eq!(files.is_enabled("ada@acme.test"), Some(false));
    assert_eq!(files.is_enabled("bob@acme.test"), Some(true));
    world.completed(&world.resume_member(&ada).await).await;
    assert_eq!(files.is_enabled("ada@acme.test"), Some(true));

    // One that an administrator has disabled stays so.
    files.set_enabled("bob@acme.test", false);
    world.completed(&world.suspend_member(&bob).await).await;
    world.completed(&world.resume_member(&bob).await).await;
    assert_eq!(files.is_enabled("bob@acme.test"), Some(false));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_password_and_a_sign_out_end_app_passwords() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &["acme.test"]).await;
    let ada = world.provisioned_member(&acme, "ada").await;
    let authentik = &world.upstreams.authentik;
    let pk = world.user("ada@acme.test").pk;
    authentik.add_api_token(pk, "app_password");
    authentik.add_api_token(pk, "api");

    world.completed(&world.sign_out_member(&ada).await).await;
    let after_sign_out = authentik.app_passwords(pk);
    authentik.add_api_token(pk, "app_password");
    world.completed(&world.reset_password(&ada).await).await;

    assert_eq!((after_sign_out, authentik.app_passwords(pk)), (0, 0));
    let api_tokens = authentik.change(|state| state.api_tokens.len());
    assert_eq!(api_tokens, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_files_user_was_renamed_still_leaves_the_space() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &["acme.test"]).await;
    let ada = world.provisioned_member(&acme, "ada").await;
    let files = &world.upstreams.ocis;
    files.rename_account("ada@acme.test", "ada.king@acme.test");
    assert!(world.sees_space(&acme, "ada.king@acme.test"));

    world.completed(&world.suspend_member(&ada).await).await;

    assert!(!world.sees_space(&acme, "ada.king@acme.test"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_resume_of_a_tenant_takes_suspended_members_out_of_its_space_itself() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &["acme.test"]).await;
    let ada = world.provisioned_member(&acme, "ada").await;
    world.completed(&world.suspend(acme.id).await).await;
    world.completed(&world.suspend_member(&ada).await).await;

    let resume = world.completed(&world.resume(acme.id).await).await;

    let changes = &step(&resume, "ocis").changes;
    assert!(
        changes.contains(&"member removed from the space".to_owned()),
        "{changes:?}"
    );
    world.until_idle().await;
    assert!(!world.sees_space(&acme, "ada@acme.test"));
    world.stop().await;
}
