//! Merging of the findings of several resolvers.

use std::time::Duration;

use dezky_shared::domain::check::{CheckKind, CheckState, Dnssec};
use dezky_sim::dns::{DnsFault, DnsFaultRule, DnsSim};

use crate::cases::{
    DOMAIN, expectation, find, look, serve, serve_published, verifier, verifier_within,
};

const SPF: &str = "acme.test TXT v=spf1 mx -all";

fn fail(dns: &DnsSim, fault: DnsFault) {
    dns.fail(DnsFaultRule {
        name: None,
        kind: None,
        fault,
    });
}

#[tokio::test]
async fn every_resolver_is_queried_and_agreement_stores_no_details() {
    let (one, other) = (serve_published().await, serve_published().await);

    let check = look(&[&one, &other], &expectation(), CheckKind::Mx).await;

    assert_eq!(check.state, CheckState::Ok);
    assert!(check.resolvers.is_empty());
    assert!(!one.questions().is_empty());
    assert!(!other.questions().is_empty());
}

#[tokio::test]
async fn a_propagating_change_is_unknown_with_the_answer_of_each_resolver() {
    let (one, other) = (serve_published().await, serve_published().await);
    other.remove("acme.test", Some("MX")).unwrap();

    let check = look(&[&one, &other], &expectation(), CheckKind::Mx).await;

    assert_eq!(check.state, CheckState::Unknown);
    assert_eq!(check.code, "propagating");
    let answers: Vec<_> = check
        .resolvers
        .iter()
        .map(|it| (it.resolver.clone(), it.state))
        .collect();
    assert_eq!(
        answers,
        [
            (one.address.to_string(), CheckState::Ok),
            (other.address.to_string(), CheckState::Missing),
        ]
    );
}

#[tokio::test]
async fn ownership_that_one_resolver_does_not_see_is_not_verified() {
    let one = serve(&["_dezky.acme.test TXT dezky-verification=t0ken"]).await;
    let other = serve(&[]).await;

    let check = look(&[&one, &other], &expectation(), CheckKind::Ownership).await;

    assert_eq!(check.code, "propagating");
}

#[tokio::test]
async fn a_failing_resolver_is_outvoted_by_a_working_one() {
    for fault in [DnsFault::ServerFailure, DnsFault::Refused, DnsFault::Lame] {
        let (one, other) = (serve_published().await, serve_published().await);
        fail(&one, fault);

        let check = look(&[&one, &other], &expectation(), CheckKind::Mx).await;

        assert_eq!(check.code, "mx_ok");
        assert_eq!(check.found[0].value, "10 mail.provider.test");
        assert_eq!(check.resolvers.len(), 2);
        assert_eq!(check.resolvers[0].state, CheckState::Unknown);
    }
}

#[tokio::test]
async fn ownership_needs_every_resolver() {
    for (fault, code) in [
        (DnsFault::ServerFailure, "servfail"),
        (DnsFault::Refused, "refused"),
        (DnsFault::Bogus, "dnssec_bogus"),
    ] {
        let (one, other) = (serve_published().await, serve_published().await);
        fail(&other, fault);

        let check = look(&[&one, &other], &expectation(), CheckKind::Ownership).await;

        assert_eq!(check.state, CheckState::Unknown);
        assert_eq!(check.code, code);
        assert_eq!(check.resolvers[0].state, CheckState::Ok);
    }
}

#[tokio::test]
async fn a_silent_resolver_is_outvoted() {
    let (one, other) = (serve_published().await, serve_published().await);
    fail(&other, DnsFault::Silence);

    let checks = verifier_within(&[&one, &other], Duration::from_secs(1))
        .verify(&expectation())
        .await;

    let check = find(checks, CheckKind::Mx);
    assert_eq!(check.code, "mx_ok");
    assert_eq!(check.resolvers[1].code, "timeout");
}

#[tokio::test]
async fn a_missing_record_is_not_outvoted_by_a_failing_resolver() {
    let (one, other) = (serve(&[]).await, serve(&[]).await);
    fail(&other, DnsFault::ServerFailure);

    let check = look(&[&one, &other], &expectation(), CheckKind::Spf).await;

    assert_eq!(check.code, "spf_missing");
}

#[tokio::test]
async fn different_failures_are_unknown() {
    let (one, other) = (serve(&[]).await, serve(&[]).await);
    fail(&one, DnsFault::Refused);
    fail(&other, DnsFault::ServerFailure);

    let check = look(&[&one, &other], &expectation(), CheckKind::Spf).await;

    assert_eq!(check.state, CheckState::Unknown);
    assert_eq!(check.code, "refused");
    assert_eq!(check.resolvers.len(), 2);
}

