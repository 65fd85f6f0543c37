//! DKIM check.

use dezky_shared::domain::check::{CheckKind, CheckState};
use dezky_worker::dns::Expectation;

use crate::{
    cases,
    cases::{expectation, serve_published, verifier},
    keys::{ED25519, OTHER_RSA, RSA},
};

/// The expectation with the RSA key or with the Ed25519 key only.
fn key(selector: &str) -> Expectation {
    let mut expectation = expectation();
    expectation.records.retain(|record| {
        record.check != Some(CheckKind::Dkim) || record.name.starts_with(selector)
    });
    expectation
}

/// The record of the RSA key with these tags, in which `{p}` is the key.
fn rsa(tags: &str) -> String {
    format!("r1._domainkey.acme.test TXT {}", tags.replace("{p}", RSA))
}

fn ed25519(tags: &str) -> String {
    format!(
        "e1._domainkey.acme.test TXT {}",
        tags.replace("{p}", ED25519)
    )
}

/// A key with white space after every 40 characters.
fn folded(key: &str, space: &str) -> String {
    let parts = key
        .as_bytes()
        .chunks(40)
        .map(|part| str::from_utf8(part).unwrap());
    parts.collect::<Vec<_>>().join(space)
}

cases! { Dkim, key("r1");
    the_record_shown_is_ok: [&rsa("v=DKIM1; k=rsa; h=sha256; p={p}")] => DkimOk;
    tags_in_another_order_are_ok: [&rsa("v=DKIM1; p={p}; h=sha256; k=rsa")] => DkimOk;
    the_key_tag_alone_is_ok: [&rsa("p={p}")] => DkimOk;
    a_semicolon_at_the_end_is_ok: [&rsa("v=DKIM1; p={p};")] => DkimOk;
    space_around_tags_is_ok: [&rsa("  v = DKIM1 ;\tk =  rsa ; p= {p} ; ")] => DkimOk;
    a_key_folded_with_spaces_is_ok: [&rsa(&format!("v=DKIM1; p={}", folded(RSA, " ")))] => DkimOk;
    a_key_folded_over_lines_is_ok: [&rsa(&format!("v=DKIM1; p={}", folded(RSA, "\r\n\t")))] => DkimOk;
    unknown_tags_are_ok: [&rsa("v=DKIM1; x=1; n=a note; p={p}")] => DkimOk;
    several_hashes_are_ok: [&rsa("v=DKIM1; h=sha1:sha256; p={p}")] => DkimOk;
    every_service_is_ok: [&rsa("v=DKIM1; s=*; p={p}")] => DkimOk;
    email_among_the_services_is_ok: [&rsa("v=DKIM1; s=other : email; p={p}")] => DkimOk;
    the_strict_flag_is_ok: [&rsa("v=DKIM1; t=s; p={p}")] => DkimOk;
    an_alias_is_followed: [
        "r1._domainkey.acme.test CNAME r1.keys.test", &rsa("p={p}").replace("r1._domainkey.acme", "r1.keys"),
    ] => DkimOk;
    a_chain_of_aliases_is_followed: [
        "r1._domainkey.acme.test CNAME a.keys.test", "a.keys.test CNAME b.keys.test", "b.keys.test CNAME c.keys.test",
        &rsa("p={p}").replace("r1._domainkey.acme", "c.keys"),
    ] => DkimOk;
    no_such_name_is_missing: [] => DkimMissing;
    a_name_without_texts_is_missing: ["r1._domainkey.acme.test A 192.0.2.1"] => DkimMissing;
    an_alias_to_nothing_is_missing: ["r1._domainkey.acme.test CNAME gone.test"] => DkimMissing;
    an_alias_to_itself_is_a_loop: ["r1._domainkey.acme.test CNAME r1._domainkey.acme.test"] => CnameLoop;
    aliases_in_a_circle_are_a_loop: [
        "r1._domainkey.acme.test CNAME a.keys.test", "a.keys.test CNAME b.keys.test", "b.keys.test CNAME a.keys.test",
    ] => CnameLoop;
    two_records_are_multiple: [&rsa("v=DKIM1; p={p}"), &rsa("v=DKIM1; k=rsa; p={p}")] => DkimMultiple;
    a_key_beside_another_text_is_multiple: [&rsa("v=DKIM1; p={p}"), &rsa("v=spf1 -all")] => DkimMultiple;
    an_empty_key_is_revoked: [&rsa("v=DKIM1; k=rsa; p=")] => DkimRevoked;
    an_empty_key_in_spaces_is_revoked: [&rsa("v=DKIM1; p= ; k=rsa")] => DkimRevoked;
    no_key_at_all_is_an_error: [&rsa("v=DKIM1; k=rsa")] => DkimSyntax;
    a_tag_twice_is_an_error: [&rsa("v=DKIM1; p={p}; p={p}")] => DkimSyntax;
    a_part_that_is_no_tag_is_an_error: [&rsa("v=DKIM1; rsa; p={p}")] => DkimSyntax;
    typed_quotes_are_an_error: [&rsa("\"v=DKIM1; p={p}\"")] => DkimSyntax;
    a_key_without_its_tag_is_an_error: [&rsa("{p}")] => DkimSyntax;
    another_version_is_an_error: [&rsa("v=DKIM2; p={p}")] => DkimVersion;
    a_version_in_lower_case_is_an_error: [&rsa("v=dkim1; p={p}")] => DkimVersion;
    a_version_after_another_tag_is_an_error: [&rsa("p={p}; v=DKIM1")] => DkimVersion;
    escaped_semicolons_are_an_error: [&rsa(r"v=DKIM1\; k=rsa\; p={p}")] => DkimVersion;
    another_key_differs: [&rsa(&format!("v=DKIM1; p={OTHER_RSA}"))] => DkimKeyDiffers;
    a_key_in_another_case_differs: [&rsa(&format!("v=DKIM1; p={}", RSA.to_lowercase()))] => DkimKeyDiffers;
    a_key_truncated_to_one_string_is_malformed: [&rsa(&format!("v=DKIM1; p={}", &RSA[..255]))] => DkimKeyMalformed;
    a_key_truncated_at_a_whole_byte_differs: [&rsa(&format!("v=DKIM1; p={}", &RSA[..200]))] => DkimKeyDiffers;
    a_key_with_an_invalid_character_is_malformed: [&rsa("v=DKIM1; p={p}%")] => DkimKeyMalformed;
    another_key_type_is_a_mismatch: [&rsa("v=DKIM1; k=ed25519; p={p}")] => DkimKeyType;
    sha1_alone_is_invalid: [&rsa("v=DKIM1; h=sha1; p={p}")] => DkimHash;
    another_service_alone_is_invalid: [&rsa("v=DKIM1; s=other; p={p}")] => DkimService;
    the_test_flag_is_a_warning: [&rsa("v=DKIM1; t=y; p={p}")] => DkimTesting;
    the_test_flag_among_others_is_a_warning: [&rsa("v=DKIM1; t=s:y; p={p}")] => DkimTesting;
}

cases! { Dkim, key("e1");
    an_ed25519_key_is_ok: [&ed25519("v=DKIM1; k=ed25519; p={p}")] => DkimOk;
    an_ed25519_key_without_a_key_type_is_an_rsa_key: [&ed25519("v=DKIM1; p={p}")] => DkimKeyType;
    an_ed25519_key_in_spaces_is_ok: [
        &ed25519(&format!("v=DKIM1; k=ed25519; p={}", folded(ED25519, " "))),
    ] => DkimOk;
}

#[tokio::test]
async fn each_selector_is_checked_separately() {
    let dns = serve_published().await;
    dns.remove("e1._domainkey.acme.test", None).unwrap();

    let checks = verifier(&[&dns]).verify(&expectation()).await;

    let dkim = checks.iter().filter(|check| check.kind == CheckKind::Dkim);
    let states: Vec<_> = dkim
        .map(|check| (check.selector.as_deref().unwrap(), check.state))
        .collect();
    assert_eq!(
        states,
        [("r1", CheckState::Ok), ("e1", CheckState::Missing)]
    );
}
