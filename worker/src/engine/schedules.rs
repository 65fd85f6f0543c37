//! Schedules: the leader looks which instants have come. The ledger sees to it that each is run once.

use dezky_shared::{queue::schedule::Schedule, store::StoreError};

use super::Engine;

impl Engine {
    /// Enqueues what is due of every schedule. Run by the leader; two that do it at the same time do no harm.
    ///
    /// A schedule that fails is looked at again the next time, and is in nobody's way: neither in that of the others
    /// nor in that of the leader's other duties.
    pub(crate) async fn run_due_schedules(&self) {
        for schedule in &self.schedules {
            if let Err(error) = self.run_due(schedule).await {
                tracing::warn!(schedule = schedule.name, %error, "Could not run a schedule; trying again");
            }
        }
    }

    async fn run_due(&self, schedule: &Schedule) -> Result<(), StoreError> {
        let now = self.ctx.store.now();
        let jobs = self.ctx.schedules.run_due(schedule, now).await?;
        for job in &jobs {
            tracing::info!(schedule = schedule.name, job.id = %job.id, "A schedule is due");
        }
        self.ctx.ready.notify(&jobs).await;
        Ok(())
    }
}
