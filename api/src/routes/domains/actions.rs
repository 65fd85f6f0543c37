//! Actions on a domain: recheck and delete.
//!
//! Each decision is a pure function of the current domain. It edits the domain and returns the effect and the job that
//! carries it out, returns `None` if there is nothing to do, or rejects the action.

use std::time::Duration;

use axum::response::Response;
use bson::DateTime;
use dezky_shared::{
    audit::Action,
    domain::Domain,
    id::TenantId,
    platform::{change_feed::DocumentChange, clock},
    queue::args::{RecheckDomain, RemoveDomain},
    store::{Versioned as _, VersionedRepository as _, jobs::NewJob},
    tenant::Tenant,
};
use mongodb::ClientSession;

use super::{DomainView, audited, load, respond, run_and_wait, save, target};
use crate::{
    error::{ApiError, ProblemCode},
    etag::ETag,
    extract::{EmptyBody, PathDomain, ReadWrite, TenantAccess},
    routes::tenants::enqueue_all,
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

/// Minimum interval between requested rechecks of a domain.
const RECHECK_INTERVAL: Duration = Duration::from_secs(10);

/// A decision about a domain.
pub(super) struct Decision {
    /// Action of the audit event.
    pub(super) action: Action,
    /// Effect on the documents.
    pub(super) effect: Effect,
    /// Job that carries the change out.
    pub(super) job: Option<NewJob>,
}

/// The effect of a decision on the documents.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Stores the domain.
    Write,
    /// Stores the domain and makes it the primary one.
    MakePrimary,
    /// Deletes the claim.
    DeleteClaim,
}

/// Edits a domain of a tenant on behalf of a user id and returns the decision; `None` if there is nothing to do.
pub(super) type Decide<'a> = dyn Fn(&mut Domain, &Tenant, &str, DateTime) -> Result<Option<Decision>, ApiError>
    + Send
    + Sync
    + 'a;

fn decide_recheck(
    domain: &mut Domain,
    _: &Tenant,
    by: &str,
    now: DateTime,
) -> Result<Option<Decision>, ApiError> {
    if let Some(asked_at) = domain.recheck_asked_at {
        let wait =
            clock::until(now, clock::later(asked_at, RECHECK_INTERVAL)).min(RECHECK_INTERVAL);
        if !wait.is_zero() {
            let mut rejection = ApiError::new(ProblemCode::RecheckTooSoon);
            rejection.retry_after = u32::try_from(wait.as_millis().div_ceil(1000)).ok();
            return Err(rejection);
        }
    }
    domain.recheck_asked_at = Some(now);
    let args = RecheckDomain {
        tenant_id: domain.tenant_id,
        domain_id: domain.id,
    };
    Ok(Some(Decision {
        action: Action::DomainRecheck,
        effect: Effect::Write,
        job: Some(NewJob::new(&args, by, now)?),
    }))
}

/// A claim is deleted at once. An owned domain is removed by a job, which checks that nothing uses it; a repeated
/// request repeats the check.
fn decide_delete(
    domain: &mut Domain,
    tenant: &Tenant,
    by: &str,
    now: DateTime,
) -> Result<Option<Decision>, ApiError> {
    let action = Action::DomainDelete;
    if !domain.is_owned() {
        return Ok(Some(Decision {
            action,
            effect: Effect::DeleteClaim,
            job: None,
        }));
    }
    if domain.primary && tenant.domains.len() > 1 {
        return Err(ProblemCode::DomainIsPrimary.into());
    }
    if !domain.removing {
        domain.removing = true;
        domain.generation += 1;
    }
    let args = RemoveDomain {
        tenant_id: domain.tenant_id,
        domain_id: domain.id,
    };
    Ok(Some(Decision {
        action,
        effect: Effect::Write,
        job: Some(NewJob::new(&args, by, now)?),
    }))
}

/// Removes a domain
///
/// A claim is deleted at once. 409 `domain_in_use` while members have addresses in the domain. An owned domain is removed by
/// the returned job, which ends as `discarded` with `domain_in_use` while other mailboxes or lists use the domain. The primary domain must be removed last.
#[utoipa::path(
    delete, path = "/tenants/{slug}/domains/{domain}", operation_id = "removeDomain", tag = "domains",
    responses((status = 202, body = DomainView), (status = 200, body = DomainView)),
)]
pub(super) async fn delete(
    w: Write<TenantAccess<ReadWrite>, EmptyBody, PathDomain>,
) -> Result<Response, ApiError> {
    change(&w, &decide_delete).await
}

/// Rechecks the DNS of a domain
///
/// You can recheck a domain once every 10 seconds. A recheck that is already queued is returned.
#[utoipa::path(
    post, path = "/tenants/{slug}/domains/{domain}/recheck", operation_id = "recheckDomain", tag = "domains",
    responses((status = 202, body = DomainView), (status = 200, body = DomainView)),
)]
pub(super) async fn recheck(
    w: Write<TenantAccess<ReadWrite>, EmptyBody, PathDomain>,
) -> Result<Response, ApiError> {
    change(&w, &decide_recheck).await
}

/// Changes a domain. With `Prefer: wait`, waits for the outcome.
pub(super) async fn change<B: Sync>(
    w: &Write<TenantAccess<ReadWrite>, B, PathDomain>,
    decide: &Decide<'_>,
) -> Result<Response, ApiError> {
    let (tenant, PathDomain(name)) = (&w.access.tenant, &w.params);
    let change = DomainChange {
        tenant_id: tenant.id,
        name,
        decide,
    };
    run_and_wait(&w.runner(), tenant, name, &change).await
}

/// A change to one domain.
struct DomainChange<'a> {
    tenant_id: TenantId,
    name: &'a str,
    decide: &'a Decide<'a>,
}

impl Command for DomainChange<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let app = runner.app;
        let now = app.store.now();
        let (mut tenant, domains) = load(session, runner, self.tenant_id).await?;
        let before = tenant.clone();
        let mut domain = domains
            .into_iter()
            .find(|domain| domain.name == self.name)
            .ok_or(ProblemCode::NotFound)?;
        runner.if_match.check(ETag::from(&domain))?;
        let audited_before = audited(&domain);
        let decision = (self.decide)(&mut domain, &tenant, &runner.actor_id(), now)?;
        let Some(decision) = decision else {
            return Ok(CommandOutput::unchanged(respond(domain, None)));
        };
        domain.touch(now);
        if decision.action == Action::DomainDelete && domain.removing {
            let members = &app.db.members;
            if members.find_in_domain(session, domain.id).await?.is_some() {
                return Err(ProblemCode::DomainInUse.into());
            }
        }
        if decision.effect == Effect::MakePrimary {
            app.db
                .domains
                .make_primary(session, &mut domain, &mut tenant, now)
                .await?;
        }
        if decision.effect == Effect::DeleteClaim {
            app.db.domains.remove(session, &domain, &mut tenant).await?;
        } else {
            app.db.domains.save(session, &domain).await?;
        }
        save(session, runner, &before, &mut tenant).await?;

        let jobs = enqueue_all(session, runner, decision.job.into_iter().collect()).await?;
        let event = runner
            .event(now, decision.action, target(&domain), Some(&tenant))
            .with_changes(&audited_before, &audited(&domain));
        let id = domain.id;
        let response = respond(domain, jobs.first());
        Ok(CommandOutput::complete(response, event)
            .with_jobs(jobs)
            .with_changed(DocumentChange::Tenant(tenant.id))
            .with_changed(DocumentChange::Domain(id)))
    }
}
