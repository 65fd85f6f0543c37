//! SPF check.

use dezky_worker::dns::Expectation;

use crate::{
    cases,
    cases::{expectation, look, serve},
};

const MX: &str = "acme.test MX 10 mail.provider.test";
/// The address of our mail host.
pub(crate) const HOST: &str = "mail.provider.test A 192.0.2.25";

/// Customers include our record.
pub(crate) fn include() -> Expectation {
    let mut expectation = expectation();
    expectation.spf_include = Some("_spf.provider.test".to_owned());
    expectation
}

/// A record with so many addresses and 192.0.2.100.
fn addresses(many: usize) -> String {
    let addresses: Vec<_> = (0..many).map(|n| format!("ip4:192.0.2.{n} ")).collect();
    format!("v=spf1 {}ip4:192.0.2.100 -all", addresses.concat())
}

const OURS: &str = "_spf.provider.test TXT v=spf1 ip4:192.0.2.25 -all";

cases! { Spf, expectation(), with [HOST];
    the_record_shown_is_ok: [MX, "acme.test TXT v=spf1 mx -all"] => SpfOk;
    upper_case_is_ok: [MX, "acme.test TXT V=SPF1 MX -ALL"] => SpfOk;
    softfail_at_the_end_is_ok: [MX, "acme.test TXT v=spf1 mx ~all"] => SpfOk;
    a_record_without_all_is_ok: [MX, "acme.test TXT v=spf1 mx"] => SpfOk;
    our_mechanism_among_others_is_ok: [
        MX, "acme.test TXT v=spf1 ip4:198.51.100.0/24 ip6:2001:db8::/32 +mx ~all",
    ] => SpfOk;
    mx_with_the_domain_is_ok: [MX, "acme.test TXT v=spf1 mx:ACME.test. -all"] => SpfOk;
    mx_with_prefix_lengths_is_ok: [MX, "acme.test TXT v=spf1 mx/24//64 -all"] => SpfOk;
    our_host_by_name_is_ok: ["acme.test TXT v=spf1 a:mail.provider.test -all"] => SpfOk;
    an_alias_of_our_host_is_ok: [
        "mail.acme.test CNAME mail.provider.test", "acme.test TXT v=spf1 a:mail.acme.test -all",
    ] => SpfOk;
    the_address_of_our_host_is_ok: ["acme.test TXT v=spf1 ip4:192.0.2.25 -all"] => SpfOk;
    the_network_of_our_host_is_ok: ["acme.test TXT v=spf1 ip4:192.0.2.0/24 -all"] => SpfOk;
    mx_of_a_domain_that_we_serve_is_ok: [
        "other.test MX 10 mail.provider.test", "acme.test TXT v=spf1 mx:other.test -all",
    ] => SpfOk;
    texts_of_another_kind_are_ignored: [
        MX, "acme.test TXT v=spf1 mx -all", "acme.test TXT v=spf10", "acme.test TXT google-site-verification=x",
    ] => SpfOk;
    no_record_is_missing: [MX] => SpfMissing;
    no_domain_is_missing: [] => SpfMissing;
    another_version_is_missing: ["acme.test TXT spf2.0/pra mx -all"] => SpfMissing;
    a_leading_space_is_missing: ["acme.test TXT  v=spf1 mx -all"] => SpfMissing;
    typed_quotes_are_missing: ["acme.test TXT \"v=spf1 mx -all\""] => SpfMissing;
    two_records_are_multiple: ["acme.test TXT v=spf1 mx -all", "acme.test TXT v=spf1 a -all"] => SpfMultiple;
    an_unknown_mechanism_is_a_syntax_error: ["acme.test TXT v=spf1 mx mxx -all"] => SpfSyntax;
    an_error_after_all_is_a_syntax_error: ["acme.test TXT v=spf1 mx -all ip4:300.0.0.1"] => SpfSyntax;
    two_redirects_are_a_syntax_error: [
        "acme.test TXT v=spf1 mx redirect=a.test redirect=b.test",
    ] => SpfSyntax;
    commas_between_terms_are_a_syntax_error: ["acme.test TXT v=spf1 mx, -all"] => SpfSyntax;
    an_empty_record_does_not_authorize_us: ["acme.test TXT v=spf1"] => SpfNotAuthorised;
    a_record_of_others_does_not_authorize_us: ["acme.test TXT v=spf1 ip4:198.51.100.1 -all"] => SpfNotAuthorised;
    mx_after_all_does_not_authorize_us: [MX, "acme.test TXT v=spf1 -all mx"] => SpfNotAuthorised;
    neutral_mx_does_not_authorize_us: [MX, "acme.test TXT v=spf1 ?mx -all"] => SpfNotAuthorised;
    softfail_mx_does_not_authorize_us: [MX, "acme.test TXT v=spf1 ~mx -all"] => SpfNotAuthorised;
    the_first_matching_mechanism_decides: [MX, "acme.test TXT v=spf1 ~mx mx -all"] => SpfNotAuthorised;
    mx_without_mx_records_does_not_authorize_us: ["acme.test TXT v=spf1 mx -all"] => SpfNotAuthorised;
    mx_with_a_foreign_host_does_not_authorize_us: [
        "acme.test MX 10 mx.other.test", "mx.other.test A 198.51.100.7", "acme.test TXT v=spf1 mx -all",
    ] => SpfNotAuthorised;
    mx_with_a_null_mx_does_not_authorize_us: ["acme.test MX 0 .", "acme.test TXT v=spf1 mx -all"] => SpfNotAuthorised;
    every_address_of_ours_has_to_be_authorized: [
        "mail.provider.test AAAA 2001:db8::25", "acme.test TXT v=spf1 ip4:192.0.2.25 -all",
    ] => SpfNotAuthorised;
    addresses_of_both_families_can_be_authorized: [
        MX, "mail.provider.test AAAA 2001:db8::25", "acme.test TXT v=spf1 mx -all",
    ] => SpfOk;
    mx_of_another_domain_does_not_authorize_us: [
        "other.test MX 10 mx.other.test", "mx.other.test A 198.51.100.7", "acme.test TXT v=spf1 mx:other.test -all",
    ] => SpfNotAuthorised;
    mx_in_an_included_record_refers_to_that_domain: [
        "other.test MX 10 mx.other.test", "other.test TXT v=spf1 mx -all", "acme.test TXT v=spf1 include:other.test -all",
    ] => SpfNotAuthorised;
    plus_all_is_a_warning: [MX, "acme.test TXT v=spf1 mx +all"] => SpfPassAll;
    all_without_a_qualifier_is_a_warning: [MX, "acme.test TXT v=spf1 mx all"] => SpfPassAll;
    plus_all_in_an_include_is_a_warning: [
        MX, "acme.test TXT v=spf1 mx include:open.test -all", "open.test TXT v=spf1 +all",
    ] => SpfPassAll;
    plus_all_in_a_redirect_is_a_warning: [
        MX, "acme.test TXT v=spf1 mx redirect=open.test", "open.test TXT v=spf1 +all",
    ] => SpfPassAll;
    a_zero_prefix_of_mx_is_a_warning: [MX, "acme.test TXT v=spf1 mx/0 -all"] => SpfPassAll;
    a_zero_prefix_of_an_address_is_a_warning: [MX, "acme.test TXT v=spf1 mx ip4:0.0.0.0/0 -all"] => SpfPassAll;
    two_halves_of_the_address_space_are_a_warning: [
        MX, "acme.test TXT v=spf1 mx ip4:0.0.0.0/1 ip4:128.0.0.0/1 -all",
    ] => SpfPassAll;
    half_of_the_address_space_is_a_warning: [MX, "acme.test TXT v=spf1 mx ip4:0.0.0.0/1 -all"] => SpfPassAll;
    a_zero_prefix_for_ipv6_is_a_warning: [MX, "acme.test TXT v=spf1 mx ip6:::/0 -all"] => SpfPassAll;
    exists_of_a_fixed_name_is_a_warning: [
        MX, "acme.test TXT v=spf1 mx exists:mail.provider.test -all",
    ] => SpfPassAll;
    ptr_is_a_warning: [MX, "acme.test TXT v=spf1 mx ptr -all"] => SpfPtr;
    ptr_with_a_domain_is_a_warning: [MX, "acme.test TXT v=spf1 ptr:acme.test mx -all"] => SpfPtr;
    ptr_authorizes_an_address_with_a_validated_name: [
        "25.2.0.192.in-addr.arpa PTR mail.provider.test", "acme.test TXT v=spf1 ptr:provider.test -all",
    ] => SpfPtr;
    ptr_does_not_authorize_an_address_whose_name_is_not_validated: [
        "25.2.0.192.in-addr.arpa PTR x.acme.test", "x.acme.test A 192.0.2.26", "acme.test TXT v=spf1 ptr -all",
    ] => SpfNotAuthorised;
    macros_before_our_mechanism_are_evaluated: [
        MX, "acme.test TXT v=spf1 exists:%{ir}.%{v}._spf.%{d2} include:%{d}.other.test mx -all",
        "acme.test.other.test TXT v=spf1 -all",
    ] => SpfOk;
    a_macro_that_refers_to_nothing_is_broken: [
        MX, "acme.test TXT v=spf1 include:%{d}.other.test mx -all",
    ] => SpfIncludeBroken;
    an_include_by_the_domain_macro_is_ok: [
        "acme.test TXT v=spf1 include:%{d}._spf.other.test -all", "acme.test._spf.other.test TXT v=spf1 ip4:192.0.2.25 -all",
    ] => SpfOk;
    a_redirect_by_the_sender_domain_macro_is_ok: [
        "acme.test TXT v=spf1 redirect=%{o}._spf.other.test", "acme.test._spf.other.test TXT v=spf1 ip4:192.0.2.25 -all",
    ] => SpfOk;
    mx_by_the_domain_macro_is_ok: [MX, "acme.test TXT v=spf1 mx:%{d} -all"] => SpfOk;
    exists_by_our_address_is_ok: [
        "acme.test TXT v=spf1 exists:%{i}._ex.other.test -all", "192.0.2.25._ex.other.test A 127.0.0.2",
    ] => SpfOk;
    exists_by_another_address_does_not_authorize_us: [
        "acme.test TXT v=spf1 exists:%{i}._ex.other.test -all", "192.0.2.26._ex.other.test A 127.0.0.2",
    ] => SpfNotAuthorised;
    an_include_by_the_address_alone_is_ok: [
        "acme.test TXT v=spf1 include:%{i}._ip.%{d}._spf.other.test -all",
        "192.0.2.25._ip.acme.test._spf.other.test TXT v=spf1 +all",
    ] => SpfOk;
    a_validated_name_macro_is_ok: [
        "25.2.0.192.in-addr.arpa PTR mail.provider.test",
        "acme.test TXT v=spf1 exists:%{p}._ok.other.test -all", "mail.provider.test._ok.other.test A 127.0.0.2",
    ] => SpfOk;
    an_include_by_the_helo_macro_is_unknown: [
        "acme.test TXT v=spf1 include:%{i}._ip.%{h}._ehlo.%{d}._spf.other.test -all",
    ] => SpfPerMessage;
    an_include_by_the_local_part_before_our_mechanism_is_unknown: [
        MX, "acme.test TXT v=spf1 include:%{l}.other.test mx -all",
    ] => SpfPerMessage;
    exists_by_the_local_part_is_unknown: ["acme.test TXT v=spf1 exists:%{l}.other.test -all"] => SpfPerMessage;
    exists_by_the_local_part_before_our_mechanism_is_ok: [
        MX, "acme.test TXT v=spf1 exists:%{l}.other.test mx -all",
    ] => SpfOk;
    a_negative_match_by_the_local_part_is_unknown: [
        MX, "acme.test TXT v=spf1 -exists:%{l}.other.test mx -all",
    ] => SpfPerMessage;
    a_macro_of_explanations_is_a_syntax_error: [MX, "acme.test TXT v=spf1 exists:%{c}.acme.test mx -all"] => SpfSyntax;
    an_explanation_is_not_looked_up: [MX, "acme.test TXT v=spf1 mx -all exp=gone.acme.test"] => SpfOk;
}

