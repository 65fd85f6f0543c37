//! Schedules: recurring jobs. For operators.

use axum::Json;
use bson::doc;
use dezky_shared::{
    audit::{Action, Target},
    queue::schedule::{MisfirePolicy, Schedule, Trigger},
};
use futures::future::try_join_all;
use http::StatusCode;
use mongodb::ClientSession;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    config::Config,
    error::{ApiError, FieldError, ProblemCode},
    extract::{Operator, PageOf, PathParam, PlatformReader, Validate},
    read::{Get, ListResult},
    response::ApiResponse,
    state::{AppState, SharedState},
    timestamp::Timestamp,
    views::{JobLink, job_href},
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(run))
}

/// A schedule of a recurring job.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Schedule)]
struct ScheduleView {
    /// Name.
    #[schema(example = "nightly_reconcile")]
    name: &'static str,
    /// Purpose.
    purpose: &'static str,
    /// Cron expression: minute, hour, day of month, month, day of week.
    #[schema(example = "0 1 * * *")]
    expression: &'static str,
    /// Time zone.
    #[schema(example = "Europe/Berlin")]
    zone: &'static str,
    /// Misfire policy: run once for all missed instants (`once`), run for `each`, or `skip` them.
    missed_policy: MisfirePolicy,
    /// Whether it supports a dry run.
    can_dry_run: bool,
    /// Next run.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_at: Option<Timestamp>,
    /// Last run.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<LastView>,
    /// Number of instants missed because no worker was running.
    missed: i64,
    /// The requested job.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobLink>,
}

/// A run of a schedule.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ScheduleRun)]
struct LastView {
    /// Scheduled time.
    instant: Timestamp,
    /// Its job, until the job is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobLink>,
}

/// Lists schedules
#[utoipa::path(get, path = "/schedules", operation_id = "listSchedules", tag = "schedules", responses((status = 200, body = PageOf<ScheduleView>)))]
async fn list(get: Get<PlatformReader>) -> ListResult<ScheduleView> {
    let schedules = get.app.schedules.iter();
    let views = schedules.map(|schedule| view(&get.app, schedule));
    Ok(Json(PageOf::single(try_join_all(views).await?)))
}

/// Returns a schedule
#[utoipa::path(
    get, path = "/schedules/{name}", operation_id = "getSchedule", tag = "schedules", params(("name" = String, Path, pattern = "^[a-z_]+$")),
    responses((status = 200, body = ScheduleView)),
)]
async fn show(get: Get<PlatformReader, PathParam<String>>) -> Result<Json<ScheduleView>, ApiError> {
    Ok(Json(view(&get.app, find(&get.app, &get.params.0)?).await?))
}

/// Options of a run.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schema(as = ScheduleRunCreate)]
struct RunRequest {
    /// Report changes without making them.
    dry_run: bool,
}

impl Validate for RunRequest {
    type Raw = Self;
    const MAY_BE_EMPTY: bool = true;

    fn validate(raw: Self, _: &Config) -> Result<Self, Vec<FieldError>> {
        Ok(raw)
    }
}

/// Runs a schedule now
///
/// The next scheduled run is unchanged. `GET /jobs?parent=<job id>` lists the jobs that the run creates.
#[utoipa::path(
    post, path = "/schedules/{name}/run", operation_id = "runSchedule", tag = "schedules", request_body = Option<RunRequest>,
    params(("name" = String, Path, pattern = "^[a-z_]+$")),
    responses((status = 202, body = ScheduleView)),
)]
async fn run(w: Write<Operator, RunRequest, PathParam<String>>) -> Result<ApiResponse, ApiError> {
    let PathParam(name) = &w.params;
    let schedule = find(&w.app, name)?;
    let dry_run = w.body.dry_run;
    if dry_run && !schedule.can_dry_run {
        let message = "This schedule does not support a dry run.";
        let error = FieldError::at("/dryRun", "not_supported", message);
        return Err(ApiError::invalid(vec![error]));
    }
    let run = RunSchedule {
        schedule,
        dry_run,
        view: view(&w.app, schedule).await?,
    };
    w.run(&run).await
}

struct RunSchedule<'a> {
    schedule: &'a Schedule,
    dry_run: bool,
    view: ScheduleView,
}

impl Command for RunSchedule<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let now = runner.app.store.now();
        let (name, dry_run) = (self.schedule.name, self.dry_run);
        let trigger = Trigger::Manual { dry_run };
        let job = (self.schedule.job)(trigger, &runner.actor_id(), now)?;
        let job = runner.enqueue(session, job).await?;

        let target = Target::new("schedule", name, name);
        let mut event = runner.event(now, Action::ScheduleRun, target, None);
        event.after = doc! { "dryRun": dry_run };

        let view = ScheduleView {
            job: Some(JobLink::from(&job)),
            ..self.view.clone()
        };
        let response = ApiResponse::unversioned(StatusCode::ACCEPTED, &view).at(job_href(job.id));
        Ok(CommandOutput::complete(response, event).with_jobs(vec![job]))
    }
}

fn find<'a>(app: &'a AppState, name: &str) -> Result<&'a Schedule, ApiError> {
    let mut schedules = app.schedules.iter();
    let found = schedules.find(|schedule| schedule.name == name);
    found.ok_or_else(|| ProblemCode::NotFound.into())
}

async fn view(app: &AppState, schedule: &Schedule) -> Result<ScheduleView, ApiError> {
    let name = schedule.name;
    let (state, last) = tokio::try_join!(
        app.db.schedule_ledger.state(name),
        app.db.schedule_ledger.last(name)
    )?;
    let last = match last {
        None => None,
        Some(run) => Some(LastView {
            instant: run.instant.into(),
            job: app
                .db
                .jobs
                .find(run.job_id)
                .await?
                .as_ref()
                .map(JobLink::from),
        }),
    };
    Ok(ScheduleView {
        name,
        purpose: schedule.purpose,
        expression: schedule.cron.expression,
        zone: schedule.cron.zone,
        missed_policy: schedule.misfire_policy,
        can_dry_run: schedule.can_dry_run,
        next_at: schedule.cron.next(app.store.now()).map(Timestamp::from),
        last,
        missed: state.map_or(0, |state| state.missed),
        job: None,
    })
}
