//! The tenants.

mod partner_revenue;

use std::sync::Arc;

use bson::{DateTime, Document, doc};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use mongodb::{ClientSession, Collection, IndexModel, options::IndexOptions};

use super::{
    Store, StoreError, batch_loader::BatchLoader, known_fields, lenient::skip_undecodable,
    linearizable::recheck_linearizable, versioned::versioned,
};
use crate::{
    billing::Plan,
    id::{PartnerId, TenantId},
    subscription_snapshot::TenantState,
    tenant::{Tenant, TenantStatus},
    upstream::Upstream,
};

/// The name of the index that keeps a slug from being used twice.
pub const SLUG_INDEX: &str = "slug";
/// The name of the index that keeps a domain from standing in two tenants.
pub const DOMAIN_INDEX: &str = "domains";

/// The tenants.
#[derive(Debug, Clone)]
pub struct TenantRepository {
    tenants: Collection<Tenant>,
    by_id: Arc<BatchLoader<TenantId, Tenant>>,
    by_slug: Arc<BatchLoader<String, Tenant>>,
}

/// Which tenants a list shows.
#[derive(Debug, Clone, Default)]
pub struct TenantFilter {
    /// Only these, or those of `visible_partner`; everything when both are missing.
    pub visible: Option<Vec<TenantId>>,
    /// Also those of this partner.
    pub visible_partner: Option<PartnerId>,
    /// Only in this status.
    pub status: Option<TenantStatus>,
    /// Only with this plan.
    pub plan: Option<Plan>,
    /// Only of this partner.
    pub partner_id: Option<PartnerId>,
    /// Only after this one.
    pub after: Option<TenantId>,
}

impl TenantFilter {
    fn document(&self) -> Result<Document, StoreError> {
        let mut filter = Document::new();
        let mut visible = Vec::new();
        if let Some(ids) = &self.visible {
            visible.push(doc! { "_id": { "$in": ids.clone() } });
        }
        if let Some(partner) = self.visible_partner {
            visible.push(doc! { "partnerId": partner });
        }
        if !visible.is_empty() {
            filter.insert("$or", visible);
        }
        if let Some(status) = self.status {
            filter.insert("status", status.name());
        }
        if let Some(plan) = &self.plan {
            filter.insert("plan", super::to_bson(plan)?);
        }
        if let Some(partner) = self.partner_id {
            filter.insert("partnerId", partner);
        }
        if let Some(after) = self.after {
            filter.insert("_id", doc! { "$gt": after });
        }
        Ok(filter)
    }
}

versioned!(TenantRepository, tenants: Tenant, TenantId);

