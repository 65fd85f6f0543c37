//! How a tenant wants its people to sign in. It is kept and shown; what is enforced says [`ENFORCEMENT`].

use serde::{Deserialize, Serialize};

/// Whether a second factor is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MfaMode {
    /// From nobody.
    Off,
    /// From those who have set one up.
    #[default]
    Optional,
    /// From everybody.
    Required,
}

/// What a tenant wants.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityPolicy {
    /// Whether a second factor is asked for.
    #[serde(default)]
    pub mfa_mode: MfaMode,
    /// After how many minutes in which nothing is done a session ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_idle_minutes: Option<i32>,
    /// After how many minutes a session ends in any case; not less than the former.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_absolute_minutes: Option<i32>,
    /// From which countries people may sign in: ISO 3166-1 alpha-2, upper case. From all, if none is named.
    #[serde(default)]
    pub allowed_countries: Vec<String>,
    /// From which networks: CIDR, each its network's own address. From all, if none is named.
    #[serde(default)]
    pub ip_allowlist: Vec<String>,
}

impl SecurityPolicy {
    /// Whether a session that is used all the time can last as long as one may rest.
    pub fn session_limits_valid(&self) -> bool {
        match (self.session_idle_minutes, self.session_absolute_minutes) {
            (Some(idle), Some(absolute)) => idle <= absolute,
            _ => true,
        }
    }
}

/// What becomes of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    /// Nobody gets past it.
    Enforced,
    /// People are told of it, and can go on.
    Advisory,
    /// It is only kept.
    Planned,
}

/// What becomes of each rule of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyEnforcement {
    /// Of `mfa_mode`.
    pub mfa_mode: Enforcement,
    /// Of `session_idle_minutes`.
    pub session_idle_minutes: Enforcement,
    /// Of `session_absolute_minutes`.
    pub session_absolute_minutes: Enforcement,
    /// Of `allowed_countries`.
    pub allowed_countries: Enforcement,
    /// Of `ip_allowlist`.
    pub ip_allowlist: Enforcement,
}

/// What becomes of each rule at present. Authentik's sign-in flow is shared by all tenants, and knows none of these:
/// nobody can lock themselves out with a policy.
pub const ENFORCEMENT: PolicyEnforcement = PolicyEnforcement {
    mfa_mode: Enforcement::Planned,
    session_idle_minutes: Enforcement::Planned,
    session_absolute_minutes: Enforcement::Planned,
    allowed_countries: Enforcement::Planned,
    ip_allowlist: Enforcement::Planned,
};
