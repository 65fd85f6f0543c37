//! Checks of optional records.

use crate::{cases, cases::expectation};

const STS: &str = "_mta-sts.acme.test TXT v=STSv1; id=42;";
const STS_HOST: &str = "mta-sts.acme.test CNAME mail.provider.test";
const HOST: &str = "mail.provider.test A 192.0.2.25";

cases! { MtaSts, expectation();
    both_records_are_ok: [STS, STS_HOST, HOST] => MtaStsOk;
    neither_record_is_missing: [] => MtaStsMissing;
    the_text_alone_is_missing_its_host: [STS] => MtaStsMissing;
    the_host_alone_is_missing_its_text: [STS_HOST, HOST] => MtaStsMissing;
    two_texts_are_multiple: [STS, "_mta-sts.acme.test TXT v=STSv1; id=43", STS_HOST] => MtaStsMultiple;
    another_text_beside_it_is_ignored: [STS, "_mta-sts.acme.test TXT other", STS_HOST, HOST] => MtaStsOk;
    a_text_without_spaces_is_ok: ["_mta-sts.acme.test TXT v=STSv1;id=42", STS_HOST, HOST] => MtaStsOk;
    an_upper_case_tag_is_an_error: ["_mta-sts.acme.test TXT v=STSv1; ID=42", STS_HOST] => MtaStsSyntax;
    a_space_around_the_equals_sign_is_an_error: ["_mta-sts.acme.test TXT v=STSv1; id = 42", STS_HOST] => MtaStsSyntax;
    a_version_in_lower_case_is_missing: ["_mta-sts.acme.test TXT v=stsv1; id=42", STS_HOST] => MtaStsMissing;
    a_text_without_an_id_is_an_error: ["_mta-sts.acme.test TXT v=STSv1;", STS_HOST] => MtaStsSyntax;
    an_id_with_other_characters_is_an_error: ["_mta-sts.acme.test TXT v=STSv1; id=4-2", STS_HOST] => MtaStsSyntax;
    an_id_that_is_too_long_is_an_error: [
        "_mta-sts.acme.test TXT v=STSv1; id=123456789012345678901234567890123", STS_HOST,
    ] => MtaStsSyntax;
    an_outdated_id_is_a_warning: ["_mta-sts.acme.test TXT v=STSv1; id=41", STS_HOST] => MtaStsIdDiffers;
    a_host_elsewhere_is_a_mismatch: [STS, "mta-sts.acme.test CNAME www.other.test", HOST] => MtaStsElsewhere;
}

cases! { TlsRpt, expectation();
    the_report_record_is_ok: ["_smtp._tls.acme.test TXT v=TLSRPTv1; rua=mailto:reports@acme.test"] => TlsRptOk;
    more_report_addresses_are_ok: [
        "_smtp._tls.acme.test TXT v=TLSRPTv1;rua=https://other.test/r, mailto:REPORTS@acme.test;",
    ] => TlsRptOk;
    a_percent_encoded_report_address_is_ok: [
        "_smtp._tls.acme.test TXT v=TLSRPTv1; rua=MAILTO:%72eports@acme.test?subject=x",
    ] => TlsRptOk;
    no_report_record_is_missing: [] => TlsRptMissing;
    two_report_records_are_multiple: [
        "_smtp._tls.acme.test TXT v=TLSRPTv1; rua=mailto:reports@acme.test",
        "_smtp._tls.acme.test TXT v=TLSRPTv1; rua=mailto:b@acme.test",
    ] => TlsRptMultiple;
    a_report_record_without_an_address_is_an_error: ["_smtp._tls.acme.test TXT v=TLSRPTv1"] => TlsRptSyntax;
    a_report_record_with_a_bare_address_is_an_error: [
        "_smtp._tls.acme.test TXT v=TLSRPTv1; rua=reports@acme.test",
    ] => TlsRptSyntax;
    reports_elsewhere_are_a_warning: [
        "_smtp._tls.acme.test TXT v=TLSRPTv1; rua=mailto:x@acme.test",
    ] => TlsRptElsewhere;
}

cases! { Autoconfig, expectation();
    an_alias_of_our_host_is_ok: ["autoconfig.acme.test CNAME mail.provider.test", HOST] => AutoconfigOk;
    an_alias_of_an_alias_of_our_host_is_ok: [
        "autoconfig.acme.test CNAME mail.acme.test", "mail.acme.test CNAME MAIL.provider.test", HOST,
    ] => AutoconfigOk;
    an_alias_of_our_host_is_ok_even_if_the_host_has_no_address: [
        "autoconfig.acme.test CNAME mail.provider.test",
    ] => AutoconfigOk;
    the_address_of_our_host_is_ok: ["autoconfig.acme.test A 192.0.2.25", HOST] => AutoconfigOk;
    the_ipv6_address_alone_is_ok: [
        "autoconfig.acme.test AAAA 2001:db8::25", "mail.provider.test AAAA 2001:db8::25",
    ] => AutoconfigOk;
    both_addresses_of_our_host_are_ok: [
        "autoconfig.acme.test A 192.0.2.25", "autoconfig.acme.test AAAA 2001:db8::25", HOST,
        "mail.provider.test AAAA 2001:db8::25",
    ] => AutoconfigOk;
    another_ipv6_address_is_elsewhere: [
        "autoconfig.acme.test AAAA 2001:db8::26", "mail.provider.test AAAA 2001:db8::25",
    ] => AutoconfigElsewhere;
    another_address_is_elsewhere: ["autoconfig.acme.test A 192.0.2.26", HOST] => AutoconfigElsewhere;
    another_host_is_elsewhere: ["autoconfig.acme.test CNAME www.other.test"] => AutoconfigElsewhere;
    no_settings_are_missing: [] => AutoconfigMissing;
    aliases_in_a_circle_are_a_loop: [
        "autoconfig.acme.test CNAME a.acme.test", "a.acme.test CNAME autoconfig.acme.test",
    ] => CnameLoop;
}

cases! { Autodiscover, expectation();
    settings_for_outlook_are_ok: ["autodiscover.acme.test CNAME mail.provider.test", HOST] => AutodiscoverOk;
    settings_for_outlook_elsewhere_are_a_mismatch: [
        "autodiscover.acme.test CNAME autodiscover.outlook.test",
    ] => AutodiscoverElsewhere;
    no_settings_for_outlook_are_missing: ["acme.test A 192.0.2.1"] => AutodiscoverMissing;
}
