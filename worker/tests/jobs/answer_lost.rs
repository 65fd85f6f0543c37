//! Lost responses: with a fault in each write to each upstream in turn, every story ends as without faults, and no
//! effect happens twice.

mod stories;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use dezky_shared::upstream::Upstream;
use dezky_sim::{
    faults::{Fault, FaultRule},
    isolated_stores,
};
use futures::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::OnceCell;

use self::stories::{STORIES, Story};
use crate::world::World;

/// Writes that may happen twice, where the second replaces the first. Their jobs have their own tests.
const REPLACED: [&str; 1] = ["create_recovery_link"];
/// Number of stories that run concurrently.
const AT_ONCE: usize = 5;
/// Delay of an effect: after its client timed out, and before the next lookup.
const LATE: Fault = Fault::SlowEffect { millis: 900 };

#[tokio::test(flavor = "multi_thread")]
async fn every_write_of_every_client_is_covered_by_a_story() {
    let written = writes_in_the_sources();

    let covered: BTreeSet<String> = cases()
        .await
        .iter()
        .map(|case| case.operation.clone())
        .collect();

    let replaced: BTreeSet<String> = REPLACED.map(str::to_owned).into();
    assert!(written.len() > 20, "{written:?}");
    assert_eq!(written, &covered | &replaced);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_with_a_lost_response_happens_once() {
    each_write_survives(&Fault::AnswerLost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_lands_after_the_client_timed_out_happens_once() {
    each_write_survives(&LATE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_answered_with_an_html_page_happen_once() {
    all_writes_survive(&Fault::Html).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_with_truncated_responses_happen_once() {
    all_writes_survive(&Fault::Truncated).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_never_arrive_are_repeated() {
    all_writes_survive(&Fault::Reset).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_failed_by_the_upstream_or_a_gateway_are_repeated() {
    for status in [500, 502] {
        all_writes_survive(&Fault::Status {
            status,
            retry_after: None,
        })
        .await;
    }
}

/// For each write, runs a story that makes it, with this fault.
async fn each_write_survives(fault: &Fault) {
    let undisturbed = undisturbed().await;
    stream::iter(cases().await)
        .for_each_concurrent(AT_ONCE, async |case| {
            let rule = FaultRule::once(&case.operation, fault.clone());

            let run = run(&STORIES[case.story], &[(case.upstream, rule)]).await;

            let about = format!("{fault:?} in {}", case.operation);
            run.must_equal(&undisturbed[case.story], 1, &about);
        })
        .await;
}

/// Runs every story with this fault in the first call of each of its writes.
async fn all_writes_survive(fault: &Fault) {
    let writes = writes_in_the_sources();
    let undisturbed = undisturbed().await;
    stream::iter(STORIES.iter().zip(undisturbed))
        .for_each_concurrent(AT_ONCE, async |(story, undisturbed)| {
            let calls = undisturbed.calls.iter();
            let rules: Vec<(Upstream, FaultRule)> = calls
                .filter(|(_, operation)| writes.contains(operation))
                .map(|(upstream, operation)| (*upstream, FaultRule::once(operation, fault.clone())))
                .collect();

            let run = run(story, &rules).await;

            let about = format!("{fault:?} in every write of {:?}", story.name);
            run.must_equal(undisturbed, rules.len(), &about);
        })
        .await;
}

/// A write and the first story that makes it.
struct Case {
    story: usize,
    upstream: Upstream,
    operation: String,
}

async fn cases() -> Vec<Case> {
    let writes = writes_in_the_sources();
    let mut found = BTreeMap::new();
    for (story, run) in undisturbed().await.iter().enumerate() {
        for (upstream, operation) in &run.calls {
            if writes.contains(operation) {
                found.entry((*upstream, operation.clone())).or_insert(story);
            }
        }
    }
    found
        .into_iter()
        .map(|((upstream, operation), story)| Case {
            story,
            upstream,
            operation,
        })
        .collect()
}

/// Outcome of a story.
#[derive(Serialize, Deserialize)]
struct Run {
    /// Operations called, with their upstream.
    calls: BTreeSet<(Upstream, String)>,
    faults_met: u64,
    effects: Vec<String>,
    holdings: Value,
    tenant: Value,
}

impl Run {
    fn must_equal(&self, undisturbed: &Self, faults: usize, about: &str) {
        assert_eq!(self.faults_met, faults as u64, "{about}");
        assert_eq!(self.effects, undisturbed.effects, "{about}");
        assert_eq!(self.holdings, undisturbed.holdings, "{about}");
        assert_eq!(self.tenant, undisturbed.tenant, "{about}");
    }
}

/// Every story without a fault: the reference of all tests here.
async fn undisturbed() -> &'static [Run] {
    static RUNS: OnceCell<Vec<Run>> = OnceCell::const_new();
    RUNS.get_or_init(async || {
        let stories = async || {
            stream::iter(&STORIES)
                .map(|story| run(story, &[]))
                .buffered(AT_ONCE)
                .collect()
                .await
        };
        isolated_stores::once_per_run("undisturbed-stories", stories)
            .await
            .unwrap()
    })
    .await
}

async fn run(story: &Story, faults: &[(Upstream, FaultRule)]) -> Run {
    let is_late = faults.iter().any(|(_, rule)| rule.fault == LATE);
    let world = World::start_with(|config, times| {
        if is_late {
            let timeout = Duration::from_millis(600);
            config.authentik.as_mut().unwrap().timeout = timeout;
            config.stalwart.as_mut().unwrap().timeout = timeout;
            config.ocis.as_mut().unwrap().timeout = timeout;
            config.stripe.as_mut().unwrap().timeout = timeout;
            times.in_doubt_wait = Duration::from_millis(1_200);
        }
    })
    .await;
    let servers = world.upstreams.servers();
    for (upstream, rule) in faults {
        let (_, server) = servers.iter().find(|(name, _)| name == upstream).unwrap();
        server.faults.add(rule.clone());
    }

    let id = (story.tell)(&world).await;
    world.until_effects_landed().await;

    let calls = servers.iter().flat_map(|(upstream, server)| {
        server
            .faults
            .requests()
            .into_keys()
            .map(|operation| (*upstream, operation))
    });
    let run = Run {
        calls: calls.collect(),
        faults_met: servers.iter().map(|(_, server)| server.faults.hits()).sum(),
        effects: world.sorted_effects(),
        holdings: world.upstream_state(),
        tenant: world.tenant_state(id).await,
    };
    world.stop().await;
    run
}

/// The names of all writes, found in the source code of the clients.
pub(crate) fn writes_in_the_sources() -> BTreeSet<String> {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/upstreams/src/clients");
    let mut writes = BTreeSet::new();
    let mut folders = vec![clients];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = fs::read_to_string(&path).unwrap();
            let source = source.split("#[cfg(test)]").next().unwrap();
            for named in source.split("Operation::write(").skip(1) {
                let name = named
                    .trim_start()
                    .strip_prefix('"')
                    .and_then(|name| name.split('"').next());
                let name = name.unwrap_or_else(|| panic!("{}: unnamed write", path.display()));
                writes.insert(name.to_owned());
            }
        }
    }
    writes
}
