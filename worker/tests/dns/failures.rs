//! Failed lookups, and responses that need interpretation.

use std::time::{Duration, Instant};

use dezky_shared::domain::check::{CheckKind, CheckState, Dnssec};
use dezky_sim::dns::{DnsFault, DnsFaultRule};
use dezky_worker::dns::DnsConfig;

use crate::cases::{
    DOMAIN, expectation, find, look, serve, serve_published, verifier, verifier_within,
};

fn rule(name: Option<&str>, kind: Option<&str>, fault: DnsFault) -> DnsFaultRule {
    DnsFaultRule {
        name: name.map(str::to_owned),
        kind: kind.map(str::to_owned),
        fault,
    }
}

/// Every check is unknown with this code if every query fails.
async fn assert_everything_unknown(fault: DnsFault, code: &str) {
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
    assert_everything_unknown(DnsFault::ServerFailure, "servfail").await;
}

#[tokio::test]
async fn failed_validation_is_unknown() {
    assert_everything_unknown(DnsFault::Bogus, "dnssec_bogus").await;
}

#[tokio::test]
async fn a_refusal_is_unknown() {
    assert_everything_unknown(DnsFault::Refused, "refused").await;
}

#[tokio::test]
async fn a_referral_is_lame() {
    assert_everything_unknown(DnsFault::Lame, "lame").await;
}

#[tokio::test]
async fn an_empty_answer_without_recursion_is_lame() {
    assert_everything_unknown(DnsFault::Clueless, "lame").await;
}

#[tokio::test]
async fn a_truncated_tcp_answer_is_unknown() {
    assert_everything_unknown(DnsFault::Truncated, "truncated").await;
}

#[tokio::test]
async fn another_response_code_is_unknown() {
    assert_everything_unknown(DnsFault::FormatError, "malformed").await;
}

