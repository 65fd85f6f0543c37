//! Provisioning of domains, and the client's limits.

use std::time::Duration;

use dezky_shared::{platform::clock, queue::error_code::ErrorCode, upstream::MailDomain};
use dezky_sim::{
    faults::{Fault, FaultRule},
    stalwart::StalwartSim,
};
use dezky_upstreams::clients::{
    ClientError, LeaseDeadline, Mode,
    stalwart::{DesiredDomain, Login, Stalwart},
};
use futures::future::join_all;
use serde_json::json;

use super::{MARK, TENANT, client, ensure, ensure_known, owned, stalwart};

async fn has_all_keys(stalwart: &Stalwart, id: &str) -> bool {
    stalwart.zone(id).await.unwrap().has_all_keys
}

#[tokio::test]
async fn ensuring_a_domain_twice_creates_one() {
    let (sim, stalwart) = stalwart().await;

    let made = ensure(&stalwart, "ACME.test.", Mode::Apply).await.unwrap();
    let found = ensure(&stalwart, "acme.test", Mode::Apply).await.unwrap();

    assert_eq!(made.changes, ["domain created"]);
    assert!(found.changes.is_empty());
    let (made, found) = (made.value.unwrap(), found.value.unwrap());
    assert_eq!(made.id, found.id);
    assert_eq!(made.description.unwrap(), MARK);
    assert_eq!(sim.domains(), ["acme.test"]);
    assert_eq!(sim.server.effects.all().len(), 1);
}

#[tokio::test]
async fn a_domain_is_recognised_after_the_response_to_its_create_was_lost() {
    let (sim, stalwart) = stalwart().await;
    let lost = FaultRule::once("create_domain", Fault::AnswerLost);
    sim.server.faults.add(lost);

    let first = ensure(&stalwart, "acme.test", Mode::Apply).await;
    let second = ensure(&stalwart, "acme.test", Mode::Apply).await;

    assert!(
        matches!(first, Err(ClientError::AnswerLost(_))),
        "{first:?}"
    );
    assert!(second.unwrap().changes.is_empty());
    assert_eq!(sim.server.effects.count("create_domain"), 1);
}

#[tokio::test]
async fn eight_concurrent_ensures_create_one_domain() {
    let (sim, stalwart) = stalwart().await;

    let ensured = join_all((0..8).map(|_| ensure(&stalwart, "acme.test", Mode::Apply))).await;

    let ids: Vec<String> = ensured
        .into_iter()
        .map(|ensured| ensured.unwrap().value.unwrap().id)
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(sim.domains(), ["acme.test"]);
}

#[tokio::test]
async fn a_domain_created_between_read_and_write_is_repaired_if_it_has_the_marker() {
    let (sim, stalwart) = stalwart().await;
    sim.server.faults.add(FaultRule::once(
        "create_domain",
        Fault::SlowEffect { millis: 100 },
    ));

    let ensuring = ensure(&stalwart, "acme.test", Mode::Apply);
    let other = async {
        while !sim.server.faults.requests().contains_key("create_domain") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        sim.add_domain("acme.test", json!({ "description": MARK }))
    };
    let (ensured, id) = tokio::join!(ensuring, other);

    let ensured = ensured.unwrap();
    assert_eq!(ensured.value.unwrap().id, id);
    assert!(ensured.changes.is_empty());
    assert_eq!(sim.server.effects.count("create_domain"), 0);
}

#[tokio::test]
async fn a_lost_race_is_retried_later() {
    let (sim, stalwart) = stalwart().await;
    sim.lose_next_race();

    let first = ensure(&stalwart, "acme.test", Mode::Apply).await;
    let second = ensure(&stalwart, "acme.test", Mode::Apply).await;

    assert!(
        matches!(first, Err(ClientError::Unavailable(_))),
        "{first:?}"
    );
    assert_eq!(second.unwrap().changes, ["domain created"]);
}

#[tokio::test]
async fn a_domain_without_the_tenants_marker_is_a_conflict() {
    let (sim, stalwart) = stalwart().await;
    sim.add_domain(
        "theirs.test",
        json!({ "description": "dezky:another-tenant" }),
    );
    sim.add_domain("plain.test", json!({}));

    for name in ["theirs.test", "plain.test"] {
        let ensured = ensure(&stalwart, name, Mode::Apply).await;

        assert!(
            matches!(ensured, Err(ClientError::Conflict(_))),
            "{ensured:?}"
        );
    }
    assert!(sim.server.effects.all().is_empty());
}

