//! What a request says that somebody may do, held against the tenants and partners that there are.

use std::collections::{BTreeMap, BTreeSet};

use dezky_shared::{
    id::{PartnerId, TenantId},
    partner::PartnerStatus,
    store::TransactionError,
    tenant::{Tenant, TenantStatus},
    user::Role,
};
use mongodb::ClientSession;

use crate::{
    error::{ApiError, FieldError, ProblemCode},
    intent::{CommandError, reject},
    state::AppState,
    validate::{Validator, user},
};

/// The most tenants in one request.
const TENANTS: usize = 100;

/// Roles by tenant, as it was named; no role is taken away.
pub(super) type Roles = BTreeMap<String, Option<Role>>;

/// A role in a tenant that there is.
#[derive(Debug)]
pub(super) struct ResolvedRole {
    /// The tenant.
    pub(super) tenant: Tenant,
    /// The role, or none.
    pub(super) role: Option<Role>,
}

/// The roles of a body.
pub(super) fn roles(checks: &mut Validator, texts: BTreeMap<String, Option<String>>) -> Roles {
    if texts.len() > TENANTS {
        let message = format!("At most {TENANTS} tenants at a time.");
        checks.note(FieldError::at("/tenantRoles", "too_many", message));
    }
    let roles = texts.into_iter().filter_map(|(tenant, text)| {
        let role = match text {
            None => None,
            Some(text) => Some(checks.check(&pointer(&tenant), user::role(&text))?),
        };
        Some((tenant, role))
    });
    roles.collect()
}

/// The roles with their tenants, provided that these and the partner are there. Whether they are follows not from
/// the request alone, and is not remembered with its key.
pub(super) async fn resolve(
    app: &AppState,
    roles: &Roles,
    partner: Option<PartnerId>,
) -> Result<Vec<ResolvedRole>, ApiError> {
    let mut errors = Vec::new();
    let places = places(app, roles, &mut errors).await?;
    if let Some(id) = partner {
        let found = app.partners.find(id).await?;
        if !found.is_some_and(|partner| partner.status == PartnerStatus::Active) {
            let message = "There is no such partner.";
            errors.push(FieldError::at("/partnerId", "unknown_partner", message));
        }
    }
    if errors.is_empty() {
        Ok(places)
    } else {
        Err(ApiError::invalid(errors))
    }
}

async fn places(
    app: &AppState,
    roles: &Roles,
    errors: &mut Vec<FieldError>,
) -> Result<Vec<ResolvedRole>, ApiError> {
    let ids: Vec<TenantId> = roles.keys().filter_map(|name| name.parse().ok()).collect();
    let slugs: Vec<String> = roles.keys().cloned().collect();
    let mut tenants = app.tenants.list_by_ids(&ids).await?;
    tenants.extend(app.tenants.list_by_slugs(&slugs).await?);

    let mut seen = BTreeSet::new();
    let mut places = Vec::new();
    for (name, &role) in roles {
        let is_named = |tenant: &&Tenant| tenant.slug == *name || tenant.id.to_string() == *name;
        match tenants.iter().find(is_named) {
            None => {
                let message = "There is no such tenant.";
                errors.push(FieldError::at(pointer(name), "unknown_tenant", message));
            }
            Some(tenant) if !seen.insert(tenant.id) => {
                let message = "This tenant is named twice.";
                errors.push(FieldError::at(pointer(name), "duplicate_field", message));
            }
            Some(tenant) => places.push(ResolvedRole {
                tenant: tenant.clone(),
                role,
            }),
        }
    }
    Ok(places)
}

fn pointer(tenant: &str) -> String {
    format!(
        "/tenantRoles/{}",
        tenant.replace('~', "~0").replace('/', "~1")
    )
}

/// Refuses that somebody ceases to own these tenants if one of them would have no owner left. One that was removed
/// needs none.
pub(in crate::routes) async fn ensure_owner_remains(
    session: &mut ClientSession,
    app: &AppState,
    given_up: &BTreeSet<TenantId>,
) -> Result<(), TransactionError<CommandError>> {
    for &id in given_up {
        // Written, not read: else two who take away one of two owners each would see the other.
        let Some(tenant) = app.tenants.find_for_update(session, id).await? else {
            continue;
        };
        app.tenants.unlock(session, id).await?;
        if tenant.status != TenantStatus::Terminated
            && app.users.count_owners(session, id).await? <= 1
        {
            return Err(reject(ProblemCode::LastOwner));
        }
    }
    Ok(())
}
