//! What can be done with a domain beside editing it. Each is a pure function of the domain as it is: it changes it
//! and says what that means for the others and which job carries it out, says that there is nothing to do, or refuses.

use std::time::Duration;

use axum::{extract::State, response::Response};
use bson::DateTime;
use dezky_shared::{
    audit::Action,
    domain::Domain,
    platform::{change_feed::DocumentChange, clock},
    queue::args::{RecheckDomain, RemoveDomain},
    store::{TransactionError, jobs::NewJob},
    tenant::Tenant,
};
use futures::{FutureExt as _, future::BoxFuture};
use http::StatusCode;
use mongodb::ClientSession;

use super::{DomainView, answer, answer_with, audited, lock, save, target};
use crate::{
    error::{ApiError, Problem, ProblemCode},
    extract::{
        ETag, EmptyBody, IfMatch, PathDomain, Prefer, QueryParams, RequestInfo, TenantAccess,
        ValidatedJson, Write,
    },
    intent::{Command, CommandError, CommandOutput, CommandRunner, reject},
    routes::{jobs::JobLink, tenants::new_job},
    state::SharedState,
};

/// How long after one person asked for a look at a domain the next one may.
const BETWEEN_LOOKS: Duration = Duration::from_secs(10);

/// A decision about a domain.
pub(super) struct Decision {
    pub(super) action: Action,
    pub(super) effect: Effect,
    pub(super) job: Option<NewJob>,
}

/// What a decision means for the documents.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// The domain was changed.
    Write,
    /// The domain was changed, and takes the place of the primary one.
    MakePrimary,
    /// The claim is forgotten.
    Forget,
}

/// What is decided about a domain of a tenant, by looking at both as they are now; nothing when all is as wanted.
pub(super) type Decide<'a> =
    dyn Fn(&mut Domain, &Tenant, DateTime) -> Result<Option<Decision>, ApiError> + Send + Sync + 'a;

fn decide_recheck(
    domain: &mut Domain,
    by: &str,
    now: DateTime,
) -> Result<Option<Decision>, ApiError> {
    if let Some(asked_at) = domain.recheck_asked_at {
        let wait = clock::until(now, clock::later(asked_at, BETWEEN_LOOKS)).min(BETWEEN_LOOKS);
        if !wait.is_zero() {
            let mut refused = ApiError::new(ProblemCode::RecheckTooSoon);
            refused.retry_after = u32::try_from(wait.as_millis().div_ceil(1000)).ok();
            return Err(refused);
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
        job: Some(new_job(&args, by, now)?),
    }))
}

/// What was never made in the mail server is forgotten at once; the rest is the job's, which looks whether anything
/// still uses it. Asking again makes it look again.
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
            effect: Effect::Forget,
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
        job: Some(new_job(&args, by, now)?),
    }))
}

/// Removes a domain
///
/// A claim is forgotten at once. A domain of the tenant's own is removed by the job, which ends as `discarded` with
/// `domain_in_use` while mailboxes or lists use it. The primary domain goes last.
#[utoipa::path(
    delete, path = "/tenants/{slug}/domains/{domain}", operation_id = "removeDomain", tag = "domains",
    params(("slug" = String, Path), ("domain" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header), ("Prefer" = Option<String>, Header)),
    responses((status = 202, body = DomainView), (status = 200, body = DomainView), (status = "default", response = Problem)),
)]
#[expect(clippy::too_many_arguments, reason = "each is an extractor")]
pub(super) async fn delete(
    access: TenantAccess<Write>,
    PathDomain(name): PathDomain,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    prefer: Prefer,
    submitted: ValidatedJson<EmptyBody>,
) -> Result<Response, ApiError> {
    let recorder = CommandRunner::new(&app, &access.caller, &request, submitted.key.as_ref());
    let by = recorder.actor_id();
    change(
        &recorder,
        &access.tenant,
        &name,
        &if_match,
        prefer,
        &|domain, tenant, now| decide_delete(domain, tenant, &by, now),
    )
    .await
}

