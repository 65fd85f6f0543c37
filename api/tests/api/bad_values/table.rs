//! For each route with a body, a request in which every field is invalid.

mod billing;
mod operations;
mod partners;
mod people;
mod tenants;

use http::Method;
use serde_json::Value;

use super::Row;
use crate::personas::Persona;

pub(super) fn rows() -> Vec<Row> {
    let all = [
        tenants::rows(),
        tenants::apps("/tenants/{slug}/apps", "/tenants/{slug}/apps/{id}"),
        tenants::apps("/tenants/{slug}/sso-apps", "/tenants/{slug}/sso-apps/{id}"),
        tenants::tenant_settings(),
        people::rows(),
        billing::rows(),
        partners::rows(),
        partners::own_partner(),
        operations::flags(),
        operations::job_operations(),
        operations::pauses(),
    ];
    all.into_iter().flatten().collect()
}

fn row(
    persona: Persona,
    (method, route): (Method, &'static str),
    body: Value,
    invalid: &'static [&'static str],
) -> Row {
    Row {
        persona,
        method,
        route,
        body,
        invalid,
    }
}

fn by_operator(
    route: (Method, &'static str),
    body: Value,
    invalid: &'static [&'static str],
) -> Row {
    row(Persona::Operator, route, body, invalid)
}

fn by_partner(route: (Method, &'static str), body: Value, invalid: &'static [&'static str]) -> Row {
    row(Persona::PartnerOwner, route, body, invalid)
}

const fn post(route: &'static str) -> (Method, &'static str) {
    (Method::POST, route)
}

const fn put(route: &'static str) -> (Method, &'static str) {
    (Method::PUT, route)
}

const fn patch(route: &'static str) -> (Method, &'static str) {
    (Method::PATCH, route)
}
