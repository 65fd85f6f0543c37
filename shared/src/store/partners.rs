//! Partner repository.

use bson::{Document, doc};
use futures::TryStreamExt as _;
use mongodb::ClientSession;

use super::{
    StoreError,
    index::{index, unique},
    lenient::skip_undecodable,
    linearizable::find_one_linearizable,
    page::page,
    revisions::revisions,
    to_bson,
    versioned::versioned,
};
use crate::{
    id::PartnerId,
    partner::{Partner, PartnerStatus},
};

/// Unique index: one partner per slug.
pub const SLUG_INDEX: &str = "partner_slug";

versioned! {
    /// Partners, including terminated ones.
    PartnerRepository, partners = "partners": Partner, PartnerId
}

impl PartnerRepository {
    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let slug = unique(SLUG_INDEX, doc! { "slug": 1 });
        let by_status = index(doc! { "status": 1, "_id": 1 });
        self.partners.create_indexes([slug, by_status]).await?;
        Ok(())
    }

    /// The partner with this id.
    pub async fn find(&self, id: PartnerId) -> Result<Option<Partner>, StoreError> {
        find_one_linearizable(&self.partners, doc! { "_id": id }).await
    }

    /// The partner with this slug.
    pub async fn find_by_slug(&self, slug: &str) -> Result<Option<Partner>, StoreError> {
        find_one_linearizable(&self.partners, doc! { "slug": slug }).await
    }

    /// At most `limit` partners after `after`, oldest first, optionally filtered by status.
    pub async fn list(
        &self,
        status: Option<PartnerStatus>,
        after: Option<PartnerId>,
        limit: i64,
    ) -> Result<Vec<Partner>, StoreError> {
        let mut filter = Document::new();
        if let Some(status) = status {
            filter.insert("status", to_bson(&status)?);
        }
        page(&self.partners, filter, after, limit).await
    }

    /// Id and revision of each of these partners that exists.
    pub async fn revisions(&self, ids: &[PartnerId]) -> Result<Vec<(PartnerId, i64)>, StoreError> {
        revisions(&self.partners, ids).await
    }

    /// Those of these partners that are active.
    pub async fn list_active(&self, ids: &[PartnerId]) -> Result<Vec<PartnerId>, StoreError> {
        /// The id alone: other fields may be those of a newer build.
        #[derive(serde::Deserialize)]
        struct Id {
            #[serde(rename = "_id")]
            id: PartnerId,
        }
        let active = doc! {
            "_id": { "$in": ids.to_vec() },
            "status": to_bson(&PartnerStatus::Active)?,
        };
        let partners = self.partners.clone_with_type::<Id>();
        let found = partners.find(active).projection(doc! { "_id": 1 });
        let found = found.await?;
        found.map_ok(|partner| partner.id).try_collect().await
    }

    /// Stores the id of the partner's group. No new revision: callers do not edit it.
    pub async fn set_group(
        &self,
        session: &mut ClientSession,
        id: PartnerId,
        group_id: &str,
    ) -> Result<(), StoreError> {
        let update = doc! { "$set": { "authentikGroupId": group_id } };
        self.partners
            .update_one(doc! { "_id": id }, update)
            .session(session)
            .await?;
        Ok(())
    }

    /// The partners with these ids or slugs. Skips those of a newer build.
    pub async fn list_named(
        &self,
        ids: &[PartnerId],
        slugs: &[String],
    ) -> Result<Vec<Partner>, StoreError> {
        let named = doc! { "$or": [
            { "_id": { "$in": ids.to_vec() } },
            { "slug": { "$in": slugs } },
        ] };
        let partners = self.partners.clone_with_type::<Document>();
        skip_undecodable(partners.find(named).await?)
            .try_collect()
            .await
    }
}
