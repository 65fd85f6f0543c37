//! Bringing the upstreams to what a tenant's document says: one step for each, side by side.

mod authentik;
mod ocis;
mod stalwart;

use dezky_shared::{
    queue::error_code::ErrorCode,
    tenant::{DesiredState, Tenant, reason},
    upstream::Upstream,
};
use dezky_upstreams::clients::Mode;

use crate::steps::{StepContext, StepFailure, Steps};

/// The steps of every kind of job about a tenant.
pub(super) fn steps() -> Steps {
    Steps::parallel()
        .upstream(Upstream::Authentik, authentik::converge)
        .upstream(Upstream::Stalwart, stalwart::converge)
        .upstream(Upstream::Ocis, ocis::converge)
}

/// The tenant that a step is about, and what the upstreams should hold for it.
pub(super) fn tenant_of(run: &StepContext) -> Result<(&Tenant, DesiredState), StepFailure> {
    let (tenant, intent) = run
        .tenant
        .as_ref()
        .ok_or_else(|| StepFailure::new(ErrorCode::Internal, "the job names no tenant"))?;
    Ok((tenant, *intent))
}

/// Where a tenant stands once an upstream holds what it should.
fn settled(intent: DesiredState) -> &'static str {
    match intent {
        DesiredState::Active => reason::PROVISIONED,
        DesiredState::Suspended => reason::SUSPENDED,
        DesiredState::Gone => reason::REMOVED,
    }
}

/// Whether a step changes anything.
fn applies(mode: Mode) -> bool {
    mode == Mode::Apply
}
