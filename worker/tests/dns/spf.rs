//! Who may send.

use dezky_worker::dns::Expectation;

use crate::{cases, cases::expectation};

const MX: &str = "acme.test MX 10 mail.provider.test";

/// Ours is an `include:`.
pub(crate) fn include() -> Expectation {
    let mut expectation = expectation();
    expectation.spf_include = Some("_spf.provider.test".to_owned());
    expectation
}

const OURS: &str = "_spf.provider.test TXT v=spf1 ip4:192.0.2.25 -all";

cases! { Spf, expectation();
    the_record_shown_is_in_order: [MX, "acme.test TXT v=spf1 mx -all"] => SpfOk;
    mechanisms_in_upper_case_are_in_order: [MX, "acme.test TXT V=SPF1 MX -ALL"] => SpfOk;
    a_softer_end_is_in_order: [MX, "acme.test TXT v=spf1 mx ~all"] => SpfOk;
    no_end_is_in_order: [MX, "acme.test TXT v=spf1 mx"] => SpfOk;
    our_mechanism_among_others_is_in_order: [
        MX, "acme.test TXT v=spf1 ip4:198.51.100.0/24 ip6:2001:db8::/32 +mx ~all",
    ] => SpfOk;
    our_mechanism_with_the_domain_is_in_order: [MX, "acme.test TXT v=spf1 mx:ACME.test. -all"] => SpfOk;
    our_mechanism_with_a_prefix_is_in_order: [MX, "acme.test TXT v=spf1 mx/24//64 -all"] => SpfOk;
    our_host_by_name_is_in_order: [
        "mail.provider.test A 192.0.2.25", "acme.test TXT v=spf1 a:mail.provider.test -all",
    ] => SpfOk;
    other_texts_are_no_spf_records: [
        MX, "acme.test TXT v=spf1 mx -all", "acme.test TXT v=spf10", "acme.test TXT google-site-verification=x",
    ] => SpfOk;
    no_record_is_missing: [MX] => SpfMissing;
    no_domain_is_missing: [] => SpfMissing;
    another_version_is_missing: ["acme.test TXT spf2.0/pra mx -all"] => SpfMissing;
    space_before_it_is_missing: ["acme.test TXT  v=spf1 mx -all"] => SpfMissing;
    quotes_that_were_typed_are_missing: ["acme.test TXT \"v=spf1 mx -all\""] => SpfMissing;
    two_records_are_several: ["acme.test TXT v=spf1 mx -all", "acme.test TXT v=spf1 a -all"] => SpfMultiple;
    an_unknown_mechanism_is_an_error: ["acme.test TXT v=spf1 mx mxx -all"] => SpfSyntax;
    an_error_behind_the_end_is_an_error: ["acme.test TXT v=spf1 mx -all ip4:300.0.0.1"] => SpfSyntax;
    two_redirects_are_an_error: [
        "acme.test TXT v=spf1 mx redirect=a.test redirect=b.test",
    ] => SpfSyntax;
    commas_between_terms_are_an_error: ["acme.test TXT v=spf1 mx, -all"] => SpfSyntax;
    an_empty_record_does_not_let_us: ["acme.test TXT v=spf1"] => SpfNotAuthorised;
    a_record_of_others_does_not_let_us: ["acme.test TXT v=spf1 ip4:198.51.100.1 -all"] => SpfNotAuthorised;
    our_mechanism_behind_the_end_does_not_let_us: [MX, "acme.test TXT v=spf1 -all mx"] => SpfNotAuthorised;
    our_mechanism_as_neutral_does_not_let_us: [MX, "acme.test TXT v=spf1 ?mx -all"] => SpfNotAuthorised;
    our_mechanism_as_softfail_does_not_let_us: [MX, "acme.test TXT v=spf1 ~mx -all"] => SpfNotAuthorised;
    mail_hosts_of_another_domain_do_not_let_us: [
        "other.test MX 10 mail.provider.test", "acme.test TXT v=spf1 mx:other.test -all",
    ] => SpfNotAuthorised;
    our_mechanism_in_an_included_record_is_about_that_domain: [
        "other.test MX 10 mx.other.test", "other.test TXT v=spf1 mx -all", "acme.test TXT v=spf1 include:other.test -all",
    ] => SpfNotAuthorised;
    everybody_may_send_is_a_warning: [MX, "acme.test TXT v=spf1 mx +all"] => SpfPassAll;
    everybody_may_send_without_a_sign_is_a_warning: [MX, "acme.test TXT v=spf1 mx all"] => SpfPassAll;
    everybody_may_send_by_an_include_is_a_warning: [
        MX, "acme.test TXT v=spf1 mx include:open.test -all", "open.test TXT v=spf1 +all",
    ] => SpfPassAll;
    everybody_may_send_by_a_redirect_is_a_warning: [
        MX, "acme.test TXT v=spf1 mx redirect=open.test", "open.test TXT v=spf1 +all",
    ] => SpfPassAll;
    ptr_is_a_warning: [MX, "acme.test TXT v=spf1 mx ptr -all"] => SpfPtr;
    ptr_of_a_domain_is_a_warning: [MX, "acme.test TXT v=spf1 ptr:acme.test mx -all"] => SpfPtr;
    macros_are_left_alone: [
        MX, "acme.test TXT v=spf1 exists:%{ir}.%{v}._spf.%{d2} include:%{d}.other.test mx -all",
    ] => SpfOk;
    an_explanation_is_not_looked_up: [MX, "acme.test TXT v=spf1 mx -all exp=gone.acme.test"] => SpfOk;
}

