//! `/tenants/{slug}/sso-apps`: the older name of the same routes, documented as deprecated.

use axum::routing::{get, post};
use utoipa::openapi::{Deprecated, OpenApi};
use utoipa_axum::router::OpenApiRouter;

use super::{create, delete, documented, list, rotate_secret, show, update};
use crate::state::SharedState;

const NAME: &str = "/apps";
const OLDER_NAME: &str = "/sso-apps";

/// The routes under their older name.
pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::with_openapi(renamed(documented().into_openapi()))
        .route("/tenants/{slug}/sso-apps", get(list).post(create::create))
        .route(
            "/tenants/{slug}/sso-apps/{id}",
            get(show).patch(update::update).delete(delete::delete),
        )
        .route(
            "/tenants/{slug}/sso-apps/{id}/rotate-secret",
            post(rotate_secret::rotate_secret),
        )
}

/// The document of these routes under their older name.
fn renamed(mut document: OpenApi) -> OpenApi {
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths = paths
        .into_iter()
        .map(|(path, mut item)| {
            let operations = [
                &mut item.get,
                &mut item.post,
                &mut item.patch,
                &mut item.delete,
            ];
            for operation in operations.into_iter().flatten() {
                operation.deprecated = Some(Deprecated::True);
                operation.description = Some(format!("Alias of `{path}`."));
                if let Some(id) = &mut operation.operation_id {
                    id.push_str("Alias");
                }
            }
            (path.replacen(NAME, OLDER_NAME, 1), item)
        })
        .collect();
    document
}
