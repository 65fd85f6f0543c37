//! Fresh tenants: their objects are created without a look-up, at once and only as long as nothing can be there.

use std::collections::BTreeMap;

use dezky_shared::{
    id::TenantId,
    queue::{
        error_code::ErrorCode,
        job::{Attempt, Job},
    },
    tenant::{PerUpstream, Tenant, TenantStatus},
};
use dezky_sim::faults::{Fault, FaultRule};
use serde_json::json;

use crate::{
    harness::{step, until},
    world::World,
};

/// Numbers of requests, by operation.
type Requests = BTreeMap<String, u64>;

/// The requests to all upstreams.
fn requests(world: &World) -> Requests {
    let mut requests = Requests::new();
    for (_, server) in world.upstreams.servers() {
        for (operation, count) in server.faults.requests() {
            *requests.entry(operation).or_default() += count;
        }
    }
    requests
}

fn requests_since(world: &World, before: &Requests) -> Requests {
    let mut requests = requests(world);
    requests.retain(|operation, count| {
        *count -= before.get(operation).copied().unwrap_or_default();
        *count > 0
    });
    requests
}

fn once(operations: &[&str]) -> Requests {
    let operations = operations.iter();
    operations.map(|it| ((*it).to_owned(), 1)).collect()
}

/// A world whose worker knows the id of our account at the file server, which each process reads once.
async fn world() -> World {
    let world = World::start().await;
    world.active_tenant("globex", &[]).await;
    world
}

/// Provisions a new tenant `acme`, and returns the requests that this took.
async fn provision(world: &World, owner: Option<&str>) -> (Tenant, Requests) {
    let harness = &world.harness;
    let tenant = harness
        .add_fresh_tenant("acme", &["acme.test"], owner)
        .await;
    let before = requests(world);
    world.completed(&harness.enqueue_first(&tenant).await).await;
    let requests = requests_since(world, &before);
    (world.tenant(tenant.id).await, requests)
}

/// Lists an earlier attempt in the job.
fn list_attempt(job: &mut Job, outcome: &str) {
    job.attempts.push(Attempt {
        n: 1,
        worker: "earlier".to_owned(),
        started_at: job.created_at,
        finished_at: job.created_at,
        outcome: outcome.to_owned(),
        error: None,
        upstream_request_ids: Vec::new(),
    });
}

fn marker(tenant: TenantId) -> String {
    format!("project/{tenant}")
}

