//! Removal of domains.

use dezky_shared::queue::error_code::ErrorCode;
use dezky_sim::{
    faults::{Fault, FaultRule},
    stalwart::StalwartSim,
};
use dezky_upstreams::clients::{
    ClientError, Mode,
    stalwart::{Removal, Stalwart},
};
use serde_json::json;
use tokio::time::Instant;

use super::{MARK, PASSWORD, TENANT, owned, stalwart};

fn ours(sim: &StalwartSim, name: &str) -> String {
    sim.add_domain(name, json!({ "description": MARK }))
}

/// Removes a domain if it is the tenant's. Returns the changes.
async fn remove(stalwart: &Stalwart, name: &str, mode: Mode) -> Result<Vec<String>, ClientError> {
    match owned(stalwart, name).await {
        Some(domain) => {
            let owned = stalwart.list_domains(TENANT, &[]).await?;
            let removed = stalwart.remove_domain(&domain, &owned, mode).await?;
            Ok(removed.changes)
        }
        None => Ok(Vec::new()),
    }
}

/// Purges a domain if it is the tenant's. Returns the changes.
async fn purge(stalwart: &Stalwart, name: &str, mode: Mode) -> Result<Vec<String>, ClientError> {
    let mut removal = Removal::default();
    if let Some(domain) = owned(stalwart, name).await {
        stalwart.purge_domain(&domain, mode, &mut removal).await?;
        assert!(removal.is_complete());
    }
    Ok(removal.changes())
}

/// A domain of the tenant with mailboxes and a list, and a foreign domain with addresses in it.
fn populate(sim: &StalwartSim) {
    ours(sim, "acme.test");
    sim.add_domain("other.test", json!({}));
    sim.add_account("ada@acme.test", PASSWORD, &["a@acme.test"], json!({}));
    sim.add_account("bob@acme.test", PASSWORD, &["bob@other.test"], json!({}));
    sim.add_list("team@acme.test", &[]);
    let aliases = ["eve@acme.test", "e@other.test", "e@acme.test"];
    sim.add_account("eve@other.test", PASSWORD, &aliases, json!({}));
    sim.add_list("all@other.test", &["all@acme.test"]);
}

#[tokio::test]
async fn an_unused_domain_is_removed_with_its_keys() {
    let (sim, stalwart) = stalwart().await;
    ours(&sim, "acme.test");

    let removed = remove(&stalwart, "acme.test", Mode::Apply).await.unwrap();
    let again = remove(&stalwart, "acme.test", Mode::Apply).await.unwrap();

    assert_eq!(removed, ["2 DKIM keys removed", "domain removed"]);
    assert!(again.is_empty());
    assert!(sim.domains().is_empty());
    assert!(sim.dkim_signatures().is_empty());
}

#[tokio::test]
async fn a_domain_in_use_is_not_removed() {
    for user in ["mailbox", "list", "alias of a mailbox elsewhere"] {
        let (sim, stalwart) = stalwart().await;
        ours(&sim, "acme.test");
        match user {
            "mailbox" => {
                sim.add_account("ada@acme.test", PASSWORD, &[], json!({}));
            }
            "list" => {
                sim.add_list("team@acme.test", &[]);
            }
            _ => {
                ours(&sim, "other.test");
                sim.add_account("eve@other.test", PASSWORD, &["eve@acme.test"], json!({}));
            }
        }

        let planned = remove(&stalwart, "acme.test", Mode::DryRun).await;
        let removed = remove(&stalwart, "acme.test", Mode::Apply).await;

        let error = removed.unwrap_err();
        assert_eq!(error.code(), ErrorCode::DomainInUse, "{user}");
        let planned = planned.unwrap_err();
        assert_eq!(planned.to_string(), error.to_string(), "{user}");
        let named = match user {
            "mailbox" => "ada@acme.test",
            "list" => "team@acme.test",
            _ => "eve@acme.test",
        };
        assert_eq!(error.call().detail, named);
        assert!(sim.server.effects.all().is_empty(), "{user}");
    }
}

#[tokio::test]
async fn a_foreign_domain_is_not_removed() {
    let (sim, stalwart) = stalwart().await;
    sim.add_domain(
        "theirs.test",
        json!({ "description": "dezky:another-tenant" }),
    );

    for name in ["theirs.test", "missing.test"] {
        let removed = remove(&stalwart, name, Mode::Apply).await.unwrap();
        let purged = purge(&stalwart, name, Mode::Apply).await.unwrap();

        assert!(removed.is_empty() && purged.is_empty());
    }
    assert_eq!(sim.domains(), ["theirs.test"]);
}

#[tokio::test]
async fn a_key_that_appears_while_the_others_are_removed_is_removed_too() {
    let (sim, stalwart) = stalwart().await;
    ours(&sim, "acme.test");
    sim.late_dkim_keys(2);

    let removed = remove(&stalwart, "acme.test", Mode::Apply).await.unwrap();

    assert_eq!(removed, ["4 DKIM keys removed", "domain removed"]);
    assert!(sim.dkim_signatures().is_empty());
}

