//! Attempts that end between an upstream's answer and the write that records it: MongoDB refuses the write, so that the
//! next attempt finds what one whose worker died there would leave behind.

use bson::doc;
use dezky_shared::{invitation::InvitationState, queue::job::Job};

use crate::world::World;

const NEA: &str = "nea@nordic.test";

fn was_released(job: &Job) -> bool {
    let mut attempts = job.attempts.iter();
    attempts.any(|attempt| attempt.outcome == "release")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_domain_whose_id_was_not_recorded_is_found_again() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    world.owned_domain(&tenant, "acme.test").await;
    let unrecorded = doc! { "mailDomains.0": { "$exists": false } };
    world.harness.refuse_unless("tenants", unrecorded).await;

    let job = world.reconcile(tenant.id).await;
    world.harness.job_until(job.id, was_released).await;
    let before = world.tenant(tenant.id).await.mail_domains;
    world.harness.refuse_unless("tenants", doc! {}).await;
    world.completed(&job).await;

    assert_eq!(before, []);
    let effects = world.effects();
    let created = effects
        .iter()
        .filter(|effect| effect.operation == "create_domain");
    assert_eq!(created.count(), 1, "{effects:?}");
    let recorded = world.tenant(tenant.id).await.mail_domains;
    assert_eq!(recorded.len(), 1);
    assert_eq!(recorded[0].name, "acme.test");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_consent_that_was_not_recorded_is_made_again_and_only_once() {
    let world = World::start().await;
    world.upstreams.authentik.set_recovery_flow(true);
    let partner = world.add_partner("nordic").await;
    let account = world.upstreams.authentik.add_user(NEA, &[]);
    let invitation = world.add_invitation(&partner, NEA).await;
    let unrecorded = doc! { "state": { "$ne": "awaitingConsent" } };
    world.harness.refuse_unless("invitations", unrecorded).await;

    let job = world.invite(&invitation).await;
    let failed = |job: &Job| job.steps.first().is_some_and(|step| step.error.is_some());
    world.harness.job_until(job.id, failed).await;
    let before = world.find_invitation(&invitation).await.unwrap();
    world.harness.refuse_unless("invitations", doc! {}).await;
    world.completed(&job).await;
    let asked = world.find_invitation(&invitation).await.unwrap();
    world.completed(&world.invite(&invitation).await).await;
    let repeated = world.find_invitation(&invitation).await.unwrap();

    assert_eq!(before.state, InvitationState::Pending);
    assert_eq!(asked.state, InvitationState::AwaitingConsent);
    assert_eq!(repeated.state, InvitationState::AwaitingConsent);
    assert_eq!(world.find_user(&account).await, None);
    assert!(world.effects().is_empty(), "{:?}", world.effects());
    world.stop().await;
}
