//! Deleting a flag.

use axum::extract::State;
use bson::Document;
use dezky_shared::{audit::Action, feature_flag::NEW_BILLING_ENGINE, store::TransactionError};
use futures::{FutureExt as _, future::BoxFuture};
use http::StatusCode;
use mongodb::ClientSession;

use super::{FlagView, answer, audited, target};
use crate::{
    error::{ApiError, Problem, ProblemCode},
    extract::{
        ETag, EmptyBody, IfMatch, Operator, PathParam, QueryParams, RequestInfo, ValidatedJson,
    },
    intent::{ApiResponse, Command, CommandError, CommandOutput, CommandRunner, reject},
    state::SharedState,
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
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    submitted: ValidatedJson<EmptyBody>,
) -> Result<ApiResponse, ApiError> {
    if key == NEW_BILLING_ENGINE {
        return Err(ProblemCode::FlagBuiltIn.into());
    }
    let recorder = CommandRunner::new(&app, &caller, &request, submitted.key.as_ref());
    let deletion = Deletion {
        key,
        if_match: &if_match,
    };
    let answer = recorder.record(&deletion).await?.answer;
    app.flags.refresh().await;
    Ok(answer)
}

struct Deletion<'a> {
    key: String,
    if_match: &'a IfMatch,
}

impl Command for Deletion<'_> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let flags = &recorder.app.flag_repository;
            let found = flags.find_in(session, &self.key).await?;
            let flag = found.ok_or_else(|| reject(ProblemCode::NotFound))?;
            self.if_match.check(ETag::from(&flag)).map_err(reject)?;
            flags.bump_revision(session).await?;
            flags.delete(session, &flag.key).await?;
            let now = recorder.app.store.now();
            let event = recorder
                .event(now, Action::FlagDelete, target(&flag), None)
                .with_changes(&audited(&flag)?, &Document::new());
            Ok(CommandOutput {
                answer: answer(StatusCode::OK, flag).map_err(reject)?,
                jobs: Vec::new(),
                changed: Vec::new(),
                events: vec![event],
            })
        }
        .boxed()
    }
}
