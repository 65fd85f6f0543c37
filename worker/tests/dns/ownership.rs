//! Whose a domain is.

use crate::{
    cases,
    cases::{DOMAIN, expectation, serve, verifier},
};

cases! { Ownership, expectation();
    a_token_at_the_name_for_it_proves: ["_dezky.acme.test TXT dezky-verification=t0ken"] => OwnershipOk;
    a_token_at_the_domain_itself_proves: ["acme.test TXT dezky-verification=t0ken"] => OwnershipOk;
    a_token_among_other_texts_proves: [
        "acme.test TXT v=spf1 -all", "acme.test TXT dezky-verification=t0ken", "acme.test TXT other=1",
    ] => OwnershipOk;
    a_token_beside_another_tenants_proves: [
        "_dezky.acme.test TXT dezky-verification=theirs", "_dezky.acme.test TXT dezky-verification=t0ken",
    ] => OwnershipOk;
    a_token_behind_an_alias_proves: [
        "_dezky.acme.test CNAME proof.acme.test", "proof.acme.test TXT dezky-verification=t0ken",
    ] => OwnershipOk;
    spaces_around_a_token_are_let_pass: ["_dezky.acme.test TXT  dezky-verification= t0ken "] => OwnershipOk;
    another_token_is_told_from_none: ["_dezky.acme.test TXT dezky-verification=theirs"] => OwnershipOtherToken;
    a_token_in_another_case_is_another: ["_dezky.acme.test TXT dezky-verification=T0KEN"] => OwnershipOtherToken;
    a_longer_token_is_another: ["_dezky.acme.test TXT dezky-verification=t0ken2"] => OwnershipOtherToken;
    a_token_in_quotes_does_not_prove: ["_dezky.acme.test TXT \"dezky-verification=t0ken\""] => OwnershipMissing;
    a_token_at_another_name_does_not_prove: ["www.acme.test TXT dezky-verification=t0ken"] => OwnershipMissing;
    a_name_that_does_not_exist_proves_nothing: [] => OwnershipMissing;
    a_name_without_texts_proves_nothing: ["acme.test MX 10 mail.provider.test"] => OwnershipMissing;
}

#[tokio::test]
async fn ownership_can_be_looked_at_alone() {
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
async fn other_texts_of_the_domain_are_no_evidence() {
    let dns = serve(&[
        "acme.test TXT secret-of-somebody=1",
        "acme.test TXT dezky-verification=x",
    ])
    .await;

    let check = verifier(&[&dns]).verify_ownership(DOMAIN, "t0ken").await;

    let found: Vec<_> = check.found.iter().map(|record| &record.value).collect();
    assert_eq!(found, ["dezky-verification=x"]);
}
