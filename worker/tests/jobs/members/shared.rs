//! One person in several tenants: an account that is not a tenant's is neither deactivated, nor deleted, nor given a
//! password on its behalf.

use dezky_shared::{
    member::{AccountOrigin, MemberStatus},
    queue::job::JobState,
    user::Role,
};

use super::{NEXT_PASSWORD, PASSWORD};
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_takes_nothing_from_the_owner_of_the_domain_and_the_other_way_round() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &["acme.test"]).await;
    let globex = world.active_tenant("globex", &["globex.test"]).await;
    let first = world.provisioned_member(&acme, "ada").await;
    assert!(world.signs_in("ada@acme.test", PASSWORD));
    let second = world.new_guest(&globex, "ada@acme.test").await;
    world
        .completed(&world.provision_member(&second).await)
        .await;
    world.until_idle().await;
    let user = world.user_of(&second).await;

    assert_eq!(world.user_of(&first).await.id, user.id);
    assert_eq!(user.role_in(globex.id), Some(Role::Member));
    let adopted = world.member(second.id).await.authentik.unwrap();
    assert_eq!(adopted.origin, AccountOrigin::Adopted);

    // The tenant that has the person as a guest sets no password, and deactivates and deletes nothing.
    world.completed(&world.reset_password(&second).await).await;
    assert!(world.signs_in("ada@acme.test", PASSWORD));
    world.completed(&world.suspend_member(&second).await).await;
    let groups = |slug| {
        let group = world.upstreams.authentik.group_named(slug).unwrap();
        world.upstreams.authentik.members(group.id)
    };
    assert!(world.signs_in("ada@acme.test", PASSWORD));
    assert_eq!(groups("acme"), ["ada@acme.test"]);
    assert_eq!(groups("globex"), [""; 0]);
    assert!(world.sees_space(&acme, "ada@acme.test"));
    assert!(!world.sees_space(&globex, "ada@acme.test"));
    world.completed(&world.resume_member(&second).await).await;
    assert_eq!(groups("globex"), ["ada@acme.test"]);

    // The owner of the domain keeps the account.
    world.completed(&world.reset_password(&first).await).await;
    assert!(world.signs_in("ada@acme.test", NEXT_PASSWORD));
    world.completed(&world.suspend_member(&first).await).await;
    world.until_idle().await;
    assert!(!world.signs_in("ada@acme.test", NEXT_PASSWORD));
    world.completed(&world.resume_member(&first).await).await;
    assert!(world.signs_in("ada@acme.test", NEXT_PASSWORD));
    world
        .completed(&world.remove_member_now(&second).await)
        .await;
    world.until_idle().await;
    assert_eq!(world.member(first.id).await.status, MemberStatus::Active);
    assert!(world.signs_in("ada@acme.test", NEXT_PASSWORD));
    assert!(world.sees_space(&acme, "ada@acme.test"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tenants_that_add_the_same_person_at_once_create_one_account_for_one_of_them() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &[]).await;
    let globex = world.active_tenant("globex", &[]).await;
    let first = world.new_guest(&acme, "ada@mail.test").await;
    let second = world.new_guest(&globex, "ada@mail.test").await;

    let jobs = [
        world.provision_member(&first).await,
        world.provision_member(&second).await,
    ];
    let mut states = Vec::new();
    for job in &jobs {
        states.push(world.harness.finished(job.id).await.state);
    }
    world.until_idle().await;

    let authentik = &world.upstreams.authentik;
    states.sort_by_key(|state| *state != JobState::Completed);
    assert_eq!(states, [JobState::Completed, JobState::Discarded]);
    assert_eq!(authentik.users().len(), 1);
    assert_eq!(authentik.server.effects.count("create_user"), 1);
    assert_eq!(world.upstreams.ocis.accounts(), ["ada@mail.test"]);
    let spaces = [&acme, &globex].map(|tenant| world.sees_space(tenant, "ada@mail.test"));
    assert_eq!(spaces.iter().filter(|sees| **sees).count(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_account_of_an_operator_is_never_deactivated_or_deleted() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let member = world.provisioned_member(&tenant, "ada").await;
    let user = world.user_of(&member).await;
    let users = world
        .harness
        .context
        .store
        .collection::<bson::Document>("users");
    let flag = bson::doc! { "$set": { "platformAdmin": true }, "$inc": { "revision": 1_i64 } };
    users
        .update_one(bson::doc! { "_id": user.id }, flag)
        .await
        .unwrap();

    world.completed(&world.suspend_member(&member).await).await;
    assert!(world.signs_in("ada@acme.test", PASSWORD));
    world
        .completed(&world.remove_member_now(&member).await)
        .await;

    assert!(world.signs_in("ada@acme.test", PASSWORD));
    assert_eq!(world.upstreams.ocis.accounts(), ["ada@acme.test"]);
    assert!(world.upstreams.stalwart.accounts().is_empty());
    world.stop().await;
}
