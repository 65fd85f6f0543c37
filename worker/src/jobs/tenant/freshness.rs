//! Freshness of a tenant at an upstream: the proof that nothing was created there for it yet.
//!
//! A fresh tenant's objects are created without a look-up: their names are unique, or, as of spaces, carry the id of a
//! tenant that the upstream has never met. A name that is taken is the sign to look, and to adopt or refuse.
//!
//! The proof was written before the first call. The tenant names the job that was inserted with it, in the same
//! transaction; the claim counts each attempt of that job before it runs; and the record of a call, by whichever job,
//! removes the name. What is left are calls without a record, of an attempt whose worker died or stopped: it is listed in
//! the job. A lost response is recorded as in doubt, or else its attempt is listed.

use dezky_shared::{tenant::Tenant, upstream::Upstream};

use crate::steps::StepContext;

/// Whether nothing was requested from the upstream for the tenant before this attempt.
pub(super) fn is_fresh(run: &StepContext, tenant: &Tenant, upstream: Upstream) -> bool {
    let job = &run.job;
    let step = job.step(upstream.name());
    *tenant.fresh_for.get(upstream) == Some(job.id)
        && job.has_recorded_every_attempt()
        // Recorded by a worker of an older build, which leaves the tenant's mark: a call of this job, or of any other one
        // that is in doubt.
        && step.is_none_or(|step| step.started_at.is_none())
        && tenant.unknown_until.get(upstream).is_none()
}
