//! OpenAPI document and documentation page.

mod complete;
mod page;
mod query_guard;
mod static_file;

use std::sync::{Arc, LazyLock};

use axum::{Router, routing::get};
use serde_json::Value;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Document,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

use crate::{error::Problem, extract::IfNoneMatch, state::SharedState};

use self::static_file::StaticFile;
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

/// Serves `/openapi.json` and `/docs`. Both are rendered once, by the first request for one of them.
pub fn serve(document: Document) -> Router<SharedState> {
    let rendered = Arc::new(LazyLock::new(move || Rendered::new(&complete(&document))));
    let of_page = Arc::clone(&rendered);
    Router::new()
        .route(
            "/openapi.json",
            get(async move |cached: IfNoneMatch| rendered.json.respond(&cached)),
        )
        .route(
            "/docs",
            get(async move |cached: IfNoneMatch| of_page.page.respond(&cached)),
        )
}

/// The document as the service hands it out.
struct Rendered {
    json: StaticFile,
    page: StaticFile,
}

impl Rendered {
    fn new(document: &Value) -> Self {
        Self {
            json: StaticFile::new("application/json", document.to_string()),
            page: StaticFile::new("text/html; charset=utf-8", page::render(document)),
        }
    }
}

fn to_json(document: &Document) -> Value {
    serde_json::to_value(document).expect("the document has a JSON form")
}
