//! A domain that a tenant claims, or that an operator gives it.

use axum::{extract::State, response::Response};
use dezky_shared::{
    audit::Action,
    domain::{DOMAINS_PER_TENANT, Dmarc, DmarcPolicy, Domain, OwnershipProof},
    platform::change_feed::DocumentChange,
    queue::args::{ProvisionDomain, ProvisionTenant, RecheckDomain},
    store::TransactionError,
};
use futures::{FutureExt as _, future::BoxFuture};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{DomainView, answer, answer_with, audited, lock, lost, save, target};
use crate::{
    error::{ApiError, FieldError, Problem, ProblemCode},
    extract::{Prefer, QueryParams, RequestInfo, TenantAccess, Validate, ValidatedJson, Write},
    intent::{Command, CommandError, CommandOutput, CommandRunner, reject},
    routes::{jobs::JobLink, tenants::new_job},
    state::{AppState, SharedState},
    validate::{self, Validator},
};

/// The domain that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AddRequest {
    /// Its name, with A-labels or in Unicode.
    #[schema(min_length = 1, example = "example.com")]
    name: String,
    /// The DMARC policy that it should have.
    #[serde(default, deserialize_with = "validate::object")]
    dmarc: Option<DmarcRequest>,
    /// Whether it becomes the tenant's primary domain as soon as it is the tenant's. The first one does anyway.
    #[serde(default)]
    primary: bool,
}

/// The DMARC policy of a new domain.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DmarcRequest {
    /// `none` (unless said otherwise), `quarantine` or `reject`.
    #[schema(pattern = "^(none|quarantine|reject)$")]
    policy: Option<String>,
    /// Where aggregate reports go: an e-mail address.
    #[schema(max_length = 254)]
    rua: Option<String>,
}

/// A domain to be added.
#[derive(Debug)]
pub(super) struct NewDomain {
    name: String,
    dmarc: Option<Dmarc>,
    primary: bool,
}

impl Validate for NewDomain {
    type Raw = AddRequest;

    fn validate(wire: AddRequest, app: &AppState) -> Result<Self, Vec<FieldError>> {
        let mut checks = Validator::default();
        let name = checks.check("/name", validate::domain(&app.domain_names, &wire.name));
        let dmarc = wire.dmarc.map(|dmarc| Dmarc {
            policy: dmarc
                .policy
                .and_then(|text| checks.check("/dmarc/policy", validate::dmarc_policy(&text)))
                .unwrap_or(DmarcPolicy::None),
            rua: dmarc
                .rua
                .and_then(|text| checks.check("/dmarc/rua", validate::report_address(&text))),
        });
        checks.finish(name.map(|name| Self {
            name,
            dmarc,
            primary: wire.primary,
        }))
    }
}

/// Adds a domain
///
/// It is a claim until its ownership record is found in the DNS, for which we look a minute later and then again and
/// again; the records that mail needs are shown after that. What an operator adds is the tenant's at once.
#[utoipa::path(
    post, path = "/tenants/{slug}/domains", operation_id = "addDomain", tag = "domains", request_body = AddRequest,
    params(("slug" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("Prefer" = Option<String>, Header)),
    responses((status = 202, body = DomainView), (status = 200, body = DomainView), (status = "default", response = Problem)),
)]
pub(super) async fn add(
    access: TenantAccess<Write>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    prefer: Prefer,
    submitted: ValidatedJson<NewDomain>,
) -> Result<Response, ApiError> {
    let deadline = prefer.deadline();
    let recorder = CommandRunner::new(&app, &access.caller, &request, submitted.key.as_ref());
    let tenant = &access.tenant;
    let add = Add {
        slug: &tenant.slug,
        new: &submitted.body,
        is_vouched_for: access.caller.is_operator(),
    };
    let in_turn = recorder.serialized_on(&tenant.slug, Some(tenant)).await?;
    let outcome = in_turn.record(&add).await?;
    drop(in_turn);
    let name = &submitted.body.name;
    answer(&recorder, &access.tenant, name, outcome, deadline).await
}

struct Add<'a> {
    slug: &'a str,
    new: &'a NewDomain,
    is_vouched_for: bool,
}

impl Command for Add<'_> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let app = recorder.app;
            let now = app.store.now();
            let (mut tenant, domains) = lock(session, recorder, self.slug).await?;
            let before = tenant.clone();
            let is_new = self.check(&domains)?;
            let owner = app.domains.find_owner(session, &self.new.name).await?;
            if owner.is_some() {
                return Err(reject(ProblemCode::DomainTaken));
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
                domain.revision += 1;
            }
            let by = recorder.actor_id();
            let mut wanted = Vec::new();
            let mut taken = Vec::new();
            if self.is_vouched_for {
                taken = app
                    .domains
                    .grant(
                        session,
                        &mut domain,
                        &mut tenant,
                        OwnershipProof::Operator,
                        now,
                    )
                    .await?;
                let (tenant_id, domain_id) = (tenant.id, domain.id);
                let provision = ProvisionDomain {
                    tenant_id,
                    domain_id,
                };
                wanted.push(new_job(&provision, &by, now).map_err(reject)?);
                // The tenant says whether its mail works, which this domain may be the first to ask.
                let tenant = ProvisionTenant { tenant_id };
                wanted.push(new_job(&tenant, &by, now).map_err(reject)?);
            } else {
                let args = RecheckDomain {
                    tenant_id: tenant.id,
                    domain_id: domain.id,
                };
                let first_look = domain.next_check_at.unwrap_or(now);
                let look = new_job(&args, &by, now).map_err(reject)?;
                wanted.push(look.run_at(first_look));
            }
            if is_new {
                app.domains.insert(session, &domain).await?;
            } else {
                app.domains.save(session, &domain).await?;
            }
            save(session, recorder, &before, &mut tenant).await?;

            let mut jobs = Vec::new();
            for job in wanted {
                let job = job.requested_by(
                    Some(recorder.request.id.clone()),
                    recorder.request.traceparent.clone(),
                );
                jobs.push(app.jobs.enqueue(session, &job).await?);
            }
            let mut event = recorder
                .event(now, Action::DomainCreate, target(&domain), Some(&tenant))
                .with_changes(&audited_before, &audited(&domain));
            event.job_id = jobs.first().map(|job| job.id);
            let mut events = vec![event];
            events.extend(lost(recorder, &taken, now));
            let link = jobs.first().map(JobLink::from);
            Ok(CommandOutput {
                answer: answer_with(StatusCode::ACCEPTED, domain, link).map_err(reject)?,
                jobs,
                changed: vec![DocumentChange::Tenant(tenant.id)],
                events,
            })
        }
        .boxed()
    }
}

impl Add<'_> {
    /// Whether the tenant has no claim to the name yet. An operator may vouch for one that it has.
    fn check(&self, domains: &[Domain]) -> Result<bool, TransactionError<CommandError>> {
        match domains.iter().find(|domain| domain.name == self.new.name) {
            Some(claim) if claim.removing => Err(reject(ProblemCode::DomainRemoving)),
            Some(claim) if claim.is_owned() || !self.is_vouched_for => {
                Err(reject(ProblemCode::DomainExists))
            }
            Some(_) => Ok(false),
            None if domains.len() >= DOMAINS_PER_TENANT => Err(reject(ProblemCode::TooManyDomains)),
            None => Ok(true),
        }
    }
}
