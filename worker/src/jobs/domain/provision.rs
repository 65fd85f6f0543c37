//! Provisioning of an owned domain on the mail server, and the DNS records that it requires.

use std::time::Duration;

use bson::DateTime;
use dezky_shared::{
    domain::{Domain, check::Record, reason as domain_reason},
    platform::clock,
    queue::{
        args::RecheckDomain,
        error_code::{ErrorClass, ErrorCode},
        job::{Job, Progress},
    },
    store::{StoreError, VersionedRepository as _},
    tenant::{ConditionStatus, DesiredState, Tenant, reason as tenant_reason},
    upstream::{MAIL_DOMAIN, Upstream},
};
use dezky_upstreams::clients::stalwart::{Stalwart, Zone};
use futures::FutureExt as _;
use mongodb::ClientSession;

use super::{
    claim_of, condition, desired, enqueue, expected_of, is_provisioned, reason,
    status::set_condition,
};
use crate::{
    jobs::tenant::tenant_of,
    steps::{StepContext, StepFailure, StepSuccess},
};

/// Approximate time in which the mail server generates a domain's DKIM keys.
const KEY_GENERATION: Duration = Duration::from_secs(1);
/// Time after which missing keys are not on their way any more: the server does not replace a destroyed key, and after a
/// crash it may not generate any for an hour.
const KEYS_OVERDUE: Duration = Duration::from_mins(1);
/// Time in which the server generates keys that were requested again.
const KEY_RECREATION: Duration = Duration::from_secs(2);
/// Attempts that miss the keys before they are requested once more. With their backoff, some minutes.
const ATTEMPTS_BETWEEN_REQUESTS: i32 = 8;

/// Ensures an owned domain on the mail server and stores the expected records in the claim.
pub(super) async fn converge(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let (tenant, desired_state) = tenant_of(&run)?;
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
    if desired_state == DesiredState::Gone {
        return Ok(StepSuccess::skipped(tenant_reason::REMOVED));
    }

    let client = client.with_deadline(&run.deadline);
    match ensure(&run, &client, tenant, &claim).await {
        Ok(ensured) if ensured.zone.has_all_keys => {
            save_expected(&run, &claim, ensured.records).await?;
            Ok(StepSuccess::ok(tenant_reason::PROVISIONED, ensured.changes))
        }
        Ok(ensured) => wait_for_keys(&run, &client, &claim, ensured).await,
        Err(failure) => {
            // The upstream failure determines the retry, even if the condition cannot be written.
            let code = failure.code;
            let status = match code {
                ErrorCode::UpstreamAnswerLost => ConditionStatus::Unknown,
                _ => ConditionStatus::False,
            };
            let state = Unprovisioned::new(status, code.reason(), code);
            if let Err(error) = save_unprovisioned(&run, &claim, state).await {
                tracing::warn!(%error, "Could not store why the domain is not provisioned");
            }
            Err(failure)
        }
    }
}

/// A domain that the mail server serves, possibly without its keys.
struct EnsuredDomain {
    id: String,
    zone: Zone,
    /// The expected records; without keys, those known so far.
    records: Vec<Record>,
    changes: Vec<String>,
}

async fn ensure(
    run: &StepContext,
    client: &Stalwart,
    tenant: &Tenant,
    claim: &Domain,
) -> Result<EnsuredDomain, StepFailure> {
    let id = claim.tenant_id.to_string();
    let owned = client.list_domains(&id, &tenant.mail_domains).await?;
    let desired = desired(tenant, &claim.name, Some(claim));
    let ensured = client
        .ensure_domain(&desired.as_ref(), &owned, run.mode)
        .await?;
    let missing = || StepFailure::new(ErrorCode::Internal, "a domain is not planned by a dry run");
    let domain = ensured.value.ok_or_else(missing)?;
    let zone = client.zone(&domain.id).await?;
    Ok(EnsuredDomain {
        id: domain.id,
        records: expected_of(run, claim, &zone.file),
        zone,
        changes: ensured.changes,
    })
}

