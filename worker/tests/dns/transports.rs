//! Transports.

use dezky_shared::domain::check::CheckKind;

use crate::cases::{DOMAIN, expectation, find, look, serve, serve_published, verifier};

#[tokio::test]
async fn a_small_answer_is_received_over_udp() {
    let dns = serve_published().await;

    let checks = verifier(&[&dns]).verify(&expectation()).await;

    assert_eq!(find(checks, CheckKind::Dkim).code, "dkim_ok");
    assert!(dns.questions().iter().all(|asked| !asked.tcp));
}

#[tokio::test]
async fn an_answer_over_512_bytes_is_received_over_udp_with_edns() {
    let dns = serve(&["acme.test TXT dezky-verification=t0ken"]).await;
    dns.add(DOMAIN, "TXT", &"x".repeat(800)).unwrap();

    let check = look(&[&dns], &expectation(), CheckKind::Ownership).await;

    assert_eq!(check.code, "ownership_ok");
    assert!(dns.questions().iter().all(|asked| !asked.tcp));
}

#[tokio::test]
async fn a_truncated_answer_is_requested_over_tcp() {
    let dns = serve(&["acme.test TXT dezky-verification=t0ken"]).await;
    for n in 0..20 {
        let text = format!("{n}{}", "x".repeat(200));
        dns.add(DOMAIN, "TXT", &text).unwrap();
    }

    let check = look(&[&dns], &expectation(), CheckKind::Ownership).await;

    assert_eq!(check.code, "ownership_ok");
    let asked = dns.questions();
    let by_tcp: Vec<_> = asked.iter().filter(|asked| asked.tcp).collect();
    assert_eq!(by_tcp.len(), 1);
    assert_eq!(by_tcp[0].name, DOMAIN);
}

#[tokio::test]
async fn strings_of_a_text_are_joined_without_spaces() {
    let dns = serve(&[
        "acme.test MX 10 mail.provider.test",
        "mail.provider.test A 192.0.2.25",
    ])
    .await;
    // The first string ends within a word.
    let text = format!("v=spf1{} mx -all", " ip4:192.0.2.1".repeat(40));
    dns.add(DOMAIN, "TXT", &text).unwrap();

    let check = look(&[&dns], &expectation(), CheckKind::Spf).await;

    assert_eq!(check.code, "spf_ok");
    assert_eq!(check.found[0].value, text);
}

#[tokio::test]
async fn the_check_has_the_lowest_ttl_of_the_answers() {
    let dns = serve_published().await;
    dns.remove("_dmarc.acme.test", None).unwrap();

    let checks = verifier(&[&dns]).verify(&expectation()).await;

    assert_eq!(find(checks.clone(), CheckKind::Mx).ttl, Some(300));
    // The TTL of a negative answer.
    assert_eq!(find(checks, CheckKind::Dmarc).ttl, Some(60));
}
