//! Showing the link of an invitation, once.

use axum::extract::State;
use dezky_shared::{
    audit::Action,
    id::{InvitationId, PartnerId},
    invitation::{Invitation, InvitationState, SealedLink},
    store::Abort,
    user::PartnerRole,
};
use futures::{FutureExt as _, future::BoxFuture};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Serialize;
use utoipa::ToSchema;

use super::{event, user_target};
use crate::{
    error::{ApiError, Code, Problem},
    extract::{Caller, NoBody, PathParam, QueryParams, RequestInfo, SignedIn, Submitted},
    intent::{Answer, Intent, Recorded, Recorder, Stop, refuse},
    state::{App, AppState},
    wire::Time,
};

/// The link of an invitation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LinkView {
    /// Where the invited person chooses a password; null in the answer to a repeated request.
    #[schema(required)]
    link: Option<String>,
    /// When it ends.
    expires_at: Time,
    /// There, and true, in the answer to a repeated request.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_already_shown: Option<bool>,
}

/// Shows the link of an invitation
///
/// Once, to whoever made the invitation and still may, when its job is over. Whoever has the link has the account: hand it
/// to the invited person alone. If the answer is lost, invite them again. 409 `link_not_needed` is answered for somebody
/// who has an account already; an invitation whose time is over is no more (404).
#[utoipa::path(
    post, path = "/invitations/{id}/link", operation_id = "showInvitationLink", tag = "partners",
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = LinkView), (status = "default", response = Problem)),
)]
pub(super) async fn show(
    SignedIn(caller): SignedIn,
    PathParam(id): PathParam<InvitationId>,
    _: QueryParams<()>,
    State(app): State<App>,
    request: RequestInfo,
    submitted: Submitted<NoBody>,
) -> Result<Answer, ApiError> {
    let recorder = Recorder::new(&app, &caller, &request, submitted.key.as_ref());
    Ok(recorder.record(&Show { id }).await?.answer)
}

struct Show {
    id: InvitationId,
}

impl Intent for Show {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s Recorder<'_>,
    ) -> BoxFuture<'s, Result<Recorded, Abort<Stop>>> {
        async move {
            let (app, caller) = (recorder.app, recorder.caller);
            let now = app.store.now();
            let found = app.invitations.find_in(session, self.id).await?;
            let mut invitation = found
                .filter(|invitation| invitation.expire_at > now)
                .filter(|invitation| {
                    invitation.invited_by == caller.user.id
                        && may_invite(caller, invitation.partner_id)
                })
                .ok_or_else(|| refuse(Code::NotFound))?;
            let user = invitation
                .user_id
                .ok_or_else(|| refuse(Code::LinkNotReady))?;
            let link = take_link(app, &mut invitation).map_err(refuse)?;
            app.invitations.save(session, &invitation).await?;

            let view = LinkView {
                link: Some(link),
                expires_at: invitation.expire_at.into(),
                secret_already_shown: None,
            };
            let answer = Answer::unversioned(StatusCode::OK, &view).map_err(refuse)?;
            let target = user_target(user, &invitation.email);
            Ok(Recorded {
                answer: answer.once("link"),
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
        (InvitationState::Shown, _) => return Err(Code::LinkAlreadyShown.into()),
        (InvitationState::NoLink, _) => return Err(Code::LinkNotNeeded.into()),
        (InvitationState::Pending | InvitationState::Ready, _) => {
            return Err(Code::LinkNotReady.into());
        }
    };
    invitation.state = InvitationState::Shown;
    app.sealing_keys.open(job_id, &sealed).map_err(|error| {
        tracing::error!(%error, "The link of an invitation does not open");
        Code::SealingNotConfigured.into()
    })
}

/// Whether the caller may invite to this partner's team now.
fn may_invite(caller: &Caller, partner_id: PartnerId) -> bool {
    let partner = caller.partner.as_ref();
    let owns = partner.is_some_and(|partner| partner.id == partner_id)
        && caller.user.partner_role == Some(PartnerRole::Owner);
    owns || caller.is_operator()
}
