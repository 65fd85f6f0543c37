//! Measurement of storage, of one tenant and of all, and allowances applied as quotas.

use std::time::Duration;

use bson::{Document, doc};
use dezky_shared::{
    billing::Plan,
    id::TenantId,
    queue::{
        args::{ApplyAllowance, MeasureAllStorage, MeasureStorage},
        job::{Job, JobState, StepState},
    },
    storage_report::{MailboxUsage, QuotaState, SpaceUsage},
    store::storage_reports::ReportPage,
    tenant::Tenant,
};
use dezky_sim::faults::{Fault, FaultRule};
use serde_json::json;

use crate::{
    harness::{step, until},
    world::World,
};

impl World {
    async fn measure(&self, tenant: TenantId) -> Job {
        let args = MeasureStorage { tenant_id: tenant };
        let job = self.harness.enqueue(&args).await;
        self.completed(&job).await
    }

    async fn measure_all(&self) -> Job {
        let job = self.harness.enqueue(&MeasureAllStorage {}).await;
        self.completed(&job).await
    }

    async fn report(&self, tenant: TenantId) -> ReportPage {
        let reports = &self.harness.context.storage_reports;
        reports.find_page(tenant, None, 100).await.unwrap()
    }

    /// Fills the tenant's space and one mailbox.
    fn fill(&self, tenant: &Tenant, files: i64, mailbox: &str, mail: i64) {
        let space = self.space(tenant).unwrap();
        self.upstreams
            .ocis
            .edit_space(&space.id, |space| space.used = files);
        self.add_mailbox(mailbox);
        let used = json!({ "usedDiskQuota": mail, "quotas": { "maxDiskQuota": 1_000 } });
        self.upstreams.stalwart.change_account(mailbox, used);
    }

    async fn set_allowance(&self, plan: Plan, fields: Document) {
        let context = &self.harness.context;
        let now = context.store.now();
        context.allowances.add_missing(now).await.unwrap();
        let allowances = context.store.collection::<Document>("allowances");
        let set = doc! { "$set": fields };
        allowances
            .update_one(doc! { "_id": plan }, set)
            .await
            .unwrap();
    }
}

