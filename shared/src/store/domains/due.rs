//! Which claims are to be looked at.

use bson::{DateTime, doc};
use futures::TryStreamExt as _;
use mongodb::{ClientSession, options::Hint};

use super::{DUE_INDEX, DomainRepository};
use crate::{
    id::{DomainId, TenantId},
    store::StoreError,
};

/// A claim whose DNS is to be looked at, as far as asking for it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DueDomain {
    /// Which claim.
    #[serde(rename = "_id")]
    pub id: DomainId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// Since when it is due.
    pub next_check_at: DateTime,
}

impl DomainRepository {
    /// The first `limit` claims that are due by `until`, longest due first.
    pub async fn list_due(
        &self,
        until: DateTime,
        limit: i64,
    ) -> Result<Vec<DueDomain>, StoreError> {
        self.domains
            .clone_with_type::<DueDomain>()
            .find(doc! { "nextCheckAt": { "$lte": until } })
            .projection(doc! { "tenantId": 1, "nextCheckAt": 1 })
            .sort(doc! { "nextCheckAt": 1 })
            .hint(Hint::Name(DUE_INDEX.to_owned()))
            .limit(limit)
            .await?
            .try_collect()
            .await
    }

    /// Puts off these claims, for which a look was just asked, until `at`. One whose time was changed in between, by
    /// a look or by a caller, keeps that.
    pub async fn reschedule(&self, asked: &[DueDomain], at: DateTime) -> Result<(), StoreError> {
        let Some(last) = asked.last() else {
            return Ok(());
        };
        let ids: Vec<DomainId> = asked.iter().map(|domain| domain.id).collect();
        let still_due = doc! {
            "_id": { "$in": ids },
            "nextCheckAt": { "$lte": last.next_check_at },
        };
        // No revision: nobody sees a difference.
        self.domains
            .update_many(still_due, doc! { "$set": { "nextCheckAt": at } })
            .await?;
        Ok(())
    }

    /// Has every other claim to `names` looked at: they are nobody's any more.
    pub async fn recheck_competing_claims(
        &self,
        session: &mut ClientSession,
        names: &[String],
        now: DateTime,
    ) -> Result<(), StoreError> {
        if names.is_empty() {
            return Ok(());
        }
        let others = doc! { "name": { "$in": names }, "removing": { "$ne": true } };
        self.domains
            .update_many(others, doc! { "$set": { "nextCheckAt": now } })
            .session(session)
            .await?;
        Ok(())
    }
}
