//! CSV export of audit events (RFC 4180).
//!
//! Events are streamed from MongoDB with backpressure, a small batch in memory at a time. A failure during the export,
//! including an expired token or a revoked permission, aborts the connection, so that a partial file is never mistaken
//! for a complete one.

use std::{mem, time::Duration};

use axum::{
    Extension,
    body::{Body, Bytes},
    response::{IntoResponse as _, Response},
};
use dezky_shared::{
    id::TenantId,
    platform::{change_feed::DocumentChange, clock},
    store::{StoreError, audit::AuditFilter},
    tenant::Tenant,
};
use futures::{
    FutureExt as _, StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use http::header;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::view::AuditEventView;
use crate::{
    error::{ApiError, ProblemCode},
    extract::{Caller, Format, Permission as _, ReadPrivate},
    long_poll::Subscription,
    routes::events::STREAMS_PER_CALLER,
    serve::HeldMemory,
    spreadsheet::{BOM, CSV, line},
    state::SharedState,
};

/// Maximum size of a chunk of the body, in bytes. The caller is checked between chunks.
const CHUNK: usize = 64 * 1024;
/// Memory of an export, in bytes: a batch of large events, and a row.
const MEMORY: usize = 4 * 1024 * 1024;
/// Interval of the permission check during an export.
const RECHECK_EVERY: Duration = Duration::from_secs(3);
/// Column names.
const COLUMNS: [&str; 22] = [
    "id",
    "at",
    "tenantId",
    "actorKind",
    "actorId",
    "actorName",
    "actorEmail",
    "actorAudience",
    "action",
    "targetKind",
    "targetId",
    "targetName",
    "outcome",
    "before",
    "after",
    "requestId",
    "ip",
    "userAgent",
    "jobId",
    "seq",
    "prevHash",
    "hash",
];

/// A permit for one streamed response, limited per process and per caller.
pub(super) struct StreamPermit {
    _permit: OwnedSemaphorePermit,
    _of_caller: Subscription,
}

impl StreamPermit {
    /// Acquires a permit.
    pub(super) fn begin(app: &SharedState, caller: &Caller) -> Result<Self, ApiError> {
        let permit = app
            .watcher
            .acquire_stream()
            .ok_or(ProblemCode::TooManyStreams)?;
        let user = DocumentChange::User(caller.user.id);
        let of_caller = app.watcher.subscribe(user);
        if app.watcher.waiters(user) > STREAMS_PER_CALLER {
            return Err(ProblemCode::TooManyStreams.into());
        }
        Ok(Self {
            _permit: permit,
            _of_caller: of_caller,
        })
    }
}

/// Exports all events that match `filter`.
pub(super) async fn export(
    app: &SharedState,
    caller: &Caller,
    filter: &AuditFilter,
    tenant: Option<&Tenant>,
) -> Result<Response, ApiError> {
    let reader = ExportReader {
        _permit: StreamPermit::begin(app, caller)?,
        app: app.clone(),
        caller: caller.clone(),
        tenant: tenant.map(|tenant| tenant.id),
        checked_at: Instant::now(),
    };
    let events = app.db.audit.list_all(filter).await?;
    let caller = caller.clone();
    let rows = events.map_ok(move |event| row(&AuditEventView::new(event, &caller)));
    let heading = stream::once(async { Ok(BOM.to_owned() + &line(COLUMNS.map(str::to_owned))) });
    let rows = Rows {
        rows: heading.chain(rows).fuse().boxed(),
        unsent: Vec::new(),
    };
    let chunks = stream::try_unfold((rows, reader), async |(mut rows, mut reader)| {
        reader.recheck().await?;
        let chunk = rows.next_chunk().await?;
        Ok(chunk.map(|chunk| (chunk, (rows, reader))))
    });
    let chunks =
        chunks.inspect_err(|error: &anyhow::Error| tracing::warn!(%error, "Audit export aborted"));

    let of = tenant.map_or("platform", |tenant| &tenant.slug);
    let file = format!("attachment; filename=\"audit-{of}.csv\"");
    let headers = [
        (header::CONTENT_TYPE, CSV),
        (header::CONTENT_DISPOSITION, file.as_str()),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let held = Extension(HeldMemory(MEMORY));
    Ok((Format::Csv, headers, held, Body::from_stream(chunks)).into_response())
}

/// Rows, grouped into chunks: small ones together, a large one in parts.
struct Rows {
    rows: BoxStream<'static, Result<String, StoreError>>,
    unsent: Vec<u8>,
}

impl Rows {
    /// The next chunk, of what can be read without waiting, but at least one row. `None` after the last row.
    async fn next_chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        while self.unsent.len() < CHUNK {
            let row = if self.unsent.is_empty() {
                self.rows.try_next().await?
            } else {
                self.rows.try_next().now_or_never().transpose()?.flatten()
            };
            let Some(row) = row else {
                break;
            };
            self.unsent.extend_from_slice(row.as_bytes());
        }
        let size = self.unsent.len().min(CHUNK);
        let rest = self.unsent.split_off(size);
        let chunk = mem::replace(&mut self.unsent, rest);
        Ok((size > 0).then(|| Bytes::from(chunk)))
    }
}

/// The caller of an export.
struct ExportReader {
    app: SharedState,
    caller: Caller,
    /// The tenant of the exported trail; `None` for all trails.
    tenant: Option<TenantId>,
    /// Time of the last permission check.
    checked_at: Instant,
    _permit: StreamPermit,
}

impl ExportReader {
    /// Fails when the token has expired or the permission was revoked.
    async fn recheck(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(
            clock::now() < self.caller.token_expires_at,
            "the token has expired"
        );
        if self.checked_at.elapsed() < RECHECK_EVERY {
            return Ok(());
        }
        let rejected =
            |error: ApiError| anyhow::anyhow!("the caller was rejected: {}", error.detail);
        self.caller
            .refresh(&self.app.access)
            .await
            .map_err(rejected)?;
        let may_read = match self.tenant {
            None => self.caller.reads_platform(),
            Some(id) => {
                let tenant = self.app.db.tenants.find(id).await?;
                tenant.is_some_and(|tenant| ReadPrivate::allows(&self.caller, &tenant))
            }
        };
        anyhow::ensure!(may_read, "the permission to read the trail was revoked");
        self.checked_at = Instant::now();
        Ok(())
    }
}

fn row(event: &AuditEventView) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let actor = &event.actor;
    line([
        event.id.to_string(),
        event.at.to_string(),
        event.tenant_id.map(|id| id.to_string()).unwrap_or_default(),
        actor.kind.to_string(),
        actor.id.clone(),
        text(&actor.name),
        text(&actor.email),
        actor.audience.join(" "),
        event.action.to_string(),
        event.target.kind.clone(),
        event.target.id.clone(),
        event.target.name.clone(),
        event.outcome.to_string(),
        event.before.to_string(),
        event.after.to_string(),
        text(&event.request_id),
        text(&event.ip),
        text(&event.user_agent),
        event.job_id.map(|id| id.to_string()).unwrap_or_default(),
        event.seq.map(|seq| seq.to_string()).unwrap_or_default(),
        text(&event.prev_hash),
        text(&event.hash),
    ])
}
