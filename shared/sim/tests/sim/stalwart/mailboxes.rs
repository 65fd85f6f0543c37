//! Mailboxes of members.

use dezky_upstreams::clients::{
    ClientError,
    stalwart::{Alias, DesiredMailbox, MailFreeze},
};
use secrecy::SecretString;
use serde_json::json;

use super::stalwart;

fn desired<'a>(domain_id: &'a str, aliases: &[&str]) -> DesiredMailbox<'a> {
    let aliases = aliases.iter().map(|name| Alias {
        name: (*name).to_owned(),
        domain_id: domain_id.to_owned(),
    });
    DesiredMailbox {
        name: "ada",
        domain_id,
        known_id: None,
        display_name: "Ada King",
        aliases: aliases.collect(),
        quota: 1_000_000,
    }
}

#[tokio::test]
async fn a_mailbox_is_created_once_and_repaired() {
    let (sim, client) = stalwart().await;
    let domain = sim.add_domain("acme.test", json!({}));
    let password = SecretString::from("correct horse battery");

    let new = desired(&domain, &[]);
    let created = client.ensure_mailbox(&new, Some(&password), &[]).await;
    let again = client.ensure_mailbox(&new, Some(&password), &[]).await;
    let changed = desired(&domain, &["lovelace", "countess"]);
    let repaired = client.ensure_mailbox(&changed, None, &[]).await.unwrap();
    let settled = client.ensure_mailbox(&changed, None, &[]).await.unwrap();

    let (created, again) = (created.unwrap(), again.unwrap());
    assert!(created.is_new && created.account.has_password());
    assert!(!again.is_new && again.changes.is_empty(), "{again:?}");
    assert_eq!(repaired.changes, ["aliases changed"]);
    assert!(settled.changes.is_empty(), "{settled:?}");
    let accounts = sim.accounts();
    assert_eq!(accounts.len(), 1);
    assert_eq!(
        accounts[0].aliases,
        ["lovelace@acme.test", "countess@acme.test"]
    );
    assert_eq!(accounts[0].quota, Some(1_000_000));
}

#[tokio::test]
async fn an_address_of_a_list_or_of_another_alias_is_a_conflict() {
    let (sim, client) = stalwart().await;
    let domain = sim.add_domain("acme.test", json!({}));
    sim.add_list("lovelace@acme.test", &["ada@acme.test"]);

    let own = desired(&domain, &[]);
    let own = client.ensure_mailbox(&own, None, &[]).await.unwrap_err();
    let alias = DesiredMailbox {
        name: "bob",
        ..desired(&domain, &["lovelace"])
    };
    let alias = client.ensure_mailbox(&alias, None, &[]).await.unwrap_err();

    for error in [own, alias] {
        assert!(matches!(error, ClientError::Conflict(_)), "{error}");
    }
    assert!(sim.accounts().is_empty());
}

#[tokio::test]
async fn a_mailbox_may_be_created_frozen_and_gets_a_password_later() {
    let (sim, client) = stalwart().await;
    let domain = sim.add_domain("acme.test", json!({}));
    let freezes = [MailFreeze::Tenant];

    let mailbox = desired(&domain, &[]);
    let created = client
        .ensure_mailbox(&mailbox, None, &freezes)
        .await
        .unwrap();
    let password = SecretString::from("correct horse battery");
    let set = client.set_mailbox_password(&created.account, &password);
    set.await.unwrap();
    let frozen = sim.accounts()[0].can_sign_in;
    let found = client.find_mailbox(&domain, "ada", None).await.unwrap();
    let found = found.unwrap();
    client
        .set_freezes(&found, &[], dezky_upstreams::clients::Mode::Apply)
        .await
        .unwrap();

    assert!(!created.account.has_password() && found.has_password());
    assert!(created.account.is_frozen_by(MailFreeze::Tenant));
    assert!(!frozen && sim.accounts()[0].can_sign_in);
}

#[tokio::test]
async fn a_destroyed_mailbox_is_gone_and_destroying_it_again_does_nothing() {
    let (sim, client) = stalwart().await;
    let domain = sim.add_domain("acme.test", json!({}));
    let mailbox = desired(&domain, &[]);
    let created = client.ensure_mailbox(&mailbox, None, &[]).await.unwrap();

    let first = client.destroy_mailbox(&created.account).await.unwrap();
    let second = client.destroy_mailbox(&created.account).await.unwrap();

    assert!(first && !second);
    assert!(sim.accounts().is_empty());
}

#[tokio::test]
async fn an_unlimited_quota_replaces_a_limit() {
    let (sim, client) = stalwart().await;
    let domain = sim.add_domain("acme.test", json!({}));
    let limited = desired(&domain, &[]);
    client.ensure_mailbox(&limited, None, &[]).await.unwrap();

    let unlimited = DesiredMailbox {
        quota: 0,
        ..limited
    };
    let changed = client.ensure_mailbox(&unlimited, None, &[]).await.unwrap();
    let settled = client.ensure_mailbox(&unlimited, None, &[]).await.unwrap();

    assert_eq!(changed.changes, ["quota of the mailbox changed"]);
    assert!(settled.changes.is_empty(), "{settled:?}");
    assert_eq!(sim.accounts()[0].quota, None);
}
