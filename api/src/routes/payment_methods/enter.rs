//! Entry of a card: a job creates a setup intent, whose client secret is handed over to the browser once.

use axum::response::{IntoResponse as _, Response};
use bson::DateTime;
use dezky_shared::{
    audit::{Action, Target},
    id::{JobId, SetupIntentId},
    queue::{args::CreateSetupIntent, job::JobState},
    setup_intent::{MAX_PER_TENANT, SetupIntent},
    tenant::Tenant,
};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Serialize;
use utoipa::ToSchema;

use super::{outcome, publishable_key};
use crate::{
    error::{ApiError, ProblemCode},
    extract::{EmptyBody, ManageCards, TenantAccess},
    response::ApiResponse,
    routes::{
        billing::{ensure_billed, request_job},
        outcome::{in_state_of, preference_applied},
    },
    state::AppState,
    views::JobLink,
    write::{Command, CommandOutput, CommandResult, CommandRunner, Rollback, Write},
};

/// A requested setup intent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SetupIntentRequest)]
struct RequestView {
    /// Id of the request.
    #[schema(format = Uuid)]
    id: String,
    /// The job that creates the setup intent.
    job: JobLink,
}

/// A setup intent, with which the browser enters a card.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SetupIntent)]
struct SetupIntentView {
    /// Id at the payment provider, with which the card is set afterwards.
    #[schema(example = "seti_1")]
    setup_intent_id: String,
    /// Secret for the browser, in the first response alone.
    #[schema(required)]
    client_secret: Option<String>,
    /// True if the secret was in an earlier response.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_already_shown: Option<bool>,
}

/// Begins the entry of a card
///
/// With `Prefer: wait` the response is 201 with the secret that the browser needs. It is in one response alone, and not in
/// that of a job that takes longer than the wait: repeat the request with its `Idempotency-Key` to wait on. A response
/// with 200 says that the job failed. For owners and admins of the tenant, and operators.
#[utoipa::path(
    post, path = "/tenants/{slug}/payment-method/setup-intents", operation_id = "createSetupIntent", tag = "billing",
    responses(
        (status = 200, body = RequestView), (status = 201, body = SetupIntentView), (status = 202, body = RequestView),
    ),
)]
pub(super) async fn create(
    w: Write<TenantAccess<ManageCards>, EmptyBody>,
) -> Result<Response, ApiError> {
    publishable_key(&w.app)?;
    if !w.app.config.encryption_keys.can_encrypt() {
        return Err(ProblemCode::EncryptionNotConfigured.into());
    }
    let (runner, tenant) = (w.runner(), &w.access.tenant);
    let command = Create { tenant };
    let result = runner.run_serialized(&tenant.slug, Some(tenant), &command);
    let CommandResult { response, job } = result.await?;
    let (id, job_id) = named_in(&response)?;
    // A repeated request waits for the job of the first one.
    let job = match job {
        Some(job) => Some(job),
        None => w.app.db.jobs.find(job_id).await?,
    };
    let Some(job) = outcome(&runner, tenant, job).await? else {
        return Ok(response.into_response());
    };
    let created = if job.state == JobState::Completed {
        hand_over(&w.app, id).await?
    } else {
        None
    };
    Ok(preference_applied(match created {
        Some(view) => ApiResponse {
            replayed: response.replayed,
            location: response.location,
            ..ApiResponse::unversioned(StatusCode::CREATED, &view)
        },
        None => in_state_of(response, &job),
    }))
}

/// The ids of the setup intent and of its job in a response.
fn named_in(response: &ApiResponse) -> Result<(SetupIntentId, JobId), ApiError> {
    let text = |pointer: &str| response.body.pointer(pointer)?.as_str();
    let id = text("/id").and_then(|id| id.parse().ok());
    let job = text("/job/id").and_then(|id| id.parse().ok());
    let ids = id.zip(job);
    ids.ok_or_else(|| ApiError::internal(anyhow::anyhow!("a view has no id")))
}

/// Takes the secret out of the store. `None` if the job had nothing to do, or more than an hour ago.
async fn hand_over(app: &AppState, id: SetupIntentId) -> Result<Option<SetupIntentView>, ApiError> {
    let intents = &app.db.setup_intents;
    let now = app.store.now();
    let (intent, client_secret) = match intents.hand_over(id, now).await? {
        Some(intent) => {
            let secret = decrypted(app, &intent)?;
            (intent, secret)
        }
        None => match intents.find(id).await? {
            Some(intent) => (intent, None),
            None => return Ok(None),
        },
    };
    Ok(intent.stripe_id.map(|setup_intent_id| SetupIntentView {
        setup_intent_id,
        secret_already_shown: client_secret.is_none().then_some(true),
        client_secret,
    }))
}

fn decrypted(app: &AppState, intent: &SetupIntent) -> Result<Option<String>, ApiError> {
    let Some(encrypted) = &intent.secret else {
        return Ok(None);
    };
    let encrypted_for = SetupIntent::encrypted_for(intent.id);
    let secret = app.config.encryption_keys.decrypt(encrypted_for, encrypted);
    secret.map(Some).map_err(|error| {
        tracing::error!(%error, "Decrypting a client secret failed");
        ProblemCode::EncryptionNotConfigured.into()
    })
}

struct Create<'a> {
    tenant: &'a Tenant,
}

impl Command for Create<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let (app, tenant) = (runner.app, self.tenant);
        let now: DateTime = app.store.now();
        ensure_billed(app, tenant, now).await?;
        let intents = &app.db.setup_intents;
        let recent = intents.count_recent(session, tenant.id, now).await?;
        if recent >= MAX_PER_TENANT {
            return Err(ProblemCode::TooManySetupIntents.into());
        }
        let intent = SetupIntent::new(tenant.id, &runner.actor_id(), now);
        intents.insert(session, &intent).await?;
        let args = CreateSetupIntent {
            tenant_id: tenant.id,
            intent_id: intent.id,
        };
        let target = Target::new("tenant", tenant.id, &tenant.slug);
        let event = runner.event(now, Action::PaymentMethodEnter, target, Some(tenant));
        let id = intent.id.to_string();
        let view = |job| RequestView { id, job };
        request_job(session, runner, &args, event, view).await
    }
}
