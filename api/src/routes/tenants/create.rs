//! A new tenant.

use axum::{extract::State, response::Response};
use bson::{DateTime, Document};
use dezky_shared::{
    audit::Action,
    billing::{BillingInfo, Plan},
    branding::TenantBranding,
    id::{PartnerId, TenantId},
    platform::change_feed::DocumentChange,
    queue::args::ProvisionTenant,
    security_policy::SecurityPolicy,
    store::{TransactionError, to_document},
    tenant::{Owner, PerUpstream, Tenant, TenantStatus},
    upstream::Upstream,
};
use futures::{FutureExt as _, future::BoxFuture};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{JobLink, TenantView, actions, answer, answer_with, audited, partner, target};
use crate::{
    error::{ApiError, FieldError, Problem},
    extract::{Operator, Prefer, QueryParams, RequestInfo, Validate, ValidatedJson},
    intent::{Command, CommandError, CommandOutput, CommandRunner, reject},
    routes::domains::lost,
    state::{AppState, SharedState},
    validate::{self, OwnerRequest, Validator},
};

/// The tenant that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::routes) struct CreateRequest {
    /// Its name in URLs: for ever, and never used again.
    #[schema(pattern = "^[a-z][a-z0-9-]{1,38}[a-z0-9]$", example = "acme")]
    pub(in crate::routes) slug: String,
    /// Its name for people.
    #[schema(min_length = 1, max_length = 120, example = "Acme A/S")]
    pub(in crate::routes) name: String,
    /// What it has bought: `starter` (unless said otherwise), `business` or `enterprise`.
    #[schema(pattern = "^(starter|business|enterprise)$")]
    pub(in crate::routes) plan: Option<String>,
    /// Its mail domains.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub(in crate::routes) domains: Vec<String>,
    /// The partner that looks after it.
    #[schema(format = Uuid)]
    pub(in crate::routes) partner_id: Option<String>,
    /// What its company does.
    #[schema(min_length = 1, max_length = 120)]
    pub(in crate::routes) industry: Option<String>,
    /// Its colour, `#rrggbb`.
    #[schema(pattern = "^#[0-9A-Fa-f]{6}$")]
    pub(in crate::routes) brand_color: Option<String>,
    /// The person it is for, who becomes its owner.
    #[serde(default, deserialize_with = "validate::object")]
    pub(in crate::routes) owner: Option<OwnerRequest>,
}

/// A tenant to be created.
#[derive(Debug)]
pub(in crate::routes) struct NewTenant {
    slug: String,
    name: String,
    /// The smallest where none was given.
    pub(in crate::routes) plan: Option<Plan>,
    domains: Vec<String>,
    pub(in crate::routes) partner_id: Option<PartnerId>,
    industry: Option<String>,
    brand_color: Option<String>,
    owner: Option<Owner>,
}

impl Validate for NewTenant {
    type Raw = CreateRequest;

    fn validate(wire: CreateRequest, app: &AppState) -> Result<Self, Vec<FieldError>> {
        let mut checks = Validator::default();
        let slug = checks.check("/slug", validate::slug(&wire.slug, &app.admin_groups));
        let name = checks.check("/name", validate::name(&wire.name));
        let plan = wire
            .plan
            .and_then(|plan| checks.check("/plan", validate::plan(&plan)));
        let domains = validate::domains(&mut checks, &app.domain_names, &wire.domains);
        let partner_id = wire
            .partner_id
            .and_then(|id| checks.check("/partnerId", validate::id(&id)));
        let industry = wire
            .industry
            .and_then(|text| checks.check("/industry", validate::name(&text)));
        let brand_color = wire
            .brand_color
            .and_then(|text| checks.check("/brandColor", validate::color(&text)));
        let owner = wire
            .owner
            .and_then(|owner| validate::owner(&mut checks, &owner));
        let whole = slug.zip(name).zip(domains);
        checks.finish(whole.map(|((slug, name), domains)| Self {
            slug,
            name,
            plan,
            domains,
            partner_id,
            industry,
            brand_color,
            owner,
        }))
    }
}

