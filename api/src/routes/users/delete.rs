//! Deleting somebody.

use axum::extract::State;
use bson::Document;
use dezky_shared::{audit::Action, changes::Change, id::UserId, store::Abort, user::User};
use futures::{FutureExt as _, future::BoxFuture};
use mongodb::ClientSession;

use super::{
    UserDetail,
    audited::{audited, target},
    detail,
    rights::keep_owners,
};
use crate::{
    error::{ApiError, Code, Problem},
    extract::{ETag, IfMatch, NoBody, Operator, PathParam, QueryParams, RequestInfo, Submitted},
    intent::{Answer, Intent, Recorded, Recorder, Stop, refuse},
    routes::partner_team::{keep_teams, sync_team},
    state::App,
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
    State(app): State<App>,
    request: RequestInfo,
    if_match: IfMatch,
    submitted: Submitted<NoBody>,
) -> Result<Answer, ApiError> {
    let recorder = Recorder::new(&app, &caller, &request, submitted.key.as_ref());
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

impl Intent for Delete<'_> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s Recorder<'_>,
    ) -> BoxFuture<'s, Result<Recorded, Abort<Stop>>> {
        async move {
            let app = recorder.app;
            let locked = app.users.lock(session, self.id).await?;
            let locked = locked.ok_or_else(|| refuse(Code::NotFound))?;
            let user = User {
                revision: locked.revision - 1,
                ..locked
            };
            self.if_match.check(ETag::from(&user)).map_err(refuse)?;
            if self.id == recorder.caller.user.id {
                return Err(refuse(Code::OwnUser));
            }
            keep_owners(session, app, &user.owns()).await?;
            keep_teams(session, app, Some(&user), None).await?;
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
            let mut answer = detail(app, &user).await.map_err(refuse)?;
            answer.etag = None;
            Ok(Recorded {
                changed: vec![Change::User(self.id)],
                jobs,
                ..Recorded::complete(answer, event)
            })
        }
        .boxed()
    }
}