fn space_of(report: &ReportPage) -> Option<SpaceUsage> {
    report.files.as_ref().and_then(|files| files.space)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tenant_is_measured_by_its_stored_ids_and_its_document_stays() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let other = world.active_tenant("globex", &["globex.test"]).await;
    world.fill(&tenant, 470_000_000_000, "ada@acme.test", 910);
    world.add_mailbox("bob@acme.test");
    world.fill(&other, 1, "eve@globex.test", 1);
    let before = world.tenant(tenant.id).await;

    world.measure(tenant.id).await;

    let report = world.report(tenant.id).await;
    let space = space_of(&report).unwrap();
    assert_eq!(space.total_bytes, 500_000_000_000);
    assert_eq!(space.state(), Some(QuotaState::Critical));
    let mailboxes: Vec<_> = report
        .mailboxes
        .iter()
        .map(
            |MailboxUsage {
                 address,
                 used_bytes,
                 quota_bytes,
                 ..
             }| (address.as_str(), *used_bytes, *quota_bytes),
        )
        .collect();
    assert_eq!(
        mailboxes,
        [("ada@acme.test", 910, 1_000), ("bob@acme.test", 0, 0)]
    );
    assert_eq!(report.mail.unwrap().used_bytes, 910);
    assert_eq!(world.report(other.id).await, ReportPage::default());
    assert_eq!(
        world
            .upstreams
            .ocis
            .server
            .faults
            .requests()
            .get("list_spaces"),
        None
    );
    assert_eq!(world.tenant(tenant.id).await, before);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_report_holds_the_mailboxes_after_an_address() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    for name in ["a", "b", "c"] {
        world.add_mailbox(&format!("{name}@acme.test"));
    }
    world.measure(tenant.id).await;

    let reports = &world.harness.context.storage_reports;
    let page = reports.find_page(tenant.id, Some("a@acme.test"), 1).await;

    let page = page.unwrap();
    assert_eq!(page.mailboxes.len(), 1);
    assert_eq!(page.mailboxes[0].address, "b@acme.test");
    assert_eq!(page.mail.unwrap().count, 3);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_domain_that_another_tenant_has_now_is_not_measured() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.add_mailbox("ada@acme.test");
    let other = TenantId::new();
    world
        .upstreams
        .stalwart
        .describe_domain("acme.test", &format!("dezky:{other}"));

    world.measure(tenant.id).await;

    assert_eq!(world.report(tenant.id).await.mail.unwrap().count, 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_without_space_and_domains_is_measured_as_nothing() {
    let world = World::start_with(|config, _| config.stalwart = None).await;
    let tenant = world.harness.add_tenant("acme", &[]).await;

    let job = world.measure(tenant.id).await;

    let report = world.report(tenant.id).await;
    assert!(report.as_of().is_some());
    assert_eq!(space_of(&report), None);
    assert_eq!(step(&job, "storage_mail").state, StepState::Skipped);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_mail_server_does_not_prevent_the_measurement_of_the_space() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let refused = Fault::Status {
        status: 400,
        retry_after: None,
    };
    let faults = &world.upstreams.stalwart.server.faults;
    faults.add(FaultRule::once("get_domain", refused));
    let args = MeasureStorage {
        tenant_id: tenant.id,
    };

    let job = world.harness.enqueue(&args).await;
    let job = world.harness.finished(job.id).await;

    assert_eq!(job.state, JobState::Discarded);
    let report = world.report(tenant.id).await;
    assert!(report.files.is_some() && report.mail.is_none());
    assert_eq!(report.as_of(), None);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_tenants_are_measured_with_one_list_of_spaces() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &["acme.test"]).await;
    let globex = world.active_tenant("globex", &["globex.test"]).await;
    world.fill(&acme, 11, "ada@acme.test", 1);
    world.fill(&globex, 22, "eve@globex.test", 2);
    world
        .upstreams
        .ocis
        .add_space("Private", "project/private", 99);

    world.measure_all().await;

    for (tenant, files, mail) in [(&acme, 11, 1), (&globex, 22, 2)] {
        let report = world.report(tenant.id).await;
        assert_eq!(space_of(&report).unwrap().used_bytes, Some(files));
        assert_eq!(report.mail.unwrap().used_bytes, mail);
    }
    let requests = world.upstreams.ocis.server.faults.requests();
    // One of project spaces, and one of personal ones.
    assert_eq!(requests.get("list_spaces"), Some(&2));
    let stored = world
        .harness
        .context
        .store
        .collection::<Document>("storage_reports");
    assert_eq!(stored.count_documents(doc! {}).await.unwrap(), 2);
    world.stop().await;
}

/// The failure of one tenant, in an attempt before the last, fails the measurement at its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_measurement_with_a_failure_before_its_last_attempt_is_not_complete() {
    let world = World::start_with(|_, times| times.yield_after = Duration::from_millis(500)).await;
    world.active_tenant("acme", &["acme.test"]).await;
    world.active_tenant("globex", &["globex.test"]).await;
    let refused = Fault::Status {
        status: 400,
        retry_after: None,
    };
    let faults = &world.upstreams.stalwart.server.faults;
    faults.add(FaultRule::once("get_domain", refused));
    faults.add(FaultRule::every(Fault::SlowAnswer { millis: 400 }));

    let job = world.harness.enqueue(&MeasureAllStorage {}).await;
    let job = world.harness.finished(job.id).await;

    assert!(job.snoozes > 0, "{job:#?}");
    assert_eq!(step(&job, "storage_mail").state, StepState::Error);
    assert_eq!(job.state, JobState::Discarded);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_space_that_two_tenants_store_is_measured_for_neither() {
    let world = World::start().await;
    let acme = world.active_tenant("acme", &[]).await;
    let globex = world.active_tenant("globex", &[]).await;
    let tenants = world
        .harness
        .context
        .store
        .collection::<Document>("tenants");
    let same = doc! { "$set": { "ocisSpaceId": acme.ocis_space_id.as_ref() } };
    tenants
        .update_one(doc! { "_id": globex.id }, same)
        .await
        .unwrap();

    world.measure_all().await;

    for tenant in [&acme, &globex] {
        assert_eq!(space_of(&world.report(tenant.id).await), None);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_allowance_reaches_the_tenants_of_its_plan_through_their_own_jobs() {
    let world = World::start().await;
    let changed = world.active_tenant("acme", &[]).await;
    let other = world.active_tenant("globex", &[]).await;
    let tenants = world
        .harness
        .context
        .store
        .collection::<Document>("tenants");
    let starter = doc! { "$set": { "plan": "starter" } };
    tenants
        .update_one(doc! { "_id": other.id }, starter)
        .await
        .unwrap();
    world
        .set_allowance(Plan::Business, doc! { "filesBytes": 7_i64 })
        .await;
    let plan = Plan::Business;

    let job = world.harness.enqueue(&ApplyAllowance { plan }).await;
    let job = world.completed(&job).await;
    world.until_idle().await;

    assert_eq!(job.progress.unwrap().done, 1);
    let quota = |tenant: &Tenant| world.space(tenant).unwrap().quota;
    assert_eq!((quota(&changed), quota(&other)), (7, 500_000_000_000));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlimited_allowance_is_zero_and_a_negative_one_is_never_sent() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    for stored in [0, -1_i64] {
        world
            .set_allowance(Plan::Business, doc! { "filesBytes": stored })
            .await;

        world.completed(&world.reconcile(tenant.id).await).await;

        let space = world.space(&tenant).unwrap();
        assert_eq!((space.quota, space.vanished), (0, false), "{stored}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_measurement_does_not_replace_a_newer_one() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let newer = doc! { "$set": { "files": { "asOf": bson::DateTime::MAX } } };
    let stored = world
        .harness
        .context
        .store
        .collection::<Document>("storage_reports");
    let one = doc! { "_id": tenant.id };
    stored.update_one(one, newer).upsert(true).await.unwrap();

    world.measure_all().await;

    let kept = until(
        async || world.report(tenant.id).await,
        |report| report.files.is_some(),
    )
    .await;
    assert_eq!(space_of(&kept), None);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_of_a_terminated_tenant_is_deleted() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.add_mailbox("ada@acme.test");
    world.measure(tenant.id).await;

    for job in world.delete(tenant.id, Duration::ZERO).await {
        world.completed(&job).await;
    }
    world.measure(tenant.id).await;

    assert_eq!(world.report(tenant.id).await, ReportPage::default());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_quotas_reach_members_who_are_in_sync() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    let member = world.provisioned_member(&tenant, "ada").await;
    let own = world.provisioned_member(&tenant, "bob").await;
    world
        .change_member(own.id, |member| {
            member.mailbox.as_mut().unwrap().quota_bytes = Some(9_000_000);
        })
        .await;
    world.completed(&world.update_member(&own).await).await;
    let space = world.upstreams.ocis.sign_in("ada@acme.test").unwrap();
    world.measure_all().await;
    let plan = Plan::Business;
    let quotas = doc! { "mailboxBytes": 5_000_000_i64, "memberFilesBytes": 7_000_000_i64 };
    world.set_allowance(plan, quotas).await;

    let job = world.harness.enqueue(&ApplyAllowance { plan }).await;
    world.completed(&job).await;
    world.until_idle().await;

    let mail = &world.upstreams.stalwart;
    let quota_of = |email: &str| {
        let accounts = mail.accounts().into_iter();
        let mut accounts = accounts.filter(|account| account.email == email);
        accounts.next().unwrap().quota
    };
    assert_eq!(quota_of("ada@acme.test"), Some(5_000_000));
    assert_eq!(quota_of("bob@acme.test"), Some(9_000_000));
    assert_eq!(world.upstreams.ocis.quota(&space), Some(7_000_000));
    let seen = world.member(member.id).await.personal_space.unwrap();
    assert_eq!(seen.usage.total_bytes, 7_000_000);

    // In sync: another reconcile changes nothing.
    let effects = world.effects().len();
    world.completed(&world.reconcile(tenant.id).await).await;
    world.until_idle().await;
    assert_eq!(world.effects().len(), effects);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_personal_space_of_a_user_who_existed_before_is_neither_measured_nor_limited() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &["acme.test"]).await;
    world.upstreams.ocis.add_account("ada@acme.test");
    let space = world.upstreams.ocis.sign_in("ada@acme.test").unwrap();
    let quota = doc! { "memberFilesBytes": 7_i64 };
    world.set_allowance(Plan::Business, quota).await;

    let member = world.provisioned_member(&tenant, "ada").await;
    world.measure_all().await;
    world.completed(&world.reconcile(tenant.id).await).await;
    world.until_idle().await;

    assert_eq!(world.upstreams.ocis.quota(&space), Some(0));
    assert_eq!(world.member(member.id).await.personal_space, None);
    world.stop().await;
}
