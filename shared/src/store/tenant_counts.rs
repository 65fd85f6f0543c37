//! Number of documents by tenant.

use std::collections::HashMap;

use bson::{Document, doc};
use futures::TryStreamExt as _;
use mongodb::Collection;
use serde::Deserialize;

use super::StoreError;
use crate::id::TenantId;

/// Number of documents that pass `stages`, by the tenant in the field `key`, which begins with `$`. Tenants without any are
/// omitted.
pub(super) async fn count_by_tenant<T: Send + Sync>(
    documents: &Collection<T>,
    mut stages: Vec<Document>,
    key: &str,
) -> Result<HashMap<TenantId, u64>, StoreError> {
    #[derive(Deserialize)]
    struct Counted {
        #[serde(rename = "_id")]
        tenant: TenantId,
        count: i64,
    }
    stages.push(doc! { "$group": { "_id": key, "count": { "$sum": 1_i64 } } });
    let counted: Vec<Counted> = documents
        .aggregate(stages)
        .with_type()
        .await?
        .try_collect()
        .await?;
    let counted = counted.into_iter();
    Ok(counted
        .map(|counted| (counted.tenant, u64::try_from(counted.count).unwrap_or(0)))
        .collect())
}
