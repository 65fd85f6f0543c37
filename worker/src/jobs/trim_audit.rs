//! Audit retention: deletes expired events, trail by trail.
//!
//! The expired events of all trails are found by their time, so that the cost of a run follows from the number of its
//! deletions, however many trails there are. Each batch moves the anchor of its chain in the same transaction, so the
//! job is idempotent and survives crashes. A chain whose oldest events differ from their seal is kept: retention must
//! not remove the evidence of tampering.

use std::collections::BTreeMap;

use bson::DateTime;
use dezky_shared::{
    audit::hash_chain::Chain,
    id::TenantId,
    platform::clock,
    queue::job::Progress,
    store::{StoreError, audit::Trimmed},
    tenant::reason,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::Instant;

use crate::steps::{StepContext, StepFailure, StepSuccess, Steps};

/// Expired events listed at a time: the most that one transaction deletes.
const BATCH: i64 = 500;
/// Trails trimmed concurrently: most have few expired events, and a transaction of their own.
const CONCURRENCY: usize = 8;

pub(super) fn steps() -> Steps {
    Steps::parallel().step("chains", each_expired)
}

/// Result of trimming a trail.
struct TrimmedTrail {
    trail: Option<TenantId>,
    /// Number of deleted events.
    deleted: i64,
    /// Number of the first event that differs from its seal.
    broken_at: Option<i64>,
}

async fn each_expired(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let audit = &run.ctx.audit;
    let cutoff = clock::earlier(run.ctx.store.now(), run.ctx.audit_keep);
    let before = run.job.progress.as_ref();
    let mut deleted = before.map_or(0, |before| before.done);
    let mut broken = BTreeMap::new();
    let mut after = None;
    loop {
        let expired = audit.list_expired(cutoff, after, BATCH).await?;
        if expired.is_empty() {
            break;
        }
        after = expired.last().copied();
        let mut by_trail: BTreeMap<Option<TenantId>, i64> = BTreeMap::new();
        for event in expired {
            *by_trail.entry(event.tenant_id).or_default() += 1;
        }
        by_trail.retain(|trail, _| !broken.contains_key(trail));
        let mut trimmed = stream::iter(by_trail)
            .map(|(trail, expired)| trim(&run, trail, cutoff, expired))
            .buffer_unordered(CONCURRENCY);
        while let Some(one) = trimmed.try_next().await? {
            deleted += one.deleted;
            broken.extend(one.broken_at.map(|seq| (one.trail, seq)));
        }
        save_progress(&run, deleted).await?;
        if Instant::now() >= run.yield_after {
            return Ok(StepSuccess::continue_at(run.ctx.store.now()));
        }
    }
    let changes = (deleted > 0).then(|| format!("{deleted} audit events deleted"));
    let kept = broken.into_iter().map(|(trail, seq)| {
        let chain = Chain::id(trail);
        format!("audit trail {chain} kept: event {seq} differs from its seal")
    });
    let changes = changes.into_iter().chain(kept).collect();
    Ok(StepSuccess::ok(reason::NO_TENANT, changes))
}

/// Deletes the expired events of one trail, of which `expired` were listed.
async fn trim(
    run: &StepContext,
    trail: Option<TenantId>,
    cutoff: DateTime,
    expired: i64,
) -> Result<TrimmedTrail, StoreError> {
    let mut trimmed = TrimmedTrail {
        trail,
        deleted: 0,
        broken_at: None,
    };
    while trimmed.deleted < expired {
        let left = expired - trimmed.deleted;
        match run.ctx.audit.trim(trail, cutoff, left).await? {
            Trimmed::Events(events) => trimmed.deleted += i64::try_from(events).unwrap_or(0),
            Trimmed::Nothing => break,
            Trimmed::Broken(seq) => {
                tracing::error!(
                    audit.chain = Chain::id(trail),
                    audit.seq = seq,
                    "An audit event differs from its seal; its chain is kept"
                );
                trimmed.broken_at = Some(seq);
                break;
            }
        }
    }
    Ok(trimmed)
}

async fn save_progress(run: &StepContext, deleted: i64) -> Result<(), StepFailure> {
    let progress = Progress {
        done: deleted,
        total: deleted,
        note: "audit events deleted".to_owned(),
        cursor: None,
    };
    run.save_progress(&progress).await
}
