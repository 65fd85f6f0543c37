//! Fan-out of reconciliation to all tenants, one job each.
//!
//! Includes terminating tenants, so that a purge whose job was lost is still carried out.

use std::time::Duration;

use dezky_shared::{
    queue::args::{ReconcileTenant, ReconcileTenants},
    store::jobs::NewJob,
};
use futures::StreamExt as _;

use crate::{
    fan_out::{Child, FanOut},
    steps::{StepContext, StepFailure, StepSuccess, Steps},
};

pub(super) fn steps() -> Steps {
    Steps::parallel().step("tenants", each_tenant)
}

async fn each_tenant(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let args: ReconcileTenants = run.args()?;
    let (store, tenants) = (&run.ctx.store, &run.ctx.tenants);
    let fan_out = FanOut {
        noun: "tenants",
        total: tenants.estimated_count().await?,
        spread: Duration::from_secs(args.spread_seconds),
    };
    let found = tenants.ids_not_terminated(FanOut::cursor(&run)).await?;
    let children = found.map(|tenant_id| {
        let tenant_id = tenant_id?;
        let reconcile = ReconcileTenant {
            tenant_id,
            dry_run: args.dry_run,
        };
        Ok(Child {
            subject: tenant_id.to_string(),
            job: NewJob::new(&reconcile, &run.job.created_by, store.now())?,
        })
    });
    fan_out.run(&run, children).await
}
