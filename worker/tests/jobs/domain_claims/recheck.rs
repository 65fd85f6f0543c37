//! DNS rechecks of claims: proven, lost to another tenant, verified, broken, inconclusive.

use std::time::Duration;

use dezky_shared::{
    domain::{
        Domain, DomainStatus,
        check::{Check, CheckKind, CheckState},
    },
    tenant::{ConditionStatus, Tenant},
};
use dezky_sim::dns::{DnsFault, DnsFaultRule};

use super::condition;
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_proven_claim_is_provisioned_and_verified_once_its_records_are_published() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let claim = world.claim(&tenant, "acme.test").await;

    world.completed(&world.recheck(&claim).await).await;
    let unproven = world.reload_claim(&claim).await;
    prove(&world, &claim);
    world.completed(&world.recheck(&claim).await).await;
    world.until_idle().await;
    let owned = world.reload_claim(&claim).await;
    publish(&world, &owned);
    world.completed(&world.recheck(&claim).await).await;

    assert!(!unproven.is_owned() && unproven.status == DomainStatus::Pending);
    assert_eq!(
        state_of(&unproven, CheckKind::Ownership),
        CheckState::Missing
    );
    assert!(owned.is_owned() && owned.status == DomainStatus::Pending);
    assert_eq!(state_of(&owned, CheckKind::Mx), CheckState::Missing);
    assert_eq!(condition(&owned, "Owned").status, ConditionStatus::True);
    assert_eq!(
        condition(&owned, "DnsInOrder").status,
        ConditionStatus::False
    );
    let verified = world.reload_claim(&claim).await;
    assert_eq!(
        verified.status,
        DomainStatus::Verified,
        "{:#?}",
        verified.checks
    );
    assert_eq!(
        condition(&verified, "DnsInOrder").status,
        ConditionStatus::True
    );
    assert!(verified.next_check_at > verified.checked_at);
    let tenant = world.tenant(tenant.id).await;
    assert_eq!(tenant.domains, ["acme.test"]);
    assert_eq!(tenant.stalwart_domain.as_deref(), Some("acme.test"));
    assert_eq!(world.upstreams.stalwart.domains(), ["acme.test"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_proven_claim_owns_the_name_and_the_others_are_lost() {
    let world = World::start().await;
    let mut claims = Vec::new();
    for slug in ["acme", "globex", "initech"] {
        let tenant = world.active_tenant(slug, &[]).await;
        let claim = world.claim(&tenant, "acme.test").await;
        prove(&world, &claim);
        claims.push(claim);
    }

    // All at the same time.
    let mut jobs = Vec::new();
    for claim in &claims {
        jobs.push(world.recheck(claim).await);
    }
    for job in &jobs {
        world.completed(job).await;
    }
    world.until_idle().await;

    let mut owners = Vec::new();
    for claim in &claims {
        let claim = world.reload_claim(claim).await;
        let owned = condition(&claim, "Owned");
        if claim.is_owned() {
            owners.push(claim.tenant_id);
            assert_eq!(world.audit_actions(&claim).await, ["domain.proved"]);
            assert_eq!(owned.status, ConditionStatus::True);
        } else {
            assert_eq!(claim.status, DomainStatus::Failed);
            assert_eq!(owned.status, ConditionStatus::False);
            assert_eq!(owned.reason, "TakenByAnother");
            assert_eq!(world.audit_actions(&claim).await, ["domain.lost"]);
        }
    }
    assert_eq!(owners.len(), 1, "{owners:?}");
    let stalwart = world.harness.context.clients.stalwart.as_ref().unwrap();
    let made = stalwart.find_domain("acme.test").await.unwrap().unwrap();
    assert!(made.belongs_to(&owners[0].to_string()));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminating_tenant_gains_no_domain_until_it_is_restored() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    let claim = world.claim(&tenant, "acme.test").await;
    prove(&world, &claim);
    let [freezing, _] = world.delete(tenant.id, Duration::from_hours(24)).await;
    world.completed(&freezing).await;

    world.completed(&world.recheck(&claim).await).await;
    let meanwhile = world.reload_claim(&claim).await;
    world.completed(&world.restore(tenant.id).await).await;
    world.completed(&world.recheck(&claim).await).await;

    assert!(!meanwhile.is_owned());
    assert_eq!(state_of(&meanwhile, CheckKind::Ownership), CheckState::Ok);
    assert!(world.reload_claim(&claim).await.is_owned());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_broken_record_is_reported() {
    let world = World::start().await;
    let (_, claim) = verified(&world).await;
    let dns = &world.upstreams.dns;
    dns.remove("_dmarc.acme.test", Some("TXT")).unwrap();

    world.completed(&world.recheck(&claim).await).await;

    let broken = world.reload_claim(&claim).await;
    assert_eq!(broken.status, DomainStatus::Attention);
    let bad: Vec<&Check> = broken
        .checks
        .iter()
        .filter(|check| check.state.is_bad())
        .collect();
    assert_eq!(bad.len(), 1, "{bad:#?}");
    assert_eq!(bad[0].kind, CheckKind::Dmarc);
    let news = &broken.history[claim.history.len()..];
    let news: Vec<(&str, &str)> = news
        .iter()
        .map(|entry| (entry.what.as_str(), entry.to.as_str()))
        .collect();
    assert_eq!(news, [("status", "attention"), ("dmarc", "missing")]);
    publish(&world, &broken);
    world.completed(&world.recheck(&claim).await).await;
    assert_eq!(
        world.reload_claim(&claim).await.status,
        DomainStatus::Verified
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_resolvers_do_not_degrade_a_domain_and_the_check_is_repeated_soon() {
    let world = World::start().await;
    let (_, claim) = verified(&world).await;
    world.upstreams.dns.fail(DnsFaultRule {
        name: None,
        kind: None,
        fault: DnsFault::ServerFailure,
    });

    world.completed(&world.recheck(&claim).await).await;

    let unknown = world.reload_claim(&claim).await;
    assert_eq!(unknown.status, DomainStatus::Verified);
    assert!(
        unknown
            .checks
            .iter()
            .all(|check| check.state == CheckState::Unknown)
    );
    assert_eq!(unknown.history, claim.history);
    assert_eq!(
        condition(&unknown, "DnsInOrder").status,
        ConditionStatus::Unknown
    );
    let wait = dezky_shared::platform::clock::until(
        unknown.checked_at.unwrap(),
        unknown.next_check_at.unwrap(),
    );
    assert!(wait.as_secs() <= 120, "{wait:?}");
    world.stop().await;
}

/// An active tenant with a verified domain.
async fn verified(world: &World) -> (Tenant, Domain) {
    let tenant = world.active_tenant("acme", &[]).await;
    let claim = world.owned_domain(&tenant, "acme.test").await;
    world.completed(&world.provision_domain(&claim).await).await;
    world.until_idle().await;
    publish(world, &world.reload_claim(&claim).await);
    world.completed(&world.recheck(&claim).await).await;
    let claim = world.reload_claim(&claim).await;
    assert_eq!(claim.status, DomainStatus::Verified, "{:#?}", claim.checks);
    (tenant, claim)
}

fn prove(world: &World, claim: &Domain) {
    let dns = &world.upstreams.dns;
    dns.publish(&[claim.ownership_record()]).unwrap();
}

/// Publishes the expected records and the address of the mail host.
fn publish(world: &World, claim: &Domain) {
    let dns = &world.upstreams.dns;
    dns.publish(&claim.expected).unwrap();
    dns.remove("mail.provider.test", None).unwrap();
    dns.add("mail.provider.test", "A", "192.0.2.25").unwrap();
}

fn state_of(claim: &Domain, kind: CheckKind) -> CheckState {
    let mut checks = claim.checks.iter();
    checks.find(|check| check.kind == kind).unwrap().state
}
