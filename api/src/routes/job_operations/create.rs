//! Creation and dry run of a job operation.

use dezky_shared::{
    audit::{Action, Target},
    id::{JobId, JobOperationId},
    platform::clock,
    queue::{
        args::RunJobOperation,
        error_code::{ErrorClass, ErrorCode},
        job::{JobArgs as _, JobState, Queue},
        job_operation::{JobAction, JobOperation, JobSelection},
    },
    store::{jobs::NewJob, to_document},
};
use http::StatusCode;
use mongodb::ClientSession;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::view::{JobOperationView, PreviewView};
use crate::{
    config::Config,
    error::{ApiError, FieldError, ProblemCode},
    extract::{Object, Operator, Validate},
    response::ApiResponse,
    routes::jobs::{JobView, job_views},
    validate::{self, Validator},
    views::job_href,
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

/// Maximum number of jobs in an operation.
const MAX_JOBS: i64 = 10_000;
/// Number of jobs in the sample of a dry run.
const SAMPLE: i64 = 10;
/// Maximum rate, in jobs per second.
const MAX_RATE: u32 = 1_000;

/// A new job operation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = JobOperationCreate)]
pub(super) struct OperationRequest {
    /// Action: `requeue`, `cancel`, `discard` or `dismiss`.
    #[schema(value_type = JobAction, example = "requeue")]
    action: String,
    /// Selects the jobs.
    #[schema(value_type = SelectionRequest)]
    filter: Object<SelectionRequest>,
    /// Return the number of matching jobs and a sample, without changes.
    #[serde(default)]
    dry_run: bool,
    /// Reject the operation unless exactly this many jobs match.
    expected_count: Option<u64>,
    /// Maximum rate in jobs per second, 1–1,000.
    #[schema(minimum = 1, maximum = 1_000)]
    rate: Option<u32>,
}

/// Selects the jobs that match all fields.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = JobSelectionCreate)]
pub(super) struct SelectionRequest {
    /// State: `available`, `running`, `completed`, `discarded` or `cancelled`.
    #[schema(value_type = JobState, example = "discarded")]
    state: String,
    /// Kind.
    #[schema(example = "provision_tenant")]
    kind: Option<String>,
    /// Queue.
    #[schema(value_type = Option<Queue>)]
    queue: Option<String>,
    /// Tenant id.
    #[schema(format = Uuid)]
    tenant_id: Option<String>,
    /// Code of the last error.
    #[schema(value_type = Option<ErrorCode>, example = "upstream_conflict")]
    error_code: Option<String>,
    /// Class of the last error.
    #[schema(value_type = Option<ErrorClass>)]
    error_class: Option<String>,
    /// Created at or after this time (RFC 3339).
    #[schema(format = DateTime)]
    created_after: Option<String>,
    /// Created before this time (RFC 3339).
    #[schema(format = DateTime)]
    created_before: Option<String>,
}

/// A validated new job operation.
#[derive(Debug, Clone)]
pub(super) struct NewOperation {
    action: JobAction,
    filter: JobSelection,
    dry_run: bool,
    expected_count: Option<u64>,
    rate: Option<u32>,
}

impl Validate for NewOperation {
    type Raw = OperationRequest;

    fn validate(raw: OperationRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let expected = "requeue, cancel, discard or dismiss";
        let action = validate::word(&raw.action, "invalid_action", expected);
        let action: Option<JobAction> = validator.check("/action", action);
        let filter = selection(&mut validator, raw.filter.0);
        if let (Some(action), Some(filter)) = (action, &filter)
            && !action.applies_to(filter.state)
        {
            let message = format!(
                "This action does not apply to {} jobs.",
                filter.state.name()
            );
            let error = FieldError::at("/filter/state", "state_not_applicable", message);
            validator.push(error);
        }
        let is_valid = |rate| (1..=MAX_RATE).contains(&rate);
        if !raw.rate.is_none_or(is_valid) {
            let message = format!("The rate must be 1 to {MAX_RATE}.");
            validator.push(FieldError::at("/rate", "out_of_range", message));
        }
        validator.build(|| {
            Some(Self {
                action: action?,
                filter: filter?,
                dry_run: raw.dry_run,
                expected_count: raw.expected_count,
                rate: raw.rate,
            })
        })
    }
}

fn selection(validator: &mut Validator, raw: SelectionRequest) -> Option<JobSelection> {
    let states = "available, running, completed, discarded or cancelled";
    let state = validate::word(&raw.state, "invalid_state", states);
    let state: Option<JobState> = validator.check("/filter/state", state);
    if raw.kind.as_deref() == Some(RunJobOperation::KIND) {
        let message = "Jobs that carry out operations cannot be selected.";
        let error = FieldError::at("/filter/kind", "operation_not_allowed", message);
        validator.push(error);
    }
    let kind = raw
        .kind
        .and_then(|kind| validator.check("/filter/kind", validate::name(&kind)));
    let queue = raw.queue.and_then(|queue| {
        let queues = Queue::ALL.map(Queue::name).join(", ");
        validator.check(
            "/filter/queue",
            validate::word(&queue, "invalid_queue", &queues),
        )
    });
    let tenant_id = raw
        .tenant_id
        .and_then(|id| validator.check("/filter/tenantId", validate::id(&id)));
    let error_code = raw.error_code.and_then(|code| {
        let known = validate::one_of(ErrorCode::ALL, &code);
        let code = known.ok_or_else(|| ("invalid_error_code", "Must be an error code.".to_owned()));
        validator.check("/filter/errorCode", code)
    });
    let error_class = raw.error_class.and_then(|class| {
        let known = validate::one_of(ErrorClass::ALL, &class);
        let class =
            known.ok_or_else(|| ("invalid_error_class", "Must be an error class.".to_owned()));
        validator.check("/filter/errorClass", class)
    });
    let mut time = |pointer: &str, text: Option<String>| {
        text.and_then(|text| validator.check(pointer, validate::time(&text)))
    };
    let created_after = time("/filter/createdAfter", raw.created_after);
    let created_before = time("/filter/createdBefore", raw.created_before);
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

/// Requeues, cancels, discards or dismisses many jobs
///
/// The jobs are selected when the operation is accepted; later jobs are not affected. A job is changed only if it still
/// matches when it is processed; its item has the outcome. Jobs that carry out operations never match.
#[utoipa::path(
    post, path = "/job-operations", operation_id = "createJobOperation", tag = "job operations",
    request_body = OperationRequest,
    responses(
        (status = 200, body = PreviewView, description = "Result of a dry run"),
        (status = 202, body = JobOperationView),
    ),
)]
pub(super) async fn create(w: Write<Operator, NewOperation>) -> Result<ApiResponse, ApiError> {
    let (jobs, operation) = (&w.app.db.jobs, &w.body);
    // Outside the transaction, to keep it short. Each job is checked again when it is processed.
    if operation.dry_run {
        let counted = MAX_JOBS.unsigned_abs() + 1;
        let (sample, total) = futures::try_join!(
            jobs.sample_selected(&operation.filter, SAMPLE),
            jobs.count_selected(&operation.filter, counted),
        )
        .map_err(ApiError::from_search)?;
        let preview = Preview {
            operation,
            total,
            sample: job_views(&w.app, sample, &w.access.0).await?,
        };
        return w.run(&preview).await;
    }
    let jobs = jobs.select(&operation.filter, MAX_JOBS + 1).await;
    let jobs = jobs.map_err(ApiError::from_search)?;
    w.run(&Accepted { operation, jobs }).await
}

