//! A new operation on many jobs, or what it would come to.

use axum::extract::State;
use dezky_shared::{
    audit::{Action, Target},
    id::{JobId, JobOperationId},
    platform::clock,
    queue::{
        args::RunJobOperation,
        job::{JobArgs as _, JobState, Queue},
        job_operation::{JobAction, JobOperation, JobSelection},
    },
    store::{TransactionError, jobs::NewJob, to_document},
};
use futures::{FutureExt as _, future::BoxFuture};
use http::StatusCode;
use mongodb::ClientSession;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::view::{JobOperationView, PreviewView};
use crate::{
    error::{ApiError, FieldError, Problem, ProblemCode},
    extract::{Object, Operator, QueryParams, RequestInfo, Validate, ValidatedJson},
    intent::{ApiResponse, Command, CommandError, CommandOutput, CommandRunner, reject},
    routes::jobs::{JobView, href, slugs_of},
    state::{AppState, SharedState},
    validate::{self, Validator},
};

/// The most jobs that one operation takes.
const MOST_JOBS: i64 = 10_000;
/// How many jobs a dry run shows.
const SAMPLE: i64 = 10;
/// The highest rate that can be asked for.
const HIGHEST_RATE: u32 = 1_000;

/// What is to be done, to which jobs.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct OperationRequest {
    /// What is done to each job: `requeue`, `cancel` or `discard`.
    #[schema(pattern = "^(requeue|cancel|discard)$", example = "requeue")]
    action: String,
    /// Which jobs are meant.
    #[schema(value_type = SelectionRequest)]
    filter: Object<SelectionRequest>,
    /// Only say how many jobs match, and show some.
    #[serde(default)]
    dry_run: bool,
    /// How many jobs must match; else nothing is done.
    expected_count: Option<u64>,
    /// At most so many jobs in a second: 1 to 1,000.
    #[schema(minimum = 1, maximum = 1_000)]
    rate: Option<u32>,
}

/// Which jobs are meant: those that are all of this.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SelectionRequest {
    /// In this state: `available`, `running`, `completed`, `discarded` or `cancelled`.
    #[schema(
        pattern = "^(available|running|completed|discarded|cancelled)$",
        example = "discarded"
    )]
    state: String,
    /// Of this kind.
    #[schema(example = "provision_tenant")]
    kind: Option<String>,
    /// In this queue.
    #[schema(pattern = "^(provisioning|dns|billing|webhooks|maintenance)$")]
    queue: Option<String>,
    /// About this tenant.
    #[schema(format = Uuid)]
    tenant_id: Option<String>,
    /// Last failed with this code.
    #[schema(example = "upstream_conflict")]
    error_code: Option<String>,
    /// Last failed with a code of this class.
    error_class: Option<String>,
    /// Made at this time or later (RFC 3339).
    #[schema(format = DateTime)]
    created_after: Option<String>,
    /// Made before this time (RFC 3339).
    #[schema(format = DateTime)]
    created_before: Option<String>,
}

/// An operation to be accepted.
#[derive(Debug)]
pub(super) struct NewOperation {
    action: JobAction,
    filter: JobSelection,
    dry_run: bool,
    expected_count: Option<u64>,
    rate: Option<u32>,
}

impl Validate for NewOperation {
    type Raw = OperationRequest;

    fn validate(wire: OperationRequest, _: &AppState) -> Result<Self, Vec<FieldError>> {
        let mut checks = Validator::default();
        let expected = "requeue, cancel or discard";
        let action = validate::word(&wire.action, "invalid_action", expected);
        let action: Option<JobAction> = checks.check("/action", action);
        let filter = selection(&mut checks, wire.filter.0);
        if let (Some(action), Some(filter)) = (action, &filter)
            && !action.applies_to(filter.state)
        {
            let message = format!(
                "A job that is {} cannot be meant here.",
                filter.state.name()
            );
            checks.note(FieldError::at(
                "/filter/state",
                "state_not_applicable",
                message,
            ));
        }
        if wire
            .rate
            .is_some_and(|rate| !(1..=HIGHEST_RATE).contains(&rate))
        {
            let message = format!("A rate is 1 to {HIGHEST_RATE}.");
            checks.note(FieldError::at("/rate", "out_of_range", message));
        }
        let whole = action.zip(filter);
        checks.finish(whole.map(|(action, filter)| Self {
            action,
            filter,
            dry_run: wire.dry_run,
            expected_count: wire.expected_count,
            rate: wire.rate,
        }))
    }
}

