//! The URL map.

pub mod events;
pub mod health;
pub mod job_operations;
pub mod jobs;
pub mod openapi;
pub mod tenants;
pub mod users;

use utoipa_axum::router::OpenApiRouter;

use crate::state::App;

/// Every documented route.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::document())
        .merge(health::router())
        .merge(tenants::router())
        .merge(users::router())
        .merge(jobs::router())
        .merge(job_operations::router())
        .merge(events::router())
}
