//! Tenants: looking at them, and saying what is wanted of them.

mod actions;
pub(crate) mod create;
pub(crate) mod health;
mod partner;
mod patch;
mod settings;
mod summary;
mod view;

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use bson::DateTime;
use dezky_shared::{
    audit::Target,
    billing::Plan,
    id::{PartnerId, TenantId},
    platform::{change_feed::DocumentChange, clock},
    queue::args::RemoveDomain,
    store::{TransactionError, jobs::NewJob, tenants::TenantFilter, to_document},
    tenant::{Tenant, TenantStatus},
};
use futures::{FutureExt as _, future::BoxFuture};
use http::{HeaderName, HeaderValue, StatusCode, header};
use mongodb::ClientSession;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::actions::Decision;
pub use self::view::{ConditionView, TenantView};
pub(super) use self::{
    actions::{ensure_not_terminating, new_job, resume_tenant, suspend_tenant},
    create::{CreateRequest as NewTenantRequest, NewTenant, create_tenant},
    patch::{Patch as TenantPatch, PatchRequest as TenantPatchRequest, edit_tenant},
};
use super::{
    domains::lost,
    jobs::{JobLink, until_final},
};
use crate::{
    error::{ApiError, FieldError, Problem, ProblemCode},
    extract::{
        Caller, ETag, FromQuery, IfMatch, IfNoneMatch, Page, PageOf, Parameters, Prefer,
        QueryParams, Read, SignedIn, TenantAccess, Wait,
    },
    intent::{
        ApiResponse, Command, CommandError, CommandOutput, CommandResult, CommandRunner, reject,
    },
    state::{AppState, SharedState},
    validate,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list, create::create))
        .routes(routes!(show, patch::patch, actions::delete))
        .routes(routes!(summary::summary))
        .merge(settings::router())
        .routes(routes!(actions::reconcile))
        .routes(routes!(actions::suspend))
        .routes(routes!(actions::resume))
        .routes(routes!(actions::restore))
}

/// What a filter by status can be.
pub(super) const STATUSES: &str = "pending, active, suspended, terminating or terminated";

/// Which tenants are asked for.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
struct ListQuery {
    /// Only in this status.
    #[param(value_type = Option<String>, pattern = "^(pending|active|suspended|terminating|terminated)$", example = "active")]
    status: Option<TenantStatus>,
    /// Only with this plan.
    #[param(value_type = Option<String>, pattern = "^(starter|business|enterprise)$", example = "business")]
    plan: Option<Plan>,
    /// Only of this partner.
    #[param(value_type = Option<String>, format = Uuid)]
    partner_id: Option<PartnerId>,
    #[param(ignore)]
    page: Page,
}

impl FromQuery for ListQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        Ok(Self {
            status: parameters.take("status", STATUSES)?,
            plan: parameters
                .take::<PlanName>("plan", "starter, business or enterprise")?
                .map(|PlanName(plan)| plan),
            partner_id: parameters.take("partnerId", "an id")?,
            page: Page::from_query(parameters)?,
        })
    }
}

struct PlanName(Plan);

impl std::str::FromStr for PlanName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        validate::plan(text).map(Self).map_err(drop)
    }
}

/// The tenants the caller may see, oldest first
#[utoipa::path(
    get, path = "/tenants", operation_id = "listTenants", tag = "tenants", params(ListQuery, Page),
    responses((status = 200, body = PageOf<TenantView>), (status = "default", response = Problem)),
)]
async fn list(
    SignedIn(caller): SignedIn,
    QueryParams(query): QueryParams<ListQuery>,
    State(app): State<SharedState>,
) -> Result<Json<PageOf<TenantView>>, ApiError> {
    let list = format!(
        "tenants?{:?}&{:?}&{:?}",
        query.status, query.plan, query.partner_id
    );
    let mut filter = TenantFilter {
        status: query.status,
        plan: query.plan,
        partner_id: query.partner_id,
        ..TenantFilter::default()
    };
    if !caller.is_operator() {
        filter.visible = Some(caller.user.tenant_ids());
        filter.visible_partner = caller.partner.as_ref().map(|partner| partner.id);
    }
    page_of(&app, &caller, filter, &list, &query.page)
        .await
        .map(Json)
}

