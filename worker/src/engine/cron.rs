//! Schedules: the leader looks which instants have come. The ledger sees to it that each is run once.

use dezky_shared::store::StoreError;

use super::Engine;

impl Engine {
    /// Enqueues what is due of every schedule. Run by the leader; two that do it at the same time do no harm.
    pub(crate) async fn run_due_schedules(&self) -> Result<(), StoreError> {
        for schedule in &self.schedules {
            let now = self.ctx.store.now();
            let jobs = self.ctx.schedules.run_due(schedule, now).await?;
            for job in &jobs {
                tracing::info!(schedule = schedule.name, job.id = %job.id, "A schedule is due");
            }
            self.ctx.ready.announce(&jobs).await;
        }
        Ok(())
    }
}
