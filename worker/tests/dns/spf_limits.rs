//! Limits of SPF evaluation (RFC 7208, section 4.6.4).

use crate::{
    cases,
    cases::expectation,
    spf::{HOST as OUR_HOST, include},
};

const MX: &str = "acme.test MX 10 mail.provider.test";
const OURS: &str = "_spf.provider.test TXT v=spf1 ip4:192.0.2.25 -all";
const HOST: &str = "h.acme.test A 192.0.2.1";

/// A record with so many terms that need a lookup, `mx` among them.
fn lookups(many: usize) -> String {
    format!(
        "acme.test TXT v=spf1 mx{} -all",
        " a:h.acme.test".repeat(many - 1)
    )
}

/// A record with `mx` and so many terms whose lookup is void.
fn void_lookups(many: usize) -> String {
    let voids: Vec<_> = (0..many).map(|n| format!(" a:gone{n}.acme.test")).collect();
    let voids = voids.concat();
    format!("acme.test TXT v=spf1 mx{voids} -all")
}

/// A chain of includes that ends with ours.
fn chain(links: usize) -> Vec<String> {
    let link = |n: usize| match n {
        n if n == links => "_spf.provider.test".to_owned(),
        n => format!("l{n}.acme.test"),
    };
    let record = |n: usize| format!("l{n}.acme.test TXT v=spf1 include:{} -all", link(n + 1));
    let first = format!("acme.test TXT v=spf1 include:{} -all", link(1));
    std::iter::once(first)
        .chain((1..links).map(record))
        .collect()
}

