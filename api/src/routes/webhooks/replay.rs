//! Replay of an event: its object is read again.

use dezky_shared::{
    audit::{Action, Target},
    webhook_event::EventId,
};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::{ApiError, ProblemCode},
    extract::{EmptyBody, Operator, PathParam},
    response::ApiResponse,
    views::{JobLink, job_href},
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

/// A replay.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WebhookEventReplay)]
struct ReplayView {
    /// The job that reads the object again.
    job: JobLink,
}

/// Replays an event of the payment provider
///
/// Its object is read again, and stored as it is now. It is safe to repeat.
#[utoipa::path(
    post, path = "/webhook-events/{id}/replay", operation_id = "replayWebhookEvent", tag = "billing",
    responses((status = 202, body = ReplayView)),
)]
pub(super) async fn replay(
    w: Write<Operator, EmptyBody, PathParam<EventId>>,
) -> Result<ApiResponse, ApiError> {
    let EventId(id) = &w.params.0;
    w.run(&Replay { id }).await
}

struct Replay<'a> {
    id: &'a str,
}

impl Command for Replay<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let (events, now) = (&runner.app.db.webhook_events, runner.app.store.now());
        let found = events.find_in_transaction(session, self.id).await?;
        let event = found.ok_or(ProblemCode::NotFound)?;
        let job = event.job(&runner.actor_id(), now)?;
        let job = job.ok_or(ProblemCode::EventIgnored)?;
        events.reopen(session, &event.id, now).await?;
        let job = runner.enqueue(session, job).await?;
        let target = Target::new("webhookEvent", &event.id, &event.kind);
        let audited = runner.event(now, Action::WebhookEventReplay, target, None);
        let view = ReplayView {
            job: JobLink::from(&job),
        };
        let response = ApiResponse::unversioned(StatusCode::ACCEPTED, &view).at(job_href(job.id));
        Ok(CommandOutput::complete(response, audited).with_jobs(vec![job]))
    }
}
