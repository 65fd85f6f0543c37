//! Reset of a password.

use dezky_shared::{platform::clock, queue::job::StepState};
use std::time::Duration;

use super::{NEXT_PASSWORD, PASSWORD};
use crate::{harness::step, world::World};

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_replaces_both_passwords_and_ends_the_sessions() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let member = world.provisioned_member(&tenant, "ada").await;
    assert!(world.signs_in("ada@acme.test", PASSWORD));
    let pk = world.user("ada@acme.test").pk;

    world.completed(&world.reset_password(&member).await).await;

    assert_eq!(world.upstreams.authentik.signed_in_with(pk), 0);
    assert!(!world.signs_in("ada@acme.test", PASSWORD));
    assert!(world.signs_in("ada@acme.test", NEXT_PASSWORD));
    assert_eq!(world.opens_mailbox("ada@acme.test", PASSWORD).await, 401);
    assert_eq!(
        world.opens_mailbox("ada@acme.test", NEXT_PASSWORD).await,
        200
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sign_on_password_of_an_adopted_account_is_not_reset() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.upstreams.authentik.add_user("ada@acme.test", &[]);
    let member = world.provisioned_member(&tenant, "ada").await;

    let job = world.completed(&world.reset_password(&member).await).await;

    assert!(step(&job, "member_password").changes.is_empty());
    assert!(!world.signs_in("ada@acme.test", NEXT_PASSWORD));
    assert_eq!(
        world.opens_mailbox("ada@acme.test", NEXT_PASSWORD).await,
        200
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_was_issued_before_the_latest_is_not_set() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let member = world.new_member(&tenant, "ada").await;
    world
        .completed(&world.provision_member(&member).await)
        .await;
    let later = clock::later(member.password_issued_at.unwrap(), Duration::from_secs(1));
    world
        .change_member(member.id, |member| member.password_issued_at = Some(later))
        .await;
    world.completed(&world.repeat_reset(&member).await).await;

    // As a job whose first attempts failed before the reset was requested.
    world
        .completed(&world.provision_as_issued(&member).await)
        .await;

    assert!(world.signs_in("ada@acme.test", NEXT_PASSWORD));
    assert_eq!(
        world.opens_mailbox("ada@acme.test", NEXT_PASSWORD).await,
        200
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_does_not_wait_for_the_accounts_of_a_removed_member() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let removed = world.provisioned_member(&tenant, "bob").await;
    world
        .completed(&world.remove_member_now(&removed).await)
        .await;

    let job = world.completed(&world.reset_password(&removed).await).await;

    for name in ["member_password", "mailbox_password"] {
        assert_eq!(step(&job, name).state, StepState::Skipped, "{name}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_creates_the_accounts_that_do_not_exist() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let member = world.new_member(&tenant, "ada").await;

    // Before the job that provisions the member, as in an urgent lane.
    world.completed(&world.reset_password(&member).await).await;
    world.completed(&world.update_member(&member).await).await;

    assert!(world.signs_in("ada@acme.test", NEXT_PASSWORD));
    assert_eq!(
        world.opens_mailbox("ada@acme.test", NEXT_PASSWORD).await,
        200
    );
    let effects = |name: &str| world.upstreams.authentik.server.effects.count(name);
    assert_eq!(effects("create_user"), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_of_a_member_who_was_suspended_before_it_was_set_is_in_force_once_resumed() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let ada = world.new_member(&tenant, "ada").await;
    let bob = world.new_member(&tenant, "bob").await;
    let carol = world.new_member(&tenant, "carol").await;
    let later = clock::later(world.harness.context.store.now(), Duration::from_hours(1));
    for member in [&ada, &bob] {
        world.completed(&world.suspend_member(member).await).await;
    }
    world
        .completed(&world.delete_member(&carol, later).await)
        .await;

    world.completed(&world.provision_member(&ada).await).await;
    world.completed(&world.reset_password(&bob).await).await;
    world.completed(&world.provision_member(&carol).await).await;

    let told = [(&ada, PASSWORD), (&bob, NEXT_PASSWORD), (&carol, PASSWORD)];
    for (member, password) in told {
        let login = &member.email;
        assert!(!world.signs_in(login, password), "{login}");
        assert_eq!(world.opens_mailbox(login, password).await, 403, "{login}");
        assert!(!world.sees_space(&tenant, login), "{login}");
    }
    for (member, password) in told {
        let login = &member.email;
        world.completed(&world.resume_member(member).await).await;
        assert!(world.signs_in(login, password), "{login}");
        assert_eq!(world.opens_mailbox(login, password).await, 200, "{login}");
        assert!(world.sees_space(&tenant, login), "{login}");
    }
    world.stop().await;
}
