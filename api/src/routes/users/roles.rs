//! Resolution of the roles in a request to tenants and partners.

use std::collections::{BTreeMap, BTreeSet};

use dezky_shared::{
    id::{PartnerId, TenantId},
    partner::PartnerStatus,
    store::VersionedRepository as _,
    tenant::{Tenant, TenantStatus},
    user::Role,
};
use mongodb::ClientSession;

use crate::{
    error::{ApiError, FieldError, ProblemCode},
    state::AppState,
    validate::{Validator, user},
    write::Rollback,
};

/// Maximum number of tenants in one request.
const MAX_TENANTS: usize = 100;

/// Roles by tenant id or slug; `None` revokes the role.
pub(super) type Roles = BTreeMap<String, Option<Role>>;

/// A role in an existing tenant.
#[derive(Debug)]
pub(super) struct ResolvedRole {
    /// The tenant.
    pub(super) tenant: Tenant,
    /// The role, or none.
    pub(super) role: Option<Role>,
}

/// Validates the roles of a body.
pub(super) fn roles(validator: &mut Validator, texts: BTreeMap<String, Option<String>>) -> Roles {
    if texts.len() > MAX_TENANTS {
        let message = format!("At most {MAX_TENANTS} tenants per request.");
        validator.push(FieldError::at("/tenantRoles", "too_many", message));
    }
    let roles = texts.into_iter().filter_map(|(tenant, text)| {
        let role = match text {
            None => None,
            Some(text) => Some(validator.check(&pointer(&tenant), user::role(&text))?),
        };
        Some((tenant, role))
    });
    roles.collect()
}

/// The roles with their tenants. Rejects unknown tenants and partners. Not part of the validation: the result depends
/// on stored data, so a rejection must not be stored with the idempotency key.
pub(super) async fn resolve(
    app: &AppState,
    roles: &Roles,
    partner: Option<PartnerId>,
) -> Result<Vec<ResolvedRole>, ApiError> {
    let mut errors = Vec::new();
    let resolved = resolve_roles(app, roles, &mut errors).await?;
    if let Some(id) = partner {
        let found = app.db.partners.find(id).await?;
        if !found.is_some_and(|partner| partner.status == PartnerStatus::Active) {
            let message = "The partner does not exist.";
            errors.push(FieldError::at("/partnerId", "unknown_partner", message));
        }
    }
    if errors.is_empty() {
        Ok(resolved)
    } else {
        Err(ApiError::invalid(errors))
    }
}

async fn resolve_roles(
    app: &AppState,
    roles: &Roles,
    errors: &mut Vec<FieldError>,
) -> Result<Vec<ResolvedRole>, ApiError> {
    let ids: Vec<TenantId> = roles.keys().filter_map(|name| name.parse().ok()).collect();
    let slugs: Vec<String> = roles.keys().cloned().collect();
    let mut tenants = app.db.tenants.list_by_ids(&ids).await?;
    tenants.extend(app.db.tenants.list_by_slugs(&slugs).await?);

    let mut seen = BTreeSet::new();
    let mut resolved = Vec::new();
    for (name, &role) in roles {
        let is_named = |tenant: &&Tenant| tenant.slug == *name || tenant.id.to_string() == *name;
        match tenants.iter().find(is_named) {
            None => {
                let message = "The tenant does not exist.";
                errors.push(FieldError::at(pointer(name), "unknown_tenant", message));
            }
            Some(tenant) if !seen.insert(tenant.id) => {
                let message = "The tenant is listed twice.";
                errors.push(FieldError::at(pointer(name), "duplicate_field", message));
            }
            Some(tenant) => resolved.push(ResolvedRole {
                tenant: tenant.clone(),
                role,
            }),
        }
    }
    Ok(resolved)
}

fn pointer(tenant: &str) -> String {
    format!(
        "/tenantRoles/{}",
        tenant.replace('~', "~0").replace('/', "~1")
    )
}

/// Rejects the loss of ownership of these tenants if one of them would have no owner left. A terminated tenant needs
/// none.
pub(in crate::routes) async fn ensure_owner_remains(
    session: &mut ClientSession,
    app: &AppState,
    given_up: &BTreeSet<TenantId>,
) -> Result<(), Rollback> {
    for &id in given_up {
        // Materialized conflict: two transactions that each remove one of two owners must not both commit.
        let Some(tenant) = app.db.tenants.materialize_conflict(session, id).await? else {
            continue;
        };
        if tenant.status != TenantStatus::Terminated
            && app.db.users.count_owners(session, id).await? <= 1
        {
            return Err(ProblemCode::LastOwner.into());
        }
    }
    Ok(())
}
