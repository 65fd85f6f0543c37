//! Domain repository: all claims of all tenants. At most one claim owns a name.
//!
//! The collection is the source of truth; `domains` and `primaryDomain` of a tenant are its projection. A change of
//! ownership must therefore lock the tenant first, and save it afterwards, in the same transaction.

mod due;
mod ownership;

use std::collections::{BTreeMap, HashMap};

use bson::{Document, doc};
use futures::TryStreamExt as _;
use mongodb::{ClientSession, IndexModel, options::IndexOptions};

pub use self::{due::DueDomain, ownership::DomainSync};
use super::{
    StoreError, VersionedRepository as _, lenient::skip_undecodable,
    linearizable::find_one_linearizable, page::page, revisions::revisions,
    tenant_resource_changes::changes_index, versioned::versioned,
};
use crate::{
    domain::{Domain, DomainStatus, reason},
    id::{DomainId, TenantId},
};

/// Unique index: one owner per name.
pub const OWNED_INDEX: &str = "owned_name";
/// Unique index: one claim per tenant and name.
pub const CLAIM_INDEX: &str = "claim";

/// Index of claims by due time.
pub const DUE_INDEX: &str = "due";

versioned! {
    /// Domains of all tenants.
    DomainRepository, domains = "domains": Domain, DomainId
}

