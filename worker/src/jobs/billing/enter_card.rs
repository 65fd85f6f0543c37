//! Creation of a setup intent, with which a person enters a card in the browser. Its client secret is stored encrypted, and
//! the API hands it over once.

use dezky_shared::{
    queue::{args::CreateSetupIntent, error_code::ErrorCode},
    setup_intent::SetupIntent,
};
use dezky_upstreams::clients::stripe::SetupIntent as StripeSetupIntent;
use futures::FutureExt as _;
use secrecy::ExposeSecret as _;

use super::{customer::CustomerSync, keyed_calls::KeyedCalls};
use crate::steps::{StepContext, StepFailure, StepSuccess};

/// Result of a step that created it, stored as the reason.
const CREATED: &str = "Created";
/// Result of a step whose request is more than an hour old.
const EXPIRED: &str = "Expired";

/// Creates the setup intent, and the customer if there is none.
pub(super) async fn create(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let args: CreateSetupIntent = run.args()?;
    let ctx = &run.ctx;
    let Some(requested) = ctx.setup_intents.find(args.intent_id).await? else {
        return Ok(StepSuccess::skipped(EXPIRED));
    };
    if requested.stripe_id.is_some() {
        return Ok(StepSuccess::ok(CREATED, Vec::new()));
    }
    if !ctx.encryption_keys.can_encrypt() {
        let detail = "SEALING_KEYS is not set";
        return Err(StepFailure::new(ErrorCode::SecretsUnreadable, detail));
    }
    let mut sync = match CustomerSync::begin(&run, args.tenant_id).await? {
        Ok(sync) => sync,
        Err(reason) => return Ok(StepSuccess::skipped(reason)),
    };
    let customer = sync.ensure_customer().await?;
    let calls = KeyedCalls(&run);
    let operation = "setup_intent.create";
    let parameters = [customer.id.as_str()];
    let call = calls.begin_repeatable(operation, args.intent_id, &parameters);
    let call = call.await?;
    let tenant = args.tenant_id.to_string();
    let sent = sync
        .stripe
        .create_setup_intent(&customer.id, &tenant, &call.key())
        .await;
    // Before the call is settled: until then, a repeat with its key returns the same setup intent.
    if let Ok(created) = &sent {
        store(&run, &requested, created).await?;
    }
    calls
        .settle(&call, &sent, |created| Some(created.id.as_str()))
        .await?;
    sent?;
    sync.changes.push("setup intent created".to_owned());
    Ok(StepSuccess::ok(CREATED, sync.changes))
}

/// Stores the setup intent with its encrypted client secret.
async fn store(
    run: &StepContext,
    requested: &SetupIntent,
    created: &StripeSetupIntent,
) -> Result<(), StepFailure> {
    let Some(secret) = &created.client_secret else {
        let detail = "a setup intent without a client secret";
        return Err(StepFailure::new(ErrorCode::Internal, detail));
    };
    let encrypted_for = SetupIntent::encrypted_for(requested.id);
    let keys = &run.ctx.encryption_keys;
    let encrypted = keys.encrypt(encrypted_for, &secret.expose_secret());
    let unreadable = |why: String| StepFailure::new(ErrorCode::SecretsUnreadable, why);
    let encrypted = encrypted.map_err(|error| unreadable(error.to_string()))?;
    let storing = (
        &run.ctx.setup_intents,
        requested.id,
        created.id.as_str(),
        &encrypted,
    );
    let stored = run.fenced_transaction(storing, |session, storing| {
        let (intents, id, stripe_id, encrypted) = *storing;
        intents
            .set_created(session, id, stripe_id, encrypted)
            .boxed()
    });
    stored.await
}
