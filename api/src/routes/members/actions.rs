//! Actions on a member: suspend, resume, force-logout, remove, restore.
//!
//! Each decision is a pure function of the member. It edits the member and returns the jobs that carry the change out,
//! returns `None` if there is nothing to do, or rejects the action.

use std::time::Duration;

use axum::response::Response;
use bson::DateTime;
use dezky_shared::{
    audit::Action,
    id::MemberId,
    member::{Member, MemberStatus},
    platform::clock,
    queue::args::{RemoveMember, ResumeMember, SignOutMember, SuspendMember},
    store::jobs::NewJob,
};
use mongodb::ClientSession;

use super::{
    Person,
    change::{Decision, Edit, EditContext, execute},
    find_person,
    role::RoleChange,
    view::TenantUserView,
};
use crate::{
    error::{ApiError, ProblemCode},
    extract::{EmptyBody, PathId, ReadWrite, TenantAccess},
    write::{CommandRunner, Rollback, Write},
};

/// A write request about one member.
type MemberWrite = Write<TenantAccess<ReadWrite>, EmptyBody, PathId<MemberId>>;

/// A decision, as a function of the member, the caller's id and the time.
type Decide = fn(&mut Member, &str, DateTime) -> Result<Option<Decision>, ApiError>;

/// An action that depends on the member alone.
struct Transition(Decide);

impl Edit for Transition {
    async fn edit(
        &self,
        _: &mut ClientSession,
        runner: &CommandRunner<'_>,
        _: EditContext<'_>,
        member: &mut Member,
    ) -> Result<Option<Decision>, Rollback> {
        Ok((self.0)(
            member,
            &runner.actor_id(),
            runner.app.store.now(),
        )?)
    }
}

fn ensure_not_removing(member: &Member) -> Result<(), ProblemCode> {
    match member.status {
        MemberStatus::Removing | MemberStatus::Removed => Err(ProblemCode::MemberRemoving),
        MemberStatus::Pending | MemberStatus::Active | MemberStatus::Suspended => Ok(()),
    }
}

fn suspension(member: &Member, by: &str, now: DateTime) -> Result<NewJob, ApiError> {
    let args = SuspendMember {
        tenant_id: member.tenant_id,
        member_id: member.id,
    };
    Ok(NewJob::new(&args, by, now)?)
}

fn resumption(member: &Member, by: &str, now: DateTime) -> Result<NewJob, ApiError> {
    let args = ResumeMember {
        tenant_id: member.tenant_id,
        member_id: member.id,
    };
    Ok(NewJob::new(&args, by, now)?)
}

fn decide_suspend(
    member: &mut Member,
    by: &str,
    now: DateTime,
) -> Result<Option<Decision>, ApiError> {
    ensure_not_removing(member)?;
    if member.status == MemberStatus::Suspended {
        return Ok(None);
    }
    member.status = MemberStatus::Suspended;
    member.suspended_by = Some(by.to_owned());
    member.begin_generation(now);
    let jobs = vec![suspension(member, by, now)?];
    Ok(Some(Decision::new(Action::MemberSuspend, jobs)))
}

fn decide_resume(
    member: &mut Member,
    by: &str,
    now: DateTime,
) -> Result<Option<Decision>, ApiError> {
    ensure_not_removing(member)?;
    if member.status != MemberStatus::Suspended {
        return Ok(None);
    }
    member.status = MemberStatus::Pending;
    member.suspended_by = None;
    member.begin_generation(now);
    let jobs = vec![resumption(member, by, now)?];
    Ok(Some(Decision::new(Action::MemberResume, jobs)))
}

fn decide_sign_out(
    member: &mut Member,
    by: &str,
    now: DateTime,
) -> Result<Option<Decision>, ApiError> {
    ensure_not_removing(member)?;
    let args = SignOutMember {
        tenant_id: member.tenant_id,
        member_id: member.id,
    };
    let jobs = vec![NewJob::new(&args, by, now)?];
    Ok(Some(Decision::new(Action::MemberSignOut, jobs)))
}

fn decide_restore(
    member: &mut Member,
    by: &str,
    now: DateTime,
) -> Result<Option<Decision>, ApiError> {
    if member.status != MemberStatus::Removing {
        return Err(ProblemCode::NotRemoving.into());
    }
    // The worker's clock may have been ahead.
    let has_started = member.purge_started_at.is_some();
    if has_started || member.purge_at.is_some_and(|purge_at| purge_at <= now) {
        return Err(ProblemCode::PurgeStarted.into());
    }
    // The scheduled purge job skips a member that is not being removed.
    member.status = member.status_before.take().unwrap_or(MemberStatus::Pending);
    member.purge_at = None;
    member.begin_generation(now);
    let job = if member.status == MemberStatus::Suspended {
        suspension(member, by, now)?
    } else {
        // Active again once its job is done.
        member.status = MemberStatus::Pending;
        resumption(member, by, now)?
    };
    Ok(Some(Decision::new(Action::MemberRestore, vec![job])))
}

/// The removal of a member. Repeated after a failed purge, it begins another one.
struct Removal {
    purge_after: Duration,
}

impl Removal {
    fn purge(member: &Member, by: &str, now: DateTime) -> Result<NewJob, ApiError> {
        let args = RemoveMember {
            tenant_id: member.tenant_id,
            member_id: member.id,
        };
        Ok(NewJob::new(&args, by, now)?)
    }
}

