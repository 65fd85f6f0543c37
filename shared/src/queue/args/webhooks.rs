//! Arguments of the jobs that follow changes at Stripe.

use serde::{Deserialize, Serialize};

use super::declare::singleton_job;
use crate::{
    id::TenantId,
    queue::{
        job::{JobArgs, Queue},
        priority::Priority,
    },
};

/// Reads an object at Stripe again, and stores what it is now. It takes a lock of the tenant's billing once the tenant is
/// known, else one of the object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MirrorStripeObject {
    /// Type of the object, such as `customer`.
    pub object_type: String,
    /// Id of the object.
    pub object_id: String,
    /// Tenant that it concerns, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<TenantId>,
}

impl JobArgs for MirrorStripeObject {
    const KIND: &'static str = "mirror_stripe_object";
    const QUEUE: Queue = Queue::Webhooks;
    const PRIORITY: Priority = Priority::Interactive;

    fn tenant_id(&self) -> Option<TenantId> {
        self.tenant_id
    }

    fn lock_key(&self) -> Option<String> {
        Some(match self.tenant_id {
            Some(tenant) => format!("billing:{tenant}"),
            None => format!("stripe:{}", self.object_id),
        })
    }

    // The tenant is a part of it: a job that knows the tenant would be lost by joining one that does not.
    fn unique_key(&self) -> Option<String> {
        let object = &self.object_id;
        Some(match self.tenant_id {
            Some(tenant) => format!("{object}/{tenant}"),
            None => object.clone(),
        })
    }
}

/// Reads the list of Stripe's events, and stores those that no webhook delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchStripeEvents {}

singleton_job!(FetchStripeEvents, "fetch_stripe_events", Webhooks);

#[cfg(test)]
mod tests {
    use super::*;

    /// Pins the stored form, which outlives a deploy.
    #[test]
    fn the_stored_form_of_every_kind_is_stable() {
        let tenant = TenantId::from_bytes([7; 16]);
        let unknown = MirrorStripeObject {
            object_type: "customer".to_owned(),
            object_id: "cus_1".to_owned(),
            tenant_id: None,
        };
        let known = MirrorStripeObject {
            tenant_id: Some(tenant),
            ..unknown.clone()
        };

        let mut stored = bson::doc! { "objectType": "customer", "objectId": "cus_1" };
        assert_eq!(bson::serialize_to_document(&unknown).unwrap(), stored);
        stored.insert("tenantId", tenant);
        assert_eq!(bson::serialize_to_document(&known).unwrap(), stored);
        assert_eq!(
            bson::deserialize_from_document::<MirrorStripeObject>(stored).unwrap(),
            known
        );
        assert_eq!(unknown.lock_key().unwrap(), "stripe:cus_1");
        assert_eq!(known.lock_key(), Some(format!("billing:{tenant}")));
        assert_ne!(known.unique_key(), unknown.unique_key());
        let fetch = bson::serialize_to_document(&FetchStripeEvents {}).unwrap();
        assert_eq!(fetch, bson::doc! {});
    }
}
