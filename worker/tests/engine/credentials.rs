//! Refused credentials: all workers stop calling the upstream, and no job is lost.

use std::time::Duration;

use bson::{Document, doc};
use dezky_shared::{
    id::JobId,
    queue::{args::ProvisionTenant, error_code::ErrorCode, job::JobState},
    tenant::{ProvisioningState, Tenant, TenantStatus},
    upstream::Upstream,
};
use dezky_sim::faults::{Fault, FaultRule};
use dezky_upstreams::clients::authentik::AuthentikConfig;

use crate::{
    harness::{Harness, until},
    upstreams::Upstreams,
};

fn requests(upstreams: &Upstreams) -> u64 {
    upstreams.authentik.server.faults.requests().values().sum()
}

async fn until_deferred(harness: &Harness, jobs: &[(Tenant, JobId)]) {
    for (tenant, job) in jobs {
        harness
            .job_until(*job, |job| {
                job.state == JobState::Available
                    && job.steps.iter().filter(|step| step.state.is_done()).count() == 2
            })
            .await;
        let tenant = harness.tenant(tenant.id).await;
        let status = &tenant.provisioning_status;
        assert_eq!(status.authentik, ProvisioningState::Error);
        assert_eq!(
            (status.stalwart, status.ocis),
            (ProvisioningState::Ok, ProvisioningState::Ok)
        );
        let condition = tenant.condition(Upstream::Authentik).unwrap();
        assert_eq!(
            condition.reason,
            ErrorCode::UpstreamCredentialsRefused.reason()
        );
    }
}

async fn until_active(harness: &Harness, jobs: &[(Tenant, JobId)]) {
    for (tenant, job) in jobs {
        harness
            .tenant_until(tenant.id, |tenant| tenant.status == TenantStatus::Active)
            .await;
        let job = harness.finished(*job).await;
        assert_eq!(
            (job.state, job.attempt),
            (JobState::Completed, 1),
            "a deferred step is not charged"
        );
    }
}

fn refuse() -> FaultRule {
    FaultRule::every(Fault::Status {
        status: 401,
        retry_after: None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_refusal_stops_all_workers_and_a_single_job_probes() {
    let upstreams = Upstreams::start().await;
    let mut harness = Harness::with_upstreams(&upstreams).await;
    harness.times.hold_backoff = Duration::from_secs(4);
    upstreams.authentik.server.faults.add(refuse());
    let jobs = harness.add_provisioning(6).await;

    let slow = harness.worker_of("one", dezky_worker::jobs::registry(), 1);
    until_deferred(&harness, &jobs[..1]).await;
    let refusals = requests(&upstreams);
    let other = harness.worker_of("two", dezky_worker::jobs::registry(), 8);
    until_deferred(&harness, &jobs).await;
    let still = requests(&upstreams);
    // The probe is refused too: one more request, then all jobs are deferred again.
    let probed = until(async || requests(&upstreams), |count| *count > still).await;
    upstreams.authentik.server.faults.clear();
    until_active(&harness, &jobs).await;
    slow.stop().await;
    other.stop().await;

    assert_eq!((refusals, still), (1, 1), "no second request");
    assert_eq!(probed, 2, "a single job probes");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_credentials_release_all_jobs() {
    let upstreams = Upstreams::start().await;
    let mut harness = Harness::with_upstreams(&upstreams).await;
    harness.times.hold_backoff = Duration::from_hours(1);
    let right = harness.clients.authentik.clone().unwrap();
    harness.clients.authentik = Some(AuthentikConfig {
        api_token: "wrong".into(),
        ..right.clone()
    });
    let jobs = harness.add_provisioning(4).await;
    let worker = harness.worker();
    until_deferred(&harness, &jobs).await;
    worker.stop().await;
    let refused = requests(&upstreams);

    let same = harness.worker();
    harness.until_leader().await;
    let waiting = harness.job(jobs[0].1).await;
    same.stop().await;
    let still = requests(&upstreams);
    harness.clients.authentik = Some(right);
    let worker = harness.worker();
    until_active(&harness, &jobs).await;
    worker.stop().await;

    assert!(
        refused >= 1 && still == refused,
        "unchanged credentials are not probed again"
    );
    assert!(waiting.run_at > harness.context.store.now());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_without_requests_returns_its_credential_probe() {
    let upstreams = Upstreams::start().await;
    let mut harness = Harness::with_upstreams(&upstreams).await;
    harness.times.hold_backoff = Duration::from_hours(1);
    upstreams.stalwart.server.faults.add(refuse());
    let with_mail = harness.add_provisioning(1).await;
    let worker = harness.worker();
    harness
        .tenant_until(with_mail[0].0.id, |tenant| {
            tenant.provisioning_status.stalwart == ProvisioningState::Error
        })
        .await;

    let stalwart = async || {
        let known = harness.context.upstreams.list().await.unwrap();
        known
            .into_iter()
            .find(|health| health.upstream == Upstream::Stalwart)
            .unwrap()
    };
    let since = stalwart().await.refused_at;
    let health = harness.context.store.collection::<Document>("upstreams");
    let due = harness.context.store.now();
    let probe = doc! { "$set": { "probeAt": due } };
    health
        .update_one(doc! { "_id": Upstream::Stalwart.name() }, probe)
        .await
        .unwrap();
    let mut n = 0;
    while stalwart().await.probe_at == Some(due) {
        n += 1;
        assert!(n <= 50, "no job probes");
        let tenant = harness.add_tenant(&format!("plain-{n}"), &[]).await;
        let job = harness
            .enqueue(&ProvisionTenant {
                tenant_id: tenant.id,
            })
            .await;
        harness
            .job_until(job.id, |job| {
                job.steps.len() == 3 && job.state != JobState::Running
            })
            .await;
    }
    let still = stalwart().await.refused_at;
    // The probe is still available to a step with requests.
    upstreams.stalwart.server.faults.clear();
    let asking = harness.add_tenant("asking", &["asking.test"]).await;
    let tenant_id = asking.id;
    let job = harness.enqueue(&ProvisionTenant { tenant_id }).await;
    until_active(&harness, &[(asking, job.id)]).await;
    worker.stop().await;

    assert!(since.is_some());
    assert_eq!(still, since);
    assert_eq!(stalwart().await.refused_at, None);
}

#[tokio::test]
async fn a_result_with_old_credentials_does_not_affect_new_ones() {
    let harness = Harness::new().await;
    let (upstreams, now) = (&harness.context.upstreams, harness.context.store.now());
    let refused_at = async || {
        let health = upstreams.find(Upstream::Stalwart).await.unwrap();
        health.refused_at
    };
    upstreams
        .register_credentials(Upstream::Stalwart, "old", now)
        .await
        .unwrap();
    upstreams
        .register_credentials(Upstream::Stalwart, "new", now)
        .await
        .unwrap();

    upstreams
        .mark_refused(Upstream::Stalwart, "old", now, now)
        .await
        .unwrap();
    let by_old = refused_at().await;
    upstreams
        .mark_refused(Upstream::Stalwart, "new", now, now)
        .await
        .unwrap();
    let by_new = refused_at().await;
    let accepted = [
        upstreams
            .mark_accepted(Upstream::Stalwart, "old", now)
            .await
            .unwrap(),
        upstreams
            .mark_accepted(Upstream::Stalwart, "new", now)
            .await
            .unwrap(),
    ];

    assert_eq!((by_old, by_new), (None, Some(now)));
    assert_eq!(accepted, [false, true]);
}
