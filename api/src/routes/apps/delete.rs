//! Removal of an app.

use axum::response::Response;
use dezky_shared::{
    app::{App, AppStatus},
    audit::Action,
    id::AppId,
};

use super::{
    AppView,
    change::{AppJob, Decision, change},
};
use crate::{
    error::ApiError,
    extract::{EmptyBody, PathId, ReadWrite, TenantAccess},
    write::Write,
};

/// Removes an app
///
/// Its users can no longer sign in to it once the returned job has completed, and its tokens end. The slug is free again
/// then.
#[utoipa::path(
    delete, path = "/tenants/{slug}/apps/{id}", operation_id = "removeApp", tag = "apps",
    responses((status = 202, body = AppView), (status = 200, body = AppView)),
)]
pub(super) async fn delete(
    w: Write<TenantAccess<ReadWrite>, EmptyBody, PathId<AppId>>,
) -> Result<Response, ApiError> {
    change(&w, &|app| Ok(Some(decide(app)))).await
}

/// A repeated request repeats a removal that failed.
fn decide(app: &mut App) -> Decision {
    if app.status != AppStatus::Removing {
        app.status = AppStatus::Removing;
        app.generation += 1;
    }
    Decision {
        action: Action::AppDelete,
        job: AppJob::Remove,
    }
}
