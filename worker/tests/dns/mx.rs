//! MX check.

use dezky_worker::dns::Expectation;

use crate::{cases, cases::expectation};

/// The expectation with two of our hosts.
fn two_hosts() -> Expectation {
    let mut expectation = expectation();
    let mut second = expectation.records[0].clone();
    "20 MX2.provider.test.".clone_into(&mut second.value);
    expectation.records.push(second);
    expectation
}

cases! { Mx, expectation();
    our_host_is_ok: ["acme.test MX 10 mail.provider.test"] => MxOk;
    case_does_not_matter: ["ACME.test MX 10 MAIL.Provider.Test"] => MxOk;
    a_trailing_dot_does_not_matter: ["acme.test. MX 10 mail.provider.test."] => MxOk;
    our_host_at_another_preference_is_ok: ["acme.test MX 50 mail.provider.test"] => MxOk;
    our_host_twice_is_ok: [
        "acme.test MX 10 mail.provider.test", "acme.test MX 20 mail.provider.test",
    ] => MxOk;
    a_domain_that_does_not_exist_has_none: [] => MxMissing;
    a_domain_with_other_records_has_none: ["acme.test A 192.0.2.1"] => MxMissing;
    a_domain_that_is_an_alias_has_its_targets: [
        "acme.test CNAME real.test", "real.test MX 10 mail.provider.test",
    ] => MxOk;
    a_null_mx_is_a_mismatch: ["acme.test MX 0 ."] => MxNull;
    a_null_mx_beside_ours_is_invalid: [
        "acme.test MX 0 .", "acme.test MX 10 mail.provider.test",
    ] => MxNullWithOthers;
    a_null_mx_beside_others_is_invalid: [
        "acme.test MX 0 .", "acme.test MX 10 mx.other.test",
    ] => MxNullWithOthers;
    a_foreign_host_is_a_mismatch: [
        "acme.test MX 10 mx.other.test", "mx.other.test A 192.0.2.7",
    ] => MxElsewhere;
    a_name_below_our_host_is_foreign: [
        "acme.test MX 10 x.mail.provider.test", "x.mail.provider.test AAAA 2001:db8::1",
    ] => MxElsewhere;
    an_alias_of_our_host_is_not_allowed: [
        "acme.test MX 10 mail.acme.test", "mail.acme.test CNAME mail.provider.test",
        "mail.provider.test A 192.0.2.25",
    ] => MxCname;
    an_alias_to_nothing_is_not_allowed: [
        "acme.test MX 10 mail.acme.test", "mail.acme.test CNAME gone.acme.test",
    ] => MxCname;
    a_host_that_does_not_exist_is_invalid: ["acme.test MX 10 gone.other.test"] => MxUnresolvable;
    a_host_without_addresses_is_invalid: [
        "acme.test MX 10 mx.other.test", "mx.other.test TXT nothing",
    ] => MxUnresolvable;
    an_address_is_invalid: ["acme.test MX 10 192.0.2.25"] => MxAddress;
    a_foreign_host_after_ours_is_a_warning: [
        "acme.test MX 10 mail.provider.test", "acme.test MX 20 mx.other.test",
    ] => MxForeignExtra;
    a_foreign_host_with_equal_preference_is_a_warning: [
        "acme.test MX 10 mail.provider.test", "acme.test MX 10 mx.other.test",
    ] => MxForeignExtra;
    a_foreign_host_before_ours_has_priority: [
        "acme.test MX 10 mail.provider.test", "acme.test MX 5 mx.other.test",
    ] => MxForeignFirst;
    the_first_of_several_foreign_hosts_counts: [
        "acme.test MX 10 mail.provider.test", "acme.test MX 20 a.other.test", "acme.test MX 1 b.other.test",
    ] => MxForeignFirst;
}

cases! { Mx, two_hosts();
    all_of_our_hosts_in_any_order_are_ok: [
        "acme.test MX 10 mx2.provider.test", "acme.test MX 20 mail.provider.test",
    ] => MxOk;
    one_of_our_hosts_alone_is_incomplete: ["acme.test MX 10 mail.provider.test"] => MxIncomplete;
    one_of_our_hosts_beside_a_foreign_host_is_a_warning: [
        "acme.test MX 10 mx2.provider.test", "acme.test MX 20 mx.other.test",
    ] => MxForeignExtra;
}