impl TenantRepository {
    /// The tenants in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        let tenants: Collection<Tenant> = store.collection("tenants");
        Self {
            by_id: BatchLoader::by(&tenants, "_id", |tenant| tenant.id),
            by_slug: BatchLoader::by(&tenants, "slug", |tenant| tenant.slug.clone()),
            tenants,
        }
    }

    /// Makes the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let slug = IndexOptions::builder()
            .name(SLUG_INDEX.to_owned())
            .unique(true)
            .build();
        let slug = IndexModel::builder()
            .keys(doc! { "slug": 1 })
            .options(slug)
            .build();
        // Without the filter, two tenants without a domain would be in each other's way.
        let domains = IndexOptions::builder()
            .name(DOMAIN_INDEX.to_owned())
            .unique(true)
            .partial_filter_expression(doc! { "domains.0": { "$exists": true } })
            .build();
        let domains = IndexModel::builder()
            .keys(doc! { "domains": 1 })
            .options(domains)
            .build();
        let partner = IndexModel::builder()
            .keys(doc! { "partnerId": 1, "_id": 1 })
            .build();
        let groups = IndexModel::builder()
            .keys(doc! { "authentikGroupId": 1 })
            .build();
        self.tenants
            .create_indexes([slug, domains, partner, groups])
            .await?;
        Ok(())
    }

    /// The tenant with this id.
    pub async fn find(&self, id: TenantId) -> Result<Option<Tenant>, StoreError> {
        match self.by_id.find(id).await? {
            Some(tenant) => Ok(Some(tenant)),
            None => recheck_linearizable(&self.tenants, doc! { "_id": id }).await,
        }
    }

    /// The tenant with this slug.
    pub async fn find_by_slug(&self, slug: &str) -> Result<Option<Tenant>, StoreError> {
        match self.by_slug.find(slug.to_owned()).await? {
            Some(tenant) => Ok(Some(tenant)),
            None => recheck_linearizable(&self.tenants, doc! { "slug": slug }).await,
        }
    }

    /// The tenants with these slugs.
    pub async fn list_by_slugs(&self, slugs: &[String]) -> Result<Vec<Tenant>, StoreError> {
        self.tenants
            .find(doc! { "slug": { "$in": slugs } })
            .await?
            .try_collect()
            .await
    }

    /// The tenants with these ids, oldest first.
    pub async fn list_by_ids(&self, ids: &[TenantId]) -> Result<Vec<Tenant>, StoreError> {
        self.tenants
            .find(doc! { "_id": { "$in": ids.to_vec() } })
            .sort(doc! { "_id": 1 })
            .await?
            .try_collect()
            .await
    }

    /// The ids of the tenants that `partner` looks after.
    pub async fn list_ids_of_partner(
        &self,
        partner: PartnerId,
    ) -> Result<Vec<TenantId>, StoreError> {
        let ids = self
            .tenants
            .distinct("_id", doc! { "partnerId": partner })
            .await?;
        ids.into_iter()
            .map(|id| Ok(bson::deserialize_from_bson(id)?))
            .collect()
    }

    /// At most `limit` tenants that `filter` lets through, oldest first.
    pub async fn list(&self, filter: &TenantFilter, limit: i64) -> Result<Vec<Tenant>, StoreError> {
        self.tenants
            .find(filter.document()?)
            .sort(doc! { "_id": 1 })
            .limit(limit)
            .await?
            .try_collect()
            .await
    }

    /// The ids of all tenants after `after` that were not removed, oldest first.
    pub async fn ids_not_terminated(
        &self,
        after: Option<TenantId>,
    ) -> Result<impl Stream<Item = Result<TenantId, StoreError>> + Send + use<>, StoreError> {
        #[derive(serde::Deserialize)]
        struct Id {
            #[serde(rename = "_id")]
            id: TenantId,
        }
        let mut filter = doc! { "status": { "$ne": TenantStatus::Terminated.name() } };
        if let Some(after) = after {
            filter.insert("_id", doc! { "$gt": after });
        }
        let found = self
            .tenants
            .clone_with_type::<Id>()
            .find(filter)
            .sort(doc! { "_id": 1 })
            .projection(doc! { "_id": 1 })
            .await?;
        Ok(found.map_ok(|tenant| tenant.id))
    }

    /// At most `limit` tenants after `after` that were made before `before`, oldest first: those that were removed
    /// included, and of each only what a snapshot takes.
    pub async fn list_for_snapshot(
        &self,
        before: DateTime,
        after: Option<TenantId>,
        limit: i64,
    ) -> Result<Vec<TenantState>, StoreError> {
        let mut filter = doc! { "createdAt": { "$lt": before } };
        if let Some(after) = after {
            filter.insert("_id", doc! { "$gt": after });
        }
        let found = self
            .tenants
            .clone_with_type::<Document>()
            .find(filter)
            .sort(doc! { "_id": 1 })
            .projection(doc! { "slug": 1, "status": 1, "plan": 1, "partnerId": 1 })
            .await?;
        let limit = usize::try_from(limit).unwrap_or_default();
        skip_undecodable(found).take(limit).try_collect().await
    }

    /// About how many tenants there are, those that were removed included.
    pub async fn estimated_count(&self) -> Result<u64, StoreError> {
        self.tenants.estimated_document_count().await
    }

    /// Those of `groups` (ids at the identity provider) that belong to a tenant other than `except` whose members
    /// may sign in.
    pub async fn groups_granting_sign_in(
        &self,
        groups: &[String],
        except: TenantId,
    ) -> Result<Vec<String>, StoreError> {
        let open = doc! {
            "authentikGroupId": { "$in": groups },
            "_id": { "$ne": except },
            "status": { "$in": ["pending", "active"] },
        };
        let tenants: Vec<Tenant> = self.tenants.find(open).await?.try_collect().await?;
        Ok(tenants
            .into_iter()
            .filter_map(|tenant| tenant.authentik_group_id)
            .collect())
    }

    /// The tenants with one of `groups` (ids at the identity provider) that keep their members out.
    pub async fn tenants_blocking_sign_in(
        &self,
        groups: &[String],
    ) -> Result<Vec<TenantId>, StoreError> {
        let closed = doc! {
            "authentikGroupId": { "$in": groups },
            "status": { "$in": ["suspended", "terminating"] },
        };
        let tenants: Vec<Tenant> = self.tenants.find(closed).await?.try_collect().await?;
        Ok(tenants.into_iter().map(|tenant| tenant.id).collect())
    }

    /// Whether, of the tenants with one of `ids` or `groups` (ids at the identity provider), one that was not removed
    /// is not `partner`'s.
    pub async fn any_outside_partner(
        &self,
        session: &mut ClientSession,
        ids: &[TenantId],
        groups: &[String],
        partner: PartnerId,
    ) -> Result<bool, StoreError> {
        let elsewhere = doc! {
            "$or": [{ "_id": { "$in": ids } }, { "authentikGroupId": { "$in": groups } }],
            "partnerId": { "$ne": partner },
            "status": { "$ne": "terminated" },
        };
        let found = self.tenants.find_one(elsewhere).session(session).await?;
        Ok(found.is_some())
    }

    /// The tenant with this slug, to be written in this transaction: its revision is already one more.
    pub async fn lock_by_slug(
        &self,
        session: &mut ClientSession,
        slug: &str,
    ) -> Result<Option<Tenant>, StoreError> {
        self.find_for_update_where(session, doc! { "slug": slug })
            .await
    }

    /// The tenant with this id, as [`TenantRepository::lock`] gives it, if no caller has changed it since
    /// `generation`.
    pub async fn lock_generation(
        &self,
        session: &mut ClientSession,
        id: TenantId,
        generation: i64,
    ) -> Result<Option<Tenant>, StoreError> {
        self.find_for_update_where(session, doc! { "_id": id, "generation": generation })
            .await
    }

    /// Keeps everyone from writing to `upstream` for this tenant until `until`.
    pub async fn set_unknown_until(
        &self,
        session: &mut ClientSession,
        id: TenantId,
        upstream: Upstream,
        until: DateTime,
    ) -> Result<(), StoreError> {
        let field = format!("unknownUntil.{upstream}");
        let update = doc! { "$set": { field: until }, "$inc": { "revision": 1_i64 } };
        self.tenants
            .update_one(doc! { "_id": id }, update)
            .session(session)
            .await?;
        Ok(())
    }

    /// Writes tenants that were not locked: their revisions are already one more than when they were read. False if one
    /// of them was written meanwhile; then the transaction has to be given up.
    pub async fn compare_and_save_many(
        &self,
        session: &mut ClientSession,
        tenants: &[Arc<Tenant>],
    ) -> Result<bool, StoreError> {
        let updates = tenants.iter().map(|tenant| {
            let before = doc! { "_id": tenant.id, "revision": tenant.revision - 1 };
            Ok(doc! { "q": before, "u": known_fields::set_known_fields(&**tenant)? })
        });
        let updates = updates.collect::<Result<Vec<_>, StoreError>>()?;
        Ok(super::bulk_update_in(&self.tenants, session, updates).await? == tenants.len())
    }

    /// The id and revision of each of these tenants that exists.
    pub async fn revisions(&self, ids: &[TenantId]) -> Result<Vec<(TenantId, i64)>, StoreError> {
        #[derive(serde::Deserialize)]
        struct Revision {
            #[serde(rename = "_id")]
            id: TenantId,
            revision: i64,
        }
        let revisions: Vec<Revision> = self
            .tenants
            .clone_with_type()
            .find(doc! { "_id": { "$in": ids.to_vec() } })
            .projection(doc! { "revision": 1 })
            .await?
            .try_collect()
            .await?;
        Ok(revisions
            .into_iter()
            .map(|tenant| (tenant.id, tenant.revision))
            .collect())
    }
}
