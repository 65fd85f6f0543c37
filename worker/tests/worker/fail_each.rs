//! For every kind of job, every call to every upstream fails once in every way: the job ends as the failure's class
//! says, and in the end the upstreams and the tenant stand as they do undisturbed, with nothing made twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use bson::DateTime;
use dezky_shared::{
    failure::Disposition,
    job::JobArgs as _,
    job::{Job, JobState, Step},
    jobs::{RecheckDomain, RecheckDueDomains, ReconcileTenants, RunJobOperation},
    store::Abort,
    upstream::Upstream,
};
use dezky_sim::faults::{Fault, FaultRule};
use futures::{FutureExt as _, StreamExt as _, stream};
use serde_json::{Value, json};

use crate::{
    answer_lost::writes_in_the_sources,
    scenarios::{self, Scenario, Scene},
    world::World,
};

/// How many cases are tried at a time: most of their time is waiting.
const AT_ONCE: usize = 12;
/// Kinds that speak to none of these upstreams.
const SILENT: [&str; 4] = [
    ReconcileTenants::KIND,
    RunJobOperation::KIND,
    RecheckDomain::KIND,
    RecheckDueDomains::KIND,
];
/// Writes that may be made twice, which replaces what the first made. Their jobs have tests of their own.
const REPLACED: [&str; 1] = ["create_recovery_link"];
/// The least that an upstream can ask us to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: each call fails in eight ways"]
async fn provisioning_survives_each_call_failing() {
    each_call_fails(&scenarios::PROVISION).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: each call fails in eight ways"]
async fn provisioning_a_change_survives_each_call_failing() {
    each_call_fails(&scenarios::PROVISION_CHANGED).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: each call fails in eight ways"]
async fn reconciling_survives_each_call_failing() {
    each_call_fails(&scenarios::RECONCILE).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: each call fails in eight ways"]
async fn reconciling_what_is_suspended_survives_each_call_failing() {
    each_call_fails(&scenarios::RECONCILE_SUSPENDED).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: each call fails in eight ways"]
async fn suspending_survives_each_call_failing() {
    each_call_fails(&scenarios::SUSPEND).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: each call fails in eight ways"]
async fn resuming_survives_each_call_failing() {
    each_call_fails(&scenarios::RESUME).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: each call fails in eight ways"]
async fn removing_survives_each_call_failing() {
    each_call_fails(&scenarios::DEPROVISION).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: each call fails in eight ways"]
async fn making_a_domain_survives_each_call_failing() {
    each_call_fails(&scenarios::PROVISION_DOMAIN).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: each call fails in eight ways"]
async fn another_dmarc_policy_survives_each_call_failing() {
    each_call_fails(&scenarios::SET_DMARC).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_domain_survives_each_call_failing() {
    each_call_fails(&scenarios::REMOVE_DOMAIN).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: each call fails in eight ways"]
async fn inviting_survives_each_call_failing() {
    each_call_fails(&scenarios::INVITE).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: each call fails in eight ways"]
async fn following_a_team_survives_each_call_failing() {
    each_call_fails(&scenarios::SYNC_TEAM).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_and_every_write_is_in_the_table() {
    let kinds: BTreeSet<&str> = dezky_worker::jobs::registry().kinds().collect();
    let writes = writes_in_the_sources();

    let mut reached = BTreeSet::new();
    for scenario in scenarios::ALL {
        let told = tell(scenario, None).await;
        reached.extend(told.asked.into_keys().map(|(_, operation)| operation));
    }

    let spoken = scenarios::ALL.map(|scenario| scenario.kind);
    let tabled: BTreeSet<&str> = spoken.into_iter().chain(SILENT).collect();
    assert_eq!(tabled, kinds);
    reached.extend(REPLACED.map(str::to_owned));
    let missed: Vec<&String> = writes.difference(&reached).collect();
    assert_eq!(missed, [""; 0]);
}

/// A way to fail, and what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    Reset,
    Unavailable,
    RateLimited,
    AnswerLost,
    Html,
    Truncated,
    Refused,
    Credentials,
}

impl Failure {
    const ALL: [Self; 8] = [
        Self::Reset,
        Self::Unavailable,
        Self::RateLimited,
        Self::AnswerLost,
        Self::Html,
        Self::Truncated,
        Self::Refused,
        Self::Credentials,
    ];

    fn fault(self) -> Fault {
        let status = |status, retry_after| Fault::Status {
            status,
            retry_after,
        };
        match self {
            Self::Reset => Fault::Reset,
            Self::Unavailable => status(503, None),
            Self::RateLimited => status(429, Some(RETRY_AFTER.as_secs())),
            Self::AnswerLost => Fault::AnswerLost,
            Self::Html => Fault::Html,
            Self::Truncated => Fault::Truncated,
            Self::Refused => status(400, None),
            Self::Credentials => status(401, None),
        }
    }
}

/// A call that fails.
#[derive(Debug, Clone)]
struct Case {
    upstream: Upstream,
    operation: String,
    /// How many of these calls are answered before it.
    after: u32,
    failure: Failure,
}

/// How a scenario went.
struct Told {
    /// How often what was asked of whom.
    asked: BTreeMap<(Upstream, String), u64>,
    faults_met: u64,
    /// The job when it was first left alone by the worker: final, or held.
    job: Job,
    took: Duration,
    /// What the tenant was told of the upstream that failed, while it had.
    shown: Value,
    effects: Vec<String>,
    holdings: Value,
    fate: Value,
}

async fn each_call_fails(scenario: &Scenario) {
    let undisturbed = tell(scenario, None).await;
    assert_eq!(undisturbed.job.state, JobState::Completed);
    let cases: Vec<Case> = cases(&undisturbed);
    assert!(cases.len() >= Failure::ALL.len());

    let failed: Vec<Case> = stream::iter(cases)
        .map(async |case| {
            // One that fails says so, and keeps no other from being tried.
            let tried = AssertUnwindSafe(must_survive(scenario, &case, &undisturbed));
            tried.catch_unwind().await.is_err().then_some(case)
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(async |failed| failed)
        .collect()
        .await;
    assert!(failed.is_empty(), "{failed:#?}");
}

async fn must_survive(scenario: &Scenario, case: &Case, undisturbed: &Told) {
    let told = tell(scenario, Some(case)).await;

    let about = format!("{case:?}: {:#?}", told.job);
    assert_eq!(told.faults_met, 1, "{about}");
    must_end_as_its_class_says(case, &told, &about);
    assert_eq!(told.effects, undisturbed.effects, "{about}");
    assert_eq!(told.holdings, undisturbed.holdings, "{about}");
    assert_eq!(told.fate, undisturbed.fate, "{about}");
}

fn cases(undisturbed: &Told) -> Vec<Case> {
    let mut cases = Vec::new();
    for ((upstream, operation), &times) in &undisturbed.asked {
        for after in 0..u32::try_from(times).unwrap() {
            cases.extend(Failure::ALL.map(|failure| Case {
                upstream: *upstream,
                operation: operation.clone(),
                after,
                failure,
            }));
        }
    }
    cases
}

/// Held jobs are left as they are while they are held, all others as they ended.
fn must_end_as_its_class_says(case: &Case, told: &Told, about: &str) {
    let job = &told.job;
    let ended = (job.state, job.attempt);
    match case.failure {
        Failure::Refused => {
            assert_eq!(ended, (JobState::Discarded, 1), "{about}");
            must_concern_only(case.upstream, told, about);
        }
        // Nobody may ask again before somebody has mended it: this costs nothing.
        Failure::Credentials if job.state == JobState::Available => {
            assert_eq!(job.attempt, 0, "{about}");
            must_concern_only(case.upstream, told, about);
        }
        // oCIS may be unable to tell who we are for a while, which is no refusal yet.
        Failure::Credentials => {
            assert_eq!(case.upstream, Upstream::Ocis, "{about}");
            assert_eq!(ended, (JobState::Completed, 1), "{about}");
        }
        Failure::RateLimited => {
            assert_eq!(ended, (JobState::Completed, 1), "{about}");
            assert!(told.took >= RETRY_AFTER, "{about}");
        }
        Failure::Unavailable => {
            assert_eq!(ended, (JobState::Completed, 1), "{about}");
        }
        // Of a write, nobody knows whether it happened: that costs an attempt.
        Failure::Reset | Failure::AnswerLost | Failure::Html | Failure::Truncated => {
            assert_eq!(job.state, JobState::Completed, "{about}");
            assert!(job.attempt <= 2, "{about}");
        }
    }
}

/// The step of this upstream has failed and the tenant was told; all others are done.
fn must_concern_only(upstream: Upstream, told: &Told, about: &str) {
    let (failed, others): (Vec<&Step>, Vec<&Step>) =
        told.job.steps.iter().partition(|step| step.error.is_some());
    assert_eq!(failed.len(), 1, "{about}");
    assert!(others.iter().all(|step| step.state.is_done()), "{about}");
    if failed[0].name == upstream.name() {
        let errors = told.shown["errors"].as_object().unwrap();
        let told: Vec<&str> = errors
            .iter()
            .filter(|(_, text)| !text.is_null())
            .map(|(upstream, _)| &**upstream)
            .collect();
        assert_eq!(told, [upstream.name()], "{about}");
    }
}

async fn tell(scenario: &Scenario, case: Option<&Case>) -> Told {
    let world = World::start_with(|_, times| {
        times.identity_wait = Duration::from_millis(200);
    })
    .await;
    let scene = (scenario.prepare)(&world).await;
    let servers = world.upstreams.servers();
    let before = servers.map(|(_, server)| server.faults.requests());
    if let Some(case) = case {
        let (_, server) = servers
            .iter()
            .find(|(name, _)| *name == case.upstream)
            .unwrap();
        let rule = FaultRule::once_after(&case.operation, case.after, case.failure.fault());
        server.faults.add(rule);
    }

    let began = Instant::now();
    let job = (scenario.enqueue)(&world, &scene).await;
    let job = left_alone(&world, &job, case).await;
    let took = began.elapsed();
    let shown = world.fate(scene.tenant).await;
    if job.state == JobState::Discarded {
        let again = world.harness.requeue(job.id).await.unwrap().job;
        world
            .harness
            .context
            .ready
            .announce(std::slice::from_ref(&again))
            .await;
        world.done(&again).await;
    } else if job.state == JobState::Available {
        resume(&world, case.unwrap().upstream).await;
        world.done(&job).await;
    }
    world.quiet().await;

    let mut asked = BTreeMap::new();
    for ((upstream, server), before) in servers.iter().zip(before) {
        for (operation, times) in server.faults.requests() {
            let earlier = before.get(&operation).copied().unwrap_or_default();
            if times > earlier {
                asked.insert((*upstream, operation), times - earlier);
            }
        }
    }
    let told = Told {
        asked,
        faults_met: servers.iter().map(|(_, server)| server.faults.hits()).sum(),
        job,
        took,
        shown,
        effects: world.sorted_effects(),
        holdings: world.holdings(),
        fate: json!([world.fate(scene.tenant).await, claim(&world, &scene).await]),
    };
    world.stop().await;
    told
}

/// Waits until the job is final, or held because of refused credentials.
async fn left_alone(world: &World, job: &Job, case: Option<&Case>) -> Job {
    let credentials = case.is_some_and(|case| case.failure == Failure::Credentials);
    let is_held = |job: &Job| {
        credentials
            && job.state == JobState::Available
            && job.steps.iter().any(is_held)
            && job
                .steps
                .iter()
                .all(|step| step.state.is_done() || is_held(step))
    };
    let left = |job: &Job| job.state.is_final() || is_held(job);
    world.harness.job_until(job.id, left).await
}

fn is_held(step: &Step) -> bool {
    let error = step.error.as_ref();
    error.is_some_and(|error| error.code.disposition() == Disposition::Hold)
}

/// As an operator does who has mended the credentials.
async fn resume(world: &World, upstream: Upstream) {
    let context = &world.harness.context;
    let resumed: Result<_, Abort<()>> = context
        .store
        .transaction(context, |session, context| {
            async move {
                let now: DateTime = context.store.now();
                Ok(context.upstreams.resume(session, upstream, now).await?)
            }
            .boxed()
        })
        .await;
    resumed.unwrap();
}

/// What the claim says, if there is one and it is still there.
async fn claim(world: &World, scene: &Scene) -> Value {
    let Some(claim) = &scene.claim else {
        return Value::Null;
    };
    let claim = world.find_claim(claim).await;
    claim.map_or(Value::Null, |claim| {
        let conditions = claim.conditions.iter();
        json!({
            "status": claim.status,
            "removing": claim.removing,
            "conditions": conditions
                .map(|it| (&it.kind, it.status, &it.reason))
                .collect::<Vec<_>>(),
            "expected": claim.expected.iter().map(|record| record.check).collect::<Vec<_>>(),
        })
    })
}
