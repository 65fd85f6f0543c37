//! Invitations to a partner's team: account, team membership, group, recovery link.
//!
//! **The link gives access to the account.** It is therefore created only for an account that was created for this
//! partner's team, was never signed in to, and has no other use. The owner of any other account has to accept the
//! invitation first, since a team member cannot join another team and is seen by the partner; accepting enqueues the job
//! again.
//!
//! If a worker crashes between creating and storing a link, the retry creates another one, which replaces it.

use dezky_shared::{
    account::AccountAccess,
    audit::Action,
    invitation::{EncryptedLink, Invitation, InvitationState, LINK_TTL},
    partner::{Partner, PartnerStatus},
    platform::clock,
    queue::{args::InvitePartnerMember, error_code::ErrorCode},
    store::{StoreError, VersionedRepository as _},
    tenant::reason as tenant_reason,
    user::{PartnerRole, User},
};
use dezky_upstreams::clients::authentik::{self, Authentik};
use futures::FutureExt as _;
use mongodb::ClientSession;
use secrecy::ExposeSecret as _;

use super::{event, group, partner_of, reason};
use crate::{
    context::Context,
    jobs::member::{Claimant, account_facts, ensure_may_create_account, refuse_account},
    steps::{StepContext, StepFailure, StepSuccess},
};

/// Accepts an invitation: adds the invited person to the team.
pub(super) async fn accept(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let Some(client) = &run.ctx.clients.authentik else {
        return Ok(StepSuccess::skipped(tenant_reason::INTEGRATION_DISABLED));
    };
    let Some(invitation) = invitation_of(&run).await? else {
        return Ok(StepSuccess::skipped(reason::INVITATION_REVOKED));
    };
    let Some(partner) = partner_of(&run).await? else {
        return Ok(StepSuccess::skipped(reason::PARTNER_GONE));
    };
    if partner.status == PartnerStatus::Terminated {
        return Ok(StepSuccess::skipped(reason::PARTNER_TERMINATED));
    }

    let client = client.with_deadline(&run.deadline);
    let account = invited_account(&run, &client, &invitation).await?;
    ensure_admissible(&run, &invitation, &account).await?;
    let user = match join(&run, &invitation, &account).await? {
        Joined::Member(user) => *user,
        Joined::Elsewhere => {
            let detail = "the user is an operator, a member of another partner's team, or a member of another partner's tenant";
            return Err(StepFailure::new(ErrorCode::WorksElsewhere, detail));
        }
        Joined::AwaitsConsent => return Ok(StepSuccess::skipped(reason::AWAITS_CONSENT)),
        Joined::Revoked => return Ok(StepSuccess::skipped(reason::INVITATION_REVOKED)),
    };
    let mut changes = group::admit(&run, &client, &partner, &account).await?;
    if invitation.state == InvitationState::Pending {
        let link = if may_hand_over(&partner, &account, &user) {
            changes.push("recovery link created".to_owned());
            Some(create_link(&run, &client, &account).await?)
        } else {
            None
        };
        finish(&run, &invitation, &user, link).await?;
    }
    Ok(StepSuccess::ok(reason::JOINED, changes))
}

async fn invitation_of(run: &StepContext) -> Result<Option<Invitation>, StepFailure> {
    let args: InvitePartnerMember = run.args()?;
    Ok(run.ctx.invitations.find(args.invitation_id).await?)
}

/// The account of the invited person, created unless a tenant of another partner speaks for the login: the link opens it.
async fn invited_account(
    run: &StepContext,
    client: &Authentik,
    invitation: &Invitation,
) -> Result<authentik::User, StepFailure> {
    let Invitation { email, name, .. } = invitation;
    if let Some(account) = client.find_user(email).await? {
        return Ok(account);
    }
    ensure_may_create_account(run, claimant(invitation)).await?;
    let partner_id = invitation.partner_id.to_string();
    Ok(client.ensure_invited(email, name, &partner_id).await?)
}

/// The partner that would admit the account to its team.
const fn claimant(invitation: &Invitation) -> Claimant<'_> {
    Claimant {
        tenant: None,
        member: None,
        partner: Some(invitation.partner_id),
        login: invitation.email.as_str(),
    }
}

