//! Changes of a member: one command for every edit, with the membership, the job and the audit event.

use std::future::Future;

use axum::response::{IntoResponse as _, Response};
use dezky_shared::{
    audit::{Action, Target},
    id::{MemberId, TenantId},
    member::{Member, PasswordScope},
    platform::change_feed::DocumentChange,
    queue::job::JobState,
    store::{VersionedRepository as _, jobs::NewJob},
    tenant::Tenant,
    user::{Role, User},
};
use mongodb::ClientSession;

use super::{
    Person, is_present_in, respond,
    rights::{ensure_may_manage, follow_member},
    with_user,
};
use crate::{
    error::{ApiError, ProblemCode},
    etag::ETag,
    response::ApiResponse,
    routes::{
        outcome::{preference_applied, run_and_await},
        tenants::enqueue_all,
    },
    write::{Command, CommandOutput, CommandRunner, Rollback, find_open_tenant},
};

/// Members of a response that are in the response of the command alone.
const PASSWORD_FIELDS: [&str; 2] = ["oneTimePassword", "passwordScope"];

/// The decision of an edit.
pub(super) struct Decision {
    /// Action of the audit event.
    pub(super) action: Action,
    /// Jobs that carry the change out.
    pub(super) jobs: Vec<NewJob>,
    /// Issued one-time password, and its scope.
    pub(super) password: Option<(String, PasswordScope)>,
}

impl Decision {
    /// A decision that issues no password.
    pub(super) fn new(action: Action, jobs: Vec<NewJob>) -> Self {
        Self {
            action,
            jobs,
            password: None,
        }
    }
}

/// Documents that the edit of a member depends on.
pub(super) struct EditContext<'a> {
    /// The tenant, as seen by the transaction.
    pub(super) tenant: &'a Tenant,
    /// The member's user, if it is known.
    pub(super) user: Option<&'a User>,
}

/// An edit of a member.
pub(super) trait Edit: Sync {
    /// Whether callers may make it on themselves.
    const ALLOWS_SELF: bool = false;

    /// The role that the member gets, if the edit concerns roles or the whole member: owners are managed by owners alone.
    /// `None` if it does not.
    fn concerns(&self, held: Role) -> Option<Role> {
        Some(held)
    }

    /// Edits the member. `None` if there is nothing to do. Runs again if the transaction conflicts with another one.
    fn edit(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
        context: EditContext<'_>,
        member: &mut Member,
    ) -> impl Future<Output = Result<Option<Decision>, Rollback>> + Send;
}

/// Edits a member. With `Prefer: wait`, waits for the outcome.
pub(super) async fn execute<E: Edit>(
    runner: &CommandRunner<'_>,
    tenant: &Tenant,
    member: &Member,
    edit: &E,
) -> Result<Response, ApiError> {
    let change = MemberChange {
        tenant_id: tenant.id,
        id: member.id,
        edit,
    };
    // Checked here too, because a replay does not run the command.
    change.allow(runner, member)?;
    run_and_wait(runner, tenant, &change).await
}

/// Runs a command that responds with a member, under the tenant's keyed mutex. With `Prefer: wait`, waits for the outcome.
pub(super) async fn run_and_wait(
    runner: &CommandRunner<'_>,
    tenant: &Tenant,
    command: &impl Command,
) -> Result<Response, ApiError> {
    let (response, outcome) = run_and_await(runner, &tenant.slug, Some(tenant), command).await?;
    let Some((job, mut caller)) = outcome else {
        return Ok(response.into_response());
    };
    let app = runner.app;
    caller.reload_tenant(&app.access, tenant.id).await?;
    let id = response.body["id"].as_str();
    let id: Option<MemberId> = id.and_then(|id| id.parse().ok());
    let member = match id {
        Some(id) => app.db.members.find(id).await?,
        None => None,
    };
    let Some(member) = member else {
        return Ok(response.into_response());
    };
    let is_done = job.state == JobState::Completed;
    let opened = is_done.then(|| PasswordScope::opened_by(&member));
    let mut fresh = respond(&with_user(app, member).await?, Some(&job));
    for field in PASSWORD_FIELDS {
        if let Some(value) = response.body.get(field) {
            fresh.body[field] = value.clone();
        }
    }
    let [secret, scope_field] = PASSWORD_FIELDS;
    if let Some(opened) = opened.filter(|_| fresh.body.get(scope_field).is_some()) {
        fresh.body[scope_field] = serde_json::to_value(opened).unwrap_or_default();
        if opened.is_none() {
            // The account turned out to be the person's: the password was set nowhere.
            fresh.body[secret] = serde_json::Value::Null;
        }
    }
    Ok(preference_applied(fresh))
}