/// Looks at a domain's DNS now
///
/// At most once in ten seconds for a domain; a look that waits already is the one that is answered.
#[utoipa::path(
    post, path = "/tenants/{slug}/domains/{domain}/recheck", operation_id = "recheckDomain", tag = "domains",
    params(("slug" = String, Path), ("domain" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header), ("Prefer" = Option<String>, Header)),
    responses((status = 202, body = DomainView), (status = 200, body = DomainView), (status = "default", response = Problem)),
)]
#[expect(clippy::too_many_arguments, reason = "each is an extractor")]
pub(super) async fn recheck(
    access: TenantAccess<Write>,
    PathDomain(name): PathDomain,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    prefer: Prefer,
    submitted: ValidatedJson<EmptyBody>,
) -> Result<Response, ApiError> {
    let recorder = CommandRunner::new(&app, &access.caller, &request, submitted.key.as_ref());
    let by = recorder.actor_id();
    change(
        &recorder,
        &access.tenant,
        &name,
        &if_match,
        prefer,
        &|domain, _, now| decide_recheck(domain, &by, now),
    )
    .await
}

/// Decides about a domain and records it, and waits for the outcome if the caller prefers.
pub(super) async fn change(
    recorder: &CommandRunner<'_>,
    tenant: &Tenant,
    name: &str,
    if_match: &IfMatch,
    prefer: Prefer,
    decide: &Decide<'_>,
) -> Result<Response, ApiError> {
    let deadline = prefer.deadline();
    let change = DomainChange {
        slug: &tenant.slug,
        name,
        if_match,
        decide,
    };
    let in_turn = recorder.serialized_on(&tenant.slug, Some(tenant)).await?;
    let outcome = in_turn.record(&change).await?;
    drop(in_turn);
    answer(recorder, tenant, name, outcome, deadline).await
}

/// A change to one domain.
struct DomainChange<'a> {
    slug: &'a str,
    name: &'a str,
    if_match: &'a IfMatch,
    decide: &'a Decide<'a>,
}

impl Command for DomainChange<'_> {
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
            let mut domain = domains
                .into_iter()
                .find(|domain| domain.name == self.name)
                .ok_or_else(|| reject(ProblemCode::NotFound))?;
            self.if_match.check(ETag::from(&domain)).map_err(reject)?;
            let audited_before = audited(&domain);
            let decision = (self.decide)(&mut domain, &tenant, now).map_err(reject)?;

            let Some(Decision {
                action,
                effect,
                job,
            }) = decision
            else {
                app.tenants.unlock(session, tenant.id).await?;
                return Ok(CommandOutput {
                    answer: answer_with(StatusCode::OK, domain, None).map_err(reject)?,
                    jobs: Vec::new(),
                    changed: Vec::new(),
                    events: Vec::new(),
                });
            };
            domain.revision += 1;
            domain.updated_at = now;
            if effect == Effect::MakePrimary {
                app.domains
                    .make_primary(session, &mut domain, &mut tenant, now)
                    .await?;
            }
            if effect == Effect::Forget {
                app.domains.remove(session, &domain, &mut tenant).await?;
            } else {
                app.domains.save(session, &domain).await?;
            }
            save(session, recorder, &before, &mut tenant).await?;

            let job = match job {
                None => None,
                Some(job) => {
                    let job = job.requested_by(
                        Some(recorder.request.id.clone()),
                        recorder.request.traceparent.clone(),
                    );
                    Some(app.jobs.enqueue(session, &job).await?)
                }
            };
            let mut event = recorder
                .event(now, action, target(&domain), Some(&tenant))
                .with_changes(&audited_before, &audited(&domain));
            event.job_id = job.as_ref().map(|job| job.id);
            let link = job.as_ref().map(JobLink::from);
            let status = if job.is_some() {
                StatusCode::ACCEPTED
            } else {
                StatusCode::OK
            };
            Ok(CommandOutput {
                answer: answer_with(status, domain, link).map_err(reject)?,
                jobs: job.into_iter().collect(),
                changed: vec![DocumentChange::Tenant(tenant.id)],
                events: vec![event],
            })
        }
        .boxed()
    }
}
