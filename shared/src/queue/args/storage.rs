//! Arguments of the jobs about storage and allowances.

use serde::{Deserialize, Serialize};

use super::declare::{maintenance_job, tenant_job};
use crate::{billing::Plan, id::TenantId};

/// Enqueues a reconcile job for every tenant of a plan, which sets the quotas of the plan's allowance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplyAllowance {
    /// Plan whose allowance changed.
    pub plan: Plan,
}

// No unique key: a waiting job may have passed half of the tenants, and joining it would leave them as they are.
maintenance_job!(
    ApplyAllowance, "apply_allowance", Bulk,
    lock: |this| Some(format!("apply_allowance:{}", this.plan)), unique: |_this| None
);

/// Measures the space and the mailboxes of a tenant. Read-only, so it takes a lock of its own, not the tenant's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MeasureStorage {
    /// Tenant id.
    pub tenant_id: TenantId,
}

tenant_job!(
    MeasureStorage, "measure_storage", Interactive,
    lock: |this| format!("storage:{}", this.tenant_id),
    unique: |this| Some(this.tenant_id.to_string())
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::args::MeasureAllStorage;

    /// Pins the stored form, which outlives a deploy.
    #[test]
    fn the_stored_form_of_every_kind_is_stable() {
        let tenant_id = TenantId::from_bytes([7; 16]);
        let plan = Plan::Business;
        let stored = [
            serde_json::to_value(ApplyAllowance { plan }).unwrap(),
            serde_json::to_value(MeasureStorage { tenant_id }).unwrap(),
            serde_json::to_value(MeasureAllStorage {}).unwrap(),
        ];

        let expected = serde_json::json!([
            { "plan": "business" },
            { "tenantId": "07070707-0707-0707-0707-070707070707" },
            {},
        ]);
        assert_eq!(serde_json::json!(stored), expected);
    }
}
