//! Tenants whose work takes longer than an attempt: every attempt makes progress, and none is charged.

use std::time::Duration;

use dezky_shared::{
    member::{AccountOrigin, FilesAccount, Member, MemberStatus},
    queue::job::{Job, JobState, Progress, StepState},
    tenant::{ConditionStatus, PerUpstream, ProvisioningState, Tenant, TenantStatus},
    upstream::Upstream,
    user::Role,
};
use dezky_sim::{
    authentik::User,
    faults::{Fault, FaultRule},
    ocis::Role as SpaceRole,
};

use crate::{harness::until, suspension::FORBIDDEN, world::World};

/// Upstreams that need several attempts for the tenants of these tests, and a worker that drops its jobs when it stops.
async fn slow_world() -> World {
    World::start_with(|_, times| {
        times.yield_after = Duration::from_secs(1);
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

    /// Adds the documents of suspended members who have no account at any upstream, which is their desired state.
    async fn add_members_without_accounts(&self, tenant: &Tenant, members: usize) {
        let store = &self.harness.context.store;
        let now = store.now();
        let documents = (0..members).map(|number| {
            let email = format!("m{number}@acme.test");
            let mut member = Member::new(tenant.id, &email, "Ada King", Role::Member, None, now);
            member.status = MemberStatus::Suspended;
            member.provisioning_status = PerUpstream::all(ProvisioningState::Ok);
            member
        });
        let documents: Vec<Member> = documents.collect();
        let stored = store.collection::<Member>("members");
        stored.insert_many(documents).await.unwrap();
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
async fn a_tenant_of_many_members_is_suspended_across_attempts_and_workers() {
    let mut world = slow_world().await;
    let tenant = world.large_tenant(300, 100).await;

    let job = world.suspend(tenant.id).await;
    let progress = world.until_continued(&job, Upstream::Authentik).await;
    let waiting = world.tenant(tenant.id).await;
    let frozen = 300 - world.active_members();
    until(async || 300 - world.active_members(), |now| *now > frozen).await;
    world.replace_worker().await;
    let job = world.completed(&job).await;

    assert!(progress.done > 0 && progress.done < progress.total);
    assert_eq!(
        (progress.total, &*progress.note),
        (300, "members suspended")
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
        "no attempt is charged: {:#?}",
        job.attempts
    );
    let effects = &world.upstreams.authentik.server.effects;
    assert_eq!(effects.count("freeze_user"), 300, "each once");
    assert!(job.steps.iter().all(|step| step.changes.len() <= 201));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_tenant_is_purged_across_attempts_and_workers() {
    let mut world = slow_world().await;
    let tenant = world.large_tenant(150, 350).await;

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

/// A world in which the sign-out of the members of a suspended tenant takes several attempts.
async fn long_sign_out() -> (World, Tenant, User) {
    let world = World::start_with(|_, times| {
        times.yield_after = Duration::from_millis(300);
        times.hold_backoff = Duration::from_millis(200);
    })
    .await;
    let tenant = world.active_tenant("acme", &[]).await;
    let group = world.upstreams.authentik.group_named("acme").unwrap();
    let ada = world.add_member("acme", "ada@acme.test");
    for number in 0..120 {
        let name = format!("m{number}@acme.test");
        world.upstreams.authentik.add_user(&name, &[group.id]);
    }
    world.completed(&world.suspend(tenant.id).await).await;
    (world, tenant, ada)
}

/// Makes each call to the identity provider slow that no earlier rule answers.
fn slow_down(world: &World) {
    let slow = FaultRule::every(Fault::SlowAnswer { millis: 25 });
    world.upstreams.authentik.server.faults.add(slow);
}

/// Each attempt begins with another generation of the tenant.
#[tokio::test(flavor = "multi_thread")]
async fn settings_that_no_upstream_holds_do_not_start_a_sign_out_over() {
    let (world, tenant, _) = long_sign_out().await;
    slow_down(&world);

    let job = world.reconcile(tenant.id).await;
    let mut snoozes = 0;
    let job = loop {
        let continued = |job: &Job| job.state.is_final() || job.snoozes > snoozes;
        let job = world.harness.job_until(job.id, continued).await;
        if job.state.is_final() {
            break job;
        }
        snoozes = job.snoozes;
        assert!(snoozes < 40, "{job:#?}");
        world.harness.change_tenant(tenant.id, |_| ()).await;
    };

    assert_eq!(job.state, JobState::Completed, "{job:#?}");
    assert!(snoozes > 1, "{job:#?}");
    let generation = world.tenant(tenant.id).await.generation;
    assert!(generation > tenant.generation + 2, "{generation}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_cannot_be_ended_fails_a_suspension_that_takes_several_attempts() {
    let (world, tenant, ada) = long_sign_out().await;
    // As by a login that was in progress.
    world.sign_in(ada.pk);
    let faults = &world.upstreams.authentik.server.faults;
    faults.add(FaultRule {
        times: None,
        ..FaultRule::once("delete_refresh_token", FORBIDDEN)
    });
    slow_down(&world);

    let job = world.reconcile(tenant.id).await;
    let progress = world.until_continued(&job, Upstream::Authentik).await;
    let failed = |job: &Job| {
        let step = job.step(Upstream::Authentik.name()).unwrap();
        job.state.is_final() || step.state == StepState::Error
    };
    let failed = world.harness.job_until(job.id, failed).await;
    let waiting = world.tenant(tenant.id).await;
    faults.clear();
    world.completed(&job).await;

    assert_eq!(
        (progress.total, &*progress.note),
        (121, "members signed out")
    );
    assert!(!failed.state.is_final(), "{failed:#?}");
    let condition = waiting.condition(Upstream::Authentik).unwrap();
    assert_eq!(condition.status, ConditionStatus::False);
    assert_eq!(world.upstreams.authentik.signed_in_with(ada.pk), 0);
    world.stop().await;
}

/// Their own jobs wait for the space, which was disabled while they were suspended.
#[tokio::test(flavor = "multi_thread")]
async fn many_suspended_members_leave_the_space_across_attempts_of_which_none_is_charged() {
    const MEMBERS: usize = 40;
    let world = World::start_with(|_, times| times.yield_after = Duration::from_millis(300)).await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let space = world.space(&tenant).unwrap();
    let files = &world.upstreams.ocis;
    for number in 0..MEMBERS {
        let name = format!("m{number}");
        let member = world.new_member(&tenant, &name).await;
        let user_id = files.add_member(&space.id, &member.email, SpaceRole::Editor);
        let suspend = |member: &mut Member| {
            member.status = MemberStatus::Suspended;
            member.ocis = Some(FilesAccount {
                user_id: user_id.to_string(),
                origin: AccountOrigin::Created,
                disabled: false,
            });
        };
        world.change_member(member.id, suspend).await;
    }
    let slow = FaultRule::every(Fault::SlowAnswer { millis: 100 });
    files.server.faults.add(slow);

    let job = world.completed(&world.reconcile(tenant.id).await).await;

    assert!(job.snoozes > 0, "{job:#?}");
    assert_eq!(job.attempt, 1, "no attempt is charged: {job:#?}");
    assert_eq!(world.space(&tenant).unwrap().grants.len(), 1);
    let removals = files.server.effects.count("remove_permission");
    assert_eq!(removals, MEMBERS, "each once");
    world.stop().await;
}

/// An attempt has time for one page of them. The only one who differs comes last.
#[tokio::test(flavor = "multi_thread")]
async fn the_members_of_a_large_tenant_are_compared_across_attempts() {
    const MEMBERS: usize = 1_001;
    let world = World::start_with(|_, times| times.yield_after = Duration::ZERO).await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.add_members_without_accounts(&tenant, MEMBERS).await;
    let ada = world.provisioned_member(&tenant, "ada").await;
    let authentik = &world.upstreams.authentik;
    let pk = world.user(&ada.email).pk;
    authentik.change(|state| state.users.get_mut(&pk).unwrap().groups.clear());

    let job = world.reconcile(tenant.id).await;
    let progress = world.until_continued(&job, Upstream::Authentik).await;
    let job = world.completed(&job).await;
    world.until_idle().await;
    let group = authentik.group_named("acme").unwrap();
    let repaired = authentik.members(group.id);
    // Each attempt of a suspension has time for one part: the sign-out, or a page of the comparison that follows it.
    let suspension = world.completed(&world.suspend(tenant.id).await).await;

    assert_eq!(&*progress.note, "members compared");
    assert!(progress.done >= 500, "{progress:?}");
    assert!(job.snoozes > 1 && suspension.snoozes > 1, "{job:#?}");
    assert_eq!((job.attempt, suspension.attempt), (1, 1));
    assert_eq!(repaired, ["ada@acme.test"]);
    assert!(!world.user(&ada.email).is_active);
    world.stop().await;
}
