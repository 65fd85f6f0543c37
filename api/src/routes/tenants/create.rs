//! Creation of a tenant.

use axum::response::Response;
use bson::{DateTime, Document};
use dezky_shared::{
    audit::{Action, AuditEvent},
    billing::{BillingInfo, Plan},
    branding::TenantBranding,
    id::{JobId, PartnerId, TenantId},
    platform::change_feed::DocumentChange,
    queue::{args::ProvisionTenant, job::Job},
    security_policy::SecurityPolicy,
    store::{StoreError, VersionedRepository as _, group_commit::Inserts, jobs::NewJob},
    tenant::{Owner, PerUpstream, Tenant, TenantStatus},
    upstream::Upstream,
    user::User,
};
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{TenantView, audited, partner, respond, run_and_wait, target};
use crate::{
    config::Config,
    error::{ApiError, FieldError, ProblemCode},
    extract::{TenantCreator, Validate},
    routes::domains::ownership::lost,
    user_audit,
    validate::{self, OwnerRequest, Validator},
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

/// A new tenant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = TenantCreate)]
pub(in crate::routes) struct CreateRequest {
    /// Name in URLs. It cannot be changed, and is never reused, even after deletion.
    #[schema(pattern = "^[a-z][a-z0-9-]{1,38}[a-z0-9]$", example = "acme")]
    pub(in crate::routes) slug: String,
    /// Display name.
    #[schema(min_length = 1, max_length = 120, example = "Acme A/S")]
    pub(in crate::routes) name: String,
    /// Plan: `starter` (default), `business` or `enterprise`.
    #[schema(value_type = Option<Plan>)]
    pub(in crate::routes) plan: Option<String>,
    /// Mail domains.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub(in crate::routes) domains: Vec<String>,
    /// Partner that manages the tenant.
    #[schema(format = Uuid)]
    pub(in crate::routes) partner_id: Option<String>,
    /// Industry of the company.
    #[schema(min_length = 1, max_length = 120)]
    pub(in crate::routes) industry: Option<String>,
    /// Brand color, `#rrggbb`.
    #[schema(pattern = "^#[0-9A-Fa-f]{6}$")]
    pub(in crate::routes) brand_color: Option<String>,
    /// First owner.
    #[serde(default, deserialize_with = "validate::object")]
    pub(in crate::routes) owner: Option<OwnerRequest>,
}

/// A validated new tenant.
#[derive(Debug, Clone)]
pub(in crate::routes) struct NewTenant {
    slug: String,
    name: String,
    /// `None` stands for `starter`.
    pub(in crate::routes) plan: Option<Plan>,
    domains: Vec<String>,
    pub(in crate::routes) partner_id: Option<PartnerId>,
    industry: Option<String>,
    brand_color: Option<String>,
    owner: Option<Owner>,
}

impl Validate for NewTenant {
    type Raw = CreateRequest;

    fn validate(raw: CreateRequest, config: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let slug = validator.check(
            "/slug",
            validate::slug(&raw.slug, &config.auth.admin_groups),
        );
        let name = validator.check("/name", validate::name(&raw.name));
        let plan = raw
            .plan
            .and_then(|plan| validator.check("/plan", validate::plan(&plan)));
        let domains = validate::domains(&mut validator, &config.domain_names, &raw.domains);
        let partner_id = raw
            .partner_id
            .and_then(|id| validator.check("/partnerId", validate::id(&id)));
        let industry = raw
            .industry
            .and_then(|text| validator.check("/industry", validate::name(&text)));
        let brand_color = raw
            .brand_color
            .and_then(|text| validator.check("/brandColor", validate::color(&text)));
        let owner = raw
            .owner
            .and_then(|owner| validate::owner(&mut validator, &owner));
        let whole = slug.zip(name).zip(domains);
        validator.finish(whole.map(|((slug, name), domains)| Self {
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
    /// Rejects fields that only operators decide: domains of a new tenant count as proved, and a plan has a price.
    fn ensure_self_service(&self) -> Result<(), ApiError> {
        let reserved = [
            ("/plan", self.plan.is_some()),
            ("/domains", !self.domains.is_empty()),
            ("/partnerId", self.partner_id.is_some()),
            ("/owner", self.owner.is_some()),
        ];
        let errors: Vec<FieldError> = reserved
            .into_iter()
            .filter(|(_, is_given)| *is_given)
            .map(|(pointer, _)| {
                FieldError::at(pointer, "operators_only", "Only operators set this field.")
            })
            .collect();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(ApiError::invalid(errors))
        }
    }

    fn tenant(&self, id: TenantId, first_job: JobId, now: DateTime) -> Tenant {
        let plan = self.plan.unwrap_or(Plan::Starter);
        let mut tenant = pending(id, &self.slug, &self.name, plan, first_job, now);
        tenant.domains.clone_from(&self.domains);
        tenant.primary_domain = self.domains.first().cloned();
        tenant.partner_id = self.partner_id;
        tenant.industry.clone_from(&self.industry);
        tenant.brand_color.clone_from(&self.brand_color);
        tenant.owner.clone_from(&self.owner);
        tenant.index_words();
        tenant
    }
}

/// A new tenant that no upstream has been provisioned for. Its first job is inserted in the same transaction.
pub(crate) fn pending(
    id: TenantId,
    slug: &str,
    name: &str,
    plan: Plan,
    first_job: JobId,
    now: DateTime,
) -> Tenant {
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
        // Workers of older builds do not know the first job, and have to search.
        ocis_space_absent: false,
        fresh_for: PerUpstream::all(Some(first_job)),
        stalwart_domain: None,
        mail_domains: Vec::new(),
        stripe_customer_id: None,
        billing_info: BillingInfo::default(),
        branding: TenantBranding::default(),
        security_policy: SecurityPolicy::default(),
        generation: 1,
        provisioning_status: PerUpstream::default(),
        provisioning_errors: PerUpstream::default(),
        conditions: Vec::new(),
        unknown_until: PerUpstream::default(),
        words: Vec::new(),
        revision: 1,
        created_at: now,
        updated_at: now,
    };
    tenant.set_pending(&Upstream::ALL, now);
    tenant.index_words();
    tenant
}

/// Creates a tenant
///
/// The returned job provisions it in the upstreams. For operators. Where self-service is enabled, a person without a tenant
/// may create one and becomes its owner; `plan`, `domains`, `partnerId` and `owner` are reserved to operators.
#[utoipa::path(
    post, path = "/tenants", operation_id = "createTenant", tag = "tenants", request_body = CreateRequest,
    responses((status = 202, body = TenantView), (status = 200, body = TenantView)),
)]
pub(super) async fn create(w: Write<TenantCreator, NewTenant>) -> Result<Response, ApiError> {
    let caller = &w.access.0;
    if caller.is_operator() {
        return create_tenant(&w.runner(), &w.body).await;
    }
    let mut new = w.body.clone();
    new.ensure_self_service()?;
    new.owner = Some(Owner {
        email: caller.user.email.clone(),
        name: caller.user.name.clone(),
        subject: None,
    });
    let id = TenantId::new();
    let create = Create {
        id,
        new: &new,
        is_self_service: true,
    };
    run_and_wait(&w.runner(), &new.slug, None, id, &create).await
}

/// Creates a tenant. With `Prefer: wait`, waits for the outcome.
pub(in crate::routes) async fn create_tenant(
    runner: &CommandRunner<'_>,
    new: &NewTenant,
) -> Result<Response, ApiError> {
    let id = TenantId::new();
    let create = Create {
        id,
        new,
        is_self_service: false,
    };
    run_and_wait(runner, &new.slug, None, id, &create).await
}

struct Create<'a> {
    id: TenantId,
    new: &'a NewTenant,
    /// Whether the caller becomes the owner.
    is_self_service: bool,
}

