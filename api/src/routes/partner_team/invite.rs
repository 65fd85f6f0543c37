//! Inviting somebody to a team.

use axum::{extract::State, response::Response};
use bson::doc;
use dezky_shared::{
    audit::Action,
    id::{InvitationId, PartnerId},
    invitation::Invitation,
    partner::PartnerStatus,
    queue::args::InvitePartnerMember,
    store::{TransactionError, jobs::NewJob},
    user::PartnerRole,
};
use futures::{FutureExt as _, future::BoxFuture};
use http::StatusCode;
use mongodb::ClientSession;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    AccessLevel, access_level, answer, event, invariants::check_team_size, partner_named,
    partner_target, requested,
};
use crate::{
    error::{ApiError, FieldError, Problem, ProblemCode},
    extract::{
        ManageTeam, Operator, PartnerAccess, PathParam, Prefer, QueryParams, RequestInfo, Validate,
        ValidatedJson,
    },
    intent::{ApiResponse, Command, CommandError, CommandOutput, CommandRunner, reject},
    routes::jobs::JobLink,
    state::{AppState, SharedState},
    validate::{self, Validator},
};

/// Who is to join.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct InviteRequest {
    /// Their address, which becomes their username.
    #[schema(max_length = 254, example = "ada@example.com")]
    email: String,
    /// Their name, for people.
    #[schema(min_length = 1, max_length = 120)]
    name: String,
    /// What they may do. Of somebody who is on the team already it stays as it is.
    #[schema(value_type = AccessLevel)]
    access_level: String,
}

/// Somebody who is to join.
#[derive(Debug)]
pub(super) struct Invited {
    email: String,
    name: String,
    role: PartnerRole,
}

impl Validate for Invited {
    type Raw = InviteRequest;

    fn validate(wire: InviteRequest, _: &AppState) -> Result<Self, Vec<FieldError>> {
        let mut checks = Validator::default();
        let email = checks.check("/email", validate::email(&wire.email));
        let name = checks.check("/name", validate::name(&wire.name));
        let role = checks.check("/accessLevel", access_level(&wire.access_level));
        let invited = email.zip(name).zip(role);
        checks.finish(invited.map(|((email, name), role)| Self { email, name, role }))
    }
}

/// An invitation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct InvitationView {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    id: InvitationId,
    /// Whom it is for.
    email: String,
    /// Their name.
    name: String,
    /// What they may do.
    access_level: AccessLevel,
    /// Where its link is shown once, to whoever invited, when the job is over.
    link_href: String,
    /// The job that carries it out.
    job: JobLink,
}

/// Invites somebody to the caller's team
///
/// The job finds or makes their account. They are on the team once it is over; if the account is new, its link is then
/// shown once by `POST /invitations/{id}/link`. Inviting somebody again takes back the earlier invitation and its link,
/// and makes a new one. The job ends as `discarded` with `works_elsewhere` if they
/// work for another partner, are in a tenant that is not this partner's, or are an operator.
#[utoipa::path(
    post, path = "/partner/team", operation_id = "inviteMember", tag = "partners", request_body = InviteRequest,
    params(("Idempotency-Key" = Option<String>, Header), ("Prefer" = Option<String>, Header)),
    responses((status = 202, body = InvitationView), (status = 200, body = InvitationView), (status = "default", response = Problem)),
)]
pub(super) async fn invite(
    access: PartnerAccess<ManageTeam>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    prefer: Prefer,
    submitted: ValidatedJson<Invited>,
) -> Result<Response, ApiError> {
    let recorder = CommandRunner::new(&app, &access.caller, &request, submitted.key.as_ref());
    record(&recorder, access.partner.id, &submitted.body, prefer).await
}

/// Invites somebody to a partner's team
///
/// As an owner of the partner does with `POST /partner/team`: for the first of them, when there is none yet.
#[utoipa::path(
    post, path = "/partners/{slug}/team", operation_id = "invitePartnerMember", tag = "partners", request_body = InviteRequest,
    params(("slug" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("Prefer" = Option<String>, Header)),
    responses((status = 202, body = InvitationView), (status = 200, body = InvitationView), (status = "default", response = Problem)),
)]
pub(super) async fn invite_by_operator(
    Operator(caller): Operator,
    PathParam(slug): PathParam<String>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    prefer: Prefer,
    submitted: ValidatedJson<Invited>,
) -> Result<Response, ApiError> {
    let partner = partner_named(&app, &slug).await?;
    let recorder = CommandRunner::new(&app, &caller, &request, submitted.key.as_ref());
    record(&recorder, partner.id, &submitted.body, prefer).await
}

async fn record(
    recorder: &CommandRunner<'_>,
    partner_id: PartnerId,
    invited: &Invited,
    prefer: Prefer,
) -> Result<Response, ApiError> {
    if !recorder.app.sealing_keys.can_seal() {
        return Err(ProblemCode::SealingNotConfigured.into());
    }
    let deadline = prefer.deadline();
    let invite = Invite {
        partner_id,
        invited,
    };
    let outcome = recorder.record(&invite).await?;
    answer(recorder, outcome, deadline).await
}

struct Invite<'a> {
    partner_id: PartnerId,
    invited: &'a Invited,
}

impl Command for Invite<'_> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let (app, partner_id) = (recorder.app, self.partner_id);
            // Written, not read: of two who fill the last place, the second sees the first.
            let partner = app.partners.find_for_update(session, partner_id).await?;
            app.partners.unlock(session, partner_id).await?;
            let partner = partner.ok_or_else(|| reject(ProblemCode::NotFound))?;
            if partner.status == PartnerStatus::Terminated {
                return Err(reject(ProblemCode::PartnerTerminated));
            }

            let Invited { email, name, role } = self.invited;
            let invitations = &app.invitations;
            invitations.withdraw(session, partner_id, email).await?;
            check_team_size(session, app, partner_id).await?;
            let (now, by) = (app.store.now(), recorder.caller.user.id);
            let invitation = Invitation::new(partner_id, email, name, *role, by, now);
            invitations.insert(session, &invitation).await?;

            let args = InvitePartnerMember {
                partner_id,
                invitation_id: invitation.id,
            };
            let job = requested(recorder, NewJob::new(&args, &recorder.actor_id(), now)?);
            let job = app.jobs.enqueue(session, &job).await?;
            let mut event = event(
                recorder,
                Action::PartnerMemberInvite,
                partner_target(&partner),
            );
            event.after = doc! { "email": email, "name": name, "accessLevel": role.name() };
            event.job_id = Some(job.id);
            let view = InvitationView {
                id: invitation.id,
                email: email.clone(),
                name: name.clone(),
                access_level: (*role).into(),
                link_href: format!("/invitations/{}/link", invitation.id),
                job: JobLink::from(&job),
            };
            let answer = ApiResponse::unversioned(StatusCode::ACCEPTED, &view).map_err(reject)?;
            Ok(CommandOutput {
                answer: answer.at(view.job.href),
                jobs: vec![job],
                changed: Vec::new(),
                events: vec![event],
            })
        }
        .boxed()
    }
}
