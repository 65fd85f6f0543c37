//! Due claims.

use bson::{DateTime, doc};
use futures::TryStreamExt as _;
use mongodb::{ClientSession, options::Hint};

use super::{DUE_INDEX, DomainRepository};
use crate::{
    id::{DomainId, TenantId},
    store::{StoreError, skip_undecodable},
};

/// Due claim: the fields needed to enqueue its check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DueDomain {
    /// Claim id.
    #[serde(rename = "_id")]
    pub id: DomainId,
    /// Owning tenant.
    pub tenant_id: TenantId,
    /// Time since which the claim is due.
    pub next_check_at: DateTime,
}

impl DomainRepository {
    /// The first `limit` claims due by `until`, longest due first.
    pub async fn list_due(
        &self,
        until: DateTime,
        limit: i64,
    ) -> Result<Vec<DueDomain>, StoreError> {
        let found = self
            .domains
            .clone_with_type()
            .find(doc! { "nextCheckAt": { "$lte": until } })
            .projection(doc! { "tenantId": 1, "nextCheckAt": 1 })
            .sort(doc! { "nextCheckAt": 1 })
            .hint(Hint::Name(DUE_INDEX.to_owned()))
            .limit(limit)
            .await?;
        skip_undecodable::<DueDomain>(found).try_collect().await
    }

    /// Reschedules these claims to `at`, after their checks were enqueued. A claim whose time was changed meanwhile, by
    /// a check or a caller, keeps the new time.
    pub async fn reschedule(&self, asked: &[DueDomain], at: DateTime) -> Result<(), StoreError> {
        let Some(last) = asked.last() else {
            return Ok(());
        };
        let ids: Vec<DomainId> = asked.iter().map(|domain| domain.id).collect();
        let still_due = doc! {
            "_id": { "$in": ids },
            "nextCheckAt": { "$lte": last.next_check_at },
        };
        // No new revision: the change is not visible to callers.
        self.domains
            .update_many(still_due, doc! { "$set": { "nextCheckAt": at } })
            .await?;
        Ok(())
    }

    /// Makes all other claims to `names` due, because the names have become available.
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
