//! Security policy of a tenant.

use dezky_shared::{
    audit::Action,
    security_policy::{ENFORCEMENT, Enforcement, MfaMode, SecurityPolicy},
    tenant::Tenant,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{change, respond};
use crate::{
    config::Config,
    error::{ApiError, FieldError},
    extract::{ReadPrivate, ReadWrite, TenantAccess, Validate},
    response::ApiResponse,
    validate::{
        FieldPatch, Validator,
        billing::country,
        distinct_list, double_option,
        security_policy::{mfa_mode, minutes, network},
    },
    write::Write,
};

/// Maximum number of countries; fewer exist.
const MAX_COUNTRIES: usize = 250;
/// Maximum number of networks.
const MAX_NETWORKS: usize = 100;

/// Sign-in policy of a tenant.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TenantSecurityPolicy)]
pub(in crate::routes::tenants) struct SecurityPolicyView {
    /// Multi-factor authentication: `off`, `optional` or `required`.
    mfa_mode: MfaMode,
    /// Idle timeout of a session in minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_idle_minutes: Option<i32>,
    /// Maximum lifetime of a session in minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_absolute_minutes: Option<i32>,
    /// Countries from which sign-in is allowed (ISO 3166-1 alpha-2). Empty: no restriction.
    allowed_countries: Vec<String>,
    /// Networks from which sign-in is allowed (CIDR). Empty: no restriction.
    ip_allowlist: Vec<String>,
    /// Enforcement of each rule.
    enforcement: EnforcementView,
}

/// Enforcement of each rule: `enforced`, `advisory` (members are warned and can continue) or `planned` (stored
/// only).
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TenantSecurityPolicyEnforcement)]
struct EnforcementView {
    /// Enforcement of `mfaMode`.
    mfa_mode: Enforcement,
    /// Enforcement of `sessionIdleMinutes`.
    session_idle_minutes: Enforcement,
    /// Enforcement of `sessionAbsoluteMinutes`.
    session_absolute_minutes: Enforcement,
    /// Enforcement of `allowedCountries`.
    allowed_countries: Enforcement,
    /// Enforcement of `ipAllowlist`.
    ip_allowlist: Enforcement,
}

impl SecurityPolicyView {
    /// The policy of `tenant`.
    pub(in crate::routes::tenants) fn of(tenant: &Tenant) -> Self {
        let policy = tenant.security_policy.clone();
        Self {
            mfa_mode: policy.mfa_mode,
            session_idle_minutes: policy.session_idle_minutes,
            session_absolute_minutes: policy.session_absolute_minutes,
            allowed_countries: policy.allowed_countries,
            ip_allowlist: policy.ip_allowlist,
            enforcement: EnforcementView {
                mfa_mode: ENFORCEMENT.mfa_mode,
                session_idle_minutes: ENFORCEMENT.session_idle_minutes,
                session_absolute_minutes: ENFORCEMENT.session_absolute_minutes,
                allowed_countries: ENFORCEMENT.allowed_countries,
                ip_allowlist: ENFORCEMENT.ip_allowlist,
            },
        }
    }
}

/// Rules to change. Missing fields stay; null removes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = TenantSecurityPolicyPatch)]
pub(super) struct PatchRequest {
    /// Multi-factor authentication: `off`, `optional` or `required`.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = MfaMode)]
    mfa_mode: Option<String>,
    /// Idle timeout of a session in minutes, at most `sessionAbsoluteMinutes`.
    #[serde(default)]
    #[schema(value_type = Option<i64>, minimum = 5, maximum = 43_200)]
    session_idle_minutes: FieldPatch<i64>,
    /// Maximum lifetime of a session in minutes.
    #[serde(default)]
    #[schema(value_type = Option<i64>, minimum = 5, maximum = 43_200)]
    session_absolute_minutes: FieldPatch<i64>,
    /// All allowed countries, without duplicates (ISO 3166-1 alpha-2). Empty: no restriction.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Vec<String>, max_items = 250)]
    allowed_countries: Option<Vec<String>>,
    /// All allowed networks, without duplicates: CIDR with the network address, or a single address. Empty: no
    /// restriction.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Vec<String>, max_items = 100)]
    ip_allowlist: Option<Vec<String>>,
}