#[tokio::test]
async fn an_alias_of_another_domain_is_a_conflict() {
    let (sim, stalwart) = stalwart().await;
    let extra = json!({ "description": MARK, "aliases": { "alias.test": true } });
    sim.add_domain("acme.test", extra);

    for mode in [Mode::DryRun, Mode::Apply] {
        let ensured = ensure(&stalwart, "alias.test", mode).await;

        let Err(ClientError::Conflict(call)) = ensured else {
            panic!("{ensured:?}");
        };
        assert!(
            call.detail.contains("alias of acme.test"),
            "{}",
            call.detail
        );
    }
    assert_eq!(stalwart.find_domain("alias.test").await.unwrap(), None);
}

#[tokio::test]
async fn an_invalid_mail_domain_requires_user_action() {
    let (sim, stalwart) = stalwart().await;

    for name in ["acme.example", "acme", "bücher.test", "a b.test"] {
        let ensured = ensure(&stalwart, name, Mode::Apply).await;

        assert_eq!(
            ensured.unwrap_err().code(),
            ErrorCode::DomainInvalid,
            "{name}"
        );
    }
    assert_eq!(sim.server.faults.requests()["create_domain"], 1);
}

#[tokio::test]
async fn manual_dkim_is_switched_back_to_automatic() {
    let (sim, stalwart) = stalwart().await;
    let extra = json!({ "description": MARK, "dkimManagement": { "@type": "Manual" } });
    let id = sim.add_domain("acme.test", extra);
    let ready_before = has_all_keys(&stalwart, &id).await;
    sim.server
        .faults
        .add(FaultRule::once("enable_dkim", Fault::AnswerLost));

    let dry = ensure(&stalwart, "acme.test", Mode::DryRun).await.unwrap();
    let lost = ensure(&stalwart, "acme.test", Mode::Apply).await;
    let ensured = ensure(&stalwart, "acme.test", Mode::Apply).await.unwrap();

    assert!(!ready_before);
    assert_eq!(dry.changes, ["automatic DKIM keys switched on"]);
    assert!(matches!(lost, Err(ClientError::AnswerLost(_))), "{lost:?}");
    assert!(ensured.changes.is_empty());
    assert_eq!(sim.server.effects.count("enable_dkim"), 1);
    assert!(has_all_keys(&stalwart, &id).await);
}

#[tokio::test]
async fn a_dry_run_reports_changes_without_making_them() {
    let (sim, stalwart) = stalwart().await;

    let ensured = ensure(&stalwart, "acme.test", Mode::DryRun).await.unwrap();

    assert_eq!(ensured.value, None);
    assert_eq!(ensured.changes, ["domain created"]);
    assert!(sim.domains().is_empty());
}

#[tokio::test]
async fn the_zone_is_complete_once_all_keys_exist() {
    let (sim, stalwart) = stalwart().await;
    sim.dkim_delay(Duration::from_millis(100));
    let ensured = ensure(&stalwart, "acme.test", Mode::Apply).await.unwrap();
    let id = ensured.value.unwrap().id;

    let ready_at_once = has_all_keys(&stalwart, &id).await;
    let ready = async {
        while !has_all_keys(&stalwart, &id).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ready)
        .await
        .unwrap();
    let zone = stalwart.zone(&id).await.unwrap().file;

    assert!(!ready_at_once);
    assert_eq!(sim.dkim_signatures().len(), 2);
    for part in [
        "k=ed25519",
        "k=rsa",
        "acme.test. IN MX 10 mail.provider.test.",
    ] {
        assert!(zone.contains(part), "{part}: {zone}");
    }
    let strings = zone.lines().filter_map(|line| line.strip_prefix("    "));
    let lengths: Vec<usize> = strings
        .map(|string| string.trim_matches('"').len())
        .collect();
    assert_eq!(lengths, [255, 165]);
}

#[tokio::test]
async fn at_most_four_requests_are_in_flight() {
    let (sim, stalwart) = stalwart().await;
    sim.limit_concurrency();
    sim.take_time(Duration::from_millis(20));

    let checks = join_all((0..20).map(|_| {
        let stalwart = stalwart.with_deadline(&LeaseDeadline::unlimited());
        async move { stalwart.check().await }
    }));

    for check in checks.await {
        check.unwrap();
    }
    assert_eq!(sim.most_in_flight(), 4);
}

