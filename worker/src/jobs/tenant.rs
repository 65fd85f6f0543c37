//! Bringing the upstreams to what a tenant's document says: one step for each, side by side.

mod authentik;
mod ocis;
mod stalwart;

use dezky_shared::{
    clients::{ClientError, Mode},
    failure::{Disposition, ErrorCode},
    tenant::{Intent, Tenant, reason},
    upstream::Upstream,
};

use crate::work::{StepFailure, StepRun, Steps};

/// The steps of every kind of job about a tenant.
pub(super) fn steps() -> Steps {
    Steps::side_by_side()
        .upstream(Upstream::Authentik, authentik::converge)
        .upstream(Upstream::Stalwart, stalwart::converge)
        .upstream(Upstream::Ocis, ocis::converge)
}

/// The tenant that a step is about, and what the upstreams should hold for it.
pub(super) fn tenant_of(run: &StepRun) -> Result<(&Tenant, Intent), StepFailure> {
    let (tenant, intent) = run
        .tenant
        .as_ref()
        .ok_or_else(|| StepFailure::new(ErrorCode::Internal, "the job names no tenant"))?;
    Ok((tenant, *intent))
}

/// Where a tenant stands once an upstream holds what it should.
fn settled(intent: Intent) -> &'static str {
    match intent {
        Intent::Active => reason::PROVISIONED,
        Intent::Suspended => reason::SUSPENDED,
        Intent::Gone => reason::REMOVED,
    }
}

/// Whether a step changes anything.
fn applies(mode: Mode) -> bool {
    mode == Mode::Apply
}

/// What went wrong with one member, mailbox or domain of many, kept until the others have had their turn: nobody
/// stays signed in because somebody else could not be frozen.
#[derive(Default)]
struct Setbacks(Option<StepFailure>);

impl Setbacks {
    /// The value, or `None` where this one thing alone failed. What would fail for the next one too ends the step.
    fn note<T>(&mut self, result: Result<T, ClientError>) -> Result<Option<T>, StepFailure> {
        let failure = match result {
            Ok(value) => return Ok(Some(value)),
            Err(
                error @ (ClientError::Conflict(_)
                | ClientError::UserAction { .. }
                | ClientError::Rejected(_)
                | ClientError::Permission(_)),
            ) => StepFailure::from(error),
            Err(error) => return Err(error.into()),
        };
        let is_final = |failure: &StepFailure| failure.code.disposition() == Disposition::Final;
        // The step goes on while any of them may still succeed.
        if self
            .0
            .as_ref()
            .is_none_or(|kept| is_final(kept) && !is_final(&failure))
        {
            self.0 = Some(failure);
        }
        Ok(None)
    }

    /// Ends the step if there were any.
    fn end(self) -> Result<(), StepFailure> {
        self.0.map_or(Ok(()), Err)
    }
}
