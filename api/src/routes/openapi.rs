//! OpenAPI document and documentation page.

mod complete;
mod query_guard;

use axum::{Json, Router, routing::get};
use http::Method;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Document,
        path::{Operation, PathItem},
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_scalar::{Scalar, Servable as _};

use crate::{error::Problem, state::SharedState};

pub use self::{
    complete::complete,
    query_guard::{QueryParameters, reject_unknown_query},
};

/// The API.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "dezky-platform-api",
        description = "Tenants, their users, and the jobs that carry out changes.\n\n\
            A change that needs a job returns 202 when it is stored; `Location` is the path of the job. \
            Send an `Idempotency-Key` with every write, so that retries are safe.",
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
            .description(Some("Access token issued by Authentik."))
            .build();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
    }
}

/// The document without routes.
pub fn document() -> Document {
    Api::openapi()
}

/// Serves `/openapi.json` and `/docs`, a page that loads its script from a CDN.
pub fn serve(document: Document) -> Router<SharedState> {
    let page = Scalar::with_url("/docs", document.clone());
    let document = async move || Json(document.clone());
    Router::new()
        .route("/openapi.json", get(document))
        .merge(page)
}

/// The operations of a path.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let all = [
        (Method::GET, &mut item.get),
        (Method::PUT, &mut item.put),
        (Method::POST, &mut item.post),
        (Method::PATCH, &mut item.patch),
        (Method::DELETE, &mut item.delete),
    ];
    all.into_iter()
        .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}
