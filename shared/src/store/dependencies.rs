//! How the infrastructure stood when a worker last looked: one document for each thing that is looked at.

use std::sync::Arc;

use bson::{DateTime, doc};
use futures::TryStreamExt as _;
use mongodb::Collection;

use super::{Store, StoreError, to_bson};
use crate::dependency::{CheckResult, CheckState, Dependency, DependencyStatus};

/// The last look at each thing.
#[derive(Debug, Clone)]
pub struct DependencyRepository {
    probes: Collection<DependencyStatus>,
}

impl DependencyRepository {
    /// The probes in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            probes: store.collection("probes"),
        }
    }

    /// The last look at everything.
    pub async fn list(&self) -> Result<Vec<DependencyStatus>, StoreError> {
        self.probes
            .find(doc! {})
            .sort(doc! { "_id": 1 })
            .await?
            .try_collect()
            .await
    }

    /// Notes what a look at `subject` found. When it last answered stays known.
    pub async fn upsert(
        &self,
        subject: &Dependency,
        finding: &CheckResult,
        now: DateTime,
    ) -> Result<(), StoreError> {
        let mut set = doc! { "kind": subject.kind(), "name": subject.name(), "checkedAt": now };
        let (outcome, unset) = match finding {
            CheckResult::Answered(latency) => {
                let millis = i64::try_from(latency.as_millis()).unwrap_or(i64::MAX);
                set.insert("latencyMs", millis);
                set.insert("lastSuccessAt", now);
                (CheckState::Ok, doc! { "error": "" })
            }
            CheckResult::Failed(error) => {
                set.insert("error", error);
                (CheckState::Failed, doc! { "latencyMs": "" })
            }
            CheckResult::Disabled => (CheckState::Disabled, doc! { "latencyMs": "", "error": "" }),
        };
        set.insert("outcome", to_bson(&outcome)?);
        let named = doc! { "_id": subject.to_string() };
        self.probes
            .update_one(named, doc! { "$set": set, "$unset": unset })
            .upsert(true)
            .await?;
        Ok(())
    }

    /// Forgets what is not looked at any more.
    pub async fn retain(&self, subjects: &[Dependency]) -> Result<(), StoreError> {
        let kept: Vec<String> = subjects.iter().map(ToString::to_string).collect();
        let others = doc! { "_id": { "$nin": kept } };
        self.probes.delete_many(others).await?;
        Ok(())
    }
}
