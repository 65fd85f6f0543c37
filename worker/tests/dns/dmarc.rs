//! What receivers do with mail that fails.

use dezky_shared::domain::DmarcPolicy;
use dezky_worker::dns::Expectation;

use crate::{cases, cases::expectation};

fn policy(policy: DmarcPolicy) -> Expectation {
    let mut expectation = expectation();
    expectation.dmarc.policy = policy;
    expectation
}

/// Reports are to go to this address.
fn rua(address: &str) -> Expectation {
    let mut expectation = expectation();
    expectation.dmarc.rua = Some(address.to_owned());
    expectation
}

/// As expected of acme.test, for another domain.
fn domain(name: &str) -> Expectation {
    let mut expectation = expectation();
    name.clone_into(&mut expectation.domain);
    expectation
}

cases! { Dmarc, expectation();
    the_policy_chosen_is_in_order: ["_dmarc.acme.test TXT v=DMARC1; p=quarantine"] => DmarcOk;
    a_stricter_policy_is_in_order: ["_dmarc.acme.test TXT v=DMARC1; p=reject"] => DmarcOk;
    a_policy_in_upper_case_is_in_order: ["_dmarc.acme.test TXT v=DMARC1; p=REJECT"] => DmarcOk;
    tags_without_spaces_are_in_order: ["_dmarc.acme.test TXT v=DMARC1;p=reject;adkim=s;aspf=r"] => DmarcOk;
    spaces_around_tags_are_in_order: ["_dmarc.acme.test TXT v = DMARC1 ; p = reject ;"] => DmarcOk;
    unknown_tags_are_passed_over: ["_dmarc.acme.test TXT v=DMARC1; ???; x=1; p=reject"] => DmarcOk;
    other_texts_are_passed_over: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject", "_dmarc.acme.test TXT v=spf1 -all",
    ] => DmarcOk;
    an_alias_of_the_record_is_followed: [
        "_dmarc.acme.test CNAME dmarc.other.test", "dmarc.other.test TXT v=DMARC1; p=reject",
    ] => DmarcOk;
    no_record_is_missing: [] => DmarcMissing;
    a_record_in_the_wrong_place_is_missing: ["acme.test TXT v=DMARC1; p=reject"] => DmarcMissing;
    another_version_is_no_record: ["_dmarc.acme.test TXT v=DMARC2; p=reject"] => DmarcMissing;
    a_version_in_lower_case_is_no_record: ["_dmarc.acme.test TXT v=dmarc1; p=reject"] => DmarcMissing;
    a_version_that_is_not_first_is_no_record: ["_dmarc.acme.test TXT p=reject; v=DMARC1"] => DmarcMissing;
    two_records_count_as_none: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject", "_dmarc.acme.test TXT v=DMARC1; p=none",
    ] => DmarcMultiple;
    no_policy_is_invalid: ["_dmarc.acme.test TXT v=DMARC1;"] => DmarcPolicyInvalid;
    an_unknown_policy_is_invalid: ["_dmarc.acme.test TXT v=DMARC1; p=discard"] => DmarcPolicyInvalid;
    an_unknown_policy_with_reports_counts_as_none: [
        "_dmarc.acme.test TXT v=DMARC1; p=discard; rua=mailto:a@acme.test",
    ] => DmarcWeakerPolicy;
    no_policy_with_reports_that_go_nowhere_is_invalid: [
        "_dmarc.acme.test TXT v=DMARC1; rua=acme.test",
    ] => DmarcPolicyInvalid;
    a_weaker_policy_is_not_what_was_chosen: ["_dmarc.acme.test TXT v=DMARC1; p=none"] => DmarcWeakerPolicy;
    the_first_of_two_policies_counts: ["_dmarc.acme.test TXT v=DMARC1; p=none; p=reject"] => DmarcWeakerPolicy;
    a_weaker_policy_for_subdomains_is_a_warning: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; sp=none",
    ] => DmarcWeakerSubdomains;
    a_weaker_policy_for_missing_subdomains_is_a_warning: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; np=none",
    ] => DmarcWeakerSubdomains;
    a_policy_for_subdomains_that_is_strict_enough_is_in_order: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; sp=quarantine; np=reject",
    ] => DmarcOk;
    a_part_of_the_mail_is_a_warning: ["_dmarc.acme.test TXT v=DMARC1; p=reject; pct=50"] => DmarcPartial;
    all_of_the_mail_is_in_order: ["_dmarc.acme.test TXT v=DMARC1; p=reject; pct=100"] => DmarcOk;
    a_test_of_a_stricter_policy_is_a_warning: ["_dmarc.acme.test TXT v=DMARC1; p=reject; t=y"] => DmarcTesting;
    a_test_of_the_policy_chosen_is_weaker: [
        "_dmarc.acme.test TXT v=DMARC1; p=quarantine; t=y",
    ] => DmarcWeakerPolicy;
    no_test_is_in_order: ["_dmarc.acme.test TXT v=DMARC1; p=quarantine; t=n"] => DmarcOk;
    reports_to_the_domain_itself_are_in_order: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=mailto:a@acme.test",
    ] => DmarcOk;
    reports_to_a_subdomain_are_in_order: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=mailto:a@reports.acme.test",
    ] => DmarcOk;
    reports_to_another_domain_need_its_word: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=mailto:a@other.test",
    ] => DmarcRuaNotAuthorised;
    reports_to_another_domain_with_its_word_are_in_order: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=mailto:a@other.test",
        "acme.test._report._dmarc.other.test TXT v=DMARC1",
    ] => DmarcOk;
    reports_to_another_domain_that_takes_all_are_in_order: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=mailto:a@other.test!10m",
        "*._report._dmarc.other.test TXT v=DMARC1;",
    ] => DmarcOk;
    another_text_is_not_the_word_of_a_domain: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=mailto:a@other.test",
        "acme.test._report._dmarc.other.test TXT yes",
    ] => DmarcRuaNotAuthorised;
    each_address_of_reports_is_looked_at: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=mailto:a@acme.test, mailto:b@other.test",
    ] => DmarcRuaNotAuthorised;
    reports_to_no_address_are_a_warning: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=a@acme.test",
    ] => DmarcRuaInvalid;
}

