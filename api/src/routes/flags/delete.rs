//! Deleting a flag.

use axum::extract::State;
use bson::Document;
use dezky_shared::{audit::Action, flag::NEW_BILLING_ENGINE, store::Abort};
use futures::{FutureExt as _, future::BoxFuture};
use http::StatusCode;
use mongodb::ClientSession;

use super::{FlagView, answer, audited, target};
use crate::{
    error::{ApiError, Code, Problem},
    extract::{ETag, IfMatch, NoBody, Operator, PathParam, QueryParams, RequestInfo, Submitted},
    intent::{Answer, Intent, Recorded, Recorder, Stop, refuse},
    state::App,
};

/// Deletes a feature flag
///
/// It is answered as it was last. Whoever still asks for it is told that it is off. `new_billing_engine` cannot be
/// deleted.
#[utoipa::path(
    delete, path = "/flags/{key}", operation_id = "deleteFlag", tag = "flags",
    params(("key" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = FlagView), (status = "default", response = Problem)),
)]
pub(super) async fn delete(
    Operator(caller): Operator,
    PathParam(key): PathParam<String>,
    _: QueryParams<()>,
    State(app): State<App>,
    request: RequestInfo,
    if_match: IfMatch,
    submitted: Submitted<NoBody>,
) -> Result<Answer, ApiError> {
    if key == NEW_BILLING_ENGINE {
        return Err(Code::FlagBuiltIn.into());
    }
    let recorder = Recorder::new(&app, &caller, &request, submitted.key.as_ref());
    let deletion = Deletion {
        key,
        if_match: &if_match,
    };
    let answer = recorder.record(&deletion).await?.answer;
    app.flags.look_now().await;
    Ok(answer)
}

struct Deletion<'a> {
    key: String,
    if_match: &'a IfMatch,
}

impl Intent for Deletion<'_> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s Recorder<'_>,
    ) -> BoxFuture<'s, Result<Recorded, Abort<Stop>>> {
        async move {
            let flags = &recorder.app.stored_flags;
            let found = flags.find_in(session, &self.key).await?;
            let flag = found.ok_or_else(|| refuse(Code::NotFound))?;
            self.if_match.check(ETag::from(&flag)).map_err(refuse)?;
            flags.note_write(session).await?;
            flags.delete(session, &flag.key).await?;
            let now = recorder.app.store.now();
            let event = recorder
                .event(now, Action::FlagDelete, target(&flag), None)
                .with_changes(&audited(&flag)?, &Document::new());
            Ok(Recorded {
                answer: answer(StatusCode::OK, flag).map_err(refuse)?,
                jobs: Vec::new(),
                changed: Vec::new(),
                events: vec![event],
            })
        }
        .boxed()
    }
}
