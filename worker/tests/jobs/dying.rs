//! Death of a worker at one write to MongoDB, and the takeover of its job by another worker.

use std::time::Duration;

use bson::doc;
use dezky_shared::{id::JobId, platform::clock, queue::job::Job};
use dezky_sim::proxy::{Death, is_command, is_commit_after};
use dezky_worker::jobs;

use crate::{harness::until, world::World};

/// A write that kills its worker: the first update of this collection that contains all of these texts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FatalWrite {
    pub(crate) collection: &'static str,
    pub(crate) texts: &'static [&'static str],
}

impl World {
    /// Has a worker die at the commit of this write of `job`, and another one complete the job and those that follow it. No
    /// worker of the world may run jobs.
    pub(crate) async fn completed_after_death(&self, job: &Job, write: FatalWrite, death: Death) {
        let FatalWrite { collection, texts } = write;
        let proxy = self.harness.proxy().await;
        let parts = texts
            .iter()
            .map(|text| is_command("update", collection, text));
        let parts: Vec<_> = parts.collect();
        let begins = move |request: &[u8]| parts.iter().all(|has_part| has_part(request));
        proxy.die_at(death, is_commit_after(begins));
        let dying = self
            .harness
            .worker_through(&proxy, jobs::registry(), 1)
            .await;
        until(async || proxy.is_cut(), |is_cut| *is_cut).await;
        self.expire_lease(job.id).await;

        let next = self.harness.worker();
        self.completed(job).await;
        self.until_idle().await;

        next.stop().await;
        proxy.mend();
        dying.stop().await;
    }

    /// Lets the lease of a running job expire now, as if its holder had been silent for long.
    pub(crate) async fn expire_lease(&self, job: JobId) {
        let past = clock::earlier(self.harness.context.store.now(), Duration::from_mins(1));
        let expired = doc! { "lease.until": past };
        self.harness.edit_job(job, expired).await;
    }
}
