//! OpenAPI document and documentation page.

mod complete;
mod page;
mod query_guard;
mod static_file;

use axum::{Router, routing::get};
use http::Method;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Document,
        path::{Operation, PathItem},
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

/// Serves `/openapi.json` and `/docs`. Both are rendered once, since every client may ask for them.
pub fn serve(document: &Document) -> Router<SharedState> {
    let json = StaticFile::new("application/json", json(document));
    let page = StaticFile::new("text/html; charset=utf-8", page::render(document));
    Router::new()
        .route(
            "/openapi.json",
            get(async move |cached: IfNoneMatch| json.respond(&cached)),
        )
        .route(
            "/docs",
            get(async move |cached: IfNoneMatch| page.respond(&cached)),
        )
}

fn json(document: &Document) -> Vec<u8> {
    serde_json::to_vec(document).expect("the document has a JSON form")
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
