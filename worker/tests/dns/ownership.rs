//! Ownership check.

use crate::{
    cases,
    cases::{DOMAIN, expectation, serve, verifier},
};

cases! { Ownership, expectation();
    a_token_at_its_own_name_is_ok: ["_dezky.acme.test TXT dezky-verification=t0ken"] => OwnershipOk;
    a_token_at_the_domain_itself_is_ok: ["acme.test TXT dezky-verification=t0ken"] => OwnershipOk;
    a_token_among_other_texts_is_ok: [
        "acme.test TXT v=spf1 -all", "acme.test TXT dezky-verification=t0ken", "acme.test TXT other=1",
    ] => OwnershipOk;
    a_token_beside_another_tenants_is_ok: [
        "_dezky.acme.test TXT dezky-verification=theirs", "_dezky.acme.test TXT dezky-verification=t0ken",
    ] => OwnershipOk;
    a_token_behind_an_alias_is_ok: [
        "_dezky.acme.test CNAME proof.acme.test", "proof.acme.test TXT dezky-verification=t0ken",
    ] => OwnershipOk;
    spaces_around_a_token_are_ok: ["_dezky.acme.test TXT  dezky-verification= t0ken "] => OwnershipOk;
    another_token_is_a_mismatch: ["_dezky.acme.test TXT dezky-verification=theirs"] => OwnershipOtherToken;
    a_token_in_another_case_is_a_mismatch: ["_dezky.acme.test TXT dezky-verification=T0KEN"] => OwnershipOtherToken;
    a_longer_token_is_a_mismatch: ["_dezky.acme.test TXT dezky-verification=t0ken2"] => OwnershipOtherToken;
    a_token_in_quotes_is_missing: ["_dezky.acme.test TXT \"dezky-verification=t0ken\""] => OwnershipMissing;
    a_token_at_another_name_is_missing: ["www.acme.test TXT dezky-verification=t0ken"] => OwnershipMissing;
    a_name_that_does_not_exist_is_missing: [] => OwnershipMissing;
    a_name_without_texts_is_missing: ["acme.test MX 10 mail.provider.test"] => OwnershipMissing;
}

#[tokio::test]
async fn ownership_can_be_checked_alone() {
    let dns = serve(&["acme.test TXT dezky-verification=t0ken"]).await;

    let check = verifier(&[&dns]).verify_ownership(DOMAIN, "t0ken").await;

    assert_eq!(check.code, "ownership_ok");
    assert_eq!(check.expected[0].name, "_dezky.acme.test");
    assert_eq!(check.expected[0].value, "dezky-verification=t0ken");
    assert!(
        dns.questions()
            .iter()
            .all(|asked| asked.kind.to_string() == "TXT")
    );
}

#[tokio::test]
async fn texts_of_another_kind_are_not_stored() {
    let dns = serve(&[
        "acme.test TXT secret-of-another-service=1",
        "acme.test TXT dezky-verification=x",
    ])
    .await;

    let check = verifier(&[&dns]).verify_ownership(DOMAIN, "t0ken").await;

    let found: Vec<_> = check.found.iter().map(|record| &record.value).collect();
    assert_eq!(found, ["dezky-verification=x"]);
}
