//! Routes of the simulator.

use axum::{
    Router, middleware,
    routing::{delete, get, patch, post},
};
use http::StatusCode;

use super::{
    Sim,
    apps::{applications, bindings, oidc, providers, references, tokens},
    authenticate, devices, groups, passwords, sessions, setup, users, wire,
};

/// The REST API, the OpenID endpoints and the health checks.
pub(super) fn router(sim: Sim) -> Router {
    let api = Router::new()
        .route("/core/users/me/", get(users::me))
        .route("/admin/version/", get(setup::version))
        .route("/rbac/permissions/", get(setup::permissions))
        .route("/core/brands/current/", get(setup::brand))
        .merge(app_routes())
        .route("/core/groups/", get(groups::list).post(groups::create))
        .route(
            "/core/groups/{id}/",
            get(groups::read)
                .patch(groups::update)
                .delete(groups::remove),
        )
        .route("/core/groups/{id}/add_user/", post(groups::add_user))
        .route("/core/groups/{id}/remove_user/", post(groups::remove_user))
        .route("/core/users/", get(users::list).post(users::create))
        .route(
            "/core/users/{pk}/",
            get(users::read).patch(users::update).delete(users::remove),
        )
        .route("/core/users/{pk}/recovery/", post(users::recovery_link))
        .route("/core/users/{pk}/set_password/", post(passwords::set))
        .route("/authenticators/admin/all/", get(devices::list))
        .route(
            "/authenticators/admin/{class}/{id}/",
            get(devices::read).delete(devices::remove),
        )
        .route("/core/authenticated_sessions/", get(sessions::list))
        .route(
            "/core/authenticated_sessions/{id}/",
            delete(sessions::remove),
        )
        .route(
            "/oauth2/refresh_tokens/",
            get(sessions::list_refresh_tokens),
        )
        .route(
            "/oauth2/refresh_tokens/{pk}/",
            delete(sessions::remove_refresh_token),
        )
        .route("/core/tokens/", get(sessions::list_api_tokens))
        .route("/core/tokens/{id}/", delete(sessions::remove_api_token))
        .route("/oauth2/access_tokens/", get(sessions::list_access_tokens))
        .route(
            "/oauth2/access_tokens/{pk}/",
            delete(sessions::remove_access_token),
        )
        .route_layer(middleware::from_fn_with_state(sim.clone(), authenticate))
        .method_not_allowed_fallback(wire::method_not_allowed);
    Router::new()
        .nest("/api/v3", api)
        .nest("/application/o", oidc_routes())
        .route("/-/health/live/", get(StatusCode::OK))
        .route("/-/health/ready/", get(StatusCode::OK))
        .with_state(sim)
}

fn app_routes() -> Router<Sim> {
    Router::new()
        .route("/core/applications/", post(applications::create))
        .route(
            "/core/applications/{slug}/",
            get(applications::read)
                .patch(applications::update)
                .delete(applications::remove),
        )
        .route(
            "/providers/oauth2/",
            get(providers::list).post(providers::create),
        )
        .route(
            "/providers/oauth2/{pk}/",
            get(providers::read)
                .patch(providers::update)
                .delete(providers::remove),
        )
        .route(
            "/policies/bindings/",
            get(bindings::list).post(bindings::create),
        )
        .route(
            "/policies/bindings/{pk}/",
            patch(bindings::update).delete(bindings::remove),
        )
        .route("/flows/instances/", get(references::flows))
        .route("/crypto/certificatekeypairs/", get(references::key_pairs))
        .route(
            "/propertymappings/provider/scope/",
            get(references::scope_mappings),
        )
}

fn oidc_routes() -> Router<Sim> {
    Router::new()
        .route("/authorize/", get(oidc::authorize))
        .route("/token/", post(tokens::token))
        .route("/userinfo/", get(tokens::userinfo))
        .route(
            "/{slug}/.well-known/openid-configuration",
            get(oidc::discovery),
        )
        .route("/{slug}/jwks/", get(oidc::jwks))
        .route("/{slug}/end-session/", get(oidc::end_session))
}