cases! { Dmarc, policy(DmarcPolicy::None);
    any_policy_is_in_order_where_none_was_chosen: ["_dmarc.acme.test TXT v=DMARC1; p=none"] => DmarcOk;
    a_record_is_needed_even_where_none_was_chosen: [] => DmarcMissing;
    a_record_for_reports_alone_is_in_order_where_none_was_chosen: [
        "_dmarc.acme.test TXT v=DMARC1; rua=mailto:a@acme.test",
    ] => DmarcOk;
}

cases! { Dmarc, policy(DmarcPolicy::Reject);
    quarantine_is_weaker_than_reject: ["_dmarc.acme.test TXT v=DMARC1; p=quarantine"] => DmarcWeakerPolicy;
}

cases! { Dmarc, rua("Reports@acme.test");
    reports_to_the_address_chosen_are_in_order: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=mailto:reports@ACME.test",
    ] => DmarcOk;
    reports_to_the_address_chosen_among_others_are_in_order: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=mailto:x@acme.test,mailto:reports@acme.test",
    ] => DmarcOk;
    reports_to_another_address_are_a_warning: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=mailto:x@acme.test",
    ] => DmarcRuaMissing;
    no_reports_are_a_warning: ["_dmarc.acme.test TXT v=DMARC1; p=reject"] => DmarcRuaMissing;
}

cases! { Dmarc, domain("mail.eu.acme.test");
    the_policy_of_the_organisation_is_inherited: ["_dmarc.acme.test TXT v=DMARC1; p=reject"] => DmarcInherited;
    its_policy_for_subdomains_is_what_counts: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; sp=none", "mail.eu.acme.test A 192.0.2.1",
    ] => DmarcWeakerPolicy;
    its_policy_for_missing_subdomains_is_for_those_only: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; np=none", "mail.eu.acme.test A 192.0.2.1",
    ] => DmarcInherited;
    its_policy_for_missing_subdomains_counts_for_those: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; np=none",
    ] => DmarcWeakerPolicy;
    its_test_is_weaker: ["_dmarc.acme.test TXT v=DMARC1; p=quarantine; t=y"] => DmarcWeakerPolicy;
    its_two_records_count_as_none: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject", "_dmarc.acme.test TXT v=DMARC1; p=reject; pct=100",
    ] => DmarcMissing;
    a_domain_in_between_counts_for_newer_receivers_only: [
        "_dmarc.eu.acme.test TXT v=DMARC1; p=reject; psd=n", "_dmarc.acme.test TXT v=DMARC1; p=none",
    ] => DmarcWeakerPolicy;
    an_organisation_that_says_so_ends_the_walk: [
        "_dmarc.eu.acme.test TXT v=DMARC1; p=reject; psd=n",
    ] => DmarcInherited;
    the_organisation_below_a_public_suffix_counts: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject", "_dmarc.test TXT v=DMARC1; p=none; psd=y",
    ] => DmarcInherited;
    a_public_suffix_counts_where_nothing_is_below_it: [
        "_dmarc.test TXT v=DMARC1; p=reject; psd=y",
    ] => DmarcInherited;
    the_record_of_its_own_comes_first: [
        "_dmarc.mail.eu.acme.test TXT v=DMARC1; p=none", "_dmarc.acme.test TXT v=DMARC1; p=reject",
    ] => DmarcWeakerPolicy;
}
