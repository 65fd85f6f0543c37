//! Provisioning of one app by its own job, which may carry the client secret.

use dezky_shared::{
    app::{App, AppStatus},
    queue::error_code::ErrorCode,
    tenant::{DesiredState, Tenant, reason as tenant_reason},
};
use dezky_upstreams::clients::authentik::{AppReferences, Authentik};
use secrecy::SecretString;

use super::{
    AppArgs, converge,
    converge::{AppContext, Exposed},
    reason,
    status::{self, Report},
};
use crate::{
    jobs::tenant::{converged_reason, tenant_of},
    steps::{StepContext, StepFailure, StepSuccess},
};

/// Converges the app to its document, and its secret to the one that the job carries.
pub(super) async fn provision(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let (tenant, desired_state) = tenant_of(&run)?;
    let Some(client) = &run.ctx.clients.authentik else {
        return Ok(StepSuccess::skipped(tenant_reason::INTEGRATION_DISABLED));
    };
    let args = run.args::<AppArgs>()?;
    let Some(app) = run.ctx.apps.find_of(tenant.id, args.app_id).await? else {
        return Ok(StepSuccess::skipped(reason::APP_GONE));
    };
    if app.status == AppStatus::Removing {
        return Ok(StepSuccess::skipped(reason::REMOVING));
    }
    if desired_state == DesiredState::Gone {
        return Ok(StepSuccess::skipped(tenant_reason::REMOVED));
    }
    let secret = secret_of(&run, &args, &app)?;
    let client = client.with_deadline(&run.deadline);
    let mut report = Report::of(&app, desired_state);
    report.is_own_job = true;
    let result = match prepare(&client, tenant).await {
        Err(failure) => Err(failure),
        Ok((group, references)) => {
            let app_context = AppContext {
                run: &run,
                client: &client,
                tenant,
                group: &group,
                references: &references,
                desired_state,
            };
            close_then_converge(app_context, &app, secret.as_ref(), &mut report).await
        }
    };
    match result {
        Ok(changes) => {
            report.is_secret_known = secret.is_some();
            status::record(&run, &report).await?;
            Ok(StepSuccess::ok(converged_reason(desired_state), changes))
        }
        Err(failure) => {
            report.failure = Some(&failure);
            // The upstream failure determines the retry, even if the app cannot be written.
            if let Err(error) = status::record(&run, &report).await {
                tracing::warn!(%error, "Could not store why the app is not provisioned");
            }
            Err(failure)
        }
    }
}

/// The changes made. An exposed application is closed first. If the app is refused permanently, the objects that this
/// run created are deleted again.
async fn close_then_converge(
    app_context: AppContext<'_>,
    app: &App,
    secret: Option<&SecretString>,
    report: &mut Report<'_>,
) -> Result<Vec<String>, StepFailure> {
    let AppContext {
        run,
        client,
        tenant,
        group,
        desired_state,
        ..
    } = app_context;
    let mut changes = Vec::new();
    if let Some(exposed) = Exposed::find(client, tenant, app, group, desired_state).await? {
        if exposed.is_open() {
            status::mark_open(run, app).await?;
        }
        changes.extend(
            exposed
                .close(client, group, desired_state, run.mode)
                .await?,
        );
    }
    let mut outcome = converge::converge(app_context, app, secret).await;
    if outcome.is_refused() {
        let slug = app.application_slug(&tenant.slug);
        outcome.roll_back(client, app, &slug).await;
    }
    report.add_outcome(&outcome);
    outcome.result?;
    changes.extend(outcome.changes);
    Ok(changes)
}

/// The tenant's group and the objects that a provider refers to.
async fn prepare(
    client: &Authentik,
    tenant: &Tenant,
) -> Result<(String, AppReferences), StepFailure> {
    let known = tenant.authentik_group_id.as_deref();
    let group = client.find_group(&tenant.id.to_string(), known).await?;
    let missing = || {
        let detail = "the tenant's group does not exist yet";
        StepFailure::new(ErrorCode::UpstreamNotReady, detail)
    };
    Ok((
        group.ok_or_else(missing)?.id,
        client.app_references().await?,
    ))
}

/// The secret that the job carries, unless a later one was issued meanwhile.
fn secret_of(
    run: &StepContext,
    args: &AppArgs,
    app: &App,
) -> Result<Option<SecretString>, StepFailure> {
    if run.job.secrets.is_none() || args.secret_version != app.secret_version {
        return Ok(None);
    }
    run.secrets::<String>()
        .map(|secret| Some(SecretString::from(secret)))
}
