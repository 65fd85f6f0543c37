//! Rotation of an app's client secret.

use axum::response::Response;
use dezky_shared::{
    app::{App, ClientType},
    audit::Action,
    id::AppId,
};

use super::{
    AppView,
    change::{AppJob, Decision, change},
    ensure_not_removing,
};
use crate::{
    error::{ApiError, ProblemCode},
    extract::{EmptyBody, PathId, ReadWrite, TenantAccess},
    write::Write,
};

/// Replaces the client secret of an app
///
/// The response has the new secret. **It is shown once**, as at creation. The old secret is refused as soon as the job
/// has completed. If several rotations are in progress, the secret of the last request counts. 409 `public_client`: the
/// app has no secret.
#[utoipa::path(
    post, path = "/tenants/{slug}/apps/{id}/rotate-secret", operation_id = "rotateAppSecret", tag = "apps",
    responses((status = 202, body = AppView), (status = 200, body = AppView)),
)]
pub(super) async fn rotate_secret(
    w: Write<TenantAccess<ReadWrite>, EmptyBody, PathId<AppId>>,
) -> Result<Response, ApiError> {
    w.limit_credentials().await?;
    if !w.app.config.encryption_keys.can_encrypt() {
        return Err(ProblemCode::EncryptionNotConfigured.into());
    }
    change(&w, &|app| Ok(Some(decide(app)?))).await
}

/// The version tells a late job that its secret was replaced meanwhile.
fn decide(app: &mut App) -> Result<Decision, ProblemCode> {
    ensure_not_removing(app)?;
    if app.client_type == ClientType::Public {
        return Err(ProblemCode::PublicClient);
    }
    app.secret_version += 1;
    Ok(Decision {
        action: Action::AppRotateSecret,
        job: AppJob::RotateSecret,
    })
}
