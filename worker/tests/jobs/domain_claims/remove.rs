//! Removal of domains, unused and in use.

use std::time::Duration;

use bson::doc;
use dezky_shared::{
    domain::{Domain, DomainStatus},
    id::DomainId,
    platform::clock,
    queue::{args::ReconcileTenant, error_code::ErrorCode, job::JobState},
    tenant::{ConditionStatus, Tenant, TenantStatus},
};
use serde_json::json;

use super::condition;
use crate::{harness::until, world::World};

#[tokio::test(flavor = "multi_thread")]
async fn an_unused_domain_is_removed_with_its_claim() {
    let world = World::start().await;
    let (tenant, claim) = provisioned(&world, "acme.test").await;
    let other = world.owned_domain(&tenant, "acme-mail.test").await;
    let rival = world.harness.add_tenant("globex", &[]).await;
    let rival = world.claim(&rival, "acme.test").await;
    let far = clock::later(rival.created_at, Duration::from_hours(24));
    world
        .change_claim(&rival, doc! { "nextCheckAt": far })
        .await;

    let job = world.completed(&world.remove_domain(&claim).await).await;

    assert_eq!(
        job.steps[0].changes,
        ["2 DKIM keys removed", "domain removed"]
    );
    assert!(world.upstreams.stalwart.domains().is_empty());
    assert!(world.upstreams.stalwart.dkim_signatures().is_empty());
    assert_eq!(world.find_claim(&claim).await, None);
    let tenant = world.tenant(tenant.id).await;
    assert_eq!(tenant.domains, ["acme-mail.test"]);
    assert_eq!(tenant.primary_domain.as_deref(), Some("acme-mail.test"));
    assert!(world.reload_claim(&other).await.primary);
    let rival = world.reload_claim(&rival).await;
    assert!(rival.next_check_at.unwrap() <= world.harness.context.store.now());
    assert_eq!(world.audit_actions(&claim).await, ["domain.removed"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_in_use_is_kept_and_lists_its_users() {
    let world = World::start().await;
    let (tenant, claim) = provisioned(&world, "acme.test").await;
    let mail = &world.upstreams.stalwart;
    world.add_mailbox("ada@acme.test");
    mail.add_list("team@acme.test", &[]);
    mail.add_list("news@provider.test", &["news@acme.test"]);

    let job = world.remove_domain(&claim).await;
    let job = world.harness.finished(job.id).await;
    world.until_idle().await;

    assert_eq!(job.state, JobState::Discarded);
    let error = job.error.unwrap();
    assert_eq!(error.code, ErrorCode::DomainInUse);
    assert_eq!(
        error.detail,
        "ada@acme.test, team@acme.test, news@acme.test"
    );
    let claim = world.reload_claim(&claim).await;
    assert!(!claim.removing);
    let removable = condition(&claim, "Removable");
    assert_eq!(removable.status, ConditionStatus::False);
    assert_eq!(
        removable.message,
        "The domain is still used by ada@acme.test, team@acme.test, news@acme.test. Remove them first, \
         then try again."
    );
    assert_eq!(mail.dkim_signatures().len(), 2, "mail is still signed");
    assert_eq!(world.tenant(tenant.id).await.domains, ["acme.test"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_revoked_by_an_operator_is_available_to_others_only_after_its_removal() {
    let world = World::start().await;
    let (tenant, claim) = provisioned(&world, "acme.test").await;
    let other = world.owned_domain(&tenant, "acme-mail.test").await;
    world.completed(&world.provision_domain(&other).await).await;
    world.add_mailbox("ada@acme.test");
    let rival = world.active_tenant("globex", &[]).await;
    let rival = world.claim(&rival, "acme.test").await;
    let dns = &world.upstreams.dns;
    dns.publish(&[rival.ownership_record()]).unwrap();

    let job = world.revoke_domain(&claim).await;
    let job = world.harness.finished(job.id).await;
    world.completed(&world.recheck(&rival).await).await;
    let in_use = world.reload_claim(&claim).await;
    let early = world.reload_claim(&rival).await;
    // The customer moves the mailbox to another domain.
    let stalwart = world.harness.context.clients.stalwart.as_ref().unwrap();
    let to = stalwart.find_domain("acme-mail.test").await.unwrap();
    let moved = json!({ "domainId": to.unwrap().id });
    let mail = &world.upstreams.stalwart;
    mail.change_account("ada@acme.test", moved);
    world.completed(&world.reconcile(tenant.id).await).await;
    world.until_idle().await;
    world.completed(&world.recheck(&rival).await).await;

    assert_eq!(job.error.unwrap().code, ErrorCode::DomainInUse);
    assert!(in_use.is_owned() && in_use.removing);
    let removable = condition(&in_use, "Removable");
    assert_eq!(removable.status, ConditionStatus::False);
    assert!(!early.is_owned());
    assert_eq!(condition(&early, "Owned").reason, "TakenByAnother");
    assert_eq!(world.find_claim(&claim).await, None);
    assert!(world.tenant(tenant.id).await.former_domains.is_empty());
    assert!(world.reload_claim(&rival).await.is_owned());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_whose_removal_is_revoked_meanwhile_is_provisioned_again() {
    let world = World::start().await;
    let (_, claim) = provisioned(&world, "acme.test").await;
    let mail = &world.upstreams.stalwart;
    let asked = || mail.server.faults.requests().values().sum::<u64>();
    let from = asked();

    // Slow enough to observe.
    mail.take_time(Duration::from_millis(200));
    let job = world.remove_domain(&claim).await;
    until(async || asked(), |&now| now > from).await;
    world.change_claim(&claim, doc! { "removing": false }).await;
    mail.take_time(Duration::ZERO);
    world.completed(&job).await;
    world.until_idle().await;

    assert!(world.reload_claim(&claim).await.is_owned());
    assert_eq!(mail.domains(), ["acme.test"]);
    assert_eq!(mail.dkim_signatures().len(), 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn owned_domains_are_refreshed_even_if_many_claims_precede_them() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let claim = world.claim(&tenant, "first.test").await;
    let domains = world.harness.context.store.collection::<Domain>("domains");
    let claims = (0..100).map(|n| Domain {
        id: DomainId::new(),
        name: format!("acme-{n}.test"),
        ..claim.clone()
    });
    domains.insert_many(claims).await.unwrap();
    let last = world.owned_domain(&tenant, "last.test").await;

    world.completed(&world.reconcile(tenant.id).await).await;
    world.until_idle().await;

    assert!(!world.reload_claim(&last).await.expected.is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_was_never_provisioned_is_removed() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let claim = world.claim(&tenant, "acme.test").await;

    world.completed(&world.remove_domain(&claim).await).await;

    assert_eq!(world.find_claim(&claim).await, None);
    world.stop().await;
}

/// The mailbox is created before each request of the removal in turn, and after the last.
#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_created_during_a_removal_is_not_orphaned() {
    let world = World::start().await;
    let mail = &world.upstreams.stalwart;
    let tenant = world.active_tenant("acme", &[]).await;
    let (mut kept, mut removed) = (0, 0);
    for round in 0..20 {
        let name = format!("acme-{round}.test");
        let claim = world.owned_domain(&tenant, &name).await;
        world.completed(&world.provision_domain(&claim).await).await;
        world.until_idle().await;
        let asked = || mail.server.faults.requests().values().sum::<u64>();
        let from = asked();

        // Slow enough to observe.
        mail.take_time(Duration::from_millis(25));
        let job = world.remove_domain(&claim).await;
        let after = from + round % 7;
        until(
            async || asked() >= after || world.harness.job(job.id).await.state.is_final(),
            |&now| now,
        )
        .await;
        let made = mail.make_mailbox(&format!("ada@{name}"));
        let job = world.harness.finished(job.id).await;
        mail.take_time(Duration::ZERO);
        world.until_idle().await;

        let domains = mail.domains();
        assert_eq!(domains.contains(&name), made, "round {round}: {job:#?}");
        assert_eq!(
            world.find_claim(&claim).await.is_some(),
            made,
            "round {round}"
        );
        for account in mail.accounts() {
            let domain = account.email.split_once('@').unwrap().1.to_owned();
            assert!(domains.contains(&domain), "round {round}: {account:?}");
        }
        if made {
            kept += 1;
            assert_eq!(job.error.unwrap().code, ErrorCode::DomainInUse);
            assert!(!world.reload_claim(&claim).await.removing);
            let keys = mail.dkim_signatures();
            let keys = keys.iter().filter(|key| key.domain == name);
            assert_eq!(keys.count(), 2, "round {round}: mail is signed");
        } else {
            removed += 1;
        }
    }

    assert!(kept > 0 && removed > 0, "{kept} kept, {removed} removed");
    world.stop().await;
}

/// As if the worker had crashed between the removal upstream and that of the claim.
#[tokio::test(flavor = "multi_thread")]
async fn a_reconcile_does_not_provision_a_domain_that_is_being_removed() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let claim = world.owned_domain(&tenant, "acme.test").await;
    world.change_claim(&claim, doc! { "removing": true }).await;

    let reconcile = ReconcileTenant {
        tenant_id: tenant.id,
        dry_run: false,
    };
    world
        .completed(&world.harness.enqueue(&reconcile).await)
        .await;
    world.until_idle().await;

    let effects = world.upstreams.stalwart.server.effects.all();
    let made = effects
        .iter()
        .filter(|effect| effect.operation == "create_domain");
    assert_eq!(made.count(), 0, "{effects:?}");
    assert_eq!(world.find_claim(&claim).await, None);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_removes_all_claims() {
    let world = World::start().await;
    let (tenant, claim) = provisioned(&world, "acme.test").await;
    let unproven = world.claim(&tenant, "acme-mail.test").await;
    let rival = world.harness.add_tenant("globex", &[]).await;
    let rival = world.claim(&rival, "acme.test").await;
    let no_time = doc! { "nextCheckAt": null };
    world.change_claim(&rival, no_time).await;

    for job in world.delete(tenant.id, Duration::ZERO).await {
        world.harness.finished(job.id).await;
    }
    world
        .harness
        .tenant_until(tenant.id, |tenant| {
            tenant.status == TenantStatus::Terminated
        })
        .await;
    world.until_idle().await;

    assert_eq!(world.find_claim(&claim).await, None);
    assert_eq!(world.find_claim(&unproven).await, None);
    let rival = world.reload_claim(&rival).await;
    assert!(
        rival.next_check_at.is_some(),
        "the rival claim is rechecked"
    );
    assert!(world.upstreams.stalwart.domains().is_empty());
    world.stop().await;
}

/// An active tenant with a provisioned domain.
async fn provisioned(world: &World, name: &str) -> (Tenant, Domain) {
    let tenant = world.active_tenant("acme", &[]).await;
    let claim = world.owned_domain(&tenant, name).await;
    world.completed(&world.provision_domain(&claim).await).await;
    world.until_idle().await;
    let claim = world.reload_claim(&claim).await;
    assert_ne!(claim.status, DomainStatus::Failed);
    (tenant, claim)
}
