//! What a plan costs.

use bson::DateTime;
use serde::{Deserialize, Serialize};

use crate::{id::PriceId, subscription::Cycle, tenant::Plan};

/// A price, as stored. There is one for each plan, cycle and currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Price {
    /// Its id.
    #[serde(rename = "_id")]
    pub id: PriceId,
    /// Of what.
    pub plan: Plan,
    /// For how long.
    pub cycle: Cycle,
    /// ISO 4217, upper case.
    pub currency: String,
    /// What a cycle costs, in minor units of the currency.
    pub amount_minor: i64,
    /// Its id at Stripe, once it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripe_price_id: Option<String>,
    /// + 1 with every write.
    pub revision: i64,
    /// When it was set.
    pub created_at: DateTime,
    /// When it last changed.
    pub updated_at: DateTime,
}
