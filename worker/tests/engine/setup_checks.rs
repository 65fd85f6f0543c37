//! The leader's setup checks.

use std::time::Duration;

use bson::doc;
use dezky_shared::{platform::clock, upstream::Upstream};
use dezky_upstreams::clients::authentik::AuthentikConfig;

use crate::{
    admission::pause_upstream,
    harness::{Harness, until},
    upstreams::Upstreams,
};

async fn with_frequent_checks(upstreams: &Upstreams) -> Harness {
    let mut harness = Harness::with_upstreams(upstreams).await;
    harness.times.probe_every = Duration::from_millis(100);
    harness.times.setup_every = Duration::from_millis(100);
    harness
}

/// Stored problems of an upstream.
async fn problems(harness: &Harness, upstream: &str) -> Vec<String> {
    let statuses = harness.context.probes.list().await.unwrap();
    let status = statuses.into_iter().find(|status| status.name == upstream);
    status.map(|status| status.problems).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn problems_are_stored_until_they_are_mended() {
    let upstreams = Upstreams::start().await;
    let harness = with_frequent_checks(&upstreams).await;
    let leader = harness.leader();

    let found = until(
        async || problems(&harness, "authentik").await,
        |problems| !problems.is_empty(),
    )
    .await;
    upstreams.authentik.set_recovery_flow(true);
    until(
        async || problems(&harness, "authentik").await,
        Vec::is_empty,
    )
    .await;
    leader.stop().await;

    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("recovery flow: the brand has none"));
    assert_eq!(problems(&harness, "stalwart").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn problems_that_could_not_be_stored_are_stored_by_a_later_check_or_leader() {
    let upstreams = Upstreams::start().await;
    let harness = with_frequent_checks(&upstreams).await;
    let without = doc! { "problems.0": { "$exists": false } };
    harness.refuse_unless("probes", without).await;
    let leader = harness.leader();

    let checks = || {
        let requests = upstreams.authentik.server.faults.requests();
        requests.get("check_credentials").copied().unwrap_or(0)
    };
    until(async || checks(), |checks| *checks > 1).await;
    let refused = problems(&harness, "authentik").await;
    harness.refuse_unless("probes", doc! {}).await;
    let stored = async || problems(&harness, "authentik").await;
    let by_a_later_check = until(stored, |problems| !problems.is_empty()).await;
    leader.stop().await;
    let before = checks();
    let next = harness.leader();
    until(async || checks(), |checks| *checks > before + 1).await;
    next.stop().await;

    assert_eq!(refused, [""; 0]);
    assert_eq!(by_a_later_check.len(), 1, "{by_a_later_check:?}");
    assert_eq!(problems(&harness, "authentik").await, by_a_later_check);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_refuses_the_credentials_is_left_out() {
    let upstreams = Upstreams::start().await;
    let harness = with_frequent_checks(&upstreams).await;
    let context = &harness.context;
    let now = context.store.now();
    let fingerprint = upstreams
        .config()
        .authentik
        .as_ref()
        .map(AuthentikConfig::fingerprint);
    let fingerprint = fingerprint.unwrap();
    let registered = context
        .upstreams
        .register_credentials(Upstream::Authentik, &fingerprint, now);
    registered.await.unwrap();
    let probe_at = clock::later(now, Duration::from_hours(1));
    let refused = context
        .upstreams
        .mark_refused(Upstream::Authentik, &fingerprint, now, probe_at);
    refused.await.unwrap();
    upstreams.stalwart.withhold("sysDomainCreate");
    let leader = harness.leader();

    until(
        async || problems(&harness, "stalwart").await,
        |problems| !problems.is_empty(),
    )
    .await;
    leader.stop().await;

    let requests = upstreams.authentik.server.faults.requests();
    assert_eq!(requests.get("check_credentials"), None, "{requests:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_no_longer_checked_has_no_problems() {
    let upstreams = Upstreams::start().await;
    let harness = with_frequent_checks(&upstreams).await;
    let leader = harness.leader();
    let of_authentik = async || problems(&harness, "authentik").await;
    until(of_authentik, |problems| !problems.is_empty()).await;

    pause_upstream(&harness, Upstream::Authentik, true).await;
    until(of_authentik, Vec::is_empty).await;
    leader.stop().await;
}