#[tokio::test]
async fn exceeding_the_servers_concurrency_limit_is_a_short_wait() {
    let (sim, stalwart) = stalwart().await;
    sim.limit_concurrency();
    sim.take_time(Duration::from_millis(300));
    let other = client(&sim, Login::ApiKey(StalwartSim::TOKEN.to_owned().into()));

    let (ours, theirs) = tokio::join!(
        join_all((0..4).map(|_| stalwart.check())),
        join_all((0..4).map(|_| other.check())),
    );

    let refused: Vec<ClientError> = ours
        .into_iter()
        .chain(theirs)
        .filter_map(Result::err)
        .collect();
    assert!(!refused.is_empty());
    for error in refused {
        assert!(
            matches!(
                error,
                ClientError::RateLimited {
                    retry_after: None,
                    ..
                }
            ),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_write_after_the_lease_deadline_is_not_sent() {
    let (sim, stalwart) = stalwart().await;
    let second = Duration::from_secs(1);
    let ended = LeaseDeadline::until(clock::boot_time() + second, second, second);

    let ensured = ensure(&stalwart.with_deadline(&ended), "acme.test", Mode::Apply).await;

    assert!(
        matches!(ensured, Err(ClientError::LeaseExpiring(_))),
        "{ensured:?}"
    );
    assert!(!sim.server.faults.requests().contains_key("create_domain"));
}

#[tokio::test]
async fn a_write_whose_lease_deadline_passed_in_the_queue_is_not_sent() {
    let (sim, stalwart) = stalwart().await;
    let id = sim.add_domain(
        "acme.test",
        json!({ "description": MARK, "dkimManagement": { "@type": "Manual" } }),
    );
    let millis = Duration::from_millis;
    sim.server.faults.add(FaultRule {
        operation: Some("read_zone".into()),
        ..FaultRule::every(Fault::SlowAnswer { millis: 600 })
    });
    let trust = LeaseDeadline::until(clock::boot_time() + millis(300), Duration::ZERO, millis(1));
    let trusting = stalwart.with_deadline(&trust);

    // The lookup takes the fourth slot, which the fifth request then takes before the write.
    let (_, ensured, _) = tokio::join!(
        join_all((0..3).map(|_| stalwart.zone(&id))),
        ensure(&trusting, "acme.test", Mode::Apply),
        stalwart.zone(&id),
    );

    assert!(
        matches!(ensured, Err(ClientError::LeaseExpiring(_))),
        "{ensured:?}"
    );
    assert!(!sim.server.faults.requests().contains_key("enable_dkim"));
}

#[tokio::test]
async fn refused_credentials_are_classified_and_accepted_after_a_change() {
    let (sim, stalwart) = stalwart().await;

    sim.revoke_token();
    let refused = stalwart.check().await;
    sim.accept_token();
    let accepted = stalwart.check().await;

    assert!(
        matches!(refused, Err(ClientError::Credentials(_))),
        "{refused:?}"
    );
    accepted.unwrap();
}

#[tokio::test]
async fn a_ban_is_a_credentials_error_followed_by_unreachability() {
    let (sim, stalwart) = stalwart().await;
    sim.ban_after(1);
    sim.revoke_token();

    let failed = stalwart.check().await.unwrap_err();
    let banned = stalwart.check().await.unwrap_err();
    sim.accept_token();
    let silence = stalwart.check().await.unwrap_err();
    sim.lift_ban();

    assert_eq!(failed.call().status.unwrap(), 401);
    assert_eq!(banned.call().status.unwrap(), 429);
    assert_eq!(banned.code(), ErrorCode::UpstreamCredentialsRefused);
    assert!(
        matches!(silence, ClientError::Unavailable(_)),
        "{silence:?}"
    );
    stalwart.check().await.unwrap();
}

#[tokio::test]
async fn a_login_with_a_password_works() {
    let (sim, _) = stalwart().await;
    let login = |password: &str| Login::Password {
        user: StalwartSim::ADMIN.to_owned(),
        password: password.to_owned().into(),
    };

    client(&sim, login(StalwartSim::ADMIN_PASSWORD))
        .check()
        .await
        .unwrap();
    let refused = client(&sim, login("a-guess")).check().await;

    assert!(
        matches!(refused, Err(ClientError::Credentials(_))),
        "{refused:?}"
    );
}

fn known(id: &str, name: &str) -> MailDomain {
    MailDomain {
        id: id.to_owned(),
        name: name.to_owned(),
    }
}

#[tokio::test]
async fn a_renamed_domain_gets_its_name_back() {
    let (sim, stalwart) = stalwart().await;
    let id = sim.add_domain("acme.test", json!({ "description": MARK }));
    sim.change_domain("acme.test", json!({ "name": "renamed.test" }));
    let stored = [known(&id, "acme.test")];

    let dry = ensure_known(&stalwart, "acme.test", &stored, Mode::DryRun).await;
    let ensured = ensure_known(&stalwart, "acme.test", &stored, Mode::Apply).await;

    let changes = ["domain name restored"];
    assert_eq!(dry.unwrap().changes, changes);
    let ensured = ensured.unwrap();
    assert_eq!(ensured.changes, changes);
    assert_eq!(ensured.value.unwrap().id, id);
    assert_eq!(sim.domains(), ["acme.test"]);
}

#[tokio::test]
async fn a_renamed_domain_whose_name_was_taken_is_a_conflict() {
    let (sim, stalwart) = stalwart().await;
    let id = sim.add_domain("acme.test", json!({ "description": MARK }));
    sim.change_domain("acme.test", json!({ "name": "renamed.test" }));
    sim.add_domain("acme.test", json!({}));
    let stored = [known(&id, "acme.test")];

    for mode in [Mode::DryRun, Mode::Apply] {
        let ensured = ensure_known(&stalwart, "acme.test", &stored, mode).await;

        assert!(
            matches!(ensured, Err(ClientError::Conflict(_))),
            "{ensured:?}"
        );
    }
    assert_eq!(sim.server.effects.all(), []);
}

#[tokio::test]
async fn an_edited_description_of_a_known_domain_is_restored() {
    for description in [json!(null), json!(""), json!("Acme Ltd")] {
        let (sim, stalwart) = stalwart().await;
        let id = sim.add_domain("acme.test", json!({ "description": description }));
        let stored = [known(&id, "acme.test")];

        let ensured = ensure_known(&stalwart, "acme.test", &stored, Mode::Apply).await;

        assert_eq!(ensured.unwrap().changes, ["domain description restored"]);
        assert!(owned(&stalwart, "acme.test").await.is_some());
    }
}

/// A server that was restored from a backup, or set up anew, may give an id to another domain.
#[tokio::test]
async fn a_stored_id_that_denotes_another_domain_proves_nothing() {
    let (sim, stalwart) = stalwart().await;
    let plain = sim.add_domain("plain.test", json!({}));
    let theirs = json!({ "description": "dezky:0199bbbb-0000-7000-8000-000000000002" });
    let theirs = sim.add_domain("theirs.test", theirs);
    let stored = [known(&plain, "acme.test"), known(&theirs, "theirs.test")];

    let owned = stalwart.list_domains(TENANT, &stored).await.unwrap();

    assert_eq!(owned, []);
}

#[tokio::test]
async fn another_tenants_domain_is_not_listed() {
    let (sim, stalwart) = stalwart().await;
    let similar = format!("{MARK} (copy)");
    sim.add_domain("copy.test", json!({ "description": similar }));
    sim.add_domain("acme.test", json!({ "description": MARK }));

    let owned = stalwart.list_domains(TENANT, &[]).await.unwrap();

    let names: Vec<&str> = owned.iter().map(|domain| &*domain.name).collect();
    assert_eq!(names, ["acme.test"]);
}

#[tokio::test]
async fn a_dry_run_lists_the_changes_that_are_then_made() {
    let (sim, stalwart) = stalwart().await;
    sim.add_domain(
        "acme.test",
        json!({ "description": MARK, "dkimManagement": { "@type": "Manual" }, "reportAddressUri": null }),
    );
    let desired = DesiredDomain {
        name: "acme.test",
        tenant_id: TENANT,
        known_id: None,
        report_address: Some("reports@acme.test"),
    };
    let owned = stalwart.list_domains(TENANT, &[]).await.unwrap();

    let dry = stalwart.ensure_domain(&desired, &owned, Mode::DryRun).await;
    let effects = sim.server.effects.all().len();
    let ensured = stalwart.ensure_domain(&desired, &owned, Mode::Apply).await;

    let changes = dry.unwrap().changes;
    assert_eq!(
        changes,
        ["report address set", "automatic DKIM keys switched on"]
    );
    assert_eq!(ensured.unwrap().changes, changes);
    assert_eq!(effects, 0);
    let zone = stalwart.zone(&owned[0].id).await.unwrap();
    assert!(zone.has_all_keys && zone.file.contains("rua=mailto:reports@acme.test"));
}

#[tokio::test]
async fn keys_that_the_server_does_not_make_are_requested_again() {
    let (sim, stalwart) = stalwart().await;
    let ensured = ensure(&stalwart, "acme.test", Mode::Apply).await.unwrap();
    let id = ensured.value.unwrap().id;
    sim.destroy_keys("acme.test");

    let again = ensure(&stalwart, "acme.test", Mode::Apply).await.unwrap();
    let is_complete = has_all_keys(&stalwart, &id).await;
    stalwart.recreate_dkim(&id).await.unwrap();

    assert!(again.changes.is_empty() && !is_complete);
    assert!(has_all_keys(&stalwart, &id).await);
    assert_eq!(sim.dkim_signatures().len(), 2);
}

#[tokio::test]
async fn a_snapshot_contains_no_secrets() {
    let (sim, _) = stalwart().await;
    sim.add_domain("acme.test", json!({}));
    sim.add_account("ada@acme.test", super::PASSWORD, &[], json!({}));

    let snapshot = sim.snapshot().to_string();

    assert!(snapshot.contains("ada@acme.test"));
    for secret in [
        super::PASSWORD,
        StalwartSim::ADMIN_PASSWORD,
        "never a real key",
    ] {
        assert!(!snapshot.contains(secret), "{secret}");
    }
}