cases! { Spf, expectation(), with [OUR_HOST];
    ten_lookups_are_allowed: [MX, HOST, &lookups(10)] => SpfOk;
    eleven_lookups_are_too_many: [MX, HOST, &lookups(11)] => SpfTooManyLookups;
    lookups_after_all_do_not_count: [
        MX, HOST, &format!("{} a:h.acme.test", lookups(10)),
    ] => SpfOk;
    addresses_need_no_lookup: [
        MX, HOST, &lookups(10).replace("-all", "ip4:192.0.2.1 ip6:::1 ip4:192.0.2.0/24 -all"),
    ] => SpfOk;
    an_explanation_needs_no_lookup: [MX, HOST, &format!("{} exp=h.acme.test", lookups(10))] => SpfOk;
    ptr_needs_a_lookup: [MX, HOST, &lookups(10).replace("-all", "ptr -all")] => SpfTooManyLookups;
    exists_needs_a_lookup: [
        MX, HOST, &lookups(10).replace("-all", "exists:h.acme.test -all"),
    ] => SpfTooManyLookups;
    macros_need_a_lookup: [
        MX, HOST, &lookups(10).replace("-all", "exists:%{i}.acme.test -all"),
    ] => SpfTooManyLookups;
    a_redirect_needs_a_lookup: [
        MX, HOST, &lookups(10).replace("-all", "redirect=r.acme.test"), "r.acme.test TXT v=spf1 -all",
    ] => SpfTooManyLookups;
    a_redirect_as_the_tenth_is_allowed: [
        MX, HOST, &lookups(9).replace("-all", "redirect=r.acme.test"), "r.acme.test TXT v=spf1 -all",
    ] => SpfOk;
    lookups_of_an_include_count: [
        MX, HOST, &lookups(8).replace("-all", "include:i.acme.test -all"),
        "i.acme.test TXT v=spf1 a:h.acme.test a:h.acme.test -all",
    ] => SpfTooManyLookups;
    an_include_and_its_lookups_make_ten: [
        MX, HOST, &lookups(8).replace("-all", "include:i.acme.test -all"),
        "i.acme.test TXT v=spf1 a:h.acme.test -all",
    ] => SpfOk;
    the_same_include_counts_each_time: [
        MX, &lookups(1).replace("-all", &"include:i.acme.test ".repeat(10)), "i.acme.test TXT v=spf1 -all",
    ] => SpfTooManyLookups;
    two_void_lookups_are_allowed: [MX, &void_lookups(2)] => SpfOk;
    three_void_lookups_are_too_many: [MX, &void_lookups(3)] => SpfTooManyVoidLookups;
    a_name_without_addresses_is_void: [
        MX, &void_lookups(2).replace("-all", "a:t.acme.test -all"), "t.acme.test TXT hello",
    ] => SpfTooManyVoidLookups;
    a_host_with_an_address_of_either_family_is_not_void: [
        MX, &void_lookups(2).replace("-all", "a:six.acme.test -all"), "six.acme.test AAAA 2001:db8::1",
    ] => SpfOk;
    an_invalid_name_is_not_void: [
        "acme.test TXT v=spf1 a:gone0.acme.test a:gone1.acme.test a:bad..acme.test a:mail.provider.test -all",
    ] => SpfOk;
    our_own_result_counts_voids_of_macros: [
        "acme.test TXT v=spf1 a:gone0.acme.test a:gone1.acme.test exists:%{i}.acme.test a:mail.provider.test -all",
    ] => SpfTooManyVoidLookups;
    a_domain_without_mx_records_is_void: [
        MX, &void_lookups(2).replace("-all", "mx:none.acme.test -all"),
    ] => SpfTooManyVoidLookups;
    exists_of_nothing_is_void: [
        MX, &void_lookups(2).replace("-all", "exists:none.acme.test -all"),
    ] => SpfTooManyVoidLookups;
    void_lookups_of_an_include_count: [
        MX, &void_lookups(2).replace("-all", "include:i.acme.test -all"),
        "i.acme.test TXT v=spf1 a:gone.acme.test -all",
    ] => SpfTooManyVoidLookups;
    our_missing_mx_records_are_one_void_lookup: [
        &void_lookups(1).replace("-all", "a:mail.provider.test -all"),
    ] => SpfOk;
    our_missing_mx_records_and_two_more_are_too_many: [
        &void_lookups(2).replace("-all", "a:mail.provider.test -all"),
    ] => SpfTooManyVoidLookups;
    macros_that_vary_by_sender_are_not_void: [
        MX, &void_lookups(2).replace("-all", "exists:%{i}.gone.test exists:%{h}.gone.test -all"),
    ] => SpfOk;
    ten_mx_hosts_are_allowed: [
        MX, "acme.test TXT v=spf1 mx mx:many.test -all",
        "many.test MX 1 a.test", "many.test MX 2 a.test", "many.test MX 3 a.test", "many.test MX 4 a.test",
        "many.test MX 5 a.test", "many.test MX 6 a.test", "many.test MX 7 a.test", "many.test MX 8 a.test",
        "many.test MX 9 a.test", "many.test MX 10 a.test",
    ] => SpfOk;
    eleven_mx_hosts_are_too_many: [
        MX, "acme.test TXT v=spf1 mx mx:many.test -all",
        "many.test MX 1 a.test", "many.test MX 2 a.test", "many.test MX 3 a.test", "many.test MX 4 a.test",
        "many.test MX 5 a.test", "many.test MX 6 a.test", "many.test MX 7 a.test", "many.test MX 8 a.test",
        "many.test MX 9 a.test", "many.test MX 10 a.test", "many.test MX 11 a.test",
    ] => SpfTooManyMx;
}

cases! { Spf, include();
    ten_nested_includes_are_allowed: [
        &chain(10)[0], &chain(10)[1], &chain(10)[2], &chain(10)[3], &chain(10)[4], &chain(10)[5], &chain(10)[6],
        &chain(10)[7], &chain(10)[8], &chain(10)[9], OURS,
    ] => SpfOk;
    eleven_nested_includes_are_too_many: [
        &chain(11)[0], &chain(11)[1], &chain(11)[2], &chain(11)[3], &chain(11)[4], &chain(11)[5], &chain(11)[6],
        &chain(11)[7], &chain(11)[8], &chain(11)[9], &chain(11)[10], OURS,
    ] => SpfTooManyLookups;
}
