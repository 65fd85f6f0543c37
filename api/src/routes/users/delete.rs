//! Deletion of users.

use bson::Document;
use dezky_shared::{
    audit::Action, id::UserId, platform::change_feed::DocumentChange,
    store::VersionedRepository as _,
};
use mongodb::ClientSession;

use super::{
    UserDetail,
    audit::{audited, target},
    detail,
    roles::ensure_owner_remains,
};
use crate::{
    error::{ApiError, ProblemCode},
    etag::ETag,
    extract::{EmptyBody, Operator, PathParam},
    response::ApiResponse,
    routes::partner_team::{check_team_invariants, sync_team},
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

/// Deletes a user and returns it
///
/// All permissions and invitations of the user end at once. The last owner of a tenant or a partner cannot be deleted.
/// The account at the identity provider stays: a later sign-in creates a new user with the permissions of the groups in
/// the new token. To lock a user out, remove the user from those groups, or revoke the permissions instead of deleting.
#[utoipa::path(delete, path = "/users/{id}", operation_id = "deleteUser", tag = "users", responses((status = 200, body = UserDetail)))]
pub(super) async fn delete(
    w: Write<Operator, EmptyBody, PathParam<UserId>>,
) -> Result<ApiResponse, ApiError> {
    w.run(&Delete { id: w.params.0 }).await
}

struct Delete {
    id: UserId,
}

impl Command for Delete {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let app = runner.app;
        let users = &app.db.users;
        let found = users.find_in_transaction(session, self.id).await?;
        let user = found.ok_or(ProblemCode::NotFound)?;
        runner.if_match.check(ETag::from(&user))?;
        if self.id == runner.caller.user.id {
            return Err(ProblemCode::OwnUser.into());
        }
        ensure_owner_remains(session, app, &user.owns()).await?;
        check_team_invariants(session, app, Some(&user), None).await?;
        app.db.invitations.revoke_all(session, &user).await?;
        let now = app.store.now();
        users.delete_with_tombstone(session, &user, now).await?;
        let event = runner
            .event(now, Action::UserDelete, target(&user), None)
            .with_changes(&audited(&user), &Document::new());
        let mut jobs = Vec::new();
        if let Some(partner) = user.partner_id {
            jobs.push(sync_team(runner, session, partner).await?);
        }
        let mut response = detail(app, &user).await?;
        response.etag = None;
        Ok(CommandOutput::complete(response, event)
            .with_jobs(jobs)
            .with_changed(DocumentChange::User(self.id)))
    }
}
