//! Choice of the card that invoices are charged to.

use axum::response::{IntoResponse as _, Response};
use dezky_shared::{
    audit::{Action, Target},
    queue::args::SetDefaultCard,
    tenant::Tenant,
};
use mongodb::ClientSession;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{outcome, publishable_key};
use crate::{
    config::Config,
    error::{ApiError, FieldError},
    extract::{ManageCards, TenantAccess, Validate},
    routes::{
        billing::{ensure_billed, request_job},
        outcome::{in_state_of, preference_applied},
    },
    validate::{Validator, money},
    views::JobLink,
    write::{Command, CommandOutput, CommandResult, CommandRunner, Rollback, Write},
};

/// Choice of a card.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = PaymentMethodSet)]
pub(super) struct ChoiceRequest {
    /// Id of the setup intent with which the browser entered the card.
    #[schema(pattern = "^seti_[A-Za-z0-9_]+$", max_length = 255, example = "seti_1")]
    setup_intent_id: String,
}

/// A validated choice.
#[derive(Debug)]
pub(super) struct Choice {
    setup_intent_id: String,
}

impl Validate for Choice {
    type Raw = ChoiceRequest;

    fn validate(raw: ChoiceRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let id = money::setup_intent_id(&raw.setup_intent_id);
        let id = validator.check("/setupIntentId", id);
        validator.finish(id.map(|setup_intent_id| Self { setup_intent_id }))
    }
}

/// A requested change of the card.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PaymentMethodChange)]
struct ChangeView {
    /// The job that sets the card. It is discarded if the setup intent is not completed, or another tenant's.
    job: JobLink,
}

/// Sets the card that a tenant's invoices are charged to
///
/// The card is the one that was entered with a setup intent of this tenant. For owners and admins of the tenant, and
/// operators.
#[utoipa::path(
    put, path = "/tenants/{slug}/payment-method", operation_id = "setPaymentMethod", tag = "billing",
    request_body = ChoiceRequest,
    responses((status = 200, body = ChangeView), (status = 202, body = ChangeView)),
)]
pub(super) async fn set(w: Write<TenantAccess<ManageCards>, Choice>) -> Result<Response, ApiError> {
    publishable_key(&w.app)?;
    let (runner, tenant) = (w.runner(), &w.access.tenant);
    let choice = SetCard {
        tenant,
        setup_intent_id: &w.body.setup_intent_id,
    };
    let CommandResult { response, job } = runner.run(&choice).await?;
    let Some(job) = outcome(&runner, tenant, job).await? else {
        return Ok(response.into_response());
    };
    Ok(preference_applied(in_state_of(response, &job)))
}

struct SetCard<'a> {
    tenant: &'a Tenant,
    setup_intent_id: &'a str,
}

impl Command for SetCard<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let (app, tenant) = (runner.app, self.tenant);
        let now = app.store.now();
        ensure_billed(app, tenant, now).await?;
        let args = SetDefaultCard {
            tenant_id: tenant.id,
            setup_intent_id: self.setup_intent_id.to_owned(),
        };
        let target = Target::new("tenant", tenant.id, &tenant.slug);
        let event = runner.event(now, Action::PaymentMethodSet, target, Some(tenant));
        request_job(session, runner, &args, event, |job| ChangeView { job }).await
    }
}