/// Waits for the domain's DKIM keys, and requests them again once they are overdue. Meanwhile the claim shows the other
/// records.
async fn wait_for_keys(
    run: &StepContext,
    client: &Stalwart,
    claim: &Domain,
    ensured: EnsuredDomain,
) -> Result<StepSuccess, StepFailure> {
    let code = ErrorCode::UpstreamNotReady;
    let overdue = are_keys_overdue(run, claim);
    let mut state = if overdue {
        Unprovisioned {
            message: "The mail service has not generated the DKIM keys of this domain. We \
                      requested them again."
                .to_owned(),
            ..Unprovisioned::new(ConditionStatus::False, domain_reason::KEYS_MISSING, code)
        }
    } else {
        Unprovisioned::new(ConditionStatus::Unknown, code.reason(), code)
    };
    state.records = ensured.records;
    save_unprovisioned(run, claim, state).await?;

    let mut not_ready = StepFailure::new(code, "the domain's DKIM keys are not generated yet");
    not_ready.retry_after = Some(KEY_GENERATION);
    let step = run.job.step(MAIL_DOMAIN);
    let is_first = step.is_none_or(|step| step.progress.is_none());
    if !overdue || !is_first && step.is_some_and(|it| it.attempts < ATTEMPTS_BETWEEN_REQUESTS) {
        return Err(not_ready);
    }
    client.recreate_dkim(&ensured.id).await?;
    let mut changes = ensured.changes;
    changes.push("missing DKIM keys requested again".to_owned());
    let progress = Progress {
        done: 0,
        total: 1,
        note: "domain with requested DKIM keys".to_owned(),
        cursor: None,
    };
    Ok(StepSuccess::unfinished(
        clock::later(run.ctx.store.now(), KEY_RECREATION),
        progress,
        changes,
    ))
}

/// Whether the keys have been missing for too long. The condition says since when.
fn are_keys_overdue(run: &StepContext, claim: &Domain) -> bool {
    let now = run.ctx.store.now();
    let mut conditions = claim.conditions.iter();
    conditions.any(|it| {
        let is_waiting = it.reason == ErrorCode::UpstreamNotReady.reason()
            && clock::until(it.last_transition_at, now) >= KEYS_OVERDUE;
        it.kind == condition::PROVISIONED
            && (is_waiting || it.reason == domain_reason::KEYS_MISSING)
    })
}

/// Stores the expected records. A change restarts the initial check schedule.
async fn save_expected(
    run: &StepContext,
    claim: &Domain,
    expected: Vec<Record>,
) -> Result<(), StepFailure> {
    if is_provisioned(claim) && claim.expected == expected {
        return Ok(());
    }
    let job = run
        .fenced_transaction((run, claim, expected), |session, (run, claim, expected)| {
            write_expected(run, session, claim, expected, run.ctx.store.now()).boxed()
        })
        .await?;
    run.ctx.ready.notify(job.as_slice()).await;
    Ok(())
}

async fn write_expected(
    run: &StepContext,
    session: &mut ClientSession,
    claim: &Domain,
    expected: &[Record],
    now: DateTime,
) -> Result<Option<Job>, StoreError> {
    let ctx = &run.ctx;
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
        job = Some(enqueue(run, session, &recheck).await?);
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

/// Reason why a domain is not provisioned, as its condition shows it.
struct Unprovisioned {
    status: ConditionStatus,
    reason: &'static str,
    message: String,
    class: ErrorClass,
    /// The records known so far, for a claim without any.
    records: Vec<Record>,
}

impl Unprovisioned {
    fn new(status: ConditionStatus, reason: &'static str, code: ErrorCode) -> Self {
        Self {
            status,
            reason,
            message: code.customer_text(Some(Upstream::Stalwart)),
            class: code.class(),
            records: Vec::new(),
        }
    }
}

async fn save_unprovisioned(
    run: &StepContext,
    claim: &Domain,
    state: Unprovisioned,
) -> Result<(), StepFailure> {
    let is_known = claim.conditions.iter().any(|it| {
        it.kind == condition::PROVISIONED && it.status == state.status && it.reason == state.reason
    });
    let has_records = !claim.expected.is_empty() || state.records.is_empty();
    if is_known && has_records {
        return Ok(());
    }
    let id = claim.id;
    run.fenced_transaction((run, state), |session, (run, state)| {
        async move {
            let now = run.ctx.store.now();
            let domains = &run.ctx.domains;
            if let Some(mut domain) = domains.find_for_update(session, id).await? {
                if domain.expected.is_empty() {
                    domain.expected.clone_from(&state.records);
                }
                let kind = condition::PROVISIONED;
                set_condition(
                    &mut domain,
                    kind,
                    state.status,
                    state.reason,
                    &state.message,
                    now,
                );
                let mut conditions = domain.conditions.iter_mut();
                if let Some(condition) = conditions.find(|it| it.kind == kind) {
                    condition.class = Some(state.class);
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