fn selection(checks: &mut Validator, wire: SelectionRequest) -> Option<JobSelection> {
    let states = "available, running, completed, discarded or cancelled";
    let state = validate::word(&wire.state, "invalid_state", states);
    let state: Option<JobState> = checks.check("/filter/state", state);
    if wire.kind.as_deref() == Some(RunJobOperation::KIND) {
        let message = "Operations are cancelled and requeued one by one, as jobs.";
        checks.note(FieldError::at(
            "/filter/kind",
            "operation_not_allowed",
            message,
        ));
    }
    let kind = wire
        .kind
        .and_then(|kind| checks.check("/filter/kind", validate::name(&kind)));
    let queue = wire.queue.and_then(|queue| {
        let queues = Queue::ALL.map(Queue::name).join(", ");
        checks.check(
            "/filter/queue",
            validate::word(&queue, "invalid_queue", &queues),
        )
    });
    let tenant_id = wire
        .tenant_id
        .and_then(|id| checks.check("/filter/tenantId", validate::id(&id)));
    let error_code = wire.error_code.and_then(|code| {
        let code = validate::word(&code, "invalid_error_code", "a code of a job's error");
        checks.check("/filter/errorCode", code)
    });
    let error_class = wire.error_class.and_then(|class| {
        let class = validate::word(&class, "invalid_error_class", "a class of a job's error");
        checks.check("/filter/errorClass", class)
    });
    let mut time = |pointer: &str, text: Option<String>| {
        text.and_then(|text| checks.check(pointer, validate::time(&text)))
    };
    let created_after = time("/filter/createdAfter", wire.created_after);
    let created_before = time("/filter/createdBefore", wire.created_before);
    Some(JobSelection {
        state: state?,
        kind,
        queue,
        tenant_id,
        error_code,
        error_class,
        created_after,
        created_before,
    })
}

/// Requeues, cancels or discards many jobs
///
/// Which jobs these are is settled when the operation is accepted; jobs that are made or requeued later are not
/// touched. Each is changed only if it still is what was meant when its turn comes, and has an item that says what
/// became of it. The kind of job that carries out operations never matches.
#[utoipa::path(
    post, path = "/job-operations", operation_id = "createJobOperation", tag = "job operations",
    params(("Idempotency-Key" = Option<String>, Header)),
    request_body = OperationRequest,
    responses(
        (status = 200, body = PreviewView, description = "What a dry run found"),
        (status = 202, body = JobOperationView),
        (status = "default", response = Problem),
    ),
)]
pub(super) async fn create(
    Operator(caller): Operator,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    submitted: ValidatedJson<NewOperation>,
) -> Result<ApiResponse, ApiError> {
    let recorder = CommandRunner::new(&app, &caller, &request, submitted.key.as_ref());
    let operation = submitted.body;
    // Outside the transaction, which is to be short: a job that changes in between is found to have changed when its
    // turn comes.
    if operation.dry_run {
        let preview = Preview {
            total: app.jobs.count_selected(&operation.filter).await?,
            sample: sample(&recorder, &operation.filter).await?,
            operation,
        };
        return Ok(recorder.record(&preview).await?.answer);
    }
    let jobs = app.jobs.select(&operation.filter, MOST_JOBS + 1).await?;
    let accepted = Accepted { operation, jobs };
    Ok(recorder.record(&accepted).await?.answer)
}

async fn sample(
    recorder: &CommandRunner<'_>,
    filter: &JobSelection,
) -> Result<Vec<JobView>, ApiError> {
    let app = recorder.app;
    let jobs = app.jobs.sample_selected(filter, SAMPLE).await?;
    let slugs = slugs_of(app, &jobs).await?;
    let view = |job: dezky_shared::queue::job::Job| {
        let slug = job.tenant_id.and_then(|id| slugs.get(&id).cloned());
        JobView::new(job, slug, recorder.caller)
    };
    Ok(jobs.into_iter().map(view).collect())
}

