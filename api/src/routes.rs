//! The URL map.

pub mod domains;
pub mod health;
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
        .merge(domains::router())
        .merge(users::router())
        .merge(jobs::router())
}