#[tokio::test]
async fn silence_ends_with_the_time_limit() {
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
async fn an_unreachable_resolver_is_unknown() {
    let dns = serve_published().await;
    let verifier = verifier_within(&[&dns], Duration::from_millis(500));
    drop(dns);

    let check = verifier.verify_ownership(DOMAIN, "t0ken").await;

    assert_eq!(check.state, CheckState::Unknown);
}

#[tokio::test]
async fn a_failing_name_does_not_affect_other_checks() {
    let dns = serve_published().await;
    let name = Some("_dmarc.acme.test");
    dns.fail(rule(name, None, DnsFault::ServerFailure));

    let checks = verifier(&[&dns]).verify(&expectation()).await;

    let unknown = checks.iter().filter(|check| check.state != CheckState::Ok);
    let kinds: Vec<_> = unknown.map(|check| (check.kind, check.state)).collect();
    assert_eq!(kinds, [(CheckKind::Dmarc, CheckState::Unknown)]);
}

#[tokio::test]
async fn a_failure_at_one_token_name_does_not_hide_the_other() {
    let dns = serve_published().await;
    dns.fail(rule(Some("acme.test"), None, DnsFault::Refused));

    let check = verifier(&[&dns]).verify_ownership(DOMAIN, "t0ken").await;

    assert_eq!(check.code, "ownership_ok");
}

#[tokio::test]
async fn a_failure_at_one_token_name_is_unknown() {
    let dns = serve_published().await;
    dns.remove("_dezky.acme.test", None).unwrap();
    dns.fail(rule(Some("acme.test"), None, DnsFault::Refused));

    let check = verifier(&[&dns]).verify_ownership(DOMAIN, "t0ken").await;

    assert_eq!(check.code, "refused");
}

#[tokio::test]
async fn a_failing_include_is_a_temporary_error() {
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
async fn failing_mx_lookups_are_a_temporary_spf_error() {
    let dns = serve_published().await;
    dns.fail(rule(Some(DOMAIN), Some("MX"), DnsFault::Refused));

    let checks = verifier(&[&dns]).verify(&expectation()).await;

    assert_eq!(find(checks.clone(), CheckKind::Mx).code, "refused");
    assert_eq!(find(checks, CheckKind::Spf).code, "spf_temperror");
}

#[tokio::test]
async fn a_foreign_mx_host_whose_lookup_fails_is_still_foreign() {
    let dns = serve_published().await;
    dns.remove(DOMAIN, Some("MX")).unwrap();
    dns.add(DOMAIN, "MX", "10 mx.other.test").unwrap();
    dns.fail(rule(Some("mx.other.test"), None, DnsFault::ServerFailure));

    let check = look(&[&dns], &expectation(), CheckKind::Mx).await;

    assert_eq!(check.code, "mx_elsewhere");
}

#[tokio::test]
async fn a_failing_lookup_of_report_consent_is_unknown() {
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
async fn unvalidated_answers_are_insecure() {
    let dns = serve_published().await;

    let checks = verifier(&[&dns]).verify(&expectation()).await;

    assert!(checks.iter().all(|check| check.dnssec == Dnssec::Insecure));
}

#[tokio::test]
async fn failed_validation_is_bogus() {
    let dns = serve_published().await;
    dns.fail(rule(Some(DOMAIN), Some("MX"), DnsFault::Bogus));

    let check = look(&[&dns], &expectation(), CheckKind::Mx).await;

    assert_eq!(check.dnssec, Dnssec::Bogus);
}

#[tokio::test]
async fn a_servfail_that_passes_is_retried() {
    let dns = serve_published().await;
    dns.fail(rule(None, None, DnsFault::ServerFailureFirst(1)));

    let checks = verifier(&[&dns]).verify(&expectation()).await;

    assert!(checks.iter().all(|check| check.state == CheckState::Ok));
}

#[tokio::test]
async fn a_servfail_of_an_unsigned_domain_is_no_validation_failure() {
    let dns = serve_published().await;
    dns.fail(rule(None, None, DnsFault::ServerFailureFirst(2)));

    let check = look(&[&dns], &expectation(), CheckKind::Mx).await;

    assert_eq!(check.code, "servfail");
    assert_eq!(check.dnssec, Dnssec::Insecure);
}

#[tokio::test]
async fn an_alias_to_nothing_is_missing_even_without_a_soa_record() {
    for target in ["gone.other.test", "empty.other.test"] {
        let dns = serve(&["empty.other.test A 192.0.2.1"]).await;
        dns.add("_dmarc.acme.test", "CNAME", target).unwrap();
        dns.fail(rule(None, None, DnsFault::NoSoa));

        let check = look(&[&dns], &expectation(), CheckKind::Dmarc).await;

        assert_eq!(check.code, "dmarc_missing", "{target}");
    }
}

#[tokio::test]
async fn a_resolver_that_rejects_edns_is_queried_without_it() {
    let dns = serve_published().await;
    dns.fail(rule(None, None, DnsFault::RefusesEdns));

    let checks = verifier(&[&dns]).verify(&expectation()).await;

    assert!(checks.iter().all(|check| check.state == CheckState::Ok));
}

#[tokio::test]
async fn equal_records_of_an_answer_are_one_record() {
    let dns = serve_published().await;
    dns.fail(rule(None, None, DnsFault::Duplicates));

    let checks = verifier(&[&dns]).verify(&expectation()).await;

    assert!(checks.iter().all(|check| check.state == CheckState::Ok));
}

#[tokio::test]
async fn a_slow_zone_is_checked_within_the_default_time_limit() {
    let dns = serve_published().await;
    dns.remove(DOMAIN, Some("TXT")).unwrap();
    let record = "v=spf1 include:a.acme.test mx -all";
    dns.add(DOMAIN, "TXT", record).unwrap();
    for (name, next) in [("a", "b"), ("b", "c"), ("c", "d")] {
        let record = format!("v=spf1 include:{next}.acme.test -all");
        dns.add(&format!("{name}.acme.test"), "TXT", &record)
            .unwrap();
    }
    dns.add("d.acme.test", "TXT", "v=spf1 -all").unwrap();
    dns.fail(rule(None, None, DnsFault::Delay(1_200)));

    let verifier = verifier_within(&[&dns], DnsConfig::DEFAULT_TIMEOUT);
    let checks = verifier.verify(&expectation()).await;

    assert_eq!(find(checks, CheckKind::Spf).code, "spf_ok");
}