impl DomainRepository {
    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let index = |keys, options| IndexModel::builder().keys(keys).options(options).build();
        let named = |name: &str| IndexOptions::builder().name(name.to_owned());
        let owned = named(OWNED_INDEX)
            .unique(true)
            .partial_filter_expression(doc! { "ownedBy": { "$exists": true } })
            .build();
        let claim = named(CLAIM_INDEX).unique(true).build();
        let primary = named("one_primary_per_tenant")
            .unique(true)
            .partial_filter_expression(doc! { "primary": true })
            .build();
        let of_tenant = named("of_tenant").build();
        let due = named(DUE_INDEX)
            .partial_filter_expression(doc! { "nextCheckAt": { "$exists": true } })
            .build();
        self.domains
            .create_indexes([
                index(doc! { "name": 1 }, owned),
                index(doc! { "name": 1, "tenantId": 1 }, claim),
                index(doc! { "tenantId": 1 }, primary),
                index(doc! { "tenantId": 1, "_id": 1 }, of_tenant),
                index(doc! { "nextCheckAt": 1 }, due),
                changes_index(),
            ])
            .await?;
        Ok(())
    }

    /// The domain with this id.
    pub async fn find(&self, id: DomainId) -> Result<Option<Domain>, StoreError> {
        find_one_linearizable(&self.domains, doc! { "_id": id }).await
    }

    /// Id and revision of each of these domains that exists.
    pub async fn revisions(&self, ids: &[DomainId]) -> Result<Vec<(DomainId, i64)>, StoreError> {
        revisions(&self.domains, ids).await
    }

    /// This tenant's claim to `name`.
    pub async fn find_by_name(
        &self,
        tenant_id: TenantId,
        name: &str,
    ) -> Result<Option<Domain>, StoreError> {
        let claim = doc! { "name": name, "tenantId": tenant_id };
        find_one_linearizable(&self.domains, claim).await
    }

    /// The claim that owns `name`.
    pub async fn find_owner(
        &self,
        session: &mut ClientSession,
        name: &str,
    ) -> Result<Option<TenantId>, StoreError> {
        let owned = doc! { "name": name, "ownedBy": { "$exists": true } };
        let domain = self.domains.find_one(owned).session(session).await?;
        Ok(domain.map(|domain| domain.tenant_id))
    }

    /// At most `limit` of this tenant's domains, oldest first.
    pub async fn list(
        &self,
        tenant_id: TenantId,
        after: Option<DomainId>,
        limit: i64,
    ) -> Result<Vec<Domain>, StoreError> {
        page(&self.domains, doc! { "tenantId": tenant_id }, after, limit).await
    }

    /// All of this tenant's domains as seen by this transaction, oldest first.
    pub async fn list_in(
        &self,
        session: &mut ClientSession,
        tenant_id: TenantId,
    ) -> Result<Vec<Domain>, StoreError> {
        let mut found = self
            .domains
            .find(doc! { "tenantId": tenant_id })
            .sort(doc! { "_id": 1 })
            .session(&mut *session)
            .await?;
        found.stream(session).try_collect().await
    }

    /// Makes this transaction conflict with a concurrent removal of these domains, in which it adds addresses.
    pub async fn materialize_conflicts(
        &self,
        session: &mut ClientSession,
        domains: impl IntoIterator<Item = DomainId> + Send,
    ) -> Result<(), StoreError> {
        let mut ids: Vec<DomainId> = domains.into_iter().collect();
        ids.sort();
        ids.dedup();
        for id in ids {
            self.materialize_conflict(session, id).await?;
        }
        Ok(())
    }

    /// All domains that this tenant owns, oldest first, including those being removed. Skips those of a newer build.
    pub async fn list_owned(&self, tenant_id: TenantId) -> Result<Vec<Domain>, StoreError> {
        let owned = doc! { "tenantId": tenant_id, "ownedBy": { "$exists": true } };
        let domains = self.domains.clone_with_type::<Document>();
        let found = domains.find(owned).sort(doc! { "_id": 1 }).await?;
        skip_undecodable(found).try_collect().await
    }

    /// Number of domains this tenant owns.
    pub async fn count_owned(&self, tenant_id: TenantId) -> Result<u64, StoreError> {
        let owned = doc! { "tenantId": tenant_id, "ownedBy": { "$exists": true } };
        self.domains.count_documents(owned).await
    }

    /// Number of domains by tenant and status; tenants without domains are omitted. A domain whose DKIM keys the mail
    /// server does not generate counts as one that needs attention.
    pub async fn count_by_status(
        &self,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, BTreeMap<DomainStatus, u64>>, StoreError> {
        #[derive(serde::Deserialize)]
        struct Counted {
            #[serde(rename = "_id")]
            of: Group,
            count: i64,
        }
        #[derive(serde::Deserialize)]
        struct Group {
            tenant: TenantId,
            status: DomainStatus,
        }
        let status = doc! { "$cond": [
            { "$in": [reason::KEYS_MISSING, { "$ifNull": ["$conditions.reason", []] }] },
            DomainStatus::Attention.name(),
            "$status",
        ] };
        let group = doc! { "tenant": "$tenantId", "status": status };
        // Without those of a newer build, whose status this one cannot show.
        let statuses = DomainStatus::ALL.map(DomainStatus::name).to_vec();
        let mut counted = self
            .domains
            .aggregate([
                doc! { "$match": { "tenantId": { "$in": tenants.to_vec() }, "status": { "$in": statuses } } },
                doc! { "$group": { "_id": group, "count": { "$sum": 1_i64 } } },
            ])
            .with_type::<Counted>()
            .await?;
        let mut counts: HashMap<_, BTreeMap<_, _>> = HashMap::new();
        while let Some(Counted { of, count }) = counted.try_next().await? {
            let of_tenant = counts.entry(of.tenant).or_default();
            of_tenant.insert(of.status, u64::try_from(count).unwrap_or(0));
        }
        Ok(counts)
    }

    /// Names of this tenant's domains that need attention, as [counted](Self::count_by_status), in order of claiming.
    pub async fn list_needing_attention(
        &self,
        tenant_id: TenantId,
    ) -> Result<Vec<String>, StoreError> {
        #[derive(serde::Deserialize)]
        struct Name {
            name: String,
        }
        self.domains
            .clone_with_type::<Name>()
            .find(doc! { "tenantId": tenant_id, "$or": [
                { "status": DomainStatus::Attention.name() },
                { "conditions.reason": reason::KEYS_MISSING },
            ] })
            .sort(doc! { "_id": 1 })
            .projection(doc! { "_id": 0, "name": 1 })
            .await?
            .map_ok(|domain| domain.name)
            .try_collect()
            .await
    }
}
