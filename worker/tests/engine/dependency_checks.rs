//! Dependency checks by the leader.

use std::{collections::BTreeMap, time::Duration};

use dezky_shared::{
    dependency::{CheckResult, CheckState, Dependency, DependencyStatus},
    upstream::Upstream,
};
use dezky_sim::{
    dns::{DnsFault, DnsFaultRule},
    faults::{Fault, FaultRule},
};
use dezky_upstreams::circuit_breaker::RateBudget;

use crate::{
    harness::{Harness, until},
    upstreams::Upstreams,
};

/// Waits until the dependency statuses satisfy the predicate.
async fn statuses_until(
    harness: &Harness,
    is: impl Fn(&BTreeMap<String, DependencyStatus>) -> bool,
) -> BTreeMap<String, DependencyStatus> {
    let look = async || {
        let probes = harness.context.probes.list().await.unwrap();
        probes
            .into_iter()
            .map(|probe| (probe.id.clone(), probe))
            .collect::<BTreeMap<_, _>>()
    };
    until(look, is).await
}

fn outcomes(statuses: &BTreeMap<String, DependencyStatus>) -> Vec<(&str, CheckState)> {
    statuses
        .iter()
        .map(|(id, probe)| (id.as_str(), probe.outcome))
        .collect()
}

async fn with_frequent_checks(upstreams: &Upstreams) -> Harness {
    let mut harness = Harness::with_upstreams(upstreams).await;
    harness.times.probe_every = Duration::from_millis(100);
    harness
}

#[tokio::test(flavor = "multi_thread")]
async fn every_dependency_is_checked_and_fails_independently() {
    let upstreams = Upstreams::start().await;
    let harness = with_frequent_checks(&upstreams).await;
    let leader = harness.leader();

    let well = statuses_until(&harness, |statuses| statuses.len() == 7).await;
    upstreams.stalwart.server.faults.go_down();
    upstreams
        .ocis
        .server
        .faults
        .add(FaultRule::every(Fault::Status {
            status: 503,
            retry_after: None,
        }));
    upstreams.dns.fail(DnsFaultRule {
        name: None,
        kind: None,
        fault: DnsFault::Refused,
    });
    let failed = |statuses: &BTreeMap<String, DependencyStatus>| {
        let failed = statuses
            .values()
            .filter(|probe| probe.outcome == CheckState::Failed);
        failed.count()
    };
    // The probe under way when Stalwart went down fails in another way.
    let unreachable = |statuses: &BTreeMap<String, DependencyStatus>| {
        let error = statuses["upstream:stalwart"].error.as_ref();
        error.is_some_and(|error| error.ends_with("unreachable"))
    };
    let ill = statuses_until(&harness, |statuses| {
        failed(statuses) == 3 && unreachable(statuses)
    })
    .await;
    upstreams.stalwart.server.faults.clear();
    statuses_until(&harness, |statuses| failed(statuses) == 2).await;
    leader.stop().await;

    assert_eq!(
        outcomes(&well),
        [
            ("resolver:simulated", CheckState::Ok),
            ("store:mongodb", CheckState::Ok),
            ("store:redis", CheckState::Ok),
            ("upstream:authentik", CheckState::Ok),
            ("upstream:ocis", CheckState::Ok),
            ("upstream:stalwart", CheckState::Ok),
            ("upstream:stripe", CheckState::Ok),
        ]
    );
    for probe in well.values() {
        assert!(probe.latency_ms.is_some(), "{probe:?}");
        assert_eq!(probe.last_success_at, Some(probe.checked_at), "{probe:?}");
        assert_eq!(probe.error, None, "{probe:?}");
    }
    let error = |id: &str| ill[id].error.clone().unwrap_or_default();
    assert_eq!(
        error("upstream:stalwart"),
        "stalwart probe (connection refused): unreachable"
    );
    assert_eq!(
        error("upstream:ocis"),
        "ocis probe returned 503: unavailable"
    );
    assert_eq!(error("resolver:simulated"), "answered REFUSED");
    for id in ["upstream:stalwart", "upstream:ocis", "resolver:simulated"] {
        let probe = &ill[id];
        assert_eq!(probe.latency_ms, None, "{probe:?}");
        assert!(probe.last_success_at < Some(probe.checked_at), "{probe:?}");
        assert!(
            probe.last_success_at >= well[id].last_success_at,
            "{probe:?}"
        );
    }
    assert_eq!(ill["upstream:authentik"].outcome, CheckState::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dependency_check_needs_no_credentials_and_does_not_affect_the_breaker() {
    let upstreams = Upstreams::start().await;
    let harness = with_frequent_checks(&upstreams).await;
    upstreams.authentik.revoke_token();
    upstreams.ocis.reject_credentials(true);
    upstreams.stalwart.server.faults.go_down();
    let leader = harness.leader();

    let statuses = statuses_until(&harness, |statuses| statuses.len() == 7).await;
    let before = upstreams.authentik.server.faults.requests();
    until(
        async || upstreams.authentik.server.faults.requests()["probe"],
        |count| *count > before["probe"] + 8,
    )
    .await;
    leader.stop().await;

    assert_eq!(statuses["upstream:authentik"].outcome, CheckState::Ok);
    assert_eq!(statuses["upstream:ocis"].outcome, CheckState::Ok);
    assert_eq!(statuses["upstream:stalwart"].outcome, CheckState::Failed);
    let breakers = &harness.context.circuits;
    let stalwart = breakers
        .snapshot(Upstream::Stalwart, RateBudget::default())
        .await;
    assert_eq!((stalwart.failures, stalwart.open_for), (0, None));
    let known = harness.context.upstreams.list().await.unwrap();
    assert!(known.iter().all(|health| health.refused_at.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_dependency_is_reported_and_a_removed_one_is_deleted() {
    let mut harness = Harness::new().await;
    harness.times.probe_every = Duration::from_millis(100);
    let gone = Dependency::Resolver("192.0.2.1:53".to_owned());
    let now = harness.context.store.now();
    let finding = CheckResult::Failed("no answer".to_owned());
    harness
        .context
        .probes
        .upsert(&gone, &finding, now)
        .await
        .unwrap();
    let leader = harness.leader();

    let statuses = statuses_until(&harness, |statuses| {
        statuses.len() == 5 && !statuses.contains_key(&gone.to_string())
    })
    .await;
    leader.stop().await;

    assert_eq!(
        outcomes(&statuses),
        [
            ("store:mongodb", CheckState::Ok),
            ("store:redis", CheckState::Ok),
            ("upstream:authentik", CheckState::Disabled),
            ("upstream:ocis", CheckState::Disabled),
            ("upstream:stalwart", CheckState::Disabled),
        ]
    );
}
