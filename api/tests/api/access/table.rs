//! Access table: the expected status of every route for every persona.

use crate::personas::Persona;

/// Status for each of [`Persona::ALL`], in that order.
pub(crate) type Expected = [u16; Persona::ALL.len()];
/// Method, route, body, expected statuses.
pub(crate) type Row = (&'static str, &'static str, &'static str, Expected);

/// Status for an operator with a restricted role: reads as one with all rights does, and is refused what not every signed-in
/// caller may do. Support requeues jobs.
pub(crate) fn restricted(persona: Persona, method: &str, route: &str, expected: &Expected) -> u16 {
    let of = |persona: Persona| expected[persona as usize];
    let full = of(Persona::Operator);
    let is_support = persona == Persona::PlatformSupport;
    let requeues = is_support && route == "/jobs/{id}/requeue";
    let for_all_signed_in = of(Persona::Stranger) == full && of(Persona::Member) == full;
    if method == "GET" || requeues || for_all_signed_in || ALSO_READS.contains(&route) {
        full
    } else {
        403
    }
}

/// Routes that read although their method is POST.
const ALSO_READS: &[&str] = &["/flags/evaluate"];

/// Every persona, including anonymous.
const fn public(ok: u16) -> Expected {
    [ok; Persona::ALL.len()]
}

/// `ok` for `allowed`, 403 for other `readers`, `other` for the rest; 401 for anonymous callers and expired tokens.
const fn answers(allowed: &[Persona], ok: u16, readers: &[Persona], other: u16) -> Expected {
    let mut expected = [other; Persona::ALL.len()];
    let mut i = 0;
    while i < readers.len() {
        expected[readers[i] as usize] = 403;
        i += 1;
    }
    i = 0;
    while i < allowed.len() {
        expected[allowed[i] as usize] = ok;
        i += 1;
    }
    expected[Persona::Anonymous as usize] = 401;
    expected[Persona::ExpiredToken as usize] = 401;
    expected
}

/// Every signed-in persona.
const fn signed_in(ok: u16) -> Expected {
    answers(&[], ok, &[], ok)
}

/// Operators, on routes without a tenant.
const fn operators(ok: u16) -> Expected {
    answers(&[Persona::Operator], ok, &[], 403)
}

/// Personas that may read the tenant.
const READERS: &[Persona] = &[
    Persona::Member,
    Persona::Admin,
    Persona::Owner,
    Persona::PartnerOwner,
    Persona::PartnerManager,
    Persona::PartnerSupport,
    Persona::PartnerReadOnly,
    Persona::Operator,
];
/// Personas with either the admin flag or the operator audience, but not both.
const INCOMPLETE_OPERATORS: &[Persona] =
    &[Persona::OperatorWithoutFlag, Persona::FlagWithoutAudience];

/// The tenant's members, its partner's staff and operators; 404 for the rest.
const fn readers(ok: u16) -> Expected {
    answers(READERS, ok, &[], 404)
}

/// The tenant's owners and admins, its partner's staff and operators.
const fn inspectors(ok: u16) -> Expected {
    let inspectors = [
        Persona::Admin,
        Persona::Owner,
        Persona::PartnerOwner,
        Persona::PartnerManager,
        Persona::PartnerSupport,
        Persona::PartnerReadOnly,
        Persona::Operator,
    ];
    answers(&inspectors, ok, READERS, 404)
}

/// The tenant's owners and admins, its partner's staff with write access, and operators.
const fn writers(ok: u16) -> Expected {
    let writers = [
        Persona::Admin,
        Persona::Owner,
        Persona::PartnerOwner,
        Persona::PartnerManager,
        Persona::Operator,
    ];
    answers(&writers, ok, READERS, 404)
}

/// The tenant's owners and admins, its partner's staff and operators.
const fn overseers(ok: u16) -> Expected {
    let mut expected = readers(ok);
    expected[Persona::Member as usize] = 403;
    expected
}

/// The tenant's owners and admins, and operators.
const fn admins(ok: u16) -> Expected {
    let admins = [Persona::Admin, Persona::Owner, Persona::Operator];
    answers(&admins, ok, READERS, 404)
}

/// The tenant's owners and operators.
const fn owners(ok: u16) -> Expected {
    answers(&[Persona::Owner, Persona::Operator], ok, READERS, 404)
}

/// The partner's staff with write access, and operators.
const fn managers(ok: u16) -> Expected {
    let managers = [
        Persona::PartnerOwner,
        Persona::PartnerManager,
        Persona::Operator,
    ];
    answers(&managers, ok, READERS, 404)
}

/// Operators; 403 for other readers of the tenant, 404 for the rest.
const fn operators_among_readers(ok: u16) -> Expected {
    answers(&[Persona::Operator], ok, READERS, 404)
}

/// Operators, on operator-only routes: incomplete operators get 403 as well.
const fn operators_of_tenant(ok: u16) -> Expected {
    let mut expected = operators_among_readers(ok);
    let mut i = 0;
    while i < INCOMPLETE_OPERATORS.len() {
        expected[INCOMPLETE_OPERATORS[i] as usize] = 403;
        i += 1;
    }
    expected
}

/// Staff of an active partner.
const STAFF: &[Persona] = &[
    Persona::PartnerOwner,
    Persona::PartnerManager,
    Persona::PartnerSupport,
    Persona::PartnerReadOnly,
    Persona::OtherPartner,
];
/// Staff with write access.
const MANAGING_STAFF: &[Persona] = &[
    Persona::PartnerOwner,
    Persona::PartnerManager,
    Persona::OtherPartner,
];

/// Staff of any active partner, for their own partner.
const fn staff(ok: u16) -> Expected {
    answers(STAFF, ok, &[], 403)
}

/// Staff with write access, for their own partner.
const fn managing_staff(ok: u16) -> Expected {
    answers(MANAGING_STAFF, ok, &[], 403)
}

/// Staff of the tenant's partner; 404 for another partner's staff.
const fn staff_of_tenant(ok: u16) -> Expected {
    hide_from_other_partner(staff(ok))
}

/// Staff of the tenant's partner with write access; 404 for another partner's staff.
const fn managing_staff_of_tenant(ok: u16) -> Expected {
    hide_from_other_partner(managing_staff(ok))
}

const fn hide_from_other_partner(mut expected: Expected) -> Expected {
    expected[Persona::OtherPartner as usize] = 404;
    expected
}

/// Owners of any active partner, for their own partner.
const fn partner_owners(ok: u16) -> Expected {
    answers(
        &[Persona::PartnerOwner, Persona::OtherPartner],
        ok,
        &[],
        403,
    )
}

/// A file of new members.
const NEW_MEMBERS: &str = "localPart,name,role\nimported,I,member\n";
/// A new app.
const NEW_APP: &str =
    r#"{"name":"Board","slug":"board","redirectUris":["https://board.test/callback"]}"#;

/// A new invoice.
const NEW_INVOICE: &str =
    r#"{"lines":[{"description":"Setup","amountMinor":5}],"reason":"New","currency":"DKK"}"#;

#[rustfmt::skip]
pub(crate) const TABLE: &[Row] = &[
    ("GET", "/healthz", "", public(200)),
    ("GET", "/readyz", "", public(200)),
    ("GET", "/users/me", "", signed_in(200)),
    ("PATCH", "/users/{id}", "{}", operators(200)),
    ("GET", "/users", "", operators(200)),
    (
        "POST", "/users",
        r#"{"authentikSubjectId":"00000000-0000-4000-a000-000000000000","email":"a@b.test","name":"A"}"#,
        operators(201),
    ),
    ("GET", "/users/{id}", "", operators(200)),
    ("DELETE", "/users/{id}", "", operators(200)),
    ("GET", "/tenants/{slug}/users", "", overseers(200)),
    ("GET", "/tenants/{slug}/users/{id}", "", overseers(200)),
    ("PATCH", "/tenants/{slug}/users/{id}", r#"{"role":"admin"}"#, writers(200)),
    ("PATCH", "/tenants/{slug}/users/{id}", r#"{"role":"owner"}"#, owners(200)),
    ("DELETE", "/tenants/{slug}/users/{id}", "", writers(200)),
    ("GET", "/tenants/{slug}/mfa-status", "", inspectors(200)),
    ("GET", "/tenants/{slug}/storage", "", inspectors(200)),
    ("POST", "/tenants/{slug}/users/{id}/reset-mfa", "", owners(202)),
    ("POST", "/tenants/{slug}/users", r#"{"localPart":"new","name":"New","role":"member"}"#, writers(202)),
    ("POST", "/tenants/{slug}/users", r#"{"localPart":"new","name":"New","role":"owner"}"#, owners(202)),
    // `{id}` is a managed member here, and one who is not above.
    ("POST", "/tenants/{slug}/users/import", NEW_MEMBERS, writers(202)),
    ("POST", "/tenants/{slug}/users/import?dryRun=true", NEW_MEMBERS, writers(200)),
    ("GET", "/tenants/{slug}/users/imports", "", overseers(200)),
    ("GET", "/tenants/{slug}/users/imports/{id}", "", overseers(404)),
    ("GET", "/tenants/{slug}/users/imports/{id}/rows", "", overseers(404)),
    ("POST", "/tenants/{slug}/users/imports/{id}/passwords", "", writers(404)),
    ("POST", "/tenants/{slug}/users/{id}/suspend", "", writers(202)),
    ("POST", "/tenants/{slug}/users/{id}/resume", "", writers(200)),
    ("POST", "/tenants/{slug}/users/{id}/force-logout", "", writers(202)),
    ("POST", "/tenants/{slug}/users/{id}/reset-password", "", writers(202)),
    ("POST", "/tenants/{slug}/users/{id}/restore", "", writers(409)),
    ("GET", "/subscriptions", "", signed_in(200)),
    (
        "POST", "/subscriptions",
        r#"{"tenant":"other","plan":"starter","cycle":"monthly","seats":1,"currency":"DKK","priceMinor":0}"#,
        operators(201),
    ),
    ("GET", "/subscriptions/{id}", "", operators(200)),
    ("PATCH", "/subscriptions/{id}", r#"{"seats":2}"#, operators(200)),
    ("DELETE", "/subscriptions/{id}", "", operators(200)),
    ("GET", "/tenants/{slug}/billing", "", writers(200)),
    // The flag is off.
    ("POST", "/tenants/{slug}/billing/invoice", "", operators_of_tenant(409)),
    ("POST", "/tenants/{slug}/billing/sync", "", operators_of_tenant(409)),
    ("GET", "/invoices", "", operators(200)),
    ("GET", "/partner/invoices", "", managing_staff(200)),
    ("GET", "/partner/balances", "", managing_staff(200)),
    ("GET", "/partner/ledger", "", managing_staff(200)),
    ("GET", "/partner/payouts", "", managing_staff(200)),
    ("GET", "/partner/payouts/{id}", "", managing_staff(404)),
    ("GET", "/partner/billing/summary", "", managing_staff(200)),
    ("GET", "/billing/summary", "", operators(200)),
    ("GET", "/reports/{name}", "", operators(200)),
    ("GET", "/partner/reports/{name}", "", managing_staff(200)),
    ("GET", "/reports/saved", "", operators(200)),
    ("POST", "/reports/saved", r#"{"name":"Yearly","report":"mrr","last":13}"#, operators(201)),
    ("GET", "/reports/saved/{id}", "", operators(404)),
    ("GET", "/reports/saved/{id}/result", "", operators(404)),
    ("DELETE", "/reports/saved/{id}", "", operators(404)),
    ("GET", "/partner/reports/saved", "", managing_staff(200)),
    ("POST", "/partner/reports/saved", r#"{"name":"Yearly","report":"mrr","last":13}"#, managing_staff(201)),
    ("GET", "/partner/reports/saved/{id}", "", managing_staff(404)),
    ("GET", "/partner/reports/saved/{id}/result", "", managing_staff(404)),
    ("DELETE", "/partner/reports/saved/{id}", "", managing_staff(404)),
    ("GET", "/partners/{slug}/balances", "", operators(200)),
    ("GET", "/partners/{slug}/ledger", "", operators(200)),
    (
        "POST", "/partners/{slug}/ledger", r#"{"currency":"DKK","amountMinor":5,"reason":"Bonus"}"#,
        operators(201),
    ),
    ("GET", "/payouts", "", operators(200)),
    ("POST", "/payouts", r#"{"partner":"nordic","currency":"DKK","month":"2025-01"}"#, operators(409)),
    ("GET", "/payouts/{id}", "", operators(404)),
    ("POST", "/payouts/{id}/cancel", "", operators(404)),
    ("POST", "/payouts/{id}/mark-paid", r#"{"reference":"Bank 1"}"#, operators(404)),
    ("GET", "/tenants/{slug}/payment-method", "", writers(200)),
    // The flag is off.
    ("PUT", "/tenants/{slug}/payment-method", r#"{"setupIntentId":"seti_1"}"#, admins(409)),
    ("POST", "/tenants/{slug}/payment-method/setup-intents", "", admins(409)),
    // Not signed.
    ("POST", "/webhooks/stripe", "{}", public(400)),
    ("GET", "/webhook-events", "", operators(200)),
    ("POST", "/webhook-events/{id}/replay", "", operators(404)),
    ("GET", "/tenants/{slug}/invoices", "", writers(200)),
    ("POST", "/tenants/{slug}/invoices", NEW_INVOICE, operators_of_tenant(201)),
    ("GET", "/tenants/{slug}/invoices/{id}", "", writers(200)),
    ("GET", "/tenants/{slug}/invoices/{id}/pdf", "", writers(404)),
    ("POST", "/tenants/{slug}/invoices/{id}/void", r#"{"reason":"Wrong"}"#, operators_of_tenant(200)),
    ("POST", "/tenants/{slug}/invoices/{id}/refresh", "", writers(200)),
    ("POST", "/tenants/{slug}/invoices/{id}/mark-paid", r#"{"reference":"Bank 1"}"#, operators_of_tenant(200)),
    ("GET", "/plans", "", signed_in(200)),
    ("GET", "/prices", "", operators(200)),
    ("POST", "/prices", r#"{"plan":"starter","cycle":"monthly","currency":"DKK","amountMinor":1}"#, operators(201)),
    ("GET", "/prices/{id}", "", operators(200)),
    ("PATCH", "/prices/{id}", r#"{"amountMinor":2}"#, operators(200)),
    ("DELETE", "/prices/{id}", "", operators(200)),
    ("GET", "/allowances", "", operators(200)),
    ("GET", "/allowances/{plan}", "", operators(200)),
    ("PATCH", "/allowances/{plan}", r#"{"filesBytes":5}"#, operators(202)),
    ("GET", "/tenants", "", signed_in(200)),
    ("POST", "/tenants", r#"{"slug":"acme","name":"Acme"}"#, operators(202)),
    ("GET", "/tenants/{slug}", "", readers(200)),
    ("PATCH", "/tenants/{slug}", r#"{"industry":"x"}"#, writers(200)),
    ("PATCH", "/tenants/{slug}", r#"{"plan":"starter"}"#, operators_among_readers(202)),
    ("PATCH", "/tenants/{slug}", r#"{"domains":[]}"#, operators_among_readers(202)),
    ("PATCH", "/tenants/{slug}", r#"{"partnerId":null}"#, operators_among_readers(200)),
    ("POST", "/tenants/{slug}/reconcile", "", writers(202)),
    ("POST", "/tenants/{slug}/suspend", "", managers(202)),
    ("POST", "/tenants/{slug}/resume", "", managers(200)),
    ("DELETE", "/tenants/{slug}?confirm=demo", "", operators_of_tenant(202)),
    ("POST", "/tenants/{slug}/restore", "", operators_of_tenant(409)),
    ("GET", "/tenants/{slug}/summary", "", readers(200)),
    ("GET", "/tenants/{slug}/billing-info", "", writers(200)),
    ("PATCH", "/tenants/{slug}/billing-info", r#"{"company":"Demo A/S"}"#, writers(200)),
    ("GET", "/tenants/{slug}/branding", "", readers(200)),
    ("PUT", "/tenants/{slug}/branding", r#"{"productName":"Desk"}"#, writers(200)),
    ("GET", "/tenants/{slug}/security-policy", "", inspectors(200)),
    ("PATCH", "/tenants/{slug}/security-policy", r#"{"mfaMode":"required"}"#, writers(200)),
    ("GET", "/snapshots?month=2026-11", "", operators(200)),
    ("GET", "/tenants/{slug}/domains", "", readers(200)),
    ("POST", "/tenants/{slug}/domains", r#"{"name":"new.test"}"#, writers(202)),
    ("GET", "/tenants/{slug}/domains/{domain}", "", readers(200)),
    ("PATCH", "/tenants/{slug}/domains/{domain}", r#"{"dmarc":{"policy":"reject"}}"#, writers(202)),
    ("DELETE", "/tenants/{slug}/domains/{domain}", "", writers(202)),
    ("POST", "/tenants/{slug}/domains/{domain}/recheck", "", writers(202)),
    ("GET", "/tenants/{slug}/apps", "", inspectors(200)),
    ("POST", "/tenants/{slug}/apps", NEW_APP, writers(202)),
    ("GET", "/tenants/{slug}/apps/{id}", "", inspectors(200)),
    ("PATCH", "/tenants/{slug}/apps/{id}", r#"{"name":"Handbook"}"#, writers(202)),
    ("DELETE", "/tenants/{slug}/apps/{id}", "", writers(202)),
    ("POST", "/tenants/{slug}/apps/{id}/rotate-secret", "", writers(202)),
    ("GET", "/tenants/{slug}/sso-apps", "", inspectors(200)),
    ("POST", "/tenants/{slug}/sso-apps", NEW_APP, writers(202)),
    ("GET", "/tenants/{slug}/sso-apps/{id}", "", inspectors(200)),
    ("PATCH", "/tenants/{slug}/sso-apps/{id}", r#"{"name":"Handbook"}"#, writers(202)),
    ("DELETE", "/tenants/{slug}/sso-apps/{id}", "", writers(202)),
    ("POST", "/tenants/{slug}/sso-apps/{id}/rotate-secret", "", writers(202)),
    ("GET", "/tenants/{slug}/jobs", "", readers(200)),
    ("GET", "/tenants/{slug}/events", "", readers(200)),
    ("GET", "/jobs/{id}/events", "", readers(200)),
    ("GET", "/job-operations", "", operators(200)),
    ("POST", "/job-operations", r#"{"action":"requeue","filter":{"state":"discarded"}}"#, operators(202)),
    ("GET", "/job-operations/{id}", "", operators(404)),
    ("GET", "/job-operations/{id}/items", "", operators(404)),
    ("GET", "/jobs/stats", "", operators(200)),
    ("GET", "/jobs", "", signed_in(200)),
    ("GET", "/jobs/{id}", "", readers(200)),
    ("POST", "/jobs/{id}/requeue", "", operators(202)),
    ("POST", "/jobs/{id}/cancel", "", operators(200)),
    ("POST", "/jobs/{id}/dismiss", "", operators(409)),
    ("GET", "/schedules", "", operators(200)),
    ("GET", "/schedules/{name}", "", operators(200)),
    ("POST", "/schedules/{name}/run", r#"{"dryRun":true}"#, operators(202)),
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
    ("POST", "/partners", r#"{"slug":"new-partner","name":"New"}"#, operators(201)),
    ("GET", "/partners/{slug}", "", operators(200)),
    ("PATCH", "/partners/{slug}", r#"{"marginPct":7.5}"#, operators(200)),
    ("DELETE", "/partners/{slug}", "", operators(200)),
    ("GET", "/partners/{slug}/tenants", "", operators(200)),
    ("GET", "/partner", "", staff(200)),
    ("GET", "/partner/settings", "", managing_staff(200)),
    ("PATCH", "/partner/settings", r#"{"supportEmail":"help@nordic.test"}"#, managing_staff(200)),
    ("PATCH", "/partner/settings", r#"{"marginPct":100}"#, managing_staff(403)),
    ("GET", "/partner/branding", "", staff(200)),
    ("PUT", "/partner/branding", r##"{"accentColor":"#0a7cff"}"##, managing_staff(200)),
    ("GET", "/partner/tenants", "", staff(200)),
    ("POST", "/partner/tenants", r#"{"slug":"customer","name":"Customer"}"#, managing_staff(202)),
    ("GET", "/partner/tenants/{slug}", "", staff_of_tenant(200)),
    ("PATCH", "/partner/tenants/{slug}", r#"{"industry":"x"}"#, managing_staff_of_tenant(200)),
    ("PATCH", "/partner/tenants/{slug}", r#"{"plan":"starter"}"#, managing_staff_of_tenant(403)),
    ("POST", "/partner/tenants/{slug}/suspend", "", managing_staff_of_tenant(202)),
    ("POST", "/partner/tenants/{slug}/resume", "", managing_staff_of_tenant(200)),
    ("GET", "/partner/team", "", staff(200)),
    (
        "POST", "/partner/team",
        r#"{"email":"new@people.test","name":"New","accessLevel":"support"}"#,
        partner_owners(202),
    ),
    // `{id}` is the stranger, who has no partner.
    ("PATCH", "/partner/team/{id}", r#"{"accessLevel":"support"}"#, partner_owners(404)),
    ("DELETE", "/partner/team/{id}", "", partner_owners(404)),
    ("POST", "/partner/team/refresh", "", managing_staff(202)),
    ("GET", "/partners/{slug}/team", "", operators(200)),
    (
        "POST", "/partners/{slug}/team",
        r#"{"email":"new@people.test","name":"New","accessLevel":"owner"}"#,
        operators(202),
    ),
    ("POST", "/invitations/{id}/link", "", signed_in(404)),
    ("POST", "/invitations/{id}/accept", "", signed_in(404)),
    ("POST", "/invitations/{id}/decline", "", signed_in(404)),
    ("GET", "/audit", "", operators(200)),
    ("GET", "/audit/verify", "", operators(200)),
    ("GET", "/tenants/{slug}/audit", "", inspectors(200)),
    ("GET", "/tenants/{slug}/audit/verify", "", inspectors(200)),
    ("GET", "/infrastructure", "", operators(200)),
    ("GET", "/flags", "", operators(200)),
    ("POST", "/flags", r#"{"key":"beta_search","description":"A new search."}"#, operators(201)),
    ("GET", "/flags/{key}", "", operators(200)),
    ("PATCH", "/flags/{key}", r#"{"killSwitch":true}"#, operators(200)),
    ("DELETE", "/flags/{key}", "", operators(200)),
    ("POST", "/flags/evaluate", r#"{"tenantSlug":"demo"}"#, readers(200)),
];

/// Rows of the table that change nothing, because the state already matches or the route only reads: not audited.
pub(crate) const NOT_AUDITED: &[(&str, &str, &str)] = &[
    ("PATCH", "/users/{id}", "{}"),
    ("POST", "/tenants/{slug}/resume", ""),
    (
        "POST",
        "/tenants/{slug}/users/import?dryRun=true",
        NEW_MEMBERS,
    ),
    ("POST", "/tenants/{slug}/users/{id}/resume", ""),
    ("POST", "/partner/tenants/{slug}/resume", ""),
    // The invoice is not at Stripe.
    ("POST", "/tenants/{slug}/invoices/{id}/refresh", ""),
    ("POST", "/flags/evaluate", r#"{"tenantSlug":"demo"}"#),
];
