//! The partners.

use std::sync::Arc;

use bson::doc;
use futures::TryStreamExt as _;
use mongodb::{
    ClientSession, Collection, IndexModel,
    options::{IndexOptions, ReturnDocument},
};

use super::{Store, StoreError, known};
use crate::{id::PartnerId, partner::Partner};

/// The name of the index that keeps two partners from having one slug.
pub const SLUG_INDEX: &str = "partner_slug";

/// The partners, those that were terminated included.
#[derive(Debug, Clone)]
pub struct PartnerRepository {
    partners: Collection<Partner>,
}

impl PartnerRepository {
    /// The partners in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            partners: store.collection("partners"),
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
        self.partners.create_indexes([slug]).await?;
        Ok(())
    }

    /// The partner with this id.
    pub async fn find(&self, id: PartnerId) -> Result<Option<Partner>, StoreError> {
        self.partners.find_one(doc! { "_id": id }).await
    }

    /// The same, as this transaction sees it.
    pub async fn find_in(
        &self,
        session: &mut ClientSession,
        id: PartnerId,
    ) -> Result<Option<Partner>, StoreError> {
        self.partners
            .find_one(doc! { "_id": id })
            .session(session)
            .await
    }

    /// The partner with this slug.
    pub async fn find_by_slug(&self, slug: &str) -> Result<Option<Partner>, StoreError> {
        self.partners.find_one(doc! { "slug": slug }).await
    }

    /// The partners with these ids or slugs.
    pub async fn list_named(
        &self,
        ids: &[PartnerId],
        slugs: &[String],
    ) -> Result<Vec<Partner>, StoreError> {
        let named = doc! { "$or": [
            { "_id": { "$in": ids.to_vec() } },
            { "slug": { "$in": slugs } },
        ] };
        self.partners.find(named).await?.try_collect().await
    }

    /// Adds a partner. A taken slug violates [`SLUG_INDEX`].
    pub async fn insert(
        &self,
        session: &mut ClientSession,
        partner: &Partner,
    ) -> Result<(), StoreError> {
        self.partners.insert_one(partner).session(session).await?;
        Ok(())
    }

    /// The partner with this id, to be written in this transaction: its revision is already one more.
    pub async fn lock(
        &self,
        session: &mut ClientSession,
        id: PartnerId,
    ) -> Result<Option<Partner>, StoreError> {
        self.partners
            .find_one_and_update(doc! { "_id": id }, doc! { "$inc": { "revision": 1_i64 } })
            .return_document(ReturnDocument::After)
            .session(session)
            .await
    }

    /// Leaves a partner that was locked in this transaction as it was before.
    pub async fn unlock(
        &self,
        session: &mut ClientSession,
        id: PartnerId,
    ) -> Result<(), StoreError> {
        self.partners
            .update_one(doc! { "_id": id }, doc! { "$inc": { "revision": -1_i64 } })
            .session(session)
            .await?;
        Ok(())
    }

    /// Writes a partner that was locked in this transaction.
    pub async fn save(
        &self,
        session: &mut ClientSession,
        partner: &Partner,
    ) -> Result<(), StoreError> {
        self.partners
            .update_one(doc! { "_id": partner.id }, known::update_to(partner)?)
            .session(session)
            .await?;
        Ok(())
    }
}
