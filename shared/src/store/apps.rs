//! App repository: the relying parties of all tenants. A removed app has no document.

use std::collections::HashMap;

use bson::{Document, doc};
use futures::TryStreamExt as _;
use mongodb::{ClientSession, IndexModel, options::IndexOptions};

use super::{
    StoreError,
    index::unique,
    lenient::{Decoded, decode_all},
    linearizable::find_one_linearizable,
    page::page,
    tenant_counts::count_by_tenant,
    tenant_resource_changes::changes_index,
    versioned::versioned,
};
use crate::{
    app::{App, BINDING_MISSING},
    id::{AppId, TenantId},
};

/// Unique index: one app per tenant and slug.
pub const SLUG_INDEX: &str = "app_slug";
/// Unique index: one app per client id.
pub const CLIENT_ID_INDEX: &str = "app_client_id";

versioned! {
    /// Apps of all tenants.
    AppRepository, apps = "apps": App, AppId
}

impl AppRepository {
    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let of_tenant = IndexModel::builder()
            .keys(doc! { "tenantId": 1, "_id": 1 })
            .build();
        let only_open = IndexOptions::builder()
            .name("open".to_owned())
            .partial_filter_expression(doc! { "conditions.reason": BINDING_MISSING })
            .build();
        let open = IndexModel::builder()
            .keys(doc! { "conditions.reason": 1, "tenantId": 1 })
            .options(only_open)
            .build();
        self.apps
            .create_indexes([
                unique(SLUG_INDEX, doc! { "tenantId": 1, "slug": 1 }),
                unique(CLIENT_ID_INDEX, doc! { "clientId": 1 }),
                of_tenant,
                open,
                changes_index(),
            ])
            .await?;
        Ok(())
    }

    /// This tenant's app with this id.
    pub async fn find_of(&self, tenant_id: TenantId, id: AppId) -> Result<Option<App>, StoreError> {
        find_one_linearizable(&self.apps, doc! { "_id": id, "tenantId": tenant_id }).await
    }

    /// At most `limit` of this tenant's apps, oldest first.
    pub async fn list(
        &self,
        tenant_id: TenantId,
        after: Option<AppId>,
        limit: i64,
    ) -> Result<Vec<App>, StoreError> {
        page(&self.apps, doc! { "tenantId": tenant_id }, after, limit).await
    }

    /// All of this tenant's apps, oldest first; at most [`APPS_PER_TENANT`](crate::app::APPS_PER_TENANT).
    pub async fn list_all(&self, tenant_id: TenantId) -> Result<Decoded<App>, StoreError> {
        let apps = self.apps.clone_with_type::<Document>();
        let found = apps.find(doc! { "tenantId": tenant_id });
        decode_all(found.sort(doc! { "_id": 1 }).await?).await
    }

    /// Numbers of the providers of this tenant's apps, also of those that only a newer build can decode.
    pub async fn list_providers(&self, tenant_id: TenantId) -> Result<Vec<i64>, StoreError> {
        let apps = self.apps.clone_with_type::<Document>();
        let found = apps.find(doc! { "tenantId": tenant_id });
        let found = found.projection(doc! { "authentik.providerPk": 1 }).await?;
        let apps: Vec<Document> = found.try_collect().await?;
        let number = |app: &Document| {
            let refs = app.get_document("authentik").ok()?;
            refs.get_i64("providerPk").ok()
        };
        Ok(apps.iter().filter_map(number).collect())
    }

    /// Number of this tenant's apps, as seen by this transaction.
    pub async fn count_in(
        &self,
        session: &mut ClientSession,
        tenant_id: TenantId,
    ) -> Result<u64, StoreError> {
        let of_tenant = doc! { "tenantId": tenant_id };
        self.apps.count_documents(of_tenant).session(session).await
    }

    /// Number of apps by tenant that every user of the identity provider could sign in to when a job last looked.
    /// Tenants without any are omitted.
    pub async fn count_open(
        &self,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, u64>, StoreError> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct OfTenant {
            tenant_id: TenantId,
        }
        let mut open = self
            .apps
            .clone_with_type::<OfTenant>()
            .find(doc! { "conditions.reason": BINDING_MISSING, "tenantId": { "$in": tenants } })
            .projection(doc! { "_id": 0, "tenantId": 1 })
            .await?;
        let mut counts = HashMap::new();
        while let Some(OfTenant { tenant_id }) = open.try_next().await? {
            *counts.entry(tenant_id).or_default() += 1;
        }
        Ok(counts)
    }

    /// Number of apps of all tenants that every user of the identity provider could sign in to when a job last looked, counted
    /// up to 1,000.
    pub async fn count_all_open(&self) -> Result<u64, StoreError> {
        let open = doc! { "conditions.reason": BINDING_MISSING };
        self.apps.count_documents(open).limit(1_000).await
    }

    /// Number of apps by tenant. Tenants without any are omitted.
    pub async fn count_by_tenant(
        &self,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, u64>, StoreError> {
        let of_tenants = doc! { "$match": { "tenantId": { "$in": tenants } } };
        count_by_tenant(&self.apps, vec![of_tenants], "$tenantId").await
    }

    /// Deletes all apps of a tenant that was removed from the identity provider.
    pub async fn delete_all(
        &self,
        session: &mut ClientSession,
        tenant_id: TenantId,
    ) -> Result<(), StoreError> {
        let of_tenant = doc! { "tenantId": tenant_id };
        self.apps.delete_many(of_tenant).session(session).await?;
        Ok(())
    }
}
