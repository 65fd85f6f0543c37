//! Hostile records.

use dezky_shared::domain::check::{CheckKind, CheckState};
use hickory_proto::rr::{Name, RData, Record, rdata::TXT};

use crate::{
    cases,
    cases::{DOMAIN, expectation, look, serve, verifier},
};

fn text(name: &str, strings: Vec<&[u8]>) -> Record {
    let name = Name::from_ascii(format!("{name}.")).unwrap();
    Record::from_rdata(name, 300, RData::TXT(TXT::from_bytes(strings)))
}

#[tokio::test]
async fn hundreds_of_texts_are_read_and_few_are_stored() {
    let dns = serve(&[]).await;
    for n in 0..300 {
        let other = format!("dezky-verification=other{n}");
        dns.add("_dezky.acme.test", "TXT", &other).unwrap();
    }
    dns.add("_dezky.acme.test", "TXT", "dezky-verification=t0ken")
        .unwrap();

    let check = look(&[&dns], &expectation(), CheckKind::Ownership).await;

    assert_eq!(check.code, "ownership_ok");
    assert_eq!(check.found.len(), 20);
}

#[tokio::test]
async fn a_long_text_is_truncated_in_storage() {
    let dns = serve(&[]).await;
    let long = format!("v=spf1 {}", "x".repeat(20_000));
    dns.add(DOMAIN, "TXT", &long).unwrap();

    let check = look(&[&dns], &expectation(), CheckKind::Spf).await;

    assert_eq!(check.code, "spf_syntax");
    assert!(check.found[0].value.len() < 1100);
    assert!(check.message.len() < 400);
}

#[tokio::test]
async fn few_kilobytes_of_many_long_texts_are_stored() {
    let (one, other) = (serve(&[]).await, serve(&[]).await);
    for n in 0..20 {
        let long = format!("v=spf1 {n} {}", "x".repeat(1_000));
        one.add(DOMAIN, "TXT", &long).unwrap();
        other.add(DOMAIN, "TXT", &format!("{long}y")).unwrap();
    }

    let check = look(&[&one, &other], &expectation(), CheckKind::Spf).await;

    let bytes: usize = check.found.iter().map(|record| record.value.len()).sum();
    assert_eq!(check.code, "spf_multiple");
    assert!((3_000..=4_096).contains(&bytes), "{bytes}");
    assert_eq!(check.resolvers.len(), 2);
    assert!(check.resolvers.iter().all(|answer| answer.found.len() == 3));
}

#[tokio::test]
async fn an_answer_larger_than_a_message_is_truncated() {
    let dns = serve(&[]).await;
    for n in 0..400 {
        let text = format!("{n}{}", "x".repeat(250));
        dns.add("_dezky.acme.test", "TXT", &text).unwrap();
    }

    let check = look(&[&dns], &expectation(), CheckKind::Ownership).await;

    assert_eq!(check.code, "truncated");
}

#[tokio::test]
async fn invalid_utf8_is_replaced() {
    let dns = serve(&[]).await;
    dns.add_raw(text(DOMAIN, vec![b"v=spf1 mx \xff\xfe -all"]));

    let check = look(&[&dns], &expectation(), CheckKind::Spf).await;

    assert_eq!(check.code, "spf_syntax");
    assert_eq!(check.found[0].value, "v=spf1 mx \u{fffd}\u{fffd} -all");
}

#[tokio::test]
async fn control_characters_are_replaced() {
    let dns = serve(&[]).await;
    dns.add_raw(text(DOMAIN, vec![b"v=spf1 \x1b[31m\x00"]));

    let check = look(&[&dns], &expectation(), CheckKind::Spf).await;

    assert_eq!(check.found[0].value, "v=spf1 \u{fffd}[31m\u{fffd}");
    assert!(!check.message.contains('\x1b'));
}

#[tokio::test]
async fn a_character_split_over_two_strings_is_decoded() {
    let dns = serve(&[]).await;
    dns.add_raw(text(
        "_dezky.acme.test",
        vec![b"dezky-verification=\xc3", b"\xbc"],
    ));

    let check = verifier(&[&dns]).verify_ownership(DOMAIN, "\u{fc}").await;

    assert_eq!(check.code, "ownership_ok");
}

