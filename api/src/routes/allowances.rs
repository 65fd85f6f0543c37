//! Allowances of the plans: the storage and the limits that each grants to its tenants. For operators.

use axum::{Json, response::Response};
use dezky_shared::{
    allowance::Allowance,
    audit::Action,
    billing::Plan,
    queue::{args::ApplyAllowance, job::Job},
    store::{VersionedRepository as _, allowances::AllowanceRepository, jobs::NewJob},
};
use http::StatusCode;
use mongodb::ClientSession;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::outcome::run_and_respond;
use crate::{
    config::Config,
    error::{ApiError, FieldError},
    extract::{Operator, PageOf, PathParam, PlatformReader, Validate},
    read::{Get, ListResult},
    response::ApiResponse,
    state::SharedState,
    timestamp::Timestamp,
    validate::{FieldPatch, Validator, allowance, double_option},
    views::JobLink,
    write::{Command, CommandOutput, CommandRunner, Resource, Rollback, Write},
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, update))
}

/// The allowance of a plan.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Allowance)]
pub struct AllowanceView {
    /// Plan: `starter`, `business` or `enterprise`.
    plan: Plan,
    /// Quota of a tenant's shared space, in bytes. 0 is unlimited.
    #[schema(minimum = 0)]
    files_bytes: i64,
    /// Quota of a mailbox that has none of its own, in bytes. 0 is unlimited.
    #[schema(minimum = 0)]
    mailbox_bytes: i64,
    /// Quota of a member's personal space, in bytes. 0 is unlimited. Missing: as the file server sets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    member_files_bytes: Option<i64>,
    /// Maximum number of members. Unlimited if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    seats: Option<i32>,
    /// Whether a new member beyond `seats` is rejected, as opposed to reported.
    seats_enforced: bool,
    /// Maximum number of sign-on apps. Unlimited if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    apps: Option<i32>,
    /// Whether a new app beyond `apps` is rejected, as opposed to reported.
    apps_enforced: bool,
    /// Maximum number of mail domains, claims included. Unlimited if missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    domains: Option<i32>,
    /// Whether a new domain beyond `domains` is rejected, as opposed to reported.
    domains_enforced: bool,
    /// Incremented by every change.
    revision: i64,
    /// Creation time.
    created_at: Timestamp,
    /// Time of the last change.
    updated_at: Timestamp,
    /// The job that applies changed quotas to the tenants.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobLink>,
}

impl From<Allowance> for AllowanceView {
    fn from(allowance: Allowance) -> Self {
        Self {
            plan: allowance.plan,
            files_bytes: allowance.files_bytes,
            mailbox_bytes: allowance.mailbox_bytes,
            member_files_bytes: allowance.member_files_bytes,
            seats: allowance.seats,
            seats_enforced: allowance.seats_enforced,
            apps: allowance.apps,
            apps_enforced: allowance.apps_enforced,
            domains: allowance.domains,
            domains_enforced: allowance.domains_enforced,
            revision: allowance.revision,
            created_at: allowance.created_at.into(),
            updated_at: allowance.updated_at.into(),
            job: None,
        }
    }
}

impl Resource for Allowance {
    const KIND: &'static str = "allowance";
    const PATH: &'static str = "/allowances";
    type View = AllowanceView;
    type Repository = AllowanceRepository;

    fn name(&self) -> String {
        self.plan.to_string()
    }
}

/// Fields to change. Missing fields stay; null removes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = AllowancePatch)]
struct PatchRequest {
    /// Quota of a tenant's shared space, in bytes. 0 is unlimited.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = i64, minimum = 0, maximum = 1_000_000_000_000_000_i64)]
    files_bytes: Option<i64>,
    /// Quota of a mailbox that has none of its own, in bytes. 0 is unlimited.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = i64, minimum = 0, maximum = 1_000_000_000_000_000_i64)]
    mailbox_bytes: Option<i64>,
    /// Quota of a member's personal space, in bytes. 0 is unlimited; null leaves it as the file server sets it.
    #[serde(default)]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1_000_000_000_000_000_i64)]
    member_files_bytes: FieldPatch<i64>,
    /// Maximum number of members.
    #[serde(default)]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 100_000)]
    seats: FieldPatch<i64>,
    /// Whether a new member beyond `seats` is rejected, as opposed to reported.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = bool)]
    seats_enforced: Option<bool>,
    /// Maximum number of sign-on apps.
    #[serde(default)]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 100_000)]
    apps: FieldPatch<i64>,
    /// Whether a new app beyond `apps` is rejected, as opposed to reported.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = bool)]
    apps_enforced: Option<bool>,
    /// Maximum number of mail domains, claims included.
    #[serde(default)]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 100_000)]
    domains: FieldPatch<i64>,
    /// Whether a new domain beyond `domains` is rejected, as opposed to reported.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = bool)]
    domains_enforced: Option<bool>,
}

/// Validated fields to change.
#[derive(Debug)]
struct Patch {
    files_bytes: Option<i64>,
    mailbox_bytes: Option<i64>,
    member_files_bytes: FieldPatch<i64>,
    seats: FieldPatch<i32>,
    seats_enforced: Option<bool>,
    apps: FieldPatch<i32>,
    apps_enforced: Option<bool>,
    domains: FieldPatch<i32>,
    domains_enforced: Option<bool>,
}

