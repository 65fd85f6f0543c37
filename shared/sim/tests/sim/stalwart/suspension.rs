//! Suspending and resuming mailboxes.

use dezky_sim::{
    faults::{Fault, FaultRule},
    stalwart::StalwartSim,
};
use dezky_upstreams::clients::{
    ClientError, Mode,
    stalwart::{Access, AccessChange, Account, MailFreeze, Stalwart},
};
use serde_json::{Value, json};

use super::{MARK, PASSWORD, signs_in, stalwart};

const ADA: &str = "ada@acme.test";

/// A server with one mailbox that has these permissions.
async fn mailbox(permissions: Value) -> (StalwartSim, Stalwart, String) {
    let (sim, stalwart) = stalwart().await;
    let domain = sim.add_domain("acme.test", json!({ "description": MARK }));
    sim.add_account(ADA, PASSWORD, &[], json!({ "permissions": permissions }));
    (sim, stalwart, domain)
}

async fn only(stalwart: &Stalwart, domain: &str) -> Account {
    let mut accounts = stalwart.list_accounts(domain).await.unwrap();
    assert_eq!(accounts.len(), 1);
    accounts.remove(0)
}

/// Freezes the mailboxes of the domain, as listed now.
async fn freeze(
    stalwart: &Stalwart,
    domain: &str,
    mode: Mode,
) -> Result<AccessChange, ClientError> {
    let accounts = stalwart.list_accounts(domain).await?;
    stalwart
        .freeze_accounts(&accounts, MailFreeze::Tenant, mode)
        .await
}

/// Unfreezes the mailboxes of the domain, as listed now.
async fn unfreeze(
    stalwart: &Stalwart,
    domain: &str,
    mode: Mode,
) -> Result<AccessChange, ClientError> {
    let accounts = stalwart.list_accounts(domain).await?;
    stalwart
        .unfreeze_accounts(&accounts, MailFreeze::Tenant, mode)
        .await
}

fn permissions(sim: &StalwartSim) -> Value {
    let accounts = sim.snapshot()["accounts"].clone();
    let mut accounts = accounts.as_array().unwrap().iter();
    let ada = accounts.find(|account| account["emailAddress"] == ADA);
    ada.unwrap()["permissions"].clone()
}

#[tokio::test]
async fn a_resumed_mailbox_accepts_its_old_password() {
    let (sim, stalwart, domain) = mailbox(json!({ "@type": "Inherit" })).await;

    let frozen = freeze(&stalwart, &domain, Mode::Apply).await.unwrap();
    let while_frozen = signs_in(&sim, ADA).await;
    let listed = only(&stalwart, &domain).await;
    let unfrozen = unfreeze(&stalwart, &domain, Mode::Apply).await.unwrap();
    let afterwards = signs_in(&sim, ADA).await;

    assert_eq!(frozen.changes, ["mailbox ada@acme.test frozen"]);
    assert_eq!(while_frozen, 403);
    assert_eq!(listed.access(), Access::Frozen);
    assert_eq!(unfrozen.changes, ["mailbox ada@acme.test unfrozen"]);
    assert_eq!(afterwards, 200);
    assert_eq!(permissions(&sim), json!({ "@type": "Inherit" }));
}

#[tokio::test]
async fn suspending_and_resuming_are_idempotent() {
    let (sim, stalwart, domain) = mailbox(json!({ "@type": "Inherit" })).await;

    for _ in 0..2 {
        freeze(&stalwart, &domain, Mode::Apply).await.unwrap();
    }
    for _ in 0..2 {
        unfreeze(&stalwart, &domain, Mode::Apply).await.unwrap();
    }

    let requests = sim.server.faults.requests();
    assert_eq!(requests["freeze_account"], 1);
    assert_eq!(requests["unfreeze_account"], 1);
}

#[tokio::test]
async fn suspending_and_resuming_survive_lost_responses() {
    let (sim, stalwart, domain) = mailbox(json!({ "@type": "Inherit" })).await;
    for write in ["freeze_account", "unfreeze_account"] {
        sim.server
            .faults
            .add(FaultRule::once(write, Fault::AnswerLost));
    }

    let freeze_lost = freeze(&stalwart, &domain, Mode::Apply).await;
    let frozen = freeze(&stalwart, &domain, Mode::Apply).await;
    let unfreeze_lost = unfreeze(&stalwart, &domain, Mode::Apply).await;
    let unfrozen = unfreeze(&stalwart, &domain, Mode::Apply).await;

    for lost in [freeze_lost, unfreeze_lost] {
        assert!(matches!(lost, Err(ClientError::AnswerLost(_))), "{lost:?}");
    }
    assert!(frozen.unwrap().changes.is_empty());
    assert!(unfrozen.unwrap().changes.is_empty());
    assert_eq!(sim.server.effects.count_for("freeze_account", ADA), 1);
    assert_eq!(sim.server.effects.count_for("unfreeze_account", ADA), 1);
}

