//! Verification of the hash chain of a trail.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    response::{IntoResponse as _, Response},
};
use dezky_shared::{
    audit::hash_chain::{Chain, ChainProblem, Link, ProblemKind},
    id::AuditEventId,
    store::audit::Verification,
};
use futures::{FutureExt as _, stream};
use http::header;
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::export::StreamPermit;
use crate::{
    error::ApiError,
    extract::{Caller, PlatformReader, ReadPrivate, TenantAccess},
    read::Get,
    state::SharedState,
};

/// Interval of the whitespace sent while a verification runs.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(5);

/// The result of the verification of a trail.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditVerification)]
pub(super) struct VerificationView {
    /// Whether no problem was found.
    ok: bool,
    /// Number of verified events.
    checked: u64,
    /// Sequence number of the first verified event.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_seq: Option<i64>,
    /// Sequence number of the last verified event.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seq: Option<i64>,
    /// Number of events that are not sealed yet and were not verified.
    unsealed: u64,
    /// The last expired event; sequence number 0 before any expired.
    anchor: LinkView,
    /// The last sealed event. Its hash covers all events before it.
    head: LinkView,
    /// Problems, at most 100.
    problems: Vec<ProblemView>,
}

/// A link of the hash chain.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditLink)]
struct LinkView {
    /// Sequence number of the event.
    seq: i64,
    /// Hash of the event.
    hash: String,
}

/// A problem in a trail.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditProblem)]
struct ProblemView {
    /// Sequence number of the event; the first of several missing events in a row.
    seq: i64,
    /// Sequence number of the last of them.
    last_seq: i64,
    /// `changed`: the event differs from its seal. `missing`: the event is missing. `unlinked`: the event does not link
    /// to the event before it. `head`: the trail does not end at its head. `anchor`: the event should have expired.
    /// `stray`: the event was never sealed and is not queued for it; its sequence number is 0.
    kind: ProblemKind,
    /// Id of the event, if it exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid)]
    event_id: Option<AuditEventId>,
}

impl From<Verification> for VerificationView {
    fn from(found: Verification) -> Self {
        let problems = found.problems.into_iter();
        Self {
            ok: problems.as_slice().is_empty(),
            checked: found.checked,
            first_seq: found.first_seq,
            last_seq: found.last_seq,
            unsealed: found.unsealed,
            anchor: found.chain.anchor.into(),
            head: found.chain.head.into(),
            problems: problems.map(ProblemView::from).collect(),
        }
    }
}

impl From<Link> for LinkView {
    fn from(link: Link) -> Self {
        Self {
            seq: link.seq,
            hash: link.hash,
        }
    }
}

impl From<ChainProblem> for ProblemView {
    fn from(problem: ChainProblem) -> Self {
        Self {
            seq: problem.seq,
            last_seq: problem.last_seq,
            kind: problem.kind,
            event_id: problem.event_id,
        }
    }
}

/// Verifies the audit trail of the platform
///
/// Every event is verified, so the response for a long trail takes a while.
#[utoipa::path(get, path = "/audit/verify", operation_id = "verifyAudit", tag = "audit", responses((status = 200, body = VerificationView)))]
pub(super) async fn platform(get: Get<PlatformReader>) -> Result<Response, ApiError> {
    let chain = get.app.db.audit.find_chain(None).await?;
    verify_chain(get.app, &get.access.0, chain)
}

/// Verifies the audit trail of a tenant
///
/// Every event is verified, so the response for a long trail takes a while.
#[utoipa::path(
    get, path = "/tenants/{slug}/audit/verify", operation_id = "verifyTenantAudit", tag = "audit",
    responses((status = 200, body = VerificationView)),
)]
pub(super) async fn tenant(get: Get<TenantAccess<ReadPrivate>>) -> Result<Response, ApiError> {
    let id = get.access.tenant.id;
    let chain = get.app.db.audit.find_chain(Some(id)).await?;
    verify_chain(get.app, &get.access.caller, chain)
}

/// A response that ends with the verification, which may exceed the request timeout. Until then it sends spaces, which
/// JSON allows at the start, so that no proxy closes the connection as idle.
fn verify_chain(app: SharedState, caller: &Caller, chain: Chain) -> Result<Response, ApiError> {
    let permit = StreamPermit::begin(&app, caller)?;
    let found = async move {
        let _permit = permit;
        let found = app.db.audit.verify(chain).await;
        let found =
            found.inspect_err(|error| tracing::warn!(%error, "Could not verify an audit trail"));
        let view = serde_json::to_vec(&VerificationView::from(found?))?;
        Ok::<_, anyhow::Error>(Bytes::from(view))
    };
    let body = stream::try_unfold(Some(found.boxed()), async |found| {
        let Some(mut found) = found else {
            return Ok(None);
        };
        match timeout(KEEP_ALIVE_EVERY, &mut found).await {
            Ok(view) => view.map(|view| Some((view, None))),
            Err(_) => Ok(Some((Bytes::from_static(b" "), Some(found)))),
        }
    });
    let body = Body::from_stream(body);
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}
