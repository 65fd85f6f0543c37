//! The leader's duties beyond the queues themselves: periodic tasks that one worker does for all.

mod audit_outcomes;
mod audit_seal;
mod backlog_history;
mod backlog_metrics;
mod dependency_checks;
mod missing_permissions;
mod pause_expiry;
mod release_deferred;
mod schedules;
mod setup_checks;

use std::sync::Arc;

use self::{
    audit_outcomes::AuditOutcomes, audit_seal::AuditSeal, backlog_history::BacklogHistory,
    backlog_metrics::BacklogMetrics, dependency_checks::DependencyChecks,
    missing_permissions::MissingPermissions, pause_expiry::PauseExpiry,
    release_deferred::ReleaseDeferred, schedules::ScheduleRunner, setup_checks::SetupChecks,
};
use crate::{
    context::Context,
    engine::{Duty, EngineConfig},
    steps::Registry,
};

/// The list of duties.
pub(crate) fn all(
    ctx: &Arc<Context>,
    registry: &Registry,
    config: &EngineConfig,
) -> Vec<Box<dyn Duty>> {
    vec![
        Box::new(ReleaseDeferred::new(ctx, registry, config)),
        Box::new(ScheduleRunner::new(ctx, config)),
        Box::new(BacklogMetrics::new(ctx, &config.times)),
        Box::new(BacklogHistory::new(ctx, &config.times)),
        Box::new(MissingPermissions::new(ctx, registry, &config.times)),
        Box::new(PauseExpiry::new(ctx, &config.times)),
        Box::new(AuditOutcomes::new(ctx, &config.times)),
        Box::new(AuditSeal::new(ctx, &config.times)),
        Box::new(DependencyChecks::new(ctx, &config.times)),
        Box::new(SetupChecks::new(ctx, &config.times)),
    ]
}
