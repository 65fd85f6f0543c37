//! Security policy of a tenant's sign-in. Stored and shown; [`ENFORCEMENT`] states which rules are enforced.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Multi-factor requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MfaMode {
    /// Not required.
    Off,
    /// Required for members who have set up a second factor.
    #[default]
    Optional,
    /// Required for all members.
    Required,
}

/// Security policy of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityPolicy {
    /// Multi-factor requirement.
    #[serde(default)]
    pub mfa_mode: MfaMode,
    /// Idle session timeout, in minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_idle_minutes: Option<i32>,
    /// Maximum session lifetime, in minutes; not less than the idle timeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_absolute_minutes: Option<i32>,
    /// Countries from which members may sign in: ISO 3166-1 alpha-2, upper case. Empty allows all.
    #[serde(default)]
    pub allowed_countries: Vec<String>,
    /// Networks from which members may sign in: CIDR, each written with its network address. Empty allows all.
    #[serde(default)]
    pub ip_allowlist: Vec<String>,
}

impl SecurityPolicy {
    /// Whether the maximum session lifetime is at least the idle timeout.
    pub fn session_limits_valid(&self) -> bool {
        match (self.session_idle_minutes, self.session_absolute_minutes) {
            (Some(idle), Some(absolute)) => idle <= absolute,
            _ => true,
        }
    }
}

/// Enforcement level of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    /// Enforced at sign-in.
    Enforced,
    /// Members are informed but not blocked.
    Advisory,
    /// Stored only.
    Planned,
}

/// Enforcement level of each rule of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyEnforcement {
    /// Level of `mfa_mode`.
    pub mfa_mode: Enforcement,
    /// Level of `session_idle_minutes`.
    pub session_idle_minutes: Enforcement,
    /// Level of `session_absolute_minutes`.
    pub session_absolute_minutes: Enforcement,
    /// Level of `allowed_countries`.
    pub allowed_countries: Enforcement,
    /// Level of `ip_allowlist`.
    pub ip_allowlist: Enforcement,
}

/// Current enforcement level of each rule. All tenants share Authentik's sign-in flow, which implements none of the
/// rules, so a policy cannot lock members out.
pub const ENFORCEMENT: PolicyEnforcement = PolicyEnforcement {
    mfa_mode: Enforcement::Planned,
    session_idle_minutes: Enforcement::Planned,
    session_absolute_minutes: Enforcement::Planned,
    allowed_countries: Enforcement::Planned,
    ip_allowlist: Enforcement::Planned,
};