#[tokio::test]
async fn a_validation_failure_takes_precedence_over_other_failures() {
    let (one, other) = (serve(&[SPF]).await, serve(&[SPF]).await);
    fail(&one, DnsFault::Refused);
    fail(&other, DnsFault::Bogus);

    let check = look(&[&one, &other], &expectation(), CheckKind::Spf).await;

    assert_eq!(check.code, "dnssec_bogus");
    assert_eq!(check.dnssec, Dnssec::Bogus);
}

#[tokio::test]
async fn a_validation_failure_of_one_resolver_is_shown() {
    let (one, other) = (serve_published().await, serve_published().await);
    fail(&other, DnsFault::Bogus);

    let check = look(&[&one, &other], &expectation(), CheckKind::Mx).await;

    assert_eq!(check.code, "mx_ok");
    assert_eq!(check.dnssec, Dnssec::Bogus);
}

#[tokio::test]
async fn the_worse_of_two_bad_answers_counts() {
    let one = serve(&[]).await;
    let other = serve(&["acme.test TXT v=spf1 oops"]).await;

    let check = look(&[&one, &other], &expectation(), CheckKind::Spf).await;

    assert_eq!(check.code, "spf_syntax");
    assert_eq!(check.found[0].value, "v=spf1 oops");
    assert_eq!(check.resolvers.len(), 2);
}

#[tokio::test]
async fn a_warning_takes_precedence_over_ok() {
    let one = serve_published().await;
    let other = serve_published().await;
    other.add("acme.test", "MX", "20 mx.other.test").unwrap();

    let check = look(&[&one, &other], &expectation(), CheckKind::Mx).await;

    assert_eq!(check.code, "mx_foreign_extra");
    assert_eq!(check.resolvers.len(), 2);
}

#[tokio::test]
async fn the_order_of_records_does_not_matter() {
    let records = [
        "acme.test MX 10 mail.provider.test",
        "acme.test MX 20 mx.other.test",
    ];
    let one = serve(&records).await;
    let other = serve(&[records[1], records[0]]).await;

    let check = look(&[&one, &other], &expectation(), CheckKind::Mx).await;

    assert!(check.resolvers.is_empty());
}

#[tokio::test]
async fn a_corrected_record_is_found_by_the_next_check() {
    let dns = serve(&[]).await;
    let expectation = expectation();
    let before = look(&[&dns], &expectation, CheckKind::Mx).await;
    dns.add(DOMAIN, "MX", "10 mail.provider.test").unwrap();

    let after = look(&[&dns], &expectation, CheckKind::Mx).await;

    assert_eq!(before.code, "mx_missing");
    assert_eq!(after.code, "mx_ok");
}

#[tokio::test]
async fn no_query_is_sent_twice_in_one_check() {
    let dns = serve_published().await;

    look(&[&dns], &expectation(), CheckKind::Mx).await;

    let mut asked = dns.questions();
    let all = asked.len();
    asked.sort_by_key(|question| (question.name.clone(), question.kind));
    asked.dedup();
    assert_eq!(asked.len(), all);
}

#[tokio::test]
async fn exactly_the_checks_of_a_removed_record_fail() {
    for (name, kind, broken) in [
        ("acme.test", "MX", CheckKind::Mx),
        ("acme.test", "TXT", CheckKind::Spf),
        ("r1._domainkey.acme.test", "TXT", CheckKind::Dkim),
        ("_dmarc.acme.test", "TXT", CheckKind::Dmarc),
        ("_dezky.acme.test", "TXT", CheckKind::Ownership),
        ("_mta-sts.acme.test", "TXT", CheckKind::MtaSts),
        ("_smtp._tls.acme.test", "TXT", CheckKind::TlsRpt),
        ("autoconfig.acme.test", "CNAME", CheckKind::Autoconfig),
        ("autodiscover.acme.test", "CNAME", CheckKind::Autodiscover),
    ] {
        let dns = serve_published().await;
        dns.remove(name, Some(kind)).unwrap();

        let checks = crate::cases::verifier(&[&dns]).verify(&expectation()).await;

        let off = checks.iter().filter(|check| check.state != CheckState::Ok);
        let off: Vec<_> = off.map(|check| (check.kind, check.state)).collect();
        let mut expected = vec![(broken, CheckState::Missing)];
        if broken == CheckKind::Mx {
            // The SPF record authorizes the MX hosts.
            expected.push((CheckKind::Spf, CheckState::Mismatch));
        }
        assert_eq!(off, expected);
    }
}

#[tokio::test]
async fn a_resolver_with_addresses_for_missing_names_fails_its_probe() {
    let (honest, rewriting) = (
        serve(&[]).await,
        serve(&["missing.invalid A 192.0.2.1"]).await,
    );
    let verifier = verifier(&[&honest, &rewriting]);

    let of_honest = verifier.probe(&honest.address.to_string()).await;
    let of_rewriting = verifier.probe(&rewriting.address.to_string()).await;

    assert_eq!(of_honest, Ok(()));
    let problem = of_rewriting.unwrap_err();
    assert!(problem.contains("names that do not exist"), "{problem}");
}
