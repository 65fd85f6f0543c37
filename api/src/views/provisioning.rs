//! Provisioning states of a tenant or a member.

use dezky_shared::tenant::{PerUpstream, ProvisioningState};
use serde::Serialize;
use utoipa::ToSchema;

/// Provisioning state per upstream: `pending`, `ok`, `skipped` or `error`.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = ProvisioningStatus)]
pub struct StatusView {
    /// Identity.
    authentik: ProvisioningState,
    /// Mail.
    stalwart: ProvisioningState,
    /// Files.
    ocis: ProvisioningState,
}

/// Last provisioning error per upstream.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = ProvisioningErrors)]
pub struct ErrorsView {
    /// Identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    authentik: Option<String>,
    /// Mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    stalwart: Option<String>,
    /// Files.
    #[serde(skip_serializing_if = "Option::is_none")]
    ocis: Option<String>,
}

impl From<PerUpstream<ProvisioningState>> for StatusView {
    fn from(states: PerUpstream<ProvisioningState>) -> Self {
        Self {
            authentik: states.authentik,
            stalwart: states.stalwart,
            ocis: states.ocis,
        }
    }
}

impl From<PerUpstream<Option<String>>> for ErrorsView {
    fn from(errors: PerUpstream<Option<String>>) -> Self {
        Self {
            authentik: errors.authentik,
            stalwart: errors.stalwart,
            ocis: errors.ocis,
        }
    }
}