impl Edit for Removal {
    async fn edit(
        &self,
        _: &mut ClientSession,
        runner: &CommandRunner<'_>,
        _: EditContext<'_>,
        member: &mut Member,
    ) -> Result<Option<Decision>, Rollback> {
        let (now, by) = (runner.app.store.now(), runner.actor_id());
        if member.status == MemberStatus::Removing {
            let is_due = member.purge_at.is_some_and(|purge_at| purge_at <= now);
            if !is_due || !member.is_failing() {
                return Ok(None);
            }
            member.begin_generation(now);
            let jobs = vec![Self::purge(member, &by, now)?];
            return Ok(Some(Decision::new(Action::MemberDelete, jobs)));
        }
        let purge_at = clock::later(now, self.purge_after);
        member.status_before = Some(member.status);
        member.status = MemberStatus::Removing;
        member.purge_at = Some(purge_at);
        member.begin_generation(now);
        let purge = Self::purge(member, &by, now)?.run_at(purge_at);
        let jobs = vec![suspension(member, &by, now)?, purge];
        Ok(Some(Decision::new(Action::MemberDelete, jobs)))
    }
}

async fn change(w: &MemberWrite, decide: Decide) -> Result<Response, ApiError> {
    let tenant = &w.access.tenant;
    let person = find_person(&w.app, tenant.id, w.params.0).await?;
    let member = person.into_member()?;
    execute(&w.runner(), tenant, &member, &Transition(decide)).await
}

/// Suspends a member
///
/// The member can neither sign in nor read mail until resumed, and has no rights in the tenant. Nothing is deleted, and the
/// password stays. In other tenants nothing changes: an account that the person had before, or uses elsewhere, stays
/// active there. Only owners and operators can suspend an owner. The last owner cannot be suspended.
#[utoipa::path(
    post, path = "/tenants/{slug}/users/{id}/suspend", operation_id = "suspendTenantUser", tag = "tenant users",
    responses((status = 202, body = TenantUserView), (status = 200, body = TenantUserView)),
)]
pub(super) async fn suspend(w: MemberWrite) -> Result<Response, ApiError> {
    change(&w, decide_suspend).await
}

/// Resumes a suspended member
///
/// A suspension of the tenant stays in force.
#[utoipa::path(
    post, path = "/tenants/{slug}/users/{id}/resume", operation_id = "resumeTenantUser", tag = "tenant users",
    responses((status = 202, body = TenantUserView), (status = 200, body = TenantUserView)),
)]
pub(super) async fn resume(w: MemberWrite) -> Result<Response, ApiError> {
    change(&w, decide_resume).await
}

/// Ends the sessions of a member
///
/// Ends the sessions at the identity provider, and revokes access and refresh tokens and app passwords; `signedOut` of the
/// finished job's member has their numbers (`Prefer: wait`). Of an account that is not the tenant's, only the tokens for
/// the tenant's apps are revoked (`signedOut.scope`: `apps`): its sessions are the person's. App tokens of the file server
/// stay, which a suspension stops. Open IMAP connections end when the mail program disconnects.
#[utoipa::path(
    post, path = "/tenants/{slug}/users/{id}/force-logout", operation_id = "signOutTenantUser", tag = "tenant users",
    responses((status = 202, body = TenantUserView), (status = 200, body = TenantUserView)),
)]
pub(super) async fn force_logout(w: MemberWrite) -> Result<Response, ApiError> {
    w.limit_credentials().await?;
    change(&w, decide_sign_out).await
}

/// Restores a removed member
///
/// Possible until `purgeAt`.
#[utoipa::path(
    post, path = "/tenants/{slug}/users/{id}/restore", operation_id = "restoreTenantUser", tag = "tenant users",
    responses((status = 202, body = TenantUserView), (status = 200, body = TenantUserView)),
)]
pub(super) async fn restore(w: MemberWrite) -> Result<Response, ApiError> {
    change(&w, decide_restore).await
}

/// Removes a person from a tenant
///
/// Access to the tenant ends at once, regardless of the groups in tokens. The accounts of a member are suspended, and
/// deleted at `purgeAt` with the person's mail and files; until then the member can be restored. An account that the person
/// had before, or uses elsewhere, stays. Of a person without a member only the rights are removed, and the account stays.
///
/// Mailing lists that deliver to the mailbox are known to the mail server alone, so they do not reject the request: the job
/// names them in the member's condition `Removable` (`MailboxInUse`). A mailbox that a list names at `purgeAt` is kept, and
/// the purge ends as `discarded` with `mailbox_in_use`; it is repeated every night, and by repeating this request.
///
/// Only owners and operators can remove an owner. The last owner cannot be removed.
#[utoipa::path(
    delete, path = "/tenants/{slug}/users/{id}", operation_id = "removeTenantUser", tag = "tenant users",
    responses((status = 202, body = TenantUserView), (status = 200, body = TenantUserView)),
)]
pub(super) async fn remove(w: MemberWrite) -> Result<Response, ApiError> {
    let tenant = &w.access.tenant;
    match find_person(&w.app, tenant.id, w.params.0).await? {
        Person::Managed(member, _) => {
            let purge_after = w.app.config.member_purge_after;
            execute(&w.runner(), tenant, &member, &Removal { purge_after }).await
        }
        Person::Known(user, held) => {
            let (id, role) = (user.id, None);
            let change = RoleChange { tenant, id, role };
            change.execute(&w.runner(), held).await
        }
    }
}
