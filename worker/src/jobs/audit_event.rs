//! Audit events of jobs. Their actor is the system.

use bson::{DateTime, Document, doc};
use dezky_shared::{
    audit::{Action, Actor, AuditEvent, Origin, Target},
    id::{JobId, TenantId},
    store::{StoreError, to_document, users::RoleGrant},
    user::Role,
};
use serde::Serialize;

/// An event of a job, about an object of the tenant if there is one.
pub(super) fn event(
    action: Action,
    target: Target,
    tenant_id: Option<TenantId>,
    job_id: JobId,
    now: DateTime,
) -> AuditEvent {
    let mut event = AuditEvent::new(now, Actor::system(), action, target, Origin::default());
    event.tenant_id = tenant_id;
    event.job_id = Some(job_id);
    event
}

/// The audited fields of a document, of which the event has those that changed.
pub(super) fn fields<T: Serialize>(document: &T) -> Result<Document, StoreError> {
    let mut fields = to_document(document)?;
    for unaudited in ["_id", "revision", "createdAt", "updatedAt"] {
        fields.remove(unaudited);
    }
    Ok(fields)
}

/// The event of a user who was granted a role in `tenant_id`, unless the user had it before.
pub(super) fn role_granted(
    grant: &RoleGrant,
    tenant_id: TenantId,
    job_id: JobId,
    now: DateTime,
) -> Option<AuditEvent> {
    let user = &grant.user;
    let role = user.role_in(tenant_id);
    if role == grant.role_before {
        return None;
    }
    let action = if grant.is_new {
        Action::UserCreate
    } else {
        Action::UserUpdate
    };
    let target = Target::new("user", user.id, &user.email);
    let roles = |role: Option<Role>| {
        let role = role.map(|role| (tenant_id.to_string(), role.name().into()));
        doc! { "tenantRoles": Document::from_iter(role) }
    };
    Some(AuditEvent {
        before: roles(grant.role_before),
        after: roles(role),
        ..event(action, target, Some(tenant_id), job_id, now)
    })
}
