//! Schedules, for operators: what is done again and again, when it was done last, and doing it now.

use axum::{Json, extract::State};
use bson::doc;
use dezky_shared::{
    audit::{Action, Target},
    queue::schedule::{Schedule, Trigger},
    store::TransactionError,
};
use futures::{FutureExt as _, future::BoxFuture};
use http::StatusCode;
use mongodb::ClientSession;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::jobs::JobLink;
use crate::{
    error::{ApiError, FieldError, Problem, ProblemCode},
    extract::{Operator, PageOf, PathParam, QueryParams, RequestInfo, Validate, ValidatedJson},
    intent::{ApiResponse, Command, CommandError, CommandOutput, CommandRunner, reject},
    state::{AppState, SharedState},
    timestamp::Timestamp,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(run))
}

/// Something that is done again and again.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ScheduleView {
    /// Its name.
    #[schema(example = "nightly_reconcile")]
    name: &'static str,
    /// What it is for.
    purpose: &'static str,
    /// When: minute, hour, day of month, month, day of week.
    #[schema(example = "0 1 * * *")]
    expression: &'static str,
    /// On the clocks of which zone.
    #[schema(example = "Europe/Berlin")]
    zone: &'static str,
    /// What becomes of instants that were missed: the last is made up for (`once`), or `each`, or none (`skip`).
    #[schema(example = "once")]
    missed_policy: &'static str,
    /// Whether it can be run to only say what it would do.
    can_dry_run: bool,
    /// When it is run next.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_at: Option<Timestamp>,
    /// The last instant at which it was run.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<LastView>,
    /// How many instants it was not run at, because no worker was there.
    missed: i64,
    /// The job that carries out what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobLink>,
}

/// An instant at which a schedule was run.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LastView {
    /// The instant.
    instant: Timestamp,
    /// The job that was made for it, as long as it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobLink>,
}

/// Every schedule
#[utoipa::path(
    get, path = "/schedules", operation_id = "listSchedules", tag = "schedules",
    responses((status = 200, body = PageOf<ScheduleView>), (status = "default", response = Problem)),
)]
async fn list(
    _: Operator,
    _: QueryParams<()>,
    State(app): State<SharedState>,
) -> Result<Json<PageOf<ScheduleView>>, ApiError> {
    let views = app.schedules.iter().map(|schedule| view(&app, schedule));
    Ok(Json(PageOf {
        items: futures::future::try_join_all(views).await?,
        next_cursor: None,
    }))
}

/// A schedule
#[utoipa::path(
    get, path = "/schedules/{name}", operation_id = "getSchedule", tag = "schedules", params(("name" = String, Path, pattern = "^[a-z_]+$")),
    responses((status = 200, body = ScheduleView), (status = "default", response = Problem)),
)]
async fn show(
    _: Operator,
    PathParam(name): PathParam<String>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
) -> Result<Json<ScheduleView>, ApiError> {
    Ok(Json(view(&app, find(&app, &name)?).await?))
}

/// How a schedule is to be run.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RunRequest {
    /// Only say what would be done.
    dry_run: bool,
}

impl Validate for RunRequest {
    type Raw = Self;
    const MAY_BE_EMPTY: bool = true;

    fn validate(wire: Self, _: &AppState) -> Result<Self, Vec<FieldError>> {
        Ok(wire)
    }
}

/// Runs a schedule now
///
/// Its next instant comes all the same. What the job makes of it is found with `GET /jobs?parent=<its id>`.
#[utoipa::path(
    post, path = "/schedules/{name}/run", operation_id = "runSchedule", tag = "schedules", request_body = Option<RunRequest>,
    params(("name" = String, Path, pattern = "^[a-z_]+$"), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 202, body = ScheduleView), (status = "default", response = Problem)),
)]
async fn run(
    Operator(caller): Operator,
    PathParam(name): PathParam<String>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    submitted: ValidatedJson<RunRequest>,
) -> Result<ApiResponse, ApiError> {
    let schedule = find(&app, &name)?;
    let dry_run = submitted.body.dry_run;
    if dry_run && !schedule.can_dry_run {
        let message = "This schedule cannot say what it would do.";
        let error = FieldError::at("/dryRun", "not_supported", message);
        return Err(ApiError::invalid(vec![error]));
    }
    let recorder = CommandRunner::new(&app, &caller, &request, submitted.key.as_ref());
    let asked = AskedRun {
        schedule,
        dry_run,
        shown: view(&app, schedule).await?,
    };
    Ok(recorder.record(&asked).await?.answer)
}

struct AskedRun<'a> {
    schedule: &'a Schedule,
    dry_run: bool,
    /// As it was before; nothing of it changes.
    shown: ScheduleView,
}

impl Command for AskedRun<'_> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let (app, request) = (recorder.app, recorder.request);
            let now = app.store.now();
            let asked = Trigger::Asked {
                dry_run: self.dry_run,
            };
            let new = (self.schedule.job)(asked, &recorder.actor_id(), now)?
                .requested_by(Some(request.id.clone()), request.traceparent.clone());
            let job = app.jobs.enqueue(session, &new).await?;

            let target = Target {
                kind: "schedule".to_owned(),
                id: self.schedule.name.to_owned(),
                name: self.schedule.name.to_owned(),
            };
            let mut event = recorder.event(now, Action::ScheduleRun, target, None);
            event.job_id = Some(job.id);
            event.after = doc! { "dryRun": self.dry_run };

            let link = JobLink::from(&job);
            let location = link.href.clone();
            let shown = ScheduleView {
                job: Some(link),
                ..self.shown.clone()
            };
            Ok(CommandOutput {
                answer: ApiResponse::unversioned(StatusCode::ACCEPTED, &shown)
                    .map_err(reject)?
                    .at(location),
                jobs: vec![job],
                changed: Vec::new(),
                events: vec![event],
            })
        }
        .boxed()
    }
}

fn find<'a>(app: &'a AppState, name: &str) -> Result<&'a Schedule, ApiError> {
    let known = app.schedules.iter().find(|schedule| schedule.name == name);
    known.ok_or_else(|| ProblemCode::NotFound.into())
}

async fn view(app: &AppState, schedule: &Schedule) -> Result<ScheduleView, ApiError> {
    let name = schedule.name;
    let (state, last) = tokio::try_join!(
        app.schedule_ledger.state(name),
        app.schedule_ledger.last(name)
    )?;
    let last = match last {
        None => None,
        Some(last) => Some(LastView {
            instant: last.instant.into(),
            job: app
                .jobs
                .find(last.job_id)
                .await?
                .as_ref()
                .map(JobLink::from),
        }),
    };
    Ok(ScheduleView {
        name,
        purpose: schedule.purpose,
        expression: schedule.calendar.expression,
        zone: schedule.calendar.zone,
        missed_policy: schedule.missed.name(),
        can_dry_run: schedule.can_dry_run,
        next_at: schedule.calendar.next(app.store.now()).map(Timestamp::from),
        last,
        missed: state.map_or(0, |state| state.missed),
        job: None,
    })
}
