//! Consent to an invitation: the owner of an existing account accepts or declines it.

use axum::response::{IntoResponse as _, Response};
use dezky_shared::{
    audit::{Action, Target},
    id::InvitationId,
    invitation::{Invitation, InvitationState},
    partner::{Partner, PartnerStatus},
    queue::args::InvitePartnerMember,
    store::{VersionedRepository as _, jobs::NewJob},
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
    views::JobLink,
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

/// An invitation that awaits the caller's consent. `POST /invitations/{id}/accept` or `…/decline` decides it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AwaitingInvitation)]
pub(in crate::routes) struct AwaitingInvitationView {
    /// Id.
    #[schema(value_type = String, format = Uuid)]
    id: InvitationId,
    /// The partner's name in URLs.
    partner_slug: String,
    /// The partner's display name.
    partner_name: String,
    /// Access level that the caller would have.
    access_level: PartnerRole,
    /// Time of the invitation.
    invited_at: Timestamp,
    /// Time at which it expires.
    expires_at: Timestamp,
    /// The job that adds the caller to the team, once accepted. The caller can read it as a member of the team.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobLink>,
}

impl AwaitingInvitationView {
    fn new(invitation: &Invitation, partner: &Partner) -> Self {
        Self {
            id: invitation.id,
            partner_slug: partner.slug.clone(),
            partner_name: partner.name.clone(),
            access_level: invitation.role,
            invited_at: invitation.created_at.into(),
            expires_at: invitation.expire_at.into(),
            job: None,
        }
    }

    /// The invitations of active partners that await the consent of this account's owner.
    pub(in crate::routes) async fn list(
        app: &AppState,
        subject: &str,
    ) -> Result<Vec<Self>, ApiError> {
        let invitations = app
            .db
            .invitations
            .list_awaiting(subject, app.store.now())
            .await?;
        if invitations.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = invitations
            .iter()
            .map(|invitation| invitation.partner_id)
            .collect();
        let partners = app.db.partners.list_named(&ids, &[]).await?;
        let views = invitations.iter().filter_map(|invitation| {
            let partner = partners
                .iter()
                .find(|partner| partner.id == invitation.partner_id)?;
            let is_active = partner.status == PartnerStatus::Active;
            is_active.then(|| Self::new(invitation, partner))
        });
        Ok(views.collect())
    }
}

/// Accepts an invitation
///
/// For the owner of the invited account, who finds the invitation at `GET /users/me`. A job adds them to the partner's
/// team. 409 `works_elsewhere`: the caller is in a partner's team already, or an operator.
#[utoipa::path(
    post, path = "/invitations/{id}/accept", operation_id = "acceptInvitation", tag = "partners",
    responses((status = 202, body = AwaitingInvitationView)),
)]
pub(super) async fn accept(
    w: Write<SignedIn, EmptyBody, PathParam<InvitationId>>,
) -> Result<Response, ApiError> {
    decide(&w, Decision::Accept).await
}

/// Declines an invitation
///
/// For the owner of the invited account. The invitation is deleted.
#[utoipa::path(
    post, path = "/invitations/{id}/decline", operation_id = "declineInvitation", tag = "partners",
    responses((status = 200, body = AwaitingInvitationView)),
)]
pub(super) async fn decline(
    w: Write<SignedIn, EmptyBody, PathParam<InvitationId>>,
) -> Result<Response, ApiError> {
    decide(&w, Decision::Decline).await
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Accept,
    Decline,
}

async fn decide(
    w: &Write<SignedIn, EmptyBody, PathParam<InvitationId>>,
    decision: Decision,
) -> Result<Response, ApiError> {
    // Only the command checks whose invitation it is, so that one of another account costs what a missing one does. A
    // response is replayed to the caller that it was for.
    let PathParam(id) = w.params;
    let response = w.run(&DecideInvitation { id, decision }).await?;
    Ok(response.into_response())
}

struct DecideInvitation {
    id: InvitationId,
    decision: Decision,
}

impl Command for DecideInvitation {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let app = runner.app;
        let invitation = find_invitation(session, runner, self.id, is_invited).await?;
        if invitation.state != InvitationState::AwaitingConsent {
            return Err(ProblemCode::NotFound.into());
        }
        let partner = app
            .db
            .partners
            .find_in_transaction(session, invitation.partner_id)
            .await?;
        let partner = partner.ok_or(ProblemCode::NotFound)?;
        match self.decision {
            Decision::Accept => accept_invitation(session, runner, invitation, &partner).await,
            Decision::Decline => {
                app.db.invitations.delete(session, self.id).await?;
                let view = AwaitingInvitationView::new(&invitation, &partner);
                let target = Target::new("partner", partner.id, partner.slug);
                let event = event(runner, Action::PartnerMemberDecline, target);
                let response = ApiResponse::unversioned(StatusCode::OK, &view);
                Ok(CommandOutput::complete(response, event))
            }
        }
    }
}

async fn accept_invitation(
    session: &mut ClientSession,
    runner: &CommandRunner<'_>,
    mut invitation: Invitation,
    partner: &Partner,
) -> Result<CommandOutput, Rollback> {
    let caller = runner.caller;
    if partner.status == PartnerStatus::Terminated {
        return Err(ProblemCode::PartnerTerminated.into());
    }
    if caller.user.is_platform_staff() || caller.partner.is_some() {
        return Err(ProblemCode::WorksElsewhere.into());
    }
    let now = runner.app.store.now();
    invitation.state = InvitationState::Pending;
    invitation.accepted_at = Some(now);
    runner.app.db.invitations.save(session, &invitation).await?;

    let args = InvitePartnerMember {
        partner_id: partner.id,
        invitation_id: invitation.id,
    };
    let job = NewJob::new(&args, &runner.actor_id(), now)?;
    let job = runner.enqueue(session, job).await?;
    let mut view = AwaitingInvitationView::new(&invitation, partner);
    let link = JobLink::from(&job);
    let href = link.href.clone();
    view.job = Some(link);
    let target = Target::new("partner", partner.id, partner.slug.clone());
    let event = event(runner, Action::PartnerMemberAccept, target);
    let response = ApiResponse::unversioned(StatusCode::ACCEPTED, &view).at(href);
    Ok(CommandOutput::complete(response, event).with_jobs(vec![job]))
}

/// Whether the caller owns the invited account.
fn is_invited(caller: &Caller, invitation: &Invitation) -> bool {
    invitation.subject.as_ref() == Some(&caller.user.authentik_subject_id)
}