#[tokio::test]
async fn a_domain_that_keeps_getting_keys_fails_the_attempt() {
    let (sim, stalwart) = stalwart().await;
    ours(&sim, "acme.test");
    sim.late_dkim_keys(u32::MAX);

    let removed = remove(&stalwart, "acme.test", Mode::Apply).await;

    assert!(
        matches!(removed, Err(ClientError::Conflict(_))),
        "{removed:?}"
    );
    assert_eq!(sim.server.faults.requests()["destroy_domain"], 5);
}

#[tokio::test]
async fn the_servers_own_domain_is_never_purged() {
    let (sim, stalwart) = stalwart().await;
    let name = StalwartSim::OWN_DOMAIN;
    let found = stalwart.find_domain(name).await.unwrap().unwrap();
    sim.describe_domain(name, MARK);

    let purged = purge(&stalwart, name, Mode::Apply).await;

    assert_eq!(found.description, None);
    assert!(
        matches!(purged, Err(ClientError::Conflict(_))),
        "{purged:?}"
    );
    assert!(sim.server.effects.all().is_empty());
    stalwart.check().await.unwrap();
}

#[tokio::test]
async fn a_purge_removes_the_domains_objects_and_only_aliases_of_others() {
    let (sim, stalwart) = stalwart().await;
    populate(&sim);

    let purged = purge(&stalwart, "acme.test", Mode::Apply).await.unwrap();

    assert_eq!(
        purged,
        [
            "2 accounts removed",
            "1 list removed",
            "3 aliases removed",
            "2 DKIM keys removed",
            "domain removed"
        ]
    );
    assert_eq!(sim.domains(), ["other.test"]);
    assert_eq!(sim.lists(), ["all@other.test"]);
    let accounts = sim.accounts();
    assert_eq!(accounts.len(), 1);
    assert_eq!(accounts[0].email, "eve@other.test");
    assert_eq!(accounts[0].aliases, ["e@other.test"]);
}

#[tokio::test]
async fn a_purge_continues_after_every_lost_response_without_repeating_effects() {
    let (sim, stalwart) = stalwart().await;
    populate(&sim);
    let writes = [
        "destroy_accounts",
        "remove_account_aliases",
        "destroy_lists",
        "remove_list_aliases",
        "destroy_dkim_signatures",
    ];
    for write in writes {
        sim.server
            .faults
            .add(FaultRule::once(write, Fault::AnswerLost));
    }

    for _ in writes {
        let lost = purge(&stalwart, "acme.test", Mode::Apply).await;
        assert!(matches!(lost, Err(ClientError::AnswerLost(_))), "{lost:?}");
    }
    // The first attempts to destroy the domain are rejected, so that its own response is lost only now.
    sim.server
        .faults
        .add(FaultRule::once("destroy_domain", Fault::AnswerLost));
    let lost = purge(&stalwart, "acme.test", Mode::Apply).await;
    let done = purge(&stalwart, "acme.test", Mode::Apply).await;

    assert!(matches!(lost, Err(ClientError::AnswerLost(_))), "{lost:?}");
    assert!(done.unwrap().is_empty());
    let effects = &sim.server.effects;
    assert_eq!(effects.count("destroy_accounts"), 2);
    assert_eq!(effects.count("destroy_dkim_signatures"), 2);
    for once in [
        "remove_account_aliases",
        "destroy_lists",
        "remove_list_aliases",
        "destroy_domain",
    ] {
        assert_eq!(effects.count(once), 1, "{once}");
    }
}

#[tokio::test]
async fn a_dry_run_removes_nothing() {
    let (sim, stalwart) = stalwart().await;
    populate(&sim);
    ours(&sim, "unused.test");

    let in_use = remove(&stalwart, "acme.test", Mode::DryRun).await;
    let unused = remove(&stalwart, "unused.test", Mode::DryRun)
        .await
        .unwrap();
    let purged = purge(&stalwart, "acme.test", Mode::DryRun).await.unwrap();

    assert_eq!(in_use.unwrap_err().code(), ErrorCode::DomainInUse);
    assert_eq!(unused, ["2 DKIM keys removed", "domain removed"]);
    assert_eq!(
        purged,
        [
            "2 accounts removed",
            "1 list removed",
            "2 DKIM keys removed",
            "domain removed"
        ]
    );
    assert!(sim.server.effects.all().is_empty());
}

#[tokio::test]
async fn a_purge_that_runs_out_of_time_leaves_the_rest_and_says_so() {
    let (sim, stalwart) = stalwart().await;
    ours(&sim, "acme.test");
    for number in 0..150 {
        sim.add_account(&format!("u{number}@acme.test"), PASSWORD, &[], json!({}));
    }
    let domain = owned(&stalwart, "acme.test").await.unwrap();

    let mut counts = Vec::new();
    loop {
        let mut removal = Removal::until(Instant::now());
        stalwart
            .purge_domain(&domain, Mode::Apply, &mut removal)
            .await
            .unwrap();
        counts.push((removal.found(), removal.removed(), sim.accounts().len()));
        if removal.is_complete() {
            break;
        }
    }

    assert_eq!(counts, [(150, 100, 50), (50, 50, 0), (0, 3, 0)]);
    assert!(sim.domains().is_empty());
}
