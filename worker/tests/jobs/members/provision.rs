//! Provisioning: what a new member gets, and what a changed or damaged one gets back.

use std::collections::BTreeMap;

use bson::doc;
use dezky_shared::{
    id::DomainId,
    member::{AccountOrigin, MailAddress, Mailbox, MemberStatus},
    queue::{error_code::ErrorCode, job::Job},
    user::Role,
};
use dezky_sim::{
    faults::{Fault, FaultRule},
    ocis::Role as SpaceRole,
};
use serde_json::json;

use super::PASSWORD;
use crate::{
    harness::{step, until},
    upstreams::Upstreams,
    world::World,
};

/// Waits until this step has failed, and the others are done.
async fn refused(world: &World, job: &Job, name: &str) -> Job {
    let is_refused = |job: &Job| {
        let mut steps = job.steps.iter();
        !job.steps.is_empty() && steps.all(|step| step.state.is_done() != (step.name == name))
    };
    let has_error = |job: &Job| job.steps.iter().any(|step| step.error.is_some());
    let is_over = |job: &Job| is_refused(job) && has_error(job);
    world.harness.job_until(job.id, is_over).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_member_signs_in_opens_the_mailbox_and_sees_the_space() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let member = world.new_member(&tenant, "ada").await;

    let job = world
        .completed(&world.provision_member(&member).await)
        .await;

    let member = world.member(member.id).await;
    let user = world.user_of(&member).await;
    assert_eq!(member.status, MemberStatus::Active);
    assert_eq!(world.access(&tenant, &member).await, (true, 200, true));
    assert!(!world.signs_in("ada@acme.test", "another password"));
    assert_eq!(world.opens_mailbox("ada@acme.test", "another").await, 401);
    let group = world.upstreams.authentik.group_named("acme").unwrap();
    assert_eq!(
        world.upstreams.authentik.members(group.id),
        ["ada@acme.test"]
    );
    assert_eq!(user.role_in(tenant.id), Some(Role::Member));
    assert_eq!(
        user.authentik_subject_id,
        world.user("ada@acme.test").uuid.to_string()
    );
    let grants = world.space(&tenant).unwrap().grants;
    assert!(grants.iter().any(|grant| grant.role == SpaceRole::Editor));
    assert_eq!(
        step(&job, "authentik").changes,
        ["member added to the group", "password set"]
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_account_is_adopted_and_keeps_its_password() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let authentik = &world.upstreams.authentik;
    let ada = authentik.add_user("ada@acme.test", &[]);
    authentik.change(|state| {
        state.users.get_mut(&ada.pk).unwrap().password = Some("her own password".to_owned());
    });
    let member = world.new_member(&tenant, "ada").await;

    world
        .completed(&world.provision_member(&member).await)
        .await;

    let account = world.member(member.id).await.authentik.unwrap();
    assert_eq!(
        (account.pk, account.origin),
        (ada.pk, AccountOrigin::Adopted)
    );
    assert!(world.signs_in("ada@acme.test", "her own password"));
    assert!(!world.signs_in("ada@acme.test", PASSWORD));
    assert_eq!(world.opens_mailbox("ada@acme.test", PASSWORD).await, 200);
    assert_eq!(authentik.server.effects.count("set_password"), 0);
    assert_eq!(authentik.server.effects.count("create_user"), 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_not_matched_by_an_unverified_address() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let authentik = &world.upstreams.authentik;
    let mallory = authentik.add_user("mallory", &[]);
    authentik.change(|state| {
        let mallory = state.users.get_mut(&mallory.pk).unwrap();
        "ada@acme.test".clone_into(&mut mallory.email);
    });
    let member = world.new_member(&tenant, "ada").await;

    world
        .completed(&world.provision_member(&member).await)
        .await;

    let account = world.member(member.id).await.authentik.unwrap();
    assert_ne!(account.pk, mallory.pk);
    assert_eq!(account.origin, AccountOrigin::Created);
    assert!(world.user("mallory").groups.is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_a_list_has_is_a_conflict_and_the_other_steps_go_on() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.upstreams.stalwart.add_list("ada@acme.test", &[]);
    let member = world.new_member(&tenant, "ada").await;

    let job = world.provision_member(&member).await;
    let job = refused(&world, &job, "stalwart").await;

    let error = step(&job, "stalwart").error.as_ref().unwrap();
    assert_eq!(error.code, ErrorCode::UpstreamConflict);
    let member = world.member(member.id).await;
    assert_eq!(member.status, MemberStatus::Pending);
    assert!(member.is_failing());
    assert!(world.signs_in("ada@acme.test", PASSWORD));
    assert!(world.sees_space(&tenant, "ada@acme.test"));
    world.stop().await;
}

/// The requests to all upstreams, by upstream and operation.
fn requests(world: &World) -> BTreeMap<(usize, String), u64> {
    let Upstreams {
        authentik,
        stalwart,
        ocis,
        ..
    } = &world.upstreams;
    let servers = [&authentik.server, &stalwart.server, &ocis.server];
    let requests = servers.iter().enumerate().flat_map(|(number, server)| {
        let requests = server.faults.requests().into_iter();
        requests.map(move |(operation, count)| ((number, operation), count))
    });
    requests.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_role_alone_repeats_no_step_of_a_running_job() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.provisioned_member(&tenant, "eve").await;
    let since = |before: &BTreeMap<(usize, String), u64>| {
        let mut requests = requests(&world);
        for (operation, count) in before {
            *requests.get_mut(operation).unwrap() -= count;
        }
        requests
    };
    let before = requests(&world);
    world.provisioned_member(&tenant, "bob").await;
    let of_one = since(&before);
    let before = requests(&world);
    let member = world.new_member(&tenant, "ada").await;
    let faults = &world.upstreams.authentik.server.faults;
    let slow = Fault::SlowAnswer { millis: 500 };
    faults.add(FaultRule::once("create_user", slow));

    let job = world.provision_member(&member).await;
    until(async || faults.hits(), |&hits| hits == 1).await;
    world.change_role(member.id, Role::Admin).await;
    world.completed(&job).await;

    assert_eq!(since(&before), of_one);
    let member = world.member(member.id).await;
    assert_eq!(
        (member.status, member.role),
        (MemberStatus::Active, Role::Admin)
    );
    let user = world.user_of(&member).await;
    assert_eq!(user.memberships[&tenant.id].role, Some(Role::Admin));
    let mut conditions = member.conditions.iter();
    assert!(conditions.all(|it| it.observed_generation == member.generation));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_the_name_the_aliases_and_the_quota() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let member = world.provisioned_member(&tenant, "ada").await;
    world
        .change_member(member.id, |member| {
            "Ada Lovelace".clone_into(&mut member.name);
            let mailbox = member.mailbox.as_mut().unwrap();
            let alias = MailAddress::new("lovelace", DomainId::new(), "acme.test");
            mailbox.set_aliases(vec![alias]);
            mailbox.quota_bytes = Some(5_000_000_000);
        })
        .await;

    world.completed(&world.update_member(&member).await).await;

    let [account] = &world.upstreams.stalwart.accounts()[..] else {
        panic!("one mailbox");
    };
    assert_eq!(account.aliases, ["lovelace@acme.test"]);
    assert_eq!(account.quota, Some(5_000_000_000));
    assert_eq!(world.user("ada@acme.test").name, "Ada Lovelace");
    assert_eq!(world.access(&tenant, &member).await, (true, 200, true));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_were_renamed_upstream_get_their_names_back() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let member = world.provisioned_member(&tenant, "ada").await;
    let pk = member.authentik.as_ref().unwrap().pk;
    world.upstreams.authentik.change(|state| {
        "renamed".clone_into(&mut state.users.get_mut(&pk).unwrap().username);
    });
    let renamed = json!({ "name": "renamed" });
    world
        .upstreams
        .stalwart
        .change_account("ada@acme.test", renamed);

    world.completed(&world.update_member(&member).await).await;

    assert_eq!(world.user("ada@acme.test").pk, pk);
    assert_eq!(world.upstreams.authentik.users().len(), 1);
    assert_eq!(world.upstreams.stalwart.accounts().len(), 1);
    assert_eq!(world.access(&tenant, &member).await, (true, 200, true));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_were_deleted_upstream_are_created_again_without_a_password() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let member = world.provisioned_member(&tenant, "ada").await;
    let former = world.user_of(&member).await;
    let pk = member.authentik.as_ref().unwrap().pk;
    world
        .upstreams
        .authentik
        .change(|state| state.users.remove(&pk));

    world.completed(&world.update_member(&member).await).await;

    let user = world.user_of(&member).await;
    let users = &world.harness.context.users;
    let former = users.find(former.id).await.unwrap().unwrap();
    assert_ne!(user.id, former.id);
    assert_eq!(former.role_in(tenant.id), None);
    assert_eq!(user.role_in(tenant.id), Some(Role::Member));
    assert!(!world.signs_in("ada@acme.test", PASSWORD));
    let state = world.member_state(member.id).await;
    assert!(state.to_string().contains("PasswordMissing"), "{state}");

    world.completed(&world.reset_password(&member).await).await;

    assert!(world.signs_in("ada@acme.test", super::NEXT_PASSWORD));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_that_exists_is_adopted_with_its_mail() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.add_mailbox("ada@acme.test");
    let id = world.upstreams.stalwart.accounts()[0].id.clone();
    let member = world.new_member(&tenant, "ada").await;

    world
        .completed(&world.provision_member(&member).await)
        .await;

    let Mailbox {
        stalwart_account_id,
        ..
    } = world.member(member.id).await.mailbox.unwrap();
    assert_eq!(stalwart_account_id, Some(id));
    assert_eq!(world.opens_mailbox("ada@acme.test", PASSWORD).await, 200);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_one_time_password_stands_in_no_document() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let member = world.new_member(&tenant, "ada").await;
    let job = world.provision_member(&member).await;
    let waiting = world.harness.stored_job(job.id).await.to_string();

    let done = world.completed(&job).await;
    world.completed(&world.reset_password(&member).await).await;

    assert!(done.secrets.is_none() && done.had_secrets);
    let mut stored = vec![waiting];
    let database = world.harness.context.store.database();
    for name in database.list_collection_names().await.unwrap() {
        let documents = world
            .harness
            .context
            .store
            .collection::<bson::Document>(&name);
        let mut found = documents.find(doc! {}).await.unwrap();
        while found.advance().await.unwrap() {
            stored.push(format!("{name} {:?}", found.deserialize_current().unwrap()));
        }
    }
    for password in [PASSWORD, super::NEXT_PASSWORD] {
        let found: Vec<&String> = stored.iter().filter(|it| it.contains(password)).collect();
        assert_eq!(found, [""; 0]);
    }
    world.stop().await;
}
