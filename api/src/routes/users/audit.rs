//! People, as the audit trail shows them.

use bson::{Document, doc};
use dezky_shared::{audit::Target, tenant::Tenant, user::User};

/// Somebody, as what something was done to.
pub(in crate::routes) fn target(user: &User) -> Target {
    Target {
        kind: "user".to_owned(),
        id: user.id.to_string(),
        name: user.email.clone(),
    }
}

/// What the audit trail shows of a user: what they may do, and who they are.
pub(super) fn audited(user: &User) -> Document {
    let roles: Document = user
        .memberships
        .iter()
        .filter_map(|(tenant, membership)| {
            let role = bson::serialize_to_bson(&membership.role?).ok()?;
            Some((tenant.to_string(), role))
        })
        .collect();
    let mut shown = doc! {
        "email": &user.email,
        "name": &user.name,
        "platformAdmin": user.platform_admin,
        "tenantRoles": roles,
    };
    if let Some(partner) = user.partner_id {
        shown.insert("partnerId", partner.to_string());
    }
    if let Some(role) = user.partner_role
        && let Ok(role) = bson::serialize_to_bson(&role)
    {
        shown.insert("partnerRole", role);
    }
    shown
}

/// What a tenant's own trail shows of a user: of their roles, the one there.
pub(in crate::routes) fn audited_in(tenant: &Tenant, user: &User) -> Document {
    let mut user = user.clone();
    user.memberships.retain(|id, _| *id == tenant.id);
    audited(&user)
}
