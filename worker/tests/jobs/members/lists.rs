//! Mailing lists that deliver to the mailbox of a member who is being removed.

use std::time::Duration;

use dezky_shared::{
    member::{Member, MemberStatus},
    platform::clock,
    queue::{
        error_code::ErrorCode,
        job::{Job, JobState},
    },
    tenant::Condition,
};

use crate::{harness::step, world::World};

fn removable(member: &Member) -> Option<&Condition> {
    let mut conditions = member.conditions.iter();
    conditions.find(|condition| condition.kind == "Removable")
}

async fn discarded(world: &World, job: &Job) -> Job {
    let is_discarded = |job: &Job| job.state == JobState::Discarded;
    world.harness.job_until(job.id, is_discarded).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_that_lists_name_is_kept_until_they_do_not() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let other = world.active_tenant("globex", &["globex.test"]).await;
    let member = world.provisioned_member(&tenant, "ada").await;
    let mail = &world.upstreams.stalwart;
    for list in ["team@acme.test", "all@acme.test", "empty@acme.test"] {
        mail.add_list(list, &[]);
    }
    mail.set_recipients("team@acme.test", &["Ada@acme.test", "bob@acme.test"]);
    mail.set_recipients("all@acme.test", &["ada@acme.test"]);
    // Another tenant cannot prevent the removal.
    mail.add_list("spam@globex.test", &[]);
    mail.set_recipients("spam@globex.test", &["ada@acme.test"]);
    let store = &world.harness.context.store;
    let later = clock::later(store.now(), Duration::from_hours(1));

    world
        .completed(&world.delete_member(&member, later).await)
        .await;
    let warned = world.member(member.id).await;
    let purge = discarded(&world, &world.remove_member_now(&member).await).await;
    let kept = world.member(member.id).await;
    let mailboxes = mail.accounts().len();
    for list in ["team@acme.test", "all@acme.test"] {
        mail.set_recipients(list, &["bob@acme.test"]);
    }
    // The nightly reconcile repeats the purge.
    world.completed(&world.reconcile(tenant.id).await).await;
    world.until_idle().await;

    let warning = removable(&warned).unwrap();
    assert_eq!(warning.reason, "MailboxInUse");
    assert!(
        warning
            .message
            .starts_with("Mail to all@acme.test, team@acme.test is"),
        "{}",
        warning.message
    );
    let error = step(&purge, "stalwart").error.as_ref().unwrap();
    assert_eq!(error.code, ErrorCode::MailboxInUse);
    assert!(removable(&kept).is_some());
    assert_eq!(kept.status, MemberStatus::Removing);
    assert_eq!(mailboxes, 1);
    assert!(world.upstreams.authentik.users().is_empty());
    assert_eq!(world.member(member.id).await.status, MemberStatus::Removed);
    assert!(mail.accounts().is_empty());
    assert_eq!(world.tenant(other.id).await.id, other.id);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_member_is_not_marked_by_lists() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let member = world.provisioned_member(&tenant, "ada").await;
    let mail = &world.upstreams.stalwart;
    mail.add_list("team@acme.test", &[]);
    mail.set_recipients("team@acme.test", &["ada@acme.test"]);
    let store = &world.harness.context.store;
    let later = clock::later(store.now(), Duration::from_hours(1));
    world
        .completed(&world.delete_member(&member, later).await)
        .await;
    assert!(removable(&world.member(member.id).await).is_some());

    world.completed(&world.resume_member(&member).await).await;

    assert_eq!(removable(&world.member(member.id).await), None);
    assert_eq!(mail.server.faults.requests()["list_lists"], 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_do_not_hold_the_members_of_a_removed_tenant() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let member = world.provisioned_member(&tenant, "ada").await;
    let mail = &world.upstreams.stalwart;
    mail.add_list("team@acme.test", &[]);
    mail.set_recipients("team@acme.test", &["ada@acme.test"]);

    let [freeze, purge] = world.delete(tenant.id, Duration::ZERO).await;
    world.completed(&freeze).await;
    world.completed(&purge).await;

    assert!(mail.accounts().is_empty() && mail.lists().is_empty());
    assert_eq!(world.member(member.id).await.status, MemberStatus::Removed);
    world.stop().await;
}
