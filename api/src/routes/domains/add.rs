//! A domain that a tenant claims, or that an operator gives it.

use axum::{extract::State, response::Response};
use dezky_shared::{
    audit::Action,
    changes::Change,
    domain::{DOMAINS_PER_TENANT, Dmarc, DmarcPolicy, Domain, OwnedBy},
    jobs::{ProvisionDomain, ProvisionTenant, RecheckDomain},
    store::Abort,
};
use futures::{FutureExt as _, future::BoxFuture};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{DomainView, answer, answer_with, audited, lock, lost, save, target};
use crate::{
    error::{ApiError, Code, FieldError, Problem},
    extract::{Accept, Prefer, QueryParams, RequestInfo, Submitted, TenantAccess, Write},
    fields::{self, Checks},
    intent::{Intent, Recorded, Recorder, Stop, refuse},
    routes::{jobs::JobLink, tenants::job},
    state::{App, AppState},
};

/// The domain that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AddRequest {
    /// Its name, with A-labels or in Unicode.
    #[schema(min_length = 1, example = "example.com")]
    name: String,
    /// The DMARC policy that it should have.
    #[serde(default, deserialize_with = "fields::object")]
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

impl Accept for NewDomain {
    type Wire = AddRequest;

    fn accept(wire: AddRequest, app: &AppState) -> Result<Self, Vec<FieldError>> {
        let mut checks = Checks::default();
        let name = checks.check("/name", fields::domain(&app.domain_names, &wire.name));
        let dmarc = wire.dmarc.map(|dmarc| Dmarc {
            policy: dmarc
                .policy
                .and_then(|text| checks.check("/dmarc/policy", fields::dmarc_policy(&text)))
                .unwrap_or(DmarcPolicy::None),
            rua: dmarc
                .rua
                .and_then(|text| checks.check("/dmarc/rua", fields::report_address(&text))),
        });
        checks.done(name.map(|name| Self {
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
    State(app): State<App>,
    request: RequestInfo,
    prefer: Prefer,
    submitted: Submitted<NewDomain>,
) -> Result<Response, ApiError> {
    let deadline = prefer.deadline();
    let recorder = Recorder::new(&app, &access.caller, &request, submitted.key.as_ref());
    let tenant = &access.tenant;
    let add = Add {
        slug: &tenant.slug,
        new: &submitted.body,
        is_vouched_for: access.caller.is_operator(),
    };
    let in_turn = recorder.in_turn(&tenant.slug, Some(tenant)).await?;
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

impl Intent for Add<'_> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s Recorder<'_>,
    ) -> BoxFuture<'s, Result<Recorded, Abort<Stop>>> {
        async move {
            let app = recorder.app;
            let now = app.store.now();
            let (mut tenant, domains) = lock(session, recorder, self.slug).await?;
            let before = tenant.clone();
            let is_new = self.check(&domains)?;
            let owner = app.domains.find_owner(session, &self.new.name).await?;
            if owner.is_some() {
                return Err(refuse(Code::DomainTaken));
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
            let by = recorder.by();
            let mut wanted = Vec::new();
            let mut taken = Vec::new();
            if self.is_vouched_for {
                taken = app
                    .domains
                    .grant(session, &mut domain, &mut tenant, OwnedBy::Operator, now)
                    .await?;
                let (tenant_id, domain_id) = (tenant.id, domain.id);
                let provision = ProvisionDomain {
                    tenant_id,
                    domain_id,
                };
                wanted.push(job(&provision, &by, now).map_err(refuse)?);
                // The tenant says whether its mail works, which this domain may be the first to ask.
                let tenant = ProvisionTenant { tenant_id };
                wanted.push(job(&tenant, &by, now).map_err(refuse)?);
            } else {
                let args = RecheckDomain {
                    tenant_id: tenant.id,
                    domain_id: domain.id,
                };
                let first_look = domain.next_check_at.unwrap_or(now);
                let look = job(&args, &by, now).map_err(refuse)?;
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
            Ok(Recorded {
                answer: answer_with(StatusCode::ACCEPTED, domain, link).map_err(refuse)?,
                jobs,
                changed: vec![Change::Tenant(tenant.id)],
                events,
            })
        }
        .boxed()
    }
}

impl Add<'_> {
    /// Whether the tenant has no claim to the name yet. An operator may vouch for one that it has.
    fn check(&self, domains: &[Domain]) -> Result<bool, Abort<Stop>> {
        match domains.iter().find(|domain| domain.name == self.new.name) {
            Some(claim) if claim.removing => Err(refuse(Code::DomainRemoving)),
            Some(claim) if claim.is_owned() || !self.is_vouched_for => {
                Err(refuse(Code::DomainExists))
            }
            Some(_) => Ok(false),
            None if domains.len() >= DOMAINS_PER_TENANT => Err(refuse(Code::TooManyDomains)),
            None => Ok(true),
        }
    }
}
