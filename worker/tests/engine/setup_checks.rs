//! The leader's setup checks.

use std::time::Duration;

use dezky_shared::{platform::clock, upstream::Upstream};
use dezky_upstreams::clients::authentik::AuthentikConfig;

use crate::{
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
