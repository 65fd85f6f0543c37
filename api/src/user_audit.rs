//! Users in the audit trail.

use bson::{Document, doc};
use dezky_shared::{audit::Target, tenant::Tenant, user::User};

/// A user as the target of an audit event.
pub fn target(user: &User) -> Target {
    Target::new("user", user.id, &user.email)
}

/// The fields that the audit trail compares: permissions, name and address.
pub fn audited(user: &User) -> Document {
    let roles: Document = user
        .memberships
        .iter()
        .filter_map(|(tenant, membership)| {
            let role = bson::serialize_to_bson(&membership.role?).ok()?;
            Some((tenant.to_string(), role))
        })
        .collect();
    let mut fields = doc! {
        "email": &user.email,
        "name": &user.name,
        "platformAdmin": user.platform_admin,
        "tenantRoles": roles,
    };
    if let Some(role) = user.platform_role
        && let Ok(role) = bson::serialize_to_bson(&role)
    {
        fields.insert("platformRole", role);
    }
    if let Some(partner) = user.partner_id {
        fields.insert("partnerId", partner.to_string());
    }
    if let Some(role) = user.partner_role
        && let Ok(role) = bson::serialize_to_bson(&role)
    {
        fields.insert("partnerRole", role);
    }
    fields
}

/// The fields that a tenant's trail compares: of the roles, only the one in this tenant.
pub fn audited_in(tenant: &Tenant, user: &User) -> Document {
    let mut user = user.clone();
    user.memberships.retain(|id, _| *id == tenant.id);
    audited(&user)
}
