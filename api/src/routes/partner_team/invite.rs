//! Invitations to a partner's team.

use axum::response::Response;
use bson::doc;
use dezky_shared::{
    audit::{Action, Target},
    id::{InvitationId, PartnerId},
    invitation::Invitation,
    partner::PartnerStatus,
    queue::args::InvitePartnerMember,
    store::{VersionedRepository as _, jobs::NewJob},
    user::PartnerRole,
};
use http::StatusCode;
use mongodb::ClientSession;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{access_level, event, invariants::check_team_size, partner_named, run_and_wait};
use crate::{
    config::Config,
    error::{ApiError, FieldError, ProblemCode},
    extract::{ManageTeam, Operator, PartnerAccess, PathParam, Validate},
    response::ApiResponse,
    validate::{self, Validator},
    views::JobLink,
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

/// An invitation to send.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = InvitationCreate)]
pub(super) struct InviteRequest {
    /// E-mail address; also the username.
    #[schema(max_length = 254, example = "ada@example.com")]
    email: String,
    /// Full name.
    #[schema(min_length = 1, max_length = 120)]
    name: String,
    /// Access level. Ignored for a person who is already on the team.
    #[schema(value_type = PartnerRole)]
    access_level: String,
}

/// A validated invitation.
#[derive(Debug)]
pub(super) struct Invited {
    email: String,
    name: String,
    role: PartnerRole,
}

impl Validate for Invited {
    type Raw = InviteRequest;

    fn validate(raw: InviteRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let email = validator.check("/email", validate::email(&raw.email));
        let name = validator.check("/name", validate::name(&raw.name));
        let role = validator.check("/accessLevel", access_level(&raw.access_level));
        let invited = email.zip(name).zip(role);
        validator.finish(invited.map(|((email, name), role)| Self { email, name, role }))
    }
}

/// An invitation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Invitation)]
struct InvitationView {
    /// Id.
    #[schema(value_type = String, format = Uuid)]
    id: InvitationId,
    /// E-mail address.
    email: String,
    /// Full name.
    name: String,
    /// Access level.
    access_level: PartnerRole,
    /// Path that returns the link once, to the inviting user, after the job has completed.
    link_href: String,
    /// The job that carries out the invitation.
    job: JobLink,
}

/// Invites a person to the caller's team
///
/// The job creates the account; the person is on the team when it completes, and `POST /invitations/{id}/link` returns
/// the link of the account once. The owner of an existing account finds the invitation at `GET /users/me`, and joins by
/// accepting it; the step of the job is then `skipped`. A new invitation to an e-mail address revokes the earlier one and its
/// link. The job is `discarded` with `works_elsewhere` if the person belongs to another partner or to a tenant of
/// another partner, or is an operator.
#[utoipa::path(
    post, path = "/partner/team", operation_id = "inviteOwnPartnerMember", tag = "partners", request_body = InviteRequest,
    responses((status = 202, body = InvitationView), (status = 200, body = InvitationView)),
)]
pub(super) async fn invite(
    w: Write<PartnerAccess<ManageTeam>, Invited>,
) -> Result<Response, ApiError> {
    send(&w.runner(), w.access.partner.id, &w.body).await
}

/// Invites a person to a partner's team
///
/// As `POST /partner/team`, for operators: for example to add the first owner.
#[utoipa::path(
    post, path = "/partners/{slug}/team", operation_id = "invitePartnerMember", tag = "partners", request_body = InviteRequest,
    responses((status = 202, body = InvitationView), (status = 200, body = InvitationView)),
)]
pub(super) async fn invite_by_operator(
    w: Write<Operator, Invited, PathParam<String>>,
) -> Result<Response, ApiError> {
    let partner = partner_named(&w.app, &w.params.0).await?;
    send(&w.runner(), partner.id, &w.body).await
}

async fn send(
    runner: &CommandRunner<'_>,
    partner_id: PartnerId,
    invited: &Invited,
) -> Result<Response, ApiError> {
    if !runner.app.config.encryption_keys.can_encrypt() {
        return Err(ProblemCode::EncryptionNotConfigured.into());
    }
    let invite = Invite {
        partner_id,
        invited,
    };
    run_and_wait(runner, partner_id, &invite).await
}

struct Invite<'a> {
    partner_id: PartnerId,
    invited: &'a Invited,
}

impl Command for Invite<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let (app, partner_id) = (runner.app, self.partner_id);
        // Writes the partner, so that concurrent invitations conflict.
        let partners = &app.db.partners;
        let partner = partners.materialize_conflict(session, partner_id).await?;
        let partner = partner.ok_or(ProblemCode::NotFound)?;
        if partner.status == PartnerStatus::Terminated {
            return Err(ProblemCode::PartnerTerminated.into());
        }

        let Invited { email, name, role } = self.invited;
        let invitations = &app.db.invitations;
        invitations.revoke(session, partner_id, email).await?;
        check_team_size(session, app, partner_id).await?;
        let (now, by) = (app.store.now(), runner.caller.user.id);
        let invitation = Invitation::new(partner_id, email, name, *role, by, now);
        invitations.insert(session, &invitation).await?;

        let args = InvitePartnerMember {
            partner_id,
            invitation_id: invitation.id,
        };
        let job = NewJob::new(&args, &runner.actor_id(), now)?;
        let job = runner.enqueue(session, job).await?;
        let target = Target::new("partner", partner_id, partner.slug);
        let mut event = event(runner, Action::PartnerMemberInvite, target);
        event.after = doc! { "email": email, "name": name, "accessLevel": role.name() };
        let view = InvitationView {
            id: invitation.id,
            email: email.clone(),
            name: name.clone(),
            access_level: *role,
            link_href: format!("/invitations/{}/link", invitation.id),
            job: JobLink::from(&job),
        };
        let response = ApiResponse::unversioned(StatusCode::ACCEPTED, &view);
        Ok(CommandOutput::complete(response.at(view.job.href), event).with_jobs(vec![job]))
    }
}
