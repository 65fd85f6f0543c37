//! Apps in their tenant's step: converged with the tenant, and removed with it.

use dezky_shared::{
    app::{App, AppStatus},
    tenant::{DesiredState, Tenant},
};
use dezky_upstreams::clients::{Mode, authentik::Authentik};

use super::{
    converge::{self, AppContext, Exposed},
    remove::{delete, remove_upstream},
    status::{self, Report},
};
use crate::{
    jobs::item_work::ItemWork,
    steps::{StepContext, StepFailure},
};

/// Converges all apps of the tenant: first those are closed that are exposed, then each is put into its desired state. A
/// removal whose own job ended early is finished.
///
/// An app that the identity provider refused permanently is only closed. Its own job reports the refusal, and a change
/// of the app is tried again; meanwhile its tenant is not held up.
pub(in crate::jobs) async fn converge_all(
    run: &StepContext,
    client: &Authentik,
    tenant: &Tenant,
    group: &str,
    desired_state: DesiredState,
    work: &mut ItemWork<'_>,
) -> Result<(), StepFailure> {
    let apps = run.ctx.apps.list_all(tenant.id).await?;
    let apps = work.decodable("app", apps);
    if apps.is_empty() {
        return Ok(());
    }
    let mut closed = Vec::new();
    for app in &apps {
        let desired_state = desired_state_of(app, desired_state);
        let found = Exposed::find(client, tenant, app, group, desired_state).await;
        let Some(Some(exposed)) = work.capture(found)? else {
            closed.push(Vec::new());
            continue;
        };
        let is_kept = app.status != AppStatus::Removing;
        if is_kept && exposed.is_open() && run.mode == Mode::Apply {
            status::mark_open(run, app).await?;
        }
        let changes = exposed.close(client, group, desired_state, run.mode).await;
        closed.push(work.capture(changes)?.unwrap_or_default());
    }
    let references = work.capture(client.app_references().await)?;
    for (app, closed) in apps.iter().zip(closed) {
        work.changes.extend(closed.iter().cloned());
        if app.status == AppStatus::Removing {
            finish_removal(run, client, tenant, app, work).await?;
            continue;
        }
        let Some(references) = references
            .as_ref()
            .filter(|_| app.status != AppStatus::Failed)
        else {
            continue;
        };
        let app_context = AppContext {
            run,
            client,
            tenant,
            group,
            references,
            desired_state,
        };
        converge_one(app_context, app, closed, work).await?;
    }
    Ok(())
}

/// Removes an app from the identity provider, and then its document.
async fn finish_removal(
    run: &StepContext,
    client: &Authentik,
    tenant: &Tenant,
    app: &App,
    work: &mut ItemWork<'_>,
) -> Result<(), StepFailure> {
    let removed = remove_upstream(client, &tenant.slug, app, run.mode).await;
    let Some(changes) = work.capture(removed)? else {
        return Ok(());
    };
    work.changes.extend(changes);
    if run.mode == Mode::Apply {
        delete(run, app).await?;
    }
    Ok(())
}

/// The desired state of an app: that of its tenant, but no user may sign in to one that is being removed.
fn desired_state_of(app: &App, tenant: DesiredState) -> DesiredState {
    match app.status {
        AppStatus::Removing => DesiredState::Suspended,
        _ => tenant,
    }
}

/// Converges an app, of which `drift` was repaired already, and stores the result in it.
async fn converge_one(
    app_context: AppContext<'_>,
    app: &App,
    mut drift: Vec<String>,
    work: &mut ItemWork<'_>,
) -> Result<(), StepFailure> {
    let mut outcome = converge::converge(app_context, app, None).await;
    // What a dry run would have closed is still there, and found again.
    outcome.changes.retain(|change| !drift.contains(change));
    work.changes.extend(outcome.changes.iter().cloned());
    if app_context.run.mode == Mode::Apply {
        drift.extend(outcome.changes.iter().cloned());
        let failure = outcome.result.clone().err().map(StepFailure::from);
        let mut report = Report::of(app, app_context.desired_state);
        report.add_outcome(&outcome);
        report.drift = &drift;
        report.failure = failure.as_ref();
        status::record(app_context.run, &report).await?;
    }
    work.capture(outcome.result)?;
    Ok(())
}

/// Removes all apps of the tenant from the identity provider. Their documents are deleted once the tenant is terminated.
pub(in crate::jobs) async fn remove_all(
    run: &StepContext,
    client: &Authentik,
    tenant: &Tenant,
    work: &mut ItemWork<'_>,
) -> Result<(), StepFailure> {
    let apps = run.ctx.apps.list_all(tenant.id).await?;
    for app in work.decodable("app", apps) {
        let removed = remove_upstream(client, &tenant.slug, &app, run.mode).await;
        let removed = work.capture(removed)?.unwrap_or_default();
        work.changes.extend(removed);
    }
    work.check_failures()
}