/// Fails for an account that a tenant or another partner created, and may know the password of: signed in with it, that one
/// could accept the invitation. A member of the team stays one.
async fn ensure_admissible(
    run: &StepContext,
    invitation: &Invitation,
    account: &authentik::User,
) -> Result<(), StepFailure> {
    let facts = account_facts(run, claimant(invitation), account).await?;
    if facts.access() != AccountAccess::Refused {
        return Ok(());
    }
    let known = run.ctx.users.find_by_subject(&account.uuid).await?;
    if known.is_some_and(|user| user.partner_id == Some(invitation.partner_id)) {
        return Ok(());
    }
    Err(refuse_account())
}

/// Result of joining the team.
enum Joined {
    /// The user is a team member.
    Member(Box<User>),
    /// The user belongs elsewhere; see [`belongs_elsewhere`].
    Elsewhere,
    /// The account's owner has to accept first.
    AwaitsConsent,
    /// The invitation is not valid any more.
    Revoked,
}

async fn join(
    run: &StepContext,
    invitation: &Invitation,
    account: &authentik::User,
) -> Result<Joined, StepFailure> {
    run.fenced_transaction(
        (run, invitation, account),
        |session, (run, invitation, account)| {
            join_in_transaction(session, run, invitation, account).boxed()
        },
    )
    .await
}

/// Adds the user to the team. An existing member's role is not changed by an invitation.
async fn join_in_transaction(
    session: &mut ClientSession,
    run: &StepContext,
    invitation: &Invitation,
    account: &authentik::User,
) -> Result<Joined, StoreError> {
    let ctx = &run.ctx;
    let Some(mut invitation) = valid_invitation(session, ctx, invitation).await? else {
        return Ok(Joined::Revoked);
    };
    let now = ctx.store.now();
    let subject = &account.uuid;
    let known = ctx.users.materialize_conflict_by_subject(session, subject);
    let known = known.await?;
    let mut user = if let Some(user) = &known {
        user.clone()
    } else {
        let Invitation { email, name, .. } = &invitation;
        let new = ctx.users.new_user(session, subject, email, name, now);
        new.await?
    };
    if let Some(joined) = refusal_reason(session, ctx, &invitation, &user, account).await? {
        return Ok(joined);
    }
    if needs_consent(&invitation, &user, account) {
        invitation.state = InvitationState::AwaitingConsent;
        invitation.subject = Some(account.uuid.clone());
        invitation.accepted_at = None;
        ctx.invitations.save(session, &invitation).await?;
        return Ok(Joined::AwaitsConsent);
    }
    user.partner_id = Some(invitation.partner_id);
    user.partner_role = Some(invitation.role);
    if let Some(before) = &known {
        let saved = ctx.users.save_changed(session, before, &mut user, now);
        saved.await?;
    } else {
        ctx.users.insert(session, &user).await?;
    }
    invitation.user_id = Some(user.id);
    ctx.invitations.save(session, &invitation).await?;
    let mut event = event(run, Action::PartnerMemberUpdate, &user);
    event.after = bson::doc! {
        "partnerId": invitation.partner_id.to_string(),
        "accessLevel": invitation.role.name(),
    };
    ctx.audit.record(session, &event).await?;
    Ok(Joined::Member(Box::new(user)))
}

/// The current invitation, if the partner is active and the inviter still has the permission.
async fn valid_invitation(
    session: &mut ClientSession,
    ctx: &Context,
    invitation: &Invitation,
) -> Result<Option<Invitation>, StoreError> {
    // A concurrent removal of the inviter or termination of the partner conflicts.
    let partner = ctx
        .partners
        .materialize_conflict(session, invitation.partner_id)
        .await?;
    let is_active = partner.is_some_and(|partner| partner.status == PartnerStatus::Active);
    let inviter = ctx
        .users
        .materialize_conflict(session, invitation.invited_by)
        .await?;
    let may_invite = inviter.is_some_and(|inviter| {
        inviter.platform_admin
            || inviter.partner_id == Some(invitation.partner_id)
                && inviter.partner_role == Some(PartnerRole::Owner)
    });
    let found = ctx
        .invitations
        .find_in_transaction(session, invitation.id)
        .await?;
    Ok(found.filter(|_| is_active && may_invite))
}

