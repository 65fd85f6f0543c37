//! Tenants.

mod actions;
pub(crate) mod create;
mod group_update;
pub(crate) mod health;
mod list;
mod partner;
mod patch;
mod settings;
mod summary;
mod update;
mod view;

use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use bson::DateTime;
use dezky_shared::{
    audit::{Action, Target},
    id::TenantId,
    platform::{change_feed::DocumentChange, clock},
    queue::{
        args::{RemoveDomain, SyncBilling},
        job::Job,
    },
    store::{StoreError, VersionedRepository as _, jobs::NewJob, to_document},
    tenant::Tenant,
};
use mongodb::ClientSession;
use tokio::time::Instant;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::actions::Decision;
use super::{
    billing::is_synced,
    domains::ownership::lost,
    outcome::{await_job, preference_applied, status_of},
};
use crate::{
    error::{ApiError, ProblemCode},
    etag::ETag,
    extract::{Caller, QueryParams, Read, TenantAccess, Wait},
    read::Get,
    response::ApiResponse,
    state::SharedState,
    views::{JobLink, job_href},
    write::{Command, CommandOutput, CommandResult, CommandRunner, Rollback},
};

pub(crate) use self::group_update::Patches;
pub use self::view::TenantView;
pub(super) use self::{
    actions::{resume_tenant, suspend_tenant},
    create::{CreateRequest as NewTenantRequest, NewTenant, create_tenant},
    list::{STATUSES, TenantSearch, page_of, search},
    patch::{Patch as TenantPatch, PatchRequest as TenantPatchRequest},
    update::edit_tenant,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list::list, create::create))
        .routes(routes!(show, update::update, actions::delete))
        .routes(routes!(summary::summary))
        .merge(settings::router())
        .routes(routes!(actions::reconcile))
        .routes(routes!(actions::suspend))
        .routes(routes!(actions::resume))
        .routes(routes!(actions::restore))
}

/// Returns a tenant
///
/// Long polling: with `wait`, responds when the tenant is settled, which means that no upstream is `pending`, or with
/// `If-None-Match` as well, when it has changed.
#[utoipa::path(
    get, path = "/tenants/{slug}", operation_id = "getTenant", tag = "tenants",
    params(Wait),
    responses((status = 200, body = TenantView), (status = 304)),
)]
async fn show(get: Get<TenantAccess<Read>, QueryParams<Wait>>) -> Result<Response, ApiError> {
    let mut caller = get.access.caller;
    let tenant = match get.params.0.deadline() {
        None => get.access.tenant,
        Some(deadline) => {
            let id = get.access.tenant.id;
            let mut subscription = get.app.watcher.subscribe(DocumentChange::Tenant(id));
            loop {
                let tenant = caller.reload_tenant(&get.app.access, id).await?;
                let is_over = if get.if_none_match.is_present() {
                    !get.if_none_match.matches(ETag::from(&tenant))
                } else {
                    tenant.is_settled()
                };
                let revision = tenant.revision;
                if is_over || !subscription.wait_newer_than(revision, deadline).await {
                    break tenant;
                }
            }
        }
    };
    let etag = ETag::from(&tenant);
    let view = TenantView::shown_to(&caller, tenant);
    Ok(ApiResponse::conditional(&get.if_none_match, etag, &view))
}

/// Edits a tenant on behalf of a user id and returns the decision; `None` if there is nothing to do.
type Decide<'a> =
    dyn Fn(&mut Tenant, &str, DateTime) -> Result<Option<Decision>, ApiError> + Send + Sync + 'a;

/// Debounce of a job while another request for the tenant is queued.
const DEBOUNCE: Duration = Duration::from_millis(250);

/// Changes a tenant. With `Prefer: wait`, waits for the outcome.
async fn change(
    runner: &CommandRunner<'_>,
    tenant: &Tenant,
    decide: &Decide<'_>,
) -> Result<Response, ApiError> {
    let id = tenant.id;
    let change = TenantChange { id, decide };
    run_and_wait(runner, &tenant.slug, Some(tenant), id, &change).await
}

/// Runs a command on the tenant `id` under the keyed mutex of its slug. With `Prefer: wait`, waits for the outcome.
async fn run_and_wait(
    runner: &CommandRunner<'_>,
    slug: &str,
    tenant: Option<&Tenant>,
    id: TenantId,
    command: &impl Command,
) -> Result<Response, ApiError> {
    let deadline = runner.prefer.deadline();
    let result = runner.run_serialized(slug, tenant, command).await?;
    respond_after_wait(runner, id, result, deadline).await
}

