//! Tenant convergence: one parallel step per upstream brings it to the desired state of the tenant's document.

mod authentik;
mod freshness;
mod members;
mod ocis;
mod read_only;
mod stalwart;
mod status;

use dezky_shared::{
    queue::error_code::ErrorCode,
    tenant::{DesiredState, Tenant, reason},
    upstream::Upstream,
};
use dezky_upstreams::clients::Mode;

pub(super) use self::read_only::ReadOnlySink;
pub use self::status::TenantTarget;
pub(super) use self::{
    authentik::may_sign_in_while_suspended,
    status::{TenantRefs, record_in_doubt},
};
use crate::steps::{StepContext, StepFailure, Steps};

/// Steps of all tenant kinds.
pub(super) fn steps() -> Steps {
    Steps::parallel()
        .upstream(Upstream::Authentik, authentik::converge)
        .upstream(Upstream::Stalwart, stalwart::converge)
        .upstream(Upstream::Ocis, ocis::converge)
}

/// The job's tenant and its desired state.
pub(super) fn tenant_of(run: &StepContext) -> Result<(&Tenant, DesiredState), StepFailure> {
    let target = run
        .tenant()
        .ok_or_else(|| StepFailure::new(ErrorCode::Internal, "the job names no tenant"))?;
    Ok((&target.tenant, target.desired_state))
}

/// Condition reason once an upstream has reached the desired state.
pub(super) fn converged_reason(desired_state: DesiredState) -> &'static str {
    match desired_state {
        DesiredState::Active => reason::PROVISIONED,
        DesiredState::Suspended => reason::SUSPENDED,
        DesiredState::Gone => reason::REMOVED,
    }
}

/// Whether the step writes, as opposed to a dry run.
fn applies(mode: Mode) -> bool {
    mode == Mode::Apply
}