/// Reason why the user does not join; `None` if the user may join.
async fn refusal_reason(
    session: &mut ClientSession,
    ctx: &Context,
    invitation: &Invitation,
    user: &User,
    account: &authentik::User,
) -> Result<Option<Joined>, StoreError> {
    if user.partner_id == Some(invitation.partner_id) {
        return Ok(Some(Joined::Member(Box::new(user.clone()))));
    }
    // Joined by this invitation before, and removed since.
    if invitation.user_id.is_some() {
        return Ok(Some(Joined::Revoked));
    }
    let belongs_elsewhere = belongs_elsewhere(session, ctx, invitation, user, account).await?;
    Ok(belongs_elsewhere.then_some(Joined::Elsewhere))
}

/// Whether the user is an operator, a member of another partner's team, or a member of a tenant outside this partner. A
/// team member is exempt from suspensions, which a partner must not decide for such a user.
async fn belongs_elsewhere(
    session: &mut ClientSession,
    ctx: &Context,
    invitation: &Invitation,
    user: &User,
    account: &authentik::User,
) -> Result<bool, StoreError> {
    if user.is_platform_staff() || account.is_superuser {
        return Ok(true);
    }
    if let Some(other) = user.partner_id {
        let other = ctx.partners.find_in_transaction(session, other).await?;
        if other.is_some_and(|other| other.status == PartnerStatus::Active) {
            return Ok(true);
        }
    }
    let (ids, groups) = (user.tenant_ids(), &account.groups);
    let partner_id = invitation.partner_id;
    ctx.tenants
        .any_outside_partner(session, &ids, groups, partner_id)
        .await
}

/// Whether the account's owner has to accept the invitation: it is not an unused account made for this team. The owner
/// of an account that had the username before may have accepted it.
fn needs_consent(invitation: &Invitation, user: &User, account: &authentik::User) -> bool {
    let is_unused = account.was_created_for_partner(&invitation.partner_id.to_string())
        && account.last_login.is_none()
        && !user.has_signed_in();
    let is_accepted =
        invitation.accepted_at.is_some() && invitation.subject.as_ref() == Some(&account.uuid);
    !is_unused && !is_accepted
}

/// Whether a link that gives access to the account may be created.
fn may_hand_over(partner: &Partner, account: &authentik::User, user: &User) -> bool {
    let is_partners = |group| Some(group) == partner.authentik_group_id.as_ref();
    let never_used = account.last_login.is_none() && !user.has_signed_in();
    let no_other_use = !account.is_superuser
        && !user.is_platform_staff()
        && user.tenant_ids().is_empty()
        && account.groups.iter().all(is_partners);
    account.was_created_for_partner(&partner.id.to_string()) && never_used && no_other_use
}

/// Creates a recovery link, encrypted for this job.
async fn create_link(
    run: &StepContext,
    client: &Authentik,
    account: &authentik::User,
) -> Result<(EncryptedLink, bson::DateTime), StepFailure> {
    // A link that cannot be stored would only invalidate one that was shown already.
    if !run.ctx.encryption_keys.can_encrypt() {
        let detail = "SEALING_KEYS is not set: the link cannot be stored";
        return Err(StepFailure::new(ErrorCode::SecretsUnreadable, detail));
    }
    let ends_at = clock::later(run.ctx.store.now(), LINK_TTL);
    let link = client.create_recovery_link(account.pk, LINK_TTL).await?;
    let secrets = run
        .ctx
        .encryption_keys
        .encrypt(run.job.id, &link.expose_secret())
        .map_err(|error| StepFailure::new(ErrorCode::SecretsUnreadable, error.to_string()))?;
    let job_id = run.job.id;
    Ok((EncryptedLink { secrets, job_id }, ends_at))
}

/// Stores the result in the invitation, unless it was revoked meanwhile.
async fn finish(
    run: &StepContext,
    invitation: &Invitation,
    user: &User,
    link: Option<(EncryptedLink, bson::DateTime)>,
) -> Result<(), StepFailure> {
    let id = invitation.id;
    run.fenced_transaction((run, user, link), |session, (run, user, link)| {
        async move {
            let invitations = &run.ctx.invitations;
            let Some(mut invitation) = invitations.find_in_transaction(session, id).await? else {
                return Ok(());
            };
            invitation.user_id = Some(user.id);
            match link {
                None => invitation.state = InvitationState::NoLink,
                Some((link, ends_at)) => {
                    invitation.state = InvitationState::Ready;
                    invitation.link = Some(link.clone());
                    invitation.expire_at = *ends_at;
                    let event = event(run, Action::PartnerMemberLink, user);
                    run.ctx.audit.record(session, &event).await?;
                }
            }
            invitations.save(session, &invitation).await
        }
        .boxed()
    })
    .await
}
