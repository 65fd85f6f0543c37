//! Update and removal of team members.

use axum::response::Response;
use dezky_shared::{
    audit::{Action, Target},
    id::{PartnerId, UserId},
    partner::PartnerStatus,
    platform::change_feed::DocumentChange,
    store::VersionedRepository as _,
    user::{PartnerRole, User},
};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    MemberView, access_level, audited, check_team_invariants, event, role_of, run_and_wait,
    sync_team,
};
use crate::{
    config::Config,
    error::{ApiError, FieldError, ProblemCode},
    etag::ETag,
    extract::{EmptyBody, ManageTeam, PartnerAccess, PathParam, Validate},
    keyed_mutex::partner_key,
    response::ApiResponse,
    routes::users::load_for_write,
    validate::Validator,
    views::JobLink,
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

/// Fields to change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = PartnerMemberPatch)]
pub(super) struct MemberPatch {
    /// Access level.
    #[schema(value_type = PartnerRole)]
    access_level: String,
}

/// A change of a membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MemberAction {
    /// Sets the access level.
    Level(PartnerRole),
    /// Removes the member.
    Removal,
}

impl Validate for MemberAction {
    type Raw = MemberPatch;

    fn validate(raw: MemberPatch, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let level = validator.check("/accessLevel", access_level(&raw.access_level));
        validator.finish(level.map(Self::Level))
    }
}

/// Updates a member of the caller's team
///
/// The last owner cannot be demoted: 409 `last_owner`.
#[utoipa::path(
    patch, path = "/partner/team/{id}", operation_id = "updateOwnPartnerMember", tag = "partners", request_body = MemberPatch,
    responses((status = 200, body = MemberView)),
)]
pub(super) async fn update(
    w: Write<PartnerAccess<ManageTeam>, MemberAction, PathParam<UserId>>,
) -> Result<ApiResponse, ApiError> {
    let change = MemberChange {
        partner_id: w.access.partner.id,
        id: w.params.0,
        action: w.body,
    };
    let key = partner_key(change.partner_id);
    let result = w.runner().run_serialized(&key, None, &change).await?;
    Ok(result.response)
}

/// Removes a member from the caller's team
///
/// Their access ends at once. The job removes them from the partner's group and ends their sessions. Their invitations
/// and unused links are revoked.
#[utoipa::path(
    delete, path = "/partner/team/{id}", operation_id = "removeOwnPartnerMember", tag = "partners",
    responses((status = 202, body = MemberView), (status = 200, body = MemberView)),
)]
pub(super) async fn remove(
    w: Write<PartnerAccess<ManageTeam>, EmptyBody, PathParam<UserId>>,
) -> Result<Response, ApiError> {
    let change = MemberChange {
        partner_id: w.access.partner.id,
        id: w.params.0,
        action: MemberAction::Removal,
    };
    run_and_wait(&w.runner(), change.partner_id, &change).await
}

struct MemberChange {
    partner_id: PartnerId,
    id: UserId,
    action: MemberAction,
}

impl MemberChange {
    /// The member, as this transaction reads it, after the check of `If-Match`.
    async fn find(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<User, Rollback> {
        let app = runner.app;
        // Writes the partner, so that concurrent removals of two owners conflict.
        let partners = &app.db.partners;
        let partner = partners.materialize_conflict(session, self.partner_id);
        let partner = partner.await?;
        if partner.is_none_or(|partner| partner.status == PartnerStatus::Terminated) {
            return Err(ProblemCode::Forbidden.into());
        }
        let is_in_team = |user: &User| user.partner_id == Some(self.partner_id);
        load_for_write(session, runner, self.id, is_in_team).await
    }
}

impl Command for MemberChange {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let app = runner.app;
        let before = self.find(session, runner).await?;
        if self.action == MemberAction::Level(role_of(&before)) {
            let response = respond(StatusCode::OK, before, None);
            return Ok(CommandOutput::unchanged(response));
        }

        let now = app.store.now();
        let mut after = before.clone();
        let mut job = None;
        let (action, status) = match self.action {
            MemberAction::Level(level) => {
                after.partner_role = Some(level);
                (Action::PartnerMemberUpdate, StatusCode::OK)
            }
            MemberAction::Removal => {
                after.partner_id = None;
                after.partner_role = None;
                let invitations = &app.db.invitations;
                let revoked = invitations.revoke_from(session, self.partner_id, &before);
                revoked.await?;
                job = Some(sync_team(runner, session, self.partner_id).await?);
                (Action::PartnerMemberRemove, StatusCode::ACCEPTED)
            }
        };
        check_team_invariants(session, app, Some(&before), Some(&after)).await?;
        let users = &app.db.users;
        users
            .save_changed(session, &before, &mut after, now)
            .await?;
        let event = event(runner, action, Target::new("user", self.id, &after.email))
            .with_changes(&audited(&before), &audited(&after));

        let link = job.as_ref().map(JobLink::from);
        // A removed member is shown with their last access level.
        after.partner_role = after.partner_role.or(before.partner_role);
        Ok(CommandOutput::complete(respond(status, after, link), event)
            .with_jobs(job.into_iter().collect())
            .with_changed(DocumentChange::User(self.id)))
    }
}

fn respond(status: StatusCode, user: User, job: Option<JobLink>) -> ApiResponse {
    let etag = ETag::from(&user);
    let location = job.as_ref().map(|job| job.href.clone());
    let view = MemberView {
        job,
        ..MemberView::from(user)
    };
    ApiResponse {
        location,
        ..ApiResponse::new(status, etag, &view)
    }
}