/// A validated patch.
#[derive(Debug)]
pub(super) struct Patch {
    mfa_mode: Option<MfaMode>,
    session_idle_minutes: FieldPatch<i32>,
    session_absolute_minutes: FieldPatch<i32>,
    allowed_countries: Option<Vec<String>>,
    ip_allowlist: Option<Vec<String>>,
    /// Errors of the body alone, reported together with errors that depend on stored data.
    errors: Vec<FieldError>,
}

impl Validate for Patch {
    type Raw = PatchRequest;

    fn validate(raw: PatchRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let mfa_mode = raw
            .mfa_mode
            .and_then(|text| validator.check("/mfaMode", mfa_mode(&text)));
        let session_idle_minutes = raw
            .session_idle_minutes
            .check(&mut validator, IDLE, minutes);
        let session_absolute_minutes =
            raw.session_absolute_minutes
                .check(&mut validator, ABSOLUTE, minutes);
        let allowed_countries = raw.allowed_countries.and_then(|list| {
            distinct_list(
                &mut validator,
                "/allowedCountries",
                &list,
                MAX_COUNTRIES,
                country,
            )
        });
        let ip_allowlist = raw.ip_allowlist.and_then(|list| {
            distinct_list(&mut validator, "/ipAllowlist", &list, MAX_NETWORKS, network)
        });
        Ok(Self {
            mfa_mode,
            session_idle_minutes,
            session_absolute_minutes,
            allowed_countries,
            ip_allowlist,
            errors: validator.into_errors(),
        })
    }
}

const IDLE: &str = "/sessionIdleMinutes";
const ABSOLUTE: &str = "/sessionAbsoluteMinutes";

impl Patch {
    fn edit(&self, policy: &mut SecurityPolicy) {
        if let Some(mfa_mode) = self.mfa_mode {
            policy.mfa_mode = mfa_mode;
        }
        let (idle, absolute) = (&self.session_idle_minutes, &self.session_absolute_minutes);
        idle.apply(&mut policy.session_idle_minutes);
        absolute.apply(&mut policy.session_absolute_minutes);
        if let Some(countries) = &self.allowed_countries {
            policy.allowed_countries.clone_from(countries);
        }
        if let Some(networks) = &self.ip_allowlist {
            policy.ip_allowlist.clone_from(networks);
        }
    }

    fn apply(&self, policy: &mut SecurityPolicy) -> Result<(), ApiError> {
        self.edit(policy);
        let mut errors = self.errors.clone();
        // Either limit may have been stored before.
        if !policy.session_limits_valid() {
            let is_idle_sent = !self.session_idle_minutes.is_keep();
            let pointer = if is_idle_sent { IDLE } else { ABSOLUTE };
            let message = "sessionIdleMinutes must be at most sessionAbsoluteMinutes.";
            errors.push(FieldError::at(pointer, "idle_too_long", message));
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(ApiError::invalid(errors))
        }
    }
}

/// Returns the security policy of a tenant
///
/// `enforcement` states how each rule is enforced. Currently all rules are stored only.
#[utoipa::path(
    get, path = "/tenants/{slug}/security-policy", operation_id = "getTenantSecurityPolicy", tag = "tenants",
    responses((status = 200, body = SecurityPolicyView)),
)]
pub(super) async fn show(access: TenantAccess<ReadPrivate>) -> Result<ApiResponse, ApiError> {
    Ok(respond(&access.tenant, SecurityPolicyView::of))
}

/// Updates the security policy of a tenant
///
/// The policy is stored and does not block sign-ins yet: see `enforcement`.
#[utoipa::path(
    patch, path = "/tenants/{slug}/security-policy", operation_id = "updateTenantSecurityPolicy", tag = "tenants",
    request_body = PatchRequest,
    responses((status = 200, body = SecurityPolicyView)),
)]
pub(super) async fn patch(
    w: Write<TenantAccess<ReadWrite>, Patch>,
) -> Result<ApiResponse, ApiError> {
    let patch = &w.body;
    let edit = |tenant: &mut Tenant| patch.apply(&mut tenant.security_policy);
    let view = |tenant: &Tenant, _| SecurityPolicyView::of(tenant);
    change(&w, Action::TenantSecurityPolicy, view, &edit).await
}
