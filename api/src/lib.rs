//! HTTP in, jobs out: authenticates, authorises, validates, and records what is wanted together with the job that
//! carries it out. No request calls an upstream.

pub mod auth;
pub mod config;
pub mod error;
pub mod extract;
pub mod fields;
pub mod flags;
pub mod intent;
pub mod layers;
pub mod limits;
pub mod metrics;
pub mod routes;
pub mod seed;
pub mod serve;
pub mod state;
pub mod turns;
pub mod waiting;
pub mod wire;

use axum::{Router, middleware::from_fn_with_state};

pub use self::{config::Config, routes::openapi, state::AppState};

/// What this service is called in health, traces and metrics.
pub const SERVICE: &str = "dezky-platform-api";

/// The whole app without a socket.
pub fn router(state: state::App) -> Router {
    let (routes, document) = routes::router().split_for_parts();
    let limited = routes.layer(from_fn_with_state(state.clone(), limits::by_address));
    let document = openapi::restrict_parameters(document);
    let routes = openapi::serve(document).merge(limited);
    layers::around(routes, &state.cors_allowed_origins, &state.trusted_proxies).with_state(state)
}

/// What is served until there is a state: that the process lives, and can do nothing yet.
pub fn starting(config: &Config) -> Router {
    layers::around(
        routes::health::starting(),
        &config.cors_allowed_origins,
        &config.trusted_proxies,
    )
}
