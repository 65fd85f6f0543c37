//! Provisioning of an owned domain on the mail server, and the DNS records that it requires.

use std::time::Duration;

use bson::DateTime;
use dezky_shared::{
    domain::{Domain, check::Record},
    queue::{args::RecheckDomain, error_code::ErrorCode, job::Job},
    store::{StoreError, VersionedRepository as _},
    tenant::{ConditionStatus, DesiredState, reason as tenant_reason},
    upstream::Upstream,
};
use dezky_upstreams::clients::stalwart::Stalwart;
use futures::FutureExt as _;
use mongodb::ClientSession;

use super::{claim_of, condition, enqueue, expected_records, reason, status::set_condition};
use crate::{
    context::Context,
    jobs::tenant::tenant_of,
    steps::{StepContext, StepFailure, StepSuccess, UpstreamRefs},
};

/// Approximate time in which the mail server generates a domain's DKIM keys.
const KEY_GENERATION: Duration = Duration::from_secs(1);

/// Ensures an owned domain on the mail server and stores the expected records in the claim.
pub(super) async fn converge(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let (_, intent) = tenant_of(&run)?;
    let Some(client) = &run.ctx.clients.stalwart else {
        return Ok(StepSuccess::skipped(tenant_reason::INTEGRATION_DISABLED));
    };
    let Some(claim) = claim_of(&run).await? else {
        return Ok(StepSuccess::skipped(reason::CLAIM_GONE));
    };
    if !claim.is_owned() {
        // The mail server would deliver mail of other tenants for this domain locally.
        return Ok(StepSuccess::skipped(reason::NOT_OWNED));
    }
    if claim.removing {
        return Ok(StepSuccess::skipped(reason::REMOVING));
    }
    if intent == DesiredState::Gone {
        return Ok(StepSuccess::skipped(tenant_reason::REMOVED));
    }

    match ensure(&run, &client.with_deadline(&run.trust), &claim).await {
        Ok((expected, changes)) => {
            save_expected(&run, &claim, expected).await?;
            Ok(StepSuccess::ok(
                tenant_reason::PROVISIONED,
                changes,
                UpstreamRefs::default(),
            ))
        }
        Err(failure) => {
            // The upstream failure determines the retry, even if the condition cannot be written.
            if let Err(error) = save_failure(&run, &claim, &failure).await {
                tracing::warn!(%error, "Could not store why the domain is not provisioned");
            }
            Err(failure)
        }
    }
}

async fn ensure(
    run: &StepContext,
    client: &Stalwart,
    claim: &Domain,
) -> Result<(Vec<Record>, Vec<String>), StepFailure> {
    let tenant = claim.tenant_id.to_string();
    let ensured = client.ensure_domain(&claim.name, &tenant, run.mode).await?;
    let mut changes = ensured.changes;
    let Some(domain) = ensured.value else {
        return Ok((claim.expected.clone(), changes));
    };
    let rua = claim.dmarc.rua.as_deref();
    let reports = client
        .ensure_report_address(&domain.id, rua, run.mode)
        .await?;
    changes.extend(reports.changes);
    if !client.dkim_ready(&domain.id).await? {
        let mut not_ready = StepFailure::new(
            ErrorCode::UpstreamNotReady,
            "the domain's DKIM keys are not generated yet",
        );
        not_ready.retry_after = Some(KEY_GENERATION);
        return Err(not_ready);
    }
    let zone = client.zone_file(&domain.id).await?;
    let spf_include = run.ctx.clients.spf_include.as_deref();
    let expected = expected_records::records(&claim.name, &zone, &claim.dmarc, spf_include);
    Ok((expected, changes))
}

/// Stores the expected records. A change restarts the initial check schedule.
async fn save_expected(
    run: &StepContext,
    claim: &Domain,
    expected: Vec<Record>,
) -> Result<(), StepFailure> {
    let is_provisioned = claim
        .conditions
        .iter()
        .any(|it| it.kind == condition::PROVISIONED && it.status == ConditionStatus::True);
    if is_provisioned && claim.expected == expected {
        return Ok(());
    }
    let job = run
        .fenced_transaction((run, claim, expected), |session, (run, claim, expected)| {
            write_expected(&run.ctx, session, claim, expected, run.ctx.store.now()).boxed()
        })
        .await?;
    run.ctx.ready.notify(job.as_slice()).await;
    Ok(())
}

async fn write_expected(
    ctx: &Context,
    session: &mut ClientSession,
    claim: &Domain,
    expected: &[Record],
    now: DateTime,
) -> Result<Option<Job>, StoreError> {
    let Some(mut domain) = ctx.domains.find_for_update(session, claim.id).await? else {
        return Ok(None);
    };
    let mut job = None;
    if domain.expected != expected {
        domain.expected = expected.to_vec();
        domain.expected_since = now;
        domain.next_check_at = Some(now);
        let recheck = RecheckDomain {
            tenant_id: domain.tenant_id,
            domain_id: domain.id,
        };
        job = Some(enqueue(ctx, session, &recheck).await?);
    }
    set_condition(
        &mut domain,
        condition::PROVISIONED,
        ConditionStatus::True,
        tenant_reason::PROVISIONED,
        "The mail service accepts mail for this domain.",
        now,
    );
    domain.updated_at = now;
    ctx.domains.save(session, &domain).await?;
    Ok(job)
}

async fn save_failure(
    run: &StepContext,
    claim: &Domain,
    failure: &StepFailure,
) -> Result<(), StepFailure> {
    let (status, reason) = match failure.code {
        code @ (ErrorCode::UpstreamNotReady | ErrorCode::UpstreamAnswerLost) => {
            (ConditionStatus::Unknown, code.reason())
        }
        code => (ConditionStatus::False, code.reason()),
    };
    let known = claim
        .conditions
        .iter()
        .any(|it| it.kind == condition::PROVISIONED && it.status == status && it.reason == reason);
    if known {
        return Ok(());
    }
    let (id, class) = (claim.id, failure.code.class());
    let message = failure.code.customer_text(Some(Upstream::Stalwart));
    run.fenced_transaction((run, message), |session, (run, message)| {
        async move {
            let now = run.ctx.store.now();
            let domains = &run.ctx.domains;
            if let Some(mut domain) = domains.find_for_update(session, id).await? {
                let kind = condition::PROVISIONED;
                set_condition(&mut domain, kind, status, reason, message, now);
                let mut conditions = domain.conditions.iter_mut();
                if let Some(condition) = conditions.find(|it| it.kind == kind) {
                    condition.class = Some(class);
                }
                domain.updated_at = now;
                domains.save(session, &domain).await?;
            }
            Ok(())
        }
        .boxed()
    })
    .await
}