#[tokio::test]
async fn a_mailbox_suspended_before_its_tenant_stays_suspended_after_resuming() {
    let suspended = json!({
        "@type": "Merge", "enabledPermissions": {}, "disabledPermissions": { "authenticate": true },
    });
    let (sim, stalwart, domain) = mailbox(suspended.clone()).await;

    let frozen = freeze(&stalwart, &domain, Mode::Apply).await.unwrap();
    let unfrozen = unfreeze(&stalwart, &domain, Mode::Apply).await.unwrap();

    assert_eq!(only(&stalwart, &domain).await.access(), Access::Suspended);
    assert!(frozen.changes.is_empty() && unfrozen.changes.is_empty());
    assert_eq!(permissions(&sim), suspended);
    assert_eq!(signs_in(&sim, ADA).await, 403);
}

#[tokio::test]
async fn other_permission_overrides_survive_suspending() {
    let overrides = json!({
        "@type": "Merge",
        "enabledPermissions": { "impersonate": true },
        "disabledPermissions": { "emailSend": true },
    });
    let (sim, stalwart, domain) = mailbox(overrides.clone()).await;

    freeze(&stalwart, &domain, Mode::Apply).await.unwrap();
    let while_frozen = permissions(&sim);
    unfreeze(&stalwart, &domain, Mode::Apply).await.unwrap();

    assert_eq!(
        while_frozen["enabledPermissions"],
        overrides["enabledPermissions"]
    );
    assert_eq!(while_frozen["disabledPermissions"]["emailSend"], true);
    assert_eq!(permissions(&sim), overrides);
}

#[tokio::test]
async fn a_dry_run_suspends_nothing_and_a_missing_mailbox_is_not_an_error() {
    let (sim, stalwart, domain) = mailbox(json!({ "@type": "Inherit" })).await;
    let mut gone = only(&stalwart, &domain).await;
    "zzzz".clone_into(&mut gone.id);

    let dry = freeze(&stalwart, &domain, Mode::DryRun).await.unwrap();
    let missing = stalwart
        .freeze_accounts(&[gone], MailFreeze::Tenant, Mode::Apply)
        .await
        .unwrap();

    assert_eq!(dry.changes, ["mailbox ada@acme.test frozen"]);
    assert!(missing.changes.is_empty() && missing.failures.is_empty());
    assert_eq!(signs_in(&sim, ADA).await, 200);
}

#[tokio::test]
async fn many_mailboxes_are_suspended_by_one_call_after_one_read() {
    let (sim, stalwart, domain) = mailbox(json!({ "@type": "Inherit" })).await;
    for number in 0..50 {
        sim.add_account(&format!("u{number}@acme.test"), PASSWORD, &[], json!({}));
    }

    let frozen = freeze(&stalwart, &domain, Mode::Apply).await.unwrap();

    assert_eq!(frozen.changes.len(), 51);
    assert!(sim.accounts().iter().all(|account| !account.can_sign_in));
    let requests = sim.server.faults.requests();
    let requests: Vec<(&str, u64)> = requests.iter().map(|(name, n)| (&**name, *n)).collect();
    assert_eq!(requests, [("freeze_account", 1), ("list_accounts", 1)]);
}

#[tokio::test]
async fn a_mailbox_that_cannot_be_suspended_does_not_spare_the_others() {
    let (sim, stalwart, domain) = mailbox(json!({ "@type": "Inherit" })).await;
    sim.add_account("bob@acme.test", PASSWORD, &[], json!({}));
    // The server validates the whole account.
    let invalid = json!({ "quotas": { "maxDiskQuota": "much" } });
    sim.change_account("bob@acme.test", invalid);

    let frozen = freeze(&stalwart, &domain, Mode::Apply).await.unwrap();

    assert_eq!(frozen.changes, ["mailbox ada@acme.test frozen"]);
    assert!(matches!(frozen.failures[..], [ClientError::Rejected(_)]));
    assert_eq!(signs_in(&sim, ADA).await, 403);
    assert_eq!(signs_in(&sim, "bob@acme.test").await, 200);
}

#[tokio::test]
async fn a_key_without_the_permissions_of_a_mailbox_cannot_suspend_it() {
    let (sim, stalwart, domain) = mailbox(json!({ "@type": "Inherit" })).await;
    sim.withhold("imapAuthenticate");

    let frozen = freeze(&stalwart, &domain, Mode::Apply).await.unwrap();

    assert!(frozen.changes.is_empty());
    assert!(matches!(frozen.failures[..], [ClientError::Permission(_)]));
    assert_eq!(signs_in(&sim, ADA).await, 200);
}

#[tokio::test]
async fn every_mailbox_of_a_large_domain_is_listed_exactly_once() {
    let (sim, stalwart) = stalwart().await;
    let domain = sim.add_domain("acme.test", json!({}));
    sim.add_domain("other.test", json!({}));
    sim.add_account("eve@other.test", PASSWORD, &[], json!({}));
    for number in 0..501 {
        sim.add_account(&format!("u{number}@acme.test"), PASSWORD, &[], json!({}));
    }

    let accounts = stalwart.list_accounts(&domain).await.unwrap();

    let names: Vec<String> = accounts.into_iter().map(|account| account.name).collect();
    let expected: Vec<String> = (0..501).map(|number| format!("u{number}")).collect();
    assert_eq!(names, expected);
}
