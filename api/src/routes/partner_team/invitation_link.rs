//! Showing the link of an invitation, once.

use axum::extract::State;
use dezky_shared::{
    audit::Action,
    id::{InvitationId, PartnerId, UserId},
    invitation::{Invitation, InvitationState, SealedLink},
    partner::PartnerStatus,
    store::TransactionError,
    user::PartnerRole,
};
use futures::{FutureExt as _, future::BoxFuture};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Serialize;
use utoipa::ToSchema;

use super::{event, user_target};
use crate::{
    error::{ApiError, Problem, ProblemCode},
    extract::{Caller, EmptyBody, PathParam, QueryParams, RequestInfo, SignedIn, ValidatedJson},
    intent::{ApiResponse, Command, CommandError, CommandOutput, CommandRunner, reject},
    state::{AppState, SharedState},
    timestamp::Timestamp,
};

/// The link of an invitation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LinkView {
    /// Where the invited person chooses a password; null in the answer to a repeated request.
    #[schema(required)]
    link: Option<String>,
    /// When it ends.
    expires_at: Timestamp,
    /// There, and true, in the answer to a repeated request.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_already_shown: Option<bool>,
}

/// Shows the link of an invitation
///
/// Once, to whoever made the invitation and still may, when its job is over. Whoever has the link has the account: hand it
/// to the invited person alone. If the answer is lost, invite them again. 409 `link_not_needed` is answered for somebody
/// who has an account already, or on whom more than this team depends by now; an invitation whose time is over is no more (404).
#[utoipa::path(
    post, path = "/invitations/{id}/link", operation_id = "showInvitationLink", tag = "partners",
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = LinkView), (status = "default", response = Problem)),
)]
pub(super) async fn show(
    SignedIn(caller): SignedIn,
    PathParam(id): PathParam<InvitationId>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    submitted: ValidatedJson<EmptyBody>,
) -> Result<ApiResponse, ApiError> {
    // Here, since a repeated request is answered without looking again.
    let invitation = app.invitations.find(id).await?;
    invitation
        .filter(|invitation| may_show_to(&caller, invitation))
        .ok_or(ProblemCode::NotFound)?;
    let recorder = CommandRunner::new(&app, &caller, &request, submitted.key.as_ref());
    match recorder.record(&Show { id }).await {
        Err(refused) if refused.code == ProblemCode::LinkNotNeeded => {
            app.invitations.drop_link(id).await?;
            Err(refused)
        }
        shown => Ok(shown?.answer),
    }
}

struct Show {
    id: InvitationId,
}

impl Command for Show {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let (app, caller) = (recorder.app, recorder.caller);
            let now = app.store.now();
            let found = app.invitations.find_in(session, self.id).await?;
            let mut invitation = found
                .filter(|invitation| invitation.expire_at > now)
                .filter(|invitation| may_show_to(caller, invitation))
                .ok_or_else(|| reject(ProblemCode::NotFound))?;
            let user = invitation
                .user_id
                .ok_or_else(|| reject(ProblemCode::LinkNotReady))?;
            let link = take_link(app, &mut invitation).map_err(reject)?;
            if !may_hand_over(session, app, invitation.partner_id, user).await? {
                return Err(reject(ProblemCode::LinkNotNeeded));
            }
            app.invitations.save(session, &invitation).await?;

            let view = LinkView {
                link: Some(link),
                expires_at: invitation.expire_at.into(),
                secret_already_shown: None,
            };
            let answer = ApiResponse::unversioned(StatusCode::OK, &view).map_err(reject)?;
            let target = user_target(user, &invitation.email);
            Ok(CommandOutput {
                answer: answer.with_one_time_secret("link"),
                jobs: Vec::new(),
                changed: Vec::new(),
                events: vec![event(recorder, Action::PartnerMemberLink, target)],
            })
        }
        .boxed()
    }
}

/// Takes the link out of the invitation, which keeps nothing of it.
fn take_link(app: &AppState, invitation: &mut Invitation) -> Result<String, ApiError> {
    let SealedLink { sealed, job_id } = match (invitation.state, invitation.link.take()) {
        (InvitationState::Ready, Some(link)) => link,
        (InvitationState::Shown, _) => return Err(ProblemCode::LinkAlreadyShown.into()),
        (InvitationState::NoLink, _) => return Err(ProblemCode::LinkNotNeeded.into()),
        (InvitationState::Pending | InvitationState::Ready, _) => {
            return Err(ProblemCode::LinkNotReady.into());
        }
    };
    invitation.state = InvitationState::Shown;
    app.sealing_keys.decrypt(job_id, &sealed).map_err(|error| {
        tracing::error!(%error, "The link of an invitation does not open");
        ProblemCode::SealingNotConfigured.into()
    })
}

/// Whether the account is still the partner's to hand over. Its job looked when it made the link, and much may have
/// become of the account since.
async fn may_hand_over(
    session: &mut ClientSession,
    app: &AppState,
    partner_id: PartnerId,
    user: UserId,
) -> Result<bool, TransactionError<CommandError>> {
    // Written, not read: whoever makes more of them comes before or after this.
    let partner = app.partners.find_for_update(session, partner_id).await?;
    app.partners.unlock(session, partner_id).await?;
    let locked = app.users.find_for_update(session, user).await?;
    app.users.unlock(session, user).await?;
    let is_active = partner.is_some_and(|partner| partner.status == PartnerStatus::Active);
    let is_only_theirs = locked.is_some_and(|user| {
        user.partner_id == Some(partner_id)
            && !user.platform_admin
            && user.tenant_ids().is_empty()
            && !user.has_signed_in()
    });
    Ok(is_active && is_only_theirs)
}

/// Whether the caller made the invitation, and still may.
fn may_show_to(caller: &Caller, invitation: &Invitation) -> bool {
    invitation.invited_by == caller.user.id && may_invite(caller, invitation.partner_id)
}

/// Whether the caller may invite to this partner's team now.
fn may_invite(caller: &Caller, partner_id: PartnerId) -> bool {
    let partner = caller.partner.as_ref();
    let owns = partner.is_some_and(|partner| partner.id == partner_id)
        && caller.user.partner_role == Some(PartnerRole::Owner);
    owns || caller.is_operator()
}
