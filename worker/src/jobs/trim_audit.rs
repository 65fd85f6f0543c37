//! Deleting the audit events that need not be kept any more, chain by chain.
//!
//! Each batch moves its chain's anchor in the same transaction, so dying anywhere, or running twice, does no harm. A
//! chain whose first events are not what was sealed is left as it is: whoever changed them would otherwise only have to
//! wait.

use dezky_shared::{
    audit::hash_chain::Chain, platform::clock, queue::job::Progress, store::audit::Trimmed,
    tenant::reason,
};
use tokio::time::Instant;

use crate::steps::{StepContext, StepFailure, StepSuccess, Steps, UpstreamRefs};

/// How many chains are read at a time.
const CHAINS: i64 = 500;

pub(super) fn steps() -> Steps {
    Steps::parallel().step("chains", each_chain)
}

async fn each_chain(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let mut broken = Vec::new();
    let before = run.job.progress.clone();
    let mut deleted = before.as_ref().map_or(0, |before| before.done);
    let mut after = before.and_then(|before| before.cursor).unwrap_or_default();
    loop {
        let chains = run.ctx.audit.list_chains(&after, CHAINS).await?;
        if chains.is_empty() {
            break;
        }
        for chain in chains {
            if !trim(&run, &chain, &mut deleted, &mut broken).await? {
                report(&run, deleted, &after).await?;
                return Ok(StepSuccess::continue_at(run.ctx.store.now()));
            }
            after = chain.id;
        }
        report(&run, deleted, &after).await?;
    }
    let changes = (deleted > 0).then(|| format!("{deleted} audit events deleted"));
    let changes = changes.into_iter().chain(broken).collect();
    Ok(StepSuccess::ok(
        reason::NO_TENANT,
        changes,
        UpstreamRefs::default(),
    ))
}

/// Deletes what need not be kept of one chain, and counts it; false when there is no time for all of it.
async fn trim(
    run: &StepContext,
    chain: &Chain,
    deleted: &mut i64,
    broken: &mut Vec<String>,
) -> Result<bool, StepFailure> {
    let cutoff = clock::earlier(run.ctx.store.now(), run.ctx.audit_keep);
    while Instant::now() < run.yield_after {
        match run.ctx.audit.trim(chain.tenant_id, cutoff).await? {
            Trimmed::Events(events) => *deleted += i64::try_from(events).unwrap_or(0),
            Trimmed::Nothing => return Ok(true),
            Trimmed::Broken(seq) => {
                tracing::error!(
                    audit.chain = chain.id,
                    audit.seq = seq,
                    "An audit event is not what was sealed; its chain is kept as it is"
                );
                let chain = &chain.id;
                broken.push(format!(
                    "audit trail {chain} kept: event {seq} is not what was sealed"
                ));
                return Ok(true);
            }
        }
    }
    Ok(false)
}

async fn report(run: &StepContext, deleted: i64, after: &str) -> Result<(), StepFailure> {
    let progress = Progress {
        done: deleted,
        total: deleted,
        note: "audit events deleted".to_owned(),
        cursor: Some(after.to_owned()),
    };
    run.save_progress(&progress).await
}
