//! Look-up of MFA devices.
//!
//! The devices of each person are a request of their own: the list of all devices does not name the owners. People are
//! visited in the order of their ids, and an attempt that runs out of time leaves the rest to the next.

use bson::DateTime;
use dezky_shared::{
    id::{TenantId, UserId},
    mfa::{MfaCheck, MfaReport},
    queue::job::Progress,
    store::users::UserFilter,
    tenant::reason as tenant_reason,
    upstream::MFA_DEVICES,
    user::User,
};
use dezky_upstreams::clients::{ClientError, authentik::Authentik};
use futures::{FutureExt as _, StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    jobs::{
        partial_failure::{PartialFailures, StoredFailure},
        tenant::tenant_of,
    },
    steps::{StepContext, StepFailure, StepSuccess},
};

/// Result of the step, stored as the reason.
const LOOKED_UP: &str = "LookedUp";
/// People per batch.
const BATCH: i64 = 100;
/// People looked up at a time.
const CONCURRENCY: usize = 8;

/// Stores the devices of every person of the tenant, and then the tenant's totals.
pub(super) async fn each_person(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let (tenant, _) = tenant_of(&run)?;
    let Some(client) = &run.ctx.clients.authentik else {
        save_report(&run, tenant.id, run.ctx.store.now()).await?;
        return Ok(StepSuccess::skipped(tenant_reason::INTEGRATION_DISABLED));
    };
    let client = client.with_deadline(&run.deadline);
    let all_visible = client.sees_all_second_factors().await?;
    let (mut pass, mut failures) = Pass::resume(&run);
    loop {
        let filter = UserFilter {
            tenant_id: Some(tenant.id),
            after: pass.after,
            ..UserFilter::default()
        };
        let people = run.ctx.users.list(&filter, BATCH).await?;
        let Some(last) = people.last().map(|user| user.id) else {
            failures.finish_pass(pass.progress(None))?;
            save_report(&run, tenant.id, pass.began_at).await?;
            return Ok(StepSuccess::ok(LOOKED_UP, Vec::new()));
        };
        pass.done += i64::try_from(people.len()).unwrap_or(0);
        pass.after = Some(last);
        check_batch(&run, &client, people, all_visible, &mut failures).await?;
        if Instant::now() >= run.yield_after {
            let now = run.ctx.store.now();
            let progress = pass.progress(pass.cursor(&failures));
            return Ok(StepSuccess::unfinished(now, progress, Vec::new()));
        }
    }
}

/// Checks some people, and stores the results.
async fn check_batch(
    run: &StepContext,
    client: &Authentik,
    people: Vec<User>,
    all_visible: bool,
    failures: &mut PartialFailures,
) -> Result<(), StepFailure> {
    let results: Vec<(UserId, Result<MfaCheck, ClientError>)> = stream::iter(people)
        .map(async |user| {
            let now = run.ctx.store.now();
            (
                user.id,
                check_of_user(client, &user, all_visible, now).await,
            )
        })
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await;
    let mut checks = Vec::new();
    for (user, result) in results {
        let check = failures.capture(result)?;
        checks.extend(check.map(|check| (user, check)));
    }
    let found = (&run.ctx.users, checks);
    run.fenced_transaction(found, |session, (users, checks)| {
        users.set_mfa(session, checks).boxed()
    })
    .await
}

/// The devices of a person. That an account does not exist, or is not visible to ours, says nothing about its devices.
async fn check_of_user(
    client: &Authentik,
    user: &User,
    all_visible: bool,
    now: DateTime,
) -> Result<MfaCheck, ClientError> {
    match client.find_subject(&user.authentik_subject_id).await? {
        Some(account) => check_of(client, account.pk, all_visible, now).await,
        None => Ok(MfaCheck::of([], false, now)),
    }
}

/// The confirmed devices of an account. `all_visible` is the result of the
/// [positive control](Authentik::sees_all_second_factors).
pub(in crate::jobs) async fn check_of(
    client: &Authentik,
    account: i64,
    all_visible: bool,
    now: DateTime,
) -> Result<MfaCheck, ClientError> {
    let devices = client.list_mfa_devices(account).await?;
    let confirmed = devices.iter().filter(|device| device.confirmed);
    let types = confirmed.map(|device| device.kind);
    Ok(MfaCheck::of(types, all_visible, now))
}

/// Stores the totals of a complete look-up that began at `as_of`.
async fn save_report(
    run: &StepContext,
    tenant_id: TenantId,
    as_of: DateTime,
) -> Result<(), StepFailure> {
    let totals = run.ctx.users.count_mfa(tenant_id, as_of).await?;
    let report = MfaReport {
        tenant_id,
        as_of,
        totals,
    };
    let reports = &run.ctx.mfa_reports;
    run.fenced_transaction((reports, report), |session, (reports, report)| {
        reports.replace(session, report).boxed()
    })
    .await
}

/// One pass over the people of a tenant, over several attempts.
struct Pass {
    began_at: DateTime,
    after: Option<UserId>,
    done: i64,
}

/// The position of a pass, as stored in the progress.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Position {
    /// Start of the pass, in milliseconds.
    began_at: i64,
    after: UserId,
    /// The failure that was captured up to here: the totals of an incomplete look-up are not stored.
    failure: Option<StoredFailure>,
}

impl Pass {
    /// The pass that the attempt before left unfinished, or a new one, with the failure captured so far.
    fn resume(run: &StepContext) -> (Self, PartialFailures) {
        let step = run.job.step(MFA_DEVICES);
        let progress = step.and_then(|step| step.progress.as_ref());
        let resumed = progress.and_then(|progress| {
            let position: Position = serde_json::from_str(progress.cursor.as_ref()?).ok()?;
            let pass = Self {
                began_at: DateTime::from_millis(position.began_at),
                after: Some(position.after),
                done: progress.done,
            };
            Some((pass, PartialFailures::resume(position.failure)))
        });
        resumed.unwrap_or_else(|| {
            let pass = Self {
                began_at: run.ctx.store.now(),
                after: None,
                done: 0,
            };
            (pass, PartialFailures::default())
        })
    }

    fn cursor(&self, failures: &PartialFailures) -> Option<String> {
        let position = Position {
            began_at: self.began_at.timestamp_millis(),
            after: self.after?,
            failure: failures.stored(),
        };
        serde_json::to_string(&position).ok()
    }

    fn progress(&self, cursor: Option<String>) -> Progress {
        Progress {
            done: self.done,
            total: self.done,
            note: "people looked up".to_owned(),
            cursor,
        }
    }
}
