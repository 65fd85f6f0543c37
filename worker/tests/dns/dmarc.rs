//! DMARC check.

use dezky_shared::domain::DmarcPolicy;
use dezky_worker::dns::Expectation;

use crate::{cases, cases::expectation};

fn policy(policy: DmarcPolicy) -> Expectation {
    let mut expectation = expectation();
    expectation.dmarc.policy = policy;
    expectation
}

/// Reports should be sent to this address.
fn rua(address: &str) -> Expectation {
    let mut expectation = expectation();
    expectation.dmarc.rua = Some(address.to_owned());
    expectation
}

/// The expectation of acme.test, for another domain.
fn domain(name: &str) -> Expectation {
    let mut expectation = expectation();
    name.clone_into(&mut expectation.domain);
    expectation
}

cases! { Dmarc, expectation();
    the_chosen_policy_is_ok: ["_dmarc.acme.test TXT v=DMARC1; p=quarantine"] => DmarcOk;
    a_stricter_policy_is_ok: ["_dmarc.acme.test TXT v=DMARC1; p=reject"] => DmarcOk;
    a_policy_in_upper_case_is_ok: ["_dmarc.acme.test TXT v=DMARC1; p=REJECT"] => DmarcOk;
    tags_without_spaces_are_ok: ["_dmarc.acme.test TXT v=DMARC1;p=reject;adkim=s;aspf=r"] => DmarcOk;
    spaces_around_tags_are_ok: ["_dmarc.acme.test TXT v = DMARC1 ; p = reject ;"] => DmarcOk;
    unknown_tags_are_ignored: ["_dmarc.acme.test TXT v=DMARC1; ???; x=1; p=reject"] => DmarcOk;
    other_texts_are_ignored: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject", "_dmarc.acme.test TXT v=spf1 -all",
    ] => DmarcOk;
    an_alias_of_the_record_is_followed: [
        "_dmarc.acme.test CNAME dmarc.other.test", "dmarc.other.test TXT v=DMARC1; p=reject",
    ] => DmarcOk;
    no_record_is_missing: [] => DmarcMissing;
    a_record_in_the_wrong_place_is_missing: ["acme.test TXT v=DMARC1; p=reject"] => DmarcMissing;
    another_version_is_no_record: ["_dmarc.acme.test TXT v=DMARC2; p=reject"] => DmarcMissing;
    a_version_in_lower_case_is_no_record: ["_dmarc.acme.test TXT v=dmarc1; p=reject"] => DmarcMissing;
    a_version_after_another_tag_is_no_record: ["_dmarc.acme.test TXT p=reject; v=DMARC1"] => DmarcMissing;
    two_records_count_as_none: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject", "_dmarc.acme.test TXT v=DMARC1; p=none",
    ] => DmarcMultiple;
    no_policy_is_invalid: ["_dmarc.acme.test TXT v=DMARC1;"] => DmarcPolicyInvalid;
    an_invalid_policy_is_rejected: ["_dmarc.acme.test TXT v=DMARC1; p=discard"] => DmarcPolicyInvalid;
    an_invalid_policy_with_reports_counts_as_none: [
        "_dmarc.acme.test TXT v=DMARC1; p=discard; rua=mailto:a@acme.test",
    ] => DmarcWeakerPolicy;
    no_policy_with_an_invalid_report_address_is_invalid: [
        "_dmarc.acme.test TXT v=DMARC1; rua=acme.test",
    ] => DmarcPolicyInvalid;
    a_weaker_policy_is_a_mismatch: ["_dmarc.acme.test TXT v=DMARC1; p=none"] => DmarcWeakerPolicy;
    the_first_of_two_policies_counts: ["_dmarc.acme.test TXT v=DMARC1; p=none; p=reject"] => DmarcWeakerPolicy;
    a_weaker_sp_is_a_warning: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; sp=none",
    ] => DmarcWeakerSubdomains;
    a_weaker_np_is_a_warning: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; np=none",
    ] => DmarcWeakerSubdomains;
    a_strict_policy_for_subdomains_is_ok: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; sp=quarantine; np=reject",
    ] => DmarcOk;
    pct_below_100_is_a_warning: ["_dmarc.acme.test TXT v=DMARC1; p=reject; pct=50"] => DmarcPartial;
    pct_100_is_ok: ["_dmarc.acme.test TXT v=DMARC1; p=reject; pct=100"] => DmarcOk;
    test_mode_of_a_stricter_policy_is_a_warning: ["_dmarc.acme.test TXT v=DMARC1; p=reject; t=y"] => DmarcTesting;
    test_mode_of_the_chosen_policy_is_weaker: [
        "_dmarc.acme.test TXT v=DMARC1; p=quarantine; t=y",
    ] => DmarcWeakerPolicy;
    no_test_mode_is_ok: ["_dmarc.acme.test TXT v=DMARC1; p=quarantine; t=n"] => DmarcOk;
    reports_to_the_domain_itself_are_ok: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=mailto:a@acme.test",
    ] => DmarcOk;
    reports_to_a_subdomain_are_ok: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=mailto:a@reports.acme.test",
    ] => DmarcOk;
    reports_to_another_domain_need_its_consent: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=mailto:a@other.test",
    ] => DmarcRuaNotAuthorised;
    reports_to_another_domain_with_its_consent_are_ok: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=mailto:a@other.test",
        "acme.test._report._dmarc.other.test TXT v=DMARC1",
    ] => DmarcOk;
    reports_to_a_domain_that_accepts_all_are_ok: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=mailto:a@other.test!10m",
        "*._report._dmarc.other.test TXT v=DMARC1;",
    ] => DmarcOk;
    a_text_of_another_kind_is_no_consent: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=mailto:a@other.test",
        "acme.test._report._dmarc.other.test TXT yes",
    ] => DmarcRuaNotAuthorised;
    each_report_address_is_checked: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=mailto:a@acme.test, mailto:b@other.test",
    ] => DmarcRuaNotAuthorised;
    reports_to_no_address_are_a_warning: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=a@acme.test",
    ] => DmarcRuaInvalid;
}

