//! Suspension, removal and restore of a member.

use std::time::Duration;

use dezky_shared::{
    member::MemberStatus,
    platform::clock,
    queue::{
        error_code::ErrorCode,
        job::{Job, StepState},
    },
};
use dezky_sim::faults::{Fault, FaultRule};

use super::PASSWORD;
use crate::{harness::step, world::World};

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_member_can_do_nothing_and_a_resumed_one_everything_with_the_same_password() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let member = world.provisioned_member(&tenant, "ada").await;
    let other = world.provisioned_member(&tenant, "bob").await;
    assert!(world.signs_in("ada@acme.test", PASSWORD));
    let pk = world.user("ada@acme.test").pk;

    world.completed(&world.suspend_member(&member).await).await;
    let suspended = world.access(&tenant, &member).await;
    let signed_in = world.upstreams.authentik.signed_in_with(pk);
    let unaffected = world.access(&tenant, &other).await;
    world.completed(&world.resume_member(&member).await).await;

    assert_eq!(suspended, (false, 403, false));
    assert_eq!(signed_in, 0);
    assert_eq!(unaffected, (true, 200, true));
    assert_eq!(world.access(&tenant, &member).await, (true, 200, true));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_who_is_removed_before_the_account_exists_leaves_no_user_on_the_files_server() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let member = world.new_member(&tenant, "ada").await;
    let unavailable = FaultRule {
        operation: Some("create_user".to_owned()),
        ..FaultRule::every(Fault::Status {
            status: 503,
            retry_after: None,
        })
    };
    let faults = &world.upstreams.authentik.server.faults;
    faults.add(unavailable.clone());
    let job = world.provision_member(&member).await;
    let has_files = |job: &Job| {
        let step = job.step("ocis");
        step.is_some_and(|step| step.state == StepState::Ok)
    };
    world.harness.job_until(job.id, has_files).await;
    world.harness.cancel(job.id).await;
    faults.remove(&unavailable);

    world
        .completed(&world.remove_member_now(&member).await)
        .await;

    assert_eq!(world.upstreams.ocis.account("ada@acme.test"), None);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_an_administrator_suspended_stays_so() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let member = world.provisioned_member(&tenant, "ada").await;
    let pk = world.user("ada@acme.test").pk;
    world.upstreams.authentik.change(|state| {
        state.users.get_mut(&pk).unwrap().is_active = false;
    });

    world.completed(&world.suspend_member(&member).await).await;
    world.completed(&world.resume_member(&member).await).await;

    assert!(!world.user("ada@acme.test").is_active);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_is_suspended_first_and_can_be_restored_until_the_purge() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let member = world.provisioned_member(&tenant, "ada").await;
    let store = &world.harness.context.store;
    let later = clock::later(store.now(), Duration::from_hours(1));

    world
        .completed(&world.delete_member(&member, later).await)
        .await;
    let deleted = world.access(&tenant, &member).await;
    world.completed(&world.resume_member(&member).await).await;
    let restored = world.access(&tenant, &member).await;
    let purge = world.completed(&world.purge_member(&member).await).await;

    assert_eq!(deleted, (false, 403, false));
    assert_eq!(restored, (true, 200, true));
    // The purge that was scheduled finds a restored member.
    assert!(purge.steps.iter().all(|step| step.changes.is_empty()));
    assert_eq!(world.access(&tenant, &member).await, (true, 200, true));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_removes_the_accounts_and_frees_the_address() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let member = world.provisioned_member(&tenant, "ada").await;
    world.upstreams.ocis.sign_in("ada@acme.test").unwrap();

    world
        .completed(&world.remove_member_now(&member).await)
        .await;

    let removed = world.member(member.id).await;
    assert_eq!(removed.status, MemberStatus::Removed);
    assert!(removed.mailbox.unwrap().addresses.is_empty());
    assert!(world.upstreams.authentik.users().is_empty());
    assert!(world.upstreams.stalwart.accounts().is_empty());
    assert!(world.upstreams.ocis.accounts().is_empty());
    assert_eq!(world.space(&tenant).unwrap().grants.len(), 1);

    let next = world.provisioned_member(&tenant, "ada").await;
    // The purge again, as an operator may repeat it.
    world.completed(&world.purge_member(&member).await).await;

    assert_ne!(next.id, member.id);
    assert_eq!(world.access(&tenant, &next).await, (true, 200, true));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_ends_the_sessions_of_this_person_only() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let member = world.provisioned_member(&tenant, "ada").await;
    world.provisioned_member(&tenant, "bob").await;
    for login in ["ada@acme.test", "bob@acme.test"] {
        assert!(world.signs_in(login, PASSWORD));
    }

    world.completed(&world.sign_out_member(&member).await).await;

    let signed_in = |login| {
        let pk = world.user(login).pk;
        world.upstreams.authentik.signed_in_with(pk)
    };
    assert_eq!(signed_in("ada@acme.test"), 0);
    assert_eq!(signed_in("bob@acme.test"), 3);
    let ended = world.member(member.id).await.signed_out.unwrap();
    assert_eq!((ended.sessions, ended.tokens), (1, 1));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_a_tenant_that_is_not_provisioned_waits_for_it() {
    let world = World::start().await;
    let tenant = world.harness.add_tenant("acme", &["acme.test"]).await;
    let member = world.new_member(&tenant, "ada").await;

    let job = world.provision_member(&member).await;
    let waiting = world.harness.job_until(job.id, |job| {
        !job.steps.is_empty() && job.steps.iter().all(|step| step.state == StepState::Error)
    });
    let waiting = waiting.await;
    world.completed(&world.provision(tenant.id).await).await;
    world.completed(&job).await;

    for name in ["authentik", "stalwart", "ocis"] {
        let error = step(&waiting, name).error.as_ref().unwrap();
        assert_eq!(error.code, ErrorCode::UpstreamNotReady, "{name}");
    }
    let tenant = world.tenant(tenant.id).await;
    assert_eq!(world.access(&tenant, &member).await, (true, 200, true));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_whose_create_was_not_answered_is_deleted_with_a_member_who_is_removed_meanwhile() {
    let world = World::start_with(|_, times| {
        // Longer than it takes to cancel the job.
        times.in_doubt_wait = Duration::from_secs(2);
    })
    .await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let member = world.new_member(&tenant, "ada").await;
    let faults = &world.upstreams.ocis.server.faults;
    faults.add(FaultRule::once("create_user", Fault::AnswerLost));
    // The next attempt would look for the user.
    let job = world.provision_member(&member).await;
    let is_in_doubt = |job: &Job| {
        let mut steps = job.steps.iter();
        steps.any(|step| step.state == StepState::Unknown)
    };
    world.harness.job_until(job.id, is_in_doubt).await;
    world.harness.cancel(job.id).await;
    world.harness.finished(job.id).await;
    assert_eq!(world.member(member.id).await.ocis, None);
    world.completed(&world.suspend(tenant.id).await).await;

    // The suspension that comes first finds the user, too.
    let later = clock::later(world.harness.context.store.now(), Duration::from_hours(1));
    world
        .completed(&world.delete_member(&member, later).await)
        .await;
    world
        .completed(&world.remove_member_now(&member).await)
        .await;

    assert_eq!(world.upstreams.ocis.account("ada@acme.test"), None);
    assert_eq!(world.member(member.id).await.status, MemberStatus::Removed);
    world.stop().await;
}