/// What a dry run found.
struct Preview {
    operation: NewOperation,
    total: u64,
    sample: Vec<JobView>,
}

/// An operation with its jobs.
struct Accepted {
    operation: NewOperation,
    jobs: Vec<JobId>,
}

impl NewOperation {
    fn check_count(&self, found: u64) -> Result<(), ApiError> {
        match self.expected_count {
            Some(expected) if expected != found => {
                let detail = format!(
                    "{found} jobs match, not {expected}. Nothing was done; look again with dryRun."
                );
                Err(ApiError::new(ProblemCode::CountDiffers).with_detail(detail))
            }
            _ => Ok(()),
        }
    }
}

impl Command for Preview {
    fn record<'s>(
        &'s self,
        _: &'s mut ClientSession,
        _: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            self.operation.check_count(self.total).map_err(reject)?;
            let view = PreviewView {
                total: self.total,
                sample: &self.sample,
            };
            Ok(CommandOutput {
                answer: answer(StatusCode::OK, &view).map_err(reject)?,
                jobs: Vec::new(),
                changed: Vec::new(),
                events: Vec::new(),
            })
        }
        .boxed()
    }
}

impl Command for Accepted {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let total = i64::try_from(self.jobs.len()).unwrap_or(i64::MAX);
            if total > MOST_JOBS {
                let detail = format!("More than {MOST_JOBS} jobs match. Nothing was done.");
                return Err(reject(
                    ApiError::new(ProblemCode::TooManyJobs).with_detail(detail),
                ));
            }
            self.operation
                .check_count(self.jobs.len() as u64)
                .map_err(reject)?;
            let app = recorder.app;
            let now = app.store.now();
            let operation_id = JobOperationId::new();
            let job = NewJob::new(&RunJobOperation { operation_id }, &recorder.actor_id(), now)?
                .requested_by(
                    Some(recorder.request.id.clone()),
                    recorder.request.traceparent.clone(),
                );
            let job = app.jobs.enqueue(session, &job).await?;
            let kept_for = JobState::Completed.retention().unwrap_or_default();
            let operation = JobOperation {
                id: operation_id,
                action: self.operation.action,
                filter: self.operation.filter.clone(),
                rate: self.operation.rate,
                total,
                done: 0,
                skipped: 0,
                refused: 0,
                job_id: job.id,
                actor: recorder.caller.actor(None),
                origin: recorder.request.origin(),
                created_at: now,
                finished_at: None,
                expire_at: clock::later(now, kept_for),
            };
            app.job_operations
                .insert(session, &operation, &self.jobs)
                .await?;

            let target = Target {
                kind: "jobOperation".to_owned(),
                id: operation.id.to_string(),
                name: RunJobOperation::KIND.to_owned(),
            };
            let mut event = recorder.event(now, Action::JobOperationCreate, target, None);
            event.job_id = Some(job.id);
            event.after = to_document(&Audited {
                action: operation.action,
                filter: &operation.filter,
                total,
            })?;
            let view = JobOperationView::new(operation, Some(&job));
            let answer = answer(StatusCode::ACCEPTED, &view).map_err(reject)?;
            Ok(CommandOutput {
                answer: answer.at(href(job.id)),
                jobs: vec![job],
                changed: Vec::new(),
                events: vec![event],
            })
        }
        .boxed()
    }
}

/// What the audit trail shows of an operation.
#[derive(Serialize)]
struct Audited<'a> {
    action: JobAction,
    filter: &'a JobSelection,
    total: i64,
}

/// An answer about something that has no version.
fn answer(status: StatusCode, body: &impl Serialize) -> Result<ApiResponse, ApiError> {
    Ok(ApiResponse {
        status,
        location: None,
        etag: None,
        body: serde_json::to_value(body).map_err(|error| ApiError::internal(error.into()))?,
        replayed: false,
        secret: None,
    })
}
