//! Partner revenue, aggregated by the database.

use std::{collections::HashMap, time::Duration};

use bson::doc;
use futures::TryStreamExt as _;
use serde::Deserialize;

use super::TenantRepository;
use crate::{
    billing::Cycle,
    id::PartnerId,
    partner::PartnerRevenue,
    store::{StoreError, to_bson},
    tenant::TenantStatus,
};

/// Time limit of the sums: some 250,000 customers.
const SUMMING: Duration = Duration::from_secs(5);

/// Tenants of one partner with one currency and cycle, or without a subscription.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    #[serde(rename = "_id")]
    key: Key,
    tenants: i64,
    price_minor: i64,
}

#[derive(Deserialize)]
struct Key {
    partner: PartnerId,
    currency: Option<String>,
    cycle: Option<Cycle>,
}

impl TenantRepository {
    /// Revenue of each of these partners that has customers. Reads each customer; fails with a timeout if that takes too
    /// long. A subscription with a cycle of a newer build does not count.
    pub async fn partner_revenue(
        &self,
        partners: &[PartnerId],
    ) -> Result<HashMap<PartnerId, PartnerRevenue>, StoreError> {
        // A tenant has at most one live subscription, so each is counted once. A `$lookup` with a pipeline would be planned
        // anew for each tenant, which takes seven times as long; so the status is checked afterwards.
        let is_live = doc! { "$in": ["$$this.status", ["active", "past_due"]] };
        let is_known = doc! { "$in": ["$$this.cycle", to_bson(&Cycle::ALL)?] };
        let pipeline = [
            doc! { "$match": {
                "partnerId": { "$in": partners.to_vec() },
                "status": { "$ne": TenantStatus::Terminated.name() },
            } },
            doc! { "$project": { "partnerId": 1 } },
            doc! { "$lookup": {
                "from": "subscriptions",
                "localField": "_id",
                "foreignField": "tenantId",
                "as": "live",
            } },
            doc! { "$project": {
                "partnerId": 1,
                "live": { "$filter": { "input": "$live", "cond": { "$and": [is_live, is_known] } } },
            } },
            doc! { "$unwind": { "path": "$live", "preserveNullAndEmptyArrays": true } },
            doc! { "$group": {
                "_id": { "partner": "$partnerId", "currency": "$live.currency", "cycle": "$live.cycle" },
                "tenants": { "$sum": 1 },
                "priceMinor": { "$sum": "$live.priceMinor" },
            } },
        ];
        let groups: Vec<Group> = self
            .tenants
            .aggregate(pipeline)
            .max_time(SUMMING)
            .with_type()
            .await?
            .try_collect()
            .await?;

        let mut revenues: HashMap<PartnerId, PartnerRevenue> = HashMap::new();
        for Group {
            key,
            tenants,
            price_minor,
        } in groups
        {
            let revenue = revenues.entry(key.partner).or_default();
            revenue.count += tenants;
            if let (Some(currency), Some(cycle)) = (key.currency, key.cycle) {
                revenue.add(currency, cycle, price_minor);
            }
        }
        Ok(revenues)
    }
}
