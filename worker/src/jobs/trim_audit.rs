//! Deleting the audit events that need not be kept any more, chain by chain.
//!
//! Each batch moves its chain's anchor in the same transaction, so dying anywhere, or running twice, does no harm. A
//! chain whose first events are not what was sealed is left as it is: whoever changed them would otherwise only have to
//! wait.

use dezky_shared::{
    clock,
    id::TenantId,
    job::Progress,
    store::audit::Trimmed,
    tenant::reason,
};
use tokio::time::Instant;

use crate::work::{Facts, StepDone, StepFailure, StepRun, Steps};

/// How many chains are read at a time.
const CHAINS: i64 = 500;

pub(super) fn steps() -> Steps {
    Steps::side_by_side().step("chains", each_chain)
}

async fn each_chain(run: StepRun) -> Result<StepDone, StepFailure> {
    let before = run.job.progress.clone();
    let mut deleted = before.as_ref().map_or(0, |before| before.done);
    let mut after = before.and_then(|before| before.cursor).unwrap_or_default();
    loop {
        let chains = run.ctx.audit.list_chains(&after, CHAINS).await?;
        if chains.is_empty() {
            break;
        }
        for chain in chains {
            let Some(trimmed) = trim(&run, chain.tenant_id, &chain.id).await? else {
                report(&run, deleted, &after).await?;
                return Ok(StepDone::so_far(run.ctx.store.now()));
            };
            deleted += trimmed;
            after = chain.id;
        }
        report(&run, deleted, &after).await?;
    }
    let changes = (deleted > 0).then(|| format!("{deleted} audit events deleted"));
    let changes = changes.into_iter().collect();
    Ok(StepDone::ok(reason::NO_TENANT, changes, Facts::default()))
}

/// Deletes what need not be kept of one chain, and says how many that was; nothing when there is no more time.
async fn trim(
    run: &StepRun,
    trail: Option<TenantId>,
    chain: &str,
) -> Result<Option<i64>, StepFailure> {
    let cutoff = clock::earlier(run.ctx.store.now(), run.ctx.audit_keep);
    let mut deleted = 0;
    while Instant::now() < run.hand_back_at {
        match run.ctx.audit.trim(trail, cutoff).await? {
            Trimmed::Events(events) => deleted += i64::try_from(events).unwrap_or(0),
            Trimmed::Nothing => return Ok(Some(deleted)),
            Trimmed::Broken(seq) => {
                tracing::error!(
                    audit.chain = chain,
                    audit.seq = seq,
                    "An audit event is not what was sealed; its chain is kept as it is"
                );
                return Ok(Some(deleted));
            }
        }
    }
    Ok(None)
}

async fn report(run: &StepRun, deleted: i64, after: &str) -> Result<(), StepFailure> {
    let progress = Progress {
        done: deleted,
        total: deleted,
        note: "audit events deleted".to_owned(),
        cursor: Some(after.to_owned()),
    };
    run.report(&progress).await
}
