//! Payment method of a tenant: the card that its invoices are charged to. The browser enters it at the payment provider; this
//! service never sees its number.

mod enter;
mod set;

use dezky_shared::{queue::job::Job, tenant::Tenant};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{billing::CardView, outcome::await_job};
use crate::{
    error::{ApiError, ProblemCode},
    extract::{ManageCards, Permission as _, ReadBilling, TenantAccess},
    read::Get,
    response::ApiResponse,
    state::{AppState, SharedState},
    write::CommandRunner,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(show, set::set))
        .routes(routes!(enter::create))
}

/// Payment method of a tenant.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PaymentMethod)]
struct PaymentMethodView {
    /// Key with which the browser shows the payment provider's card form. It is public.
    #[schema(example = "pk_test_1")]
    publishable_key: String,
    /// Card that invoices are charged to; null if there is none.
    #[schema(required)]
    default_card: Option<CardView>,
}

/// Returns the payment method of a tenant
///
/// For owners and admins of the tenant, staff of its partner with write access, and operators.
#[utoipa::path(
    get, path = "/tenants/{slug}/payment-method", operation_id = "getPaymentMethod", tag = "billing",
    responses((status = 200, body = PaymentMethodView)),
)]
async fn show(get: Get<TenantAccess<ReadBilling>>) -> Result<ApiResponse, ApiError> {
    let publishable_key = publishable_key(&get.app)?;
    let accounts = &get.app.db.billing_accounts;
    let account = accounts.find(get.access.tenant.id).await?;
    let account = account.filter(|account| account.stripe_customer_id.is_some());
    let card = account.and_then(|account| account.default_card);
    let view = PaymentMethodView {
        publishable_key: publishable_key.to_owned(),
        default_card: card.map(CardView::from),
    };
    Ok(ApiResponse::unversioned(StatusCode::OK, &view))
}

/// The publishable key. 503 without one: no payment provider is configured.
fn publishable_key(app: &AppState) -> Result<&str, ApiError> {
    let key = app.config.stripe.publishable_key.as_deref();
    key.ok_or_else(|| ProblemCode::BillingDisabled.into())
}

/// With `Prefer: wait`, waits for the job, and checks then that the caller may still see its outcome. `None` without a wait.
async fn outcome(
    runner: &CommandRunner<'_>,
    tenant: &Tenant,
    job: Option<Job>,
) -> Result<Option<Job>, ApiError> {
    let deadline = runner.prefer.deadline();
    let Some((job, mut caller)) = await_job(runner, job, deadline).await? else {
        return Ok(None);
    };
    let tenant = caller.reload_tenant(&runner.app.access, tenant.id).await?;
    if !ManageCards::allows(&caller, &tenant) {
        return Err(ProblemCode::Forbidden.into());
    }
    Ok(Some(job))
}
