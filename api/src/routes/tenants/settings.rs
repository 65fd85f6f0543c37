//! What a tenant has set: where it is billed, how it looks, how its people are to sign in.
//!
//! No upstream holds any of it, so that a change is complete with its answer. It stands in the tenant's document and
//! shares its version: `If-Match` takes the `ETag` of either.

mod billing_info;
mod branding;
mod security_policy;

use dezky_shared::{
    audit::Action,
    platform::change_feed::DocumentChange,
    store::{TransactionError, to_document},
    tenant::Tenant,
};
use futures::{FutureExt as _, future::BoxFuture};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) use self::{
    billing_info::BillingInfoView, branding::LookView, security_policy::SecurityPolicyView,
};
use super::{audited, ensure_not_terminating, target};
use crate::{
    error::{ApiError, ProblemCode},
    extract::{ETag, IfMatch},
    intent::{ApiResponse, Command, CommandError, CommandOutput, CommandRunner, reject},
    state::SharedState,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(billing_info::show, billing_info::patch))
        .routes(routes!(branding::show, branding::put))
        .routes(routes!(security_policy::show, security_policy::patch))
}

/// Changes what is set in a tenant, or says why it may not be so.
type Apply<'a> = dyn Fn(&mut Tenant) -> Result<(), ApiError> + Send + Sync + 'a;

/// A change to what one tenant has set.
struct SettingChange<'a, V> {
    tenant: &'a Tenant,
    if_match: &'a IfMatch,
    action: Action,
    apply: &'a Apply<'a>,
    /// What is answered.
    view: fn(&Tenant) -> V,
}

impl<V: Serialize> SettingChange<'_, V> {
    async fn record(&self, recorder: &CommandRunner<'_>) -> Result<ApiResponse, ApiError> {
        let slug = &self.tenant.slug;
        let in_turn = recorder.serialized_on(slug, Some(self.tenant)).await?;
        Ok(in_turn.record(self).await?.answer)
    }
}

impl<V: Serialize> Command for SettingChange<'_, V> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let app = recorder.app;
            let mut tenant = app
                .tenants
                .lock_by_slug(session, &self.tenant.slug)
                .await?
                .ok_or_else(|| reject(ProblemCode::NotFound))?;
            self.if_match.check(ETag::from(&tenant)).map_err(reject)?;
            ensure_not_terminating(&tenant).map_err(reject)?;
            let before = tenant.clone();
            (self.apply)(&mut tenant).map_err(reject)?;

            if tenant == before {
                app.tenants.unlock(session, tenant.id).await?;
                tenant.revision -= 1;
                return Ok(CommandOutput {
                    answer: shown(&tenant, self.view).map_err(reject)?,
                    jobs: Vec::new(),
                    changed: Vec::new(),
                    events: Vec::new(),
                });
            }
            let now = app.store.now();
            tenant.generation += 1;
            tenant.updated_at = now;
            app.tenants.save(session, &tenant).await?;
            let event = recorder
                .event(now, self.action, target(&tenant), Some(&tenant))
                .with_changes(
                    &audited(to_document(&before)?),
                    &audited(to_document(&tenant)?),
                );
            Ok(CommandOutput {
                answer: shown(&tenant, self.view).map_err(reject)?,
                jobs: Vec::new(),
                changed: vec![DocumentChange::Tenant(tenant.id)],
                events: vec![event],
            })
        }
        .boxed()
    }
}

/// What is set in `tenant`, with the tenant's version.
fn shown<V: Serialize>(tenant: &Tenant, view: fn(&Tenant) -> V) -> Result<ApiResponse, ApiError> {
    ApiResponse::new(StatusCode::OK, ETag::from(tenant), &view(tenant))
}