impl NewTenant {
    fn tenant(&self, id: TenantId, now: DateTime) -> Tenant {
        let plan = self.plan.unwrap_or(Plan::Starter);
        let mut tenant = pending(id, &self.slug, &self.name, plan, now);
        tenant.domains.clone_from(&self.domains);
        tenant.primary_domain = self.domains.first().cloned();
        tenant.partner_id = self.partner_id;
        tenant.industry.clone_from(&self.industry);
        tenant.brand_color.clone_from(&self.brand_color);
        tenant.owner.clone_from(&self.owner);
        tenant
    }
}

/// A tenant that is wanted, and of which nothing exists yet.
pub(crate) fn pending(id: TenantId, slug: &str, name: &str, plan: Plan, now: DateTime) -> Tenant {
    let mut tenant = Tenant {
        id,
        slug: slug.to_owned(),
        name: name.to_owned(),
        status: TenantStatus::Pending,
        status_before: None,
        purge_at: None,
        plan,
        domains: Vec::new(),
        primary_domain: None,
        former_domains: Vec::new(),
        partner_id: None,
        industry: None,
        brand_color: None,
        owner: None,
        authentik_group_id: None,
        ocis_space_id: None,
        stalwart_domain: None,
        stripe_customer_id: None,
        billing_info: BillingInfo::default(),
        branding: TenantBranding::default(),
        security_policy: SecurityPolicy::default(),
        generation: 1,
        provisioning_status: PerUpstream::default(),
        provisioning_errors: PerUpstream::default(),
        conditions: Vec::new(),
        unknown_until: PerUpstream::default(),
        revision: 1,
        created_at: now,
        updated_at: now,
    };
    tenant.set_pending(&Upstream::ALL, now);
    tenant
}

/// Creates a tenant
///
/// The job that is answered brings it into the upstreams.
#[utoipa::path(
    post, path = "/tenants", operation_id = "createTenant", tag = "tenants", request_body = CreateRequest,
    params(("Idempotency-Key" = Option<String>, Header), ("Prefer" = Option<String>, Header)),
    responses((status = 202, body = TenantView), (status = 200, body = TenantView), (status = "default", response = Problem)),
)]
pub(super) async fn create(
    Operator(caller): Operator,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    prefer: Prefer,
    submitted: ValidatedJson<NewTenant>,
) -> Result<Response, ApiError> {
    let recorder = CommandRunner::new(&app, &caller, &request, submitted.key.as_ref());
    create_tenant(&recorder, &submitted.body, prefer).await
}

/// Creates a tenant, and waits for the outcome if the caller prefers.
pub(in crate::routes) async fn create_tenant(
    recorder: &CommandRunner<'_>,
    new: &NewTenant,
    prefer: Prefer,
) -> Result<Response, ApiError> {
    let deadline = prefer.deadline();
    let id = TenantId::new();
    let in_turn = recorder.serialized_on(&new.slug, None).await?;
    let outcome = in_turn.record(&Create { id, new }).await?;
    drop(in_turn);
    answer(recorder, id, outcome, deadline).await
}

struct Create<'a> {
    id: TenantId,
    new: &'a NewTenant,
}

impl Command for Create<'_> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let app = recorder.app;
            let now = app.store.now();
            let mut tenant = self.new.tenant(self.id, now);
            partner::ensure_partner_active(recorder, session, &tenant).await?;
            app.tenants.insert(session, &tenant).await?;
            let mut taken = Vec::new();
            if !tenant.domains.is_empty() {
                let followed = app
                    .domains
                    .sync_from_tenant(session, &mut tenant, &[], now)
                    .await?;
                taken = followed.lost;
            }
            let args = ProvisionTenant { tenant_id: self.id };
            let job = actions::new_job(&args, &recorder.actor_id(), now)
                .map_err(reject)?
                .requested_by(
                    Some(recorder.request.id.clone()),
                    recorder.request.traceparent.clone(),
                );
            let job = app.jobs.enqueue_new(session, &job).await?;
            let mut event = recorder
                .event(now, Action::TenantCreate, target(&tenant), Some(&tenant))
                .with_changes(&Document::new(), &audited(to_document(&tenant)?));
            event.job_id = Some(job.id);
            let mut events = vec![event];
            events.extend(lost(recorder, &taken, now));
            Ok(CommandOutput {
                answer: answer_with(
                    recorder,
                    StatusCode::ACCEPTED,
                    &tenant,
                    Some(JobLink::from(&job)),
                )?,
                jobs: vec![job],
                changed: vec![DocumentChange::Tenant(tenant.id)],
                events,
            })
        }
        .boxed()
    }
}
