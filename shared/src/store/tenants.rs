//! Tenant repository.

mod filter;
mod identity;
mod partner_revenue;
mod spaces;

use std::{collections::BTreeSet, sync::Arc};

use bson::{Bson, DateTime, Document, doc};
use futures::{Stream, TryStreamExt as _};
use mongodb::{ClientSession, Collection, IndexModel, options::IndexOptions};
use serde::Deserialize;

pub use self::{
    filter::{TenantFilter, TenantOrder},
    identity::GroupHolder,
    spaces::SpaceHolder,
};
use super::{
    Store, StoreError,
    batch_loader::BatchLoader,
    drop_index,
    lenient::{skip_undecodable, take_decodable},
    linearizable::{confirm_missing, recheck_linearizable},
    revisions::revisions,
    versioned::{Versioned, VersionedRepository},
};
use crate::{
    billing::Plan,
    id::{PartnerId, TenantId},
    subscription_snapshot::TenantState,
    tenant::{Tenant, TenantStatus},
    upstream::{MailDomain, Upstream},
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

/// Tenant with its domains on the mail server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MailTenant {
    /// Tenant.
    #[serde(rename = "_id")]
    pub id: TenantId,
    /// Its domains.
    pub mail_domains: Vec<MailDomain>,
}

/// The id alone: of a tenant whose other fields need not be decoded.
#[derive(serde::Deserialize)]
struct Id {
    #[serde(rename = "_id")]
    id: TenantId,
}

/// Tenants on this plan that are not terminated. Every other status is named, so that the index yields the order.
fn on_plan(plan: Plan) -> Document {
    let live = TenantStatus::ALL
        .into_iter()
        .filter(|status| *status != TenantStatus::Terminated)
        .map(TenantStatus::name);
    doc! { "plan": plan, "status": { "$in": live.collect::<Vec<_>>() } }
}

/// The distinct groups. The members of a large tenant share a few, and a command with all pairs could exceed its maximum
/// size.
fn distinct(groups: &[String]) -> Vec<&String> {
    let distinct: BTreeSet<&String> = groups.iter().collect();
    distinct.into_iter().collect()
}

impl Versioned for Tenant {
    type Id = TenantId;

    fn id(&self) -> TenantId {
        self.id
    }

    fn revision(&self) -> i64 {
        self.revision
    }

    fn touch(&mut self, now: DateTime) {
        self.revision += 1;
        self.updated_at = now;
        self.index_words();
    }
}

impl VersionedRepository for TenantRepository {
    type Document = Tenant;

