//! What the API is, for programs and for people.

mod parameters;

use axum::{Json, Router, routing::get};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Document,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_scalar::{Scalar, Servable as _};

pub use self::parameters::restrict_parameters;
use crate::{error::Problem, state::SharedState};

/// The API.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "dezky-platform-api",
        description = "Tenants, the people in them, and the jobs that carry out what is asked for.\n\n\
            A change is answered with 202 as soon as it is recorded; `Location` names the job that carries it out. \
            Send an `Idempotency-Key` with every change, so that repeating it is safe.",
    ),
    components(schemas(Problem), responses(Problem)),
    security(("token" = [])),
    modifiers(&Token),
)]
struct Api;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        let bearer = Http::builder()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .description(Some("An access token of Authentik's."))
            .build();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
    }
}

/// What the document says beside the routes.
pub fn document() -> Document {
    Api::openapi()
}

/// `/openapi.json`, and a page at `/docs`. The page loads its script from a CDN.
pub fn serve(document: Document) -> Router<SharedState> {
    let page = Scalar::with_url("/docs", document.clone());
    let document = async move || Json(document.clone());
    Router::new()
        .route("/openapi.json", get(document))
        .merge(page)
}
