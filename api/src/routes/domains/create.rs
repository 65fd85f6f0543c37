//! Creation of a domain: a claim by a tenant, or a grant by an operator.

use axum::response::Response;
use dezky_shared::{
    audit::Action,
    domain::{DOMAINS_PER_TENANT, Dmarc, DmarcPolicy, Domain, OwnershipProof},
    id::TenantId,
    platform::change_feed::DocumentChange,
    queue::args::{ProvisionDomain, ProvisionTenant, RecheckDomain},
    store::{Versioned as _, VersionedRepository as _, jobs::NewJob},
};
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{DomainView, audited, load, ownership::lost, respond, run_and_wait, save, target};
use crate::{
    config::Config,
    error::{ApiError, FieldError, ProblemCode},
    extract::{ReadWrite, TenantAccess, Validate},
    routes::tenants::enqueue_all,
    validate::{self, Validator},
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

/// A new domain.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = DomainCreate)]
pub(super) struct AddRequest {
    /// Name, with A-labels or in Unicode.
    #[schema(min_length = 1, example = "example.com")]
    name: String,
    /// Desired DMARC policy.
    #[serde(default, deserialize_with = "validate::object")]
    dmarc: Option<DmarcRequest>,
    /// Whether it becomes the primary domain once the tenant owns it. The first owned domain always does.
    #[serde(default)]
    primary: bool,
}

/// The DMARC policy of a new domain.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DmarcCreate)]
struct DmarcRequest {
    /// `none` (default), `quarantine` or `reject`.
    #[schema(value_type = Option<DmarcPolicy>)]
    policy: Option<String>,
    /// E-mail address for aggregate reports.
    #[schema(max_length = 254)]
    rua: Option<String>,
}

/// A validated new domain.
#[derive(Debug)]
pub(super) struct NewDomain {
    name: String,
    dmarc: Option<Dmarc>,
    primary: bool,
}

impl Validate for NewDomain {
    type Raw = AddRequest;

    fn validate(raw: AddRequest, config: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let name = validator.check("/name", validate::domain(&config.domain_names, &raw.name));
        let dmarc = raw.dmarc.map(|dmarc| Dmarc {
            policy: dmarc
                .policy
                .and_then(|text| validator.check("/dmarc/policy", validate::dmarc_policy(&text)))
                .unwrap_or(DmarcPolicy::None),
            rua: dmarc
                .rua
                .and_then(|text| validator.check("/dmarc/rua", validate::report_address(&text))),
        });
        validator.finish(name.map(|name| Self {
            name,
            dmarc,
            primary: raw.primary,
        }))
    }
}

/// Adds a domain
///
/// The domain is a claim until its ownership record is found in the DNS. The first check runs after a minute and is
/// repeated; the records that mail requires are shown after it succeeds. A domain added by an operator is owned at
/// once. 409 `no_domains_left`: the plan of the tenant grants no further domain.
#[utoipa::path(
    post, path = "/tenants/{slug}/domains", operation_id = "addDomain", tag = "domains", request_body = AddRequest,
    responses((status = 202, body = DomainView), (status = 200, body = DomainView)),
)]
pub(super) async fn add(
    w: Write<TenantAccess<ReadWrite>, NewDomain>,
) -> Result<Response, ApiError> {
    let tenant = &w.access.tenant;
    let add = Add {
        tenant_id: tenant.id,
        new: &w.body,
        by_operator: w.access.caller.is_operator(),
    };
    run_and_wait(&w.runner(), tenant, &w.body.name, &add).await
}

struct Add<'a> {
    tenant_id: TenantId,
    new: &'a NewDomain,
    by_operator: bool,
}

impl Command for Add<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let app = runner.app;
        let now = app.store.now();
        let (mut tenant, domains) = load(session, runner, self.tenant_id).await?;
        let before = tenant.clone();
        let is_new = self.check(&domains)?;
        if is_new {
            let allowance = app.db.allowances.of_plan(tenant.plan).await?;
            if allowance.rejects_domain(domains.len() as u64) {
                return Err(ProblemCode::NoDomainsLeft.into());
            }
        }
        let owner = app.db.domains.find_owner(session, &self.new.name).await?;
        if owner.is_some() {
            return Err(ProblemCode::DomainTaken.into());
        }

        let claim = domains
            .into_iter()
            .find(|domain| domain.name == self.new.name);
        let audited_before = claim.as_ref().map(audited).unwrap_or_default();
        let mut domain = claim
            .unwrap_or_else(|| Domain::claim(tenant.id, &self.new.name, Dmarc::default(), now));
        if let Some(dmarc) = &self.new.dmarc {
            domain.dmarc = dmarc.clone();
        }
        domain.wants_primary |= self.new.primary;
        if !is_new {
            domain.generation += 1;
            domain.touch(now);
        }
        let by = runner.actor_id();
        let (tenant_id, domain_id) = (tenant.id, domain.id);
        let (mut new_jobs, mut lost_claims) = (Vec::new(), Vec::new());
        if self.by_operator {
            let proof = OwnershipProof::Operator;
            let granted = app
                .db
                .domains
                .grant(session, &mut domain, &mut tenant, proof, now);
            lost_claims = granted.await?;
            let provision = ProvisionDomain {
                tenant_id,
                domain_id,
            };
            new_jobs.push(NewJob::new(&provision, &by, now)?);
            // The mail condition of the tenant depends on this domain if it is the first.
            new_jobs.push(NewJob::new(&ProvisionTenant { tenant_id }, &by, now)?);
        } else {
            let recheck = RecheckDomain {
                tenant_id,
                domain_id,
            };
            let first_check = domain.next_check_at.unwrap_or(now);
            new_jobs.push(NewJob::new(&recheck, &by, now)?.run_at(first_check));
        }
        if is_new {
            app.db.domains.insert(session, &domain).await?;
        } else {
            app.db.domains.save(session, &domain).await?;
        }
        save(session, runner, &before, &mut tenant).await?;

        let jobs = enqueue_all(session, runner, new_jobs).await?;
        let event = runner
            .event(now, Action::DomainCreate, target(&domain), Some(&tenant))
            .with_changes(&audited_before, &audited(&domain));
        let response = respond(domain, jobs.first());
        Ok(CommandOutput::complete(response, event)
            .with_jobs(jobs)
            .with_changed(DocumentChange::Tenant(tenant.id))
            .with_events(lost(runner, &lost_claims, now)))
    }
}

impl Add<'_> {
    /// Whether the domain is new to the tenant. An operator may grant an existing claim.
    fn check(&self, domains: &[Domain]) -> Result<bool, Rollback> {
        match domains.iter().find(|domain| domain.name == self.new.name) {
            Some(claim) if claim.removing => Err(ProblemCode::DomainRemoving.into()),
            Some(claim) if claim.is_owned() || !self.by_operator => {
                Err(ProblemCode::DomainExists.into())
            }
            Some(_) => Ok(false),
            None if domains.len() >= DOMAINS_PER_TENANT => Err(ProblemCode::TooManyDomains.into()),
            None => Ok(true),
        }
    }
}
