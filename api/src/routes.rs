//! The URL map.

pub mod domains;
pub mod events;
pub mod flags;
pub mod health;
pub mod infrastructure;
pub mod job_operations;
pub mod jobs;
pub mod openapi;
pub mod queues;
pub mod schedules;
pub mod tenants;
pub mod upstreams;
pub mod users;
pub mod workers;

use utoipa_axum::router::OpenApiRouter;

use crate::state::App;

/// Every documented route.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::document())
        .merge(health::router())
        .merge(tenants::router())
        .merge(domains::router())
        .merge(users::router())
        .merge(jobs::router())
        .merge(schedules::router())
        .merge(queues::router())
        .merge(upstreams::router())
        .merge(workers::router())
        .merge(job_operations::router())
        .merge(events::router())
        .merge(flags::router())
        .merge(infrastructure::router())
}
