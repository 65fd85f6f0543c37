//! How a tenant wants its people to sign in.

use axum::extract::State;
use dezky_shared::{
    audit::Action,
    security_policy::{ENFORCEMENT, Enforcement, MfaMode, SecurityPolicy},
    tenant::Tenant,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{SettingChange, shown};
use crate::{
    error::{ApiError, FieldError, Problem},
    extract::{
        IfMatch, QueryParams, ReadPrivate, RequestInfo, TenantAccess, Validate, ValidatedJson,
        Write,
    },
    intent::{ApiResponse, CommandRunner},
    state::{AppState, SharedState},
    validate::{
        Validator,
        billing::country,
        double_option,
        security_policy::{distinct_list, mfa_mode, minutes, network},
    },
};

/// The most countries that can be named: there are fewer.
const COUNTRIES: usize = 250;
/// The most networks that can be named.
const NETWORKS: usize = 100;

/// How a tenant wants its people to sign in.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TenantSecurityPolicy)]
pub(in crate::routes::tenants) struct SecurityPolicyView {
    /// Whether a second factor is asked for: `off`, `optional` or `required`.
    #[schema(value_type = String, pattern = "^(off|optional|required)$")]
    mfa_mode: MfaMode,
    /// After how many minutes in which nothing is done a session ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_idle_minutes: Option<i32>,
    /// After how many minutes a session ends in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_absolute_minutes: Option<i32>,
    /// From which countries people may sign in (ISO 3166-1 alpha-2); from all, if none is named.
    allowed_countries: Vec<String>,
    /// From which networks (CIDR); from all, if none is named.
    ip_allowlist: Vec<String>,
    /// What becomes of each rule.
    enforcement: EnforcementView,
}

/// What becomes of each rule: it is `enforced`, `advisory` (people are told, and can go on), or `planned` (it is only
/// kept).
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TenantSecurityPolicyEnforcement)]
struct EnforcementView {
    /// Of `mfaMode`.
    #[schema(value_type = String, pattern = "^(enforced|advisory|planned)$")]
    mfa_mode: Enforcement,
    /// Of `sessionIdleMinutes`.
    #[schema(value_type = String, pattern = "^(enforced|advisory|planned)$")]
    session_idle_minutes: Enforcement,
    /// Of `sessionAbsoluteMinutes`.
    #[schema(value_type = String, pattern = "^(enforced|advisory|planned)$")]
    session_absolute_minutes: Enforcement,
    /// Of `allowedCountries`.
    #[schema(value_type = String, pattern = "^(enforced|advisory|planned)$")]
    allowed_countries: Enforcement,
    /// Of `ipAllowlist`.
    #[schema(value_type = String, pattern = "^(enforced|advisory|planned)$")]
    ip_allowlist: Enforcement,
}

impl SecurityPolicyView {
    /// As `tenant` has it.
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

/// The rules that are to change. What is missing stays; null removes.
#[expect(
    clippy::option_option,
    reason = "missing, null and a value are three things"
)]
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = TenantSecurityPolicyPatch)]
pub(super) struct PatchRequest {
    /// Whether a second factor is asked for: `off`, `optional` or `required`.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, pattern = "^(off|optional|required)$")]
    mfa_mode: Option<String>,
    /// After how many minutes in which nothing is done a session ends; at most `sessionAbsoluteMinutes`.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Option<i64>, minimum = 5, maximum = 43_200)]
    session_idle_minutes: Option<Option<i64>>,
    /// After how many minutes a session ends in any case.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Option<i64>, minimum = 5, maximum = 43_200)]
    session_absolute_minutes: Option<Option<i64>>,
    /// From which countries people may sign in: all of them, each once. ISO 3166-1 alpha-2; none for no limit.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Vec<String>, max_items = 250)]
    allowed_countries: Option<Vec<String>>,
    /// From which networks: all of them, each once. CIDR with the network's own address, or one address; none for no
    /// limit.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Vec<String>, max_items = 100)]
    ip_allowlist: Option<Vec<String>>,
}

/// What is to change.
#[expect(
    clippy::option_option,
    reason = "missing, null and a value are three things"
)]
#[derive(Debug)]
pub(super) struct Patch {
    mfa_mode: Option<MfaMode>,
    session_idle_minutes: Option<Option<i32>>,
    session_absolute_minutes: Option<Option<i32>>,
    allowed_countries: Option<Vec<String>>,
    ip_allowlist: Option<Vec<String>>,
    /// What is wrong with the body by itself. It is told with what is wrong beside it.
    wrong: Vec<FieldError>,
}

