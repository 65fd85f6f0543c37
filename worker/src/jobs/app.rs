//! Apps of tenants at the identity provider: provisioned, given a new secret, and removed.
//!
//! A job reads the desired state from the app's document when it runs; the kind only records the cause. It holds the
//! tenant's lock, reports writes in doubt to the tenant, whose reconcile converges the same objects, and writes the app
//! through [`status::record`].

mod converge;
mod provision;
mod reconcile;
mod remove;
mod status;

use dezky_shared::{
    app::App,
    audit::{Action, AuditEvent, Target},
    id::AppId,
    upstream::{APP, Upstream},
};
use serde::Deserialize;

pub(super) use self::reconcile::{converge_all, remove_all};
use crate::{
    jobs::audit_event,
    steps::{StepContext, Steps},
};

/// Provisions a new or changed app, or gives it a new client secret.
pub(super) fn provision() -> Steps {
    Steps::parallel().partial(Upstream::Authentik, APP, provision::provision)
}

/// Removes an app from the identity provider, and then its document.
pub(super) fn remove() -> Steps {
    Steps::parallel().partial(Upstream::Authentik, APP, remove::remove)
}

/// Step results for an app, stored as reasons.
mod reason {
    /// The app was deleted.
    pub(super) const APP_GONE: &str = "AppGone";
    /// The app is being removed.
    pub(super) const REMOVING: &str = "Removing";
    /// The app is not being removed.
    pub(super) const KEPT: &str = "Kept";
}

/// Arguments that all jobs of an app have.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AppArgs {
    app_id: AppId,
    /// Version of the secret that the job carries.
    #[serde(default)]
    secret_version: i64,
}

/// An audit event of the job about an app.
fn event(run: &StepContext, action: Action, app: &App) -> AuditEvent {
    let target = Target::new("app", app.id, &app.name);
    audit_event::event(
        action,
        target,
        Some(app.tenant_id),
        run.job.id,
        run.ctx.store.now(),
    )
}
