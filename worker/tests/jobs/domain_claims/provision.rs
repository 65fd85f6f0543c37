//! Provisioning of an owned domain, and its expected DNS records.

use std::time::Duration;

use bson::{Document, doc};
use dezky_shared::{
    domain::{
        Domain, DomainStatus,
        check::{CheckKind, Record},
    },
    platform::clock,
    queue::{
        args::{ReconcileTenant, SetDmarc},
        error_code::{ErrorClass, ErrorCode},
        job::{Job, JobState},
        priority::Priority,
    },
    store::jobs::NewJob,
    tenant::{ConditionStatus, Tenant, reason},
};
use dezky_worker::steps::{Registry, StepFailure, StepSuccess, Steps};
use futures::FutureExt as _;

use super::condition;
use crate::{
    harness::{Harness, step, until},
    script::Single,
    world::World,
};

/// A tenant with a domain that is provisioned.
async fn provisioned() -> (World, Tenant, Domain) {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let claim = world.owned_domain(&tenant, "acme.test").await;
    world.completed(&world.provision_domain(&claim).await).await;
    (world, tenant, claim)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owned_domain_waits_for_its_keys_and_then_stores_its_expected_records() {
    let world = World::start().await;
    world.upstreams.stalwart.instant_dkim(false);
    let tenant = world.active_tenant("acme", &[]).await;
    let claim = world.owned_domain(&tenant, "acme.test").await;

    let job = world.completed(&world.provision_domain(&claim).await).await;

    assert!(job.snoozes > 0, "the domain exists before its keys");
    assert_eq!(job.attempt, 1, "a snooze is not charged");
    let claim = world.reload_claim(&claim).await;
    let kinds: Vec<&str> = claim
        .expected
        .iter()
        .map(|record| record.check.unwrap().name())
        .collect();
    assert_eq!(
        kinds,
        [
            "mx",
            "spf",
            "dkim",
            "dkim",
            "dmarc",
            "mta_sts",
            "mta_sts",
            "tls_rpt",
            "autoconfig",
            "autodiscover",
        ]
    );
    assert_eq!(of(&claim, CheckKind::Dmarc).value, "v=DMARC1; p=none");
    let key = &of(&claim, CheckKind::Dkim).value;
    assert!(
        key.starts_with("v=DKIM1; ") && !key.contains(['"', '(']),
        "{key}"
    );
    assert_eq!(
        condition(&claim, "Provisioned").status,
        ConditionStatus::True
    );
    assert_eq!(world.count_jobs("recheck_domain").await, 1);
    assert_eq!(world.upstreams.stalwart.domains(), ["acme.test"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_provisioned_for_an_unproven_claim() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let claim = world.claim(&tenant, "acme.test").await;

    let job = world.completed(&world.provision_domain(&claim).await).await;
    world.completed(&world.reconcile(tenant.id).await).await;

    assert_eq!(step(&job, "mail_domain").changes, [""; 0]);
    assert!(world.upstreams.stalwart.domains().is_empty());
    assert!(world.reload_claim(&claim).await.expected.is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_dmarc_policy_changes_the_expected_records_and_the_report_address() {
    let (world, tenant, claim) = provisioned().await;
    let before = world.reload_claim(&claim).await;
    let policy = doc! { "dmarc": { "policy": "reject", "rua": "reports@acme.test" } };
    world.change_claim(&claim, policy).await;

    let args = SetDmarc {
        tenant_id: tenant.id,
        domain_id: claim.id,
    };
    world.completed(&world.harness.enqueue(&args).await).await;

    let claim = world.reload_claim(&claim).await;
    assert_eq!(
        of(&claim, CheckKind::Dmarc).value,
        "v=DMARC1; p=reject; rua=mailto:reports@acme.test"
    );
    assert_eq!(
        of(&claim, CheckKind::TlsRpt).value,
        "v=TLSRPTv1; rua=mailto:reports@acme.test"
    );
    assert!(claim.expected_since > before.expected_since);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recreated_domain_has_new_keys_in_its_expected_records() {
    let (world, tenant, claim) = provisioned().await;
    world.until_idle().await;
    let before = world.reload_claim(&claim).await;
    world.purge_mail_domains(tenant.id).await;

    let dry = world.completed(&world.dry_run(tenant.id).await).await;
    let untouched = world.reload_claim(&claim).await;
    let jobs_after_dry_run = world.count_jobs("provision_domain").await;
    world.completed(&world.reconcile(tenant.id).await).await;
    world.until_idle().await;

    assert_eq!(step(&dry, "stalwart").changes, ["domain created"]);
    assert_eq!(untouched, before);
    assert_eq!(jobs_after_dry_run, 1);
    assert_eq!(world.upstreams.stalwart.domains(), ["acme.test"]);
    let after = world.reload_claim(&claim).await;
    assert_ne!(of(&after, CheckKind::Dkim), of(&before, CheckKind::Dkim));
    assert_eq!(of(&after, CheckKind::Mx), of(&before, CheckKind::Mx));
    assert!(after.expected_since > before.expected_since);
    world.stop().await;
}

/// As if the claim had waited for its keys for longer than the server needs.
async fn has_waited(world: &World, claim: &Domain) {
    let domains = world
        .harness
        .context
        .store
        .collection::<Document>("domains");
    let hour_ago = clock::earlier(world.harness.context.store.now(), Duration::from_hours(1));
    let waiting = doc! { "_id": claim.id, "conditions.reason": "UpstreamNotReady" };
    let since = doc! {
        "$set": { "conditions.$.lastTransitionAt": hour_ago },
        "$inc": { "revision": 1_i64 },
    };
    let has_waited = async || {
        let updated = domains.update_one(waiting.clone(), since.clone()).await;
        updated.unwrap().modified_count
    };
    until(has_waited, |&updated| updated == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_the_mail_server_lost_are_requested_again_after_a_minute() {
    let (world, tenant, claim) = provisioned().await;
    world.until_idle().await;
    let before = world.reload_claim(&claim).await;
    world.upstreams.stalwart.destroy_keys("acme.test");

    // The reconcile notices that the zone lacks them.
    let planned = world.completed(&world.dry_run(tenant.id).await).await;
    let applied = world.completed(&world.reconcile(tenant.id).await).await;
    let changes = ["domain acme.test differs"];
    for job in [&planned, &applied] {
        assert_eq!(step(job, "stalwart").changes, changes, "{job:#?}");
    }
    has_waited(&world, &claim).await;
    world.until_idle().await;

    assert_eq!(world.upstreams.stalwart.dkim_signatures().len(), 2);
    let jobs = world.harness.context.store.collection::<Job>("jobs");
    let provisioned = doc! { "kind": "provision_domain" };
    let latest = jobs.find_one(provisioned).sort(doc! { "_id": -1 });
    let job = latest.await.unwrap().unwrap();
    assert_eq!(job.state, JobState::Completed, "{job:#?}");
    assert_eq!(
        step(&job, "mail_domain").changes,
        ["missing DKIM keys requested again"]
    );
    assert_eq!(job.attempt, 1, "waiting is not charged");
    let after = world.reload_claim(&claim).await;
    assert_eq!(
        condition(&after, "Provisioned").status,
        ConditionStatus::True
    );
    assert_ne!(of(&after, CheckKind::Dkim), of(&before, CheckKind::Dkim));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_without_keys_shows_its_other_records_and_needs_attention() {
    let world = World::start().await;
    world.upstreams.stalwart.stop_dkim_tasks();
    let tenant = world.active_tenant("acme", &[]).await;
    let claim = world.owned_domain(&tenant, "acme.test").await;

    let job = world.provision_domain(&claim).await;
    has_waited(&world, &claim).await;
    let missing = until(
        async || world.reload_claim(&claim).await,
        |claim| condition(claim, "Provisioned").reason == "KeysMissing",
    )
    .await;
    let tenants = [tenant.id];
    let domains = &world.harness.context.domains;
    let counted = domains.count_by_status(&tenants).await.unwrap();
    world.upstreams.stalwart.resume_dkim_tasks();
    world.completed(&job).await;
    let complete = domains.count_by_status(&tenants).await.unwrap();

    assert_eq!(of(&missing, CheckKind::Mx).kind, "MX");
    let is_key = |record: &Record| record.check == Some(CheckKind::Dkim);
    assert!(!missing.expected.iter().any(is_key));
    assert_eq!(
        condition(&missing, "Provisioned").status,
        ConditionStatus::False
    );
    assert_eq!(counted[&tenant.id][&DomainStatus::Attention], 1);
    assert_eq!(complete[&tenant.id].get(&DomainStatus::Attention), None);
    let claim = world.reload_claim(&claim).await;
    assert_eq!(
        claim.expected.iter().filter(|it| is_key(it)).count(),
        2,
        "{:#?}",
        claim.expected
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconcile_provisions_only_domains_whose_records_changed() {
    let (world, tenant, claim) = provisioned().await;
    world.until_idle().await;
    let before = world.count_jobs("provision_domain").await;

    world.completed(&world.reconcile(tenant.id).await).await;
    let unchanged = world.count_jobs("provision_domain").await;
    let reports = doc! { "dmarc": { "policy": "none", "rua": "reports@acme.test" } };
    world.change_claim(&claim, reports).await;
    let dry = world.completed(&world.dry_run(tenant.id).await).await;
    let reconciled = world.completed(&world.reconcile(tenant.id).await).await;
    let changed = world.count_jobs("provision_domain").await;

    assert_eq!(unchanged, before);
    for job in [&dry, &reconciled] {
        assert_eq!(step(job, "stalwart").changes, ["report address set"]);
    }
    assert_eq!(changed, before + 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_nightly_reconcile_have_bulk_priority() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let claim = world.owned_domain(&tenant, "acme.test").await;
    world.completed(&world.provision_domain(&claim).await).await;
    world.until_idle().await;
    world.purge_mail_domains(tenant.id).await;

    let args = ReconcileTenant {
        tenant_id: tenant.id,
        dry_run: false,
    };
    let nightly = NewJob::new(&args, "test", world.harness.context.store.now());
    let nightly = nightly.unwrap().with_priority(Priority::Bulk);
    let nightly = world.harness.enqueue_new(&nightly).await;
    world.completed(&nightly).await;

    let by_lane = |priority| doc! { "kind": "provision_domain", "priority": priority };
    let jobs = world.harness.jobs();
    let bulk = jobs.count_documents(by_lane(Priority::Bulk)).await;
    let interactive = jobs.count_documents(by_lane(Priority::Interactive)).await;
    assert_eq!((bulk.unwrap(), interactive.unwrap()), (1, 1));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_domain_has_a_condition_and_does_not_affect_the_tenant() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let claim = world.owned_domain(&tenant, "acme.invalid-suffix").await;

    let job = world.provision_domain(&claim).await;
    let job = world.harness.finished(job.id).await;

    assert_eq!(job.state, JobState::Discarded);
    assert_eq!(job.error.unwrap().code, ErrorCode::DomainInvalid);
    let claim = world.reload_claim(&claim).await;
    let provisioned = condition(&claim, "Provisioned");
    assert_eq!(provisioned.status, ConditionStatus::False);
    assert_eq!(provisioned.reason, "DomainInvalid");
    assert_eq!(provisioned.class, Some(ErrorClass::UserAction));
    let now = world.tenant(tenant.id).await;
    assert_eq!(now.provisioning_status, tenant.provisioning_status);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_lost_the_lease_does_not_write_the_claim() {
    let harness = Harness::new().await;
    let tenant = harness.add_tenant("acme", &[]).await;
    let steps = Steps::parallel().step("work", async |run| {
        let jobs = run.ctx.store.collection::<bson::Document>("jobs");
        let stolen = doc! { "$set": { "lease.token": dezky_shared::id::LeaseToken::new() } };
        let this = doc! { "_id": run.job.id };
        jobs.update_one(this, stolen).await.unwrap();
        let written = run
            .fenced_transaction(&run, |session, run| {
                async move {
                    let trace = run.ctx.store.collection::<bson::Document>("trace");
                    trace.insert_one(doc! {}).session(session).await?;
                    Ok(())
                }
                .boxed()
            })
            .await;
        let refused = doc! { "refused": written.is_err() };
        let results = run.ctx.store.collection::<bson::Document>("results");
        results.insert_one(refused).await.unwrap();
        written?;
        Ok::<_, StepFailure>(StepSuccess::ok(reason::PROVISIONED, Vec::new()))
    });
    let worker = harness.worker_of("a", Registry::default().register::<Single>(steps), 1);

    harness.enqueue(&Single::of(&tenant)).await;
    let results = harness
        .context
        .store
        .collection::<bson::Document>("results");
    let result = crate::harness::until(
        async || results.find_one(doc! {}).await.unwrap(),
        Option::is_some,
    )
    .await;

    assert!(result.unwrap().get_bool("refused").unwrap());
    let trace = harness.context.store.collection::<bson::Document>("trace");
    assert_eq!(trace.count_documents(doc! {}).await.unwrap(), 0);
    worker.stop().await;
}

/// The first expected record of a check.
fn of(claim: &Domain, kind: CheckKind) -> &Record {
    let mut expected = claim.expected.iter();
    expected.find(|record| record.check == Some(kind)).unwrap()
}
