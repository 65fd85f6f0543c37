//! Look-up of the second factors of a partner's team.

use std::time::Duration;

use axum::response::Response;
use dezky_shared::{
    audit::{Action, Target},
    partner::Partner,
    platform::clock,
};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Serialize;
use utoipa::ToSchema;

use super::{event, run_and_wait, sync_team};
use crate::{
    error::{ApiError, ProblemCode},
    extract::{PartnerAccess, ReadWrite},
    response::ApiResponse,
    views::JobLink,
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

/// Minimum interval between checks.
const MIN_INTERVAL: Duration = Duration::from_mins(1);

/// A look-up of the team's second factors.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TeamRefresh)]
struct RefreshView {
    /// The job that checks.
    job: JobLink,
}

/// Looks up the second factors of the caller's team
///
/// At most once a minute. Returns the pending job if there is one.
#[utoipa::path(
    post, path = "/partner/team/refresh", operation_id = "refreshOwnPartnerTeam", tag = "partners",
    responses((status = 202, body = RefreshView), (status = 200, body = RefreshView)),
)]
pub(super) async fn refresh(w: Write<PartnerAccess<ReadWrite>>) -> Result<Response, ApiError> {
    let partner = &w.access.partner;
    run_and_wait(&w.runner(), partner.id, &Refresh { partner }).await
}

struct Refresh<'a> {
    partner: &'a Partner,
}

impl Command for Refresh<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let (app, partner_id) = (runner.app, self.partner.id);
        let now = app.store.now();
        if let Some(checked_at) = app.db.users.last_mfa_check(session, partner_id).await? {
            let left = clock::until(now, clock::later(checked_at, MIN_INTERVAL));
            if !left.is_zero() {
                let mut rejection = ApiError::new(ProblemCode::TeamRefreshTooSoon);
                let seconds = left.as_millis().div_ceil(1_000);
                rejection.retry_after = u32::try_from(seconds).ok();
                return Err(rejection.into());
            }
        }
        let job = sync_team(runner, session, partner_id).await?;
        let target = Target::new("partner", partner_id, &self.partner.slug);
        let event = event(runner, Action::PartnerMemberRecheck, target);
        let view = RefreshView {
            job: JobLink::from(&job),
        };
        let response = ApiResponse::unversioned(StatusCode::ACCEPTED, &view);
        Ok(CommandOutput::complete(response.at(view.job.href), event).with_jobs(vec![job]))
    }
}