/// The response to a command on the tenant `id`. With a deadline, waits for the outcome.
async fn respond_after_wait(
    runner: &CommandRunner<'_>,
    id: TenantId,
    result: CommandResult,
    deadline: Option<Instant>,
) -> Result<Response, ApiError> {
    let CommandResult { response, job } = result;
    let Some((job, mut caller)) = await_job(runner, job, deadline).await? else {
        return Ok(response.into_response());
    };
    let tenant = caller.reload_tenant(&runner.app.access, id).await?;
    let response = respond(&caller, &tenant, Some(&job));
    Ok(preference_applied(response))
}

/// The response to a change, with the job that carries it out.
fn respond(caller: &Caller, tenant: &Tenant, job: Option<&Job>) -> ApiResponse {
    let mut view = TenantView::shown_to(caller, tenant.clone());
    view.job = job.map(JobLink::from);
    ApiResponse {
        location: job.map(|job| job_href(job.id)),
        ..ApiResponse::new(status_of(job), ETag::from(tenant), &view)
    }
}

/// A change to one tenant.
struct TenantChange<'a> {
    id: TenantId,
    decide: &'a Decide<'a>,
}

impl Command for TenantChange<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let app = runner.app;
        let (tenants, domains) = (&app.db.tenants, &app.db.domains);
        let found = tenants.find_in_transaction(session, self.id).await?;
        let before = found.ok_or(ProblemCode::NotFound)?;
        runner.if_match.check(ETag::from(&before))?;
        let (now, by) = (app.store.now(), runner.actor_id());
        let mut tenant = before.clone();
        let Some(Decision { action, mut jobs }) = (self.decide)(&mut tenant, &by, now)? else {
            let response = respond(runner.caller, &before, None);
            return Ok(CommandOutput::unchanged(response));
        };
        let mut lost_claims = Vec::new();
        if tenant == before {
            tenants.materialize_conflict(session, self.id).await?;
        } else {
            if runner.has_waiters() {
                // The queued change joins this job, which would otherwise be outdated at once.
                let due = clock::later(now, DEBOUNCE);
                jobs = jobs.into_iter().map(|job| job.not_before(due)).collect();
            }
            if tenant.partner_id != before.partner_id {
                partner::ensure_partner_active(runner, session, &tenant).await?;
            }
            if tenant.domains != before.domains {
                // Backfill first: the document of a removed domain reserves its name until the removal is complete.
                let mut backfilled = before.clone();
                domains.backfill(session, &mut backfilled, now).await?;
                let synced = domains
                    .sync_from_tenant(session, &mut tenant, &backfilled.domains, now)
                    .await?;
                for domain_id in synced.given_up {
                    let tenant_id = tenant.id;
                    let args = RemoveDomain {
                        tenant_id,
                        domain_id,
                    };
                    jobs.push(NewJob::new(&args, &by, now)?);
                }
                lost_claims = synced.lost;
            }
            tenants
                .save_changed(session, &before, &mut tenant, now)
                .await?;
        }
        let ends_or_returns = matches!(action, Action::TenantDelete | Action::TenantRestore);
        if ends_or_returns && is_synced(app, &tenant, now).await? {
            let args = SyncBilling {
                tenant_id: tenant.id,
                dry_run: false,
            };
            jobs.push(NewJob::new(&args, &by, now)?);
        }
        let jobs = enqueue_all(session, runner, jobs).await?;
        let event = runner
            .event(now, action, target(&tenant), Some(&tenant))
            .with_changes(&audited(&before)?, &audited(&tenant)?);
        let response = respond(runner.caller, &tenant, jobs.first());
        Ok(CommandOutput::complete(response, event)
            .with_jobs(jobs)
            .with_changed(DocumentChange::Tenant(tenant.id))
            .with_events(lost(runner, &lost_claims, now)))
    }
}

/// Enqueues jobs in the transaction.
pub(super) async fn enqueue_all(
    session: &mut ClientSession,
    runner: &CommandRunner<'_>,
    new: Vec<NewJob>,
) -> Result<Vec<Job>, StoreError> {
    let mut jobs = Vec::new();
    for job in new {
        jobs.push(runner.enqueue(session, job).await?);
    }
    Ok(jobs)
}

fn target(tenant: &Tenant) -> Target {
    Target::new("tenant", tenant.id, &tenant.slug)
}

/// Fields that callers do not write.
const NOT_AUDITED: [&str; 11] = [
    "_id",
    "revision",
    "updatedAt",
    "createdAt",
    "provisioningStatus",
    "provisioningErrors",
    "conditions",
    "unknownUntil",
    "freshFor",
    "formerDomains",
    "words",
];

/// The fields that the audit trail compares.
fn audited(tenant: &Tenant) -> Result<bson::Document, StoreError> {
    let mut document = to_document(tenant)?;
    for field in NOT_AUDITED {
        document.remove(field);
    }
    Ok(document)
}