cases! { Spf, include();
    our_include_is_in_order: ["acme.test TXT v=spf1 include:_spf.provider.test -all", OURS] => SpfOk;
    our_include_in_another_case_is_in_order: [
        "acme.test TXT v=spf1 INCLUDE:_SPF.Provider.TEST. -all", OURS,
    ] => SpfOk;
    our_redirect_is_in_order: ["acme.test TXT v=spf1 redirect=_spf.provider.test", OURS] => SpfOk;
    our_include_behind_an_include_is_in_order: [
        "acme.test TXT v=spf1 include:all.acme.test -all",
        "all.acme.test TXT v=spf1 ip4:198.51.100.1 include:_spf.provider.test ~all", OURS,
    ] => SpfOk;
    our_include_behind_a_redirect_is_in_order: [
        "acme.test TXT v=spf1 redirect=all.acme.test", "all.acme.test TXT v=spf1 include:_spf.provider.test -all", OURS,
    ] => SpfOk;
    our_include_behind_two_includes_and_a_redirect_is_in_order: [
        "acme.test TXT v=spf1 include:a.acme.test -all", "a.acme.test TXT v=spf1 include:b.acme.test",
        "b.acme.test TXT v=spf1 redirect=_spf.provider.test", OURS,
    ] => SpfOk;
    a_redirect_beside_an_end_is_not_followed: [
        "acme.test TXT v=spf1 -all redirect=_spf.provider.test", OURS,
    ] => SpfNotAuthorised;
    a_redirect_before_an_end_is_not_followed: [
        "acme.test TXT v=spf1 redirect=_spf.provider.test -all", OURS,
    ] => SpfNotAuthorised;
    our_include_behind_one_that_does_not_pass_does_not_let_us: [
        "acme.test TXT v=spf1 ?include:all.acme.test -all",
        "all.acme.test TXT v=spf1 include:_spf.provider.test -all", OURS,
    ] => SpfNotAuthorised;
    our_include_that_does_not_pass_does_not_let_us: [
        "acme.test TXT v=spf1 ~include:_spf.provider.test -all", OURS,
    ] => SpfNotAuthorised;
    our_include_is_not_our_mail_host: [
        "acme.test MX 10 mail.provider.test", "acme.test TXT v=spf1 mx -all",
    ] => SpfNotAuthorised;
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
    includes_in_a_circle_are_a_loop: [
        "acme.test TXT v=spf1 include:a.test -all", "a.test TXT v=spf1 include:b.test", "b.test TXT v=spf1 include:a.test",
    ] => SpfLoop;
    a_redirect_in_a_circle_is_a_loop: [
        "acme.test TXT v=spf1 redirect=a.test", "a.test TXT v=spf1 redirect=acme.test",
    ] => SpfLoop;
    the_same_include_twice_is_no_loop: [
        "acme.test TXT v=spf1 include:_spf.provider.test include:_spf.provider.test -all", OURS,
    ] => SpfOk;
}
