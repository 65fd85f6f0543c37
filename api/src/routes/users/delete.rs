//! Deleting somebody.

use axum::extract::State;
use bson::Document;
use dezky_shared::{
    audit::Action, id::UserId, platform::change_feed::DocumentChange, store::TransactionError,
    user::User,
};
use futures::{FutureExt as _, future::BoxFuture};
use mongodb::ClientSession;

use super::{
    UserDetail,
    audit::{audited, target},
    detail,
    roles::ensure_owner_remains,
};
use crate::{
    error::{ApiError, Problem, ProblemCode},
    extract::{
        ETag, EmptyBody, IfMatch, Operator, PathParam, QueryParams, RequestInfo, ValidatedJson,
    },
    intent::{ApiResponse, Command, CommandError, CommandOutput, CommandRunner, reject},
    routes::partner_team::{check_team_invariants, sync_team},
    state::SharedState,
};

/// Deletes somebody, and answers who they were
///
/// All their rights end at once, and with them every invitation to them. The last owner of a tenant or a partner cannot be
/// deleted. Their account at the identity
/// provider stays: whoever signs in there again is somebody new here, who gets what the groups in their new token say.
/// To keep somebody out, take them out of those groups, or take their rights away and let the user stay.
#[utoipa::path(
    delete, path = "/users/{id}", operation_id = "deleteUser", tag = "users",
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = UserDetail), (status = "default", response = Problem)),
)]
pub(super) async fn delete(
    Operator(caller): Operator,
    PathParam(id): PathParam<UserId>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    submitted: ValidatedJson<EmptyBody>,
) -> Result<ApiResponse, ApiError> {
    let recorder = CommandRunner::new(&app, &caller, &request, submitted.key.as_ref());
    let delete = Delete {
        id,
        if_match: &if_match,
    };
    Ok(recorder.record(&delete).await?.answer)
}

struct Delete<'a> {
    id: UserId,
    if_match: &'a IfMatch,
}

impl Command for Delete<'_> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let app = recorder.app;
            let locked = app.users.find_for_update(session, self.id).await?;
            let locked = locked.ok_or_else(|| reject(ProblemCode::NotFound))?;
            let user = User {
                revision: locked.revision - 1,
                ..locked
            };
            self.if_match.check(ETag::from(&user)).map_err(reject)?;
            if self.id == recorder.caller.user.id {
                return Err(reject(ProblemCode::OwnUser));
            }
            ensure_owner_remains(session, app, &user.owns()).await?;
            check_team_invariants(session, app, Some(&user), None).await?;
            app.invitations.withdraw_all(session, &user).await?;
            let now = app.store.now();
            app.users.delete(session, &user, now).await?;
            let mut event = recorder
                .event(now, Action::UserDelete, target(&user), None)
                .with_changes(&audited(&user), &Document::new());
            let mut jobs = Vec::new();
            if let Some(partner) = user.partner_id {
                jobs.push(sync_team(recorder, session, partner).await?);
            }
            event.job_id = jobs.first().map(|job| job.id);
            let mut answer = detail(app, &user).await.map_err(reject)?;
            answer.etag = None;
            Ok(CommandOutput {
                changed: vec![DocumentChange::User(self.id)],
                jobs,
                ..CommandOutput::complete(answer, event)
            })
        }
        .boxed()
    }
}
