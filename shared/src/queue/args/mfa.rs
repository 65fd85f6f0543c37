//! Arguments of the jobs about second factors.

use serde::{Deserialize, Serialize};

use super::declare::tenant_job;
use crate::id::{TenantId, UserId};

/// Looks up the MFA devices of a tenant's people. Read-only, so it takes a lock of its own, not the tenant's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LookUpMfa {
    /// Tenant id.
    pub tenant_id: TenantId,
}

tenant_job!(
    LookUpMfa, "look_up_mfa", Interactive,
    lock: |this| format!("mfa:{}", this.tenant_id),
    unique: |this| Some(this.tenant_id.to_string())
);

/// Deletes the MFA devices of a person that were enrolled before the job was requested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResetMfa {
    /// Tenant whose owner requested it.
    pub tenant_id: TenantId,
    /// User id.
    pub user_id: UserId,
    /// Whether an operator requested it, who may reset a person with access outside of the tenant.
    #[serde(default)]
    pub by_operator: bool,
}

// No unique key: each request covers the devices up to its own time.
tenant_job!(ResetMfa, "reset_mfa", Interactive, unique: |_this| None);

#[cfg(test)]
mod tests {
    use super::*;

    /// Pins the stored form, which outlives a deploy.
    #[test]
    fn the_stored_form_of_every_kind_is_stable() {
        let tenant_id = TenantId::from_bytes([7; 16]);
        let reset = ResetMfa {
            tenant_id,
            user_id: UserId::from_bytes([8; 16]),
            by_operator: true,
        };
        let stored = [
            serde_json::to_value(LookUpMfa { tenant_id }).unwrap(),
            serde_json::to_value(reset).unwrap(),
        ];

        let expected = serde_json::json!([
            { "tenantId": "07070707-0707-0707-0707-070707070707" },
            {
                "tenantId": "07070707-0707-0707-0707-070707070707",
                "userId": "08080808-0808-0808-0808-080808080808",
                "byOperator": true,
            },
        ]);
        assert_eq!(serde_json::json!(stored), expected);
    }
}
