//! What the evaluation of an SPF record may cost (RFC 7208, section 4.6.4), to the very lookup.

use crate::{cases, cases::expectation, spf::include};

const MX: &str = "acme.test MX 10 mail.provider.test";
const OURS: &str = "_spf.provider.test TXT v=spf1 ip4:192.0.2.25 -all";
const HOST: &str = "h.acme.test A 192.0.2.1";

/// A record with so many terms that each take a lookup, ours among them.
fn lookups(many: usize) -> String {
    format!(
        "acme.test TXT v=spf1 mx{} -all",
        " a:h.acme.test".repeat(many - 1)
    )
}

/// A record with our mechanism and so many that find nothing.
fn void_lookups(many: usize) -> String {
    let voids: Vec<_> = (0..many).map(|n| format!(" a:gone{n}.acme.test")).collect();
    let voids = voids.concat();
    format!("acme.test TXT v=spf1 mx{voids} -all")
}

/// Records of which each includes the next, and the last ours.
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

cases! { Spf, expectation();
    ten_lookups_are_allowed: [MX, HOST, &lookups(10)] => SpfOk;
    eleven_lookups_are_too_many: [MX, HOST, &lookups(11)] => SpfTooManyLookups;
    lookups_behind_the_end_do_not_count: [
        MX, HOST, &format!("{} a:h.acme.test", lookups(10)),
    ] => SpfOk;
    addresses_take_no_lookup: [
        MX, HOST, &lookups(10).replace("-all", "ip4:192.0.2.1 ip6:::1 ip4:192.0.2.0/24 -all"),
    ] => SpfOk;
    an_explanation_takes_no_lookup: [MX, HOST, &format!("{} exp=h.acme.test", lookups(10))] => SpfOk;
    ptr_takes_a_lookup: [MX, HOST, &lookups(10).replace("-all", "ptr -all")] => SpfTooManyLookups;
    exists_takes_a_lookup: [
        MX, HOST, &lookups(10).replace("-all", "exists:h.acme.test -all"),
    ] => SpfTooManyLookups;
    macros_take_a_lookup: [
        MX, HOST, &lookups(10).replace("-all", "exists:%{i}.acme.test -all"),
    ] => SpfTooManyLookups;
    a_redirect_takes_a_lookup: [
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
    a_host_with_an_address_of_either_kind_is_not_void: [
        MX, &void_lookups(2).replace("-all", "a:six.acme.test -all"), "six.acme.test AAAA 2001:db8::1",
    ] => SpfOk;
    no_mail_hosts_are_void: [
        MX, &void_lookups(2).replace("-all", "mx:none.acme.test -all"),
    ] => SpfTooManyVoidLookups;
    exists_of_nothing_is_void: [
        MX, &void_lookups(2).replace("-all", "exists:none.acme.test -all"),
    ] => SpfTooManyVoidLookups;
    void_lookups_of_an_include_count: [
        MX, &void_lookups(2).replace("-all", "include:i.acme.test -all"),
        "i.acme.test TXT v=spf1 a:gone.acme.test -all",
    ] => SpfTooManyVoidLookups;
    our_missing_mail_hosts_are_one_void_lookup: [&void_lookups(1)] => SpfOk;
    macros_are_never_void: [
        MX, &void_lookups(2).replace("-all", "exists:%{i}.gone.test exists:%{h}.gone.test -all"),
    ] => SpfOk;
    ten_mail_hosts_are_allowed: [
        MX, "acme.test TXT v=spf1 mx mx:many.test -all",
        "many.test MX 1 a.test", "many.test MX 2 a.test", "many.test MX 3 a.test", "many.test MX 4 a.test",
        "many.test MX 5 a.test", "many.test MX 6 a.test", "many.test MX 7 a.test", "many.test MX 8 a.test",
        "many.test MX 9 a.test", "many.test MX 10 a.test",
    ] => SpfOk;
    eleven_mail_hosts_are_too_many: [
        MX, "acme.test TXT v=spf1 mx mx:many.test -all",
        "many.test MX 1 a.test", "many.test MX 2 a.test", "many.test MX 3 a.test", "many.test MX 4 a.test",
        "many.test MX 5 a.test", "many.test MX 6 a.test", "many.test MX 7 a.test", "many.test MX 8 a.test",
        "many.test MX 9 a.test", "many.test MX 10 a.test", "many.test MX 11 a.test",
    ] => SpfTooManyMx;
}

cases! { Spf, include();
    ten_includes_one_in_another_are_allowed: [
        &chain(10)[0], &chain(10)[1], &chain(10)[2], &chain(10)[3], &chain(10)[4], &chain(10)[5], &chain(10)[6],
        &chain(10)[7], &chain(10)[8], &chain(10)[9], OURS,
    ] => SpfOk;
    eleven_includes_one_in_another_are_too_many: [
        &chain(11)[0], &chain(11)[1], &chain(11)[2], &chain(11)[3], &chain(11)[4], &chain(11)[5], &chain(11)[6],
        &chain(11)[7], &chain(11)[8], &chain(11)[9], &chain(11)[10], OURS,
    ] => SpfTooManyLookups;
}