/// A dry run.
struct Preview<'a> {
    operation: &'a NewOperation,
    total: u64,
    sample: Vec<JobView>,
}

/// An operation with its jobs.
struct Accepted<'a> {
    operation: &'a NewOperation,
    jobs: Vec<JobId>,
}

impl NewOperation {
    fn check_count(&self, found: u64) -> Result<(), ApiError> {
        match self.expected_count {
            Some(expected) if expected != found => {
                let detail =
                    format!("{found} jobs match instead of {expected}. Nothing was changed.");
                Err(ApiError::new(ProblemCode::CountDiffers).with_detail(detail))
            }
            _ => Ok(()),
        }
    }
}

impl Command for Preview<'_> {
    async fn run(
        &self,
        _: &mut ClientSession,
        _: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        self.operation.check_count(self.total)?;
        let view = PreviewView {
            total: self.total,
            sample: &self.sample,
        };
        let response = ApiResponse::unversioned(StatusCode::OK, &view);
        Ok(CommandOutput::unchanged(response))
    }
}

impl Command for Accepted<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let total = i64::try_from(self.jobs.len()).unwrap_or(i64::MAX);
        if total > MAX_JOBS {
            let detail = format!("More than {MAX_JOBS} jobs match. Nothing was changed.");
            return Err(ApiError::new(ProblemCode::TooManyJobs)
                .with_detail(detail)
                .into());
        }
        self.operation.check_count(self.jobs.len() as u64)?;
        let app = runner.app;
        let now = app.store.now();
        let operation_id = JobOperationId::new();
        let job = NewJob::new(&RunJobOperation { operation_id }, &runner.actor_id(), now)?;
        let job = runner.enqueue(session, job).await?;
        let retention = JobState::Completed.retention().unwrap_or_default();
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
            actor: runner.caller.actor(None),
            origin: runner.request.origin(),
            created_at: now,
            finished_at: None,
            expire_at: clock::later(now, retention),
        };
        let operations = &app.db.job_operations;
        operations.insert(session, &operation, &self.jobs).await?;

        let target = Target::new("jobOperation", operation.id, RunJobOperation::KIND);
        let mut event = runner.event(now, Action::JobOperationCreate, target, None);
        event.after = to_document(&Audited {
            action: operation.action,
            filter: &operation.filter,
            total,
        })?;
        let view = JobOperationView::new(operation, Some(&job));
        let response = ApiResponse::unversioned(StatusCode::ACCEPTED, &view);
        Ok(CommandOutput::complete(response.at(job_href(job.id)), event).with_jobs(vec![job]))
    }
}

/// Audited fields of an operation.
#[derive(Serialize)]
struct Audited<'a> {
    action: JobAction,
    filter: &'a JobSelection,
    total: i64,
}
