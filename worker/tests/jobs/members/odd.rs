//! Odd states of the upstreams and of the tenant, and races: each ends with what the member's document says.

use std::time::Duration;

use dezky_shared::{
    member::{AccountOrigin, MemberStatus},
    queue::{error_code::ErrorCode, job::StepState},
    user::User,
};

use super::PASSWORD;
use crate::{harness::step, world::World};

impl World {
    /// Adds the account of an operator.
    async fn add_operator(&self, username: &str) {
        let account = self.upstreams.authentik.add_user(username, &[]);
        let now = self.harness.context.store.now();
        let mut user = User::first_seen(&account.uuid.to_string(), username, "Op", now);
        user.platform_admin = true;
        let users = self.harness.context.store.collection::<User>("users");
        users.insert_one(&user).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_in_another_case_belongs_to_another_person() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let authentik = &world.upstreams.authentik;
    let other = authentik.add_user("Ada@Acme.test", &[]);

    let member = world.provisioned_member(&tenant, "ada").await;

    let account = world.member(member.id).await.authentik.unwrap();
    assert_ne!(account.pk, other.pk);
    assert_eq!(account.origin, AccountOrigin::Created);
    assert_eq!(authentik.users().len(), 2);
    assert!(world.user("Ada@Acme.test").groups.is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_another_email_address_is_adopted_and_keeps_it() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let authentik = &world.upstreams.authentik;
    let ada = authentik.add_user("ada@acme.test", &[]);
    authentik.change(|state| {
        let ada = state.users.get_mut(&ada.pk).unwrap();
        "ada@work.test".clone_into(&mut ada.email);
    });

    let member = world.provisioned_member(&tenant, "ada").await;

    let account = world.member(member.id).await.authentik.unwrap();
    assert_eq!(
        (account.pk, account.origin),
        (ada.pk, AccountOrigin::Adopted)
    );
    assert_eq!(world.user("ada@acme.test").email, "ada@work.test");
    assert!(!world.signs_in("ada@acme.test", PASSWORD));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_created_while_the_tenant_is_purged_leaves_nothing() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let [freeze, purge] = world.delete(tenant.id, Duration::ZERO).await;
    let member = world.new_member(&tenant, "ada").await;

    let job = world.provision_member(&member).await;
    for job in [freeze, purge, job] {
        world.harness.finished(job.id).await;
    }
    world.until_idle().await;

    assert_eq!(world.member(member.id).await.status, MemberStatus::Removed);
    assert!(world.upstreams.authentik.users().is_empty());
    assert!(world.upstreams.stalwart.accounts().is_empty());
    assert!(world.upstreams.ocis.accounts().is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_members_created_during_suspensions_have_access_once_the_tenant_is_resumed() {
    const ROUNDS: usize = 20;
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let mut members = Vec::new();
    for round in 0..ROUNDS {
        let member = world.new_member(&tenant, &format!("ada{round}")).await;
        // In any order: they share the tenant's lock.
        let (created, suspended) =
            tokio::join!(world.provision_member(&member), world.suspend(tenant.id));
        let resumed = world.resume(tenant.id).await;
        for job in [created, suspended, resumed] {
            world.completed(&job).await;
        }
        members.push(member);
    }
    world.until_idle().await;

    for member in &members {
        let access = world.access(&tenant, member).await;
        assert_eq!(access, (true, 200, true), "{}", member.email);
    }
    let effects = |name: &str| world.upstreams.authentik.server.effects.count(name);
    assert_eq!(effects("create_user"), ROUNDS);
    let mail = &world.upstreams.stalwart;
    assert_eq!(mail.server.effects.count("create_account"), ROUNDS);
    let files = &world.upstreams.ocis;
    assert_eq!(files.server.effects.count("create_user"), ROUNDS);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_an_administrator_deactivated_is_no_drift_of_a_suspended_member() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let member = world.provisioned_member(&tenant, "ada").await;
    let pk = world.user("ada@acme.test").pk;
    world.upstreams.authentik.change(|state| {
        state.users.get_mut(&pk).unwrap().is_active = false;
    });
    world.completed(&world.suspend_member(&member).await).await;
    let jobs = world.harness.jobs();
    let before = jobs.count_documents(bson::doc! {}).await.unwrap();

    let job = world.completed(&world.reconcile(tenant.id).await).await;
    world.until_idle().await;

    assert!(job.steps.iter().all(|step| step.changes.is_empty()));
    let after = jobs.count_documents(bson::doc! {}).await.unwrap();
    assert_eq!(after, before + 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_is_no_member_of_the_person_any_more() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let member = world.provisioned_member(&tenant, "ada").await;
    let user = world.user_of(&member).await;
    assert_eq!(user.memberships[&tenant.id].member_id, Some(member.id));

    world
        .completed(&world.remove_member_now(&member).await)
        .await;

    let users = &world.harness.context.users;
    let user = users.find_by_subject(&user.authentik_subject_id).await;
    let membership = user.unwrap().unwrap().memberships[&tenant.id].clone();
    assert_eq!((membership.role, membership.member_id), (None, None));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_120_astral_characters_is_the_same_in_every_upstream() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let name = "\u{1F600}".repeat(120);
    let member = world.new_member(&tenant, "ada").await;
    world
        .change_member(member.id, |member| member.name.clone_from(&name))
        .await;

    world
        .completed(&world.provision_member(&member).await)
        .await;
    let effects = world.effects().len();
    world.completed(&world.update_member(&member).await).await;

    assert_eq!(world.user("ada@acme.test").name, name);
    assert_eq!(world.access(&tenant, &member).await, (true, 200, true));
    // Every upstream gives the name back as it was sent.
    assert_eq!(world.effects().len(), effects);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_accounts_of_staff_and_operators_are_admitted_and_otherwise_left_alone() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let partner = world.add_partner("nordic").await;
    world.add_team_member(&partner, "nea@nordic.test").await;
    world.add_operator("op@dezky.test").await;

    for login in ["nea@nordic.test", "op@dezky.test"] {
        let before = world.user(login);
        let guest = world.new_guest(&tenant, login).await;
        world.completed(&world.provision_member(&guest).await).await;
        let provisioned = world.member(guest.id).await;

        let reset = world.completed(&world.reset_password(&guest).await).await;
        world.completed(&world.suspend_member(&guest).await).await;
        let suspended = world.user(login);
        world
            .completed(&world.remove_member_now(&guest).await)
            .await;

        let origin = provisioned.authentik.unwrap().origin;
        assert_eq!(origin, AccountOrigin::Adopted, "{login}");
        let skipped = step(&reset, "member_password").state;
        assert_eq!(skipped, StepState::Skipped, "{login}");
        let kept = world.user(login);
        for after in [suspended, kept] {
            assert_eq!((after.pk, after.is_active), (before.pk, true), "{login}");
            assert_eq!(after.password, before.password, "{login}");
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_begins_with_a_digit_names_the_setting_that_the_file_server_lacks() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let member = world.new_member(&tenant, "365info").await;

    let job = world.provision_member(&member).await;
    let job = world.harness.finished(job.id).await;

    let error = step(&job, "ocis").error.as_ref().unwrap();
    assert_eq!(error.code, ErrorCode::UpstreamRejected);
    let detail = &error.detail;
    assert!(detail.contains("GRAPH_USERNAME_MATCH=none"), "{detail}");
    assert_eq!(world.access(&tenant, &member).await, (true, 200, false));

    world.upstreams.ocis.accept_any_username();
    world.completed(&world.reconcile(tenant.id).await).await;
    world.until_idle().await;

    assert_eq!(world.access(&tenant, &member).await, (true, 200, true));
    let status = world.member(member.id).await.status;
    assert_eq!(status, MemberStatus::Active);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_in_the_group_that_replaces_one_deleted_upstream() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let ada = world.provisioned_member(&tenant, "ada").await;
    let authentik = &world.upstreams.authentik;
    let group = authentik.group_named("acme").unwrap().id;
    authentik.change(|state| {
        state.groups.remove(&group);
        for user in state.users.values_mut() {
            user.groups.remove(&group);
        }
    });

    // Before any reconcile has seen it.
    let bob = world.provisioned_member(&tenant, "bob").await;
    world.completed(&world.reconcile(tenant.id).await).await;
    world.until_idle().await;

    let members = authentik.members(authentik.group_named("acme").unwrap().id);
    assert_eq!(members, ["ada@acme.test", "bob@acme.test"]);
    for member in [ada, bob] {
        assert_eq!(world.access(&tenant, &member).await, (true, 200, true));
    }
    let groups = authentik.groups();
    assert_eq!(groups.iter().filter(|it| it.name == "acme").count(), 1);
    world.stop().await;
}
