//! Whether a trail is what was sealed.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    extract::State,
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
    error::{ApiError, Problem},
    extract::{Caller, Operator, QueryParams, ReadPrivate, TenantAccess},
    state::SharedState,
};

/// How often a walk shows that it goes on.
const BLANK_EVERY: Duration = Duration::from_secs(5);

/// What a walk along a trail found.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditVerification)]
pub(super) struct VerificationView {
    /// Whether nothing is wrong.
    ok: bool,
    /// How many events were looked at.
    checked: u64,
    /// The number of the first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_seq: Option<i64>,
    /// The number of the last of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seq: Option<i64>,
    /// How many events are not sealed yet, and were not looked at.
    unsealed: u64,
    /// The last event that is not kept any more; number 0 while all are.
    anchor: LinkView,
    /// The last event that was sealed. Its hash stands for all that was before it.
    head: LinkView,
    /// What is wrong, at most 100.
    problems: Vec<ProblemView>,
}

/// A place in a trail's chain of hashes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditLink)]
struct LinkView {
    /// The number of the event.
    seq: i64,
    /// Its hash.
    hash: String,
}

/// Something wrong with a trail.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditProblem)]
struct ProblemView {
    /// The number of the event; of the first, where several in a row are missing.
    seq: i64,
    /// The number of the last of them.
    last_seq: i64,
    /// `changed`: it is not what was sealed. `missing`: it is not there. `unlinked`: it was sealed after another event
    /// than that which stands before it. `head`: the trail does not end where its head says. `anchor`: it should not be
    /// kept any more. `stray`: it was never sealed, and does not wait for it; its number is 0.
    #[schema(value_type = String, example = "changed")]
    kind: ProblemKind,
    /// The event, where there is one.
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

/// Verifies the trail of what belongs to no tenant
///
/// Every event is looked at, so the answer to a long trail takes its time.
#[utoipa::path(
    get, path = "/audit/verify", operation_id = "verifyAudit", tag = "audit",
    responses((status = 200, body = VerificationView), (status = "default", response = Problem)),
)]
pub(super) async fn platform(
    Operator(caller): Operator,
    _: QueryParams<()>,
    State(app): State<SharedState>,
) -> Result<Response, ApiError> {
    let chain = app.audit.find_chain(None).await?;
    verify_chain(app, &caller, chain)
}

/// Verifies a tenant's trail
///
/// Every event is looked at, so the answer to a long trail takes its time.
#[utoipa::path(
    get, path = "/tenants/{slug}/audit/verify", operation_id = "verifyTenantAudit", tag = "audit",
    params(("slug" = String, Path)),
    responses((status = 200, body = VerificationView), (status = "default", response = Problem)),
)]
pub(super) async fn tenant(
    access: TenantAccess<ReadPrivate>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
) -> Result<Response, ApiError> {
    let chain = app.audit.find_chain(Some(access.tenant.id)).await?;
    verify_chain(app, &access.caller, chain)
}

/// An answer that ends with the walk, which may take longer than a request has time. Until then it is blanks, which JSON
/// may begin with, so that no proxy takes the connection for dead.
fn verify_chain(app: SharedState, caller: &Caller, chain: Chain) -> Result<Response, ApiError> {
    let place = StreamPermit::begin(&app, caller)?;
    let found = async move {
        let _place = place;
        let found = app.audit.verify(chain).await;
        let found = found.inspect_err(|error| tracing::warn!(%error, "Could not verify a trail"));
        let view = serde_json::to_vec(&VerificationView::from(found?))?;
        Ok::<_, anyhow::Error>(Bytes::from(view))
    };
    let body = stream::try_unfold(Some(found.boxed()), async |found| {
        let Some(mut found) = found else {
            return Ok(None);
        };
        match timeout(BLANK_EVERY, &mut found).await {
            Ok(view) => view.map(|view| Some((view, None))),
            Err(_) => Ok(Some((Bytes::from_static(b" "), Some(found)))),
        }
    });
    let body = Body::from_stream(body);
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}
