//! Changes of the resources of tenants: members, apps, domains and invoices, by the time of their last change.
//!
//! A watcher compares the latest change of each tenant, and then reads the resources that changed. The time is read before the
//! commit, so a resource may appear shortly after others with a later time.

use std::{collections::HashMap, sync::Arc};

use bson::{DateTime, doc};
use futures::TryStreamExt as _;
use mongodb::{
    Collection, IndexModel,
    options::{Hint, IndexOptions},
};
use serde::de::DeserializeOwned;

use super::{Store, StoreError, lenient::take_decodable};
use crate::{app::App, domain::Domain, id::TenantId, invoice::Invoice, member::Member};

/// Index of a collection by tenant and time of the last change.
pub const CHANGES_INDEX: &str = "changes";

/// The index [`CHANGES_INDEX`].
pub(super) fn changes_index() -> IndexModel {
    let options = IndexOptions::builder().name(CHANGES_INDEX.to_owned());
    IndexModel::builder()
        .keys(doc! { "tenantId": 1, "updatedAt": 1 })
        .options(options.build())
        .build()
}

/// Members, apps, domains and invoices of all tenants, as one repository.
#[derive(Debug, Clone)]
pub struct TenantResourceChanges {
    members: Collection<Member>,
    apps: Collection<App>,
    domains: Collection<Domain>,
    invoices: Collection<Invoice>,
}

impl TenantResourceChanges {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            members: store.collection("members"),
            apps: store.collection("apps"),
            domains: store.collection("domains"),
            invoices: store.collection("invoices"),
        }
    }

    /// Time of the latest change of a resource of each of these tenants. Tenants without resources are omitted.
    pub async fn latest(
        &self,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, DateTime>, StoreError> {
        let (members, apps, domains, invoices) = futures::try_join!(
            latest_in(&self.members, tenants),
            latest_in(&self.apps, tenants),
            latest_in(&self.domains, tenants),
            latest_in(&self.invoices, tenants),
        )?;
        let mut latest: HashMap<TenantId, DateTime> = HashMap::new();
        let found = members.into_iter().chain(apps).chain(domains);
        for (tenant, at) in found.chain(invoices) {
            let known = latest.entry(tenant).or_insert(at);
            *known = at.max(*known);
        }
        Ok(latest)
    }

    /// At most `limit` of the tenant's members, removed ones included, that were changed at or after `since`, latest first.
    pub async fn members_since(
        &self,
        tenant: TenantId,
        since: DateTime,
        limit: i64,
    ) -> Result<Vec<Member>, StoreError> {
        changed_since(&self.members, tenant, since, limit).await
    }

    /// As [`members_since`](Self::members_since), of apps.
    pub async fn apps_since(
        &self,
        tenant: TenantId,
        since: DateTime,
        limit: i64,
    ) -> Result<Vec<App>, StoreError> {
        changed_since(&self.apps, tenant, since, limit).await
    }

    /// As [`members_since`](Self::members_since), of domains.
    pub async fn domains_since(
        &self,
        tenant: TenantId,
        since: DateTime,
        limit: i64,
    ) -> Result<Vec<Domain>, StoreError> {
        changed_since(&self.domains, tenant, since, limit).await
    }

    /// As [`members_since`](Self::members_since), of invoices.
    pub async fn invoices_since(
        &self,
        tenant: TenantId,
        since: DateTime,
        limit: i64,
    ) -> Result<Vec<Invoice>, StoreError> {
        changed_since(&self.invoices, tenant, since, limit).await
    }
}

async fn latest_in<T: Send + Sync>(
    collection: &Collection<T>,
    tenants: &[TenantId],
) -> Result<Vec<(TenantId, DateTime)>, StoreError> {
    #[derive(serde::Deserialize)]
    struct Latest {
        #[serde(rename = "_id")]
        tenant: TenantId,
        at: DateTime,
    }
    // One key a tenant: the order is that of the index, backwards.
    let pipeline = [
        doc! { "$match": { "tenantId": { "$in": tenants } } },
        doc! { "$sort": { "tenantId": -1, "updatedAt": -1 } },
        doc! { "$group": { "_id": "$tenantId", "at": { "$first": "$updatedAt" } } },
    ];
    let latest = collection
        .aggregate(pipeline)
        .hint(Hint::Name(CHANGES_INDEX.to_owned()))
        .with_type::<Latest>()
        .await?;
    let latest = latest.map_ok(|latest| (latest.tenant, latest.at));
    latest.try_collect().await
}

async fn changed_since<T: DeserializeOwned + Unpin + Send + Sync>(
    collection: &Collection<T>,
    tenant: TenantId,
    since: DateTime,
    limit: i64,
) -> Result<Vec<T>, StoreError> {
    let changed = doc! { "tenantId": tenant, "updatedAt": { "$gte": since } };
    let documents = collection.clone_with_type();
    let found = documents
        .find(changed)
        .sort(doc! { "tenantId": -1, "updatedAt": -1 })
        .hint(Hint::Name(CHANGES_INDEX.to_owned()));
    take_decodable(found, limit).await
}
