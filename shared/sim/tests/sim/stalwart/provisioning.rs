//! Provisioning of domains, and the client's limits.

use std::time::Duration;

use dezky_shared::{platform::clock, queue::error_code::ErrorCode};
use dezky_sim::{
    faults::{Fault, FaultRule},
    stalwart::StalwartSim,
};
use dezky_upstreams::clients::{
    ClientError, Ensured, LeaseDeadline, Mode,
    stalwart::{Domain, Login, Stalwart},
};
use futures::future::join_all;
use serde_json::json;

use super::{MARK, TENANT, client, stalwart};

/// Ensures the domain `acme.test` of the tenant.
async fn ensure(stalwart: &Stalwart, mode: Mode) -> Result<Ensured<Domain>, ClientError> {
    stalwart.ensure_domain("acme.test", TENANT, mode).await
}

#[tokio::test]
async fn ensuring_a_domain_twice_creates_one() {
    let (sim, stalwart) = stalwart().await;

    let made = stalwart
        .ensure_domain("ACME.test.", TENANT, Mode::Apply)
        .await
        .unwrap();
    let found = ensure(&stalwart, Mode::Apply).await.unwrap();

    assert_eq!(made.changes, ["domain created"]);
    assert!(found.changes.is_empty());
    assert_eq!(made.value, found.value);
    assert_eq!(made.value.unwrap().description.unwrap(), MARK);
    assert_eq!(sim.domains(), ["acme.test"]);
    assert_eq!(sim.server.effects.all().len(), 1);
}

#[tokio::test]
async fn a_domain_is_recognised_after_the_response_to_its_create_was_lost() {
    let (sim, stalwart) = stalwart().await;
    let lost = FaultRule::once("create_domain", Fault::AnswerLost);
    sim.server.faults.add(lost);

    let first = ensure(&stalwart, Mode::Apply).await;
    let second = ensure(&stalwart, Mode::Apply).await;

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

    let ensured =
        join_all((0..8).map(|_| stalwart.ensure_domain("acme.test", TENANT, Mode::Apply))).await;

    let ids: Vec<String> = ensured
        .into_iter()
        .map(|ensured| ensured.unwrap().value.unwrap().id)
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(sim.domains(), ["acme.test"]);
}

#[tokio::test]
async fn a_domain_created_between_read_and_write_is_adopted_if_it_has_the_marker() {
    let (sim, stalwart) = stalwart().await;
    sim.server.faults.add(FaultRule::once(
        "create_domain",
        Fault::SlowEffect { millis: 100 },
    ));

    let ensure = ensure(&stalwart, Mode::Apply);
    let other = async {
        while !sim.server.faults.requests().contains_key("create_domain") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        sim.add_domain("acme.test", json!({ "description": MARK }))
    };
    let (ensured, id) = tokio::join!(ensure, other);

    let ensured = ensured.unwrap();
    assert_eq!(ensured.value.unwrap().id, id);
    assert!(ensured.changes.is_empty());
    assert_eq!(sim.server.effects.count("create_domain"), 0);
}

#[tokio::test]
async fn a_lost_race_is_retried_later() {
    let (sim, stalwart) = stalwart().await;
    sim.lose_next_race();

    let first = ensure(&stalwart, Mode::Apply).await;
    let second = ensure(&stalwart, Mode::Apply).await;

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
        json!({ "description": "dezky:somebody-else" }),
    );
    sim.add_domain("plain.test", json!({}));

    for name in ["theirs.test", "plain.test"] {
        let ensured = stalwart.ensure_domain(name, TENANT, Mode::Apply).await;

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

    let ensured = stalwart
        .ensure_domain("alias.test", TENANT, Mode::Apply)
        .await;

    let Err(ClientError::Conflict(call)) = ensured else {
        panic!("{ensured:?}");
    };
    assert!(
        call.detail.contains("alias of acme.test"),
        "{}",
        call.detail
    );
    assert_eq!(stalwart.find_domain("alias.test").await.unwrap(), None);
}

#[tokio::test]
async fn an_invalid_mail_domain_requires_user_action() {
    let (sim, stalwart) = stalwart().await;

    for name in ["acme.example", "acme", "bücher.test", "a b.test"] {
        let ensured = stalwart.ensure_domain(name, TENANT, Mode::Apply).await;

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
    let ready_before = stalwart.dkim_ready(&id).await.unwrap();
    sim.server
        .faults
        .add(FaultRule::once("enable_dkim", Fault::AnswerLost));

    let dry = ensure(&stalwart, Mode::DryRun).await.unwrap();
    let lost = ensure(&stalwart, Mode::Apply).await;
    let ensured = ensure(&stalwart, Mode::Apply).await.unwrap();

    assert!(!ready_before);
    assert_eq!(dry.changes, ["automatic DKIM keys switched on"]);
    assert!(matches!(lost, Err(ClientError::AnswerLost(_))), "{lost:?}");
    assert!(ensured.changes.is_empty());
    assert_eq!(sim.server.effects.count("enable_dkim"), 1);
    assert!(stalwart.dkim_ready(&id).await.unwrap());
}

#[tokio::test]
async fn a_dry_run_reports_changes_without_making_them() {
    let (sim, stalwart) = stalwart().await;

    let ensured = ensure(&stalwart, Mode::DryRun).await.unwrap();

    assert_eq!(ensured.value, None);
    assert_eq!(ensured.changes, ["domain created"]);
    assert!(sim.domains().is_empty());
}

#[tokio::test]
async fn the_zone_is_complete_once_all_keys_exist() {
    let (sim, stalwart) = stalwart().await;
    sim.dkim_delay(Duration::from_millis(100));
    let ensured = ensure(&stalwart, Mode::Apply).await.unwrap();
    let id = ensured.value.unwrap().id;

    let ready_at_once = stalwart.dkim_ready(&id).await.unwrap();
    let ready = async {
        while !stalwart.dkim_ready(&id).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ready)
        .await
        .unwrap();
    let zone = stalwart.zone_file(&id).await.unwrap();

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

    let ensured = stalwart
        .with_deadline(&ended)
        .ensure_domain("acme.test", TENANT, Mode::Apply)
        .await;

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
        operation: Some("dkim_ready".into()),
        ..FaultRule::every(Fault::SlowAnswer { millis: 600 })
    });
    let trust = LeaseDeadline::until(clock::boot_time() + millis(300), Duration::ZERO, millis(1));
    let trusting = stalwart.with_deadline(&trust);

    // The lookup takes the fourth slot, which the fifth request then takes before the write.
    let (_, ensured, _) = tokio::join!(
        join_all((0..3).map(|_| stalwart.dkim_ready(&id))),
        trusting.ensure_domain("acme.test", TENANT, Mode::Apply),
        stalwart.dkim_ready(&id),
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
