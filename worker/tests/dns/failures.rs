//! Answers that say nothing about what is there.

use std::time::{Duration, Instant};

use dezky_shared::domain::check::{CheckKind, CheckState, Dnssec};
use dezky_sim::dns::{DnsFault, DnsFaultRule};

use crate::cases::{DOMAIN, expectation, find, look, serve_published, verifier, verifier_within};

fn rule(name: Option<&str>, kind: Option<&str>, fault: DnsFault) -> DnsFaultRule {
    DnsFaultRule {
        name: name.map(str::to_owned),
        kind: kind.map(str::to_owned),
        fault,
    }
}

/// Every check is unknown with this code when every question fails so.
async fn everything_is_unknown(fault: DnsFault, code: &str) {
    let dns = serve_published().await;
    dns.fail(rule(None, None, fault));

    let checks = verifier(&[&dns]).verify(&expectation()).await;

    assert_eq!(checks.len(), 10);
    for check in checks {
        assert_eq!(check.state, CheckState::Unknown, "{check:#?}");
        assert_eq!(check.code, code, "{check:#?}");
        assert!(check.found.is_empty());
    }
}

#[tokio::test]
async fn a_server_failure_is_unknown() {
    everything_is_unknown(DnsFault::ServerFailure, "servfail").await;
}

#[tokio::test]
async fn wrong_signatures_are_unknown_and_named() {
    everything_is_unknown(DnsFault::Bogus, "dnssec_bogus").await;
}

#[tokio::test]
async fn a_refusal_is_unknown() {
    everything_is_unknown(DnsFault::Refused, "refused").await;
}

#[tokio::test]
async fn a_referral_elsewhere_is_lame() {
    everything_is_unknown(DnsFault::Lame, "lame").await;
}

#[tokio::test]
async fn an_empty_answer_of_one_who_asked_nobody_is_lame() {
    everything_is_unknown(DnsFault::Clueless, "lame").await;
}

#[tokio::test]
async fn an_answer_cut_off_by_tcp_too_is_truncated() {
    everything_is_unknown(DnsFault::Truncated, "truncated").await;
}

#[tokio::test]
async fn another_response_code_is_malformed() {
    everything_is_unknown(DnsFault::FormatError, "malformed").await;
}

#[tokio::test]
async fn silence_ends_with_the_time_for_everything() {
    let dns = serve_published().await;
    dns.fail(rule(None, None, DnsFault::Silence));
    let start = Instant::now();

    let checks = verifier_within(&[&dns], Duration::from_millis(300))
        .verify(&expectation())
        .await;

    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(checks.iter().all(|check| check.code == "timeout"));
}

#[tokio::test]
async fn a_resolver_that_is_not_there_is_unknown() {
    let dns = serve_published().await;
    let verifier = verifier_within(&[&dns], Duration::from_millis(500));
    drop(dns);

    let check = verifier.verify_ownership(DOMAIN, "t0ken").await;

    assert_eq!(check.state, CheckState::Unknown);
}

#[tokio::test]
async fn one_name_that_fails_leaves_the_rest_known() {
    let dns = serve_published().await;
    let name = Some("_dmarc.acme.test");
    dns.fail(rule(name, None, DnsFault::ServerFailure));

    let checks = verifier(&[&dns]).verify(&expectation()).await;

    let unknown = checks.iter().filter(|check| check.state != CheckState::Ok);
    let kinds: Vec<_> = unknown.map(|check| (check.kind, check.state)).collect();
    assert_eq!(kinds, [(CheckKind::Dmarc, CheckState::Unknown)]);
}

#[tokio::test]
async fn a_failure_of_one_name_for_the_token_does_not_hide_it_at_the_other() {
    let dns = serve_published().await;
    dns.fail(rule(Some("acme.test"), None, DnsFault::Refused));

    let check = verifier(&[&dns]).verify_ownership(DOMAIN, "t0ken").await;

    assert_eq!(check.code, "ownership_ok");
}

#[tokio::test]
async fn a_failure_of_one_name_for_the_token_is_not_its_absence() {
    let dns = serve_published().await;
    dns.remove("_dezky.acme.test", None).unwrap();
    dns.fail(rule(Some("acme.test"), None, DnsFault::Refused));

    let check = verifier(&[&dns]).verify_ownership(DOMAIN, "t0ken").await;

    assert_eq!(check.code, "refused");
}

#[tokio::test]
async fn an_include_that_cannot_be_looked_up_is_a_temporary_error() {
    let dns = serve_published().await;
    dns.remove(DOMAIN, Some("TXT")).unwrap();
    dns.add(DOMAIN, "TXT", "v=spf1 mx include:other.test -all")
        .unwrap();
    dns.fail(rule(Some("other.test"), None, DnsFault::ServerFailure));

    let check = look(&[&dns], &expectation(), CheckKind::Spf).await;

    assert_eq!(check.code, "spf_temperror");
    assert_eq!(check.state, CheckState::Unknown);
    assert!(check.message.ends_with("other.test"), "{}", check.message);
}

#[tokio::test]
async fn mail_hosts_that_cannot_be_looked_up_are_a_temporary_error() {
    let dns = serve_published().await;
    dns.fail(rule(Some(DOMAIN), Some("MX"), DnsFault::Refused));

    let checks = verifier(&[&dns]).verify(&expectation()).await;

    assert_eq!(find(checks.clone(), CheckKind::Mx).code, "refused");
    assert_eq!(find(checks, CheckKind::Spf).code, "spf_temperror");
}

#[tokio::test]
async fn a_foreign_mail_host_that_cannot_be_looked_up_is_foreign_all_the_same() {
    let dns = serve_published().await;
    dns.remove(DOMAIN, Some("MX")).unwrap();
    dns.add(DOMAIN, "MX", "10 mx.other.test").unwrap();
    dns.fail(rule(Some("mx.other.test"), None, DnsFault::ServerFailure));

    let check = look(&[&dns], &expectation(), CheckKind::Mx).await;

    assert_eq!(check.code, "mx_elsewhere");
}

#[tokio::test]
async fn the_word_for_reports_that_cannot_be_looked_up_is_unknown() {
    let dns = serve_published().await;
    dns.remove("_dmarc.acme.test", None).unwrap();
    let record = "v=DMARC1; p=reject; rua=mailto:a@other.test";
    dns.add("_dmarc.acme.test", "TXT", record).unwrap();
    let name = Some("acme.test._report._dmarc.other.test");
    dns.fail(rule(name, None, DnsFault::Refused));

    let check = look(&[&dns], &expectation(), CheckKind::Dmarc).await;

    assert_eq!(check.code, "refused");
}

#[tokio::test]
async fn validated_answers_are_secure() {
    let dns = serve_published().await;
    dns.sign();

    let checks = verifier(&[&dns]).verify(&expectation()).await;

    assert!(checks.iter().all(|check| check.dnssec == Dnssec::Secure));
}

#[tokio::test]
async fn other_answers_are_insecure() {
    let dns = serve_published().await;

    let checks = verifier(&[&dns]).verify(&expectation()).await;

    assert!(checks.iter().all(|check| check.dnssec == Dnssec::Insecure));
}

#[tokio::test]
async fn wrong_signatures_are_bogus() {
    let dns = serve_published().await;
    dns.fail(rule(Some(DOMAIN), Some("MX"), DnsFault::Bogus));

    let check = look(&[&dns], &expectation(), CheckKind::Mx).await;

    assert_eq!(check.dnssec, Dnssec::Bogus);
}
