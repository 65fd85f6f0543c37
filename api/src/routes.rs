//! Routes of the HTTP API.

pub mod audit;
pub mod domains;
pub mod events;
pub mod flags;
pub mod health;
pub mod infrastructure;
pub mod job_operations;
pub mod jobs;
pub mod openapi;
pub mod partner;
pub mod partner_team;
pub mod partners;
pub mod plans;
pub mod prices;
pub mod queues;
pub mod schedules;
pub mod snapshots;
pub mod subscriptions;
pub mod tenant_users;
pub mod tenants;
pub mod upstreams;
pub mod users;
pub mod workers;

use dezky_shared::audit::Target;
use utoipa_axum::router::OpenApiRouter;

use crate::state::SharedState;

/// Every documented route.
pub fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::with_openapi(openapi::document())
        .merge(health::router())
        .merge(tenants::router())
        .merge(domains::router())
        .merge(users::router())
        .merge(tenant_users::router())
        .merge(subscriptions::router())
        .merge(plans::router())
        .merge(prices::router())
        .merge(partners::router())
        .merge(partner::router())
        .merge(partner_team::router())
        .merge(jobs::router())
        .merge(schedules::router())
        .merge(snapshots::router())
        .merge(queues::router())
        .merge(upstreams::router())
        .merge(workers::router())
        .merge(job_operations::router())
        .merge(events::router())
        .merge(audit::router())
        .merge(flags::router())
        .merge(infrastructure::router())
}

/// The target of an audit event.
fn target(kind: &str, id: impl ToString + Copy, name: impl Into<String>) -> Target {
    Target {
        kind: kind.to_owned(),
        id: id.to_string(),
        name: name.into(),
    }
}
