//! Tenant repository.

mod partner_revenue;

use std::{collections::BTreeSet, sync::Arc};

use bson::{DateTime, Document, doc};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use mongodb::{ClientSession, Collection, IndexModel, options::IndexOptions};
use serde::Deserialize;

use super::{
    Store, StoreError,
    batch_loader::BatchLoader,
    drop_index, known_fields,
    lenient::skip_undecodable,
    linearizable::recheck_linearizable,
    revisions::revisions,
    versioned::{VersionedRepository as _, versioned},
};
use crate::{
    billing::Plan,
    id::{PartnerId, TenantId},
    subscription_snapshot::TenantState,
    tenant::{Tenant, TenantStatus},
    upstream::Upstream,
};

/// Unique index: one tenant per slug.
pub const SLUG_INDEX: &str = "slug";
/// Unique index: one tenant per domain.
pub const DOMAIN_INDEX: &str = "domains";

/// Ids that the database reads at once for a stream, so that a reader that stops early has not read them all.
const STREAM_BATCH: u32 = 1_000;

/// Index of earlier builds, which the one with the status replaces.
const FORMER_PARTNER_INDEX: &str = "partnerId_1__id_1";

/// Tenants.
#[derive(Debug, Clone)]
pub struct TenantRepository {
    tenants: Collection<Tenant>,
    by_id: Arc<BatchLoader<TenantId, Tenant>>,
    by_slug: Arc<BatchLoader<String, Tenant>>,
}

/// Tenant with the space that is stored for it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpaceHolder {
    /// Tenant.
    #[serde(rename = "_id")]
    pub id: TenantId,
    /// Status of the tenant.
    pub status: TenantStatus,
    /// Stored space.
    #[serde(default)]
    pub ocis_space_id: Option<String>,
    /// Whether the tenant certainly has no space.
    #[serde(default)]
    pub ocis_space_absent: bool,
}

/// Filter of a tenant list.
#[derive(Debug, Clone, Default)]
pub struct TenantFilter {
    /// One of these, or managed by `visible_partner`; all if both are missing.
    pub visible: Option<Vec<TenantId>>,
    /// Also tenants managed by this partner.
    pub visible_partner: Option<PartnerId>,
    /// Filter by status.
    pub status: Option<TenantStatus>,
    /// Filter by plan.
    pub plan: Option<Plan>,
    /// Filter by managing partner.
    pub partner_id: Option<PartnerId>,
    /// Only items after this id (page cursor).
    pub after: Option<TenantId>,
}

impl TenantFilter {
    /// The filter as a query. Each alternative of a disjunction is complete, so that an index yields it in order.
    fn document(&self) -> Result<Document, StoreError> {
        let mut visible = Vec::new();
        if let Some(ids) = &self.visible {
            visible.push(self.among(Some(ids), self.partner_id)?);
        }
        if let Some(partner) = self.visible_partner {
            match self.partner_id {
                Some(other) if other != partner => {}
                _ => visible.push(self.among(None, Some(partner))?),
            }
        }
        match (visible.pop(), visible.is_empty()) {
            (None, _) if self.visible.is_none() && self.visible_partner.is_none() => {
                self.among(None, self.partner_id)
            }
            // Another partner's tenants.
            (None, _) => Ok(doc! { "_id": { "$in": [] } }),
            (Some(only), true) => Ok(only),
            (Some(last), false) => {
                visible.push(last);
                Ok(doc! { "$or": visible })
            }
        }
    }

    /// The tenants that match, of these and of this partner.
    fn among(
        &self,
        ids: Option<&Vec<TenantId>>,
        partner: Option<PartnerId>,
    ) -> Result<Document, StoreError> {
        let mut id = Document::new();
        match (ids, self.after) {
            (Some(ids), after) => {
                // Not left to MongoDB, which would also read the ids before the page.
                let rest = ids.iter().copied();
                let rest = rest.filter(|id| after.is_none_or(|after| *id > after));
                id.insert("$in", rest.collect::<Vec<_>>());
            }
            (None, Some(after)) => {
                id.insert("$gt", after);
            }
            (None, None) => {}
        }
        let mut filter = Document::new();
        if !id.is_empty() {
            filter.insert("_id", id);
        }
        if let Some(partner) = partner {
            filter.insert("partnerId", partner);
        }
        if let Some(plan) = &self.plan {
            filter.insert("plan", super::to_bson(plan)?);
        }
        if let Some(status) = self.status {
            filter.insert("status", status.name());
        } else if ids.is_none() && (partner.is_some() || self.plan.is_some()) {
            // Every status, so that the index yields the order.
            filter.insert(
                "status",
                doc! { "$in": TenantStatus::ALL.map(TenantStatus::name).to_vec() },
            );
        }
        Ok(filter)
    }
}

