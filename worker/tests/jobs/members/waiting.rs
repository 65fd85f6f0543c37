//! Jobs of members and apps that wait for their tenant: the end of what they wait for makes them due, however long their
//! retry delay has become.

use std::time::Duration;

use bson::doc;
use dezky_shared::{
    member::MemberStatus,
    platform::clock,
    queue::{
        error_code::ErrorCode,
        job::{Job, JobState, Step, StepState},
    },
};
use dezky_sim::faults::{Fault, FaultRule};

use super::PASSWORD;
use crate::world::World;

impl World {
    /// Waits until each open step of the job has found something not ready, then puts the job off.
    async fn put_off(&self, job: &Job) {
        let is_waiting = |job: &Job| {
            let mut open = job.steps.iter().filter(|step| !step.state.is_done());
            open.all(is_not_ready)
        };
        self.put_off_when(job, is_waiting).await;
    }

    /// Puts off a job that has been attempted, once it is as expected, by an hour: as after many attempts.
    async fn put_off_when(&self, job: &Job, is_expected: impl Fn(&Job) -> bool) {
        let is_expected = |job: &Job| {
            job.state == JobState::Available && !job.steps.is_empty() && is_expected(job)
        };
        loop {
            let job = self.harness.job_until(job.id, &is_expected).await;
            let later = clock::later(self.harness.context.store.now(), Duration::from_hours(1));
            let mut set = doc! { "runAt": later };
            for (index, step) in job.steps.iter().enumerate() {
                if step.state == StepState::Error {
                    set.insert(format!("steps.{index}.nextAt"), later);
                    set.insert(format!("steps.{index}.attempts"), 20);
                }
            }
            // Unless it runs again.
            let as_seen = doc! { "_id": job.id, "revision": job.revision };
            let jobs = self.harness.jobs();
            let updated = jobs.update_one(as_seen, doc! { "$set": set }).await;
            if updated.unwrap().matched_count == 1 {
                return;
            }
        }
    }
}

fn is_not_ready(step: &Step) -> bool {
    let error = step.error.as_ref();
    error.is_some_and(|error| error.code == ErrorCode::UpstreamNotReady)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_created_while_the_tenant_provisions_is_active_right_after() {
    let world = World::start().await;
    let tenant = world.harness.add_tenant("acme", &["acme.test"]).await;
    let member = world.new_member(&tenant, "ada").await;
    let app = world.add_app(&tenant, "wiki").await;
    let jobs = [
        world.provision_member(&member).await,
        world.provision_app(&app).await,
    ];
    for job in &jobs {
        world.put_off(job).await;
    }

    world.completed(&world.provision(tenant.id).await).await;

    for job in &jobs {
        world.completed(job).await;
    }
    assert_eq!(world.member(member.id).await.status, MemberStatus::Active);
    let tenant = world.tenant(tenant.id).await;
    assert_eq!(world.access(&tenant, &member).await, (true, 200, true));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_upstream_of_the_tenant_releases_what_waits_for_it() {
    let world = World::start().await;
    let tenant = world.harness.add_tenant("acme", &["acme.test"]).await;
    let member = world.new_member(&tenant, "ada").await;
    let job = world.provision_member(&member).await;
    world.put_off(&job).await;
    let refused = Fault::Status {
        status: 400,
        retry_after: None,
    };
    let faults = &world.upstreams.ocis.server.faults;
    faults.add(FaultRule::once("create_space", refused));

    let failed = world.provision(tenant.id).await;
    world.harness.finished(failed.id).await;

    let has_rest = |job: &Job| {
        let open = job.steps.iter().filter(|step| !step.state.is_done());
        open.map(|step| step.name.as_str()).eq(["ocis"])
    };
    world.harness.job_until(job.id, has_rest).await;
    assert!(world.signs_in("ada@acme.test", PASSWORD));
    world.put_off(&job).await;
    world.completed(&world.provision(tenant.id).await).await;
    world.completed(&job).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_releases_no_job_of_another_tenant() {
    let world = World::start().await;
    let acme = world.harness.add_tenant("acme", &["acme.test"]).await;
    let globex = world.harness.add_tenant("globex", &["globex.test"]).await;
    let member = world.new_member(&globex, "ada").await;
    let job = world.provision_member(&member).await;
    world.put_off(&job).await;
    let put_off = world.harness.job(job.id).await;

    world.completed(&world.provision(acme.id).await).await;

    assert_eq!(world.harness.job(job.id).await, put_off);
    world.completed(&world.provision(globex.id).await).await;
    world.completed(&job).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_the_suspension_of_the_tenant_holds_up_ends_with_it() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &["acme.test"]).await;
    let globex = world.active_tenant("globex", &["globex.test"]).await;
    world.provisioned_member(&acme, "ada").await;
    let guest = world.new_guest(&globex, "ada@acme.test").await;
    world.completed(&world.provision_member(&guest).await).await;
    world.until_idle().await;
    world.completed(&world.suspend(globex.id).await).await;
    let purge = world.remove_member_now(&guest).await;
    world.put_off(&purge).await;

    world.completed(&world.resume(globex.id).await).await;

    world.completed(&purge).await;
    assert!(!world.sees_space(&globex, "ada@acme.test"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_waits_for_another_of_its_job_runs_right_after_it() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &["acme.test"]).await;
    world.provisioned_member(&acme, "ada").await;
    let globex = world.active_tenant("globex", &["globex.test"]).await;
    let guest = world.new_guest(&globex, "ada@acme.test").await;
    // The account of the login cannot be looked up, so that the file server's step waits.
    let unavailable = FaultRule {
        operation: Some("list_users".to_owned()),
        ..FaultRule::every(Fault::Status {
            status: 503,
            retry_after: None,
        })
    };
    let faults = &world.upstreams.authentik.server.faults;
    faults.add(unavailable.clone());
    let job = world.provision_member(&guest).await;
    let both_failed = |job: &Job| {
        let failed = |name| job.step(name).is_some_and(|step| step.error.is_some());
        failed("authentik") && job.step("ocis").is_some_and(is_not_ready)
    };
    world.put_off_when(&job, both_failed).await;

    faults.remove(&unavailable);
    let now = world.harness.context.store.now();
    let due = doc! { "runAt": now, "steps.0.nextAt": now };
    world.harness.edit_job(job.id, due).await;

    let job = world.completed(&job).await;
    assert_eq!(job.steps[0].name, "authentik");
    assert!(world.sees_space(&globex, "ada@acme.test"));
    world.stop().await;
}
