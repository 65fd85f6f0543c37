//! What a tenant has set: where it is billed, how it looks, how its people are to sign in.
//!
//! No upstream holds any of it, so that a change is complete with its answer. It stands in the tenant's document and
//! shares its version: `If-Match` takes the `ETag` of either.

mod billing_info;
mod branding;
mod security_policy;

use dezky_shared::{
    audit::Action,
    changes::Change,
    store::{Abort, to_document},
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
use super::{audited, refuse_if_ending, target};
use crate::{
    error::{ApiError, Code},
    extract::{ETag, IfMatch},
    intent::{Answer, Intent, Recorded, Recorder, Stop, refuse},
    state::App,
};

pub(super) fn router() -> OpenApiRouter<App> {
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
    async fn record(&self, recorder: &Recorder<'_>) -> Result<Answer, ApiError> {
        let slug = &self.tenant.slug;
        let in_turn = recorder.in_turn(slug, Some(self.tenant)).await?;
        Ok(in_turn.record(self).await?.answer)
    }
}

impl<V: Serialize> Intent for SettingChange<'_, V> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s Recorder<'_>,
    ) -> BoxFuture<'s, Result<Recorded, Abort<Stop>>> {
        async move {
            let app = recorder.app;
            let mut tenant = app
                .tenants
                .lock_by_slug(session, &self.tenant.slug)
                .await?
                .ok_or_else(|| refuse(Code::NotFound))?;
            self.if_match.check(ETag::from(&tenant)).map_err(refuse)?;
            refuse_if_ending(&tenant).map_err(refuse)?;
            let before = tenant.clone();
            (self.apply)(&mut tenant).map_err(refuse)?;

            if tenant == before {
                app.tenants.unlock(session, tenant.id).await?;
                tenant.revision -= 1;
                return Ok(Recorded {
                    answer: shown(&tenant, self.view).map_err(refuse)?,
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
            Ok(Recorded {
                answer: shown(&tenant, self.view).map_err(refuse)?,
                jobs: Vec::new(),
                changed: vec![Change::Tenant(tenant.id)],
                events: vec![event],
            })
        }
        .boxed()
    }
}

/// What is set in `tenant`, with the tenant's version.
fn shown<V: Serialize>(tenant: &Tenant, view: fn(&Tenant) -> V) -> Result<Answer, ApiError> {
    Answer::new(StatusCode::OK, ETag::from(tenant), &view(tenant))
}
