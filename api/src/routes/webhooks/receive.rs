//! Receipt of an event of Stripe. It is verified over its raw bytes, stored with the job that follows it, and answered: the
//! job reads the object itself: the event's contents are not trusted.

use std::convert::Infallible;

use axum::extract::{Request, State};
use dezky_shared::{
    store::{TransactionError, webhook_events::Recorded},
    stripe_event::Event,
    webhook_event::{EventSource, EventState, WebhookEvent},
};
use futures::FutureExt as _;
use http::{HeaderMap, StatusCode};

use super::signature;
use crate::{
    error::{ApiError, ProblemCode},
    extract::{RequestInfo, ensure_not_encoded, read_body},
    metrics,
    state::{AppState, SharedState},
};

/// Header with the signature.
const SIGNATURE: &str = "stripe-signature";
/// Maximum size of a body, in bytes.
const LIMIT: usize = 1024 * 1024;
/// Requester of the jobs.
const REQUESTER: &str = "webhook";

/// Receives an event of Stripe
///
/// For Stripe, which signs each delivery. An event is stored once, however often it is delivered.
#[utoipa::path(
    post, path = "/webhooks/stripe", operation_id = "receiveStripeEvent", tag = "billing", security(()),
    params(("Stripe-Signature" = String, Header, description = "Time and signatures of the body.")),
    request_body(
        content = String, content_type = "application/json; charset=utf-8",
        description = "Event, at most 1 MiB, byte for byte as it was signed.",
    ),
    responses((status = 200)),
)]
pub(super) async fn receive(
    State(app): State<SharedState>,
    info: RequestInfo,
    request: Request,
) -> Result<StatusCode, ApiError> {
    if app.config.stripe.webhook_keys.is_empty() {
        return Err(ProblemCode::WebhookNotConfigured.into());
    }
    let (parts, body) = request.into_parts();
    ensure_not_encoded(&parts.headers)?;
    let body = read_body(&parts.headers, body, LIMIT).await?;
    if !is_signed(&app, &parts.headers, &body) {
        metrics::webhook("bad_signature");
        let rejected = ProblemCode::InvalidSignature.into();
        let limits = &app.access.limits;
        return Err(limits.check_rejected_credentials(info.ip, rejected).await);
    }
    let event = parse(&body)?;
    if event.livemode != app.config.stripe.is_live {
        metrics::webhook("wrong_mode");
        return Err(ProblemCode::ModeMismatch.into());
    }
    // An event of a connected account, of which we have none.
    if event.account.is_some() {
        metrics::webhook("ignored");
        return Ok(StatusCode::OK);
    }
    store(&app, &info, &event).await
}

fn is_signed(app: &AppState, headers: &HeaderMap, body: &[u8]) -> bool {
    let header = headers.get(SIGNATURE).and_then(|it| it.to_str().ok());
    let now = app.store.now().timestamp_millis() / 1_000;
    let keys = &app.config.stripe.webhook_keys;
    header.is_some_and(|header| signature::is_valid(header, body, keys, now))
}

fn parse(body: &[u8]) -> Result<Event, ApiError> {
    let event = serde_json::from_slice(body).ok().filter(Event::is_valid);
    event.ok_or_else(|| {
        let detail = "The body is no event of Stripe with a snapshot of its object.";
        ApiError::new(ProblemCode::InvalidRequest).with_detail(detail)
    })
}

/// Stores the event with its job, unless it is known.
async fn store(app: &AppState, info: &RequestInfo, event: &Event) -> Result<StatusCode, ApiError> {
    let now = app.store.now();
    let mut new = WebhookEvent::new(event, EventSource::Webhook, now);
    if let Some(object) = &new.mirrored {
        let accounts = &app.db.billing_accounts;
        let account = accounts.find_by_customer(&object.object_id).await?;
        new.tenant_id = account.map(|account| account.tenant_id);
    }
    let job = new.job(REQUESTER, now)?;
    let job = job.map(|job| job.requested_by(Some(info.id.clone()), info.traceparent.clone()));
    let recording = (&app.db, &new, job.as_ref());
    let recorded = app.store.transaction(recording, |session, recording| {
        let (db, event, job) = *recording;
        async move {
            let recorded = db.webhook_events.record(session, &db.jobs, event, job);
            Ok::<Recorded, TransactionError<Infallible>>(recorded.await?)
        }
        .boxed()
    });
    let recorded = match recorded.await {
        Ok(recorded) => recorded,
        Err(TransactionError::Store(error)) => return Err(error.into()),
        Err(TransactionError::Aborted(never)) => match never {},
    };
    if let Some(job) = recorded.job {
        let ready = app.hints.ready.clone();
        let notified = async move { ready.notify(&[job]).await };
        app.hints.tasks.spawn(notified);
    }
    let result = match &recorded.known {
        Some(known) if !known.is_same(&new) => {
            metrics::webhook("other_content");
            return Err(ProblemCode::EventMismatch.into());
        }
        Some(_) => "known",
        None if new.state == EventState::Ignored => "ignored",
        None => "stored",
    };
    metrics::webhook(result);
    Ok(StatusCode::OK)
}
