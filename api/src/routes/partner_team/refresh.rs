//! Having a job look at the team's MFA devices.

use std::time::Duration;

use axum::{extract::State, response::Response};
use dezky_shared::{audit::Action, partner::Partner, platform::clock, store::TransactionError};
use futures::{FutureExt as _, future::BoxFuture};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Serialize;
use utoipa::ToSchema;

use super::{answer, event, partner_target, sync_team};
use crate::{
    error::{ApiError, Problem, ProblemCode},
    extract::{EmptyBody, PartnerAccess, Prefer, QueryParams, RequestInfo, ValidatedJson, Write},
    intent::{ApiResponse, Command, CommandError, CommandOutput, CommandRunner, reject},
    routes::jobs::JobLink,
    state::SharedState,
};

/// How long a look is new.
const NEW_FOR: Duration = Duration::from_mins(1);

/// A look at the team.
#[derive(Debug, Serialize, ToSchema)]
struct RefreshView {
    /// The job that looks.
    job: JobLink,
}

/// Has a job look at the MFA devices of the caller's team
///
/// At most once a minute; a look that waits already is the one that is answered.
#[utoipa::path(
    post, path = "/partner/team/refresh", operation_id = "refreshTeam", tag = "partners",
    params(("Idempotency-Key" = Option<String>, Header), ("Prefer" = Option<String>, Header)),
    responses((status = 202, body = RefreshView), (status = 200, body = RefreshView), (status = "default", response = Problem)),
)]
pub(super) async fn refresh(
    access: PartnerAccess<Write>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    prefer: Prefer,
    submitted: ValidatedJson<EmptyBody>,
) -> Result<Response, ApiError> {
    let deadline = prefer.deadline();
    let recorder = CommandRunner::new(&app, &access.caller, &request, submitted.key.as_ref());
    let refresh = Refresh {
        partner: &access.partner,
    };
    let outcome = recorder.record(&refresh).await?;
    answer(&recorder, outcome, deadline).await
}

struct Refresh<'a> {
    partner: &'a Partner,
}

impl Command for Refresh<'_> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let (app, partner_id) = (recorder.app, self.partner.id);
            let now = app.store.now();
            if let Some(looked_at) = app.users.last_mfa_look(session, partner_id).await? {
                let left = clock::until(now, clock::later(looked_at, NEW_FOR));
                if !left.is_zero() {
                    let mut refusal = ApiError::new(ProblemCode::TeamRefreshTooSoon);
                    let seconds = left.as_millis().div_ceil(1_000);
                    refusal.retry_after = u32::try_from(seconds).ok();
                    return Err(reject(refusal));
                }
            }
            let job = sync_team(recorder, session, partner_id).await?;
            let target = partner_target(self.partner);
            let mut event = event(recorder, Action::PartnerMemberRecheck, target);
            event.job_id = Some(job.id);
            let view = RefreshView {
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