    fn documents(&self) -> &Collection<Tenant> {
        &self.tenants
    }
}

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
        // One index for each combination of filters of the lists, which are sorted by id.
        let listed = [
            doc! { "partnerId": 1, "status": 1, "_id": 1 },
            doc! { "partnerId": 1, "plan": 1, "status": 1, "_id": 1 },
            doc! { "plan": 1, "status": 1, "_id": 1 },
            doc! { "status": 1, "_id": 1 },
            doc! { "partnerId": 1, "slug": 1 },
            doc! { "words": 1, "_id": 1 },
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

    /// The tenant with this id, by a linearizable read: `None` only if it definitely does not exist.
    pub async fn confirm_missing(&self, id: TenantId) -> Result<Option<Tenant>, StoreError> {
        confirm_missing(&self.tenants, doc! { "_id": id }).await
    }

    /// The tenant with this slug.
    pub async fn find_by_slug(&self, slug: &str) -> Result<Option<Tenant>, StoreError> {
        match self.by_slug.find(slug.to_owned()).await? {
            Some(tenant) => Ok(Some(tenant)),
            None => recheck_linearizable(&self.tenants, doc! { "slug": slug }).await,
        }
    }

    /// The tenants with these slugs. Skips those of a newer build.
    pub async fn list_by_slugs(&self, slugs: &[String]) -> Result<Vec<Tenant>, StoreError> {
        let tenants = self.tenants.clone_with_type();
        let found = tenants.find(doc! { "slug": { "$in": slugs } });
        skip_undecodable(found.await?).try_collect().await
    }

    /// The ids of the tenants with these slugs.
    pub async fn ids_by_slugs(&self, slugs: &[String]) -> Result<Vec<TenantId>, StoreError> {
        let tenants = self.tenants.clone_with_type::<Id>();
        let found = tenants.find(doc! { "slug": { "$in": slugs } });
        let found = found.projection(doc! { "_id": 1 }).await?;
        found.map_ok(|tenant| tenant.id).try_collect().await
    }

    /// The tenants with these ids, oldest first. Skips those of a newer build.
    pub async fn list_by_ids(&self, ids: &[TenantId]) -> Result<Vec<Tenant>, StoreError> {
        let tenants = self.tenants.clone_with_type();
        let found = tenants.find(doc! { "_id": { "$in": ids.to_vec() } });
        let found = found.sort(doc! { "_id": 1 }).await?;
        skip_undecodable(found).try_collect().await
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

    /// At most `limit` tenants that match `filter`, in its order. Fails with a timeout if the indexes do not narrow the
    /// filter enough.
    pub async fn list(&self, filter: &TenantFilter, limit: i64) -> Result<Vec<Tenant>, StoreError> {
        let tenants = self.tenants.clone_with_type();
        let matching = tenants.find(filter.document()?).sort(filter.order.keys());
        take_decodable(matching, limit).await
    }

    /// Computes the words of at most `limit` tenants after `after` that were stored before the search existed. Returns the
    /// last of them.
    pub async fn add_missing_words(
        &self,
        after: Option<TenantId>,
        limit: i64,
    ) -> Result<Option<TenantId>, StoreError> {
        let mut missing = doc! { "words": Bson::Null };
        if let Some(after) = after {
            missing.insert("_id", doc! { "$gt": after });
        }
        let found = self.tenants.clone_with_type();
        let found = found.find(missing).sort(doc! { "_id": 1 });
        let tenants: Vec<Tenant> = take_decodable(found, limit).await?;
        for mut tenant in tenants.iter().cloned() {
            tenant.index_words();
            // Only if they are missing still: a concurrent change has computed them from newer names.
            let filter = doc! { "_id": tenant.id, "words": Bson::Null };
            let set = doc! { "$set": { "words": tenant.words } };
            self.tenants.update_one(filter, set).await?;
        }
        Ok(tenants.last().map(|tenant| tenant.id))
    }

    /// Ids of all tenants after `after` that are not terminated, oldest first.
    pub async fn ids_not_terminated(
        &self,
        after: Option<TenantId>,
    ) -> Result<impl Stream<Item = Result<TenantId, StoreError>> + Send + use<>, StoreError> {
        let filter = doc! { "status": { "$ne": TenantStatus::Terminated.name() } };
        self.ids_where(filter, after).await
    }

    /// Ids of all tenants on `plan` after `after` that are not terminated, oldest first.
    pub async fn ids_on_plan(
        &self,
        plan: Plan,
        after: Option<TenantId>,
    ) -> Result<impl Stream<Item = Result<TenantId, StoreError>> + Send + use<>, StoreError> {
        self.ids_where(on_plan(plan), after).await
    }

    /// Number of tenants on `plan` that are not terminated.
    pub async fn count_on_plan(&self, plan: Plan) -> Result<u64, StoreError> {
        self.tenants.count_documents(on_plan(plan)).await
    }

    async fn ids_where(
        &self,
        mut filter: Document,
        after: Option<TenantId>,
    ) -> Result<impl Stream<Item = Result<TenantId, StoreError>> + Send + use<>, StoreError> {
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

    /// At most `limit` tenants after `after` that have domains on the mail server, oldest first.
    pub async fn list_with_mail_domains(
        &self,
        after: Option<TenantId>,
        limit: i64,
    ) -> Result<Vec<MailTenant>, StoreError> {
        let mut filter = doc! { "mailDomains.0": { "$exists": true } };
        if let Some(after) = after {
            filter.insert("_id", doc! { "$gt": after });
        }
        self.tenants
            .clone_with_type()
            .find(filter)
            .sort(doc! { "_id": 1 })
            .projection(doc! { "mailDomains": 1 })
            .limit(limit)
            .await?
            .try_collect()
            .await
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
        let tenants = self.tenants.clone_with_type();
        let found = tenants
            .find(filter)
            .sort(doc! { "_id": 1 })
            .projection(doc! { "slug": 1, "status": 1, "plan": 1, "partnerId": 1 });
        take_decodable(found, limit).await
    }

    /// Estimated number of tenants, including terminated ones.
    pub async fn estimated_count(&self) -> Result<u64, StoreError> {
        self.tenants.estimated_document_count().await
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
        let update = doc! { "$set": { field: until } };
        self.update_fields(session, id, update).await
    }

    /// Id and revision of each of these tenants that exists.
    pub async fn revisions(&self, ids: &[TenantId]) -> Result<Vec<(TenantId, i64)>, StoreError> {
        revisions(&self.tenants, ids).await
    }
}
