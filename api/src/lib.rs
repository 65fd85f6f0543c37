//! HTTP API: authenticates, authorizes and validates requests, and stores each change together with the job that carries
//! it out (transactional enqueue). No request calls an upstream.

pub mod access_control;
pub mod auth;
pub mod config;
mod console;
pub mod domain_name;
pub mod error;
pub mod etag;
pub mod extract;
pub mod flag_cache;
pub mod keyed_mutex;
pub mod long_poll;
pub mod metrics;
pub mod middleware;
pub mod rate_limits;
pub mod read;
mod readiness;
pub mod request_info;
pub mod response;
pub mod routes;
pub mod seed;
pub mod serve;
mod spreadsheet;
pub mod state;
pub mod tenant_health;
pub mod timestamp;
pub mod user_audit;
pub mod user_sync;
pub mod validate;
pub mod views;
pub mod write;

use std::sync::Arc;

use axum::{Extension, Router, middleware::from_fn_with_state};

use self::openapi::QueryParameters;
pub use self::{
    config::Config,
    routes::{health::monitoring_router, openapi},
    state::AppState,
};

/// Name of the service in health checks, traces and metrics.
pub const SERVICE: &str = "dezky-platform-api";

/// The router of the application.
pub fn router(state: state::SharedState) -> Router {
    let (routes, document) = routes::router().split_for_parts();
    let query = QueryParameters::from_document(&document);
    let routes = routes
        .layer(Extension(routes::tenants::Patches::default()))
        .layer(from_fn_with_state(
            Arc::new(query),
            openapi::reject_unknown_query,
        ));
    let console = console::router(&state, &routes);
    let routes = openapi::serve(document)
        .merge(routes)
        .merge(console)
        .layer(from_fn_with_state(
            state.access.limits.clone(),
            rate_limits::limit_by_address,
        ));
    let config = &state.config;
    let app = middleware::apply(
        routes,
        &config.cors_allowed_origins,
        &config.server.trusted_proxies,
        Some(&state.access.limits),
    );
    app.with_state(state)
}

/// The OpenAPI document of the application.
pub fn document() -> serde_json::Value {
    openapi::complete(&routes::router().into_openapi())
}

/// The router during startup: live, not ready.
pub fn startup_router(config: &Config) -> Router {
    middleware::apply(
        routes::health::startup_router(),
        &config.cors_allowed_origins,
        &config.server.trusted_proxies,
        None,
    )
}
