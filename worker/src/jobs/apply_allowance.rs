//! Fan-out of a changed allowance to the tenants of its plan, by one reconcile each.
//!
//! A tenant's own job sets its quotas, so that they cannot conflict with another change of the tenant. It reads the
//! allowance when it runs.

use std::time::Duration;

use dezky_shared::{
    queue::args::{ApplyAllowance, ReconcileTenant},
    store::jobs::NewJob,
};
use futures::StreamExt as _;

use crate::{
    fan_out::{Child, FanOut},
    steps::{StepContext, StepFailure, StepSuccess, Steps},
};

/// Tenants per second: the upstreams serve other jobs meanwhile.
const RATE: u64 = 20;
/// Maximum period over which the jobs are spread.
const MAX_SPREAD: Duration = Duration::from_hours(4);

pub(super) fn steps() -> Steps {
    Steps::parallel().step("tenants", each_tenant)
}

async fn each_tenant(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let ApplyAllowance { plan } = run.args()?;
    let (store, tenants) = (&run.ctx.store, &run.ctx.tenants);
    let total = tenants.count_on_plan(plan).await?;
    let fan_out = FanOut {
        noun: "tenants",
        total,
        spread: Duration::from_secs(total / RATE).min(MAX_SPREAD),
    };
    let found = tenants.ids_on_plan(plan, FanOut::cursor(&run)).await?;
    let children = found.map(|tenant_id| {
        let tenant_id = tenant_id?;
        let reconcile = ReconcileTenant {
            tenant_id,
            dry_run: false,
        };
        Ok(Child {
            subject: tenant_id.to_string(),
            job: NewJob::new(&reconcile, &run.job.created_by, store.now())?,
        })
    });
    fan_out.run(&run, children).await
}