#[tokio::test]
async fn a_hundred_mx_hosts_need_few_queries() {
    let dns = serve(&[]).await;
    for n in 0..100 {
        let host = format!("10 h{n}.other.test");
        dns.add(DOMAIN, "MX", &host).unwrap();
        dns.add(&format!("h{n}.other.test"), "A", "192.0.2.1")
            .unwrap();
    }

    let check = look(&[&dns], &expectation(), CheckKind::Mx).await;

    assert_eq!(check.code, "mx_elsewhere");
    assert!(dns.questions().len() < 40, "{}", dns.questions().len());
}

#[tokio::test]
async fn a_tree_of_includes_needs_few_queries() {
    let dns = serve(&["acme.test TXT v=spf1 include:a.test include:b.test -all"]).await;
    for name in ["a.test", "b.test"] {
        let many: Vec<_> = (0..50).map(|n| format!(" include:x{n}.{name}")).collect();
        let many = many.concat();
        dns.add(name, "TXT", &format!("v=spf1{many}")).unwrap();
        for n in 0..50 {
            let record = format!("v=spf1 include:y{n}.{name}");
            dns.add(&format!("x{n}.{name}"), "TXT", &record).unwrap();
            dns.add(&format!("y{n}.{name}"), "TXT", "v=spf1 -all")
                .unwrap();
        }
    }

    let check = look(&[&dns], &expectation(), CheckKind::Spf).await;

    assert_eq!(check.code, "spf_too_many_lookups");
    assert!(dns.questions().len() < 40, "{}", dns.questions().len());
}

#[tokio::test]
async fn invalid_names_do_not_exist() {
    let dns = serve(&[]).await;
    let label = "x".repeat(64);
    let record = format!(
        "v=spf1 a:{label}.test include:{}.test -all",
        "x.".repeat(200)
    );
    dns.add(DOMAIN, "TXT", &record).unwrap();

    let check = look(&[&dns], &expectation(), CheckKind::Spf).await;

    assert_eq!(check.code, "spf_include_broken");
}

#[tokio::test]
async fn an_invalid_domain_has_no_records() {
    let dns = serve(&[]).await;

    for domain in [
        "x".repeat(300),
        format!("{}.test", "x".repeat(64)),
        "a..test".to_owned(),
    ] {
        let check = verifier(&[&dns]).verify_ownership(&domain, "t0ken").await;

        assert_eq!(check.state, CheckState::Missing);
    }
    assert!(dns.questions().is_empty());
}

cases! { Dmarc, expectation();
    a_report_address_of_non_ascii_characters_is_invalid: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=\u{fc}\u{fc}\u{fc}\u{fc}:x@y",
    ] => DmarcRuaInvalid;
    a_report_address_at_an_invalid_name_is_not_authorized: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=mailto:x@..",
    ] => DmarcRuaNotAuthorised;
    separators_alone_are_no_policy: ["_dmarc.acme.test TXT v=DMARC1;;;;==;=;"] => DmarcPolicyInvalid;
}

cases! { Dkim, expectation();
    separators_alone_are_no_key: ["r1._domainkey.acme.test TXT ;;;;"] => DkimSyntax;
    a_long_chain_of_aliases_is_rejected: [
        "r1._domainkey.acme.test CNAME c1.test", "c1.test CNAME c2.test", "c2.test CNAME c3.test",
        "c3.test CNAME c4.test", "c4.test CNAME c5.test", "c5.test CNAME c6.test", "c6.test CNAME c7.test",
        "c7.test CNAME c8.test", "c8.test CNAME c9.test", "c9.test CNAME c10.test", "c10.test CNAME c11.test",
        "c11.test CNAME c12.test", "c12.test CNAME c13.test", "c13.test CNAME c14.test", "c14.test CNAME c15.test",
        "c15.test CNAME c16.test", "c16.test CNAME c17.test", "c17.test TXT v=DKIM1; p=",
    ] => CnameLoop;
}