impl Command for Create<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let app = runner.app;
        let now = app.store.now();
        let job = self.provision(runner, now)?;
        let mut tenant = self.new.tenant(self.id, job.job().id, now);
        partner::ensure_partner_active(runner, session, &tenant).await?;
        app.db.tenants.insert(session, &tenant).await?;
        let mut lost_claims = Vec::new();
        if !tenant.domains.is_empty() {
            let domains = &app.db.domains;
            let synced = domains.sync_from_tenant(session, &mut tenant, &[], now);
            lost_claims = synced.await?.lost;
        }
        let mut events = lost(runner, &lost_claims, now);
        if self.is_self_service {
            events.push(self.grant_ownership(session, runner, &tenant, now).await?);
        }
        let job = runner.enqueue_new(session, job).await?;
        let output = Self::output(runner, &tenant, job, now)?;
        Ok(output.with_events(events))
    }

    fn insert_in_group(
        &self,
        inserts: &mut Inserts,
        runner: &CommandRunner<'_>,
    ) -> Result<Option<CommandOutput>, StoreError> {
        if !self.is_independent() {
            return Ok(None);
        }
        let app = runner.app;
        let now = app.store.now();
        let job = self.provision(runner, now)?;
        let tenant = self.new.tenant(self.id, job.job().id, now);
        app.db.tenants.insert_in_group(inserts, &tenant)?;
        let job = runner.enqueue_in_group(inserts, job)?;
        Self::output(runner, &tenant, job, now).map(Some)
    }
}

