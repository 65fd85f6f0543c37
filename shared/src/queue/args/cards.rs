//! Arguments of the jobs about the cards of tenants.

use serde::{Deserialize, Serialize};

use super::declare::billing_job;
use crate::id::{SetupIntentId, TenantId};

/// Creates a setup intent at Stripe, with which a person enters a card in the browser. It takes a lock of the tenant's
/// billing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateSetupIntent {
    /// Tenant id.
    pub tenant_id: TenantId,
    /// The setup intent, which takes the result.
    pub intent_id: SetupIntentId,
}

billing_job!(CreateSetupIntent, "create_setup_intent", unique: |_this| None);

/// Makes the card of a completed setup intent the one that invoices are charged to. It takes a lock of the tenant's billing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetDefaultCard {
    /// Tenant id.
    pub tenant_id: TenantId,
    /// Id of the setup intent at Stripe.
    pub setup_intent_id: String,
}

billing_job!(SetDefaultCard, "set_default_card", unique: |_this| None);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::job::JobArgs as _;

    /// Pins the stored form, which outlives a deploy.
    #[test]
    fn the_stored_form_of_every_kind_is_stable() {
        let tenant_id = TenantId::from_bytes([7; 16]);
        let intent_id = SetupIntentId::from_bytes([8; 16]);
        let create = CreateSetupIntent {
            tenant_id,
            intent_id,
        };
        let set = SetDefaultCard {
            tenant_id,
            setup_intent_id: "seti_1".to_owned(),
        };

        let stored = bson::doc! { "tenantId": tenant_id, "intentId": intent_id };
        assert_eq!(bson::serialize_to_document(&create).unwrap(), stored);
        let stored = bson::doc! { "tenantId": tenant_id, "setupIntentId": "seti_1" };
        assert_eq!(bson::serialize_to_document(&set).unwrap(), stored);
        assert_eq!(create.lock_key(), set.lock_key());
    }
}