/// Ids of the spaces with the tenant's marker.
fn spaces_of(world: &World, tenant: TenantId) -> Vec<String> {
    let mut spaces = world.upstreams.ocis.spaces();
    spaces.retain(|space| space.alias == marker(tenant));
    spaces.into_iter().map(|space| space.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_tenant_costs_one_call_for_each_object() {
    let world = world().await;

    let (tenant, requests) = provision(&world, None).await;

    assert_eq!(
        requests,
        once(&["create_group", "create_domain", "create_space"])
    );
    assert_eq!(tenant.status, TenantStatus::Active);
    let group = world.upstreams.authentik.group_named("acme").unwrap();
    assert_eq!(tenant.authentik_group_id, Some(group.id.to_string()));
    assert_eq!(tenant.mail_domains.len(), 1);
    assert_eq!(
        spaces_of(&world, tenant.id),
        [tenant.ocis_space_id.unwrap()]
    );
    assert_eq!(tenant.fresh_for, PerUpstream::default());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_a_fresh_tenant_costs_a_look_up_an_account_and_a_membership() {
    let world = world().await;

    let (tenant, requests) = provision(&world, Some("olive@acme.test")).await;

    assert_eq!(
        requests,
        once(&[
            "create_group",
            "list_users",
            "create_user",
            "add_member",
            "create_domain",
            "create_space",
        ])
    );
    let olive = world.user("olive@acme.test");
    let subject = tenant.owner.unwrap().subject;
    assert_eq!(subject, Some(olive.uuid.to_string()));
    world.stop().await;
}

/// A suspension of another tenant left the account frozen: no list of members is needed to see that.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_owner_of_a_fresh_tenant_can_sign_in() {
    let world = world().await;
    let olive = world.upstreams.authentik.add_user("olive@acme.test", &[]);
    world.upstreams.authentik.change(|state| {
        let olive = state.users.get_mut(&olive.pk).unwrap();
        olive.is_active = false;
        let mark = json!(["a-suspended-tenant"]);
        olive.attributes.insert("dezkyFrozenBy".to_owned(), mark);
    });

    provision(&world, Some("olive@acme.test")).await;

    assert!(world.user("olive@acme.test").is_active);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_with_an_unknown_outcome_is_looked_for_before_another() {
    let world = world().await;
    let creates = ["create_group", "create_domain", "create_space"];
    for ((_, server), create) in world.upstreams.servers().iter().zip(creates) {
        let lost = FaultRule::once(create, Fault::AnswerLost);
        server.faults.add(lost);
    }

    let (tenant, requests) = provision(&world, None).await;

    assert_eq!(tenant.status, TenantStatus::Active);
    for operation in creates {
        assert_eq!(requests[operation], 1, "{operation}: {requests:?}");
    }
    for operation in ["list_groups", "list_domains", "list_spaces"] {
        assert!(requests.contains_key(operation), "{operation}");
    }
    assert_eq!(
        spaces_of(&world, tenant.id),
        [tenant.ocis_space_id.unwrap()]
    );
    world.stop().await;
}

/// The space of an attempt that left no record, whose job says so; of the first job, which another one follows; or of a
/// create by a worker of an older build, which leaves the tenant's mark.
#[tokio::test(flavor = "multi_thread")]
async fn a_space_that_an_earlier_attempt_may_have_left_is_looked_for() {
    let world = World::start().await;
    let harness = &world.harness;
    let attempts = ["rescue", "release", "retry", "timeout"];
    let creates = ["of another job", "in doubt"];
    for earlier in attempts.into_iter().chain(creates) {
        let slug = format!("after-{}", earlier.replace(' ', "-"));
        let tenant = harness.add_fresh_tenant(&slug, &[], None).await;
        let left = world
            .upstreams
            .ocis
            .add_space("Left", &marker(tenant.id), 0);

        let job = match earlier {
            "of another job" => world.provision(tenant.id).await,
            "in doubt" => {
                let over = Some(tenant.created_at);
                let in_doubt = move |tenant: &mut Tenant| tenant.unknown_until.ocis = over;
                harness.change_tenant(tenant.id, in_doubt).await;
                harness.enqueue_first(&tenant).await
            }
            _ => {
                harness
                    .enqueue_first_with(&tenant, |job| list_attempt(job, earlier))
                    .await
            }
        };
        world.completed(&job).await;

        assert_eq!(spaces_of(&world, tenant.id), [left.as_str()], "{earlier}");
        let stored = world.tenant(tenant.id).await.ocis_space_id;
        assert_eq!(stored, Some(left), "{earlier}");
    }
    world.stop().await;
}

/// A list of all spaces takes minutes on a large server, and a new tenant often waits for the rate budget first.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_stays_fresh_while_its_job_only_waits() {
    let world = world().await;
    let tenant = world.harness.add_fresh_tenant("acme", &[], None).await;
    let before = requests(&world);

    let snoozed = |job: &mut Job| {
        job.snoozes = 2;
        list_attempt(job, Attempt::SNOOZE);
    };
    let job = world.harness.enqueue_first_with(&tenant, snoozed).await;
    world.completed(&job).await;

    let requests = requests_since(&world, &before);
    assert_eq!(requests, once(&["create_group", "create_space"]));
    world.stop().await;
}

/// Another job may create the space, and die before its record: the first attempt of the first job must look for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_create_by_another_job_is_recorded_before_it_is_sent() {
    let world = World::start().await;
    let tenant = world.harness.add_fresh_tenant("acme", &[], None).await;
    let files = &world.upstreams.ocis.server;
    let slow = Fault::SlowEffect { millis: 300 };
    files.faults.add(FaultRule::once("create_space", slow));

    let job = world.reconcile(tenant.id).await;
    until(async || files.faults.hits(), |&hits| hits == 1).await;
    let during_the_create = world.tenant(tenant.id).await;
    world.completed(&job).await;

    assert!(tenant.fresh_for.ocis.is_some());
    assert_eq!(during_the_create.fresh_for.ocis, None);
    assert_eq!(spaces_of(&world, tenant.id).len(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn taken_names_of_a_fresh_tenant_are_conflicts() {
    let world = World::start().await;
    let authentik = &world.upstreams.authentik;
    authentik.add_group("acme", &json!({ "tenantId": "another" }));
    let mail = &world.upstreams.stalwart;
    mail.add_domain("acme.test", json!({ "description": "dezky:another" }));
    let harness = &world.harness;
    let tenant = harness.add_fresh_tenant("acme", &["acme.test"], None).await;

    let job = harness.enqueue_first(&tenant).await;
    let has_failed = |job: &Job| {
        let mut steps = ["authentik", "stalwart"]
            .iter()
            .filter_map(|it| job.step(it));
        steps.clone().count() == 2 && steps.all(|step| step.error.is_some())
    };
    let failed = harness.job_until(job.id, has_failed).await;

    for name in ["authentik", "stalwart"] {
        let error = step(&failed, name).error.as_ref().unwrap();
        assert_eq!(error.code, ErrorCode::UpstreamConflict, "{name}");
    }
    assert_eq!(authentik.server.effects.count("create_group"), 0);
    assert_eq!(mail.server.effects.count("create_domain"), 0);
    world.stop().await;
}