/// The response with a one-time password, which a replay does not repeat.
pub(super) fn with_password(
    mut response: ApiResponse,
    password: String,
    scope: PasswordScope,
) -> ApiResponse {
    let [secret, scope_field] = PASSWORD_FIELDS;
    response.body[secret] = password.into();
    response.body[scope_field] = serde_json::to_value(scope).unwrap_or_default();
    response.with_one_time_secret(secret)
}

/// A change to one member.
struct MemberChange<'a, E> {
    tenant_id: TenantId,
    id: MemberId,
    edit: &'a E,
}

impl<E: Edit> MemberChange<'_, E> {
    fn allow(&self, runner: &CommandRunner<'_>, member: &Member) -> Result<(), ApiError> {
        let caller = runner.caller;
        if let Some(new) = self.edit.concerns(member.role) {
            ensure_may_manage(caller, self.tenant_id, Some(member.role), Some(new))?;
        }
        if !E::ALLOWS_SELF && member.user_id == Some(caller.user.id) {
            return Err(ProblemCode::OwnAccount.into());
        }
        Ok(())
    }
}

impl<E: Edit> Command for MemberChange<'_, E> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let db = &runner.app.db;
        let tenant = find_open_tenant(session, runner, self.tenant_id).await?;
        let found = db.members.find_in_transaction(session, self.id).await?;
        let before = found
            .filter(|member| is_present_in(member, self.tenant_id))
            .ok_or(ProblemCode::NotFound)?;
        let mut user = match before.user_id {
            Some(id) => db.users.find_in_transaction(session, id).await?,
            None => None,
        };
        runner.if_match.check(ETag::from(&before))?;
        self.allow(runner, &before)?;
        let mut member = before.clone();
        let context = EditContext {
            tenant: &tenant,
            user: user.as_ref(),
        };
        let decision = self.edit.edit(session, runner, context, &mut member);
        let Some(decision) = decision.await? else {
            let response = respond(&Person::Managed(Box::new(before), user), None);
            return Ok(CommandOutput::unchanged(response));
        };
        let now = runner.app.store.now();
        let mut changed = vec![DocumentChange::Tenant(tenant.id)];
        if before.granted_role() != member.granted_role()
            && let Some(before) = &user
        {
            changed.push(DocumentChange::User(before.id));
            user = Some(follow_member(session, runner.app, &member, before, now).await?);
        }
        db.members
            .save_changed(session, &before, &mut member, now)
            .await?;
        let jobs = enqueue_all(session, runner, decision.jobs).await?;
        let event = runner
            .event(now, decision.action, member_target(&member), Some(&tenant))
            .with_changes(&before.audited_fields(), &member.audited_fields());
        let mut response = respond(&Person::Managed(Box::new(member), user), jobs.first());
        if let Some((password, scope)) = decision.password {
            response = with_password(response, password, scope);
        }
        let mut output = CommandOutput::complete(response, event).with_jobs(jobs);
        output.changed = changed;
        Ok(output)
    }
}

/// A member as the target of an audit event.
pub(super) fn member_target(member: &Member) -> Target {
    Target::new("member", member.id, &*member.email)
}
