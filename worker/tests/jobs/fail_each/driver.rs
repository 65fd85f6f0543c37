//! Driver: runs a scenario undisturbed and with each failure, and compares the results.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use dezky_shared::{
    queue::{
        args::ProvisionApp,
        job::{JobArgs as _, JobState},
    },
    upstream::Upstream,
};
use dezky_sim::faults::FaultRule;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::{
    documents,
    failure::{Failure, must_match_the_failure_class},
    operator::{End, until_completed, until_followers_completed},
};
use crate::{scenarios::Scenario, world::World};

/// Number of worlds that run concurrently: a worker is busy also while it waits.
const AT_ONCE: usize = 3;

/// Upstream and operation.
pub(super) type Call = (Upstream, String);
/// Number of calls by upstream and operation.
pub(super) type Calls = BTreeMap<Call, u32>;

/// The result of a scenario.
pub(super) struct Run {
    pub(super) calls: Calls,
    /// The calls that failed.
    failed: BTreeSet<Call>,
    /// Each time that the job was final or deferred.
    ends: Vec<End>,
    effects: Vec<String>,
    holdings: Value,
    fate: Value,
}

/// Fails each call of the scenario with each failure, and asserts that it ends as without failures.
pub(super) async fn each_call_fails(scenario: &Scenario) {
    let undisturbed = run(scenario, None).await;
    assert_eq!(undisturbed.ends.len(), 1);
    assert_eq!(undisturbed.ends[0].job.state, JobState::Completed);
    assert!(!undisturbed.calls.is_empty());

    let failed: Vec<BTreeSet<Call>> = stream::iter(Failure::ALL)
        .map(async |failure| {
            let run = run(scenario, Some((failure, &undisturbed.calls))).await;

            let about = format!("{failure:?}: {:#?}", run.ends.last().unwrap().job);
            for end in &run.ends {
                must_match_the_failure_class(failure, end, &format!("{failure:?}: {:#?}", end.job));
            }
            let is_rolled_back = failure == Failure::Refused && scenario.kind == ProvisionApp::KIND;
            let effects = if is_rolled_back {
                without_rollbacks(run.effects)
            } else {
                run.effects
            };
            assert_eq!(effects, undisturbed.effects, "{about}");
            assert_eq!(run.holdings, undisturbed.holdings, "{about}");
            assert_eq!(run.fate, undisturbed.fate, "{about}");
            run.failed
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;

    // A call may become unnecessary after another one failed, but then it fails in the run of another failure.
    let failed: BTreeSet<Call> = failed.into_iter().flatten().collect();
    assert!(undisturbed.calls.into_keys().eq(failed));
}

/// The effects without rollbacks, after each of which the job created the objects again. That none is there twice at the
/// end, the upstream's state shows.
fn without_rollbacks(mut effects: Vec<String>) -> Vec<String> {
    effects.retain(|effect| !effect.starts_with("delete_"));
    effects.dedup();
    effects
}

/// Runs the scenario, with this failure of each of these calls.
pub(super) async fn run(scenario: &Scenario, failure: Option<(Failure, &Calls)>) -> Run {
    let world = World::start_with(|_, times| {
        times.retry_base = Duration::ZERO;
        times.identity_wait = Duration::from_millis(50);
        times.in_doubt_wait = Duration::from_millis(50);
        // An open breaker would prevent calls that should fail.
        times.circuit.failures = u32::MAX;
    })
    .await;
    let scene = (scenario.prepare)(&world).await;
    let before = requests(&world);
    if let Some((failure, calls)) = failure {
        inject_failures(&world, failure, calls);
    }

    let job = (scenario.enqueue)(&world, &scene).await;
    let ends = until_completed(&world, scenario, &scene, job).await;
    until_followers_completed(&world).await;

    let failed = failure.map(|(_, calls)| failed(&world, calls));
    let mut calls = requests(&world);
    calls.retain(|call, times| {
        *times -= before.get(call).copied().unwrap_or_default();
        *times > 0
    });
    let run = Run {
        calls,
        failed: failed.unwrap_or_default(),
        ends,
        effects: world.sorted_effects(),
        holdings: world.upstream_state(),
        fate: json!([
            world.tenant_state(scene.tenant).await,
            documents::claim(&world, &scene).await,
            documents::app(&world, &scene).await,
            world.upstreams.authentik.openings(),
            documents::member(&world, &scene).await,
        ]),
    };
    world.stop().await;
    run
}

fn requests(world: &World) -> Calls {
    let servers = world.upstreams.servers();
    let requests = servers.iter().flat_map(|(upstream, server)| {
        let requests = server.faults.requests().into_iter();
        requests.map(|(operation, times)| ((*upstream, operation), u32::try_from(times).unwrap()))
    });
    requests.collect()
}

/// Injects one failure for each call of the undisturbed run: the first call of an operation, then each that follows an
/// answered one.
fn inject_failures(world: &World, failure: Failure, calls: &Calls) {
    for (name, server) in world.upstreams.servers() {
        for ((upstream, operation), times) in calls {
            for after in (0..*times).filter(|_| *upstream == name) {
                let rule = FaultRule::once_after(operation, after, failure.fault());
                server.faults.add(rule);
            }
        }
    }
}

/// Calls that failed at least once.
fn failed(world: &World, calls: &Calls) -> BTreeSet<Call> {
    let servers = world.upstreams.servers();
    let unmet: BTreeMap<Upstream, Vec<FaultRule>> = servers
        .iter()
        .map(|(upstream, server)| (*upstream, server.faults.unmet()))
        .collect();
    let has_failed = |(upstream, operation): &Call, times: u32| {
        let unmet = unmet[upstream].iter();
        let spared = unmet.filter(|rule| rule.operation.as_ref() == Some(operation));
        spared.count() < times as usize
    };
    let failed = calls
        .iter()
        .filter(|(call, times)| has_failed(call, **times));
    failed.map(|(call, _)| call.clone()).collect()
}