impl Validate for Patch {
    type Raw = PatchRequest;

    fn validate(raw: PatchRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let patch = Self {
            files_bytes: raw
                .files_bytes
                .and_then(|bytes| validator.check("/filesBytes", allowance::bytes(bytes))),
            mailbox_bytes: raw
                .mailbox_bytes
                .and_then(|bytes| validator.check("/mailboxBytes", allowance::bytes(bytes))),
            member_files_bytes: raw.member_files_bytes.check(
                &mut validator,
                "/memberFilesBytes",
                allowance::bytes,
            ),
            seats: raw.seats.check(&mut validator, "/seats", allowance::count),
            seats_enforced: raw.seats_enforced,
            apps: raw.apps.check(&mut validator, "/apps", allowance::count),
            apps_enforced: raw.apps_enforced,
            domains: raw
                .domains
                .check(&mut validator, "/domains", allowance::count),
            domains_enforced: raw.domains_enforced,
        };
        validator.finish(Some(patch))
    }
}

impl Patch {
    fn apply(&self, allowance: &mut Allowance) {
        allowance.files_bytes = self.files_bytes.unwrap_or(allowance.files_bytes);
        allowance.mailbox_bytes = self.mailbox_bytes.unwrap_or(allowance.mailbox_bytes);
        self.member_files_bytes
            .apply(&mut allowance.member_files_bytes);
        self.seats.apply(&mut allowance.seats);
        allowance.seats_enforced = self.seats_enforced.unwrap_or(allowance.seats_enforced);
        self.apps.apply(&mut allowance.apps);
        allowance.apps_enforced = self.apps_enforced.unwrap_or(allowance.apps_enforced);
        self.domains.apply(&mut allowance.domains);
        allowance.domains_enforced = self.domains_enforced.unwrap_or(allowance.domains_enforced);
    }
}

/// Lists the allowances of all plans, smallest plan first
#[utoipa::path(get, path = "/allowances", operation_id = "listAllowances", tag = "prices", responses((status = 200, body = PageOf<AllowanceView>)))]
async fn list(get: Get<PlatformReader>) -> ListResult<AllowanceView> {
    let allowances = get.app.db.allowances.list_all().await?;
    let views = allowances.into_values().map(AllowanceView::from);
    Ok(Json(PageOf::single(views.collect())))
}

/// Returns the allowance of a plan
#[utoipa::path(get, path = "/allowances/{plan}", operation_id = "getAllowance", tag = "prices", responses((status = 200, body = AllowanceView)))]
async fn show(get: Get<PlatformReader, PathParam<Plan>>) -> Result<ApiResponse, ApiError> {
    let allowance = get.app.db.allowances.of_plan(get.params.0).await?;
    Ok(allowance.response())
}

/// Updates the allowance of a plan
///
/// 202 if a quota changes: a job applies it to the tenants of the plan, a few each second, and to their members. Otherwise
/// 200.
#[utoipa::path(
    patch, path = "/allowances/{plan}", operation_id = "updateAllowance", tag = "prices", request_body = PatchRequest,
    responses((status = 202, body = AllowanceView), (status = 200, body = AllowanceView)),
)]
async fn update(w: Write<Operator, Patch, PathParam<Plan>>) -> Result<Response, ApiError> {
    let change = AllowanceChange {
        plan: w.params.0,
        patch: &w.body,
    };
    run_and_respond(&w.runner(), &change).await
}

struct AllowanceChange<'a> {
    plan: Plan,
    patch: &'a Patch,
}

impl Command for AllowanceChange<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let app = runner.app;
        let (allowances, now) = (&app.db.allowances, app.store.now());
        let stored = allowances.find_in_transaction(session, self.plan).await?;
        let is_stored = stored.is_some();
        let before = stored.unwrap_or_else(|| Allowance::default_of(self.plan, now));
        runner.if_match.check(before.etag())?;
        let mut after = before.clone();
        self.patch.apply(&mut after);
        if after == before {
            return Ok(CommandOutput::unchanged(before.response()));
        }
        if !is_stored {
            allowances.insert(session, &before).await?;
        }
        allowances
            .save_changed(session, &before, &mut after, now)
            .await?;
        let event = runner
            .event(now, Action::AllowanceUpdate, after.target(), None)
            .with_changes(&before.audited()?, &after.audited()?);
        let quotas = |allowance: &Allowance| {
            let Allowance {
                files_bytes,
                mailbox_bytes,
                member_files_bytes,
                ..
            } = *allowance;
            (files_bytes, mailbox_bytes, member_files_bytes)
        };
        if quotas(&before) == quotas(&after) {
            return Ok(CommandOutput::complete(after.response(), event));
        }
        let args = ApplyAllowance { plan: self.plan };
        let job = NewJob::new(&args, &runner.actor_id(), now)?;
        let job = runner.enqueue(session, job).await?;
        let response = accepted(after, &job);
        Ok(CommandOutput::complete(response, event).with_jobs(vec![job]))
    }
}

/// 202 with the job that applies the allowance.
fn accepted(allowance: Allowance, job: &Job) -> ApiResponse {
    let etag = allowance.etag();
    let link = JobLink::from(job);
    let location = link.href.clone();
    let view = AllowanceView {
        job: Some(link),
        ..AllowanceView::from(allowance)
    };
    ApiResponse::new(StatusCode::ACCEPTED, etag, &view).at(location)
}
