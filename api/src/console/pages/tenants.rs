//! List of tenants.

use askama::Template;
use axum::{
    extract::{Query, State},
    response::Response,
};
use http::StatusCode;
use serde::Deserialize;

use super::{
    super::{
        ConsoleState,
        failure::Failure,
        page::{Frame, respond},
        query::{Parameters, path_with, text},
        session::Session,
        text::State as Word,
    },
    Choice, List, choices,
};

/// Parameters of the list.
const FILTERS: [&str; 3] = ["q", "status", "health"];
/// Statuses of tenants.
const STATUSES: [&str; 5] = [
    "pending",
    "active",
    "suspended",
    "terminating",
    "terminated",
];
/// Healths of tenants.
const HEALTHS: [&str; 3] = ["healthy", "attention", "critical"];

#[derive(Debug, Deserialize)]
struct TenantRow {
    slug: String,
    name: String,
    status: Word,
    plan: String,
    domains: Vec<String>,
    health: Option<Health>,
}

/// Health of a tenant.
#[derive(Debug, Deserialize)]
pub(super) struct Health {
    pub(super) status: Word,
    pub(super) reasons: Vec<HealthReason>,
}

/// A reason why a tenant is not healthy.
#[derive(Debug, Deserialize)]
pub(super) struct HealthReason {
    pub(super) message: String,
}

#[derive(Debug, Template)]
#[template(path = "console/tenants.html")]
struct TenantsPage {
    frame: Frame,
    q: String,
    statuses: Vec<Choice>,
    healths: Vec<Choice>,
    tenants: Vec<TenantRow>,
    next: Option<String>,
}

pub(in crate::console) async fn show(
    State(console): State<ConsoleState>,
    session: Session,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Failure> {
    let cursor = text(&parameters, "cursor").unwrap_or_default();
    let more = [("limit", "50"), ("cursor", cursor)];
    let path = path_with("/tenants", &parameters, &FILTERS, &more);
    let tenants: List<TenantRow> = console.routes.get(&session, &path).await?;
    let next = tenants.next_page("/console/tenants", &parameters, &FILTERS);
    let page = TenantsPage {
        frame: Frame::new(&session, "/console/tenants", "Tenants", &parameters)?,
        q: text(&parameters, "q").unwrap_or_default().to_owned(),
        statuses: choices(&STATUSES, text(&parameters, "status")),
        healths: choices(&HEALTHS, text(&parameters, "health")),
        tenants: tenants.items,
        next,
    };
    Ok(respond(StatusCode::OK, &page))
}
