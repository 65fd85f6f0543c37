//! Setup intent: the entry of a card by a person. A job creates it at Stripe and encrypts its client secret, which is handed
//! over to the browser once.

use std::time::Duration;

use bson::DateTime;
use serde::{Deserialize, Serialize};

use crate::{
    id::{JobId, SetupIntentId, TenantId},
    platform::clock,
    queue::secret_box::EncryptedSecrets,
};

/// Retention of a setup intent, and the period over which those of a tenant are counted.
pub const KEPT: Duration = Duration::from_hours(1);
/// Maximum number of setup intents of a tenant in that period: stolen cards are tried in large numbers.
pub const MAX_PER_TENANT: u64 = 10;

/// Setup intent, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetupIntent {
    /// Id.
    #[serde(rename = "_id")]
    pub id: SetupIntentId,
    /// Tenant whose customer the card is entered for.
    pub tenant_id: TenantId,
    /// User who asked for it.
    pub requested_by: String,
    /// Time of the request.
    pub created_at: DateTime,
    /// Id at Stripe, once it exists there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripe_id: Option<String>,
    /// Client secret, until it is handed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<EncryptedSecrets>,
    /// Time at which the client secret was handed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed_over_at: Option<DateTime>,
    /// Expiry (TTL index).
    pub expire_at: DateTime,
}

impl SetupIntent {
    /// A setup intent that a job will create.
    pub fn new(tenant_id: TenantId, requested_by: &str, now: DateTime) -> Self {
        Self {
            id: SetupIntentId::new(),
            tenant_id,
            requested_by: requested_by.to_owned(),
            created_at: now,
            stripe_id: None,
            secret: None,
            handed_over_at: None,
            expire_at: clock::later(now, KEPT),
        }
    }

    /// Id that its secret is encrypted for.
    pub fn encrypted_for(id: SetupIntentId) -> JobId {
        JobId::from_bytes(id.bytes())
    }
}