impl Create<'_> {
    /// Whether the tenant depends on no other document: neither on a partner, nor on claims to its domains, nor on its
    /// caller's account.
    fn is_independent(&self) -> bool {
        let new = self.new;
        !self.is_self_service && new.partner_id.is_none() && new.domains.is_empty()
    }

    /// The job that provisions the tenant.
    fn provision(&self, runner: &CommandRunner<'_>, now: DateTime) -> Result<NewJob, StoreError> {
        let args = ProvisionTenant { tenant_id: self.id };
        NewJob::new(&args, &runner.actor_id(), now)
    }

    fn output(
        runner: &CommandRunner<'_>,
        tenant: &Tenant,
        job: Job,
        now: DateTime,
    ) -> Result<CommandOutput, StoreError> {
        let event = runner
            .event(now, Action::TenantCreate, target(tenant), Some(tenant))
            .with_changes(&Document::new(), &audited(tenant)?);
        let response = respond(runner.caller, tenant, Some(&job));
        Ok(CommandOutput::complete(response, event)
            .with_jobs(vec![job])
            .with_changed(DocumentChange::Tenant(tenant.id))
            .with_changed(DocumentChange::User(runner.caller.user.id)))
    }

    /// Makes the caller the owner. Rejected if the caller has a tenant: their document is locked, so that of two requests at
    /// a time one is rejected.
    async fn grant_ownership(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
        tenant: &Tenant,
        now: DateTime,
    ) -> Result<AuditEvent, Rollback> {
        let users = &runner.app.db.users;
        let user = &runner.caller.user;
        let subject = &user.authentik_subject_id;
        let before = users.find_by_subject_for_update(session, subject).await?;
        let before = before.ok_or(ProblemCode::Forbidden)?;
        if !before.tenant_ids().is_empty() {
            return Err(ProblemCode::HasTenant.into());
        }
        users
            .grant_ownership(session, subject, &user.email, &user.name, tenant.id, now)
            .await?;
        let after = users.find_in_transaction(session, before.id).await?;
        let after = after.ok_or(ProblemCode::Forbidden)?;
        let audited = |user: &User| user_audit::audited_in(tenant, user);
        let event = runner.event(
            now,
            Action::UserUpdate,
            user_audit::target(&after),
            Some(tenant),
        );
        Ok(event.with_changes(&audited(&before), &audited(&after)))
    }
}
