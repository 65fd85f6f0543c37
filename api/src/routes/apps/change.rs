//! Changes of an existing app: update, rotation of the secret, and removal.
//!
//! Each decision is a function of the current app. It edits the app and names the job that carries the change out, returns
//! `None` if there is nothing to do, or rejects the change.

use axum::response::Response;
use dezky_shared::{
    app::App,
    audit::Action,
    id::{AppId, TenantId},
    platform::change_feed::DocumentChange,
    queue::{
        args::{RemoveApp, RotateAppSecret},
        job::Job,
    },
    store::VersionedRepository as _,
};
use mongodb::ClientSession;

use super::{
    audited, enqueue, enqueue_provision, load, new_secret, respond, respond_with_secret,
    run_and_wait, target,
};
use crate::{
    error::ApiError,
    extract::{PathId, ReadWrite, TenantAccess},
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

/// A decision about an app.
pub(super) struct Decision {
    /// Action of the audit event.
    pub(super) action: Action,
    /// Job that carries the change out.
    pub(super) job: AppJob,
}

/// Kind of the job that carries a change out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AppJob {
    /// Applies the desired state.
    Provision,
    /// Sets a new client secret, which the response shows.
    RotateSecret,
    /// Removes the app.
    Remove,
}

/// Edits an app and returns the decision; `None` if there is nothing to do.
pub(super) type Decide<'a> =
    dyn Fn(&mut App) -> Result<Option<Decision>, ApiError> + Send + Sync + 'a;

/// Changes an app. With `Prefer: wait`, waits for the outcome.
pub(super) async fn change<B: Sync>(
    w: &Write<TenantAccess<ReadWrite>, B, PathId<AppId>>,
    decide: &Decide<'_>,
) -> Result<Response, ApiError> {
    let tenant = &w.access.tenant;
    let change = AppChange {
        tenant_id: tenant.id,
        id: w.params.0,
        decide,
    };
    run_and_wait(&w.runner(), tenant, &change).await
}

struct AppChange<'a> {
    tenant_id: TenantId,
    id: AppId,
    decide: &'a Decide<'a>,
}

impl Command for AppChange<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let state = runner.app;
        let now = state.store.now();
        let (tenant, before) = load(session, runner, self.tenant_id, self.id).await?;
        let mut app = before.clone();
        let Some(decision) = (self.decide)(&mut app)? else {
            let response = respond(state, &tenant.slug, app, None);
            return Ok(CommandOutput::unchanged(response));
        };
        if decision.job == AppJob::Provision {
            app.set_pending(now);
        }
        let apps = &state.db.apps;
        apps.save_changed(session, &before, &mut app, now).await?;
        let secret = (decision.job == AppJob::RotateSecret).then(new_secret);
        let job = follow_up(session, runner, &app, decision.job, secret.as_deref()).await?;
        let event = runner
            .event(now, decision.action, target(&app), Some(&tenant))
            .with_changes(&audited(&before), &audited(&app));
        let response = match &secret {
            None => respond(state, &tenant.slug, app, Some(&job)),
            Some(secret) => respond_with_secret(state, &tenant.slug, app, &job, secret),
        };
        Ok(CommandOutput::complete(response, event)
            .with_jobs(vec![job])
            .with_changed(DocumentChange::Tenant(tenant.id)))
    }
}

async fn follow_up(
    session: &mut ClientSession,
    runner: &CommandRunner<'_>,
    app: &App,
    job: AppJob,
    secret: Option<&str>,
) -> Result<Job, Rollback> {
    let (tenant_id, app_id) = (app.tenant_id, app.id);
    match job {
        AppJob::Provision => enqueue_provision(session, runner, app, None).await,
        AppJob::RotateSecret => {
            let args = RotateAppSecret {
                tenant_id,
                app_id,
                secret_version: app.secret_version,
            };
            enqueue(session, runner, &args, secret).await
        }
        AppJob::Remove => {
            let args = RemoveApp { tenant_id, app_id };
            enqueue(session, runner, &args, None).await
        }
    }
}
