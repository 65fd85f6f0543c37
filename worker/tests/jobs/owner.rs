//! The owner of a new tenant.

use bson::{DateTime, Document, doc};
use dezky_shared::{
    id::TenantId,
    queue::error_code::ErrorCode,
    tenant::{Owner, Tenant},
    user::{Membership, MembershipSource, Role, User},
};
use dezky_sim::faults::{Fault, FaultRule};

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_gets_an_account_a_group_membership_and_a_user_document() {
    let world = World::start().await;
    let tenant = new_tenant(&world).await;

    world.completed(&world.provision(tenant.id).await).await;

    let account = world.user("olive@acme.test");
    let subject = account.uuid.to_string();
    let owner = world.tenant(tenant.id).await.owner.unwrap();
    assert_eq!(owner.subject.as_deref(), Some(subject.as_str()));
    let group = world.upstreams.authentik.group_named("acme").unwrap();
    assert!(account.groups.contains(&group.id));
    let person = find(&world, &subject).await.unwrap();
    assert_eq!(person.role_in(tenant.id), Some(Role::Owner));
    assert_eq!(
        person.memberships[&tenant.id].source,
        MembershipSource::Local
    );
    assert_eq!(
        (person.email.as_str(), person.name.as_str()),
        ("olive@acme.test", "Olive")
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_owner_keeps_account_and_roles() {
    let world = World::start().await;
    let account = world.upstreams.authentik.add_user("olive@acme.test", &[]);
    let now = world.harness.context.store.now();
    let elsewhere = TenantId::new();
    let membership = Membership {
        role: Some(Role::Member),
        source: MembershipSource::Claim,
        changed_at: now,
        member_id: None,
    };
    let mut person = User::first_seen(&account.uuid.to_string(), "old@acme.test", "Known", now);
    person.memberships.insert(elsewhere, membership);
    let people = world.harness.context.store.collection::<User>("users");
    people.insert_one(&person).await.unwrap();
    let tenant = new_tenant(&world).await;

    world.completed(&world.provision(tenant.id).await).await;

    assert_eq!(world.upstreams.authentik.users().len(), 1);
    let now = find(&world, &account.uuid.to_string()).await.unwrap();
    assert_eq!(now.id, person.id);
    assert_eq!(
        (now.email.as_str(), now.name.as_str()),
        ("old@acme.test", "Known")
    );
    assert_eq!(now.role_in(elsewhere), Some(Role::Member));
    assert_eq!(now.role_in(tenant.id), Some(Role::Owner));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_left_the_group_is_not_added_again() {
    let world = World::start().await;
    let tenant = new_tenant(&world).await;
    world.completed(&world.provision(tenant.id).await).await;
    world.upstreams.authentik.change(|state| {
        state.users.values_mut().next().unwrap().groups.clear();
    });

    world.completed(&world.reconcile(tenant.id).await).await;
    world.completed(&world.suspend(tenant.id).await).await;
    world.completed(&world.resume(tenant.id).await).await;

    assert!(world.user("olive@acme.test").groups.is_empty());
    assert_eq!(
        world.upstreams.authentik.server.effects.count("add_member"),
        1
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_is_added_once_despite_faults() {
    let world = World::start().await;
    let tenant = new_tenant(&world).await;
    let unavailable = Fault::Status {
        status: 503,
        retry_after: None,
    };
    let faults = &world.upstreams.authentik.server.faults;
    faults.add(FaultRule::once("create_user", Fault::AnswerLost));
    faults.add(FaultRule::once("add_member", Fault::AnswerLost));
    faults.add(FaultRule {
        times: Some(3),
        ..FaultRule::once("list_users", unavailable)
    });

    world.completed(&world.provision(tenant.id).await).await;

    let effects = &world.upstreams.authentik.server.effects;
    assert_eq!(effects.count("create_user"), 1);
    assert_eq!(effects.count("add_member"), 1);
    let people = world.harness.context.store.collection::<User>("users");
    assert_eq!(people.count_documents(bson::doc! {}).await.unwrap(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_created_for_a_partner_can_own_only_tenants_of_that_partner() {
    for is_theirs in [false, true] {
        let world = World::start().await;
        world.upstreams.authentik.set_recovery_flow(true);
        let partner = world.add_partner("nordic").await;
        let invitation = world.add_invitation(&partner, "olive@acme.test").await;
        world.completed(&world.invite(&invitation).await).await;
        let tenant = new_tenant(&world).await;
        if is_theirs {
            world.attach(tenant.id, &partner).await;
        }

        let job = world.provision(tenant.id).await;
        let job = world
            .harness
            .job_until(job.id, |job| !job.attempts.is_empty())
            .await;

        let person = find(&world, &world.user("olive@acme.test").uuid.to_string()).await;
        let role = person.unwrap().role_in(tenant.id);
        let error = job.steps.iter().find_map(|step| step.error.as_ref());
        if is_theirs {
            assert_eq!((role, error), (Some(Role::Owner), None));
        } else {
            assert_eq!(role, None);
            assert_eq!(error.unwrap().code, ErrorCode::AccountTaken);
        }
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_in_old_tokens_do_not_restore_a_deleted_owner() {
    let world = World::start().await;
    let account = world.upstreams.authentik.add_user("olive@acme.test", &[]);
    let at = DateTime::from_millis(1_795_339_800_000);
    let deleted = doc! { "_id": account.uuid.to_string(), "at": at };
    let store = &world.harness.context.store;
    let gone = store.collection::<Document>("deleted_users");
    gone.insert_one(deleted).await.unwrap();
    let tenant = new_tenant(&world).await;

    world.completed(&world.provision(tenant.id).await).await;

    let person = find(&world, &account.uuid.to_string()).await.unwrap();
    assert_eq!(person.deleted_before, Some(at));
    world.stop().await;
}

async fn new_tenant(world: &World) -> Tenant {
    let tenant = world.harness.add_tenant("acme", &[]).await;
    world
        .harness
        .change_tenant(tenant.id, |tenant| {
            tenant.owner = Some(Owner {
                email: "olive@acme.test".to_owned(),
                name: "Olive".to_owned(),
                subject: None,
            });
        })
        .await
}

async fn find(world: &World, subject: &str) -> Option<User> {
    world
        .harness
        .context
        .users
        .find_by_subject(subject)
        .await
        .unwrap()
}
