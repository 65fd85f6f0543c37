//! Audit retention: deletes expired events, chain by chain.
//!
//! Each batch moves the anchor of its chain in the same transaction, so the job is idempotent and survives crashes. A chain
//! whose oldest events differ from their seal is kept: retention must not remove the evidence of tampering.

use dezky_shared::{
    audit::hash_chain::Chain, platform::clock, queue::job::Progress, store::audit::Trimmed,
    tenant::reason,
};
use tokio::time::Instant;

use crate::steps::{StepContext, StepFailure, StepSuccess, Steps, UpstreamRefs};

/// Chains per batch.
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
                save_progress(&run, deleted, &after).await?;
                return Ok(StepSuccess::continue_at(run.ctx.store.now()));
            }
            after = chain.id;
        }
        save_progress(&run, deleted, &after).await?;
    }
    let changes = (deleted > 0).then(|| format!("{deleted} audit events deleted"));
    let changes = changes.into_iter().chain(broken).collect();
    Ok(StepSuccess::ok(
        reason::NO_TENANT,
        changes,
        UpstreamRefs::default(),
    ))
}

/// Deletes the expired events of one chain and adds their count; false if time ran out first.
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
                    "An audit event differs from its seal; its chain is kept"
                );
                let chain = &chain.id;
                broken.push(format!(
                    "audit trail {chain} kept: event {seq} differs from its seal"
                ));
                return Ok(true);
            }
        }
    }
    Ok(false)
}

async fn save_progress(run: &StepContext, deleted: i64, after: &str) -> Result<(), StepFailure> {
    let progress = Progress {
        done: deleted,
        total: deleted,
        note: "audit events deleted".to_owned(),
        cursor: Some(after.to_owned()),
    };
    run.save_progress(&progress).await
}
