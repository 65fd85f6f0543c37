//! Removal of an app from the identity provider, and then of its document.

use dezky_shared::{
    app::{App, AppStatus},
    audit::Action,
    store::VersionedRepository as _,
    tenant::reason as tenant_reason,
};
use dezky_upstreams::clients::{ClientError, Mode, authentik::Authentik};
use futures::FutureExt as _;

use super::{AppArgs, event, reason};
use crate::{
    jobs::tenant::tenant_of,
    steps::{StepContext, StepFailure, StepSuccess},
};

/// Removes an app whose removal was requested.
pub(super) async fn remove(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let (tenant, _) = tenant_of(&run)?;
    let args = run.args::<AppArgs>()?;
    let Some(app) = run.ctx.apps.find_of(tenant.id, args.app_id).await? else {
        return Ok(StepSuccess::skipped(reason::APP_GONE));
    };
    if app.status != AppStatus::Removing {
        return Ok(StepSuccess::skipped(reason::KEPT));
    }
    let mut changes = Vec::new();
    if let Some(client) = &run.ctx.clients.authentik {
        let client = client.with_deadline(&run.deadline);
        changes = remove_upstream(&client, &tenant.slug, &app, run.mode).await?;
    }
    delete(&run, &app).await?;
    Ok(StepSuccess::ok(tenant_reason::REMOVED, changes))
}

/// Deletes the document of an app that was removed from the identity provider.
pub(super) async fn delete(run: &StepContext, app: &App) -> Result<(), StepFailure> {
    run.fenced_transaction((run, app), |session, (run, app)| {
        async move {
            let found = run.ctx.apps.find_for_update(session, app.id).await?;
            if found.is_none() {
                return Ok(());
            }
            run.ctx.apps.delete(session, app.id).await?;
            let event = event(run, Action::AppRemoved, app);
            run.ctx.audit.record(session, &event).await
        }
        .boxed()
    })
    .await
}

/// Deletes the application with its bindings, then the provider with its tokens. An application of another owner under the
/// same slug stays.
pub(super) async fn remove_upstream(
    client: &Authentik,
    tenant_slug: &str,
    app: &App,
    mode: Mode,
) -> Result<Vec<String>, ClientError> {
    let slug = app.application_slug(tenant_slug);
    let mut changes = Vec::new();
    let provider = client.find_provider(&app.client_id).await?;
    let provider_pk = provider.as_ref().map(|provider| provider.pk);
    let known = app.authentik.application_pk.as_deref();
    if let Some(application) = client.find_application(&slug).await?
        && application.belongs_to(known, provider_pk)
    {
        changes.extend(client.delete_application(&slug, mode).await?);
    }
    if let Some(provider) = provider {
        changes.extend(client.delete_provider(&provider, mode).await?);
    }
    Ok(changes)
}