cases! { Dmarc, policy(DmarcPolicy::None);
    any_policy_is_ok_if_none_was_chosen: ["_dmarc.acme.test TXT v=DMARC1; p=none"] => DmarcOk;
    a_record_is_needed_even_if_none_was_chosen: [] => DmarcMissing;
    a_record_without_a_policy_is_ok_if_none_was_chosen: [
        "_dmarc.acme.test TXT v=DMARC1; rua=mailto:a@acme.test",
    ] => DmarcOk;
}

cases! { Dmarc, policy(DmarcPolicy::Reject);
    tag_names_and_values_ignore_case: ["_dmarc.acme.test TXT V=DMARC1; P=Reject; PCT=100; T=N"] => DmarcOk;
    upper_case_sp_is_a_warning: ["_dmarc.acme.test TXT v=DMARC1; p=reject; SP=none"] => DmarcWeakerSubdomains;
    test_mode_in_upper_case_is_weaker: ["_dmarc.acme.test TXT v=DMARC1; p=reject; t=Y"] => DmarcWeakerPolicy;
    an_upper_case_test_tag_is_weaker: ["_dmarc.acme.test TXT v=DMARC1; p=reject; T=y"] => DmarcWeakerPolicy;
    upper_case_pct_is_a_warning: ["_dmarc.acme.test TXT v=DMARC1; p=reject; PCT=10"] => DmarcPartial;
    an_invalid_sp_invalidates_the_record: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; sp=rejected",
    ] => DmarcPolicyInvalid;
    an_empty_sp_invalidates_the_record: ["_dmarc.acme.test TXT v=DMARC1; p=reject; sp="] => DmarcPolicyInvalid;
    an_invalid_np_invalidates_the_record: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; np=bogus",
    ] => DmarcPolicyInvalid;
    an_invalid_sp_with_reports_counts_as_none: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; sp=rejected; rua=mailto:d@acme.test",
    ] => DmarcWeakerPolicy;
    consent_in_upper_case_is_ok: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=mailto:a@other.test",
        "*._report._dmarc.other.test TXT V=DMARC1;",
    ] => DmarcOk;
    quarantine_is_weaker_than_reject: ["_dmarc.acme.test TXT v=DMARC1; p=quarantine"] => DmarcWeakerPolicy;
}