cases! { Spf, expectation();
    our_host_without_addresses_is_unknown: [MX, "acme.test TXT v=spf1 mx -all"] => SpfSendersUnresolved;
}

cases! { Spf, include();
    our_include_is_ok: ["acme.test TXT v=spf1 include:_spf.provider.test -all", OURS] => SpfOk;
    our_include_in_upper_case_is_ok: [
        "acme.test TXT v=spf1 INCLUDE:_SPF.Provider.TEST. -all", OURS,
    ] => SpfOk;
    our_redirect_is_ok: ["acme.test TXT v=spf1 redirect=_spf.provider.test", OURS] => SpfOk;
    our_include_within_an_include_is_ok: [
        "acme.test TXT v=spf1 include:all.acme.test -all",
        "all.acme.test TXT v=spf1 ip4:198.51.100.1 include:_spf.provider.test ~all", OURS,
    ] => SpfOk;
    our_include_within_a_redirect_is_ok: [
        "acme.test TXT v=spf1 redirect=all.acme.test", "all.acme.test TXT v=spf1 include:_spf.provider.test -all", OURS,
    ] => SpfOk;
    our_include_within_two_includes_and_a_redirect_is_ok: [
        "acme.test TXT v=spf1 include:a.acme.test -all", "a.acme.test TXT v=spf1 include:b.acme.test",
        "b.acme.test TXT v=spf1 redirect=_spf.provider.test", OURS,
    ] => SpfOk;
    an_alias_of_our_include_is_ok: [
        "acme.test TXT v=spf1 include:spf.acme.test -all", "spf.acme.test CNAME _spf.provider.test", OURS,
    ] => SpfOk;
    our_address_without_the_include_is_ok: ["acme.test TXT v=spf1 ip4:192.0.2.25 -all", OURS] => SpfOk;
    mx_is_ok_if_our_record_authorizes_the_host: [MX, HOST, "acme.test TXT v=spf1 mx -all", OURS] => SpfOk;
    hosts_and_includes_of_our_record_are_our_addresses: [
        "acme.test TXT v=spf1 ip4:192.0.2.25 -all",
        "_spf.provider.test TXT v=spf1 a:out.provider.test include:more.provider.test -all",
        "out.provider.test A 192.0.2.25", "more.provider.test TXT v=spf1 ip4:192.0.2.30 -all",
    ] => SpfNotAuthorised;
    a_part_of_our_network_is_not_enough: [
        "acme.test TXT v=spf1 ip4:192.0.2.0/25 -all", "_spf.provider.test TXT v=spf1 ip4:192.0.2.0/24 -all",
    ] => SpfNotAuthorised;
    one_address_within_our_network_is_excluded: [
        "acme.test TXT v=spf1 -ip4:192.0.2.77 include:_spf.provider.test -all",
        "_spf.provider.test TXT v=spf1 ip4:192.0.2.0/24 -all",
    ] => SpfNotAuthorised;
    a_gap_between_two_networks_is_excluded: [
        "acme.test TXT v=spf1 ip4:192.0.2.0/26 ip4:192.0.2.128/25 -all",
        "_spf.provider.test TXT v=spf1 ip4:192.0.2.0/24 -all",
    ] => SpfNotAuthorised;
    two_halves_are_our_network: [
        "acme.test TXT v=spf1 ip4:192.0.2.0/25 a:h.acme.test/25 -all", "h.acme.test A 192.0.2.200",
        "_spf.provider.test TXT v=spf1 -ip4:192.0.2.77 ip4:192.0.2.0/24 -all",
    ] => SpfOk;
    what_our_record_excludes_may_be_excluded: [
        "acme.test TXT v=spf1 -ip4:192.0.2.77 ip4:192.0.2.0/24 -all",
        "_spf.provider.test TXT v=spf1 -ip4:192.0.2.77 ip4:192.0.2.0/24 -all",
    ] => SpfOk;
    the_last_of_many_addresses_counts: [
        "acme.test TXT v=spf1 ip4:192.0.2.0/27 -all", &format!("_spf.provider.test TXT {}", addresses(20)),
    ] => SpfNotAuthorised;
    a_redirect_beside_all_is_not_followed: [
        "acme.test TXT v=spf1 -all redirect=_spf.provider.test", OURS,
    ] => SpfNotAuthorised;
    a_redirect_before_all_is_not_followed: [
        "acme.test TXT v=spf1 redirect=_spf.provider.test -all", OURS,
    ] => SpfNotAuthorised;
    our_include_within_a_neutral_include_does_not_authorize_us: [
        "acme.test TXT v=spf1 ?include:all.acme.test -all",
        "all.acme.test TXT v=spf1 include:_spf.provider.test -all", OURS,
    ] => SpfNotAuthorised;
    our_include_with_softfail_does_not_authorize_us: [
        "acme.test TXT v=spf1 ~include:_spf.provider.test -all", OURS,
    ] => SpfNotAuthorised;
    a_neutral_include_before_ours_decides: [
        "acme.test TXT v=spf1 ?include:_spf.provider.test include:_spf.provider.test -all", OURS,
    ] => SpfNotAuthorised;
    a_failing_address_before_our_include_decides: [
        "acme.test TXT v=spf1 -ip4:192.0.2.25 include:_spf.provider.test -all", OURS,
    ] => SpfNotAuthorised;
    a_failing_mx_host_before_our_include_decides: [
        HOST, "acme.test TXT v=spf1 -ip4:192.0.2.25 include:_spf.provider.test -all",
        "_spf.provider.test TXT v=spf1 ip4:192.0.2.0/24 -all",
    ] => SpfNotAuthorised;
    mx_does_not_authorize_addresses_of_our_include: [
        MX, "mail.provider.test A 192.0.2.10", "acme.test TXT v=spf1 mx -all", OURS,
    ] => SpfNotAuthorised;
    a_missing_record_of_ours_is_unknown: ["acme.test TXT v=spf1 -all"] => SpfSendersUnresolved;
    an_include_of_nothing_is_broken: [
        "acme.test TXT v=spf1 include:_spf.provider.test include:gone.test -all", OURS,
    ] => SpfIncludeBroken;
    an_include_of_a_domain_without_a_record_is_broken: [
        "acme.test TXT v=spf1 include:other.test -all", "other.test TXT hello",
    ] => SpfIncludeBroken;
    an_include_of_two_records_is_broken: [
        "acme.test TXT v=spf1 include:other.test -all", "other.test TXT v=spf1 -all", "other.test TXT v=spf1 ~all",
    ] => SpfIncludeBroken;
    an_include_of_a_record_with_an_error_is_broken: [
        "acme.test TXT v=spf1 include:other.test -all", "other.test TXT v=spf1 oops -all",
    ] => SpfIncludeBroken;
    a_redirect_to_nothing_is_broken: ["acme.test TXT v=spf1 redirect=gone.test"] => SpfIncludeBroken;
    an_include_of_itself_is_a_loop: ["acme.test TXT v=spf1 include:acme.test -all"] => SpfLoop;
    circular_includes_are_a_loop: [
        "acme.test TXT v=spf1 include:a.test -all", "a.test TXT v=spf1 include:b.test", "b.test TXT v=spf1 include:a.test",
    ] => SpfLoop;
    a_circular_redirect_is_a_loop: [
        "acme.test TXT v=spf1 redirect=a.test", "a.test TXT v=spf1 redirect=acme.test",
    ] => SpfLoop;
    the_same_include_twice_is_no_loop: [
        "acme.test TXT v=spf1 include:_spf.provider.test include:_spf.provider.test -all", OURS,
    ] => SpfOk;
}

#[tokio::test]
async fn the_message_names_the_deciding_term_or_address() {
    for (record, details) in [
        ("v=spf1 mx/0 -all", "Details: mx/0"),
        ("v=spf1 ip4:198.51.100.1 -all", "Details: 192.0.2.25"),
        ("v=spf1 mx mxx -all", "Details: mxx"),
    ] {
        let dns = serve(&[MX, HOST, &format!("acme.test TXT {record}")]).await;

        let check = look(
            &[&dns],
            &expectation(),
            dezky_shared::domain::check::CheckKind::Spf,
        )
        .await;

        assert!(check.message.ends_with(details), "{}", check.message);
    }
}
