//! All events at once, as a file of comma-separated values (RFC 4180).
//!
//! Events go from MongoDB to the caller as fast as the caller takes them, a few hundred in memory at a time. What goes
//! wrong half-way, the end of the caller's token or rights included, breaks the connection off, so that nobody takes a
//! part for the whole.

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

/// How many events are written into one piece of the body.
const PIECE: usize = 100;
/// How often it is looked whether the caller still may have the rest.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// What a spreadsheet could take for the beginning of a formula; some also take the full-width ones.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];
/// What some spreadsheets take for the end of a field, whatever was agreed upon.
const SEPARATORS: [char; 4] = [';', '\t', '\r', '\n'];
/// The names of the columns.
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

/// How the trail is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// A page of it.
    Json,
    /// All of it.
    Csv,
}

impl<S: Sync> FromRequestParts<S> for Format {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let accepted = parts.headers.get_all(header::ACCEPT).into_iter();
        let mut ranges = accepted
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|range| range.split(';').next().unwrap_or_default().trim());
        let wants_csv = ranges.any(|range| range.eq_ignore_ascii_case("text/csv"));
        Ok(if wants_csv { Self::Csv } else { Self::Json })
    }
}

/// A cache that keeps one form must not take it for the other.
impl IntoResponseParts for Format {
    type Error = Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Infallible> {
        let headers = parts.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("accept"));
        Ok(parts)
    }
}

/// A place among the streams of a process and of a caller, for an answer that goes on for long.
pub(super) struct StreamPermit {
    _place: OwnedSemaphorePermit,
    _of_caller: Subscription,
}

impl StreamPermit {
    /// Takes a place, if there is one.
    pub(super) fn begin(app: &SharedState, caller: &Caller) -> Result<Self, ApiError> {
        let place = app
            .waiting
            .acquire_stream()
            .ok_or(ProblemCode::TooManyStreams)?;
        let who = DocumentChange::User(caller.user.id);
        let of_caller = app.waiting.subscribe(who);
        if app.waiting.waiters(who) > STREAMS_PER_CALLER {
            return Err(ProblemCode::TooManyStreams.into());
        }
        Ok(Self {
            _place: place,
            _of_caller: of_caller,
        })
    }
}

/// All that `filter` lets through.
pub(super) async fn export(
    app: &SharedState,
    caller: &Caller,
    filter: &AuditFilter,
    tenant: Option<&Tenant>,
) -> Result<Response, ApiError> {
    let reader = ExportReader {
        _place: StreamPermit::begin(app, caller)?,
        app: app.clone(),
        caller: caller.clone(),
        tenant: tenant.map(|tenant| tenant.id),
        looked_at: Instant::now(),
    };
    let events = app.audit.list_all(filter).await?;
    let caller = caller.clone();
    let rows = events.map_ok(move |event| row(&AuditEventView::new(event, &caller)));
    let heading = stream::once(async { Ok(line(COLUMNS.map(str::to_owned))) });
    let pieces = heading.chain(rows).try_ready_chunks(PIECE).boxed();
    let pieces = stream::try_unfold((pieces, reader), async |(mut pieces, mut reader)| {
        reader.look().await?;
        let lines = pieces.try_next().await.map_err(|error| error.1)?;
        let piece = lines.map(|lines| Bytes::from(lines.concat()));
        Ok(piece.map(|piece| (piece, (pieces, reader))))
    });
    let pieces =
        pieces.inspect_err(|error: &anyhow::Error| tracing::warn!(%error, "An export broke off"));

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
    Ok((Format::Csv, headers, Body::from_stream(pieces)).into_response())
}

/// Whoever takes an export, as long as they may.
struct ExportReader {
    app: SharedState,
    caller: Caller,
    /// Whose trail it is; the platform's and everybody's if nobody's.
    tenant: Option<TenantId>,
    /// When their rights were read last.
    looked_at: Instant,
    _place: StreamPermit,
}

impl ExportReader {
    /// Fails when the token has ended, or the right to read the trail.
    async fn look(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(
            clock::now() < self.caller.token_expires_at,
            "the token has ended"
        );
        if self.looked_at.elapsed() < LOOK_EVERY {
            return Ok(());
        }
        let is_refused =
            |error: ApiError| anyhow::anyhow!("the caller is refused: {}", error.detail);
        self.caller.refresh(&self.app).await.map_err(is_refused)?;
        let may_read = match self.tenant {
            None => self.caller.is_operator(),
            Some(id) => {
                let tenant = self.app.tenants.find(id).await?;
                tenant.is_some_and(|tenant| ReadPrivate::allows(&self.caller, &tenant))
            }
        };
        anyhow::ensure!(may_read, "the caller may not read the trail any more");
        self.looked_at = Instant::now();
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
    let mut could_begin_a_cell = true;
    for character in field.chars() {
        if could_begin_a_cell && FORMULA.contains(&character) {
            // What follows it is shown as it is.
            escaped.push('\'');
        }
        if character == '"' {
            escaped.push('"');
        }
        escaped.push(character);
        let is_passed_over = character == '"' || character.is_whitespace();
        could_begin_a_cell =
            SEPARATORS.contains(&character) || could_begin_a_cell && is_passed_over;
    }
    escaped.push('"');
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_one_field_and_no_formula_whatever_is_in_it() {
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
