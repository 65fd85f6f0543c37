//! Invitation links: one-time secrets.

use dezky_shared::{
    audit::{Action, Target},
    id::{InvitationId, PartnerId, UserId},
    invitation::{EncryptedLink, Invitation, InvitationState},
    partner::PartnerStatus,
    store::VersionedRepository as _,
    user::PartnerRole,
};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Serialize;
use utoipa::ToSchema;

use super::{event, find_invitation};
use crate::{
    error::{ApiError, ProblemCode},
    extract::{Caller, EmptyBody, PathParam, SignedIn},
    response::ApiResponse,
    state::AppState,
    timestamp::Timestamp,
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

/// Link of an invitation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = InvitationLink)]
struct LinkView {
    /// URL where the invited person chooses a password; null in a replayed response.
    #[schema(required)]
    link: Option<String>,
    /// Expiry time.
    expires_at: Timestamp,
    /// True in a replayed response.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_already_shown: Option<bool>,
}

/// Returns the link of an invitation once
///
/// Only for the inviting user, while they may still invite, and only after the invitation's job has completed. The link
/// gives access to the account: share it with the invited person only. If the response is lost, send a new invitation.
/// 409 `link_not_needed`: the person already has an account, or it now has other permissions. 404: the invitation expired.
#[utoipa::path(post, path = "/invitations/{id}/link", operation_id = "showInvitationLink", tag = "partners", responses((status = 200, body = LinkView)))]
pub(super) async fn show(
    w: Write<SignedIn, EmptyBody, PathParam<InvitationId>>,
) -> Result<ApiResponse, ApiError> {
    let PathParam(id) = w.params;
    // Before the command: a replayed response skips its checks.
    let invitation = w.app.db.invitations.find(id).await?;
    let invitation = invitation.ok_or(ProblemCode::NotFound)?;
    if !may_show_to(&w.access.0, &invitation) {
        return Err(w.app.access.conceal(0).await);
    }
    let runner = w.runner();
    match runner.run(&Show { id }).await {
        Err(rejection) if rejection.code == ProblemCode::LinkNotNeeded => {
            w.app.db.invitations.drop_link(id).await?;
            Err(rejection)
        }
        result => Ok(result?.response),
    }
}

struct Show {
    id: InvitationId,
}

impl Command for Show {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let app = runner.app;
        let mut invitation = find_invitation(session, runner, self.id, may_show_to).await?;
        if invitation.state == InvitationState::AwaitingConsent {
            return Err(ProblemCode::LinkNotNeeded.into());
        }
        let user = invitation.user_id.ok_or(ProblemCode::LinkNotReady)?;
        let link = take_link(app, &mut invitation)?;
        if !may_hand_over(session, app, invitation.partner_id, user).await? {
            return Err(ProblemCode::LinkNotNeeded.into());
        }
        app.db.invitations.save(session, &invitation).await?;

        let view = LinkView {
            link: Some(link),
            expires_at: invitation.expire_at.into(),
            secret_already_shown: None,
        };
        let response = ApiResponse::unversioned(StatusCode::OK, &view);
        let target = Target::new("user", user, invitation.email);
        Ok(CommandOutput::complete(
            response.with_one_time_secret("link"),
            event(runner, Action::PartnerMemberLink, target),
        ))
    }
}

/// Removes the link from the invitation and decrypts it.
fn take_link(app: &AppState, invitation: &mut Invitation) -> Result<String, ApiError> {
    let EncryptedLink { secrets, job_id } = match (invitation.state, invitation.link.take()) {
        (InvitationState::Ready, Some(link)) => link,
        (InvitationState::Shown, _) => return Err(ProblemCode::LinkAlreadyShown.into()),
        (InvitationState::NoLink | InvitationState::AwaitingConsent, _) => {
            return Err(ProblemCode::LinkNotNeeded.into());
        }
        (InvitationState::Pending | InvitationState::Ready, _) => {
            return Err(ProblemCode::LinkNotReady.into());
        }
    };
    invitation.state = InvitationState::Shown;
    app.config
        .encryption_keys
        .decrypt(job_id, &secrets)
        .map_err(|error| {
            tracing::error!(%error, "Decrypting an invitation link failed");
            ProblemCode::EncryptionNotConfigured.into()
        })
}

/// Whether the account has no permissions outside the partner's team and was never used. The job checked this when it
/// created the link; the account may have changed since.
async fn may_hand_over(
    session: &mut ClientSession,
    app: &AppState,
    partner_id: PartnerId,
    user: UserId,
) -> Result<bool, Rollback> {
    // Writes both, so that a concurrent change of permissions conflicts.
    let (partners, users) = (&app.db.partners, &app.db.users);
    let partner = partners.materialize_conflict(session, partner_id).await?;
    let user = users.materialize_conflict(session, user).await?;
    let is_active = partner.is_some_and(|partner| partner.status == PartnerStatus::Active);
    let is_exclusive = user.is_some_and(|user| {
        user.partner_id == Some(partner_id)
            && !user.is_platform_staff()
            && user.tenant_ids().is_empty()
            && !user.has_signed_in()
    });
    Ok(is_active && is_exclusive)
}

/// Whether the caller made the invitation and may still invite.
fn may_show_to(caller: &Caller, invitation: &Invitation) -> bool {
    invitation.invited_by == caller.user.id && may_invite(caller, invitation.partner_id)
}

/// Whether the caller may invite to this partner's team.
fn may_invite(caller: &Caller, partner_id: PartnerId) -> bool {
    let partner = caller.partner.as_ref();
    let owns = partner.is_some_and(|partner| partner.id == partner_id)
        && caller.user.partner_role == Some(PartnerRole::Owner);
    owns || caller.is_operator()
}
