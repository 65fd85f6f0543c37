//! Records that receivers ignore, although they were published for the check.

use dezky_shared::domain::check::{Check, CheckKind};

use crate::{
    cases,
    cases::{expectation, look, serve},
    keys::RSA,
};

/// The missing record is explained by `reason`, and the record is shown.
async fn assert_explained(kind: CheckKind, record: &str, code: &str, reason: &str) -> Check {
    let dns = serve(&[record]).await;

    let check = look(&[&dns], &expectation(), kind).await;

    let (name, value) = record.split_once(" TXT ").unwrap();
    assert_eq!(check.code, code, "{record}");
    assert!(check.message.contains(reason), "{}", check.message);
    assert_eq!(check.found.len(), 1, "{record}");
    assert_eq!(check.found[0].name, name);
    // Control characters are replaced where they are shown.
    assert_eq!(check.found[0].value, value.replace('\t', "\u{fffd}"));
    check
}

#[tokio::test]
async fn a_near_miss_of_spf_is_shown() {
    for (record, reason) in [
        ("acme.test TXT \"v=spf1 mx -all\"", "quotation marks"),
        ("acme.test TXT v=spf1\u{a0}mx -all", "no-break space"),
        (
            "acme.test TXT v=spf1\tmx -all",
            "begin with exactly \"v=spf1 \"",
        ),
        (
            "acme.test TXT v=spf1;mx -all",
            "begin with exactly \"v=spf1 \"",
        ),
        (
            "acme.test TXT  v=spf1 mx -all",
            "begin with exactly \"v=spf1 \"",
        ),
        ("acme.test.acme.test TXT v=spf1 mx -all", "wrong name"),
    ] {
        assert_explained(CheckKind::Spf, record, "spf_missing", reason).await;
    }
}

#[tokio::test]
async fn a_near_miss_of_dmarc_is_shown() {
    let beginning = "begin with exactly \"v=DMARC1;\"";
    for (record, reason) in [
        ("_dmarc.acme.test TXT v=DMARC1 p=reject", beginning),
        ("_dmarc.acme.test TXT v=dmarc1; p=reject", beginning),
        (
            "_dmarc.acme.test TXT \"v=DMARC1; p=reject\"",
            "quotation marks",
        ),
        ("_dmarc.acme.test TXT v=DMARC1\\; p=reject", "backslashes"),
        (
            "_dmarc.acme.test TXT v=DMARC1\u{a0}; p=reject",
            "no-break space",
        ),
        ("acme.test TXT v=DMARC1; p=reject", "wrong name, acme.test"),
        (
            "_dmarc.acme.test.acme.test TXT v=DMARC1; p=reject",
            "wrong name, _dmarc.acme.test.acme.test",
        ),
    ] {
        assert_explained(CheckKind::Dmarc, record, "dmarc_missing", reason).await;
    }
}

#[tokio::test]
async fn a_near_miss_of_the_other_records_is_shown() {
    for (kind, record, code, reason) in [
        (
            CheckKind::Ownership,
            "_dezky.acme.test TXT \"dezky-verification=t0ken\"",
            "ownership_missing",
            "quotation marks",
        ),
        (
            CheckKind::Ownership,
            "_dezky.acme.test.acme.test TXT dezky-verification=t0ken",
            "ownership_missing",
            "wrong name",
        ),
        (
            CheckKind::Dkim,
            "r1._domainkey.acme.test.acme.test TXT v=DKIM1; p=AA",
            "dkim_missing",
            "wrong name",
        ),
        (
            CheckKind::MtaSts,
            "_mta-sts.acme.test TXT v=stsv1; id=42",
            "mta_sts_missing",
            "begin with exactly \"v=STSv1;\"",
        ),
        (
            CheckKind::TlsRpt,
            "_smtp._tls.acme.test TXT v = TLSRPTv1; rua=mailto:reports@acme.test",
            "tls_rpt_missing",
            "begin with exactly \"v=TLSRPTv1;\"",
        ),
        (
            CheckKind::TlsRpt,
            "_smtp._tls.acme.test.acme.test TXT v=TLSRPTv1; rua=mailto:reports@acme.test",
            "tls_rpt_missing",
            "wrong name",
        ),
    ] {
        assert_explained(kind, record, code, reason).await;
    }
}

#[tokio::test]
async fn a_record_of_another_service_is_no_near_miss() {
    let dns = serve(&[
        "acme.test TXT v=spf10 mx",
        "acme.test TXT google-site-verification=x",
    ])
    .await;

    let check = look(&[&dns], &expectation(), CheckKind::Spf).await;

    assert_eq!(
        check.message,
        "There is no SPF record. Add the TXT record shown."
    );
    assert!(check.found.is_empty());
}

cases! { Dkim, expectation();
    a_wildcard_of_another_kind_is_no_key: ["*.acme.test TXT v=spf1 -all"] => DkimMissing;
    two_wildcards_of_another_kind_are_no_keys: [
        "*.acme.test TXT v=spf1 -all", "*.acme.test TXT google-site-verification=x",
    ] => DkimMissing;
    a_key_is_used_although_a_wildcard_exists: [
        "*.acme.test TXT v=spf1 -all", &format!("r1._domainkey.acme.test TXT v=DKIM1; p={RSA}"),
    ] => DkimOk;
}
