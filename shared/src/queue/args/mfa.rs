//! Arguments of the jobs about second factors.

use serde::{Deserialize, Serialize};

use crate::{
    id::{TenantId, UserId},
    queue::{job::JobArgs, priority::Priority},
};

/// Looks up the MFA devices of a tenant's people. Read-only, so it takes a lock of its own, not the tenant's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LookUpMfa {
    /// Tenant id.
    pub tenant_id: TenantId,
}

impl JobArgs for LookUpMfa {
    const KIND: &'static str = "look_up_mfa";
    const PRIORITY: Priority = Priority::Interactive;

    fn tenant_id(&self) -> Option<TenantId> {
        Some(self.tenant_id)
    }

    fn lock_key(&self) -> Option<String> {
        Some(format!("mfa:{}", self.tenant_id))
    }

    fn unique_key(&self) -> Option<String> {
        Some(self.tenant_id.to_string())
    }
}

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
impl JobArgs for ResetMfa {
    const KIND: &'static str = "reset_mfa";
    const PRIORITY: Priority = Priority::Interactive;

    fn tenant_id(&self) -> Option<TenantId> {
        Some(self.tenant_id)
    }
}

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
