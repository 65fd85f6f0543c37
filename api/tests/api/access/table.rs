//! The table: every route, and what every kind of caller is answered.

use crate::everyone::Who;

/// The status for each of [`Who::ALL`], in that order.
pub(crate) type Expected = [u16; Who::ALL.len()];
/// Method, route, body, and what everybody is answered.
pub(crate) type Row = (&'static str, &'static str, &'static str, Expected);

/// Everybody, nobody included.
const fn anybody(ok: u16) -> Expected {
    [ok; Who::ALL.len()]
}

/// What those of `chosen` are answered with `ok`, those of `known` with 403, and all others with `other`; nobody
/// and whoever comes with an old token with 401.
const fn answers(chosen: &[Who], ok: u16, known: &[Who], other: u16) -> Expected {
    let mut expected = [other; Who::ALL.len()];
    let mut place = 0;
    while place < known.len() {
        expected[known[place] as usize] = 403;
        place += 1;
    }
    place = 0;
    while place < chosen.len() {
        expected[chosen[place] as usize] = ok;
        place += 1;
    }
    expected[Who::Nobody as usize] = 401;
    expected[Who::Expired as usize] = 401;
    expected
}

/// Whoever is signed in.
const fn signed_in(ok: u16) -> Expected {
    answers(&[], ok, &[], ok)
}

/// Operators, where no tenant is named.
const fn operators(ok: u16) -> Expected {
    answers(&[Who::Operator], ok, &[], 403)
}

/// Whoever may know that the tenant exists.
const READERS: &[Who] = &[
    Who::Member,
    Who::Admin,
    Who::Owner,
    Who::PartnerOwner,
    Who::PartnerManager,
    Who::PartnerSupport,
    Who::PartnerReadOnly,
    Who::Operator,
];
/// Half an operator each.
const HALF_OPERATORS: &[Who] = &[Who::OperatorWithoutFlag, Who::FlagWithoutAudience];

/// The tenant's members, its partner's staff, operators. For others it does not exist.
const fn readers(ok: u16) -> Expected {
    answers(READERS, ok, &[], 404)
}

/// The tenant's owners and admins, its partner's staff, operators.
const fn inspectors(ok: u16) -> Expected {
    let inspectors = [
        Who::Admin,
        Who::Owner,
        Who::PartnerOwner,
        Who::PartnerManager,
        Who::PartnerSupport,
        Who::PartnerReadOnly,
        Who::Operator,
    ];
    answers(&inspectors, ok, READERS, 404)
}

/// The tenant's owners and admins, its partner's staff who may write, operators.
const fn writers(ok: u16) -> Expected {
    let writers = [
        Who::Admin,
        Who::Owner,
        Who::PartnerOwner,
        Who::PartnerManager,
        Who::Operator,
    ];
    answers(&writers, ok, READERS, 404)
}

/// The tenant's owners and admins, its partner's staff, operators.
const fn overseers(ok: u16) -> Expected {
    let mut expected = readers(ok);
    expected[Who::Member as usize] = 403;
    expected
}

/// The tenant's owners, operators.
const fn owners(ok: u16) -> Expected {
    answers(&[Who::Owner, Who::Operator], ok, READERS, 404)
}

/// The tenant's partner's staff who may write, operators.
const fn managers(ok: u16) -> Expected {
    let managers = [Who::PartnerOwner, Who::PartnerManager, Who::Operator];
    answers(&managers, ok, READERS, 404)
}

/// Operators; whoever else may know that the tenant exists learns that it is not for them.
const fn operators_among_readers(ok: u16) -> Expected {
    answers(&[Who::Operator], ok, READERS, 404)
}

/// The same on a route that is for operators alone: half an operator learns what is missing.
const fn operators_of_tenant(ok: u16) -> Expected {
    let mut expected = operators_among_readers(ok);
    let mut place = 0;
    while place < HALF_OPERATORS.len() {
        expected[HALF_OPERATORS[place] as usize] = 403;
        place += 1;
    }
    expected
}

/// Staff of a partner that was not terminated, each of their own.
const STAFF: &[Who] = &[
    Who::PartnerOwner,
    Who::PartnerManager,
    Who::PartnerSupport,
    Who::PartnerReadOnly,
    Who::OtherPartner,
];
/// Those of them who may write.
const MANAGING_STAFF: &[Who] = &[Who::PartnerOwner, Who::PartnerManager, Who::OtherPartner];

/// Staff of any partner, about their own.
const fn staff(ok: u16) -> Expected {
    answers(STAFF, ok, &[], 403)
}

/// Staff of any partner who may write, about their own.
const fn managing_staff(ok: u16) -> Expected {
    answers(MANAGING_STAFF, ok, &[], 403)
}

/// Staff of the tenant's partner. For those of another it does not exist.
const fn staff_of_tenant(ok: u16) -> Expected {
    without_another_partners(staff(ok))
}

/// The same, if they may write.
const fn managing_staff_of_tenant(ok: u16) -> Expected {
    without_another_partners(managing_staff(ok))
}

const fn without_another_partners(mut expected: Expected) -> Expected {
    expected[Who::OtherPartner as usize] = 404;
    expected
}

/// Owners of any partner, about their own.
const fn partner_owners(ok: u16) -> Expected {
    answers(&[Who::PartnerOwner, Who::OtherPartner], ok, &[], 403)
}

pub(crate) const TABLE: &[Row] = &[
    ("GET", "/healthz", "", anybody(200)),
    ("GET", "/readyz", "", anybody(200)),
    ("GET", "/users/me", "", signed_in(200)),
    ("PATCH", "/users/{id}", "{}", operators(200)),
    ("GET", "/users", "", operators(200)),
    (
        "POST",
        "/users",
        "{\"authentikSubjectId\":\"00000000-0000-4000-a000-000000000000\",\"email\":\"a@b.test\",\"name\":\"A\"}",
        operators(201),
    ),
    ("GET", "/users/{id}", "", operators(200)),
    ("DELETE", "/users/{id}", "", operators(200)),
    ("GET", "/tenants/{slug}/users", "", overseers(200)),
    ("GET", "/tenants/{slug}/users/{id}", "", overseers(200)),
    (
        "PATCH",
        "/tenants/{slug}/users/{id}",
        "{\"role\":\"admin\"}",
        writers(200),
    ),
    (
        "PATCH",
        "/tenants/{slug}/users/{id}",
        "{\"role\":\"owner\"}",
        owners(200),
    ),
    ("DELETE", "/tenants/{slug}/users/{id}", "", writers(200)),
    ("GET", "/subscriptions", "", signed_in(200)),
    (
        "POST",
        "/subscriptions",
        "{\"tenant\":\"other\",\"plan\":\"starter\",\"cycle\":\"monthly\",\"seats\":1,\"currency\":\"DKK\",\"priceMinor\":0}",
        operators(201),
    ),
    ("GET", "/subscriptions/{id}", "", operators(200)),
    (
        "PATCH",
        "/subscriptions/{id}",
        "{\"seats\":2}",
        operators(200),
    ),
    ("DELETE", "/subscriptions/{id}", "", operators(200)),
    ("GET", "/plans", "", signed_in(200)),
    ("GET", "/prices", "", operators(200)),
    (
        "POST",
        "/prices",
        "{\"plan\":\"starter\",\"cycle\":\"monthly\",\"currency\":\"DKK\",\"amountMinor\":1}",
        operators(201),
    ),
    ("GET", "/prices/{id}", "", operators(200)),
    (
        "PATCH",
        "/prices/{id}",
        "{\"amountMinor\":2}",
        operators(200),
    ),
    ("DELETE", "/prices/{id}", "", operators(200)),
    ("GET", "/tenants", "", signed_in(200)),
    (
        "POST",
        "/tenants",
        "{\"slug\":\"acme\",\"name\":\"Acme\"}",
        operators(202),
    ),
    ("GET", "/tenants/{slug}", "", readers(200)),
    (
        "PATCH",
        "/tenants/{slug}",
        "{\"industry\":\"x\"}",
        writers(200),
    ),
    (
        "PATCH",
        "/tenants/{slug}",
        "{\"plan\":\"starter\"}",
        operators_among_readers(202),
    ),
    (
        "PATCH",
        "/tenants/{slug}",
        "{\"domains\":[]}",
        operators_among_readers(202),
    ),
    (
        "PATCH",
        "/tenants/{slug}",
        "{\"partnerId\":null}",
        operators_among_readers(200),
    ),
    ("POST", "/tenants/{slug}/reconcile", "", writers(202)),
    ("POST", "/tenants/{slug}/suspend", "", managers(202)),
    ("POST", "/tenants/{slug}/resume", "", managers(200)),
    (
        "DELETE",
        "/tenants/{slug}?confirm=demo",
        "",
        operators_of_tenant(202),
    ),
    (
        "POST",
        "/tenants/{slug}/restore",
        "",
        operators_of_tenant(409),
    ),
    ("GET", "/tenants/{slug}/summary", "", readers(200)),
    ("GET", "/tenants/{slug}/billing-info", "", writers(200)),
    (
        "PATCH",
        "/tenants/{slug}/billing-info",
        "{\"company\":\"Demo A/S\"}",
        writers(200),
    ),
    ("GET", "/tenants/{slug}/branding", "", readers(200)),
    (
        "PUT",
        "/tenants/{slug}/branding",
        "{\"productName\":\"Desk\"}",
        writers(200),
    ),
    (
        "GET",
        "/tenants/{slug}/security-policy",
        "",
        inspectors(200),
    ),
    (
        "PATCH",
        "/tenants/{slug}/security-policy",
        "{\"mfaMode\":\"required\"}",
        writers(200),
    ),
    ("GET", "/snapshots?month=2026-11", "", operators(200)),
    ("GET", "/tenants/{slug}/domains", "", readers(200)),
    (
        "POST",
        "/tenants/{slug}/domains",
        "{\"name\":\"new.test\"}",
        writers(202),
    ),
    ("GET", "/tenants/{slug}/domains/{domain}", "", readers(200)),
    (
        "PATCH",
        "/tenants/{slug}/domains/{domain}",
        "{\"dmarc\":{\"policy\":\"reject\"}}",
        writers(202),
    ),
    (
        "DELETE",
        "/tenants/{slug}/domains/{domain}",
        "",
        writers(202),
    ),
    (
        "POST",
        "/tenants/{slug}/domains/{domain}/recheck",
        "",
        writers(202),
    ),
    ("GET", "/tenants/{slug}/jobs", "", readers(200)),
    ("GET", "/tenants/{slug}/events", "", readers(200)),
    ("GET", "/jobs/{id}/events", "", readers(200)),
    ("GET", "/job-operations", "", operators(200)),
    (
        "POST",
        "/job-operations",
        "{\"action\":\"requeue\",\"filter\":{\"state\":\"discarded\"}}",
        operators(202),
    ),
    ("GET", "/job-operations/{id}", "", operators(404)),
    ("GET", "/job-operations/{id}/items", "", operators(404)),
    ("GET", "/jobs", "", signed_in(200)),
    ("GET", "/jobs/{id}", "", readers(200)),
    ("POST", "/jobs/{id}/requeue", "", operators(202)),
    ("POST", "/jobs/{id}/cancel", "", operators(200)),
    ("GET", "/schedules", "", operators(200)),
    ("GET", "/schedules/{name}", "", operators(200)),
    (
        "POST",
        "/schedules/{name}/run",
        "{\"dryRun\":true}",
        operators(202),
    ),
    ("GET", "/jobs/{id}/explain", "", readers(200)),
    ("GET", "/queues", "", operators(200)),
    ("POST", "/queues/{name}/pause", "", operators(200)),
    ("POST", "/queues/{name}/resume", "", operators(200)),
    ("GET", "/upstreams", "", operators(200)),
    ("GET", "/upstreams/{name}", "", operators(200)),
    ("POST", "/upstreams/{name}/pause", "", operators(200)),
    ("POST", "/upstreams/{name}/resume", "", operators(200)),
    ("GET", "/workers", "", operators(200)),
    ("GET", "/partners", "", operators(200)),
    (
        "POST",
        "/partners",
        "{\"slug\":\"new-partner\",\"name\":\"New\"}",
        operators(201),
    ),
    ("GET", "/partners/{slug}", "", operators(200)),
    (
        "PATCH",
        "/partners/{slug}",
        "{\"marginPct\":7.5}",
        operators(200),
    ),
    ("DELETE", "/partners/{slug}", "", operators(200)),
    ("GET", "/partners/{slug}/tenants", "", operators(200)),
    ("GET", "/partner", "", staff(200)),
    ("GET", "/partner/settings", "", managing_staff(200)),
    (
        "PATCH",
        "/partner/settings",
        "{\"supportEmail\":\"help@nordic.test\"}",
        managing_staff(200),
    ),
    (
        "PATCH",
        "/partner/settings",
        "{\"marginPct\":100}",
        managing_staff(403),
    ),
    ("GET", "/partner/branding", "", staff(200)),
    (
        "PUT",
        "/partner/branding",
        "{\"accentColor\":\"#0a7cff\"}",
        managing_staff(200),
    ),
    ("GET", "/partner/tenants", "", staff(200)),
    (
        "POST",
        "/partner/tenants",
        "{\"slug\":\"customer\",\"name\":\"Customer\"}",
        managing_staff(202),
    ),
    ("GET", "/partner/tenants/{slug}", "", staff_of_tenant(200)),
    (
        "PATCH",
        "/partner/tenants/{slug}",
        "{\"industry\":\"x\"}",
        managing_staff_of_tenant(200),
    ),
    (
        "PATCH",
        "/partner/tenants/{slug}",
        "{\"plan\":\"starter\"}",
        managing_staff_of_tenant(403),
    ),
    (
        "POST",
        "/partner/tenants/{slug}/suspend",
        "",
        managing_staff_of_tenant(202),
    ),
    (
        "POST",
        "/partner/tenants/{slug}/resume",
        "",
        managing_staff_of_tenant(200),
    ),
    ("GET", "/partner/team", "", staff(200)),
    (
        "POST",
        "/partner/team",
        "{\"email\":\"new@people.test\",\"name\":\"New\",\"accessLevel\":\"support\"}",
        partner_owners(202),
    ),
    // The stranger works for nobody.
    (
        "PATCH",
        "/partner/team/{id}",
        "{\"accessLevel\":\"support\"}",
        partner_owners(404),
    ),
    ("DELETE", "/partner/team/{id}", "", partner_owners(404)),
    ("POST", "/partner/team/refresh", "", managing_staff(202)),
    ("GET", "/partners/{slug}/team", "", operators(200)),
    (
        "POST",
        "/partners/{slug}/team",
        "{\"email\":\"new@people.test\",\"name\":\"New\",\"accessLevel\":\"owner\"}",
        operators(202),
    ),
    ("POST", "/invitations/{id}/link", "", signed_in(404)),
    ("GET", "/audit", "", operators(200)),
    ("GET", "/audit/verify", "", operators(200)),
    ("GET", "/tenants/{slug}/audit", "", inspectors(200)),
    ("GET", "/tenants/{slug}/audit/verify", "", inspectors(200)),
    ("GET", "/infrastructure", "", operators(200)),
    ("GET", "/flags", "", operators(200)),
    (
        "POST",
        "/flags",
        "{\"key\":\"beta_search\",\"description\":\"A new search.\"}",
        operators(201),
    ),
    ("GET", "/flags/{key}", "", operators(200)),
    (
        "PATCH",
        "/flags/{key}",
        "{\"killSwitch\":true}",
        operators(200),
    ),
    ("DELETE", "/flags/{key}", "", operators(200)),
    (
        "POST",
        "/flags/evaluate",
        "{\"tenantSlug\":\"demo\"}",
        readers(200),
    ),
];

/// Those rows of the table that find all as it is wanted, or only look: nothing is recorded of them.
pub(crate) const CHANGE_NOTHING: &[(&str, &str, &str)] = &[
    ("PATCH", "/users/{id}", "{}"),
    ("POST", "/tenants/{slug}/resume", ""),
    ("POST", "/partner/tenants/{slug}/resume", ""),
    ("POST", "/flags/evaluate", "{\"tenantSlug\":\"demo\"}"),
];
