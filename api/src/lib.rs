//! HTTP in, jobs out: authenticates, authorises, validates, and records what is wanted together with the job that
//! carries it out. No request calls an upstream.

pub mod auth;
pub mod config;
pub mod domain_name;
pub mod error;
pub mod extract;
pub mod flag_cache;
pub mod intent;
pub mod keyed_mutex;
pub mod long_poll;
pub mod metrics;
pub mod middleware;
pub mod rate_limits;
pub mod routes;
pub mod seed;
pub mod serve;
pub mod state;
pub mod tenant_health;
pub mod timestamp;
pub mod validate;

use axum::{Router, middleware::from_fn_with_state};

pub use self::{config::Config, routes::openapi, state::AppState};

/// What this service is called in health, traces and metrics.
pub const SERVICE: &str = "dezky-platform-api";

/// The whole app without a socket.
pub fn router(state: state::SharedState) -> Router {
    let (routes, document) = routes::router().split_for_parts();
    let limited = routes.layer(from_fn_with_state(
        state.clone(),
        rate_limits::limit_by_address,
    ));
    let document = openapi::restrict_parameters(document);
    let routes = openapi::serve(document).merge(limited);
    middleware::apply(routes, &state.cors_allowed_origins, &state.trusted_proxies).with_state(state)
}

/// What is served until there is a state: that the process lives, and can do nothing yet.
pub fn startup_router(config: &Config) -> Router {
    middleware::apply(
        routes::health::starting(),
        &config.cors_allowed_origins,
        &config.trusted_proxies,
    )
}