/// A page of the tenants that `filter` lets through, with their health. `list` names the list and its filters.
pub(super) async fn page_of(
    app: &AppState,
    caller: &Caller,
    mut filter: TenantFilter,
    list: &str,
    page: &Page,
) -> Result<PageOf<TenantView>, ApiError> {
    filter.after = page.after(list)?;
    let tenants = app.tenants.list(&filter, page.fetch_limit()).await?;
    let mut health = health::health_of(app, &tenants).await?;
    let id = |tenant: &Tenant| tenant.id.to_string();
    Ok(page.build(list, tenants, id, |tenant| {
        let health = health.remove(&tenant.id);
        TenantView::shown_to(caller, tenant).with_health(health)
    }))
}

/// A tenant
///
/// With `wait` and `If-None-Match`, answers when anything about it changed.
#[utoipa::path(
    get, path = "/tenants/{slug}", operation_id = "getTenant", tag = "tenants",
    params(("slug" = String, Path), Wait, ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = TenantView), (status = 304), (status = "default", response = Problem)),
)]
async fn show(
    access: TenantAccess<Read>,
    QueryParams(wait): QueryParams<Wait>,
    known: IfNoneMatch,
    State(app): State<SharedState>,
) -> Result<Response, ApiError> {
    let mut caller = access.caller;
    let tenant = match wait.deadline() {
        None => access.tenant,
        Some(_) if !known.is_present() => {
            let message = "wait needs If-None-Match with the version you know.";
            let error = FieldError::parameter("wait", "needs_if_none_match", message);
            return Err(ApiError::invalid(vec![error]));
        }
        Some(deadline) => {
            let mut waiter = app
                .waiting
                .subscribe(DocumentChange::Tenant(access.tenant.id));
            loop {
                let tenant = still_visible(&app, &mut caller, access.tenant.id).await?;
                if !known.matches(ETag::from(&tenant))
                    || !waiter.wait_newer_than(tenant.revision, deadline).await
                {
                    break tenant;
                }
            }
        }
    };
    let etag = ETag::from(&tenant);
    if known.matches(etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag.to_string())]).into_response());
    }
    let view = TenantView::shown_to(&caller, tenant);
    Ok(ApiResponse::new(StatusCode::OK, etag, &view)?.into_response())
}

/// The tenant as it is now, if the caller, who may have waited, still may see it.
pub(super) async fn still_visible(
    app: &AppState,
    caller: &mut Caller,
    id: TenantId,
) -> Result<Tenant, ApiError> {
    let tenant = app.tenants.find(id).await?;
    caller.refresh(app).await?;
    let visible = tenant.filter(|tenant| caller.may_read(tenant));
    Ok(visible.ok_or(ProblemCode::NotFound)?)
}

/// What is decided about a tenant, by looking at it as it is now.
type Decide<'a> = dyn Fn(&mut Tenant, DateTime) -> Result<Decision, ApiError> + Send + Sync + 'a;

/// For how long a job is put off that whoever is next in line will want to do something else.
const PUT_OFF: Duration = Duration::from_millis(250);

/// A change to one tenant.
struct TenantChange<'a> {
    slug: &'a str,
    if_match: &'a IfMatch,
    decide: &'a Decide<'a>,
}

/// Decides about a tenant and records it, and waits for the outcome if the caller prefers.
async fn change(
    recorder: &CommandRunner<'_>,
    tenant: &Tenant,
    if_match: &IfMatch,
    prefer: Prefer,
    decide: &Decide<'_>,
) -> Result<Response, ApiError> {
    let deadline = prefer.deadline();
    let change = TenantChange {
        slug: &tenant.slug,
        if_match,
        decide,
    };
    let in_turn = recorder.serialized_on(&tenant.slug, Some(tenant)).await?;
    let outcome = in_turn.record(&change).await?;
    drop(in_turn);
    answer(recorder, tenant.id, outcome, deadline).await
}

