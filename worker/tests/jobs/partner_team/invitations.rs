//! Invitations to a partner's team.

use std::fmt::Write as _;

use bson::{DateTime, Document, doc};
use dezky_shared::{
    id::TenantId,
    invitation::{Invitation, InvitationState},
    partner::Partner,
    queue::{
        error_code::{ErrorClass, ErrorCode},
        job::{Job, JobState, StepState},
    },
    user::{Membership, MembershipSource, PartnerRole, Role, User},
};
use dezky_sim::faults::{Fault, FaultRule};
use futures::TryStreamExt as _;

use crate::{
    harness::{encryption_keys, until},
    world::World,
};

const NEA: &str = "nea@nordic.test";

/// A world with a recovery flow, so that links can be created.
pub(super) async fn world() -> World {
    let world = World::start().await;
    world.upstreams.authentik.set_recovery_flow(true);
    world
}

/// The decrypted link of an invitation.
pub(super) fn link_of(invitation: &Invitation) -> String {
    let link = invitation.link.as_ref().unwrap();
    encryption_keys()
        .decrypt(link.job_id, &link.secrets)
        .unwrap()
}

/// The secret key of the link that Authentik accepts.
pub(super) fn valid_key(world: &World) -> String {
    let user = world.user(NEA);
    let link = world.upstreams.authentik.recovery_link(user.pk).unwrap();
    link.key.simple().to_string()
}

/// A world with a partner that has an open invitation.
async fn invited() -> (World, Partner, Invitation) {
    let world = world().await;
    let partner = world.add_partner("nordic").await;
    let invitation = world.add_invitation(&partner, NEA).await;
    (world, partner, invitation)
}

async fn accepted(world: &World, invitation: &Invitation) -> (Invitation, Job) {
    let job = world.completed(&world.invite(invitation).await).await;
    (world.find_invitation(invitation).await.unwrap(), job)
}

