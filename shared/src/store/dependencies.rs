//! Dependency repository: one document for each checked dependency.

use std::sync::Arc;

use bson::{DateTime, doc};
use futures::TryStreamExt as _;
use mongodb::Collection;

use super::{Store, StoreError, lenient::skip_undecodable, to_bson};
use crate::dependency::{CheckResult, CheckState, Dependency, DependencyStatus};

/// Status of all dependencies.
#[derive(Debug, Clone)]
pub struct DependencyRepository {
    probes: Collection<DependencyStatus>,
}

impl DependencyRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            probes: store.collection("probes"),
        }
    }

    /// Lists the status of all dependencies.
    pub async fn list(&self) -> Result<Vec<DependencyStatus>, StoreError> {
        let dependencies = self.probes.clone_with_type();
        let dependencies = dependencies.find(doc! {}).sort(doc! { "_id": 1 });
        skip_undecodable(dependencies.await?).try_collect().await
    }

    /// Stores the result of a check. The time of the last success is kept on failure.
    pub async fn upsert(
        &self,
        dependency: &Dependency,
        finding: &CheckResult,
        now: DateTime,
    ) -> Result<(), StoreError> {
        let mut set =
            doc! { "kind": dependency.kind(), "name": dependency.name(), "checkedAt": now };
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
        let named = doc! { "_id": dependency.to_string() };
        self.probes
            .update_one(named, doc! { "$set": set, "$unset": unset })
            .upsert(true)
            .await?;
        Ok(())
    }

    /// Stores the failed setup checks of a dependency. No effect before its first check.
    pub async fn set_problems(
        &self,
        dependency: &Dependency,
        problems: &[String],
    ) -> Result<(), StoreError> {
        let named = doc! { "_id": dependency.to_string() };
        let problems = doc! { "$set": { "problems": problems } };
        self.probes.update_one(named, problems).await?;
        Ok(())
    }

    /// Deletes dependencies that are no longer checked.
    pub async fn retain(&self, dependencies: &[Dependency]) -> Result<(), StoreError> {
        let kept: Vec<String> = dependencies.iter().map(ToString::to_string).collect();
        let others = doc! { "_id": { "$nin": kept } };
        self.probes.delete_many(others).await?;
        Ok(())
    }
}