/// The answer to a change; the final state, if it is reached before `deadline`.
async fn answer(
    recorder: &CommandRunner<'_>,
    tenant: TenantId,
    outcome: CommandResult,
    deadline: Option<tokio::time::Instant>,
) -> Result<Response, ApiError> {
    let (Some(job), Some(deadline)) = (outcome.job, deadline) else {
        return Ok(outcome.answer.into_response());
    };
    let (app, mut caller) = (recorder.app, recorder.caller.clone());
    let job = until_final(app, &mut caller, job, deadline).await?;
    let tenant = still_visible(app, &mut caller, tenant).await?;
    let status = if job.state.is_final() {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    let link = JobLink::from(&job);
    let href = link.href.clone();
    let etag = ETag::from(&tenant);
    let view = TenantView::shown_to(&caller, tenant).with_job(link);
    let mut response = ApiResponse::new(status, etag, &view)?
        .at(href)
        .into_response();
    response.headers_mut().insert(
        HeaderName::from_static("preference-applied"),
        HeaderValue::from_static("wait"),
    );
    Ok(response)
}

impl Command for TenantChange<'_> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let app = recorder.app;
            let mut tenant = app
                .tenants
                .lock_by_slug(session, self.slug)
                .await?
                .ok_or_else(|| reject(ProblemCode::NotFound))?;
            let now = app.store.now();
            self.if_match.check(ETag::from(&tenant)).map_err(reject)?;
            let before = to_document(&tenant)?;
            let mut known = tenant.clone();
            let decision = (self.decide)(&mut tenant, now).map_err(reject)?;

            let Some(decided) = decision.0 else {
                app.tenants.unlock(session, tenant.id).await?;
                tenant.revision -= 1;
                return Ok(CommandOutput {
                    answer: answer_with(recorder, StatusCode::OK, &tenant, None)?,
                    jobs: Vec::new(),
                    changed: Vec::new(),
                    events: Vec::new(),
                });
            };
            let (mut removals, mut taken) = (Vec::new(), Vec::new());
            if decided.is_written {
                if tenant.partner_id != known.partner_id {
                    partner::ensure_partner_active(recorder, session, &tenant).await?;
                }
                tenant.updated_at = now;
                if tenant.domains != known.domains {
                    // What is given up has a document first, which keeps the name from others until it is gone.
                    app.domains.backfill(session, &mut known, now).await?;
                    let followed = app
                        .domains
                        .sync_from_tenant(session, &mut tenant, &known.domains, now)
                        .await?;
                    (removals, taken) = (followed.given_up, followed.lost);
                }
                app.tenants.save(session, &tenant).await?;
            } else {
                app.tenants.unlock(session, tenant.id).await?;
                tenant.revision -= 1;
            }
            let mut due = now;
            if decided.is_written && recorder.is_waited_for() {
                // The next change joins the job; carried out between the two, it would be out of date at once.
                due = clock::later(now, PUT_OFF);
            }
            let put_off = decided.jobs.into_iter().map(|job| job.not_before(due));
            let mut wanted: Vec<NewJob> = put_off.collect();
            for domain_id in removals {
                let args = RemoveDomain {
                    tenant_id: tenant.id,
                    domain_id,
                };
                wanted.push(new_job(&args, &recorder.actor_id(), now).map_err(reject)?);
            }
            let mut jobs = Vec::new();
            for job in wanted {
                let job = job.requested_by(
                    Some(recorder.request.id.clone()),
                    recorder.request.traceparent.clone(),
                );
                jobs.push(app.jobs.enqueue(session, &job).await?);
            }
            let mut event = recorder
                .event(now, decided.action, target(&tenant), Some(&tenant))
                .with_changes(&audited(before), &audited(to_document(&tenant)?));
            event.job_id = jobs.first().map(|job| job.id);
            let mut events = vec![event];
            events.extend(lost(recorder, &taken, now));
            let status = if jobs.is_empty() {
                StatusCode::OK
            } else {
                StatusCode::ACCEPTED
            };
            Ok(CommandOutput {
                answer: answer_with(recorder, status, &tenant, jobs.first().map(JobLink::from))?,
                jobs,
                changed: vec![DocumentChange::Tenant(tenant.id)],
                events,
            })
        }
        .boxed()
    }
}

fn answer_with(
    recorder: &CommandRunner<'_>,
    status: StatusCode,
    tenant: &Tenant,
    job: Option<JobLink>,
) -> Result<ApiResponse, TransactionError<CommandError>> {
    let etag = ETag::from(tenant);
    let view = TenantView::shown_to(recorder.caller, tenant.clone());
    let answer = match job {
        None => ApiResponse::new(status, etag, &view),
        Some(job) => {
            let href = job.href.clone();
            ApiResponse::new(status, etag, &view.with_job(job)).map(|answer| answer.at(href))
        }
    };
    answer.map_err(reject)
}

fn target(tenant: &Tenant) -> Target {
    Target {
        kind: "tenant".to_owned(),
        id: tenant.id.to_string(),
        name: tenant.slug.clone(),
    }
}

/// What the audit trail shows of a tenant: what callers write.
fn audited(mut tenant: bson::Document) -> bson::Document {
    let not_by_callers = [
        "_id",
        "revision",
        "updatedAt",
        "createdAt",
        "provisioningStatus",
        "provisioningErrors",
        "conditions",
        "unknownUntil",
        "formerDomains",
    ];
    for field in not_by_callers {
        tenant.remove(field);
    }
    tenant
}
