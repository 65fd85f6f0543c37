//! Billing account repository. Only jobs under the lock of a tenant's billing write an account, so it carries no revision.

use std::{collections::BTreeSet, sync::Arc};

use bson::doc;
use futures::TryStreamExt as _;
use mongodb::{ClientSession, Collection, IndexModel, options::IndexOptions};
use serde::Deserialize;

use super::{Store, StoreError, index::index, known_fields::set_known_fields};
use crate::{billing_account::BillingAccount, id::TenantId};

/// Unique index: one account per customer.
const CUSTOMER_INDEX: &str = "stripe_customer";

/// The tenant of an account, alone.
#[derive(Debug, Deserialize)]
struct OfTenant {
    #[serde(rename = "_id")]
    tenant_id: TenantId,
}

/// Billing accounts of all tenants.
#[derive(Debug, Clone)]
pub struct BillingAccountRepository {
    accounts: Collection<BillingAccount>,
}

impl BillingAccountRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            accounts: store.collection("billing_accounts"),
        }
    }

    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let options = IndexOptions::builder()
            .name(CUSTOMER_INDEX.to_owned())
            .unique(true)
            .partial_filter_expression(doc! { "stripeCustomerId": { "$exists": true } })
            .build();
        let customer = IndexModel::builder()
            .keys(doc! { "stripeCustomerId": 1 })
            .options(options)
            .build();
        let former = index(doc! { "formerStripeCustomerIds": 1 });
        self.accounts.create_indexes([customer, former]).await?;
        Ok(())
    }

    /// The account of a tenant.
    pub async fn find(&self, tenant: TenantId) -> Result<Option<BillingAccount>, StoreError> {
        self.accounts.find_one(doc! { "_id": tenant }).await
    }

    /// The account that has or had this customer.
    pub async fn find_by_customer(
        &self,
        customer: &str,
    ) -> Result<Option<BillingAccount>, StoreError> {
        let current = doc! { "stripeCustomerId": customer };
        if let Some(account) = self.accounts.find_one(current).await? {
            return Ok(Some(account));
        }
        let former = doc! { "formerStripeCustomerIds": customer };
        self.accounts.find_one(former).await
    }

    /// At most `limit` tenants after `after` that have a customer, ordered by id.
    pub async fn list_customers(
        &self,
        after: Option<TenantId>,
        limit: i64,
    ) -> Result<Vec<TenantId>, StoreError> {
        let mut filter = doc! { "stripeCustomerId": { "$exists": true } };
        if let Some(after) = after {
            filter.insert("_id", doc! { "$gt": after });
        }
        let accounts = self.accounts.clone_with_type::<OfTenant>();
        let found = accounts
            .find(filter)
            .sort(doc! { "_id": 1 })
            .projection(doc! { "_id": 1 })
            .limit(limit);
        let found: Vec<OfTenant> = found.await?.try_collect().await?;
        Ok(found.into_iter().map(|account| account.tenant_id).collect())
    }

    /// Those of these tenants that have a customer.
    pub async fn with_customer(
        &self,
        tenants: &[TenantId],
    ) -> Result<BTreeSet<TenantId>, StoreError> {
        let filter = doc! {
            "_id": { "$in": tenants.to_vec() }, "stripeCustomerId": { "$exists": true },
        };
        let accounts = self.accounts.clone_with_type::<OfTenant>();
        let found = accounts.find(filter).projection(doc! { "_id": 1 });
        let found: Vec<OfTenant> = found.await?.try_collect().await?;
        Ok(found.into_iter().map(|account| account.tenant_id).collect())
    }

    /// Saves an account.
    pub async fn save(
        &self,
        session: &mut ClientSession,
        account: &BillingAccount,
    ) -> Result<(), StoreError> {
        let update = set_known_fields(account)?;
        let saved = self
            .accounts
            .update_one(doc! { "_id": account.tenant_id }, update);
        saved.upsert(true).session(session).await?;
        Ok(())
    }
}
