//! The signing keys.

use dezky_shared::domain::check::{CheckKind, CheckState};
use dezky_worker::dns::Expectation;

use crate::{
    cases,
    cases::{expectation, serve_published, verifier},
    keys::{ED25519, OTHER_RSA, RSA},
};

/// Only the RSA key, or only the Ed25519 one.
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
    the_record_shown_is_in_order: [&rsa("v=DKIM1; k=rsa; h=sha256; p={p}")] => DkimOk;
    tags_in_another_order_are_in_order: [&rsa("v=DKIM1; p={p}; h=sha256; k=rsa")] => DkimOk;
    the_least_that_is_needed_is_in_order: [&rsa("p={p}")] => DkimOk;
    a_semicolon_at_the_end_is_in_order: [&rsa("v=DKIM1; p={p};")] => DkimOk;
    space_around_tags_is_in_order: [&rsa("  v = DKIM1 ;\tk =  rsa ; p= {p} ; ")] => DkimOk;
    a_key_folded_with_spaces_is_in_order: [&rsa(&format!("v=DKIM1; p={}", folded(RSA, " ")))] => DkimOk;
    a_key_folded_over_lines_is_in_order: [&rsa(&format!("v=DKIM1; p={}", folded(RSA, "\r\n\t")))] => DkimOk;
    unknown_tags_are_in_order: [&rsa("v=DKIM1; x=1; n=a note; p={p}")] => DkimOk;
    several_hashes_are_in_order: [&rsa("v=DKIM1; h=sha1:sha256; p={p}")] => DkimOk;
    every_service_is_in_order: [&rsa("v=DKIM1; s=*; p={p}")] => DkimOk;
    mail_among_the_services_is_in_order: [&rsa("v=DKIM1; s=other : email; p={p}")] => DkimOk;
    the_flag_for_strict_domains_is_in_order: [&rsa("v=DKIM1; t=s; p={p}")] => DkimOk;
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
    two_records_are_several: [&rsa("v=DKIM1; p={p}"), &rsa("v=DKIM1; k=rsa; p={p}")] => DkimMultiple;
    another_text_beside_it_is_several: [&rsa("v=DKIM1; p={p}"), &rsa("v=spf1 -all")] => DkimMultiple;
    an_empty_key_is_revoked: [&rsa("v=DKIM1; k=rsa; p=")] => DkimRevoked;
    an_empty_key_in_spaces_is_revoked: [&rsa("v=DKIM1; p= ; k=rsa")] => DkimRevoked;
    no_key_at_all_is_an_error: [&rsa("v=DKIM1; k=rsa")] => DkimSyntax;
    a_tag_twice_is_an_error: [&rsa("v=DKIM1; p={p}; p={p}")] => DkimSyntax;
    something_that_is_no_tag_is_an_error: [&rsa("v=DKIM1; rsa; p={p}")] => DkimSyntax;
    quotes_that_were_typed_are_an_error: [&rsa("\"v=DKIM1; p={p}\"")] => DkimSyntax;
    a_key_without_its_tag_is_an_error: [&rsa("{p}")] => DkimSyntax;
    another_version_is_an_error: [&rsa("v=DKIM2; p={p}")] => DkimVersion;
    a_version_in_lower_case_is_an_error: [&rsa("v=dkim1; p={p}")] => DkimVersion;
    a_version_that_is_not_first_is_an_error: [&rsa("p={p}; v=DKIM1")] => DkimVersion;
    semicolons_that_were_escaped_are_an_error: [&rsa(r"v=DKIM1\; k=rsa\; p={p}")] => DkimVersion;
    another_key_differs: [&rsa(&format!("v=DKIM1; p={OTHER_RSA}"))] => DkimKeyDiffers;
    a_key_in_another_case_differs: [&rsa(&format!("v=DKIM1; p={}", RSA.to_lowercase()))] => DkimKeyDiffers;
    a_key_cut_off_at_a_string_is_damaged: [&rsa(&format!("v=DKIM1; p={}", &RSA[..255]))] => DkimKeyMalformed;
    a_key_cut_off_at_a_whole_byte_differs: [&rsa(&format!("v=DKIM1; p={}", &RSA[..200]))] => DkimKeyDiffers;
    a_key_with_something_in_it_is_damaged: [&rsa("v=DKIM1; p={p}%")] => DkimKeyMalformed;
    another_kind_of_key_is_told: [&rsa("v=DKIM1; k=ed25519; p={p}")] => DkimKeyType;
    an_old_hash_alone_is_not_ours: [&rsa("v=DKIM1; h=sha1; p={p}")] => DkimHash;
    another_service_alone_is_not_mail: [&rsa("v=DKIM1; s=other; p={p}")] => DkimService;
    the_flag_for_tests_is_a_warning: [&rsa("v=DKIM1; t=y; p={p}")] => DkimTesting;
    the_flag_for_tests_among_others_is_a_warning: [&rsa("v=DKIM1; t=s:y; p={p}")] => DkimTesting;
}

cases! { Dkim, key("e1");
    an_ed25519_key_is_in_order: [&ed25519("v=DKIM1; k=ed25519; p={p}")] => DkimOk;
    an_ed25519_key_without_its_kind_is_an_rsa_key: [&ed25519("v=DKIM1; p={p}")] => DkimKeyType;
    an_ed25519_key_in_spaces_is_in_order: [
        &ed25519(&format!("v=DKIM1; k=ed25519; p={}", folded(ED25519, " "))),
    ] => DkimOk;
}

#[tokio::test]
async fn each_selector_is_judged_by_itself() {
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
