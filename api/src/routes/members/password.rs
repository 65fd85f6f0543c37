//! One-time passwords: issued once, shown once, and carried to the upstreams by a job that holds them encrypted.

use axum::response::Response;
use bson::DateTime;
use dezky_shared::{
    audit::Action,
    id::MemberId,
    member::{Member, MemberStatus, generate_password},
    queue::{args::ResetMemberPassword, job::JobArgs, secret_box::EncryptionError},
    store::jobs::NewJob,
};
use mongodb::ClientSession;

use super::{
    change::{Decision, Edit, EditContext, execute},
    find_person,
    view::TenantUserView,
};
use crate::{
    config::Config,
    error::{ApiError, ProblemCode},
    extract::{EmptyBody, PathId, ReadWrite, TenantAccess},
    write::{CommandRunner, Rollback, Write},
};

/// Rejects a request for a password if no encryption key is configured.
pub(super) fn ensure_can_encrypt(config: &Config) -> Result<(), ApiError> {
    if config.encryption_keys.can_encrypt() {
        Ok(())
    } else {
        Err(ProblemCode::EncryptionNotConfigured.into())
    }
}

/// A job that sets `password`, which the member now has issued.
pub(super) fn job_with_password(
    config: &Config,
    args: &impl JobArgs,
    by: &str,
    member: &mut Member,
    password: &str,
    now: DateTime,
) -> Result<NewJob, Rollback> {
    let secrets = member.issue_password(password.to_owned(), now);
    let job = NewJob::new(args, by, now)?;
    let encrypted = job.with_secrets(&config.encryption_keys, &secrets);
    Ok(encrypted.map_err(|error| match error {
        EncryptionError::NoKey => ApiError::from(ProblemCode::EncryptionNotConfigured),
        error => ApiError::internal(error.into()),
    })?)
}

/// Resets the password of a member
///
/// Returns a new one-time password, once: a replayed response has null in its place. It is set for the sign-in and the
/// mailbox, and sessions end, app passwords included. If the person had an account before, or uses it in a partner's team,
/// as an operator, or in another tenant (except with a login in a domain of this one), the password of the sign-in is
/// theirs: `passwordScope` is then `mailbox`, or the request is rejected with 409 `password_not_ours` if there is no
/// mailbox. Only owners and operators can reset the password of an owner.
#[utoipa::path(
    post, path = "/tenants/{slug}/users/{id}/reset-password", operation_id = "resetTenantUserPassword", tag = "tenant users",
    responses((status = 202, body = TenantUserView)),
)]
pub(super) async fn reset(
    w: Write<TenantAccess<ReadWrite>, EmptyBody, PathId<MemberId>>,
) -> Result<Response, ApiError> {
    w.limit_credentials().await?;
    let tenant = &w.access.tenant;
    let person = find_person(&w.app, tenant.id, w.params.0).await?;
    let member = person.into_member()?;
    ensure_can_encrypt(&w.app.config)?;
    let reset = Reset {
        password: generate_password(),
    };
    execute(&w.runner(), tenant, &member, &reset).await
}

struct Reset {
    password: String,
}

impl Edit for Reset {
    const ALLOWS_SELF: bool = true;

    async fn edit(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
        context: EditContext<'_>,
        member: &mut Member,
    ) -> Result<Option<Decision>, Rollback> {
        let app = runner.app;
        if member.status == MemberStatus::Removing {
            return Err(ProblemCode::MemberRemoving.into());
        }
        let is_elsewhere = app.db.members.is_elsewhere(session, member).await?;
        let scope = member
            .password_scope(context.tenant, context.user, is_elsewhere)
            .ok_or(ProblemCode::PasswordNotOurs)?;
        let args = ResetMemberPassword {
            tenant_id: member.tenant_id,
            member_id: member.id,
        };
        let (now, by) = (app.store.now(), runner.actor_id());
        let job = job_with_password(&app.config, &args, &by, member, &self.password, now)?;
        Ok(Some(Decision {
            password: Some((self.password.clone(), scope)),
            ..Decision::new(Action::MemberResetPassword, vec![job])
        }))
    }
}