/// Users, invitations, jobs and audit events as text.
async fn dump(world: &World) -> String {
    let store = &world.harness.context.store;
    let mut dump = String::new();
    for name in store.database().list_collection_names().await.unwrap() {
        let found = store.collection::<Document>(&name);
        let found = found.find(doc! {}).await.unwrap();
        let documents: Vec<Document> = found.try_collect().await.unwrap();
        writeln!(dump, "{name}: {documents:?}").unwrap();
    }
    dump
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_member_gets_an_account_a_group_membership_and_a_link() {
    let (world, partner, invitation) = invited().await;
    let before = world.harness.context.store.now();

    let (invitation, job) = accepted(&world, &invitation).await;

    let account = world.user(NEA);
    let person = world.find_user(&account).await.unwrap();
    assert_eq!(person.partner_id, Some(partner.id));
    assert_eq!(person.partner_role, Some(PartnerRole::Support));
    assert_eq!(world.team_in_group(&partner), [NEA]);
    assert_eq!(invitation.state, InvitationState::Ready);
    assert_eq!(invitation.user_id, Some(person.id));
    assert_eq!(invitation.link.as_ref().unwrap().job_id, job.id);
    let kept_for = invitation.expire_at.timestamp_millis() - before.timestamp_millis();
    let week = 7 * 24 * 60 * 60 * 1_000;
    assert!((week..week + 60_000).contains(&kept_for), "{kept_for}");
    let link = world.upstreams.authentik.recovery_link(account.pk).unwrap();
    assert_eq!(link.valid_for.as_deref(), Some("hours=168"));
    assert!(link_of(&invitation).contains(&valid_key(&world)));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_never_stored_in_plain_text() {
    let (world, _, invitation) = invited().await;

    accepted(&world, &invitation).await;

    let dump = dump(&world).await;
    assert!(dump.contains("partnerMember.link"), "{dump}");
    assert!(!dump.contains(&valid_key(&world)), "{dump}");
    assert!(!dump.contains("flow_token"), "{dump}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_account_joins_without_a_link_once_its_owner_accepts() {
    let world = world().await;
    let partner = world.add_partner("nordic").await;
    let account = world.upstreams.authentik.add_user(NEA, &[]);
    let invitation = world.add_invitation(&partner, NEA).await;

    let (waiting, job) = accepted(&world, &invitation).await;
    let before = world.find_user(&account).await;
    world.accept(&waiting).await;
    let (invitation, _) = accepted(&world, &invitation).await;

    assert_eq!(waiting.state, InvitationState::AwaitingConsent);
    assert_eq!(waiting.subject, Some(account.uuid.to_string()));
    assert_eq!(job.steps[0].state, StepState::Skipped);
    assert_eq!(before, None);
    assert_eq!(invitation.state, InvitationState::NoLink);
    assert_eq!(world.upstreams.authentik.recovery_link(account.pk), None);
    assert_eq!(world.team_in_group(&partner), [NEA]);
    let person = world.find_user(&account).await.unwrap();
    assert_eq!(person.partner_role, Some(PartnerRole::Support));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consent_is_bound_to_the_account_and_not_to_its_username() {
    let world = world().await;
    let partner = world.add_partner("nordic").await;
    let authentik = &world.upstreams.authentik;
    let former = authentik.add_user(NEA, &[]);
    let invitation = world.add_accepted_invitation(&partner, NEA).await;
    authentik.change(|state| {
        "renamed@nordic.test".clone_into(&mut state.users.get_mut(&former.pk).unwrap().username);
    });
    let account = authentik.add_user(NEA, &[]);

    // Twice: the first job writes to the invitation.
    accepted(&world, &invitation).await;
    let (invitation, job) = accepted(&world, &invitation).await;

    assert_eq!(job.steps[0].state, StepState::Skipped);
    assert_eq!(invitation.state, InvitationState::AwaitingConsent);
    assert_eq!(invitation.subject, Some(account.uuid.to_string()));
    assert_eq!(invitation.accepted_at, None);
    assert_eq!(world.find_user(&account).await, None);
    assert_eq!(world.find_user(&former).await, None);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_that_only_invited_does_not_keep_another_one_from_inviting() {
    let world = world().await;
    let (partner, other) = (
        world.add_partner("nordic").await,
        world.add_partner("other").await,
    );
    let account = world.upstreams.authentik.add_user(NEA, &[]);
    let ignored = world.add_invitation(&other, NEA).await;
    accepted(&world, &ignored).await;
    let invitation = world.add_accepted_invitation(&partner, NEA).await;

    accepted(&world, &invitation).await;

    let person = world.find_user(&account).await.unwrap();
    assert_eq!(person.partner_id, Some(partner.id));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unused_account_gets_another_link() {
    let world = world().await;
    let partner = world.add_partner("nordic").await;
    let first = world.add_invitation(&partner, NEA).await;
    let (first, _) = accepted(&world, &first).await;
    let replaced = valid_key(&world);

    let again = world.add_invitation(&partner, NEA).await;
    let (again, _) = accepted(&world, &again).await;

    assert!(link_of(&first).contains(&replaced));
    assert!(link_of(&again).contains(&valid_key(&world)));
    assert_ne!(valid_key(&world), replaced);
    assert_eq!(world.upstreams.authentik.users().len(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_link_is_created_for_an_account_with_another_use() {
    for case in 0..6 {
        let world = world().await;
        let partner = world.add_partner("nordic").await;
        let first = world.add_invitation(&partner, NEA).await;
        accepted(&world, &first).await;
        let account = world.user(NEA);
        let authentik = &world.upstreams.authentik;
        let known = valid_key(&world);
        let person = world.find_user(&account).await.unwrap();
        let set = async |set: Document| world.set_user(person.id, set).await;
        match case {
            // Signed in before.
            0 => {
                authentik.add_session(account.pk);
            }
            1 => set(doc! { "claimsAt": dezky_shared::platform::clock::now() }).await,
            // Gained a role.
            2 => set(doc! { "platformAdmin": true }).await,
            3 => {
                let membership = Membership {
                    role: Some(Role::Owner),
                    source: MembershipSource::Local,
                    changed_at: dezky_shared::platform::clock::now(),
                    member_id: None,
                };
                let mut entry = dezky_shared::store::to_document(&membership).unwrap();
                entry.insert("tenantId", TenantId::new());
                set(doc! { "memberships": [entry] }).await;
            }
            4 => {
                let group = authentik.add_group("acme", &serde_json::json!({})).id;
                authentik.change(|state| {
                    let account = state.users.get_mut(&account.pk).unwrap();
                    account.groups.insert(group);
                });
            }
            // Created for another partner's team.
            _ => authentik.change(|state| {
                let account = state.users.get_mut(&account.pk).unwrap();
                let other = dezky_shared::id::PartnerId::new().to_string();
                let attributes = &mut account.attributes;
                attributes.insert("dezkyInvitedBy".to_owned(), other.into());
            }),
        }

        let again = world.add_invitation(&partner, NEA).await;
        let (again, _) = accepted(&world, &again).await;

        assert_eq!(again.state, InvitationState::NoLink, "{case}");
        assert_eq!(valid_key(&world), known, "{case}");
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_another_partners_team_cannot_join() {
    let world = world().await;
    let (partner, other) = (
        world.add_partner("nordic").await,
        world.add_partner("other").await,
    );
    let account = world.add_team_member(&other, NEA).await;
    let invitation = world.add_invitation(&partner, NEA).await;

    let job = world.invite(&invitation).await;
    let job = world.harness.finished(job.id).await;

    let error = job.error.unwrap();
    assert_eq!(
        (job.state, error.code),
        (JobState::Discarded, ErrorCode::WorksElsewhere)
    );
    assert_eq!(error.class, ErrorClass::UserAction);
    let person = world.find_user(&account).await.unwrap();
    assert_eq!(person.partner_id, Some(other.id));
    assert_eq!(person.revision, 1);

    world.terminate(&other).await;
    let again = world.add_accepted_invitation(&partner, NEA).await;
    accepted(&world, &again).await;

    let person = world.find_user(&account).await.unwrap();
    assert_eq!(person.partner_id, Some(partner.id));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inviting_a_member_does_not_change_the_role() {
    let world = world().await;
    let partner = world.add_partner("nordic").await;
    let account = world.add_team_member(&partner, NEA).await;
    let invitation = world.add_invitation(&partner, NEA).await;

    accepted(&world, &invitation).await;

    let person = world.find_user(&account).await.unwrap();
    assert_eq!(person.partner_role, Some(PartnerRole::Manager));
    assert_eq!(person.revision, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_invitation_has_no_effect() {
    let world = world().await;
    let partner = world.add_partner("nordic").await;
    let withdrawn = world.add_invitation(&partner, NEA).await;
    world.revoke(&withdrawn).await;

    let job = world.completed(&world.invite(&withdrawn).await).await;

    assert_eq!(job.steps[0].state, StepState::Skipped);
    assert!(world.upstreams.authentik.users().is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_of_a_terminated_partner_has_no_effect() {
    let (world, partner, invitation) = invited().await;
    world.terminate(&partner).await;

    let job = world.completed(&world.invite(&invitation).await).await;

    assert_eq!(job.steps[0].state, StepState::Skipped);
    assert!(world.upstreams.authentik.users().is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_recovery_flow_the_invitation_waits_for_an_operator_uncharged() {
    let world = World::start().await;
    let partner = world.add_partner("nordic").await;
    let invitation = world.add_invitation(&partner, NEA).await;

    let job = world.invite(&invitation).await;
    let held = world
        .harness
        .job_until(job.id, |job| job.snoozes > 0 && job.lease.is_none())
        .await;

    let error = held.steps[0].error.as_ref().unwrap();
    assert_eq!(error.code, ErrorCode::RecoveryFlowMissing);
    assert_eq!((held.state, held.attempt), (JobState::Available, 0));
    world.upstreams.authentik.set_recovery_flow(true);
    let again = world.harness.requeue(job.id).await.unwrap().job;
    let announced = std::slice::from_ref(&again);
    world.harness.context.ready.notify(announced).await;
    world.completed(&again).await;
    let invitation = world.find_invitation(&invitation).await.unwrap();
    assert_eq!(invitation.state, InvitationState::Ready);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_integration_disabled_the_invitation_is_skipped() {
    let world = World::start_with(|config, _| config.authentik = None).await;
    let partner = world.add_partner("nordic").await;
    let invitation = world.add_invitation(&partner, NEA).await;

    let job = world.completed(&world.invite(&invitation).await).await;

    assert_eq!(job.steps[0].state, StepState::Skipped);
    let invitation = world.find_invitation(&invitation).await.unwrap();
    assert_eq!(invitation.state, InvitationState::Pending);
    let sync = world.completed(&world.sync_team(partner.id).await).await;
    let skipped = |step: &dezky_shared::queue::job::Step| step.state == StepState::Skipped;
    assert!(sync.steps.iter().all(skipped));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_removed_during_the_invitation_is_not_added_again() {
    let (world, partner, invitation) = invited().await;
    let authentik = &world.upstreams.authentik;
    let slow = FaultRule::once("create_recovery_link", Fault::SlowEffect { millis: 500 });
    authentik.server.faults.add(slow);

    let job = world.invite(&invitation).await;
    // On the team, with the invitation still running.
    let joined = until(
        async || {
            authentik
                .user_named(NEA)
                .filter(|user| !user.groups.is_empty())
        },
        Option::is_some,
    )
    .await
    .unwrap();
    world.remove_team_member(&joined).await;
    world.revoke(&invitation).await;
    world.completed(&job).await;
    world.completed(&world.sync_team(partner.id).await).await;

    assert_eq!(world.find_invitation(&invitation).await, None);
    assert_eq!(world.find_user(&joined).await.unwrap().partner_id, None);
    assert!(world.team_in_group(&partner).is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_belongs_elsewhere_is_not_changed() {
    for case in 0..3 {
        let world = world().await;
        let tenant = world.active_tenant("acme", &[]).await;
        let partner = world.add_partner("nordic").await;
        let account = world.add_member("acme", NEA);
        let mut person = User::first_seen(
            &account.uuid.to_string(),
            NEA,
            "Nea",
            dezky_shared::platform::clock::now(),
        );
        match case {
            // Once by group membership only, once by role only.
            0 => {}
            1 => {
                person.set_role(
                    tenant.id,
                    Some(Role::Owner),
                    dezky_shared::platform::clock::now(),
                );
                world.leave_all(NEA);
            }
            _ => {
                world.leave_all(NEA);
                person.platform_admin = true;
            }
        }
        let users = world.harness.context.store.collection::<User>("users");
        users.insert_one(&person).await.unwrap();
        let invitation = world.add_invitation(&partner, NEA).await;

        let job = world.invite(&invitation).await;
        let job = world.harness.finished(job.id).await;

        let error = job.error.unwrap();
        assert_eq!(
            (job.state, error.code),
            (JobState::Discarded, ErrorCode::WorksElsewhere),
            "{case}"
        );
        assert_eq!(world.find_user(&account).await.unwrap(), person, "{case}");
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_the_partners_own_tenant_may_be_invited() {
    let world = world().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let partner = world.add_partner("nordic").await;
    world.attach(tenant.id, &partner).await;
    world.add_member("acme", NEA);
    let invitation = world.add_accepted_invitation(&partner, NEA).await;

    let (invitation, _) = accepted(&world, &invitation).await;

    assert_eq!(invitation.state, InvitationState::NoLink);
    assert_eq!(world.team_in_group(&partner), [NEA]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inviter_without_permission_adds_no_member() {
    let (world, partner, invitation) = invited().await;
    let demoted =
        doc! { "platformAdmin": false, "partnerId": partner.id, "partnerRole": "manager" };
    world.set_user(invitation.invited_by, demoted).await;

    let job = world.completed(&world.invite(&invitation).await).await;

    assert_eq!(job.steps[0].state, StepState::Skipped);
    assert_eq!(world.find_user(&world.user(NEA)).await, None);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_adds_a_member_only_once() {
    let (world, _, invitation) = invited().await;
    accepted(&world, &invitation).await;
    let account = world.user(NEA);
    world.remove_team_member(&account).await;

    let again = world.completed(&world.invite(&invitation).await).await;

    assert_eq!(again.steps[0].state, StepState::Skipped);
    assert_eq!(world.find_user(&account).await.unwrap().partner_id, None);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_in_old_tokens_do_not_restore_an_invited_user_who_was_deleted() {
    let world = world().await;
    let partner = world.add_partner("nordic").await;
    let account = world.upstreams.authentik.add_user(NEA, &[]);
    let at = DateTime::from_millis(1_795_339_800_000);
    let deleted = doc! { "_id": account.uuid.to_string(), "at": at };
    let context = &world.harness.context;
    let gone = context.store.collection::<Document>("deleted_users");
    gone.insert_one(deleted).await.unwrap();
    let invitation = world.add_accepted_invitation(&partner, NEA).await;

    accepted(&world, &invitation).await;

    let person = world.find_user(&account).await.unwrap();
    assert_eq!(person.deleted_before, Some(at));
    assert!(!person.has_signed_in());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_does_not_wait_for_the_removal_of_other_members() {
    let world = world().await;
    let partner = world.add_partner("nordic").await;
    let gone = world.add_team_member(&partner, "gone@nordic.test").await;
    world.completed(&world.sync_team(partner.id).await).await;
    world.sign_in(gone.pk);
    world.remove_team_member(&gone).await;
    let refused = Fault::Status {
        status: 400,
        retry_after: None,
    };
    let authentik = &world.upstreams.authentik;
    authentik
        .server
        .faults
        .add(FaultRule::once("end_session", refused));
    let invitation = world.add_invitation(&partner, NEA).await;

    let (invitation, _) = accepted(&world, &invitation).await;

    assert_eq!(invitation.state, InvitationState::Ready);
    world.stop().await;
}
