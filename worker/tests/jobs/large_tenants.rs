//! Tenants whose work takes longer than an attempt: every attempt makes progress, and none is charged.

use std::time::Duration;

use dezky_shared::{
    queue::job::{Job, JobState, Progress},
    tenant::{ConditionStatus, Tenant, TenantStatus},
    upstream::Upstream,
};
use dezky_sim::faults::{Fault, FaultRule};

use crate::{harness::until, world::World};

/// Upstreams that need several attempts for the tenants of these tests, and a worker that drops its jobs when it stops.
async fn slow_world() -> World {
    World::start_with(|_, times| {
        times.attempt_timeout = Duration::from_secs(6);
        times.drain = Duration::ZERO;
    })
    .await
}

impl World {
    /// Adds a tenant with one domain, and this number of members and mailboxes; then slows the upstreams down.
    async fn large_tenant(&self, members: usize, mailboxes: usize) -> Tenant {
        let tenant = self.active_tenant("acme", &["acme.test"]).await;
        let group = self.upstreams.authentik.group_named("acme").unwrap();
        for number in 0..members {
            let name = format!("m{number}@acme.test");
            self.upstreams.authentik.add_user(&name, &[group.id]);
        }
        for number in 0..mailboxes {
            self.add_mailbox(&format!("m{number}@acme.test"));
        }
        let slow = FaultRule::every(Fault::SlowAnswer { millis: 8 });
        self.upstreams.authentik.server.faults.add(slow);
        self.upstreams
            .stalwart
            .take_time(Duration::from_millis(400));
        tenant
    }

    fn active_members(&self) -> usize {
        let users = self.upstreams.authentik.users();
        users.iter().filter(|user| user.is_active).count()
    }

    /// Waits until the step continues in another attempt, and returns its progress.
    async fn until_continued(&self, job: &Job, upstream: Upstream) -> Progress {
        let progress = |job: &Job| job.step(upstream.name())?.progress.clone();
        let job = self
            .harness
            .job_until(job.id, |job| progress(job).is_some());
        progress(&job.await).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_of_a_thousand_members_is_suspended_across_attempts_and_workers() {
    let mut world = slow_world().await;
    let tenant = world.large_tenant(1_000, 600).await;

    let job = world.suspend(tenant.id).await;
    let progress = world.until_continued(&job, Upstream::Authentik).await;
    let waiting = world.tenant(tenant.id).await;
    let frozen = 1_000 - world.active_members();
    until(async || 1_000 - world.active_members(), |now| *now > frozen).await;
    world.replace_worker().await;
    let job = world.completed(&job).await;

    assert!(progress.done > 0 && progress.done < progress.total);
    assert_eq!(
        (progress.total, &*progress.note),
        (1_000, "members suspended")
    );
    let condition = waiting.condition(Upstream::Authentik).unwrap();
    assert_eq!(condition.status, ConditionStatus::Unknown);
    assert_eq!(condition.reason, "InProgress");
    assert_eq!(world.active_members(), 0);
    let accounts = world.upstreams.stalwart.accounts();
    assert!(accounts.iter().all(|account| !account.can_sign_in));
    assert_eq!(
        (job.state, job.attempt),
        (JobState::Completed, 1),
        "no attempt is charged"
    );
    let effects = &world.upstreams.authentik.server.effects;
    assert_eq!(effects.count("freeze_user"), 1_000, "each once");
    assert!(job.steps.iter().all(|step| step.changes.len() <= 201));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_tenant_is_purged_across_attempts_and_workers() {
    let mut world = slow_world().await;
    let tenant = world.large_tenant(300, 350).await;

    let [_, purge] = world.delete(tenant.id, Duration::ZERO).await;
    until(
        async || world.upstreams.stalwart.accounts().len(),
        |left| (1..350).contains(left),
    )
    .await;
    world.replace_worker().await;
    world.completed(&purge).await;

    assert_eq!(
        world.tenant(tenant.id).await.status,
        TenantStatus::Terminated
    );
    assert_eq!(world.active_members(), 0);
    assert!(world.upstreams.authentik.groups().is_empty());
    assert!(world.upstreams.stalwart.domains().is_empty());
    assert!(world.upstreams.stalwart.accounts().is_empty());
    world.stop().await;
}