/// The id alone: of a tenant whose other fields need not be decoded.
#[derive(serde::Deserialize)]
struct Id {
    #[serde(rename = "_id")]
    id: TenantId,
}

/// The distinct groups. The members of a large tenant share a few, and a command with all pairs could exceed its maximum
/// size.
fn distinct(groups: &[String]) -> Vec<&String> {
    let distinct: BTreeSet<&String> = groups.iter().collect();
    distinct.into_iter().collect()
}

versioned!(TenantRepository, tenants: Tenant, TenantId);

impl TenantRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        let tenants: Collection<Tenant> = store.collection("tenants");
        Self {
            by_id: BatchLoader::by(&tenants, "_id", |tenant| tenant.id),
            by_slug: BatchLoader::by(&tenants, "slug", |tenant| tenant.slug.clone()),
            tenants,
        }
    }

    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let slug = IndexOptions::builder()
            .name(SLUG_INDEX.to_owned())
            .unique(true)
            .build();
        let slug = IndexModel::builder()
            .keys(doc! { "slug": 1 })
            .options(slug)
            .build();
        // Partial: without the filter, two tenants without domains would conflict.
        let domains = IndexOptions::builder()
            .name(DOMAIN_INDEX.to_owned())
            .unique(true)
            .partial_filter_expression(doc! { "domains.0": { "$exists": true } })
            .build();
        let domains = IndexModel::builder()
            .keys(doc! { "domains": 1 })
            .options(domains)
            .build();
        // One index for each filter of the lists, which are sorted by id.
        let listed = [
            doc! { "partnerId": 1, "status": 1, "_id": 1 },
            doc! { "plan": 1, "status": 1, "_id": 1 },
            doc! { "status": 1, "_id": 1 },
        ]
        .map(|keys| IndexModel::builder().keys(keys).build());
        let groups = IndexModel::builder()
            .keys(doc! { "authentikGroupId": 1 })
            .build();
        let spaces = IndexModel::builder()
            .keys(doc! { "ocisSpaceId": 1 })
            .options(IndexOptions::builder().sparse(true).build())
            .build();
        self.tenants
            .create_indexes([slug, domains, groups, spaces].into_iter().chain(listed))
            .await?;
        drop_index(&self.tenants, FORMER_PARTNER_INDEX).await
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

    /// Ids of the tenants managed by `partner`.
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

    /// At most `limit` tenants that match `filter`, oldest first.
    pub async fn list(&self, filter: &TenantFilter, limit: i64) -> Result<Vec<Tenant>, StoreError> {
        self.tenants
            .find(filter.document()?)
            .sort(doc! { "_id": 1 })
            .limit(limit)
            .await?
            .try_collect()
            .await
    }

    /// Ids of all tenants after `after` that are not terminated, oldest first.
    pub async fn ids_not_terminated(
        &self,
        after: Option<TenantId>,
    ) -> Result<impl Stream<Item = Result<TenantId, StoreError>> + Send + use<>, StoreError> {
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
            .batch_size(STREAM_BATCH)
            .await?;
        Ok(found.map_ok(|tenant| tenant.id))
    }

    /// At most `limit` tenants after `after` created before `before`, oldest first, including terminated ones, with
    /// only the fields of a snapshot.
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
            // No `limit`, because undecodable documents do not count; by default a batch is filled up to 16 MiB.
            .batch_size(u32::try_from(limit).unwrap_or(u32::MAX))
            .await?;
        let limit = usize::try_from(limit).unwrap_or_default();
        skip_undecodable(found).take(limit).try_collect().await
    }

    /// Estimated number of tenants, including terminated ones.
    pub async fn estimated_count(&self) -> Result<u64, StoreError> {
        self.tenants.estimated_document_count().await
    }

    /// Those of `groups` (ids at the identity provider) that belong to a tenant other than `except` whose members may
    /// sign in.
    pub async fn groups_granting_sign_in(
        &self,
        groups: &[String],
        except: TenantId,
    ) -> Result<Vec<String>, StoreError> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Group {
            authentik_group_id: String,
        }
        let open = doc! {
            "authentikGroupId": { "$in": distinct(groups) },
            "_id": { "$ne": except },
            "status": { "$in": ["pending", "active"] },
        };
        let found = self
            .tenants
            .clone_with_type::<Group>()
            .find(open)
            .projection(doc! { "authentikGroupId": 1 })
            .await?;
        found
            .map_ok(|tenant| tenant.authentik_group_id)
            .try_collect()
            .await
    }

    /// Tenants with one of `groups` (ids at the identity provider) whose members may not sign in.
    pub async fn tenants_blocking_sign_in(
        &self,
        groups: &[String],
    ) -> Result<Vec<TenantId>, StoreError> {
        let closed = doc! {
            "authentikGroupId": { "$in": distinct(groups) },
            "status": { "$in": ["suspended", "terminating"] },
        };
        let found = self
            .tenants
            .clone_with_type::<Id>()
            .find(closed)
            .projection(doc! { "_id": 1 })
            .await?;
        found.map_ok(|tenant| tenant.id).try_collect().await
    }

    /// Tenants for which one of `spaces` (ids on the files server) is stored.
    pub async fn list_space_holders(
        &self,
        spaces: &[String],
    ) -> Result<Vec<SpaceHolder>, StoreError> {
        if spaces.is_empty() {
            return Ok(Vec::new());
        }
        self.find_space_holders(doc! { "ocisSpaceId": { "$in": spaces } })
            .await
    }

    /// The stored spaces of these tenants.
    pub async fn list_spaces_of(&self, ids: &[TenantId]) -> Result<Vec<SpaceHolder>, StoreError> {
        self.find_space_holders(doc! { "_id": { "$in": ids.to_vec() } })
            .await
    }

    async fn find_space_holders(&self, filter: Document) -> Result<Vec<SpaceHolder>, StoreError> {
        self.tenants
            .clone_with_type()
            .find(filter)
            .projection(doc! { "status": 1, "ocisSpaceId": 1, "ocisSpaceAbsent": 1 })
            .await?
            .try_collect()
            .await
    }

    /// Records the space of this tenant.
    pub async fn set_ocis_space(
        &self,
        session: &mut ClientSession,
        id: TenantId,
        space: &str,
    ) -> Result<(), StoreError> {
        let stored = doc! { "$set": { "ocisSpaceId": space }, "$inc": { "revision": 1_i64 } };
        self.tenants
            .update_one(doc! { "_id": id }, stored)
            .session(session)
            .await?;
        Ok(())
    }

    /// Records that a create of a space is about to be sent for this tenant.
    pub async fn set_ocis_space_requested(
        &self,
        session: &mut ClientSession,
        id: TenantId,
    ) -> Result<(), StoreError> {
        let requested = doc! { "$unset": { "ocisSpaceAbsent": "" }, "$inc": { "revision": 1_i64 } };
        self.tenants
            .update_one(doc! { "_id": id }, requested)
            .session(session)
            .await?;
        Ok(())
    }

    /// Whether any tenant with one of `ids` or `groups` (ids at the identity provider) is not terminated and not
    /// managed by `partner`.
    pub async fn any_outside_partner(
        &self,
        session: &mut ClientSession,
        ids: &[TenantId],
        groups: &[String],
        partner: PartnerId,
    ) -> Result<bool, StoreError> {
        let elsewhere = doc! {
            "$or": [{ "_id": { "$in": ids } }, { "authentikGroupId": { "$in": distinct(groups) } }],
            "partnerId": { "$ne": partner },
            "status": { "$ne": "terminated" },
        };
        let found = self
            .tenants
            .clone_with_type::<Id>()
            .find_one(elsewhere)
            .projection(doc! { "_id": 1 })
            .session(session)
            .await?;
        Ok(found.is_some())
    }

    /// The tenant with this slug, locked for update in this transaction: its revision is already incremented.
    pub async fn lock_by_slug(
        &self,
        session: &mut ClientSession,
        slug: &str,
    ) -> Result<Option<Tenant>, StoreError> {
        self.find_for_update_where(session, doc! { "slug": slug })
            .await
    }

    /// Blocks writes to `upstream` for this tenant until `until`: an in-doubt write may still land.
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

    /// Saves tenants that were not locked, with optimistic concurrency: their revisions are already incremented.
    /// `false` if one of them was written meanwhile; the transaction must then be aborted.
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

    /// Id and revision of each of these tenants that exists.
    pub async fn revisions(&self, ids: &[TenantId]) -> Result<Vec<(TenantId, i64)>, StoreError> {
        revisions(&self.tenants, ids).await
    }
}
