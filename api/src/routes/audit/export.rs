//! CSV export of audit events (RFC 4180).
//!
//! Events are streamed from MongoDB with backpressure, a few hundred in memory at a time. A failure during the export,
//! including an expired token or a revoked permission, aborts the connection, so that a partial file is never mistaken
//! for a complete one.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::FromRequestParts,
    response::{IntoResponse as _, IntoResponseParts, Response, ResponseParts},
};
use dezky_shared::{
    id::TenantId,
    platform::{change_feed::DocumentChange, clock},
    store::audit::AuditFilter,
    tenant::Tenant,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderValue, header, request::Parts};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::view::AuditEventView;
use crate::{
    error::{ApiError, ProblemCode},
    extract::{Caller, Permission as _, ReadPrivate},
    long_poll::Subscription,
    routes::events::STREAMS_PER_CALLER,
    state::SharedState,
};

/// Events per chunk of the body.
const CHUNK: usize = 100;
/// Interval of the permission check during an export.
const RECHECK_EVERY: Duration = Duration::from_secs(3);
/// Characters that start a formula in a spreadsheet; some accept the full-width ones.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];
/// Characters that some spreadsheets treat as field separators even in quoted fields.
const SEPARATORS: [char; 4] = [';', '\t', '\r', '\n'];
/// Byte order mark: without it, spreadsheets read UTF-8 in the encoding of the system.
const BOM: &str = "\u{feff}";
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

/// Format of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// One page as JSON.
    Json,
    /// All events as CSV.
    Csv,
}

impl<S: Sync> FromRequestParts<S> for Format {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let accepted = parts.headers.get_all(header::ACCEPT).into_iter();
        let ranges = accepted
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        Ok(Self::preferred(ranges))
    }
}

impl Format {
    /// Proactive negotiation (RFC 9110, section 12.5.1). CSV only if it is asked for by name: a wildcard means the
    /// default.
    fn preferred<'a>(ranges: impl Iterator<Item = &'a str>) -> Self {
        let (mut csv, mut json, mut any) = (None, None, None);
        for range in ranges {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts
                .find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")))
                .map_or(1.0, |quality| quality.parse::<f32>().unwrap_or(0.0));
            match media_type.as_str() {
                "text/csv" => csv = Some(quality),
                "application/json" => json = Some(quality),
                "application/*" => json = json.or(Some(quality)),
                "*/*" => any = Some(quality),
                _ => {}
            }
        }
        let csv = csv.unwrap_or(0.0);
        // A wildcard accepts JSON as well, but a type that is named is preferred to one that is not.
        let prefers_csv = match (json, any) {
            (Some(json), _) => csv >= json,
            (None, any) => csv >= any.unwrap_or(0.0),
        };
        if csv > 0.0 && prefers_csv {
            Self::Csv
        } else {
            Self::Json
        }
    }
}

/// `Vary: Accept`, for caches.
impl IntoResponseParts for Format {
    type Error = Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Infallible> {
        let headers = parts.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("accept"));
        Ok(parts)
    }
}

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
    let chunks = heading.chain(rows).try_ready_chunks(CHUNK).boxed();
    let chunks = stream::try_unfold((chunks, reader), async |(mut chunks, mut reader)| {
        reader.recheck().await?;
        let lines = chunks.try_next().await.map_err(|error| error.1)?;
        let chunk = lines.map(|lines| Bytes::from(lines.concat()));
        Ok(chunk.map(|chunk| (chunk, (chunks, reader))))
    });
    let chunks =
        chunks.inspect_err(|error: &anyhow::Error| tracing::warn!(%error, "Audit export aborted"));

    let of = tenant.map_or("platform", |tenant| &tenant.slug);
    let file = format!("attachment; filename=\"audit-{of}.csv\"");
    let headers = [
        (
            header::CONTENT_TYPE,
            "text/csv; charset=utf-8; header=present",
        ),
        (header::CONTENT_DISPOSITION, file.as_str()),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((Format::Csv, headers, Body::from_stream(chunks)).into_response())
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
            None => self.caller.is_operator(),
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

fn line(fields: [String; COLUMNS.len()]) -> String {
    let mut line = fields.map(|field| escaped(&field)).join(",");
    line.push_str("\r\n");
    line
}

fn escaped(field: &str) -> String {
    let mut escaped = String::with_capacity(field.len() + 2);
    escaped.push('"');
    let mut at_cell_start = true;
    for character in field.chars() {
        if at_cell_start && FORMULA.contains(&character) {
            // An apostrophe makes spreadsheets show the cell as text.
            escaped.push('\'');
        }
        if character == '"' {
            escaped.push('"');
        }
        escaped.push(character);
        let is_skipped = character == '"' || character.is_whitespace();
        at_cell_start = SEPARATORS.contains(&character) || at_cell_start && is_skipped;
    }
    escaped.push('"');
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_stays_one_field_and_never_becomes_a_formula() {
        let cases = [
            ("plain", "\"plain\""),
            ("", "\"\""),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\r\nlines", "\"two\r\nlines\""),
            ("=1+1", "\"'=1+1\""),
            ("+45 1", "\"'+45 1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            (" =1", "\" '=1\""),
            ("\t=1", "\"\t'=1\""),
            ("\r=1", "\"\r'=1\""),
            ("a\r\n=1", "\"a\r\n'=1\""),
            ("a\n-1", "\"a\n'-1\""),
            ("a\t@b", "\"a\t'@b\""),
            ("a;=1", "\"a;'=1\""),
            ("a; \"=1\"", "\"a; \"\"'=1\"\"\""),
            ("＝1", "\"'＝1\""),
            ("a;＋1", "\"a;'＋1\""),
            ("－1", "\"'－1\""),
            ("＠SUM(A1)", "\"'＠SUM(A1)\""),
            ("=cmd|' /C calc'!A0,\"", "\"'=cmd|' /C calc'!A0,\"\"\""),
            ("a=1", "\"a=1\""),
            ("a;b=1", "\"a;b=1\""),
        ];

        for (field, expected) in cases {
            assert_eq!(escaped(field), expected, "{field:?}");
        }
    }
}