cases! { Dmarc, rua("Reports@acme.test");
    a_query_is_not_part_of_the_address: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=mailto:reports@acme.test?subject=x",
    ] => DmarcOk;
    a_percent_encoded_address_is_ok: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=mailto:rep%6Frts@acme.test",
    ] => DmarcOk;
    reports_to_the_chosen_address_are_ok: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=mailto:reports@ACME.test",
    ] => DmarcOk;
    reports_to_the_chosen_address_among_others_are_ok: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=mailto:x@acme.test,mailto:reports@acme.test",
    ] => DmarcOk;
    reports_to_another_address_are_a_warning: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; rua=mailto:x@acme.test",
    ] => DmarcRuaMissing;
    no_reports_are_a_warning: ["_dmarc.acme.test TXT v=DMARC1; p=reject"] => DmarcRuaMissing;
}

cases! { Dmarc, domain("mail.eu.acme.test");
    an_inherited_upper_case_sp_applies: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; SP=none", "mail.eu.acme.test A 192.0.2.1",
    ] => DmarcWeakerPolicy;
    an_inherited_record_in_upper_case_applies: ["_dmarc.acme.test TXT V=DMARC1; P=REJECT"] => DmarcInherited;
    an_inherited_pct_below_100_is_a_warning: ["_dmarc.acme.test TXT v=DMARC1; p=reject; pct=0"] => DmarcPartial;
    inherited_test_mode_of_a_stricter_policy_is_a_warning: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; t=y",
    ] => DmarcTesting;
    an_inherited_record_with_an_invalid_sp_counts_as_none: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; sp=rejected; rua=mailto:d@acme.test",
    ] => DmarcWeakerPolicy;
    an_inherited_record_with_an_invalid_sp_and_no_reports_is_ignored: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; sp=rejected",
    ] => DmarcMissing;
    the_policy_of_the_organizational_domain_is_inherited: ["_dmarc.acme.test TXT v=DMARC1; p=reject"] => DmarcInherited;
    the_inherited_policy_is_the_one_for_subdomains: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; sp=none", "mail.eu.acme.test A 192.0.2.1",
    ] => DmarcWeakerPolicy;
    an_inherited_np_does_not_apply_to_an_existing_domain: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; np=none", "mail.eu.acme.test A 192.0.2.1",
    ] => DmarcInherited;
    an_inherited_np_applies_to_a_missing_domain: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject; np=none",
    ] => DmarcWeakerPolicy;
    inherited_test_mode_is_weaker: ["_dmarc.acme.test TXT v=DMARC1; p=quarantine; t=y"] => DmarcWeakerPolicy;
    two_inherited_records_count_as_none: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject", "_dmarc.acme.test TXT v=DMARC1; p=reject; pct=100",
    ] => DmarcMissing;
    a_domain_in_between_counts_for_newer_receivers_only: [
        "_dmarc.eu.acme.test TXT v=DMARC1; p=reject; psd=n", "_dmarc.acme.test TXT v=DMARC1; p=none",
    ] => DmarcWeakerPolicy;
    psd_n_ends_the_tree_walk: [
        "_dmarc.eu.acme.test TXT v=DMARC1; p=reject; psd=n",
    ] => DmarcInherited;
    the_domain_below_a_public_suffix_counts: [
        "_dmarc.acme.test TXT v=DMARC1; p=reject", "_dmarc.test TXT v=DMARC1; p=none; psd=y",
    ] => DmarcInherited;
    a_public_suffix_counts_if_no_domain_below_it_has_a_record: [
        "_dmarc.test TXT v=DMARC1; p=reject; psd=y",
    ] => DmarcInherited;
    the_own_record_takes_precedence: [
        "_dmarc.mail.eu.acme.test TXT v=DMARC1; p=none", "_dmarc.acme.test TXT v=DMARC1; p=reject",
    ] => DmarcWeakerPolicy;
}