impl Validate for Patch {
    type Raw = PatchRequest;

    fn validate(wire: PatchRequest, _: &AppState) -> Result<Self, Vec<FieldError>> {
        let mut checks = Validator::default();
        let mfa_mode = wire
            .mfa_mode
            .and_then(|text| checks.check("/mfaMode", mfa_mode(&text)));
        let mut session = |pointer: &str, wanted: Option<Option<i64>>| {
            wanted.map(|wanted| wanted.and_then(|value| checks.check(pointer, minutes(value))))
        };
        let session_idle_minutes = session(IDLE, wire.session_idle_minutes);
        let session_absolute_minutes = session(ABSOLUTE, wire.session_absolute_minutes);
        let allowed_countries = wire.allowed_countries.and_then(|list| {
            distinct_list(&mut checks, "/allowedCountries", &list, COUNTRIES, country)
        });
        let ip_allowlist = wire
            .ip_allowlist
            .and_then(|list| distinct_list(&mut checks, "/ipAllowlist", &list, NETWORKS, network));
        Ok(Self {
            mfa_mode,
            session_idle_minutes,
            session_absolute_minutes,
            allowed_countries,
            ip_allowlist,
            wrong: checks.into_errors(),
        })
    }
}

const IDLE: &str = "/sessionIdleMinutes";
const ABSOLUTE: &str = "/sessionAbsoluteMinutes";

impl Patch {
    fn change(&self, policy: &mut SecurityPolicy) {
        if let Some(mfa_mode) = self.mfa_mode {
            policy.mfa_mode = mfa_mode;
        }
        if let Some(minutes) = self.session_idle_minutes {
            policy.session_idle_minutes = minutes;
        }
        if let Some(minutes) = self.session_absolute_minutes {
            policy.session_absolute_minutes = minutes;
        }
        if let Some(countries) = &self.allowed_countries {
            policy.allowed_countries.clone_from(countries);
        }
        if let Some(networks) = &self.ip_allowlist {
            policy.ip_allowlist.clone_from(networks);
        }
    }

    fn apply(&self, policy: &mut SecurityPolicy) -> Result<(), ApiError> {
        self.change(policy);
        let mut wrong = self.wrong.clone();
        // Either may have stood there before.
        if !policy.session_limits_valid() {
            let is_idle_sent = self.session_idle_minutes.is_some();
            let pointer = if is_idle_sent { IDLE } else { ABSOLUTE };
            let message = "A session cannot rest for longer than it lasts.";
            wrong.push(FieldError::at(pointer, "idle_too_long", message));
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(ApiError::invalid(wrong))
        }
    }
}

/// How a tenant wants its people to sign in
///
/// With every rule stands what becomes of it: at present all are only kept.
#[utoipa::path(
    get, path = "/tenants/{slug}/security-policy", operation_id = "getTenantSecurityPolicy", tag = "tenants",
    params(("slug" = String, Path)),
    responses((status = 200, body = SecurityPolicyView), (status = "default", response = Problem)),
)]
pub(super) async fn show(
    access: TenantAccess<ReadPrivate>,
    _: QueryParams<()>,
) -> Result<ApiResponse, ApiError> {
    shown(&access.tenant, SecurityPolicyView::of)
}

/// Says how a tenant wants its people to sign in
///
/// It is kept, and nobody is locked out by it: see `enforcement`.
#[utoipa::path(
    patch, path = "/tenants/{slug}/security-policy", operation_id = "updateTenantSecurityPolicy", tag = "tenants",
    request_body = PatchRequest,
    params(("slug" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = SecurityPolicyView), (status = "default", response = Problem)),
)]
pub(super) async fn patch(
    access: TenantAccess<Write>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    submitted: ValidatedJson<Patch>,
) -> Result<ApiResponse, ApiError> {
    let patch = &submitted.body;
    let change = SettingChange {
        tenant: &access.tenant,
        if_match: &if_match,
        action: Action::TenantSecurityPolicy,
        apply: &|tenant| patch.apply(&mut tenant.security_policy),
        view: SecurityPolicyView::of,
    };
    let recorder = CommandRunner::new(&app, &access.caller, &request, submitted.key.as_ref());
    change.record(&recorder).await
}
